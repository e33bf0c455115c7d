"""``skylake periods``: the best period of stars, found in the light curves of a lake."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.curves.curve_block import CurveBlock
from skylake.curves.period_fits import FittedSignals, aliases, fit_transits, fit_waves
from skylake.curves.periods import LEAST_POINTS, box_least_squares, lomb_scargle, without_outliers
from skylake.errors import UsageError
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

Floats = npt.NDArray[np.float64]
Method = Literal["ls", "bls"]
#: The one part of such a table.
PART = "periods"
_MJD_OF_JD0 = 2_400_000.5


@dataclass(frozen=True, slots=True)
class PeriodSearch:
    """What is looked for.

    Attributes
    ----------
    method : {'ls', 'bls'}
        A sinusoid (Lomb-Scargle) or a box (box least squares).
    shortest_days, longest_days : float
    durations_days : tuple of float
        Of boxes.
    """

    method: Method = "ls"
    shortest_days: float = 0.1
    longest_days: float = 20.0
    durations_days: tuple[float, ...] = (1.0 / 24.0, 2.0 / 24.0, 4.0 / 24.0)

    def __post_init__(self) -> None:
        if not 0.0 < self.shortest_days < self.longest_days:
            raise UsageError(
                f"periods from {self.shortest_days:g} to {self.longest_days:g} days are no range; give a shortest "
                "and a longest one"
            )
        if self.method == "bls" and max(self.durations_days) >= self.shortest_days:
            raise UsageError(
                f"a transit of {max(self.durations_days):.4g} days is not shorter than a period of "
                f"{self.shortest_days:g}; give shorter durations or a longer --min-period"
            )


def find_periods(
    lake: Lake,
    name: str,
    source: CurveSource,
    region: SkyRegion | None,
    search: PeriodSearch,
    workers: Workers,
    replace: bool = False,
    progress: Progress | None = None,
) -> CurveTableReport:
    """Find the best period of the stars in a part of the sky, into a table of the lake, in one commit.

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
    search : PeriodSearch
    """
    current = lake.snapshot()
    stars = choose_stars(current, source, region)
    options = {"stars": stars.names_sha256, "search": asdict(search)}
    job = CurveJob(PART, source, stars, options, partial(period_rows, search), LEAST_POINTS)
    return make_curve_table(lake, current, job, on_request("periods", name), workers, replace, progress)


def period_rows(
    search: PeriodSearch, snapshot: Snapshot, field: FieldBlock, chosen: Places, schema: TableSchema
) -> pa.Table:
    """Return the best periods of some stars of a field as rows of a table of periods."""
    curves = field.block.curves.of(chosen)
    bjd = field.bjd[chosen] - _MJD_OF_JD0
    fit, power, false_alarm = _searched(curves, bjd, search)
    with np.errstate(invalid="ignore"):
        baseline = np.nanmax(bjd, axis=1) - np.nanmin(bjd, axis=1)
    columns = star_columns(field, chosen) | {
        "method": pa.array([search.method] * len(chosen), pa.string()),
        "n_points": curves.is_good.sum(axis=1).astype(np.int32),
        "mag_mean": fit.mean,
        "period_d": fit.period,
        "period_err_d": fit.period_err,
        "power": power,
        "false_alarm": false_alarm,
        "epoch_bjd": fit.epoch + _MJD_OF_JD0,
        "epoch_err_d": fit.epoch_err,
        "depth": fit.depth,
        "depth_err": fit.depth_err,
        "duration_d": fit.duration,
        "alias_of": pa.array(aliases(fit.period, baseline), pa.string()),
    }
    return table_of(columns, schema)


def _searched(curves: CurveBlock, bjd: Floats, search: PeriodSearch) -> tuple[FittedSignals, Floats, Floats]:
    """Return fitted signals, their power and their false-alarm probabilities."""
    span = search.shortest_days, search.longest_days
    if search.method == "ls":
        waves = lomb_scargle(curves, *span)
        return fit_waves(without_outliers(curves), waves.period, bjd), waves.power, waves.false_alarm
    boxes = box_least_squares(curves, *span, np.asarray(search.durations_days))
    fit = fit_transits(curves, boxes, bjd)
    with np.errstate(invalid="ignore", divide="ignore"):
        return fit, boxes.depth / boxes.depth_err, boxes.false_alarm
