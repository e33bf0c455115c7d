"""Check plots of single frames hide nothing of what they show."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from skylake.core.flags import SourceFlag
from skylake.report.checkplot import annotated_frame, background_maps, completeness_curve


@pytest.mark.parametrize("shape", [(240, 320), (240, 240), (120, 400)])
@pytest.mark.parametrize("picture", ["background", "frame", "completeness"])
def test_the_legend_stands_below_the_picture(picture: str, shape: tuple[int, int]) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    if picture == "background":
        figure = background_maps(30.0 + x / 100.0, 2.0 + y / 100.0, "a frame: background")
    elif picture == "frame":
        place, flags = np.array([20.0, 90.0]), np.array([0, SourceFlag.STREAK], np.int32)
        figure = annotated_frame(x, 2.0, place, place, flags, 6.0, "a frame", [(0.0, 9.0, 99.0, 95.0)])
    else:
        flux, share = np.geomspace(1e2, 1e4, 9), np.linspace(0.0, 1.0, 9)
        limits = {
            "half of the bright stars' share": (1e3, 50.0),
            "S/N of 5 over the noise of the sky": (7e2, np.nan),
        }
        figure = completeness_curve(flux, share, share, share, limits, "a frame: completeness")
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    (legend,) = figure.legends
    assert len(legend.get_texts()) == {"background": 1, "frame": 4, "completeness": 3}[picture]
    box, label = legend.get_window_extent(), axes.xaxis.label.get_window_extent()
    assert box.y1 < axes.get_window_extent().y0 and box.y0 >= 0.0
    assert box.y1 < label.y0 or box.x1 < label.x0, "it does not cover the label of the axis"
    assert box.x1 <= figure.bbox.x1, "nothing of it is cut off"


def test_sources_of_a_rejected_frame_are_shown_as_what_they_are() -> None:
    """The frame was rejected, which its sources are not to blame for."""
    flags = np.array([0, SourceFlag.BLENDED, SourceFlag.EDGE, SourceFlag.STREAK], np.int32)
    place = np.array([10.0, 30.0, 1.0, 50.0])
    for rejected in (0, int(SourceFlag.FRAME_REJECTED)):
        figure = annotated_frame(
            np.zeros((64, 64), np.float32), 2.0, place, place, flags | rejected, 6.0, "a frame"
        )
        texts = [text.get_text().rpartition(": ") for text in figure.legends[0].get_texts()]
        assert [(kind.partition(":")[0], int(count)) for kind, _, count in texts] == [
            ("clean", 1), ("blended", 1), ("spoiled", 1), ("on a trail", 1),
        ]  # fmt: skip
