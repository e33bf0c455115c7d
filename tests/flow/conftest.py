"""A simulated archive, and lakes that hold it, for the tests of the flow."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.sphere import healpix_index
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions, IngestReport
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.schema import arrow_schema, conform, load
from skylake.settings import Settings
from skylake.simulate import Scenario, ScheduleParams, SimulationResult, StarParams, simulate
from skylake.sky.catalog_columns import CatalogColumns

SMALL = """
like = "sim"
name = "small"
detector.width_px = 256
detector.height_px = 256
gates.n_sources.min = 20
"""
PLAIN = """
name = "plain"
like = "generic"
default_filter = "V"
reduction.steps = ["trim"]
gates.n_sources.min = 3
"""
#: Pixels of this order meet at the middle of the field, at RA 0.
PIXEL_ORDER = 5
#: A corner of the sky at the seam of right ascension, and the poles.
PLACES = ((0.0, 0.0), (10.0, 89.5), (200.0, -89.5), (45.0, 0.0))
FIELD = (0.0, -24.6243)

COLUMNS = CatalogColumns(
    ra="ra", dec="dec", id="id", pm_ra="pmra", pm_dec="pmdec",
    magnitudes={"V": "V", "B": "B"}, magnitude_errors={"V": "V_err", "B": "B_err"}, colours={"B-V": "B-V"},
)  # fmt: skip

Run = Callable[..., IngestReport]


@pytest.fixture(scope="session")
def plain_profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """A camera of which nothing is known but its filter."""
    path = tmp_path_factory.mktemp("profile") / "plain.toml"
    path.write_text(PLAIN)
    return cameras.load(path)


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """A camera of 256 x 256 pixels."""
    path = tmp_path_factory.mktemp("profiles") / "small.toml"
    path.write_text(SMALL)
    return cameras.load(path)


@pytest.fixture(scope="session")
def archive(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    """Two nights of six frames without a Moon. Tests do not change it."""
    scenario = Scenario(
        camera=profile.source, first_night=20241001, frames_per_night=6, streak_fraction=0.0,
        stars=StarParams(per_frame=300.0), schedule=ScheduleParams(target=FIELD),
    )  # fmt: skip
    return simulate(scenario, tmp_path_factory.mktemp("archive"))


@pytest.fixture
def frames(archive: SimulationResult, tmp_path: Path) -> list[Path]:
    """A copy of the frames in one folder, to be changed at will: 0 to 5 and 6 to 11 are a night each."""
    folder = tmp_path / "frames"
    folder.mkdir()
    return [Path(shutil.copy2(path, folder / path.name)) for path in archive.frames]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=PIXEL_ORDER))


@pytest.fixture(scope="session")
def columns() -> CatalogColumns:
    """The columns of the simulator's catalog."""
    return COLUMNS


@pytest.fixture(scope="session")
def ingested_once(
    archive: SimulationResult, profile: Profile, tmp_path_factory: pytest.TempPathFactory
) -> Lake:
    """A lake with a catalog and all frames of the archive. Tests do not change it."""
    from skylake.flow.catalogs.import_catalogs import import_catalog

    root = tmp_path_factory.mktemp("ingested") / "lake"
    lake = Lake.create(root, Settings(cluster="inline", pixel_order=PIXEL_ORDER))
    import_catalog(lake, "simcat", "table", [archive.catalog], COLUMNS)
    report = ingest(lake, profile, [archive.out / "frames"], Inline())
    assert report.counts == {"ok": 12}
    return lake


