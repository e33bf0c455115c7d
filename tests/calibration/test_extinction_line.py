from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from skylake.calibration.extinction_line import ExtinctionLine, NightFrames, extinction_prior, fit_line
from skylake.core.bands import BANDS

Floats = npt.NDArray[np.float64]
PRIOR = extinction_prior("V")
ERROR, SCATTER, SHARED = 0.004, 0.006, 0.006


def a_night(
    random: np.random.Generator, n: int, k: float, n_fields: int = 1, cloud: Floats | None = None
) -> NightFrames:
    """Frames of a night from airmass 2 to the zenith and back, one of a hundred of them wrong."""
    mjd = 60000.0 + np.sort(random.uniform(0.0, 0.25, n))
    beyond = np.abs(2.0 * (mjd - 60000.0) / 0.25 - 0.9)
    field = random.integers(0, n_fields, n)
    zp = 20.0 - k * beyond + random.normal(0.0, SHARED, n_fields)[field]
    zp += random.normal(0.0, np.hypot(ERROR, SCATTER), n) - (0.0 if cloud is None else cloud)
    zp += np.where(random.random(n) < 0.01, random.normal(0.0, 0.5, n), 0.0)
    return NightFrames(zp, np.full(n, ERROR), np.full(n, SHARED), beyond, mjd, field)


def passing(random: np.random.Generator, n: int) -> Floats:
    """Clouds over a third of the night."""
    place = np.linspace(0.0, 1.0, n)
    inside = np.abs(place - random.uniform(0.0, 1.0)) < 0.17
    return np.where(inside, random.uniform(0.05, 0.6) * random.uniform(0.3, 1.0, n), 0.0)


@pytest.mark.parametrize("clouds", [False, True], ids=["clear", "clouds pass"])
@pytest.mark.parametrize("n_fields", [1, 4])
def test_extinction_and_zenith_have_the_errors_they_say(clouds: bool, n_fields: int) -> None:
    random = np.random.default_rng(8)
    pulls = []
    for _ in range(160):
        k = random.normal(0.17, 0.06)
        line = fit_line(a_night(random, 60, k, n_fields, passing(random, 60) if clouds else None), PRIOR)
        pulls.append([(line.extinction - k) / line.extinction_err, (line.zenith - 20.0) / line.zenith_err])
    middle, width = np.median(pulls, axis=0), 1.4826 * np.median(np.abs(pulls), axis=0)
    assert (np.abs(middle) < 0.5).all(), middle
    assert ((width > 0.5) & (width < 1.6)).all(), width
    # Thin clouds at one end of the night look like extinction.
    assert (np.abs(pulls) < 4.0).mean() > 0.92


def test_frames_behind_clouds_do_not_lower_the_line() -> None:
    random = np.random.default_rng(1)
    cloud = np.where(np.arange(60) < 36, random.uniform(0.05, 0.8, 60), 0.0)
    line = fit_line(a_night(random, 60, 0.15, cloud=cloud), PRIOR)
    # The clouds are 0.4 mag; 24 clear frames tell the line to 0.008 and 0.007.
    assert line.zenith == pytest.approx(20.0, abs=0.035) and line.extinction == pytest.approx(0.15, abs=0.03)
    assert line.n_cloudy == pytest.approx(36.0, abs=4.0)
    assert line.p_steady < 1e-3 and line.depth > 0.05


@pytest.mark.parametrize("offset", [-0.03, 0.03])
def test_the_offset_of_a_field_is_no_cloud(offset: float) -> None:
    """The median frame is one of the larger field, and the zenith that of both."""
    random = np.random.default_rng(3)
    field = (np.arange(60) >= 45).astype(int)
    zeniths = []
    for _ in range(16):
        night = a_night(random, 60, 0.15)
        night = replace(night, zp=night.zp + offset * field, field=field, shared=np.full(60, 0.02))
        line = fit_line(night, PRIOR)
        assert abs(line.depth) < 0.003 and line.n_cloudy < 3.0 and line.zenith_err > 0.01
        zeniths.append(line.zenith)
    assert np.mean(zeniths) == pytest.approx(20.0 + offset / 2.0, abs=0.0075)


def test_a_stray_frame_is_no_cloud_and_a_steady_night_is_known() -> None:
    random, lines = np.random.default_rng(2), []
    for _ in range(15):
        frames = a_night(random, 60, 0.15)
        zp = frames.zp.copy()
        zp[[10, 20]] += [0.4, -0.4]
        lines.append(fit_line(replace(frames, zp=zp), PRIOR))
        assert lines[-1].zenith == pytest.approx(20.0, abs=0.03)
    # One night in twenty has more frames that are wrong by chance.
    assert np.median([line.p_steady for line in lines]) > 0.7


def test_frames_at_one_airmass_leave_the_prior() -> None:
    frames = a_night(np.random.default_rng(3), 30, 0.15)
    line = fit_line(replace(frames, beyond=np.full(30, 0.2), zp=frames.zp * 0.0 + 19.97), PRIOR)
    assert line.extinction == pytest.approx(PRIOR[0], abs=0.2 * PRIOR[1])
    assert line.extinction_err == pytest.approx(PRIOR[1], rel=0.05)
    assert line.mean_airmass == pytest.approx(1.2, abs=0.02)


def test_one_frame_is_a_line_with_the_errors_of_the_prior() -> None:
    frames = NightFrames(*(np.array([value]) for value in (19.9, 0.01, 0.0, 0.5, 60000.0)), np.zeros(1, int))
    line = fit_line(frames, PRIOR)
    assert line.zenith == pytest.approx(19.9 + 0.5 * PRIOR[0], abs=0.03)
    assert line.zenith_err >= 0.45 * PRIOR[1]
    assert 0.3 < line.p_steady <= 1.0


def test_an_extinction_that_is_fitted_elsewhere_is_held() -> None:
    line: ExtinctionLine = fit_line(
        replace(a_night(np.random.default_rng(5), 40, 0.0), beyond=np.zeros(40)), (0.0, 0.0)
    )
    assert (line.extinction, line.extinction_err, line.mean_airmass) == (
        pytest.approx(0.0, abs=1e-9),
        0.0,
        1.0,
    )


def test_the_prior_is_wide_and_falls_with_wavelength() -> None:
    names = ("U", "B", "V", "R", "I")
    means = [extinction_prior(name)[0] for name in names]
    assert means == sorted(means, reverse=True)
    for name in BANDS:
        mean, spread = extinction_prior(name)
        assert 0.05 <= mean <= 0.7 and spread >= 0.1
    assert extinction_prior(None) == extinction_prior("clear") == (0.2, 0.15)
