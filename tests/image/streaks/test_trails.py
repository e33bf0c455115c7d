"""Trails of satellites are found where they are, and flag the sources that they spoil and no others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.camera import Camera
from skylake.core.flags import SPOILED, UNCLEAN, SourceFlag
from skylake.core.frame import FileContent
from skylake.core.frame_step import Step
from skylake.image.fitsio.read_fits import read_file
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import ForcedMeasurements, measure_targets
from skylake.image.psf.psf_stars import psf_of_frame
from skylake.image.psf.targets_on_frame import TargetStars
from skylake.image.reduction.frame_record import ReducedFrame, ReduceParams
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.image.streaks.line_kernels import read_strip
from skylake.image.streaks.trails import Trail, find_trails, near_trails
from skylake.simulate import Moffat
from skylake.simulate.detector import bleed
from skylake.simulate.streaks import Streak, add_streak, clip_streak, draw_streak

SIDE, FWHM = 768, 2.8
STREAKS = {
    "faint": Streak(-20.0, 100.0, 800.0, 420.0, 60.0),
    "usual": Streak(100.0, -30.0, 420.0, 800.0, 300.0),
    "short": Streak(300.0, 400.0, 420.0, 330.0, 500.0),
    "bright, upright": Streak(250.3, -10.0, 250.9, 900.0, 5000.0),
}


@pytest.fixture(scope="module")
def make(make_field: Callable[..., Any]) -> Callable[..., Any]:
    """A function that draws the same stars with some streaks: the noise of the stars is the same."""

    def go(streaks: Any = (), n: int = 250, change: Any = None) -> Any:
        random = np.random.default_rng(8)
        x, y = random.uniform(5.0, SIDE - 5.0, (2, n))
        field = make_field(x, y, np.geomspace(300.0, 2e5, n), (SIDE, SIDE), Moffat(FWHM))
        light = np.zeros(field.pixels.shape, np.float32)
        for streak in streaks:
            add_streak(light, streak, FWHM)
        field.pixels[:] += random.poisson(light * 2.0).astype(np.float32) / 2.0
        if change is not None:
            change(field.pixels)
        return field

    return go


@pytest.fixture(scope="module")
def reduced(
    fits_bytes: Callable[..., bytes], content_of: Callable[..., FileContent], camera: Camera
) -> Callable[..., ReducedFrame]:
    """A function that reduces a field with one of the engines."""

    def go(field: Any, engine: str, finish: Any = None, **detector: Any) -> ReducedFrame:
        extraction = replace(camera.extraction, engine=engine)
        here = replace(camera, extraction=extraction, detector=replace(camera.detector, **detector))
        data = fits_bytes(field.pixels, False)
        params = ReduceParams(finish=None if finish is None else lambda extracted: Step(finish(extracted)))
        return reduce_frame(content_of(data), Profile(here, (), "lab.toml"), params)

    return go


def true_trail(streak: Streak) -> Trail:
    ends = clip_streak(streak, (SIDE, SIDE))
    assert ends is not None
    return Trail(*ends, FWHM)


#: The other engine detects nothing of the faint trail, and so nothing is spoiled by it.
SEEN = [
    (name, engine) for name in STREAKS for engine in ("skylake", "sep") if (name, engine) != ("faint", "sep")
]


@pytest.mark.parametrize(("name", "engine"), SEEN)
def test_sources_on_a_trail_are_flagged_and_no_others(
    make: Any, reduced: Any, name: str, engine: str
) -> None:
    frame, trail = reduced(make([STREAKS[name]]), engine), true_trail(STREAKS[name])
    sources, row = frame.sources, frame.row
    assert row["status"] == "ok" and row["n_streaks"] == 1
    assert row["streak_length_px"] == pytest.approx(trail.length, abs=40.0)
    flagged = (sources.flags & SourceFlag.STREAK) > 0
    assert row["n_streak_sources"] == flagged.sum() > 0
    distance = trail.distance(sources.x, sources.y)
    assert flagged[distance < 8.0].mean() > 0.95
    assert distance[flagged].max() < 12.0 + (20.0 if name == "short" else 2.0)


@pytest.mark.parametrize("engine", ["skylake", "sep"])
def test_a_trail_leaves_no_clean_source_and_no_changed_flag(make: Any, reduced: Any, engine: str) -> None:
    pure, crossed = reduced(make(), engine), reduced(make([STREAKS["usual"]]), engine)
    clean = (crossed.sources.flags & int(UNCLEAN)) == 0
    trail = true_trail(STREAKS["usual"])
    assert not (trail.distance(crossed.sources.x, crossed.sources.y)[clean] < 9.0).any()
    assert crossed.row["n_sources"] <= pure.row["n_sources"]
    assert crossed.row["elongation"] == pytest.approx(pure.row["elongation"], abs=0.05)
    from scipy.spatial import cKDTree

    there = np.column_stack([crossed.sources.x, crossed.sources.y])
    distance, index = cKDTree(there).query(np.column_stack([pure.sources.x, pure.sources.y]))
    lasting = int(SourceFlag.SATURATED | SourceFlag.EDGE | SourceFlag.BAD_PIXEL)
    same, found = distance < 0.5, index[distance < 0.5]
    assert same.mean() > 0.8
    assert ((pure.sources.flags[same] & lasting) == (crossed.sources.flags[found] & lasting)).all()
    under = trail.distance(pure.sources.x, pure.sources.y)[same] < 8.0
    assert under.any() and ((crossed.sources.flags[found][under] & SourceFlag.STREAK) > 0).all()
    far = trail.distance(pure.sources.x, pure.sources.y)[same] > 25.0
    before, after = pure.sources.flux["aper2"][same][far], crossed.sources.flux["aper2"][found][far]
    error = pure.sources.flux_err["aper2"][same][far]
    assert np.percentile(np.abs(after - before) / error, 90) < 0.5


def test_targets_under_a_trail_are_flagged(make: Any, reduced: Any) -> None:
    field, trail = make([STREAKS["usual"]]), true_trail(STREAKS["usual"])

    def force(extracted: Extracted) -> ForcedMeasurements:
        nothing = np.zeros(len(field.x))
        targets = TargetStars(np.arange(len(field.x)), nothing, nothing, nothing, nothing, 1)
        return measure_targets(extracted, targets, field.x, field.y, psf_of_frame(None, extracted))

    found = reduced(field, "skylake", force).finished
    flagged, distance = (found.flags & SourceFlag.STREAK) > 0, trail.distance(field.x, field.y)
    assert flagged[distance < 8.0].all() and not flagged[distance > 12.0].any() and flagged.any()


def test_what_lies_on_a_trail_is_spoiled() -> None:
    assert SourceFlag.STREAK & SPOILED


@pytest.mark.parametrize("engine", ["skylake", "sep"])
@pytest.mark.parametrize("n", [60, 250, 3000])
def test_a_field_without_trails_has_none(make: Any, reduced: Any, n: int, engine: str) -> None:
    frame = reduced(make(n=n), engine)
    assert (frame.row["n_streaks"], frame.row["n_streak_sources"], frame.row["streak_length_px"]) == (
        0,
        0,
        0.0,
    )
    assert not (frame.sources.flags & SourceFlag.STREAK).any()


@pytest.mark.parametrize("engine", ["skylake", "sep"])
def test_columns_full_of_charge_are_no_trails(make: Any, reduced: Any, engine: str) -> None:
    def flood(pixels: Any) -> None:
        pixels[380:384, 500:504] += 4e6
        pixels[:] = np.minimum(bleed(pixels, 60500.0), 60000.0)

    frame = reduced(make(change=flood), engine, saturation_adu=60000.0)
    assert frame.row["n_saturated_px"] > 500 and frame.row["n_streaks"] == 0


def test_trails_of_many_directions_are_found_at_their_ends(make: Any, measure: Callable[..., Any]) -> None:
    random = np.random.default_rng(4)
    for _ in range(12):
        streak = draw_streak(random, (SIDE, SIDE), float(random.uniform(150.0, 2000.0)))
        measured = measure(make([streak], n=120))
        noise = measured.background.median_rms
        trails = find_trails(measured.signal, measured.image.mask, noise, measured.detections, FWHM)
        true = true_trail(streak)
        assert len(trails) == 1
        assert trails[0].length == pytest.approx(true.length, abs=50.0)
        along = np.linspace(0.0, 1.0, 9)
        x, y = (a + along * (b - a) for a, b in ((trails[0].x0, trails[0].x1), (trails[0].y0, trails[0].y1)))
        assert np.median(true.distance(x, y)) < 0.5


def test_two_trails_are_two(make: Any, measure: Callable[..., Any]) -> None:
    measured = measure(make([STREAKS["usual"], STREAKS["bright, upright"]]))
    noise = measured.background.median_rms
    trails = find_trails(measured.signal, measured.image.mask, noise, measured.detections, FWHM)
    assert len(trails) == 2


def test_a_dozen_trails_are_a_dozen(make: Any, measure: Callable[..., Any]) -> None:
    levels = np.geomspace(150.0, 900.0, 12)
    streaks = [
        Streak(-20.0, 40.0 + 60.0 * number, SIDE + 20.0, 65.0 + 60.0 * number, level)
        for number, level in enumerate(levels)
    ]
    measured = measure(make(streaks, n=120))
    noise = measured.background.median_rms
    trails = find_trails(measured.signal, measured.image.mask, noise, measured.detections, FWHM)
    assert len(trails) == 12
    middles = sorted(0.5 * (trail.y0 + trail.y1) for trail in trails)
    assert middles == pytest.approx([52.5 + 60.0 * number for number in range(12)], abs=1.5)


def test_the_distance_from_a_trail_counts_its_ends() -> None:
    trail = Trail(0.0, 0.0, 10.0, 0.0, 3.0)
    x, y = np.array([5.0, -3.0, 13.0, 5.0]), np.array([2.0, 4.0, 0.0, -7.0])
    np.testing.assert_allclose(trail.distance(x, y), [2.0, 5.0, 3.0, 7.0])
    assert near_trails([trail], x, y, 2.0).tolist() == [True, False, True, False]
    assert not near_trails([], x, y, 2.0).any()


@given(st.floats(0.0, 2.0 * np.pi), st.integers(0, 5), st.integers(0, 1000))
def test_pixels_along_a_line_are_those_nearest_to_it(angle: float, half: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    signal = random.normal(size=(30, 40)).astype(np.float32)
    mask = (random.random(signal.shape) < 0.1).astype(np.uint8) * np.uint8(2)
    mask[random.random(signal.shape) < 0.1] |= np.uint8(4)
    (x, y), along = random.uniform(-5.0, 40.0, 2), np.arange(-20.0, 20.0) + 0.5
    run = float(np.cos(angle)), float(np.sin(angle))
    across = np.arange(-half, half + 1)[:, None]
    column = np.rint(x + along * run[0] - across * run[1]).astype(int)
    row = np.rint(y + along * run[1] + across * run[0]).astype(int)
    inside = (column >= 0) & (column < 40) & (row >= 0) & (row < 30)
    place = row.clip(0, 29), column.clip(0, 39)
    wanted = np.where(inside & (mask[place] & 2 == 0), signal[place], np.nan)
    found = read_strip(signal, mask, np.uint8(2), along, half, (float(x), float(y), *run))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.skipif(
    "SKYLAKE_REAL_DATA" not in os.environ, reason="SKYLAKE_REAL_DATA names no folder of real frames"
)
def test_the_horizon_of_a_real_fisheye_is_no_trail() -> None:
    path = Path(os.environ["SKYLAKE_REAL_DATA"]) / "allsky_magic" / "20180817_0055.fits.gz"
    frame = reduce_frame(read_file(path), cameras.load("allsky-magic"))
    assert frame.row["n_detected"] > 2000 and frame.row["n_streaks"] == 0
