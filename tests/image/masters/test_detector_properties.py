"""What photon transfers measure of a detector takes the place of what header and profile say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skylake.cameras import HeaderReading
from skylake.core.camera import Camera, Measurable, ReductionSteps
from skylake.core.flags import FrameFlag
from skylake.errors import FrameFailed
from skylake.image.masters.detector_properties import take_measured
from skylake.image.masters.master_library import Library, Master, MasterQuery

WANTED = MasterQuery(60000.0, 0, "1x1")
NEAR = Master(
    "near", "transfer", "near.fits", "1", 0, "1x1", mjd_mid=60001.0, gain_e_per_adu=1.4, read_noise_e=7.0
)
FAR = Master(
    "far", "transfer", "far.fits", "2", 0, "1x1", mjd_mid=59000.0, gain_e_per_adu=1.6, linearity_c2=2e-7
)
OTHER = replace(NEAR, name="other", binning="2x2", mjd_mid=60000.0, gain_e_per_adu=5.0)


def reading(*measured: Measurable) -> HeaderReading:
    found = HeaderReading(Camera("c", reduction=ReductionSteps(measured=measured)), gain=9.0, read_noise=99.0)
    found.flags = FrameFlag.GAIN_ASSUMED | FrameFlag.READ_NOISE_ASSUMED | FrameFlag.FILTER_ASSUMED
    return found


def library(*masters: Master) -> Library:
    return Library(Path(), masters, "LAKE")


def test_nothing_is_taken_that_the_profile_does_not_name() -> None:
    one = reading()
    assert take_measured(one, WANTED, library(NEAR, FAR)) == []
    assert (one.gain, one.read_noise, one.camera.detector.linearity) == (9.0, 99.0, ())


def test_each_value_comes_from_the_nearest_that_has_it() -> None:
    one = reading("gain", "linearity")
    assert take_measured(one, WANTED, library(FAR, NEAR, OTHER)) == [NEAR, FAR]
    assert (one.gain, one.read_noise, one.camera.detector.linearity) == (1.4, 99.0, (2e-7,))
    assert one.flags == FrameFlag.READ_NOISE_ASSUMED | FrameFlag.FILTER_ASSUMED


def test_a_transfer_that_shows_two_values_is_named_once() -> None:
    one = reading("gain", "read_noise")
    assert take_measured(one, WANTED, library(NEAR)) == [NEAR]
    assert (one.gain, one.read_noise) == (1.4, 7.0)
    assert one.flags == FrameFlag.FILTER_ASSUMED


@pytest.mark.parametrize("masters", [(), (OTHER,), (replace(FAR, valid_to_mjd=59500.0),)])
def test_without_a_transfer_that_fits_the_frame_fails(masters: tuple[Master, ...]) -> None:
    one = reading("gain")
    one.profile = "my/cam.toml"
    mend = "with `skylake calib build LAKE --camera my/cam.toml FILE…`, .* 'gain' out of reduction.measured of my/cam"
    with pytest.raises(FrameFailed, match=f"that gives the gain; measure it {mend}"):
        take_measured(one, WANTED, library(*masters))


def linear(coefficient: float, error: float) -> Master:
    return replace(FAR, linearity_c2=coefficient, linearity_c2_err=error)


def test_a_response_that_shows_no_curvature_stays_as_it_is() -> None:
    one = reading("linearity")
    assert take_measured(one, WANTED, library(linear(2e-8, 1e-8))) != []
    assert one.camera.detector.linearity == ()
    take_measured(one, WANTED, library(linear(-2e-7, 1e-8)))
    assert one.camera.detector.linearity == (-2e-7,)


@pytest.mark.parametrize("wrong", [linear(-9.3e-5, 1.4e-6), linear(3e-6, 5e-6)])
def test_an_impossible_or_uncertain_curvature_is_none(wrong: Master) -> None:
    with pytest.raises(FrameFailed, match="that gives the linearity"):
        take_measured(reading("linearity"), WANTED, library(wrong))
    right = replace(linear(1e-6, 1e-8), name="right", mjd_mid=50000.0)
    assert take_measured(reading("linearity"), WANTED, library(wrong, right)) == [right]
