"""Plots of the shape of stars over the field and with time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from skylake.report.style import Floats, canvas, dates, draw_note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Columns of ``frames`` that the picture shows, by cell from the first pixel along x, then y.
FWHM_COLUMNS = tuple(f"fwhm_cell{number}_px" for number in range(1, 10))
ELLIPTICITY_COLUMNS = tuple(f"ellipticity_cell{number}" for number in range(1, 10))
#: Spans of time side by side, at most.
_MOST_SPANS = 6
#: Side of a map, at most.
_LARGEST_INCHES = 2.2
#: How bright red, green and blue are to the eye, and from what brightness on black is read better than white.
_LUMINANCE = (0.2126, 0.7152, 0.0722)
_BRIGHT = 0.45


def cells_over_time(mjd: Floats, fwhm: Floats, ellipticity: Floats, uneven: Floats, camera: str) -> Figure:
    """Draw maps of 3 x 3 cells for spans of time: the width of stars above, their ellipticity below.

    Parameters
    ----------
    mjd : ndarray, shape (n,)
        Times of frames.
    fwhm, ellipticity : ndarray, shape (n, 9)
        Of their cells; NaN where not known.
    uneven : ndarray, shape (n,)
        Cells of each frame that stand out.
    camera : str
    """
    title = f"{camera}: images of stars over the field"
    with canvas(title, (8.0, 4.5)) as (figure, axes):
        known = np.asarray(np.isfinite(np.hstack([fwhm, ellipticity])).any(axis=1))
        if not known.any():
            draw_note(axes, "no frame has stars enough in its cells")
            return figure
        spans = [rows[known[rows]] for rows in _spans(mjd) if known[rows].any()]
        figure.delaxes(axes)
        # Maps are square: a figure that is higher would hold empty space between them.
        figure.set_size_inches(8.0, 2.0 * min(6.4 / len(spans), _LARGEST_INCHES) + 1.2)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        grid = figure.subplots(2, len(spans), squeeze=False)
        for line, (values, label, form) in enumerate(
            ((fwhm, "FWHM [px]", "{:.2f}"), (ellipticity, "ellipticity", "{:.3f}"))
        ):
            maps = [_medians(values[rows]).reshape(3, 3) for rows in spans]
            shown = _draw_line(grid[line], maps, form)
            figure.colorbar(shown, ax=grid[line].tolist(), label=f"median {label}", shrink=0.9)
        for place, rows in enumerate(spans):
            share = float(np.mean(np.nan_to_num(uneven[rows]) > 0))
            grid[0, place].set_title(_when(mjd[rows]), fontsize=9, fontweight="normal")
            frames = "1 frame" if rows.size == 1 else f"{rows.size} frames"
            grid[1, place].set_xlabel(f"{frames},\n{share:.0%} uneven", fontsize=9)
        return figure


def _spans(mjd: Floats) -> list[npt.NDArray[np.intp]]:
    """Return the rows of spans of time that hold about as many frames each, the earliest first."""
    order = np.argsort(mjd, kind="stable")
    return [rows for rows in np.array_split(order, _MOST_SPANS) if rows.size]


def _medians(values: Floats) -> Floats:
    """Return the median of each column, NaN for one that holds nothing."""
    medians = np.full(values.shape[1], np.nan)
    for column in range(values.shape[1]):
        some = values[np.isfinite(values[:, column]), column]
        medians[column] = np.median(some) if some.size else np.nan
    return medians


def _draw_line(panels: npt.NDArray[np.object_], maps: list[Floats], form: str) -> Any:
    """Draw maps beside each other in one scale of colours, each cell with its number; return one of them."""
    together = np.concatenate([one.ravel() for one in maps])
    some = together[np.isfinite(together)]
    low, high = (float(some.min()), float(some.max())) if some.size else (0.0, 1.0)
    shown = None
    for axes, cells in zip(panels, maps, strict=True):
        shown = axes.imshow(cells, origin="lower", cmap="viridis", vmin=low, vmax=max(high, low + 1e-6))
        axes.set_facecolor("#dddddd")
        for row, column in np.argwhere(np.isfinite(cells)):
            bright = float(np.dot(_LUMINANCE, shown.to_rgba(cells[row, column])[:3]))
            colour = "black" if bright > _BRIGHT else "white"
            text = form.format(cells[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
    return shown


def _when(mjd: Floats) -> str:
    """Return the time of some frames in two lines, by hours where they are of one day."""
    first, last = dates([float(mjd.min()), float(mjd.max())])
    if f"{first:%Y-%m-%d %H:%M}" == f"{last:%Y-%m-%d %H:%M}":
        return f"{first:%Y-%m-%d}\n{first:%H:%M}"
    if first.date() == last.date():
        return f"{first:%Y-%m-%d}\n{first:%H:%M} to {last:%H:%M}"
    return f"{first:%Y-%m-%d}\nto {last:%Y-%m-%d}"
