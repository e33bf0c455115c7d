from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.cameras import load
from skylake.core.camera import Gate
from skylake.core.flags import UNCLEAN, FrameFlag, SourceFlag
from skylake.core.reasons import GATE_REASONS
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.quality.source_metrics import judge, limiting_flux, source_metrics
from skylake.simulate import Moffat

numbers = st.floats(-1e6, 1e6)


@given(st.sampled_from(sorted(GATE_REASONS)), numbers, st.none() | numbers, st.none() | numbers)
def test_a_value_fails_a_gate_if_it_is_outside_the_limits(
    name: str, value: float, low: float | None, high: float | None
) -> None:
    verdict = judge({name: value}, {name: Gate(low, high)})
    outside = (low is not None and value < low) or (high is not None and value > high)
    assert verdict.failed == ((name,) if outside else ()) and not verdict.flags
    assert (verdict.rejection is not None) == outside
    if verdict.rejection is not None:
        reason, sentence = verdict.rejection.reason, str(verdict.rejection)
        assert (
            reason == GATE_REASONS[name]
            and f"gates.{name} in the profile" in sentence
            and f"{value:g}" in sentence
        )
        assert ("below" in sentence) == (low is not None and value < low)


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_not_known_passes(value: float | None) -> None:
    assert judge({"fwhm_px": value}, {"fwhm_px": Gate(1.0, 2.0)}).failed == ()
    assert judge({}, {"fwhm_px": Gate(1.0, 2.0)}).failed == ()


def test_the_first_rejecting_gate_gives_the_reason() -> None:
    gates = {"fwhm_px": Gate(max=3.0, action="warn"), "n_sources": Gate(min=50), "elongation": Gate(max=1.3)}
    verdict = judge({"fwhm_px": 4.0, "n_sources": 20, "elongation": 2.0}, gates)
    assert verdict.failed == ("fwhm_px", "n_sources", "elongation")
    assert verdict.rejection is not None and verdict.rejection.reason == "too_few_sources"
    assert str(verdict.rejection) == "n_sources is 20, below the limit 50 of gates.n_sources in the profile"
    assert verdict.flags == FrameFlag.GATE_WARNING


def sources(n: int, **columns: Any) -> Measurements:
    """Round stars of S/N 100, with some columns replaced."""
    values: dict[str, Any] = {
        name: np.ones(n)
        for name in (
            [
                "x",
                "y",
                "x_err",
                "y_err",
                "edge_distance",
                "crowding",
                "kron_radius",
                "flux_max",
                "sky",
                "sky_rms",
                "fwhm",
                "half_light",
                "a",
                "b",
            ]
        )
    }
    values |= {"theta": np.zeros(n), "flags": np.zeros(n, np.int32), "number": np.arange(n, dtype=np.int32)}

    values |= {"n_pixels": np.ones(n, np.int32)}
    names = ("aper1", "aper2", "aper3", "kron")
    values |= {
        "flux": {name: np.full(n, 100.0) for name in names},
        "flux_err": {name: np.ones(n) for name in names},
        "apcor": {name: np.full(n, np.nan) for name in names},
    }
    return Measurements(**(values | columns))


@given(st.lists(st.sampled_from([0, *(int(flag) for flag in SourceFlag)]), min_size=1, max_size=40))
def test_sources_are_counted_by_their_flags(flags: list[int]) -> None:
    metrics = source_metrics(sources(len(flags), flags=np.array(flags, np.int32)))
    assert metrics.n_detected == len(flags)
    assert metrics.n_sources == sum(not flag & UNCLEAN for flag in flags)
    assert metrics.n_saturated == flags.count(SourceFlag.SATURATED)


def test_shapes_are_judged_on_bright_clean_stars() -> None:
    fwhm = np.concatenate([np.full(20, 3.0), np.full(60, 9.0), np.full(25, 1.0)])
    snr = np.concatenate([np.full(20, 100.0), np.full(60, 4.0), np.full(25, 1000.0)])
    flags = np.concatenate([np.zeros(80, np.int32), np.full(25, 1, np.int32)])
    flux = dict.fromkeys(("aper1", "aper2", "aper3", "kron"), snr)
    metrics = source_metrics(
        sources(
            105, fwhm=fwhm, flux=flux, flags=flags.astype(np.int32), a=fwhm, b=np.full(105, 2.0), flux_max=snr
        )
    )
    assert (metrics.fwhm_px, metrics.elongation) == (3.0, 1.5)
    # These two are of all clean sources: the profile's limits were made for that.
    assert (metrics.elongation_max, metrics.flux_max) == (4.5, 100.0)


def test_with_few_bright_stars_all_clean_ones_are_judged() -> None:
    flux = dict.fromkeys(("aper1", "aper2", "aper3", "kron"), np.array([100.0] * 9 + [4.0] * 30))
    fwhm = np.array([3.0] * 9 + [9.0] * 30)
    assert source_metrics(sources(39, flux=flux, fwhm=fwhm)).fwhm_px == 9.0


def test_a_frame_without_clean_sources_has_no_metrics() -> None:
    metrics = source_metrics(sources(3, flags=np.ones(3, np.int32)))
    assert metrics.n_sources == 0
    for name in ("fwhm_px", "elongation", "elongation_max", "theta_kurtosis", "flux_max"):
        assert np.isnan(getattr(metrics, name))


