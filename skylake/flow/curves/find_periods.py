"""``skylake periods``: the best period of stars, found in the light curves of a lake."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import dask
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.ids import config_sha256
from skylake.core.sphere import healpix_index
from skylake.curves.curve_block import CurveBlock
from skylake.curves.period_fits import FittedSignals, aliases, fit_transits, fit_waves
from skylake.curves.periods import LEAST_POINTS, box_least_squares, lomb_scargle, without_outliers
from skylake.errors import LakeError, UsageError
from skylake.flow.curves.detrend_lake import PART as DETREND
from skylake.flow.curves.detrend_lake import (
    CurveTableReport,
    identity_of,
    pieces_of,
    region_sha256,
    written,
)
from skylake.flow.curves.field_blocks import CurveSource, FieldBlock, field_blocks
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.own_tables import TableRequest, commit_table, held_part
from skylake.lake import Lake, Snapshot
from skylake.lake.storage.parts import PartFile
from skylake.schema import TableSchema, conform
from skylake.schema.tables import on_request
from skylake.sky.pixels import Pixel, ranges_around
from skylake.sky.sky_region import SkyRegion

Floats = npt.NDArray[np.float64]
Method = Literal["ls", "bls"]
#: A star as light curves name it: camera, band, catalog, identifier.
Name = tuple[str, str, str, int]
#: The one part of such a table.
PART = "periods"
_MJD_OF_JD0 = 2_400_000.5
#: Around a candidate, arcseconds: as a target it may have another place than in its catalog.
_REACH_ARCSEC, _CELL_ORDER = 30.0, 12


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

    Parameters
    ----------
    lake : Lake
    name : str
        The table.
    source : CurveSource
    region : SkyRegion or None
        None takes the stars of the view ``variable_stars`` only.
    search : PeriodSearch
    workers : Workers
    replace : bool
        Whether a table that another request has made may be replaced.
    progress : Progress or None

    Raises
    ------
    UsageError
        If a name cannot be used.
    LakeError
        If there are no such light curves or candidates, or the lake cannot be written.
    """
    current = lake.snapshot()
    _require_table(current, source)
    names: frozenset[Name] | None = None
    if region is None:
        names, region = _candidates(current, source)
    request = TableRequest(
        PART,
        on_request("periods", name),
        {
            "source": asdict(source),
            "region": region_sha256(region),
            "stars": None if names is None else config_sha256({"names": sorted(names)}),
            "search": asdict(search),
        },
        {"curves": identity_of(current, source)},
    )
    held = held_part(current, request, replace)
    if held is not None:
        return CurveTableReport(name, held.n_rows, 0, current.number, made=False)
    pieces = pieces_of(current, source, region)

    def tasks(staging: Path) -> list[Any]:
        work = dask.delayed(search_piece, pure=False)
        place, wanted = (lake.root, current.number), (region, names)
        return [work(place, source, pixel, wanted, search, request.schema, staging) for pixel in pieces]

    part, made = commit_table(lake, current, request, source.table, tasks, workers, progress or Silent())
    return CurveTableReport(name, part.n_rows, len(pieces), made.number, made=True)


def _require_table(snapshot: Snapshot, source: CurveSource) -> None:
    """Refuse a table that `skylake detrend` has not made."""
    if source.detrended is None:
        return
    if source.detrended not in snapshot.tables or snapshot.part(source.detrended, DETREND) is None:
        raise UsageError(
            f"the lake has no table {source.detrended!r} of detrended light curves; `skylake detrend` makes one"
        )


def _candidates(snapshot: Snapshot, source: CurveSource) -> tuple[frozenset[Name], SkyRegion]:
    """Return the stars of the view ``variable_stars``, and the places where they are.

    Raises
    ------
    LakeError
        If there are none.
    """
    query = "SELECT camera, band, catalog, object_id, ra_deg, dec_deg FROM variable_stars"
    with snapshot.duckdb() as connection:
        rows = connection.sql(query).to_arrow_table()
    names = zip(*(rows[name].to_pylist() for name in ("camera", "band", "catalog", "object_id")), strict=True)
    ra, dec = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    if rows.num_rows == 0:
        raise LakeError(
            f"{snapshot.layout.root}: no star varies beyond noise, by the view variable_stars; search all by --all"
        )
    return frozenset(names), SkyRegion(ranges_around(ra, dec, _REACH_ARCSEC, _CELL_ORDER))


def search_piece(
    place: tuple[Path, int],
    source: CurveSource,
    pixel: Pixel,
    wanted: tuple[SkyRegion, frozenset[Name] | None],
    search: PeriodSearch,
    schema: TableSchema,
    staging: Path,
) -> PartFile | None:
    """Search the stars of a piece and write their rows; runs on a worker."""
    root, number = place
    region, names = wanted
    snapshot = Lake(root).snapshot(number)
    made = []
    for field in field_blocks(snapshot, source, pixel, region, least_stars=0):
        enough = field.block.curves.is_good.sum(axis=1) >= LEAST_POINTS
        chosen = np.flatnonzero(enough & _chosen(field, names))
        if chosen.size:
            made.append(period_rows(field, chosen, search, schema))
    return written(made, schema, PART, pixel, staging)


def _chosen(field: FieldBlock, names: frozenset[Name] | None) -> npt.NDArray[np.bool_]:
    if names is None:
        return np.ones(field.rows.num_rows, bool)
    stars = zip(*(field.rows[name].to_pylist() for name in ("catalog", "object_id")), strict=True)
    return np.array([(field.camera, field.band, *star) in names for star in stars], bool)


def period_rows(
    field: FieldBlock, chosen: npt.NDArray[np.intp], search: PeriodSearch, schema: TableSchema
) -> pa.Table:
    """Return the best periods of some stars of a field as rows of a table of periods."""
    curves = field.block.curves.of(chosen)
    bjd = field.bjd[chosen] - _MJD_OF_JD0
    fit, power, false_alarm = _searched(curves, bjd, search)
    rows = field.rows.take(pa.array(chosen))
    ra, dec = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    n = len(chosen)
    with np.errstate(invalid="ignore"):
        baseline = np.nanmax(bjd, axis=1) - np.nanmin(bjd, axis=1)
    columns: dict[str, Any] = {name: rows[name] for name in ("object_id", "catalog", "ra_deg", "dec_deg")}
    columns |= {
        "_healpix_29": healpix_index(ra, dec),
        "camera": pa.array([field.camera] * n, pa.string()),
        "band": pa.array([field.band] * n, pa.string()),
        "method": pa.array([search.method] * n, pa.string()),
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
    arrays = {
        name: pa.array(columns[name], from_pandas=True)
        if isinstance(columns[name], np.ndarray)
        else columns[name]
        for name in schema.names
    }
    return conform(pa.table(arrays), schema)


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
