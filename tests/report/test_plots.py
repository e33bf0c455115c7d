from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from skylake.report import plots
from skylake.report.style import save

RANDOM = np.random.default_rng(3)
N = 60
MJD = 60500.0 + np.linspace(0.0, 0.4, N)
MAG = RANDOM.uniform(8.0, 14.0, N)
RESIDUAL = RANDOM.normal(0.0, 0.05, N)
X, Y = RANDOM.uniform(0.0, 400.0, (2, N))
V = np.full(N, "V", object)
NONE = np.full(N, np.nan)
NO_FLAG = np.zeros(N, bool)
EMPTY = np.zeros(0)
#: Pixels of order 6 around RA 0 and declination -25.
PIXELS = np.array([9020, 9021, 9022, 9023, 9024])


def pictures() -> dict[str, Callable[[], Any]]:
    import healpy

    around = healpy.query_disc(64, healpy.ang2vec(0.0, -25.0, lonlat=True), np.radians(3.0), nest=True)
    sky = np.arange(12 * 4**3)
    return {
        "zeropoint": lambda: plots.zeropoint_against_time(MJD, 18 + RESIDUAL, 0 * MAG + 0.01, V, "cam"),
        "field": lambda: plots.residuals_over_field(X, Y, RESIDUAL, 400, 400, "cam"),
        "magnitude": lambda: plots.residuals_against_magnitude(MAG, RESIDUAL, "cat"),
        "lightcurve": lambda: plots.lightcurve(MJD + 2.4e6, MAG, 0 * MAG + 0.1, NO_FLAG, V, "a star"),
        "sky": lambda: plots.sky_and_seeing(MJD, MAG, MAG / 4, "cam"),
        "region": lambda: plots.sky_map(around, np.arange(len(around)) * 0.1, 6, "residual [mag]", "a map"),
        "whole sky": lambda: plots.sky_map(sky, sky * 1.0, 3, "exposure [s]", "a map"),
    }


@pytest.fixture(scope="module", params=pictures().items(), ids=lambda item: item[0])
def picture(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield request.param[1]()


def test_a_picture_has_title_legend_and_axes_with_units(picture: Any) -> None:
    first = picture.axes[0]
    assert first.get_title("left")
    assert first.get_legend() is not None
    assert all(text.get_text() for text in first.get_legend().get_texts())
    for axes in picture.axes:
        labels = [axes.get_xlabel(), axes.get_ylabel()]
        assert any(labels)
        for label in filter(None, labels):
            assert re.search(r"\[(mag|mmag|px|deg|d|UTC|ADU/s|s)\]\Z", label), label
    assert first.get_xlabel()
    assert first.get_ylabel()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_can_be_kept_in_any_usual_format(picture: Any, suffix: str, tmp_path: Path) -> None:
    save(picture, tmp_path / "new" / f"picture{suffix}")
    start = (tmp_path / "new" / f"picture{suffix}").read_bytes()
    assert start.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])
    assert len(start) > 5000


@pytest.mark.parametrize(
    "made",
    [
        lambda: plots.zeropoint_against_time(MJD, NONE, NONE, V, "cam"),
        lambda: plots.zeropoint_against_time(EMPTY, EMPTY, EMPTY, EMPTY.astype(object), "cam"),
        lambda: plots.residuals_over_field(X, Y, NONE, 400, 400, "cam"),
        lambda: plots.residuals_against_magnitude(MAG, NONE, "cat"),
        lambda: plots.lightcurve(MJD, NONE, NONE, NO_FLAG, V, "a star"),
        lambda: plots.sky_and_seeing(EMPTY, EMPTY, EMPTY, "cam"),
        lambda: plots.sky_map(EMPTY.astype(int), EMPTY, 6, "visits", "a map"),
    ],
)
def test_where_there_is_nothing_to_show_the_picture_says_so(made: Callable[[], Any]) -> None:
    (axes,) = made().axes
    (text,) = axes.texts
    assert re.search(r"\b(no|yet)\b", text.get_text())
    assert not axes.lines


def test_a_picture_without_good_matches_says_how_many_there_are() -> None:
    for made in (
        plots.residuals_over_field(X, Y, NONE, 400, 400, "cam"),
        plots.residuals_against_magnitude(MAG, NONE, "cat"),
    ):
        assert made.axes[0].texts[0].get_text().startswith(f"no match of {N} is ")


