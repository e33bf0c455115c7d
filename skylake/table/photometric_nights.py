"""The table ``photometric_nights``: how clear each night was beside the nights around it.

A cloud that stays the same for a night leaves no trace in it. So the zeropoint at the zenith of each night is compared
with the clear level of the camera in the weeks before and after: see :mod:`skylake.core.clear_sky`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.extinction_line import MOST_SCATTER, extinction_prior
from skylake.core.batch import days_between
from skylake.core.clear_sky import ClearLevel, clear_level
from skylake.core.robust import robust_fit
from skylake.schema import arrow_schema, conform, load
from skylake.table.aggregate import Aggregate, Given, Granularity, Input, merged_by

Floats = npt.NDArray[np.float64]

#: Nights before and after that are compared at most, and how far away they may be, d.
NIGHTS_AROUND, DAYS_AROUND = 20, 60
#: A clear level needs so many nights, and must be known to this, mag.
_FEWEST_NIGHTS, _LARGEST_ERROR = 3, 0.1
#: How much mirrors lose and detectors change, mag per day, so that far nights count for less.
_AGEING = 0.0007
#: By how much the extinction differs from night to night at least, mag per airmass.
_NIGHTLY_EXTINCTION = 0.02
#: Stars that scatter by so many times as much as in the nights around, and by how much that lowers the odds.
_UNEVEN, _UNEVEN_ODDS = 1.6, 0.25
#: A reason is given for a probability below this.
_DOUBTFUL = 0.8
_MAG_PER_RELATIVE = 2.5 / np.log(10.0)

#: Columns of ``nights`` that a night is judged by.
NIGHT_COLUMNS = (
    "camera",
    "night",
    "band",
    "mjd_first",
    "mjd_last",
    "catalog",
    "version",
    "n_zeropoints",
    "intrinsic_mag",
    "extinction",
    "extinction_err",
    "zp_zenith",
    "zp_zenith_err",
    "mean_airmass",
    "zp_excess",
    "n_cloudy",
    "cloud_mag",
    "p_steady",
)
_KEY = ("camera", "night", "band")


def photometric_nights_table(nights: pa.Table, night: int) -> pa.Table:
    """Judge one night of a camera.

    Parameters
    ----------
    nights : pyarrow.Table
        :data:`NIGHT_COLUMNS` of this night and those around it, of one camera.
    night : int
        YYYYMMDD.
    """
    camera = nights["camera"][0].as_py() if nights.num_rows else ""
    return finish(AGGREGATE.merge([partial(Given(camera, night, {"nights": nights}))]))


def partial(given: Given) -> pa.Table:
    """Return the rows of ``nights``, those of the night itself marked."""
    nights = given["nights"].select(list(NIGHT_COLUMNS))
    own = pc.equal(nights["night"], pa.scalar(given.night, pa.int32())).cast(pa.int8())
    return nights.append_column("is_own", own)


def finish(rows: pa.Table) -> pa.Table:
    """Return the rows of the table, one for each band of the night."""
    schema = load("photometric_nights")
    given = [row for row in rows.to_pylist() if row["n_zeropoints"]]
    found = []
    for own in [row for row in given if row["is_own"]]:
        same = ("band", "catalog", "version")
        found.append(_judged(own, [row for row in given if all(row[name] == own[name] for name in same)]))
    arrays = {
        item.name: pa.array([row.get(item.name) for row in found], item.type, from_pandas=True)
        for item in arrow_schema(schema)
    }
    return conform(pa.table(arrays), schema)


@dataclass(frozen=True, slots=True)
class _Nights:
    """Nights of one band; arrays of shape (n,).

    ``own`` is the place of the night that is judged; ``age`` how many days the others are away.
    """

    own: int
    age: Floats
    extinction: Floats
    extinction_err: Floats
    zenith: Floats
    zenith_err: Floats


def _judged(own: dict[str, Any], around: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a night."""
    row = {name: own[name] for name in (*_KEY, "catalog", "version", "p_steady")}
    row |= {"n_frames": own["n_zeropoints"], "n_nights": 1}
    # Frames without a time are of no night.
    around = [one for one in around if one["zp_zenith"] is not None and (one["night"] or one is own)]
    if own["zp_zenith"] is None:
        reason = "the airmass of the frames is not known: give the site in the profile of the camera"
        return row | {"reason": f"not known: {reason}"}
    nights = _with_extinction(own, around)
    place = nights.own
    row |= {
        "n_nights": len(around),
        "extinction": nights.extinction[place],
        "extinction_err": nights.extinction_err[place],
        "zp_zenith": nights.zenith[place],
        "zp_zenith_err": nights.zenith_err[place],
    }
    if len(around) < _FEWEST_NIGHTS:
        return row | {"reason": f"not known: {_count(len(around), 'night')} cannot show how clear a night is"}
    level = clear_level(nights.zenith, np.hypot(nights.zenith_err, _AGEING * nights.age))
    if level.error > _LARGEST_ERROR:
        return row | {"reason": f"not known: the {len(around)} nights compared do not agree on a clear level"}
    p_clear = float(level.p_clear[place])
    uneven = _uneven(own, around)
    # A single frame does not show whether clouds pass; that it is at the clear level says all of the time it took.
    p_night = p_clear if own["p_steady"] is None else own["p_steady"] * p_clear
    if uneven > _UNEVEN:
        p_night = p_night * _UNEVEN_ODDS / (1.0 - p_night + p_night * _UNEVEN_ODDS)
    lost = level.value - nights.zenith[place] + (own["cloud_mag"] or 0.0)
    transparency = 10.0 ** (-0.4 * lost)
    lost_err = math.hypot(level.error, nights.zenith_err[place])
    return row | {
        "zp_clear": level.value,
        "zp_clear_err": level.error,
        "transparency": transparency,
        "transparency_err": transparency * lost_err / _MAG_PER_RELATIVE,
        "p_clear": p_clear,
        "p_photometric": p_night,
        "reason": _reason(own, level, nights, uneven, p_night),
    }


