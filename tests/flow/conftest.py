"""A simulated archive, and lakes that hold it, for the tests of the flow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.flow.cluster import Inline
from skylake.flow.ingest import IngestOptions, IngestReport, ingest
from skylake.lake import Lake
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
#: Pixels of this order meet at the middle of the field, at RA 0.
PIXEL_ORDER = 5
FIELD = (0.0, -24.6243)

COLUMNS = CatalogColumns(
    ra="ra", dec="dec", id="id", pm_ra="pmra", pm_dec="pmdec",
    magnitudes={"V": "V", "B": "B"}, magnitude_errors={"V": "V_err", "B": "B_err"}, colours={"B-V": "B-V"},
)  # fmt: skip

Run = Callable[..., IngestReport]


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
    from skylake.flow.catalogs import import_catalog

    root = tmp_path_factory.mktemp("ingested") / "lake"
    lake = Lake.create(root, Settings(cluster="inline", pixel_order=PIXEL_ORDER))
    import_catalog(lake, "simcat", "table", [archive.catalog], COLUMNS)
    report = ingest(lake, profile, [archive.out / "frames"], Inline())
    assert report.counts == {"ok": 12}
    return lake


@pytest.fixture(scope="session")
def calibrated_once(ingested_once: Lake, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The same, calibrated and aggregated. Tests do not change it."""
    from skylake.flow.aggregate import aggregate
    from skylake.flow.calibrate import calibrate

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
