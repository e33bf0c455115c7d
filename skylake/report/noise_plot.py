"""The picture of the scatter of stars within a night by magnitude and flux, beside what theory predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.report.collect import floats
from skylake.report.style import BLUE, GREY, RED, Floats, canvas, draw_note, legend_below
from skylake.table.repeatability import DETECTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = (
    "scatter",
    "scatter_err",
    "photon_err",
    "photon_scale",
    "floor",
    "scintillation",
    "scatter_p2",
    "scatter_p25",
    "scatter_p75",
    "scatter_p98",
)
#: Colour and style of the line of each flux: circles in one style, hybrid fluxes in another.
_LINES = {
    "aper1": ("#c8871e", "--"),
    "aper2": ("#2f8f4e", "--"),
    "aper3": ("#6a4fb0", "--"),
    "hybrid1": ("#c8871e", "-"),
    "hybrid2": ("#2f8f4e", "-"),
    "hybrid3": ("#6a4fb0", "-"),
    "psf": ("#b5346f", "-."),
}


def noise_against_magnitude(rows: pa.Table, title: str) -> Figure:
    """Draw the scatter of stars by magnitude, in each flux.

    In each bin the flux that is recommended there is drawn with the percentiles of its stars (2, 25, 75, 98), what the
    errors of fluxes explain, scintillation, and the model: errors with the factor and the floor that were fitted.
    Of all fluxes the medians are. Several nights are drawn by the median of their bins.

    Parameters
    ----------
    rows : pyarrow.Table
        Of one camera and band, as :func:`repeats_to_draw` gives them.
    title : str
    """
    from matplotlib.ticker import LogFormatter

    best = _best_fluxes(rows)
    names = ", ".join(dict.fromkeys(best.values()))
    with canvas(f"{title}\npoints: {names}" if best else title) as (figure, axes):
        if not best:
            draw_note(
                axes,
                "no stars with five good measurements in a night yet,\non frames that show several",
            )
            return figure
        bins = {flux: _bins(rows, flux) for flux in sorted(set(rows["flux"].to_pylist()))}
        for flux, (mag, found) in bins.items():
            colour, style = _LINES[flux]
            axes.plot(mag, found["scatter"], style, lw=1.0, color=colour, label=flux)
        _draw_best(axes, *_chosen(bins, best))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.5)))
        axes.set_xlabel("magnitude [mag]")
        axes.set_ylabel("scatter of a star [mmag]")
        legend_below(axes, 4)
        return figure


def repeats_to_draw(rows: pa.Table) -> tuple[pa.Table, str]:
    """Return the rows of ``repeatability`` of targets, or of detections if there are no others, and whose they are.

    The names of fluxes have no prefix.
    """
    is_detected = pc.starts_with(rows["flux"], DETECTED)
    forced = rows.filter(pc.invert(is_detected))
    if forced.num_rows:
        return forced, "forced measurements"
    place, field = rows.schema.get_field_index("flux"), rows.schema.field("flux")
    return rows.set_column(place, field, pc.replace_substring(rows["flux"], DETECTED, "")), "detections"


def _best_fluxes(rows: pa.Table) -> dict[float, str]:
    """Return the flux that is recommended for most stars of each bin, by the lower edge of the bin."""
    best = rows.filter(rows["is_recommended"])
    stars = best.group_by(["mag_low", "flux"]).aggregate([("n_stars", "sum")])
    stars = stars.sort_by([("n_stars_sum", "ascending"), ("flux", "descending")])
    chosen = dict(zip(stars["mag_low"].to_pylist(), stars["flux"].to_pylist(), strict=True))
    return dict(sorted(chosen.items()))


def _chosen(
    bins: Mapping[str, tuple[Floats, dict[str, Floats]]], best: Mapping[float, str]
) -> tuple[Floats, dict[str, Floats]]:
    """Return the values of the best flux of each bin, as :func:`_bins` does of one flux."""
    mags: list[float] = []
    values: dict[str, list[float]] = {name: [] for name in _COLUMNS}
    for low, flux in best.items():
        mag, found = bins[flux]
        place = int(np.argmin(np.where(mag > low, mag, np.inf)))
        mags.append(float(mag[place]))
        for name in _COLUMNS:
            values[name].append(float(found[name][place]))
    return np.array(mags), {name: np.array(one) for name, one in values.items()}


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


def _draw_best(axes: Axes, mag: Floats, found: dict[str, Floats]) -> None:
    axes.fill_between(
        mag, found["scatter_p2"], found["scatter_p98"], color=BLUE, alpha=0.10, lw=0, label="2 to 98 %"
    )
    axes.fill_between(
        mag, found["scatter_p25"], found["scatter_p75"], color=BLUE, alpha=0.25, lw=0, label="25 to 75 %"
    )
    axes.errorbar(
        mag,
        found["scatter"],
        found["scatter_err"],
        fmt="o",
        ms=5,
        color=BLUE,
        mec="white",
        mew=0.6,
        capsize=2,
        label="median of the stars",
    )
    axes.plot(mag, found["photon_err"], "--", lw=1.2, color=GREY, label="errors of fluxes")
    model = np.hypot(
        np.nan_to_num(found["photon_scale"], nan=1.0) * found["photon_err"], np.nan_to_num(found["floor"])
    )
    axes.plot(mag, model, "-", lw=1.4, color=RED, label="with fitted factor and floor")
    if np.isfinite(found["scintillation"]).any():
        level = float(np.nanmedian(found["scintillation"]))
        axes.axhline(level, ls=":", lw=1.2, color=GREY, label=f"scintillation, {level:.1f} mmag")