@pytest.fixture(scope="session")
def calibrated_once(ingested_once: Lake, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The same, calibrated and aggregated. Tests do not change it."""
    from skylake.flow.aggregates import aggregate
    from skylake.flow.zeropoints.calibrate_nights import calibrate

    lake = copy_of(ingested_once, tmp_path_factory.mktemp("calibrated"))
    calibrate(lake, Inline())
    aggregate(lake, [], Inline())
    return lake


def copy_of(lake: Lake, folder: Path) -> Lake:
    return Lake(shutil.copytree(lake.root, folder / "lake", symlinks=True))


@pytest.fixture
def ingested(ingested_once: Lake, tmp_path: Path) -> Lake:
    """A copy of the ingested lake, to be changed."""
    return copy_of(ingested_once, tmp_path)


@pytest.fixture
def calibrated(calibrated_once: Lake, tmp_path: Path) -> Lake:
    """A copy of the calibrated lake, to be changed."""
    return copy_of(calibrated_once, tmp_path)


@pytest.fixture
def run(profile: Profile) -> Run:
    """A function (lake, paths, **options) that ingests in this process."""

    def go(lake: Lake, paths: Any, **options: Any) -> IngestReport:
        paths = [paths] if isinstance(paths, Path) else paths
        return ingest(lake, options.pop("profile", profile), paths, Inline(), IngestOptions(**options))

    return go


@pytest.fixture(scope="session")
def checksums() -> Callable[..., dict[tuple[str, str], str]]:
    """A function (lake, *tables) that gives the checksum of every part."""

    def of(lake: Lake, *tables: str) -> dict[tuple[str, str], str]:
        snapshot = lake.snapshot()
        return {
            (table, name): part.checksum for table in tables for name, part in snapshot.parts(table).items()
        }

    return of


@pytest.fixture(scope="session")
def scattered() -> Callable[..., pa.Table]:
    """A function (table, night, count, seed) that makes rows scattered over the sky."""
    return scattered_rows


@pytest.fixture(scope="session")
def put_nights() -> Callable[..., Snapshot]:
    """A function (lake, table, nights) that commits nights of scattered rows, each (night, count, seed)."""
    return commit_nights


def commit_nights(
    lake: Lake, table: str, nights: Iterable[tuple[int, int, int]], camera: str = "c"
) -> Snapshot:
    commit = Commit("test", "-")
    with lake.stage("test") as staging:
        for night, count, seed in nights:
            rows = scattered_rows(table, night, count, seed, camera)
            pixels = lake.tree_of(table) if load(table).layout.kind == "hats" else None
            inputs = {"seed": str(seed)}
            part = stage_part(rows, table, f"{camera}-{night}", staging, pixels, camera, night, inputs)
            commit.replace(part, staging)
        return lake.commit(commit)


def scattered_rows(table: str, night: int, count: int, seed: int, camera: str = "c") -> pa.Table:
    """Rows of one night around some places of the sky, with values that differ from row to row."""
    random = np.random.default_rng([night, seed])
    place = random.integers(0, len(PLACES), count)
    ra = (np.array([one[0] for one in PLACES])[place] + random.normal(0, 2, count)) % 360
    dec = np.clip(np.array([one[1] for one in PLACES])[place] + random.normal(0, 0.4, count), -90, 90)
    values: dict[str, Any] = {
        "_healpix_29": healpix_index(ra, dec), "ra_deg": ra, "dec_deg": dec, "camera": [camera] * count,
        "night": np.full(count, night), "frame_id": night * 1000 + np.arange(count) // 7,
        "source_no": np.arange(count) % 7, "mjd_mid": night + np.arange(count) // 7 / 1000.0,
        "catalog": ["ref"] * count, "version": np.ones(count, int), "status": ["ok"] * count,
        "file": [f"{night}-{i}.fits" for i in range(count)], "ref_id": place,
    }  # fmt: skip
    columns = {}
    for field in arrow_schema(load(table)):
        if field.name in values:
            columns[field.name] = pa.array(values[field.name]).cast(field.type)
        elif field.nullable:
            columns[field.name] = pa.nulls(count, field.type)
        elif pa.types.is_string(field.type):
            columns[field.name] = pa.array(["x"] * count)
        else:
            columns[field.name] = pa.array(random.integers(0, 50, count)).cast(field.type)
    return conform(pa.table(columns), load(table))
