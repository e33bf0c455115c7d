"""A small calibrated lake with its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skylake import cameras
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Commit, Lake, stage_part
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
injection.stars = 150
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


@pytest.fixture(scope="session")
def commit_rows() -> Any:
    """A function (lake, table, name, rows) that commits rows as a part; what they leave out is null, or 0."""
    return put


def put(lake: Lake, table: str, name: str, rows: list[dict[str, Any]]) -> None:
    """Commit rows; what they leave out is null, or 0 where that may not be."""
    schema = load(table)
    columns = {}
    for field, column in zip(arrow_schema(schema), schema.columns, strict=True):
        values = [row.get(field.name) for row in rows]
        if (
            not column.nullable
            and all(value is None for value in values)
            and not pa.types.is_struct(field.type)
        ):
            values = pa.array(["0"] * len(rows) if pa.types.is_string(field.type) else [0] * len(rows))
            columns[field.name] = values.cast(field.type)
        else:
            columns[field.name] = pa.array(values, field.type)
    with lake.stage("test") as staging:
        tree = lake.tree if schema.layout.kind == "hats" else None
        part = stage_part(conform(pa.table(columns), schema), table, name, staging, tree)
        commit = Commit("test", "-")
        commit.replace(part, staging)
        lake.commit(commit)
