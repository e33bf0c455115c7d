"""Archives for trials of scale: years of nights as tables, without pixels, committed night by night.

Workers make and write whole nights; this process commits them as they come, of long archives several at a time. A
worker holds one night and the stars of some fields at a time, so memory does not grow with the number of nights.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa
import pyarrow.parquet as pq

from archive.differences import differences
from archive.field_stars import field_catalog
from archive.night_tables import night_tables
from archive.scenario import ArchiveScenario, TableParams
from archive.season import season
from skylake.cameras import Profile
from skylake.core.batch import Batch
from skylake.core.ids import config_sha256
from skylake.errors import LakeError, UsageError, reason_of, together
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.zeropoints.calibrated_nights import zeropoints_name
from skylake.flow.zeropoints.calibration_parameters import CalibrationInputs, calibration_configuration
from skylake.lake import Commit, Lake, Part, Snapshot
from skylake.lake.storage.parts import stage_sorted_part
from skylake.revision import VERSION
from skylake.simulate.colours import SIMULATED_BANDS
from skylake.simulate.scenario import HeaderParams
from skylake.simulate.schedule import nights_of
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.hats import read_properties
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import PixelTree
from skylake.table.matches import matches_name

#: Name of the reference catalog of a simulated archive.
CATALOG = "simcat"
_VERSION = 1
_TABLES = ("frames", "sources", "matches", "zeropoints")
#: Commits of one run, about: each links all files of the lake, so one a night would cost the square of the nights.
_COMMITS = 32


@dataclass(slots=True)
class ArchiveReport:
    """What was made.

    Attributes
    ----------
    rows : dict
        New rows by table.
    catalog_stars : int
        Stars of the reference catalog.
    n_nights : int
        Nights that were made.
    n_current : int
        Nights that the lake held already.
    """

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TABLES, 0))
    catalog_stars: int = 0
    n_nights: int = 0
    n_current: int = 0


@dataclass(frozen=True, slots=True)
class _Making:
    """How nights are made: everything that a worker needs besides the night."""

    scenario: ArchiveScenario
    profile: Profile
    catalog: ReferenceCatalog
    trees: dict[str, PixelTree]

    def inputs(self) -> dict[str, str]:
        """Return what ``frames`` and ``sources`` of any night are made from."""
        simulation = simulation_sha256(self.scenario, self.profile)
        return {"configuration": self.profile.sha256, "simulation": simulation}

    def configurations(self, nights: Iterable[int]) -> list[dict[str, Any]]:
        """Return the configurations that the inputs of some nights name."""
        simulation = simulation_configuration(self.scenario, self.profile)
        calibrations = [calibration_configuration(self.profile, night) for night in nights]
        return [simulation, *calibrations, *self.profile.configurations]

    def calibration_inputs(self, frames: Part, sources: Part) -> dict[str, str]:
        """Return what ``matches`` and ``zeropoints`` are made from, as calibrations name it.

        So a calibration of the archive finds that all is done.
        """
        return CalibrationInputs(self.catalog, self.profile).of(frames, sources, frames.night or 0)


def simulation_configuration(scenario: ArchiveScenario, profile: Profile) -> dict[str, Any]:
    """Return what one night follows from, besides its date."""
    return asdict(replace(scenario, nights=1, camera=profile.name)) | {"profile": profile.sha256}


def simulation_sha256(scenario: ArchiveScenario, profile: Profile) -> str:
    """Return the SHA-256 of :func:`simulation_configuration`."""
    return config_sha256(simulation_configuration(scenario, profile))


def _sky_sha256(scenario: ArchiveScenario, profile: Profile) -> str:
    """Return the checksum of what the stars and the catalog follow from."""
    sky = replace(scenario, frames_per_night=1, header=HeaderParams(), tables=TableParams())
    return simulation_sha256(sky, profile)


def make_archive(
    lake: Lake, scenario: ArchiveScenario, workers: Workers, progress: Progress | None = None
) -> ArchiveReport:
    """Fill a lake with the nights of a scenario: frames, sources, matches, zeropoints and the catalog.

    Each night is published whole, over all its tables: in a commit of its own, or in a long archive together with
    those that are made at the same time. Nights that the lake holds already stay as they are, so more nights of the
    same scenario can be added, and a run that was interrupted goes on.

    Raises
    ------
    UsageError
        If the scenario is impossible, or the lake holds another simulated sky or one of the nights from another
        simulation.
    LakeError
        If the lake holds frames of one of the nights that come from elsewhere, or cannot be written. A
        night that cannot be made is named only after all the others are committed.
    """
    progress = progress or Silent()
    profile = season(scenario).observatory.profile
    nights = nights_of(scenario)
    report = ArchiveReport()
    reference = _catalog(lake, scenario, profile, report, progress)
    lake.keep_profile(profile)
    making = _Making(
        scenario, profile, reference, {name: lake.tree_of(name) for name in ("sources", "matches")}
    )
    snapshot = lake.snapshot()
    batches = [Batch(profile.name, night) for night in nights]
    for batch in batches:
        _require_same(lake, snapshot.part("frames", str(batch)), batch, making)
    missing = [batch for batch in batches if not _is_current(snapshot, batch, making)]
    report.n_current = len(nights) - len(missing)
    failures: list[LakeError] = []
    make = dask.delayed(make_night, pure=False)
    # One object in the graph, however many tasks share it.
    shared = dask.delayed(making, pure=False, traverse=False)
    progress.begin("simulated nights", len(missing))
    with lake.stage(f"simulate-{profile.name}") as staging:
        waiting: dict[Batch, dict[str, Part]] = {}
        together_at = 1 + len(missing) // _COMMITS

        def commit(number: int, result: Any) -> None:
            batch = missing[number]
            if isinstance(result, BaseException):
                failures.append(_failure(batch, result))
            else:
                waiting[batch] = result
            if len(waiting) >= together_at:
                _commit(lake, waiting, staging, making, report, progress)
            progress.advance()

        workers.run([make(batch, shared, staging / str(batch)) for batch in missing], commit)
        _commit(lake, waiting, staging, making, report, progress)
    progress.end()
    if failures:
        raise LakeError(together(failures)) from failures[0]
    return report


def _catalog(
    lake: Lake, scenario: ArchiveScenario, profile: Profile, report: ArchiveReport, progress: Progress
) -> ReferenceCatalog:
    """Return the reference catalog of the archive, imported if the lake does not have it."""
    # The name of the file, which the lake keeps, tells one simulated sky from another.
    origin = f"{CATALOG}-{_sky_sha256(scenario, profile)[:16]}.parquet"
    collection = lake.layout.catalog(CATALOG)
    if not collection.exists():
        with lake.stage(CATALOG) as staging:
            file = staging / origin
            _write_catalog(scenario, file)
            import_catalog(lake, CATALOG, "table", [file], catalog_columns(scenario), progress=progress)
    reference = ReferenceCatalog.open(collection)
    held = read_properties(reference.root).get("skylake_origin")
    if held != origin:
        frames = (part for part in lake.snapshot().parts("frames").values() if "simulation" in part.inputs)
        told = differences(lake, next(frames, None), simulation_configuration(scenario, profile))
        raise UsageError(
            f"{lake.root}: the catalog {CATALOG} of the lake is of another sky{told}; name another lake, or "
            "what it was made with. Fields are chosen on the first night: later nights come with the same one and "
            "more --nights"
        )
    report.catalog_stars = reference.n_rows
    return reference


def catalog_columns(scenario: ArchiveScenario) -> CatalogColumns:
    """Return what the columns of the catalog are; of R and r, which are one to databases, the camera's band."""
    other = "R" if season(scenario).observatory.filter_band.band == "r" else "r"
    bands = [band for band in SIMULATED_BANDS if band != other]
    return CatalogColumns(
        ra="ra",
        dec="dec",
        id="id",
        magnitudes={band: band for band in bands},
        magnitude_errors={band: f"{band}_err" for band in bands},
        colours={"B-V": "B-V"},
    )