def _with_extinction(own: dict[str, Any], around: list[dict[str, Any]]) -> _Nights:
    """Return the nights with extinctions that each other and the prior make more certain."""
    names = ("extinction", "extinction_err", "zp_zenith", "zp_zenith_err", "mean_airmass", "p_steady")
    value, error, zenith, zenith_err, airmass, steady = (
        np.array([one[name] for one in around], float) for name in names
    )
    age = np.array([abs(days_between(one["night"], own["night"])) for one in around], float)
    place = next(i for i, one in enumerate(around) if one["night"] == own["night"])
    prior = extinction_prior(own["band"])
    # What each night tells beyond the prior that it has been given.
    told = np.maximum(1.0 / np.maximum(error, 1e-4) ** 2 - 1.0 / prior[1] ** 2, 1e-3)
    likely = (value / np.maximum(error, 1e-4) ** 2 - prior[0] / prior[1] ** 2) / told
    some = (steady > 0.5) & (told > 1e-2)
    fit = robust_fit(
        np.ones((int(some.sum()), 1)),
        likely[some],
        np.hypot(told[some] ** -0.5, _NIGHTLY_EXTINCTION),
        prior=(np.array([prior[0]]), np.array([prior[1]])),
    )
    spread = np.hypot(float(fit.errors[0]), np.hypot(fit.intrinsic, _NIGHTLY_EXTINCTION))
    precision = told + spread**-2
    renewed = (told * likely + float(fit.coefficients[0]) * spread**-2) / precision
    renewed_err = precision**-0.5
    # The zeropoint at the zenith follows the extinction as its errors do.
    beyond = airmass - 1.0
    at_mean = np.sqrt(np.maximum(zenith_err**2 - (beyond * error) ** 2, 0.0))
    return _Nights(
        place,
        age,
        renewed,
        renewed_err,
        zenith + beyond * (renewed - value),
        np.hypot(at_mean, beyond * renewed_err),
    )


def _uneven(own: dict[str, Any], around: list[dict[str, Any]]) -> float:
    """Return how many times as much stars scatter about their frame as in the nights around; 1 if not known."""
    scatters = [one["intrinsic_mag"] for one in around if one["intrinsic_mag"]]
    if own["intrinsic_mag"] is None or len(scatters) < _FEWEST_NIGHTS:
        return 1.0
    return float(own["intrinsic_mag"] / np.median(scatters))


def _reason(own: dict[str, Any], level: ClearLevel, nights: _Nights, uneven: float, p_night: float) -> str:
    """Return what a probability rests on, in words."""
    below = level.value - nights.zenith[nights.own]
    said = []
    if own["p_steady"] is not None and own["p_steady"] < _DOUBTFUL:
        if own["zp_excess"] > 0.7 * MOST_SCATTER:
            said.append(
                f"zeropoints scatter by {own['zp_excess']:.3f} mag or more about the line of extinction"
            )
        lowered = f"{own['n_cloudy']:.0f} of {_count(own['n_zeropoints'], 'frame')}"
        said.append(
            f"clouds lower about {lowered}"
            if own["n_cloudy"] >= 0.5
            else f"{_count(own['n_zeropoints'], 'frame')} cannot show that there were no clouds"
        )
    if level.p_clear[nights.own] < _DOUBTFUL:
        apart = f"{abs(below):.3f} +- {math.hypot(level.error, nights.zenith_err[nights.own]):.3f} mag"
        where = "below" if below > 0 else "above"
        said.append(f"its clearest frames are {apart} {where} the level of clear nights")
    if uneven > _UNEVEN:
        said.append(f"stars scatter about their frame {uneven:.1f} times as much as in the nights around")
    if not said and own["p_steady"] is None:
        said.append(f"its only frame is at {-below:+.3f} mag from the level of clear nights")
    elif not said:
        said.append(
            f"zeropoints scatter by {own['zp_excess']:.3f} mag beyond their errors, at {-below:+.3f} mag from the "
            "level of clear nights"
        )
    hours = 24.0 * ((own["mjd_last"] or 0.0) - (own["mjd_first"] or 0.0))
    judged = f"{_count(own['n_zeropoints'], 'frame')} in {hours:.1f} h, {_count(len(nights.age), 'night')} compared"
    return f"{'; '.join(said)} ({judged})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


AGGREGATE = Aggregate(
    name="photometric_nights",
    inputs=(Input("nights", NIGHT_COLUMNS, nights_around=NIGHTS_AROUND, days_around=DAYS_AROUND),),
    key=_KEY,
    granularity=Granularity.BATCH,
    partial=partial,
    merge=merged_by(_KEY, dict.fromkeys([*(n for n in NIGHT_COLUMNS if n not in _KEY), "is_own"], "max")),
    finish=finish,
)