@pytest.mark.parametrize(
    "made",
    [
        lambda: plots.zeropoint_against_time(MJD[:1], MAG[:1], MAG[:1], V[:1], "cam"),
        lambda: plots.residuals_over_field(X[:1], Y[:1], RESIDUAL[:1], 400, 300, "cam"),
        lambda: plots.residuals_over_field(X, Y, 0 * X, 400, 300, "cam"),
        lambda: plots.residuals_against_magnitude(MAG[:1], RESIDUAL[:1], "cat"),
        lambda: plots.lightcurve(MJD[:1], MAG[:1], MAG[:1] / 100, NO_FLAG[:1], V[:1], "a star"),
        lambda: plots.sky_and_seeing(MJD[:1], MAG[:1], NONE[:1], "cam"),
        lambda: plots.sky_map(np.array([77]), np.array([0.0]), 6, "visits", "a map"),
    ],
)
def test_one_value_makes_a_picture_without_a_warning(made: Callable[[], Any], tmp_path: Path) -> None:
    save(made(), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_bright_is_up_and_faint_is_down() -> None:
    curve = plots.lightcurve(MJD, MAG, 0 * MAG, NO_FLAG, V, "a star").axes[0]
    assert curve.yaxis_inverted()
    residuals = plots.residuals_against_magnitude(MAG, RESIDUAL, "cat").axes[0]
    assert residuals.yaxis_inverted()
    zeropoints = plots.zeropoint_against_time(MJD, MAG, 0 * MAG, V, "cam").axes[0]
    assert not zeropoints.yaxis_inverted(), "a larger zeropoint is a clearer sky"


def test_a_light_curve_in_two_bands_distinguishes_them() -> None:
    band = np.where(np.arange(len(MJD)) % 2 == 0, "V", "R").astype(object)
    axes = plots.lightcurve(MJD, MAG, 0 * MAG, NO_FLAG, band, "a star").axes[0]
    handles, labels = axes.get_legend_handles_labels()
    assert [label.partition(",")[0] for label in labels] == ["R", "V"]
    assert len({handle.lines[0].get_color() for handle in handles}) == 2
    assert axes.get_ylabel() == "R, V [mag]"


def test_non_detections_of_two_bands_look_different() -> None:
    """Each band has a limit of its own; alike they looked like two populations."""
    band = np.where(np.arange(len(MJD)) % 2 == 0, "V", "R").astype(object)
    limit = np.where(np.arange(len(MJD)) < len(MJD) // 2, 17.0, np.nan)
    axes = plots.lightcurve(MJD, MAG, 0 * MAG, NO_FLAG, band, "a star", limit).axes[0]
    colours: dict[str, set[str]] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        line = handle.lines[0] if hasattr(handle, "lines") else handle
        colours.setdefault(label.partition(",")[0], set()).add(line.get_color())
    assert [len(colours[name]) for name in ("R", "V")] == [1, 1] and colours["R"] != colours["V"]
    labels = axes.get_legend_handles_labels()[1]
    assert sum("non-detections" in label for label in labels) == 2


def test_east_is_left_and_right_ascensions_are_those_of_the_sky() -> None:
    """Also across right ascension 0."""
    for middle in (0.0, 0.3, 359.8, 120.0):
        import healpy

        pixels = healpy.query_disc(
            512, healpy.ang2vec(middle, -25.0, lonlat=True), np.radians(1.0), nest=True
        )
        axes = plots.sky_map(pixels, np.arange(len(pixels)) * 1.0, 9, "visits", "a map").axes[0]
        low, high = axes.get_xlim()
        assert low > high
        assert abs(low - high) < 3.0
        axes.figure.canvas.draw()
        ticks = [float(text.get_text()) for text in axes.get_xticklabels()]
        assert all(0.0 <= tick < 360.0 for tick in ticks)
        assert all(abs((tick - middle + 180.0) % 360.0 - 180.0) < 2.0 for tick in ticks)


def test_fields_beside_each_other_have_labels_that_do_not_touch() -> None:
    import healpy

    fields = [(359.98, 10.0), (83.63, 22.01), (201.5, -47.0), (150.0, 2.2), (266.4, -29.0)]
    discs = [
        healpy.query_disc(512, healpy.ang2vec(*place, lonlat=True), np.radians(0.25), nest=True)
        for place in fields
    ]
    pixels = np.unique(np.concatenate(discs))
    figure = plots.sky_map(pixels, np.arange(len(pixels)) * 1.0, 9, "visits", "a map")
    FigureCanvasAgg(figure).draw()
    panels = [axes for axes in figure.axes if axes.get_xlabel()]
    assert len(panels) == len(fields)
    for axes in panels:
        low, high = sorted(axes.get_xlim())
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        boxes = [text.get_window_extent() for place, text in ticks if low <= place <= high]
        boxes.sort(key=lambda box: float(box.x0))
        assert len(boxes) > 1
        assert all(box.x1 < after.x0 for box, after in itertools.pairwise(boxes))
        # Little is shown of the sky around the field.
        (drawn,) = axes.collections
        spans = [path.get_extents() for path in drawn.get_paths()]
        field = max(span.y1 for span in spans) - min(span.y0 for span in spans)
        assert np.ptp(axes.get_ylim()) < 1.8 * field


def test_sky_and_seeing_that_hardly_change_look_so() -> None:
    mjd, sky = 60000.0 + np.arange(9) / 24.0, 8.04 + 0.001 * np.arange(9.0)
    left, right = plots.sky_and_seeing(mjd, sky, np.linspace(2.0, 4.0, 9), "cam").axes
    assert np.ptp(left.get_ylim()) > 0.09 * 8.04, "a thousandth is no cloud"
    low, high = right.get_ylim()
    assert low < 2.0 and 4.0 < high < 4.5, "what changes fills the picture"


def test_a_whole_sky_map_leaves_out_only_pixels_on_its_edge() -> None:
    sky = np.arange(12 * 4**3)
    axes = plots.sky_map(sky, sky * 1.0, 3, "visits", "a map").axes[0]
    (drawn,) = axes.collections
    assert axes.name == "mollweide"
    assert len(sky) - 4 * 2**3 * 2 < len(drawn.get_paths()) <= len(sky)


def test_a_whole_sky_map_has_round_right_ascensions() -> None:
    pixels = np.arange(192)[:100]
    axes = plots.sky_map(pixels, np.ones(100), 2, "visits", "title").axes[0]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert {text for text in labels if text} <= {f"{value}°" for value in range(0, 360, 60)}
    assert sum(map(bool, labels)) >= 4


def test_a_pixel_of_a_whole_sky_map_is_where_labels_say() -> None:
    sky = np.arange(12 * 4**3)
    figure = plots.sky_map(sky, sky * 1.0, 3, "visits", "a map")
    axes, (drawn,) = figure.axes[0], figure.axes[0].collections
    figure.canvas.draw()
    labels = {
        label.get_text(): tick for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }
    label, tick = next((text, tick) for text, tick in labels.items() if text)
    middle = float(label.rstrip("°")) + np.degrees(tick)
    for pixel, path in zip(drawn.get_array().astype(int), drawn.get_paths(), strict=True):
        ra, dec = healpy.pix2ang(8, pixel, nest=True, lonlat=True)
        west = np.radians((middle - ra + 180.0) % 360.0 - 180.0)
        centre = axes.transData.transform([west, np.radians(dec)])
        if abs(dec) < 60.0 and abs(west) < 2.5:
            assert drawn.get_transform().transform_path(path).contains_point(centre), pixel


def test_the_legend_gives_number_and_median_of_each_band() -> None:
    zp = np.where(np.arange(N) < 20, 18.0, 19.0)
    band = np.where(np.arange(N) < 20, "R", "V").astype(object)
    zp[[3, 33]] = np.nan
    axes = plots.zeropoint_against_time(MJD, zp, 0 * zp + 0.01, band, "cam").axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "R, 19 frames, median 18.000 mag",
        "V, 39 frames, median 19.000 mag",
    ]


def test_residuals_are_drawn_where_they_are_on_the_detector() -> None:
    """One quarter of a detector 400 wide and 300 high is off by 30 mmag, and one is never hit."""
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(5.0, 400.0, 10.0), np.arange(5.0, 300.0, 10.0)))
    upper_left = (x < 200) & (y > 150)
    hit = (x < 200) | (y < 150)
    residual = np.where(upper_left, 0.03, 0.0)
    figure = plots.residuals_over_field(x[hit], y[hit], residual[hit], 400, 300, "cam")
    (image,) = figure.axes[0].images
    cells = np.ma.filled(image.get_array(), np.nan)
    half = len(cells) // 2
    assert image.get_extent() == [-0.5, 399.5, -0.5, 299.5]
    assert image.origin == "lower"
    assert cells[half + 1 :, : half - 1] == pytest.approx(30.0)
    assert cells[: half - 1, :] == pytest.approx(0.0)
    assert np.isnan(cells[half + 1 :, half + 1 :]).all()
    low, high = image.get_clim()
    assert low == -high, "no residual is white"


