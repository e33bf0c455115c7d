"""A constant star near another one and as bright, to check it by."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.flags import SPOILED
from skylake.core.sphere import separation_deg
from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import Measured, curve_rows
from skylake.report.curves import curve_of_object
from skylake.sky.sky_region import SkyRegion
from skylake.table.lightcurves import curve_numbers, is_on_frames, with_medians

#: Where one looks for it, one place after another.
_REACHES_DEG = (0.1, 0.4, 1.6)
#: Of stars, those on such a share of the frames of the star in question are as good as any.
_LEAST_SHARE = 0.8
#: Differences that count as much as each other: of magnitudes, and of scatter against what such stars have.
_MAG, _SCATTER = 0.5, 0.5
_LEAST_STARS = 5
#: Stars are sought farther away until so many are no more magnitudes brighter or fainter.
_ALIKE_MAG = 1.0
#: So many stars are looked at, and one is constant whose points differ by no more than this times their variance.
_TRIED, _CONSTANT_CHI2 = 8, 3.0
_COLUMNS = ("object_id", "catalog", "band", "ra_deg", "dec_deg", "n_points", "lightcurve")


def constant_star_near(snapshot: Snapshot, curve: dict[str, Any]) -> dict[str, Any] | None:
    """Return the light curve of a constant star near another one and about as bright; None if there is none.

    Of the stars of a growing cone that are on most of the frames of the star it is the one that is nearest in
    magnitude and scatters little for its neighbours. Of several cameras or bands the frames of that with most points
    count.

    Parameters
    ----------
    snapshot : Snapshot
    curve : dict
        As of :func:`skylake.report.curves.curve_of_object`.
    """
    shown = Counter((point["camera"], point["band"]) for point in curve["points"])
    if not shown:
        return None
    of_most = shown.most_common(1)[0][0]
    points = [point for point in curve["points"] if (point["camera"], point["band"]) == of_most]
    mags = [point["mag"] for point in points if point["mag"] is not None and np.isfinite(point["mag"])]
    if not mags:
        return None
    kind: Measured = "relative" if curve["measured"] == "relative" else "detected"
    magnitude, frames = float(np.median(mags)), {point["frame_id"] for point in points}
    for reach in _REACHES_DEG:
        if kind == "relative":
            around = SkyRegion.of_cone(curve["ra_deg"], curve["dec_deg"], reach)
            rows = curve_rows(snapshot, kind, around.ranges, around)
        else:
            rows = snapshot.cone("lightcurves", curve["ra_deg"], curve["dec_deg"], reach, list(_COLUMNS))
        rows = _candidates(rows, curve, of_most[1], frames)
        alike = np.abs(rows["mag_median"].to_numpy() - magnitude) <= _ALIKE_MAG
        if alike.sum() < _LEAST_STARS and reach != _REACHES_DEG[-1]:
            continue
        for chosen in _most_alike(rows, magnitude):
            found = curve_of_object(snapshot, chosen["object_id"], chosen["catalog"], kind)
            if _chi2(found, frames) <= _CONSTANT_CHI2:
                return found
    return None


def _candidates(rows: pa.Table, curve: dict[str, Any], band: str, frames: set[int]) -> pa.Table:
    """Return other stars on most of some frames of a band, with their median and scatter there."""
    rows = rows.filter(pc.equal(rows["band"], band))
    places = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    away = separation_deg(curve["ra_deg"], curve["dec_deg"], *places) * 3600.0
    other = rows["object_id"].to_numpy() != curve["object_id"]
    # A target that no catalog has may be one of a catalog nevertheless.
    rows = rows.filter(pa.array(other & (away > 3.0)))
    shown = pa.array(sorted(frames), pa.int64())
    n_shown = np.bincount(curve_numbers(rows)[is_on_frames(rows, shown)], minlength=rows.num_rows)
    rows = with_medians(rows.filter(pa.array(n_shown >= _LEAST_SHARE * len(frames))), shown)
    return rows.filter(pc.and_(pc.is_valid(rows["mag_scatter"]), pc.is_valid(rows["mag_median"])))


def _most_alike(rows: pa.Table, magnitude: float) -> list[dict[str, Any]]:
    """Return some stars, first the one that is most alike and most constant."""
    if rows.num_rows == 0:
        return []
    mags, scatter = (rows[name].to_numpy() for name in ("mag_median", "mag_scatter"))
    differs = np.abs(mags - magnitude)
    # Against the stars that are nearest in magnitude: a variable star scatters more than they do.
    alike = np.argsort(differs, kind="stable")[: max(_LEAST_STARS, len(mags) // 10)]
    usual = max(float(np.median(scatter[alike])), 1e-4)
    cost = differs / _MAG + np.maximum(scatter / usual - 1.0, 0.0) / _SCATTER
    order = pa.array(np.argsort(cost, kind="stable")[:_TRIED])
    found: list[dict[str, Any]] = rows.select(["object_id", "catalog"]).take(order).to_pylist()
    return found


def _chi2(curve: dict[str, Any], frames: set[int]) -> float:
    """Return the mean square of clean points of some frames about their median, in units of random errors.

    Robust scatters do not show an eclipse, which this does.
    """
    good = [
        point
        for point in curve["points"]
        if point["frame_id"] in frames and point["mag"] is not None and not point["flags"] & int(SPOILED)
    ]
    mags, errors = (np.array([point[name] for point in good], float) for name in ("mag", "mag_random_err"))
    known = np.isfinite(errors) & (errors > 0.0)
    if not known.any():
        return float("inf")
    return float(np.mean(((mags[known] - np.median(mags[known])) / errors[known]) ** 2))
