"""The picture of a light curve: against time or phase, with bins, residuals and a check star."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.calibrated_forced import DETECTED_SNR
from skylake.core.flags import SPOILED
from skylake.report import plots
from skylake.report.stars.time_bins import phase_of
from skylake.report.style import GREY, RED, Floats, canvas, draw_note, faint_down

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Longer identifiers are not in the title of a picture.
_TITLE_DIGITS = 10
#: Kinds of points of a light curve, and their name in its title.
_MEASURED = {"forced": "forced measurements", "detected": "detections", "relative": "relative magnitudes"}
_MEASURED_TITLE = {
    "forced": "forced photometry",
    "detected": "its detections",
    "relative": "relative to its field",
}
#: Phases that are drawn: what is at phase 0 is seen as a whole, and so is what is at 0.5.
_PHASES = (-0.5, 1.0)
#: The axis goes on by this, so that points at its ends are seen whole.
_MARGIN = 0.02
#: Points that are all within this phase of the epoch are of one event.
_AROUND_EVENT = 0.35
#: Points behind their means.
_PALE = 0.35
_HEIGHTS = {"curve": 3.0, "residuals": 1.3, "check": 1.3}
#: A panel of residuals needs so many points in a bin, in the middle.
_LEAST_IN_BIN = 3
#: Axes of a check star show at least so many magnitudes.
_LEAST_SPAN_MAG = 0.04
_BIN_COLOUR = "#16202a"


@dataclass(frozen=True, slots=True)
class Fold:
    """A period and the time of phase 0.

    Attributes
    ----------
    period_d : float
        Days.
    epoch_bjd : float
        BJD (TDB).
    """

    period_d: float
    epoch_bjd: float


def star_figure(
    curve: dict[str, Any],
    fold: Fold | None = None,
    bins: pa.Table | None = None,
    check: dict[str, Any] | None = None,
) -> Figure:
    """Return the picture of a light curve, with panels below for what is given.

    Parameters
    ----------
    curve : dict
        As :func:`skylake.report.curves.curve_of_object` gives it.
    fold : Fold or None
        Draws against phase.
    bins : pyarrow.Table or None
        From :func:`skylake.report.stars.time_bins.binned`: drawn over the points, which a
        panel has minus the line through the bins.
    check : dict or None
        The light curve of a constant star, drawn in a panel of its own.
    """
    if fold is None and bins is None and check is None:
        return curve_figure(curve)
    values = _values(curve)
    panels = ["curve"]
    has_residuals = bins is not None and bins.num_rows and np.median(bins["n_points"]) >= _LEAST_IN_BIN
    panels += ["residuals"] * bool(has_residuals) + ["check"] * (check is not None)
    with canvas(_title(curve, values)) as (figure, axes):
        if not (np.isfinite(values.mag) | np.isfinite(values.limit)).any():
            draw_note(axes, "the star has no calibrated magnitude")
            return figure
        start = float(np.floor(np.nanmin(values.bjd)))
        each = _panels(figure, axes, panels)
        _draw_curve(each["curve"], values, bins, fold, start)
        if has_residuals and bins is not None:
            _draw_residuals(each["residuals"], values, bins, fold, start)
        if check is not None:
            _draw_check(each["check"], check, values, fold, start)
        _label_last(each[panels[-1]], values.bjd, fold, start)
        # Below all panels, where it covers nothing.
        figure.legend(loc="outside lower left", ncols=2, fontsize=8, frameon=False)
        figure.align_ylabels()
        return figure


def _panels(figure: Figure, axes: Axes, names: list[str]) -> dict[str, Axes]:
    """Return axes above each other with a common horizontal axis; the first has the title."""
    title = axes.get_title("left")
    figure.delaxes(axes)
    heights = [_HEIGHTS[name] for name in names]
    figure.set_size_inches(8.0, sum(heights) + 1.5)
    made = figure.subplots(len(names), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    made[0].set_title(title, loc="left")
    return dict(zip(names, made, strict=True))


@dataclass(frozen=True, slots=True)
class _Values:
    """The points of a light curve as arrays of shape (n,)."""

    bjd: Floats
    mag: Floats
    error: Floats
    shared: Floats
    band: npt.NDArray[np.object_]
    spoiled: npt.NDArray[np.bool_]
    limit: Floats
    measured: str

    def at(self, place: Floats, rows: npt.NDArray[np.intp]) -> plots.Magnitudes:
        """Return some points as they are drawn at some places."""
        return plots.Magnitudes(
            place,
            self.mag[rows],
            self.error[rows],
            self.spoiled[rows],
            self.band[rows],
            self.limit[rows],
            self.measured,
        )


def _values(curve: dict[str, Any]) -> _Values:
    points = curve["points"]
    mag, mag_err, random_err, shared, bjd = (
        np.array([np.nan if point.get(name) is None else point[name] for point in points], float)
        for name in ("mag", "mag_err", "mag_random_err", "mag_systematic_err", "bjd_tdb")
    )
    return _Values(
        bjd,
        mag,
        # An error that all points share moves them together, and would hide small differences.
        np.where(np.isfinite(random_err), random_err, mag_err),
        shared,
        np.array([point["band"] or "instrumental" for point in points], object),
        np.array([(point["flags"] & int(SPOILED)) != 0 for point in points], bool),
        np.array([_limit(point) for point in points], float),
        _MEASURED[curve["measured"]],
    )


def _draw_curve(axes: Axes, values: _Values, bins: pa.Table | None, fold: Fold | None, start: float) -> None:
    """Draw the points, and bins over them."""
    place, rows = _places(values.bjd, fold, start)
    n, alpha, names = len(values.bjd), 1.0 if bins is None else _PALE, set[str]()
    # What is drawn at a second phase is counted once.
    for some, has_labels in ((slice(0, n), True), (slice(n, None), False)):
        shown = values.at(place[some], rows[some])
        names.update(plots.draw_magnitudes(axes, shown, alpha, has_labels))
    axes.set_ylabel(f"{', '.join(sorted(names))} [mag]")
    if bins is not None and bins.num_rows:
        at, which = _places(bins["bjd_tdb"].to_numpy(), fold, start, _phase_column(bins))
        mag, error = (bins[name].to_numpy(zero_copy_only=False)[which] for name in ("mag", "mag_random_err"))
        label = f"means of {bins.num_rows} bins"
        axes.errorbar(at, mag, error, fmt="s", ms=4.5, lw=1.1, color=_BIN_COLOUR, zorder=3, label=label)


def _places(
    bjd: Floats, fold: Fold | None, start: float, phase: Floats | None = None
) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return where points are on the horizontal axis, and which point each is: phases may be seen twice."""
    rows = np.arange(len(bjd))
    if fold is None:
        return bjd - start, rows
    once = phase_of(bjd, fold.period_d, fold.epoch_bjd) if phase is None else phase
    again = np.flatnonzero(once >= 1.0 + _PHASES[0])
    return np.concatenate([once, once[again] - 1.0]), np.concatenate([rows, again])