@given(st.floats(-90.0, 90.0), st.integers(0, 1000))
def test_directions_are_axes_with_any_zero(turn: float, seed: int) -> None:
    theta = np.random.default_rng(seed).normal(0.0, 8.0, 300)
    turned = (theta + turn + 90.0) % 180.0 - 90.0
    first, second = (source_metrics(sources(300, theta=values)).theta_kurtosis for values in (theta, turned))
    assert second == pytest.approx(first, abs=1e-6)


def test_kurtosis_separates_trailed_frames_from_random_ones() -> None:
    random = np.random.default_rng(1)
    chance = source_metrics(sources(2000, theta=random.uniform(-90.0, 90.0, 2000))).theta_kurtosis
    trailed = np.where(
        random.random(2000) < 0.8, random.normal(85.0, 5.0, 2000), random.uniform(-90, 90, 2000)
    )
    assert chance == pytest.approx(-1.2, abs=0.1)
    assert source_metrics(sources(2000, theta=trailed)).theta_kurtosis > 0.5
    assert np.isnan(source_metrics(sources(3)).theta_kurtosis) and np.isnan(
        source_metrics(sources(9)).theta_kurtosis
    )


def test_metrics_of_pictures(grid_field: Callable[..., Any], measure: Callable[..., Any]) -> None:
    found = {}
    for name, psf in {
        "round": Moffat(3.0),
        "defocused": Moffat(6.0),
        "trailed": Moffat(4.5, 0.5, 80.0),
    }.items():
        measured = measure(grid_field(40, flux=(1e4, 3e5), psf=psf, shape=(400, 400)))
        found[name] = source_metrics(measured.sources)
    assert found["round"].fwhm_px == pytest.approx(3.0, rel=0.04)
    assert found["defocused"].fwhm_px == pytest.approx(6.0, rel=0.04)
    assert found["round"].elongation == pytest.approx(1.0, abs=0.1)
    assert found["trailed"].elongation == pytest.approx(2.0, rel=0.15)
    assert found["trailed"].theta_kurtosis > 1.0 > found["round"].theta_kurtosis + 1.0


@pytest.mark.parametrize("camera", ["skycam-z", "skycam-t", "sim"])
@pytest.mark.parametrize(("ratio", "reason"), [(1.04, None), (1.1, None), (2.8, "trailed")])
def test_aligned_stars_are_trailed_only_if_they_are_long(
    camera: str, ratio: float, reason: str | None
) -> None:
    """A telescope that is a little astigmatic, or looks low, makes its stars lean one way on every frame."""
    random = np.random.default_rng(4)
    theta = random.normal(30.0, 6.0, 1100)
    metrics = source_metrics(sources(1100, a=random.normal(ratio, 0.01, 1100), theta=theta))
    gates = {key: gate for key, gate in load(camera).base.gates.items() if hasattr(metrics, key)}
    verdict = judge({key: getattr(metrics, key) for key in gates}, gates)
    assert metrics.theta_kurtosis > -0.5 and "mean_ellipticity" in gates
    assert (verdict.rejection and verdict.rejection.reason) == reason
    assert (verdict.failed == ()) == (reason is None)


@pytest.mark.parametrize("camera", ["skycam-z", "skycam-t"])
def test_every_gate_on_light_can_fail(camera: str) -> None:
    """The brightest pixel of a clean source is below saturation, so a limit above that would hold nothing back."""
    base = load(camera).base
    gate, saturation = base.gates.get("flux_max", Gate()), base.detector.saturation_adu
    assert saturation is not None
    assert gate.max is None or gate.max < saturation


@pytest.mark.parametrize(("name", "reason"), [("round", None), ("streak", None), ("trailed", "trailed")])
def test_a_satellite_costs_no_frame_and_trailing_does(
    make_field: Callable[..., Any], measure: Callable[..., Any], name: str, reason: str | None
) -> None:
    """By the gates of SkyCamZ on shapes."""
    gates = {key: gate for key, gate in load("skycam-z").base.gates.items() if GATE_REASONS[key] == "trailed"}
    y, x = np.mgrid[30:490:40, 30:490:40].reshape(2, -1).astype(float)
    psf = Moffat(5.0, 0.55, 80.0) if name == "trailed" else Moffat(3.0)
    field = make_field(x, y, np.geomspace(2e3, 2e5, x.size), psf=psf)
    if name == "streak":
        streak = np.exp(-0.5 * ((np.arange(512) - 50.0) / 1.5) ** 2)[:, None] * np.ones(512)
        streak[:, :200] = streak[:, 300:] = 0.0
        field.pixels[:] += 300.0 * streak
    metrics = source_metrics(measure(field).sources)
    values = {key: getattr(metrics, key) for key in gates}
    verdict = judge(values, gates)
    assert (verdict.rejection and verdict.rejection.reason) == reason, values
    if name == "streak":
        assert verdict.failed == ("elongation_max",) and verdict.flags == FrameFlag.GATE_WARNING


@given(st.floats(0.5, 50.0), st.floats(1.0, 12.0), st.floats(0.2, 50.0))
def test_a_star_at_the_limit_is_five_times_its_error(rms: float, radius: float, gain: float) -> None:
    flux = limiting_flux(rms, radius, gain)
    area = np.pi * radius**2
    # The pixels on the edge count with the square of their overlap, which is less than the overlap.
    at_most = np.sqrt(area * rms**2 + flux / gain)
    at_least = np.sqrt((area - 0.25 * 2.0 * np.pi * radius) * rms**2 + flux / gain)
    assert 4.9 * at_least <= flux <= 5.1 * at_most
