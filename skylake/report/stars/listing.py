"""Which stars of a part of the sky have light curves."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from skylake.core.flags import SPOILED
from skylake.lake import Snapshot
from skylake.schema import arrow_schema, load
from skylake.table.lightcurves import curve_numbers, nested_values

_COLUMNS = (
    "object_id", "catalog", "band", "ra_deg", "dec_deg", "ref_mag", "ref_colour", "n_points", "mjd_first", "mjd_last",
    "mag_median", "mag_scatter",
)  # fmt: skip


def objects_within(
    snapshot: Snapshot,
    cone: tuple[float, float, float],
    magnitudes: tuple[float | None, float | None] = (None, None),
    least_points: int = 1,
) -> pa.Table:
    """Return the stars with light curves in a cone, one row for each star and band, the brightest first.

    Parameters
    ----------
    snapshot : Snapshot
    cone : (float, float, float)
        Right ascension, declination and radius, degrees.
    magnitudes : (float or None, float or None)
        Limits of the median magnitude, included.
    least_points : int
        Least number of measurements.

    Returns
    -------
    pyarrow.Table
        Columns of ``lightcurves`` without the measurements, and ``mag_brightest`` and ``mag_faintest``: the range of
        magnitudes with good photometry, null without any.
    """
    rows = snapshot.cone("lightcurves", *cone, [*_COLUMNS, "lightcurve"])
    median = rows["mag_median"].to_numpy(zero_copy_only=False).astype(float)
    low, high = magnitudes
    kept = rows["n_points"].to_numpy() >= least_points
    kept &= True if low is None else median >= low
    kept &= True if high is None else median <= high
    rows = rows.filter(pa.array(kept))
    brightest, faintest = _ranges(rows)
    rows = rows.select(list(_COLUMNS)).cast(_declared())
    for name, values, text in (
        ("mag_brightest", brightest, "Brightest magnitude with good photometry"),
        ("mag_faintest", faintest, "Faintest magnitude with good photometry"),
    ):
        field = pa.field(name, pa.float64(), metadata={"unit": "mag", "description": text})
        rows = rows.append_column(field, pa.array(values, from_pandas=True))
    return rows.sort_by([("mag_median", "ascending"), ("object_id", "ascending")])


def _declared() -> pa.Schema:
    schema = arrow_schema(load("lightcurves"))
    return pa.schema([schema.field(name) for name in _COLUMNS])


def _ranges(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the brightest and faintest clean magnitude of each curve; NaN without any."""
    brightest, faintest = np.full(rows.num_rows, np.inf), np.full(rows.num_rows, -np.inf)
    if rows.num_rows:
        mag, flags = nested_values(rows, "lightcurve", ("mag", "flags"))
        clean = np.isfinite(mag) & ((flags.astype(np.int64) & int(SPOILED)) == 0)
        number = curve_numbers(rows)[clean]
        np.minimum.at(brightest, number, mag[clean])
        np.maximum.at(faintest, number, mag[clean])
    known = np.isfinite(brightest)
    return np.where(known, brightest, np.nan), np.where(known, faintest, np.nan)
