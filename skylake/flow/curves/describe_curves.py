"""``skylake statistics``: moments, percentiles and indices of variability of the light curves of a lake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from skylake.curves.curve_statistics import PAIR_DAYS, curve_statistics
from skylake.flow.curves.curve_tables import (
    CurveJob,
    CurveTableReport,
    Places,
    choose_stars,
    make_curve_table,
    star_columns,
    table_of,
)
from skylake.flow.curves.field_blocks import CurveSource, FieldBlock
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress
from skylake.lake import Lake, Snapshot
from skylake.schema import TableSchema
from skylake.schema.tables import on_request
from skylake.sky.sky_region import SkyRegion

_KIND = "statistics"
#: Columns of the table, and what :func:`skylake.curves.curve_statistics.curve_statistics` calls them.
_COLUMNS = {
    "mag_mean": "weighted_mean",
    "mag_mean_random_err": "weighted_mean_err",
    "mag_mean_unweighted": "mean",
    "mag_median": "median",
    "mag_stddev": "scatter",
    "mag_scatter": "robust_scatter",
    "mag_brightest": "minimum",
    "mag_percentile_5": "percentile_5",
    "mag_percentile_25": "percentile_25",
    "mag_percentile_75": "percentile_75",
    "mag_percentile_95": "percentile_95",
    "mag_faintest": "maximum",
} | {
    name: name
    for name in (
        *("skewness", "kurtosis", "chi2", "excess_scatter", "eta"),
        *("stetson_j", "stetson_k", "stetson_l"),
    )
}


def describe_curves(
    lake: Lake,
    name: str,
    source: CurveSource,
    region: SkyRegion | None,
    workers: Workers,
    replace: bool = False,
    progress: Progress | None = None,
) -> CurveTableReport:
    """Make a table of the lake with statistics of the light curves in a part of the sky, in one commit.

    The other parameters, and what is raised, are those of
    :func:`skylake.flow.curves.curve_tables.make_curve_table` and
    :func:`~skylake.flow.curves.curve_tables.choose_stars`.

    Parameters
    ----------
    lake : Lake
    name : str
        The table.
    source : CurveSource
    region : SkyRegion or None
        None takes the stars of the view ``variable_stars`` only.
    """
    current = lake.snapshot()
    stars = choose_stars(current, source, region)
    options = {"stars": stars.names_sha256, "pair_days": PAIR_DAYS}
    job = CurveJob(_KIND, source, stars, options, statistics_rows)
    schema = on_request("curve_statistics", name)
    return make_curve_table(lake, current, job, schema, workers, replace, progress)


def statistics_rows(snapshot: Snapshot, field: FieldBlock, chosen: Places, schema: TableSchema) -> pa.Table:
    """Return the statistics of some stars of a field as rows of a table."""
    curves, bjd = field.block.curves.of(chosen), field.bjd[chosen]
    good = curves.is_good
    n_points = good.sum(axis=1)
    starts = np.append(0, np.cumsum(n_points))
    found = curve_statistics(bjd[good], curves.mag[good], curves.mag_err[good], starts)
    mjd = np.where(good, field.mjd, np.nan)
    columns: dict[str, Any] = star_columns(field, chosen) | {
        "n_points": n_points.astype(np.int32),
        "mjd_first": np.nanmin(mjd, axis=1),
        "mjd_last": np.nanmax(mjd, axis=1),
        **{column: found[one] for column, one in _COLUMNS.items()},
        # Whatever is called an amplitude in a lake is the whole range.
        "amplitude": found["percentile_95"] - found["percentile_5"],
    }
    return table_of(columns, schema)
