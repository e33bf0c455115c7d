"""What ``lake.lightcurve`` takes beside the star, and what it means."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from skylake.errors import UsageError
from skylake.reading.tables import plain_radius
from skylake.report.curve_fluxes import FLUX_CHOICES, FluxChoice

if TYPE_CHECKING:
    from skylake.flow.curves.detrend_star import Method
    from skylake.lake import Snapshot
    from skylake.report.stars.chosen_points import PointChoice
    from skylake.report.stars.star_curves import CurveChoice

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
#: Days of MJD are fewer than this, nights as YYYYMMDD are more.
_MOST_DAYS = 1_000_000
Time = str | int | float | datetime
"""A night (20240407), a time (ISO 8601, UTC unless it names a zone; or a datetime) or an MJD (float)."""


class CurveOptions(TypedDict, total=False):
    """Options of a light curve; see :meth:`skylake.reading.reader.LakeReader.lightcurve`."""

    radius_arcsec: float
    sesame: bool
    measured: Literal["forced", "detected", "relative"] | None
    flux: FluxChoice
    version: int | None
    start: Time | None
    end: Time | None
    band: str | None
    camera: str | None
    bin_d: float | None
    period_d: float | None
    epoch_bjd: float | None
    detrend: Method | None
    duration_d: float | None


def curve_choice(options: CurveOptions) -> CurveChoice:
    """Return which measurements of a star are wanted.

    Raises
    ------
    UsageError
        If a word means nothing.
    """
    from skylake.report.stars.star_curves import CurveChoice

    measured, flux = options.get("measured"), options.get("flux", "best")
    if measured not in (None, "forced", "detected", "relative"):
        raise UsageError(
            f"there is no measurement {measured!r}; measured is 'forced', 'detected', 'relative' or None"
        )
    if flux not in FLUX_CHOICES:
        raise UsageError(f"there is no flux {flux!r}; flux is one of {', '.join(FLUX_CHOICES)}")
    reach = plain_radius(options.get("radius_arcsec", 60.0))
    return CurveChoice(
        measured, flux, options.get("version"), reach, options.get("sesame", False), options.get("camera")
    )


def point_choice(snapshot: Snapshot, options: CurveOptions) -> PointChoice:
    """Return which points of a light curve are wanted.

    Raises
    ------
    UsageError
        If a value is no time, or a length of time is not positive.
    """
    from skylake.lake.access.curve_rows import frames_of_nights
    from skylake.report.stars.chosen_points import PointChoice
    from skylake.report.stars.night_errors import night_errors

    for name, value in (("bin_d", options.get("bin_d")), ("period_d", options.get("period_d"))):
        if value is not None and not value > 0.0:
            raise UsageError(f"{name} is {value!r}; give days, more than 0")
    (first, low), (last, high) = (_night_or_mjd(name, options.get(name)) for name in ("start", "end"))
    return PointChoice(
        low,
        high,
        frames_of_nights(snapshot, first, last),
        options.get("band"),
        options.get("bin_d"),
        options.get("period_d"),
        options.get("epoch_bjd"),
        None if options.get("bin_d") is None else night_errors(snapshot),
        options.get("camera"),
    )


def detrended(snapshot: Snapshot, curve: dict[str, Any], options: CurveOptions) -> dict[str, Any]:
    """Return a light curve, detrended if the options say so.

    Raises
    ------
    UsageError
        If there is no such method, or the signal is not whole.
    LakeError
        If the curve cannot be detrended.
    """
    method, duration = options.get("detrend"), options.get("duration_d")
    if method is None:
        if duration is not None:
            raise UsageError("duration_d is that of a transit which detrend='joint' fits; add that")
        return curve
    from skylake.flow.curves.detrend_field import METHODS
    from skylake.flow.curves.detrend_star import KnownSignal, detrended_curve

    if method not in METHODS:
        raise UsageError(f"there is no method {method!r}; detrend is one of {', '.join(METHODS)}")
    period = options.get("period_d")
    if duration is not None and period is None:
        raise UsageError("a transit returns with a period; add period_d")
    known = None
    if method == "joint" and period is not None:
        known = KnownSignal(period, options.get("epoch_bjd"), duration)
    return detrended_curve(snapshot, curve, method, known)


def _night_or_mjd(name: str, value: object) -> tuple[int | None, float | None]:
    """Return a night or an MJD."""
    if value is None:
        return None, None
    if isinstance(value, Integral) and int(value) > _MOST_DAYS:
        return int(value), None
    if isinstance(value, str) and re.fullmatch(r"\d{8}|\d{4}-\d\d-\d\d", value):
        return int(value.replace("-", "")), None
    if isinstance(value, Real):
        return None, float(value)
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise UsageError(f"{name} is {value!r}; give a night, as 20240407, a time or an MJD") from error
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    return None, (time - _MJD_EPOCH).total_seconds() / 86400.0
