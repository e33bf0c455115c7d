"""The picture of the scatter of targets within a night by magnitude and flux, beside what theory predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.report.collect import floats
from skylake.report.style import BLUE, GREY, RED, Floats, canvas, draw_note, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = (
    "scatter", "scatter_err", "photon_err", "photon_scale", "floor", "scintillation", "scatter_p2", "scatter_p25",
    "scatter_p75", "scatter_p98",
)  # fmt: skip
_OTHERS = ("#c8a13a", "#5a9367", "#7d6ba0", "#4aa0a8", "#a05a7d", "#9a8f6b")


def noise_against_magnitude(rows: pa.Table, title: str) -> Figure:
    """Draw the scatter of stars by magnitude, in each flux.

    The flux that is recommended for most stars is drawn with the percentiles of its stars (2, 25, 75, 98), what the
    errors of fluxes explain, scintillation, and the model: errors with the factor and the floor that were fitted.
    Of others the medians are. Several nights are drawn by the median of their bins.

    Parameters
    ----------
    rows : pyarrow.Table
        Rows of ``repeatability`` of one camera and band.
    title : str
    """
    from matplotlib.ticker import LogFormatter

    main = _main_flux(rows)
    with canvas(f"{title}\nflux {main}" if main else title) as (figure, axes):
        if main is None:
            draw_note(axes, "no target has five good measurements in a night yet")
            return figure
        fluxes = sorted(set(rows["flux"].to_pylist()) - {main})
        for flux, colour in zip(fluxes, _OTHERS, strict=False):
            mag, found = _bins(rows, flux)
            axes.plot(mag, found["scatter"], "-", lw=0.8, color=colour, alpha=0.8, label=flux)
        _draw_main(axes, *_bins(rows, main))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.5)))
        axes.set_xlabel("magnitude [mag]")
        axes.set_ylabel("scatter of a star [mmag]")
        legend_below(axes, 4)
        return figure


def _main_flux(rows: pa.Table) -> str | None:
    """Return the flux that is recommended for most stars; None without rows."""
    best = rows.filter(rows["is_recommended"])
    if best.num_rows == 0:
        return None
    stars = best.group_by("flux").aggregate([("n_stars", "sum")]).sort_by([("n_stars_sum", "descending")])
    return str(stars["flux"][0].as_py())


def _bins(rows: pa.Table, flux: str) -> tuple[Floats, dict[str, Floats]]:
    """Return the middles of the bins of a flux, and the medians of their columns over the nights, mmag."""
    mine = rows.filter(pc.equal(rows["flux"], flux))
    low, high = floats(mine, "mag_low"), floats(mine, "mag_high")
    edges, bin_ = np.unique(low, return_inverse=True)
    found = {name: floats(mine, name) for name in _COLUMNS}
    number = range(len(edges))

    def median(values: Floats) -> Floats:
        pieces = [values[bin_ == one] for one in number]
        return np.array(
            [np.median(one[np.isfinite(one)]) if np.isfinite(one).any() else np.nan for one in pieces]
        )

    scaled = {
        name: median(values) * (1.0 if name == "photon_scale" else 1e3) for name, values in found.items()
    }
    return median(0.5 * (low + high)), scaled


def _draw_main(axes: Axes, mag: Floats, found: dict[str, Floats]) -> None:
    axes.fill_between(
        mag, found["scatter_p2"], found["scatter_p98"], color=BLUE, alpha=0.10, lw=0, label="2 to 98 %"
    )
    axes.fill_between(
        mag, found["scatter_p25"], found["scatter_p75"], color=BLUE, alpha=0.25, lw=0, label="25 to 75 %"
    )
    axes.errorbar(
        mag, found["scatter"], found["scatter_err"], fmt="o", ms=5, color=BLUE, mec="white", mew=0.6, capsize=2,
        label="median of the stars",
    )  # fmt: skip
    axes.plot(mag, found["photon_err"], "--", lw=1.2, color=GREY, label="errors of fluxes")
    model = np.hypot(
        np.nan_to_num(found["photon_scale"], nan=1.0) * found["photon_err"], np.nan_to_num(found["floor"])
    )
    floor = float(np.nanmedian(found["floor"])) if np.isfinite(found["floor"]).any() else 0.0
    axes.plot(mag, model, "-", lw=1.4, color=RED, label=f"predicted, floor of {floor:.1f} mmag")
    if np.isfinite(found["scintillation"]).any():
        level = float(np.nanmedian(found["scintillation"]))
        axes.axhline(level, ls=":", lw=1.2, color=GREY, label=f"scintillation, {level:.1f} mmag")
