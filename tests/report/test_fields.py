"""Fields far apart have maps of their own."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import healpy
import numpy as np
import numpy.typing as npt
import pytest

from skylake.report import forced_plots, plots
from skylake.report.fields import separate_fields
from skylake.report.style import save


def discs(places: list[tuple[float, float]], radius_deg: float, order: int = 8) -> npt.NDArray[np.int64]:
    found = [
        healpy.query_disc(2**order, healpy.ang2vec(*place, lonlat=True), np.radians(radius_deg), nest=True)
        for place in places
    ]
    return np.unique(np.concatenate(found))


def test_fields_far_apart_are_kept_apart_from_north_to_south() -> None:
    pixels = discs([(0.3, -60.0), (359.0, 20.0), (40.0, -20.0)], 1.0)
    fields = separate_fields(pixels, 8)
    dec = [np.mean(healpy.pix2ang(256, pixels[rows], nest=True, lonlat=True)[1]) for rows in fields]
    assert dec == pytest.approx([20.0, -20.0, -60.0], abs=0.5)
    assert np.array_equal(np.sort(np.concatenate(fields)), np.arange(len(pixels)))


@pytest.mark.parametrize(
    "places",
    [
        [(10.0, 5.0)],
        [(10.0, 5.0), (13.0, 5.0)],
        [(40.0 * number, 5.0) for number in range(9)],
    ],
    ids=["one", "near ones", "many"],
)
def test_one_map_shows_what_it_shows_well(places: list[tuple[float, float]]) -> None:
    pixels = discs(places, 1.2)
    assert len(separate_fields(pixels, 8)) == 1


def test_two_fields_have_a_picture_each_in_one_scale_of_colours(tmp_path: Path) -> None:
    pixels = discs([(200.0, -20.0), (200.0, -39.0)], 1.0)
    figure = plots.sky_map(pixels, np.arange(len(pixels)) * 1.0, 8, "visits", "All cameras: visits")
    panels = [axes for axes in figure.axes if axes.get_xlabel() == "right ascension [deg]"]
    assert len(panels) == 2
    assert all(abs(np.diff(axes.get_ylim())[0]) < 6.0 for axes in panels), "each is seen from near"
    assert np.mean(panels[0].get_ylim()) > np.mean(panels[1].get_ylim())
    norms = [axes.collections[0].norm for axes in panels]
    assert norms[0] is norms[1] and norms[0].vmax == len(pixels) - 1
    assert figure.get_suptitle() == f"All cameras: visits, {len(pixels)} pixels of order 8"
    save(figure, tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_scatter_of_targets_is_held_against_their_errors(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    mag = random.uniform(8.0, 14.0, 400)
    single = 10.0 ** (0.3 * (mag - 16.0))
    count = np.full(400, 9.0)
    scatter = single * random.uniform(0.7, 1.4, 400)
    mag[5], count[7] = np.nan, 2.0
    figure = forced_plots.scatter_against_magnitude(mag, single / 3.0, scatter, count, "cam")
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["398 light curves", "median", "expected from random errors"]
    _, median, expected = figure.axes[0].lines
    assert median.get_ydata() == pytest.approx(np.array(expected.get_ydata()), rel=0.35)
    save(figure, tmp_path / "forced.png")
    nothing = forced_plots.scatter_against_magnitude(mag, single, scatter, np.ones(400), "cam")
    assert "no target has" in nothing.axes[0].texts[0].get_text()


def test_right_ascensions_of_panels_do_not_touch() -> None:
    """Two fields of a degree each, seen in few pixels: their right ascensions have up to six digits."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    pixels = np.array(
        [
            129066,
            129067,
            129152,
            129153,
            129154,
            129155,
            129156,
            129158,
            129337,
            129339,
            129340,
            129342,
            129343,
            129428,
        ]
    )
    values = np.linspace(-0.08, 0.08, len(pixels))
    figure = plots.sky_map(pixels, values, 7, "zeropoint residual [mag]", "All cameras: residual")
    FigureCanvasAgg(figure).draw()
    panels = [axes for axes in figure.axes if axes.get_xlabel() == "right ascension [deg]"]
    assert len(panels) == 2
    for axes in panels:
        low, high = sorted(axes.get_xlim())
        labels = [one for one in axes.get_xticklabels() if low <= one.get_position()[0] <= high]
        boxes = sorted((one.get_window_extent() for one in labels), key=lambda box: box.x0)
        assert len(boxes) >= 2
        assert all(after.x0 - before.x1 > 6.0 for before, after in pairwise(boxes))
