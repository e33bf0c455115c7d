"""``skylake detrend``: the light curves of a lake, detrended into a table."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import pyarrow as pa

from skylake.flow.curves.curve_tables import (
    DETREND,
    CurveJob,
    CurveTableReport,
    Places,
    StarChoice,
    make_curve_table,
)
from skylake.flow.curves.detrend_field import DetrendChoice, detrend_field, detrended_rows
from skylake.flow.curves.field_blocks import WANTED_STARS, CurveSource, FieldBlock
from skylake.flow.curves.frame_conditions import with_conditions
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress
from skylake.lake import Lake, Snapshot
from skylake.schema import TableSchema
from skylake.schema.tables import on_request
from skylake.sky.sky_region import SkyRegion


def detrend_lake(
    lake: Lake,
    name: str,
    source: CurveSource,
    region: SkyRegion,
    choice: DetrendChoice,
    workers: Workers,
    replace: bool = False,
    progress: Progress | None = None,
) -> CurveTableReport:
    """Detrend the light curves of a part of the sky into a table of the lake, in one commit.

    The other parameters, and what is raised, are those of
    :func:`skylake.flow.curves.curve_tables.make_curve_table`.

    Parameters
    ----------
    lake : Lake
    name : str
        The table.
    source : CurveSource
    region : SkyRegion
    choice : DetrendChoice
    """
    job = CurveJob(
        DETREND,
        source,
        StarChoice(region),
        {"choice": asdict(choice)},
        partial(_rows_of, source, choice),
        least_stars=WANTED_STARS,
    )
    return make_curve_table(
        lake, lake.snapshot(), job, on_request("detrended", name), workers, replace, progress
    )


def _rows_of(
    source: CurveSource,
    choice: DetrendChoice,
    snapshot: Snapshot,
    field: FieldBlock,
    chosen: Places,
    schema: TableSchema,
) -> pa.Table:
    """Detrend some stars of a field with all of its stars."""
    whole = with_conditions(snapshot, field)
    return detrended_rows(whole, detrend_field(whole, choice), chosen, source, choice, schema)