def _phase_column(bins: pa.Table) -> Floats | None:
    return np.asarray(bins["phase"].to_numpy(), float) if "phase" in bins.column_names else None


def _draw_residuals(axes: Axes, values: _Values, bins: pa.Table, fold: Fold | None, start: float) -> None:
    """Draw points minus the line that joins the means of bins, band by band."""
    residual = np.full(len(values.mag), np.nan)
    bands = np.asarray(bins["band"].to_pylist(), object)
    phase = _phase_column(bins)
    at = np.asarray(bins["bjd_tdb"].to_numpy() - start if fold is None or phase is None else phase, float)
    place = values.bjd - start if fold is None else phase_of(values.bjd, fold.period_d, fold.epoch_bjd)
    for name in sorted(set(bands.tolist())):
        mine, model = values.band == name, bands == name
        means = bins["mag"].to_numpy(zero_copy_only=False)[model]
        known = np.isfinite(means)
        residual[mine] = values.mag[mine] - np.interp(
            place[mine], at[model][known], means[known], period=None if fold is None else 1.0
        )
    drawn, rows = _places(values.bjd, fold, start)
    good = ~values.spoiled[rows] & np.isfinite(residual[rows])
    colours = dict(zip(sorted(set(values.band.tolist())), plots.BAND_COLOURS * 9, strict=False))
    for name, colour in colours.items():
        some = good & (values.band[rows] == name)
        axes.errorbar(
            drawn[some],
            1000.0 * residual[rows][some],
            1000.0 * values.error[rows][some],
            fmt="o",
            ms=2.5,
            lw=0.7,
            color=colour,
        )
    axes.axhline(0.0, color=GREY, lw=0.8)
    faint_down(axes)
    axes.set_ylabel("minus line\nof bins\n[mmag]")


