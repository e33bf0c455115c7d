from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from skylake.core.robust import MAD_TO_SIGMA
from skylake.report.repeatability_plot import median_share, repeatability, star_scatter
from skylake.report.zeropoint_plots import (
    FrameZeropoints,
    StarZeropoint,
    star_zeropoint,
    transparency_over_time,
    version_differences,
    zeropoint_against_airmass,
    zeropoint_over_time,
)

RANDOM = np.random.default_rng(7)
N_STARS, N_FRAMES = 60, 30
STAR = np.tile(np.arange(N_STARS), N_FRAMES)
MAG = np.linspace(8.0, 14.0, N_STARS)[STAR]
ERROR = 0.002 * 10 ** (0.2 * (MAG - 8.0))
FLOOR = 0.006
OFFSET = RANDOM.normal(0.0, 0.05, N_STARS)[STAR] + RANDOM.normal(0.0, np.hypot(ERROR, FLOOR))
STARS = StarZeropoint(OFFSET, ERROR, STAR.astype(np.int64))
MJD = 60408.0 + np.repeat([0.0, 1.0], 15) + np.tile(np.linspace(0.0, 0.3, 15), 2)
AIRMASS = 1.0 + 3.0 * (MJD % 1.0)
BAND = np.full(30, "V", object)
NIGHT = np.repeat([20240407, 20240408], 15).astype(np.int64)
FRAMES = FrameZeropoints(MJD, 18.0 - 0.2 * (AIRMASS - 1.0), np.full(30, 0.004), 0.013, AIRMASS, BAND, NIGHT)
LINES = {(20240407, "V"): (18.0, 0.2, 0.01), (20240408, "V"): (18.0, 0.2, 0.01)}
NO_FLOOR = np.full(MAG.size, np.nan)
NOTHING = StarZeropoint(np.full(3, np.nan), np.full(3, np.nan), np.arange(3))


def pictures() -> dict[str, Callable[[], Any]]:
    return {
        "magnitude": lambda: star_zeropoint(STARS, MAG, "catalog magnitude [mag]", "title"),
        "colour": lambda: star_zeropoint(STARS, MAG / 10, "colour [mag]", "title", (0.1, 0.7)),
        "time": lambda: zeropoint_over_time(FRAMES, {"V": (MJD, np.full(30, 18.0))}, "title"),
        "transparency": lambda: transparency_over_time(
            MJD, 0.9 + 0 * MJD, 0.01 + 0 * MJD, MJD > 60408.2, 0.01, "title"
        ),
        "airmass": lambda: zeropoint_against_airmass(FRAMES, LINES, "title"),
        "repeatability": lambda: repeatability(STARS, MAG, NO_FLOOR, "title"),
        "differences": lambda: version_differences(MJD, 0.01 * AIRMASS, BAND, (2, 3), "title"),
    }


@pytest.mark.parametrize("name", pictures())
def test_a_picture_has_title_units_and_a_legend_that_covers_nothing(name: str) -> None:
    figure = pictures()[name]()
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert axes.get_title("left") and axes.get_xlabel()
    assert "mag]" in axes.get_ylabel() or name == "transparency"
    legend, frame = axes.get_legend(), axes.get_window_extent()
    assert all(text.get_text() for text in legend.get_texts())
    assert legend.get_window_extent().y1 <= frame.y0
    # The title and the legend are inside of the picture, and leave the axes most of its width.
    box = axes.title.get_window_extent() if axes.get_title() else axes._left_title.get_window_extent()
    assert box.x1 <= figure.bbox.x1 and legend.get_window_extent().x0 >= 0.0
    assert frame.width > 0.75 * figure.bbox.width


def test_the_shared_error_is_stated_once_and_bars_are_random() -> None:
    figure = zeropoint_over_time(FRAMES, {}, "title")
    (axes,) = figure.axes
    assert axes.get_title("left").count("share an error of 0.013 mag") == 1
    low, high = axes.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * 0.004)


def test_nights_are_not_joined_by_a_line() -> None:
    (axes,) = zeropoint_over_time(FRAMES, {"V": (MJD, np.full(30, 18.0))}, "title").axes
    line = next(line for line in axes.lines if line.get_label() == "V, clear sky")
    assert np.isnan(np.asarray(line.get_ydata(), float)).sum() == 1


def test_the_extinction_of_a_night_is_in_the_legend() -> None:
    (axes,) = zeropoint_against_airmass(FRAMES, LINES, "title").axes
    assert "20240407 V: 0.200 +- 0.010 mag/airmass" in [
        text.get_text() for text in axes.get_legend().get_texts()
    ]


def test_a_level_of_one_frame_is_a_dash() -> None:
    """A line from one point to itself is not to be seen."""
    some = np.array([60408.0, 60408.1, 60430.0])
    (axes,) = zeropoint_over_time(FRAMES, {"V": (some, np.array([18.0, 18.0, 17.5]))}, "title").axes
    (dash,) = [line for line in axes.lines if line.get_marker() == "_"]
    assert np.asarray(dash.get_ydata()).tolist() == [17.5]


