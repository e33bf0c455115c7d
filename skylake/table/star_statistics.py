"""The table ``star_statistics``: sums over the good measurements of each star, from which its statistics follow.

Sums of nights add up, so a night costs a night. The views ``star_variability`` and ``candidates`` divide them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import (
    FRAME_COLUMNS,
    ZEROPOINT_COLUMNS,
    Photometry,
    calibrate_matches,
)
from skylake.core.flags import SPOILED_OR_BLENDED
from skylake.core.group_medians import group_medians
from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.sphere import healpix_index
from skylake.schema import conform, empty_table, load
from skylake.table.aggregate import Aggregate, Given, Granularity, Input, merged_by_schema
from skylake.table.curve_points import curve_points
from skylake.table.lightcurves import flags_of_matches

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

_NAME = "star_statistics"
#: Measurements farther apart are no pair, days.
PAIR_DAYS = 0.02
#: A measurement this far from the median of its night, in sigma, is an outlier unless one beside it is half as far.
_FAR = 6.0
#: Nights with fewer measurements cannot show which is one.
_LEAST_OF_NIGHT = 4


@dataclass(frozen=True, slots=True)
class StarPoints:
    """Measurements of one night, star by star in the order of time; arrays of shape (n,)."""

    row: Places
    mjd: Floats
    mag: Floats
    err: Floats
    starts: Places

    @property
    def star(self) -> Places:
        """The number of the star of each."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def sums(self, values: Floats) -> Floats:
        """Return the sum of values over the points of each star."""
        return np.asarray(np.bincount(self.star, values, len(self.starts) - 1), float)

    def of(self, chosen: npt.NDArray[np.bool_]) -> StarPoints:
        """Return some of the points; stars may be left without any."""
        counts = np.bincount(self.star[chosen], minlength=len(self.starts) - 1)
        starts = np.append(0, np.cumsum(counts)).astype(np.intp)
        return StarPoints(self.row[chosen], self.mjd[chosen], self.mag[chosen], self.err[chosen], starts)


def partial(given: Given) -> pa.Table:
    """Return the sums of one night of one camera."""
    matches = given["matches"]
    return statistics_table(matches, calibrate_matches(matches, given["frames"], given["zeropoints"]))


def statistics_table(matches: pa.Table, photometry: Photometry) -> pa.Table:
    """Sum over the good measurements of each star of a catalog, one row for a band.

    Blended and spoiled measurements, those without a magnitude, and outliers that stand alone in their night do not
    count; a star without any good one has a row with its number of measurements.

    Parameters
    ----------
    matches : pyarrow.Table
        Rows of ``matches`` of one night of a camera.
    photometry : Photometry
        Of the same rows.
    """
    schema = load(_NAME)
    points = _points(matches, photometry)
    if len(points.row) == 0:
        return empty_table(schema)
    first = pa.array(points.row[points.starts[:-1]])
    position = {name: matches[name].take(first).to_numpy() for name in ("ra_deg", "dec_deg")}
    columns: dict[str, Any] = {
        "_healpix_29": healpix_index(*position.values()),
        "object_id": matches["ref_id"].take(first),
        "catalog": matches["catalog"].take(first),
        "camera": matches["camera"].take(first),
        "band": pc.fill_null(matches["band"].take(first), ""),
        "version": pa.array(photometry.version[points.row[points.starts[:-1]]].astype(np.int32)),
        **position,
        "ref_mag": matches["ref_mag"].take(first),
        "n_points": np.diff(points.starts).astype(np.int32),
    }
    good = points.of(_is_good(matches, points))
    alone = stands_alone(good)
    columns["n_outliers"] = np.bincount(good.star[alone], minlength=len(first)).astype(np.int32)
    columns |= {name: pa.array(one, from_pandas=True) for name, one in _sums(good.of(~alone)).items()}
    return conform(pa.table(columns), schema)


def finish(rows: pa.Table) -> pa.Table:
    """Return rows as the schema has them."""
    return conform(rows, load(_NAME))


def _points(matches: pa.Table, photometry: Photometry) -> StarPoints:
    """Return all calibrated measurements by catalog, star and band, in the order of time."""
    calibrated = np.isfinite(photometry.flux) & np.isfinite(photometry.flux_err)
    points = curve_points(matches, "ref_id", [matches["catalog"], matches["band"]], calibrated)
    rows, mjd = np.arange(len(calibrated))[points.rows], matches["mjd_mid"].to_numpy()
    with np.errstate(invalid="ignore"):
        err = np.sqrt(np.maximum(photometry.mag_err**2 - photometry.zp_systematic_err**2, 0.0))
    return StarPoints(rows, mjd[rows], photometry.mag[rows], err[rows], points.starts.astype(np.intp))