def _write_catalog(scenario: ArchiveScenario, file: Path) -> None:
    """Write the catalog of all fields, field by field."""
    tables: Iterator[pa.Table] = (
        field_catalog(scenario, number) for number in range(len(season(scenario).fields))
    )
    first = next(tables)
    with pq.ParquetWriter(file, first.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _part_names(batch: Batch) -> dict[str, str]:
    """Return the name of the part of each table."""
    name = str(batch)
    return {
        "frames": name,
        "sources": name,
        "matches": matches_name(name, CATALOG),
        "zeropoints": zeropoints_name(name, CATALOG, _VERSION),
    }


def _require_same(lake: Lake, frames: Part | None, batch: Batch, making: _Making) -> None:
    """Refuse to replace frames of a night.

    Raises
    ------
    LakeError
        If they were not simulated.
    UsageError
        If they were, but not as they would be now.
    """
    if frames is None:
        return
    if "simulation" not in frames.inputs:
        raise LakeError(
            f"{lake.root}: the frames of {batch} in the lake are no simulation; name another lake"
        )
    told = differences(lake, frames, simulation_configuration(making.scenario, making.profile))
    if _release(frames) != VERSION:
        told = f" (by skylake {_release(frames)})"
    elif frames.inputs == making.inputs():
        return
    raise UsageError(
        f"{lake.root}: the lake has {batch} from another simulation{told}; name the options that it was made with or "
        f"another lake, or remove the night with `skylake forget {shlex.quote(str(lake.root))} --batch {batch}`"
    )


def _is_current(snapshot: Snapshot, batch: Batch, making: _Making) -> bool:
    """Tell whether the lake holds a night as this simulation would make it."""
    held = {table: snapshot.part(table, name) for table, name in _part_names(batch).items()}
    frames, sources = held["frames"], held["sources"]
    if frames is None or sources is None:
        return False
    wanted = making.inputs()
    calibration = making.calibration_inputs(frames, sources)
    inputs = {"frames": wanted, "sources": wanted, "matches": calibration, "zeropoints": calibration}
    return all(
        part is not None and part.inputs == inputs[table] and _release(part) == VERSION
        for table, part in held.items()
    )


def _release(part: Part) -> str:
    """Return the version of skylake that made a part, without the commit of its code."""
    return part.software_version.partition("+")[0]


def make_night(batch: Batch, making: _Making, staging: Path) -> dict[str, Part]:
    """Make and write the tables of one night; runs on a worker.

    Returns
    -------
    dict of str to Part
        By table; staged in a folder of its name.
    """
    tables = night_tables(making.scenario, batch.night, CATALOG, _VERSION)
    parts: dict[str, Part] = {}
    for table, name in _part_names(batch).items():
        first = table in ("frames", "sources")
        inputs = making.inputs() if first else making.calibration_inputs(parts["frames"], parts["sources"])
        # Their rows come conformed and in order: sorting would cost as much as making them.
        parts[table] = stage_sorted_part(
            getattr(tables, table), table, name, staging / table, making.trees.get(table),
            batch.camera, batch.night, inputs,
        )  # fmt: skip
    return parts


def _failure(batch: Batch, error: BaseException) -> LakeError:
    return LakeError(
        f"{batch}: the night could not be simulated ({reason_of(error, with_file=True)}); fix that and run again"
    )


def _commit(
    lake: Lake,
    waiting: dict[Batch, dict[str, Part]],
    staging: Path,
    making: _Making,
    report: ArchiveReport,
    progress: Progress,
) -> None:
    """Publish the tables of the nights that wait together; none waits then."""
    if not waiting:
        return
    snapshot = lake.snapshot()
    first, *others = waiting
    name = f"{first} and {len(others)} more" if others else str(first)
    commit = Commit("simulate", name, base=snapshot.number)
    commit.configure(making.configurations(batch.night for batch in waiting))
    for batch, parts in waiting.items():
        for table, part in parts.items():
            held = snapshot.part(table, part.name)
            if held is None or held.checksum != part.checksum or held.inputs != part.inputs:
                commit.replace(part, staging / str(batch) / table)
            report.rows[table] += part.n_rows
    lake.commit(commit)
    report.n_nights += len(waiting)
    for batch, parts in waiting.items():
        progress.line(f"simulate {batch}: {parts['frames'].n_rows} frames, {parts['sources'].n_rows} sources")
    waiting.clear()
