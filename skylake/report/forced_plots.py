"""Pictures of forced photometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skylake.report.style import BLUE, RED, Floats, canvas, draw_note, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Light curves of fewer clean measurements give no scatter.
_MIN_POINTS = 4
_BIN_MAG = 0.5
#: Fewer light curves show nothing of how scatter depends on magnitude.
LEAST_CURVES = 10
#: Light curves that a bin needs.
_PER_BIN = 5


def scatter_against_magnitude(
    mag: Floats, random_err: Floats, scatter: Floats, n_clean: Floats, camera: str
) -> Figure:
    """Draw the scatter of light curves against their magnitude, with the scatter expected from random errors.

    Parameters
    ----------
    mag, random_err : ndarray, shape (n,)
        Magnitude of the mean flux, and its error without what all measurements of the star share, which scatters none
        of them; NaN for a mean flux that is not positive.
    scatter : ndarray, shape (n,)
        Robust scatter of the measurements, mag.
    n_clean : ndarray, shape (n,)
        Measurements behind them.
    camera : str
    """
    with canvas(f"{camera}: repeatability of forced photometry") as (figure, axes):
        known = np.isfinite(mag) & (scatter > 0.0) & (n_clean >= _MIN_POINTS)
        if not known.any():
            draw_note(axes, "no target has measurements enough yet")
            return figure
        m, s, single = mag[known], scatter[known], (random_err * np.sqrt(n_clean))[known]
        axes.plot(m, s, ".", ms=2.5, color=BLUE, alpha=0.4, rasterized=True, label=f"{m.size} light curves")
        number = np.floor(m / _BIN_MAG).astype(int)
        bins = [
            bin_number
            for bin_number in np.unique(number)
            if np.count_nonzero(number == bin_number) >= _PER_BIN
        ]
        middle = [float(np.median(m[number == one])) for one in bins]
        axes.plot(middle, [np.median(s[number == one]) for one in bins], "o", ms=5, color=RED, label="median")
        expected = [np.median(single[number == one]) for one in bins]
        axes.plot(middle, expected, "-", lw=1.2, color=RED, label="expected from random errors")
        axes.set_yscale("log")
        axes.set_xlabel("magnitude of the mean flux [mag]")
        axes.set_ylabel("robust scatter [mag]")
        legend_below(axes, 3)
        return figure
