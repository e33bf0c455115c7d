"""Maps of cells show each span of time with its medians, and say where nothing is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skylake.report.cell_plots import cells_over_time
from skylake.report.style import save


def test_each_span_of_time_shows_the_medians_of_its_frames(tmp_path: Path) -> None:
    mjd = 60500.0 + np.repeat(np.arange(6), 10) + np.tile(np.arange(10), 6) / 100.0
    fwhm = 2.0 + np.repeat(np.arange(6), 10)[:, None] + np.arange(9) / 100.0
    length = np.full((60, 9), 0.02)
    length[50:, 4] = np.nan
    figure = cells_over_time(mjd, fwhm, length, (np.arange(60) >= 55).astype(float), "cam")
    panels = [axes for axes in figure.axes if axes.images]
    above, below = panels[:6], panels[6:12]
    assert len(below) == 6
    for span, axes in enumerate(above):
        shown = np.asarray(axes.images[0].get_array())
        np.testing.assert_allclose(shown, 2.0 + span + np.arange(9).reshape(3, 3) / 100.0)
    assert above[0].texts[0].get_text() == "2.00" and len(below[5].texts) == 8
    assert "50% uneven" in below[5].get_xlabel() and "0% uneven" in below[0].get_xlabel()
    save(figure, tmp_path / "cells.png")
    assert (tmp_path / "cells.png").stat().st_size > 5000


def test_no_cells_are_reported() -> None:
    nothing = np.full((3, 9), np.nan)
    figure = cells_over_time(np.arange(3.0), nothing, nothing, np.zeros(3), "cam")
    assert "no frame has stars enough" in figure.axes[0].texts[0].get_text()


def test_a_span_of_one_frame_has_one_time_and_legible_numbers() -> None:
    fwhm = np.linspace(2.0, 4.0, 9)[None, :]
    figure = cells_over_time(np.array([60500.0]), fwhm, fwhm / 10.0, np.zeros(1), "cam")
    above = figure.axes[0]
    assert above.get_title() == "2024-07-09\n00:00"
    (shown,) = above.images
    for text, value in zip(above.texts, fwhm[0], strict=True):
        ground = float(np.dot([0.2126, 0.7152, 0.0722], shown.to_rgba(value)[:3]))
        assert abs((text.get_color() == "white") - ground) > 0.44