def test_each_field_has_a_line_through_its_clear_frames() -> None:
    field = np.tile([0, 1], 15)
    zp = FRAMES.zp + np.where(field == 1, 0.02, -0.01)
    zp[3] -= 0.5
    frames = replace(FRAMES, zp=zp, field=field)
    (axes,) = zeropoint_against_airmass(frames, LINES, "title").axes
    drawn = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2]
    levels = [float(line.get_ydata()[0] + 0.2 * (line.get_xdata()[0] - 1.0)) for line in drawn]
    assert sorted(levels) == pytest.approx([17.99, 17.99, 18.02, 18.02])
    (below,) = [line for line in axes.lines if line.get_marker() == "v" and len(line.get_xdata())]
    assert float(below.get_xdata()[0]) == pytest.approx(AIRMASS[3])
    assert float(below.get_ydata()[0]) == axes.get_ylim()[0]


def test_an_extinction_that_is_the_usual_one_of_sites_says_so() -> None:
    (axes,) = zeropoint_against_airmass(FRAMES, LINES | {(20240407, "V"): (18.0, 0.2, 0.1)}, "title").axes
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "20240407 V: 0.20 +- 0.10 mag/airmass (prior)" in texts
    assert "20240408 V: 0.200 +- 0.010 mag/airmass" in texts


@pytest.mark.parametrize("number", [6, 12, 30])
def test_many_nights_have_colours_of_their_own_and_extinctions_in_the_legend(number: int) -> None:
    night = 20240401 + np.arange(30) % number
    lines = {(int(one), "V"): (18.0, 0.1 + 0.01 * i, 0.01) for i, one in enumerate(np.unique(night))}
    (axes,) = zeropoint_against_airmass(replace(FRAMES, night=night), lines, "title").axes
    colours = {container.lines[0].get_color() for container in axes.containers}
    assert len(colours) == number
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    named = [text for text in texts if "+-" in text]
    assert len(named) == (number if number <= 12 else 0)
    assert number <= 12 or "30 frames of 30 nights and bands, 0.100 to 0.390 mag/airmass" in texts


def test_the_floor_of_bright_stars_is_recovered() -> None:
    found = star_scatter(STARS, MAG, NO_FLOOR)
    assert found.mag.size == N_STARS and found.floor == pytest.approx(FLOOR, rel=0.35)
    assert not found.is_in_force and np.median(found.scatter / found.expected) == pytest.approx(1.0, abs=0.1)
    quiet = StarZeropoint(RANDOM.normal(0.0, ERROR), ERROR, STARS.star)
    assert star_scatter(quiet, MAG, NO_FLOOR).floor < 0.0015


def test_a_floor_in_force_is_drawn_as_it_is_and_once() -> None:
    """Random errors of magnitudes have it in them already."""
    whole = StarZeropoint(OFFSET, np.hypot(ERROR, 0.009), STARS.star)
    found = star_scatter(whole, MAG, np.full(MAG.size, 0.009))
    assert found.is_in_force and found.floor == pytest.approx(0.009)
    of_star = ERROR[:N_STARS]
    np.testing.assert_allclose(found.noise, of_star)
    np.testing.assert_allclose(found.expected, np.hypot(of_star, 0.009))
    (axes,) = repeatability(whole, MAG, np.full(MAG.size, 0.009), "title").axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "with a floor of 9.0 mmag, of the zeropoints" in labels


def test_the_running_median_has_the_error_of_stars_and_not_of_matches() -> None:
    (axes,) = star_zeropoint(STARS, MAG, "x", "title").axes
    bars = axes.containers[0].lines[2][0].get_segments()
    half = np.median([0.5 * (bar[1, 1] - bar[0, 1]) for bar in bars])
    # Sixty stars in fourteen bins, 50 mmag each.
    assert 15.0 < half < 45.0


def test_nothing_to_draw_is_said() -> None:
    empty = FrameZeropoints(MJD, np.full(30, np.nan), MJD * 0, 0.0, AIRMASS, BAND, NIGHT)
    figures = [
        star_zeropoint(NOTHING, np.arange(3.0), "x", "title"),
        repeatability(NOTHING, np.arange(3.0), np.zeros(3), "title"),
        zeropoint_over_time(empty, {}, "title"),
        zeropoint_against_airmass(empty, {}, "title"),
        transparency_over_time(MJD, np.full(30, np.nan), MJD * 0, MJD > 0, 0.0, "title"),
        version_differences(MJD, np.full(30, np.nan), BAND, (0, 0), "title"),
    ]
    for figure in figures:
        assert figure.axes[0].texts[0].get_text()


def test_a_running_median_is_one_of_several_stars() -> None:
    """Eight matches each of four stars give no median worth a point."""
    few = StarZeropoint(np.zeros(32), np.full(32, 0.01), np.repeat(np.arange(4), 8))
    axes = star_zeropoint(few, np.linspace(10.0, 14.0, 32), "magnitude [mag]", "title").axes[0]
    assert len(axes.containers) == 0
    many = StarZeropoint(np.zeros(200), np.full(200, 0.01), np.arange(200))
    axes = star_zeropoint(many, np.linspace(10.0, 14.0, 200), "magnitude [mag]", "title").axes[0]
    assert len(axes.containers) == 1


@pytest.mark.parametrize("n", [4, 5, 7, 12, 40])
def test_half_of_the_stars_scatter_more_than_they_should_however_few_their_points(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(20_000, n))
    deviation = np.median(np.abs(values - np.median(values, axis=1, keepdims=True)), axis=1)
    assert np.median(MAD_TO_SIGMA * deviation) / median_share(n) == pytest.approx(1.0, abs=0.02)
