"""The plot of a photon transfer: noise and response against signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from skylake.report.style import BLUE, GREY, RED, Floats, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = 5.4
#: Points that are closer to each other than this part of the brightest signal are one for the curve through the fit.
_ALIKE = 0.01
_CURVE_POINTS = 200
#: Values below this power of ten are written with it.
_TINY_POWER = -3


def transfer_picture(
    row: Mapping[str, Any], tables: Mapping[str, Mapping[str, Floats]], title: str
) -> Figure:
    """Draw the variance of pixels against their signal with the fit of gain and read noise, and what is left of it.

    If flats of several exposures gave the response, it is drawn at the side with the curve of c2. Errors, residuals
    and response that an older file lacks are left out.

    Parameters
    ----------
    row : mapping
        Of ``masters``: ``gain_e_per_adu`` and ``read_noise_e`` (electrons), ``linearity_c2`` (per ADU), and errors;
        None where they are not known.
    tables : mapping
        As the file of the photon transfer has them.
    title : str
    """
    response = tables.get("LINEARITY")
    panels = 1 if response is None else 2
    with canvas(title, (_INCHES * panels + 0.6, 5.6)) as (figure, axes):
        figure.delaxes(axes)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        grid = figure.subplots(2, panels, squeeze=False, sharex="col", height_ratios=(2.4, 1.0))
        _draw_noise(grid[0, 0], grid[1, 0], row, tables)
        if response is not None:
            _draw_response(grid[0, 1], grid[1, 1], row, response)
        for below in grid[1]:
            below.set_xlabel("signal above bias [ADU]")
        return figure


def _draw_noise(
    above: Axes, below: Axes, row: Mapping[str, Any], tables: Mapping[str, Mapping[str, Floats]]
) -> None:
    gain, read = row["gain_e_per_adu"], row["read_noise_e"]
    # Variance of a pixel without light, ADU^2.
    dark = None if read is None else (read / gain) ** 2
    has_tiles = "TILES" in tables
    points = tables["TILES" if has_tiles else "TRANSFER"]
    level, variance = points["LEVEL"], points["VARIANCE"]
    error = points["VARIANCE_ERR"] if has_tiles else np.zeros(len(level))
    fitted = points["FIT"] if has_tiles else (dark or 0.0) + level / gain
    label = "tiles of like signal" if has_tiles else "pairs of flats"
    _draw_points(above, level, variance, error, label)
    text = f"gain {_with_error(row, 'gain_e_per_adu', 'gain_err')} electrons/ADU"
    if read is not None:
        text += f"\nread noise {_with_error(row, 'read_noise_e', 'read_noise_err')} electrons"
    above.plot(*_curve(level, fitted, dark), "-", color=RED, lw=1.3, label=text)
    above.set_ylabel("variance of a pixel [ADU$^2$]")
    above.legend(loc="upper left", fontsize=8)
    _draw_left(below, level, 100.0 * (variance / fitted - 1.0), 100.0 * error / fitted)
    below.set_ylabel("variance less fit [%]")


def _draw_response(above: Axes, below: Axes, row: Mapping[str, Any], response: Mapping[str, Floats]) -> None:
    level, ratio, error, fitted = (response[name] for name in ("LEVEL", "RATIO", "RATIO_ERR", "FIT"))
    _draw_points(above, level, ratio, error, "flats of a steady lamp")
    text = f"c2 {_with_error(row, 'linearity_c2', 'linearity_c2_err')} per ADU"
    above.plot(*_curve(level, fitted, 1.0), "-", color=RED, lw=1.3, label=text)
    above.axhline(1.0, color=GREY, lw=0.8, label="linear")
    above.set_ylabel("ADU per second over those of faint light")
    above.legend(loc="best", fontsize=8)
    _draw_left(below, level, 100.0 * (ratio / fitted - 1.0), 100.0 * error / fitted)
    below.set_ylabel("response less fit [%]")


def _draw_points(axes: Axes, x: Floats, y: Floats, error: Floats, label: str) -> None:
    axes.errorbar(x, y, error, fmt="o", ms=3.5, lw=0.9, color=BLUE, label=label, zorder=3)


def _draw_left(axes: Axes, level: Floats, left: Floats, error: Floats) -> None:
    """Draw residuals about a line at zero."""
    axes.axhline(0.0, color=RED, lw=1.0)
    _draw_points(axes, level, left, error, "residuals")
    axes.set_xlim(min(0.0, float(np.nanmin(level))), 1.04 * float(np.nanmax(level)))


def _curve(level: Floats, fitted: Floats, start: float | None) -> tuple[Floats, Floats]:
    """Return a smooth curve through what a fit makes of some levels, from what it is without a signal if known."""
    from scipy.interpolate import PchipInterpolator

    known = np.isfinite(level) & np.isfinite(fitted)
    if start is not None:
        # Noise may put the faintest flats below the level of no light.
        known &= level > 0.0
    if not known.any():
        return np.zeros(0), np.zeros(0)
    level, fitted = level[known], fitted[known]
    order = np.argsort(level, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(level[order]) > _ALIKE * level.max()) + 1)
    first = [] if start is None else [start]
    x = np.array([*np.zeros(len(first)), *(level[some].mean() for some in pieces)])
    y = np.array([*first, *(fitted[some].mean() for some in pieces)])
    if len(x) == 1:
        return x, y
    along = np.linspace(x[0], x[-1], _CURVE_POINTS)
    return along, np.asarray(PchipInterpolator(x, y)(along))


def _with_error(row: Mapping[str, Any], name: str, error: str) -> str:
    """Return a value with its error to two digits of the error, of tiny ones with their power of ten."""
    value, spread = row[name], row[error]
    if spread is None or not spread > 0.0:
        return f"{value:.4g}"
    power = int(np.floor(np.log10(max(abs(value), spread))))
    power = power if power < _TINY_POWER else 0
    value, spread = value / 10.0**power, spread / 10.0**power
    decimals = max(0, 1 - int(np.floor(np.log10(spread))))
    text = f"{value:.{decimals}f} ± {spread:.{decimals}f}"
    return f"({text}) $10^{{{power}}}$" if power else text