def _is_good(matches: pa.Table, points: StarPoints) -> npt.NDArray[np.bool_]:
    flags = flags_of_matches(matches)[points.row]
    is_clean = (flags & int(SPOILED_OR_BLENDED)) == 0
    return np.asarray(is_clean & np.isfinite(points.mag) & np.isfinite(points.err) & (points.err > 0))


def stands_alone(points: StarPoints) -> npt.NDArray[np.bool_]:
    """Return which measurements are far from the others of their night while those beside them are not."""
    star = points.star
    off = points.mag - group_medians(points.mag, points.starts)[star]
    spread = MAD_TO_SIGMA * group_medians(np.abs(off), points.starts)
    pull = off / np.maximum(points.err, spread[star])
    beside = np.zeros(len(pull))
    same = np.diff(star) == 0
    # Beside a dip or a flare that lasts there is more of it.
    beside[1:][same] = np.maximum(beside[1:][same], (pull[:-1] * np.sign(pull[1:]))[same])
    beside[:-1][same] = np.maximum(beside[:-1][same], (pull[1:] * np.sign(pull[:-1]))[same])
    is_far = (np.abs(pull) > _FAR) & (beside < 0.5 * np.abs(pull))
    return np.asarray(is_far & (np.diff(points.starts)[star] >= _LEAST_OF_NIGHT))


def _sums(points: StarPoints) -> dict[str, npt.NDArray[Any]]:
    """Return the sums of each star; null where it has no point."""
    mag, weight = points.mag, points.err**-2.0
    n_good = np.diff(points.starts)
    of_weight, of_mag = points.sums(weight), points.sums(weight * mag)
    is_pair = (np.diff(points.star) == 0) & (np.diff(points.mjd) <= PAIR_DAYS)
    pair = points.star[:-1][is_pair]
    first, second = mag[:-1][is_pair], mag[1:][is_pair]
    joint = 1.0 / (points.err[:-1] * points.err[1:])[is_pair]

    def pairs(values: Floats) -> Floats:
        return np.asarray(np.bincount(pair, values, len(n_good)), float)

    with np.errstate(divide="ignore", invalid="ignore"):
        of_night = of_mag**2 / of_weight
    brightest, faintest = np.full(len(n_good), np.inf), np.full(len(n_good), -np.inf)
    np.minimum.at(brightest, points.star, mag)
    np.maximum.at(faintest, points.star, mag)
    some = n_good > 0
    times = np.clip([points.starts[:-1], points.starts[1:] - 1], 0, max(len(mag) - 1, 0))
    mjd = points.mjd if len(mag) else np.full(1, np.nan)
    sums: dict[str, Floats] = {
        "mjd_first": mjd[times[0]],
        "mjd_last": mjd[times[1]],
        "mag_brightest": brightest,
        "mag_faintest": faintest,
        "sum_mag": points.sums(mag),
        "sum_mag2": points.sums(mag**2),
        "sum_mag3": points.sums(mag**3),
        "sum_weight": of_weight,
        "sum_weight2": points.sums(weight**2),
        "sum_weight_mag": of_mag,
        "sum_weight_mag2": points.sums(weight * mag**2),
        "sum_night_mag2": of_night,
        "sum_step2": pairs((second - first) ** 2),
        "sum_pair": pairs(joint),
        "sum_pair_mag": pairs(joint * (first + second)),
        "sum_pair_mag2": pairs(joint * first * second),
    }
    counts: dict[str, npt.NDArray[Any]] = {
        "n_good": n_good.astype(np.int32),
        "n_nights": some.astype(np.int32),
        "n_pairs": np.bincount(pair, minlength=len(n_good)).astype(np.int32),
    }
    return counts | {name: np.where(some, values, np.nan) for name, values in sums.items()}


AGGREGATE = Aggregate(
    name=_NAME,
    inputs=(
        Input("matches", is_needed=True),
        # Zeropoints change with whatever is read of frames.
        Input("frames", FRAME_COLUMNS, is_followed=False),
        Input("zeropoints", ZEROPOINT_COLUMNS, pc.field("zp").is_valid()),
    ),
    key=("camera", "catalog", "object_id", "band"),
    granularity=Granularity.OBJECT,
    partial=partial,
    merge=merged_by_schema(_NAME),
    finish=finish,
    # What is near saturation counts since the second.
    version="2",
)