def _draw_check(axes: Axes, check: dict[str, Any], values: _Values, fold: Fold | None, start: float) -> None:
    """Draw a constant star over the times of the other one."""
    other = _values(check)
    good = np.isfinite(other.mag) & ~other.spoiled
    good &= (other.bjd >= np.nanmin(values.bjd) - 0.01) & (other.bjd <= np.nanmax(values.bjd) + 0.01)
    place, rows = _places(other.bjd[good], fold, start)
    mag, error = other.mag[good][rows], other.error[good][rows]
    level = float(np.median(mag)) if len(mag) else 0.0
    scatter = 1.4826 * float(np.median(np.abs(mag - level))) if len(mag) else 0.0
    name = f"check star {check['object_id']} of {check['catalog']}"
    label = f"{name}: {level:.3f} mag, scatter {1000.0 * scatter:.1f} mmag"
    axes.errorbar(place, mag, error, fmt="o", ms=3, lw=0.8, color=RED, label=label)
    low, high = axes.get_ylim()
    missing = max(_LEAST_SPAN_MAG - (high - low), 0.0) / 2.0
    axes.set_ylim(low - missing, high + missing)
    faint_down(axes)
    axes.set_ylabel("check\nstar [mag]")


def _label_last(axes: Axes, bjd: Floats, fold: Fold | None, start: float) -> None:
    if fold is None:
        axes.set_xlabel(f"BJD (TDB) - {start:.0f} [d]")
        return
    phase = phase_of(bjd, fold.period_d, fold.epoch_bjd)
    farthest = float(np.nanmax(np.abs(np.where(phase > 0.5, phase - 1.0, phase))))
    # Measurements around one event, as a transit, fill the picture.
    low, high = _PHASES[0] - _MARGIN, _PHASES[1] + _MARGIN
    axes.set_xlim(*((-1.1 * farthest, 1.1 * farthest) if farthest < _AROUND_EVENT else (low, high)))
    axes.set_xlabel(f"phase; period {fold.period_d:.7g} d, phase 0 at BJD (TDB) {fold.epoch_bjd:.5f}")


def curve_figure(curve: dict[str, Any]) -> Figure:
    """Return the picture of a light curve as :func:`skylake.report.curves.curve_of_object` gives it."""
    values = _values(curve)
    return plots.lightcurve(
        values.bjd,
        values.mag,
        values.error,
        values.spoiled,
        values.band,
        _title(curve, values),
        values.limit,
        values.measured,
    )


def _title(curve: dict[str, Any], values: _Values) -> str:
    # A target that no catalog has is of the catalog of detections.
    whose = {"detections": "target", "sources": "star"}.get(curve["catalog"], curve["catalog"])
    number = str(curve["object_id"])
    # A long identifier would fill the title, and the position names the star as well.
    name = (
        f"{whose} {number}"
        if len(number) <= _TITLE_DIGITS
        else f"star of {whose}"
        if whose == curve["catalog"]
        else whose
    )
    title = f"{name} at {curve['ra_deg']:.5f} {curve['dec_deg']:+.5f} deg"
    shared = _shared_error(values.band, values.shared)
    methods = sorted({band["detrended"] for band in curve.get("detrended", ())})
    detrended = f", {' and '.join(methods)} magnitudes" if methods else ""
    return f"{title}, {_MEASURED_TITLE[curve['measured']]}{detrended}{shared}"


def _shared_error(band: npt.NDArray[np.object_], shared: Floats) -> str:
    """Return the error that the points of each band share as a second line of a title; nothing if it is not known."""
    known = np.isfinite(shared)
    errors = {
        name: float(np.median(shared[known & (band == name)])) for name in sorted(set(band[known].tolist()))
    }
    each = ", ".join(f"{error:.3f} mag" + f" in {name}" * (len(errors) > 1) for name, error in errors.items())
    return f"\nerror bars are random; all points share an error of {each}" if errors else ""


def _limit(point: dict[str, Any]) -> float:
    """Return the limit that a star is fainter than on a frame without a detection; NaN for a detection."""
    flux, error, limit = (point.get(name) for name in ("flux", "flux_err", "mag_limit"))
    if flux is None or error is None or limit is None or flux >= DETECTED_SNR * error:
        return float("nan")
    return float(limit)
