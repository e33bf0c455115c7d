"""Check plots show what the pixels are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skylake.core.flags import PixelFlag
from skylake.report.master_plot import mask_picture, master_picture, pixel_histogram
from skylake.report.style import save

RANDOM = np.random.default_rng(6)


def test_a_master_is_shown_with_the_histogram_of_its_pixels(tmp_path: Path) -> None:
    pixels = RANDOM.normal(300.0, 2.0, (60, 90)).astype(np.float32)
    pixels[10, 20], pixels[11] = 9000.0, np.nan
    figure = master_picture(pixels, np.full((60, 90), 0.7, np.float32), "bias [ADU]", "cam: a bias")
    picture, histogram = figure.axes[:2]
    (image,) = picture.images
    assert image.get_array().shape == (60, 90) and image.origin == "lower"
    low, high = image.get_clim()
    assert 290.0 < low < high < 310.0, "an outlier does not spoil the colours"
    texts = [text.get_text() for text in histogram.get_legend().get_texts()]
    assert any("1 beyond" in text for text in texts) and any(
        "error of a pixel: 0.7" in text for text in texts
    )
    assert histogram.get_xlabel() == "bias [ADU]"
    save(figure, tmp_path / "bias.png")
    assert (tmp_path / "bias.png").stat().st_size > 5000


def test_bad_pixels_of_a_master_have_circles() -> None:
    """They are single pixels of a million, which a picture does not show."""
    pixels = RANDOM.normal(300.0, 2.0, (60, 90)).astype(np.float32)
    pixels[10, 20], pixels[40, 70] = 9000.0, 100.0
    bad = np.zeros(pixels.shape, np.uint8)
    bad[10, 20], bad[5, 6] = PixelFlag.HOT, PixelFlag.UNSTABLE
    picture = master_picture(pixels, None, "dark [ADU]", "cam: a dark", bad).axes[0]
    texts = [text.get_text() for text in picture.get_legend().get_texts()]
    assert texts == ["hot: 1", "unstable: 1", "others, more than 8 x the scatter off those near them: 1"]
    circles = {line.get_label(): line.get_xydata().tolist() for line in picture.lines}
    assert [circles[text] for text in texts] == [[[20.0, 10.0]], [[6.0, 5.0]], [[70.0, 40.0]]]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_master_without_any_spread_makes_a_picture(value: float, tmp_path: Path) -> None:
    plane = np.full((20, 30), value, np.float32)
    save(master_picture(plane, None, "bias [ADU]", "cam: flat as a board"), tmp_path / "bias.png")
    assert (tmp_path / "bias.png").read_bytes().startswith(b"\x89PNG")


def test_bad_pixels_are_counted_by_their_kind(tmp_path: Path) -> None:
    mask = np.zeros((50, 50), np.uint8)
    mask[3], mask[:, 7], mask[20, 20] = PixelFlag.HOT, PixelFlag.DEAD, PixelFlag.HOT | PixelFlag.UNSTABLE
    figure = mask_picture(mask, "cam: a mask")
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["hot: 50", "dead: 50", "unstable: 1"]
    save(figure, tmp_path / "mask.png")
    assert (tmp_path / "mask.png").stat().st_size > 3000


def test_pixels_of_the_sky_follow_the_curve_of_their_noise() -> None:
    figure = pixel_histogram(RANDOM.normal(0.0, 12.0, (200, 200)).astype(np.float32), 12.0, "a frame")
    axes = figure.axes[0]
    (curve,) = axes.lines
    x, y = curve.get_data()
    counts, edges, _ = axes.patches[0].get_data()
    expected = np.interp(0.5 * (edges[1:] + edges[:-1]), x, y)
    near = expected > 100.0
    assert counts[near] == pytest.approx(expected[near], rel=0.5)
    assert counts[near].sum() == pytest.approx(expected[near].sum(), rel=0.03)
