"""What the detector or a bright star makes of a straight line is no trail, and hides none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.flags import PixelFlag
from skylake.image.streaks.linear_structure import is_structure
from skylake.image.streaks.trails import Trail, find_trails
from skylake.simulate import Moffat, render
from skylake.simulate.detector import bleed
from skylake.simulate.streaks import Streak, add_streak, clip_streak

Single = npt.NDArray[np.float32]
Change = Callable[[Single], None]

SIDE, FWHM, NOISE = 768, 2.8, 12.6


def column(first: int, last: int, noises: float, start: int = 0) -> Change:
    """Columns of another level, from a row on to the last."""

    def change(pixels: Single) -> None:
        pixels[start:, first : last + 1] += np.float32(noises * NOISE)

    return change


def row(number: int, noises: float) -> Change:
    def change(pixels: Single) -> None:
        pixels[number] += np.float32(noises * NOISE)

    return change


def amplifier(pixels: Single) -> None:
    pixels[:, 391:] += np.float32(4.0 * NOISE)


def flood(pixels: Single) -> None:
    """Charge runs over, and the profile knows of no saturation."""
    pixels += render(pixels.shape, [300.0], [411.0], [1.5e7], Moffat(FWHM))
    pixels[:] = np.minimum(bleed(pixels, 60500.0), 60000.0)


def smear(pixels: Single) -> None:
    """A camera without a shutter: a bright star leaves light in all rows of its columns."""
    star = render(pixels.shape, [300.3], [411.0], [3e6], Moffat(FWHM))
    pixels += star + np.float32(2e-4) * star.sum(axis=0)


def spikes(angle: float) -> Change:
    """Four spikes of a bright star, that fade with the distance from it."""

    def change(pixels: Single) -> None:
        x0, y0, flux, sigma = 333.4, 402.7, 5e6, FWHM / 2.35
        y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
        light = render(pixels.shape, [x0], [y0], [flux], Moffat(FWHM)).astype(float)
        for turn in angle + np.arange(4) * np.pi / 2:
            along = (x - x0) * np.cos(turn) + (y - y0) * np.sin(turn)
            across = (y - y0) * np.cos(turn) - (x - x0) * np.sin(turn)
            ridge = 0.05 * flux / (np.maximum(along, 0.0) + 8.0) ** 1.8
            light += np.where(along > 0.0, ridge * np.exp(-0.5 * (across / sigma) ** 2) / sigma, 0.0)
        pixels[:] = np.minimum(pixels + light, 60000.0)

    return change


STRUCTURES: dict[str, Change] = {
    "hot column": column(251, 251, 3.0),
    "faint column": column(251, 251, 1.5),
    "part of a column": column(251, 251, 6.0, 300),
    "two columns": column(251, 252, 4.0),
    "band": column(251, 255, 3.0),
    "part of a band": column(251, 254, 8.0, 420),
    "row": row(251, 5.0),
    "amplifier": amplifier,
    "flood": flood,
    "smear": smear,
    "spikes along columns": spikes(0.0),
    "spikes": spikes(0.6),
}
ALONG = {
    "column": Streak(250.3, 120.0, 250.5, 520.0, 300.0),
    "row": Streak(90.0, 404.8, 610.0, 404.8, 200.0),
    "between two columns": Streak(250.5, 120.0, 250.5, 400.0, 600.0),
    "almost a column": Streak(250.2, -20.0, 250.9, 800.0, 400.0),
}


@pytest.fixture(scope="module")
def search(make_field: Callable[..., Any], measure: Callable[..., Any]) -> Callable[..., tuple[Trail, ...]]:
    """A function that draws stars, a trail or none, and what the detector makes of them, and looks for trails."""

    def go(change: Change | None, streak: Streak | None = None, seed: int = 8) -> tuple[Trail, ...]:
        random = np.random.default_rng(seed)
        x, y = random.uniform(5.0, SIDE - 5.0, (2, 150))
        field = make_field(x, y, np.geomspace(300.0, 2e5, 150), (SIDE, SIDE), Moffat(FWHM), seed=seed)
        if streak is not None:
            light = np.zeros(field.pixels.shape, np.float32)
            add_streak(light, streak, FWHM)
            field.pixels[:] += random.poisson(light * 2.0).astype(np.float32) / 2.0
        if change is not None:
            change(field.pixels)
        done = measure(field)
        return find_trails(done.signal, done.image.mask, done.background.median_rms, done.detections, FWHM)

    return go


def is_of(trail: Trail, streak: Streak) -> bool:
    ends = clip_streak(streak, (SIDE, SIDE))
    assert ends is not None
    share = np.linspace(0.0, 1.0, 9)
    x, y = trail.x0 + share * (trail.x1 - trail.x0), trail.y0 + share * (trail.y1 - trail.y0)
    return float(np.median(Trail(*ends, FWHM).distance(x, y))) < 1.0


@pytest.mark.parametrize("name", STRUCTURES)
def test_artefacts_are_no_trails_and_hide_none(search: Any, name: str) -> None:
    assert search(STRUCTURES[name]) == ()
    streak = Streak(-20.0, 100.0, 800.0, 520.0, 300.0)
    (found,) = search(STRUCTURES[name], streak)
    assert is_of(found, streak)


def test_many_bad_columns_end_no_search(search: Any) -> None:
    def change(pixels: Single) -> None:
        for first in range(60, 700, 70):
            column(first, first, 4.0)(pixels)

    streak = Streak(-20.0, 100.0, 800.0, 520.0, 150.0)
    (found,) = search(change, streak)
    assert is_of(found, streak)


@pytest.mark.parametrize("name", ALONG)
def test_a_trail_along_a_column_or_row_is_one(search: Any, name: str) -> None:
    (found,) = search(None, ALONG[name])
    assert is_of(found, ALONG[name])


def test_a_trail_over_a_bright_star_is_one(search: Any) -> None:
    """It does not fade with the distance from the star."""

    def change(pixels: Single) -> None:
        pixels += render(pixels.shape, [390.0], [310.0], [2e6], Moffat(FWHM))

    streak = Streak(-20.0, 100.0, 800.0, 520.0, 300.0)
    (found,) = search(change, streak)
    assert is_of(found, streak)


@pytest.mark.parametrize("width", [2.0, 2.8, 5.0])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
def test_light_is_as_sharp_as_stars_and_columns_are_sharper(width: float, phase: float) -> None:
    shape = (400, 300)
    random, mask = np.random.default_rng(2), np.zeros(shape, np.uint8)
    noise = random.normal(0.0, 1.0, shape).astype(np.float32)
    light = noise.copy()
    add_streak(light, Streak(150.0 + phase, 40.0, 150.0 + phase, 340.0, 10.0 * width), width)
    ends = (150.0 + phase, 40.0, 150.0 + phase, 340.0)
    assert not is_structure(ends, light, mask, 1.0, width)
    for last in (150, 151, 153):
        hot = noise.copy()
        hot[40:340, 150 : last + 1] += 10.0
        middle = 0.5 * (150 + last)
        assert is_structure((middle, 40.0, middle, 340.0), hot, mask, 1.0, width)


def test_a_line_of_which_nothing_is_seen_is_no_error() -> None:
    shape = (200, 100)
    mask = np.full(shape, 1, np.uint8)
    assert not is_structure((50.0, 10.0, 50.0, 190.0), np.zeros(shape, np.float32), mask, 1.0, 3.0)


@pytest.mark.parametrize("bend", [0.0, 4.0])
def test_a_fisheye_rim_is_no_trail_and_a_defocused_trail_is(bend: float) -> None:
    """A rim is three times as wide as stars and more, and bent; a trail is as wide as a star, or somewhat more."""
    shape, fwhm, noise = (200, 400), 2.5, 10.0
    y, x = np.mgrid[: shape[0], : shape[1]]
    middle = 90.3 + 0.03 * (x - 200.0) + bend * ((x - 200.0) / 150.0) ** 2
    random, mask = np.random.default_rng(4), np.zeros(shape, np.uint8)
    ends = (50.0, 85.8 + bend / 3.0, 350.0, 94.8 + bend / 3.0)
    for times, made in ((1.0, False), (1.6, False), (3.5, True)):
        sigma = times * fwhm / 2.35
        light = 40.0 * np.exp(-0.5 * ((y - middle) / sigma) ** 2)
        signal = (light + random.normal(0.0, noise, shape)).astype(np.float32)
        assert is_structure(ends, signal, mask, noise, fwhm) == made


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 5.0])
@pytest.mark.parametrize("peak", [0.5, 2.0, 5.0, 20.0])
def test_a_trail_that_saturates_is_one(fwhm: float, peak: float) -> None:
    """What is left of it beside its core is wider than a star."""
    shape, saturation, noise, middle = (300, 300), 1000.0, 10.0, 149.5
    y, x = np.mgrid[: shape[0], : shape[1]]
    for angle in (0.3, 0.8, 1.2):
        random, along = np.random.default_rng(3), np.array([np.cos(angle), np.sin(angle)])
        distance = (x - middle) * along[1] - (y - middle) * along[0]
        light = peak * saturation * (1.0 + (distance / (0.7 * fwhm)) ** 2) ** -2.0
        pixels = (light + random.normal(0.0, noise, shape)).astype(np.float32)
        mask = np.where(pixels > saturation, np.uint8(PixelFlag.SATURATED), np.uint8(0))
        ends = (*(middle - 130.0 * along), *(middle + 130.0 * along))
        assert not is_structure(ends, np.minimum(pixels, np.float32(saturation)), mask, noise, fwhm)
