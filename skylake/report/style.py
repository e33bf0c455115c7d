"""The common style of all plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from skylake.durable import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

BLUE, RED, GREY = "#1f5f99", "#b5442e", "#8a8f94"
_SETTINGS: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "svg.hashsalt": "skylake",
}
#: Metadata of matplotlib with its version and the time; without it the same picture has the same bytes.
_METADATA = {
    ".png": ("Software",),
    ".svg": ("Date", "Creator"),
    ".pdf": ("CreationDate", "Creator", "Producer"),
}
_EPOCH = datetime(1858, 11, 17)


@contextmanager
def canvas(title: str, size: tuple[float, float] = (8.0, 4.5)) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure with one pair of axes in the common style."""
    from matplotlib.figure import Figure

    with _settings():
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left")
        yield figure, axes


@contextmanager
def _settings() -> Iterator[None]:
    """Use the settings of the common style, and those of matplotlib elsewhere.

    A file matplotlibrc in the current folder, which may be of somebody else, could have LaTeX run.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def save(figure: Figure, path: Path, more: Mapping[str, str] | None = None) -> None:
    """Write a figure, with more texts in its metadata; the format follows from the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {**dict.fromkeys(_METADATA.get(path.suffix, ())), **(more or {})}
    with _settings(), replacing(path, durable=False) as stream:
        figure.savefig(stream, format=path.suffix.removeprefix("."), metadata=metadata)


def dates(mjd: npt.ArrayLike) -> Any:
    """Return Modified Julian Dates as calendar dates, UTC."""
    return [_EPOCH + timedelta(days=float(value)) for value in np.atleast_1d(np.asarray(mjd, float))]


def faint_down(axes: Axes) -> None:
    """Let magnitudes grow downwards."""
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def dot_size(number: int) -> float:
    """Return the size of the dots of a picture: of few points each is to be seen, of many their density."""
    return 8.0 if number < 500 else 4.0 if number < 3000 else 3.0


def legend_below(axes: Axes, columns: int = 2) -> None:
    """Put the legend under the axes and their label, where it hides nothing."""
    # As far below the axes as the label needs, however high these are: in units of the size of letters.
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.0), borderaxespad=3.0, ncols=columns, frameon=False)


def label_times(axes: Axes) -> None:
    """Label the time axis by hours within a night, by dates over nights."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def draw_note(axes: Axes, text: str) -> None:
    """Write into empty axes why they are empty."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_medians(
    axes: Axes, points: tuple[Floats, Floats, Floats], size: float, colour: str, label: str
) -> None:
    """Draw medians over single points: their places, values and errors, shape (n,) each."""
    axes.errorbar(*points, fmt="o", ms=size, color=colour, mec="white", mew=0.6, capsize=2, label=label)