def test_medians_of_cells_are_those_of_numpy() -> None:
    x, y = RANDOM.uniform(-0.5, 99.5, (2, 400))
    values = RANDOM.normal(0, 1, 400)
    cells = plots._cell_medians(x, y, values, 100, 100, 5)
    column, row = ((axis + 0.5) // 20 for axis in (x, y))
    for i in range(5):
        for j in range(5):
            assert cells[i, j] == np.median(values[(row == i) & (column == j)])


def test_the_running_scatter_is_that_of_the_stars() -> None:
    mag = np.repeat([9.25, 11.25], 400)
    residual = RANDOM.normal(0.0, np.repeat([0.02, 0.1], 400))
    axes = plots.residuals_against_magnitude(mag, residual, "cat").axes[0]
    (bars,) = axes.containers
    ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
    assert np.diff(ends, axis=1).ravel() / 2 == pytest.approx([0.02, 0.1], rel=0.15)


def test_matches_outside_the_residual_picture_are_counted() -> None:
    residual = np.append(RANDOM.normal(0.0, 0.02, 100), [0.9, -1.1, 3.0])
    axes = plots.residuals_against_magnitude(np.full(103, 10.0), residual, "cat").axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert "103 matches, 3 of them beyond the picture" in labels
    within = plots.residuals_against_magnitude(np.full(100, 10.0), residual[:100], "cat").axes[0]
    assert "100 matches" in within.get_legend_handles_labels()[1]


def test_outliers_of_a_map_do_not_take_all_its_colours() -> None:
    values = np.append(np.linspace(-0.1, 0.1, 500), [50.0, -50.0])
    norm = plots._norm(values)
    assert -0.2 < norm.vmin < norm.vmax < 0.2
    counts = np.append(np.full(500, 2.0), [5000.0])
    assert type(plots._norm(counts)).__name__ == "LogNorm"
