"""Check plots of single frames hide nothing of what they show."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from skylake.report.checkplot import background_maps


def test_the_legend_of_the_background_stands_below_the_map() -> None:
    y, x = np.mgrid[:240, :320].astype(np.float32)
    figure = background_maps(30.0 + x / 100.0, 2.0 + y / 100.0, "a frame: background")
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["noise per pixel [ADU]"]
    box, label = legend.get_window_extent(), axes.xaxis.label.get_window_extent()
    assert box.y1 < axes.get_window_extent().y0 and box.y0 >= 0.0
    assert box.y1 < label.y0 or box.x1 < label.x0, "it does not cover the label of the axis"
