"""A small calibrated lake with its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skylake import cameras
from skylake.flow.aggregate import aggregate
from skylake.flow.calibrate import calibrate
from skylake.flow.catalogs import import_catalog
from skylake.flow.cluster import Inline
from skylake.flow.ingest import ingest
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
COLUMNS = CatalogColumns(
    ra="ra", dec="dec", id="id", magnitudes={"V": "V", "B": "B"},
    magnitude_errors={"V": "V_err", "B": "B_err"}, colours={"B-V": "B-V"},
)  # fmt: skip


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> cameras.Profile:
    """A camera of 256 x 256 pixels."""
    path = tmp_path_factory.mktemp("profiles") / "small.toml"
    path.write_text(SMALL)
    return cameras.load(path)


@pytest.fixture(scope="session")
def archive(profile: cameras.Profile, tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    """Two nights of five frames. The field lies on the meridian of right ascension 0."""
    scenario = Scenario(
        camera=profile.source, first_night=20241001, frames_per_night=5, streak_fraction=0.0,
        stars=StarParams(per_frame=300.0), schedule=ScheduleParams(target=(0.0, -24.6243)),
    )  # fmt: skip
    return simulate(scenario, tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="session")
def lake(
    archive: SimulationResult, profile: cameras.Profile, tmp_path_factory: pytest.TempPathFactory
) -> Lake:
    """A lake of ten good frames and three bad ones, with all products. Tests do not change it."""
    folder = tmp_path_factory.mktemp("lakes")
    (folder / "bad").mkdir()
    (folder / "bad" / "empty.fits").touch()
    (folder / "bad" / "notes.fits").write_text("cold tonight")
    cut = archive.frames[0].read_bytes()[:40000]
    (folder / "bad" / "cut.fits").write_bytes(cut)
    made = Lake.create(folder / "<lake> & sea", Settings(cluster="inline", pixel_order=3, map_order=9))
    import_catalog(made, "simcat", "table", [archive.catalog], COLUMNS)
    ingest(made, profile, [archive.out / "frames", folder / "bad"], Inline())
    calibrate(made, Inline())
    aggregate(made, [], Inline())
    return made


@pytest.fixture(scope="session")
def pages(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of its report."""
    from skylake.report.page import write_report

    return write_report(lake, tmp_path_factory.mktemp("report") / "out")


@pytest.fixture
def bare(tmp_path: Path) -> Lake:
    """A lake without any row."""
    return Lake.create(tmp_path / "bare", Settings(cluster="inline"))


@pytest.fixture(scope="session")
def colours_of() -> Any:
    """A function that gives a picture's pixels, 0 to 255, shape (height, width, 3)."""

    def of(path: Path) -> Any:
        import matplotlib.image
        import numpy as np

        return np.rint(np.asarray(matplotlib.image.imread(path))[..., :3] * 255).astype(np.uint8)

    return of
