"""Nights of a camera of four chips, whose headers show where the telescope points and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.attitudes import matrix_of_place, place_of_matrix
from skylake.core.rotations import rotation_matrix, rotation_vector
from skylake.core.sphere import separation_deg
from skylake.flow.astrometry.learn_focal_plane import MosaicReport, learn_focal_plane
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest_frames
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.lake import Lake
from skylake.lake.cameras.stored_focal_planes import read_focal_plane
from skylake.settings import Settings
from skylake.simulate import (
    HeaderParams,
    MosaicParams,
    Scenario,
    ScheduleParams,
    SimulationResult,
    SpecialParams,
    StarParams,
    simulate_camera,
)  # fmt: skip
from skylake.simulate.simulated_chips import Telescope, header_telescope, true_place
from skylake.sky.asterism_index import build_index
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog

SCALE = 8.0
ROTATION_DEG = 20.0
#: Four chips of 192 pixels with gaps of a quarter of that, each turned by another angle.
MOSAIC = """
like = "sim"
name = "four"
detector.width_px = 192
detector.height_px = 192
gates.n_sources.min = 3
# A chip whose stars are hidden on purpose is not to be rejected for its clouds.
gates.found_fraction.min = 0.0
header.wcs = "none"

[astrometry]
ra = ["TELRA"]
dec = ["TELDEC"]
rotation = ["ROTOFF"]
rotation_unit = "arcsec"
rotation_sign = -1
rotation_zero_deg = 48.0
mirrored = false
refine = "always"
pointing_arcsec = 160.0
rotation_error_deg = 1.0

[[chip]]
name = "C1"
header.extension = 1
place = { x_arcsec = -960.0, y_arcsec = -960.0 }

[[chip]]
name = "C2"
header.extension = 2
place = { x_arcsec = 960.0, y_arcsec = -960.0, angle_deg = 90.0 }

[[chip]]
name = "C3"
header.extension = 3
place = { x_arcsec = -960.0, y_arcsec = 960.0, angle_deg = 270.0 }

[[chip]]
name = "C4"
header.extension = 4
place = { x_arcsec = 960.0, y_arcsec = 960.0, angle_deg = 180.0 }
"""


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, ...]:
    path = tmp_path_factory.mktemp("mosaic") / "four.toml"
    path.write_text(MOSAIC)
    return cameras.load_chips(path)


@pytest.fixture(scope="module")
def scenario(chips: tuple[Profile, ...]) -> Scenario:
    """Five exposures, some of them with a wrong rotation in their headers."""
    return Scenario(
        camera=chips[0].source.rpartition(":")[0], nights=1, first_night=20241001, frames_per_night=5,
        streak_fraction=0.0, stars=StarParams(per_frame=120.0), specials=SpecialParams(False, transient=False),
        schedule=ScheduleParams(target=(0.0, -24.6243), rotation_deg=ROTATION_DEG, dither_px=60.0), seed=4,
        header=HeaderParams(absent_wcs_fraction=1.0),
        mosaic=MosaicParams(offset_arcsec=12.0, angle_deg=0.2, pointing_arcsec=40.0, wrong_rotation_fraction=0.2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def night(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    return simulate_camera(scenario, tmp_path_factory.mktemp("night"))


@pytest.fixture(scope="module")
def empty(night: SimulationResult, columns: CatalogColumns, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with a catalog and no frames. Tests do not change it."""
    lake = Lake.create(tmp_path_factory.mktemp("mosaics") / "lake", Settings(cluster="inline", pixel_order=5))
    import_catalog(lake, "simcat", "table", [night.catalog], columns)
    return lake


def copy_of(lake: Lake, folder: Path) -> Lake:
    return Lake(shutil.copytree(lake.root, folder / "lake", symlinks=True))


def truth_of(night: SimulationResult) -> pd.DataFrame:
    truth = pd.read_parquet(night.truth_frames)
    return truth.set_index(["camera", "mjd_mid"]).sort_index()


def rows_of(lake: Lake) -> pd.DataFrame:
    return lake.snapshot().read("frames").to_pandas().set_index(["camera", "mjd_mid"]).sort_index()


@pytest.fixture(scope="module")
def ingested(
    chips: tuple[Profile, ...], night: SimulationResult, empty: Lake, tmp_path_factory: pytest.TempPathFactory
) -> Lake:
    """All frames, with patterns in the catalog. Tests do not change it."""
    lake = copy_of(empty, tmp_path_factory.mktemp("ingested"))
    build_index(ReferenceCatalog.open(lake.layout.catalog("simcat")), "V", 0.3, 1.0)
    report = ingest_frames(lake, chips, night.frames, Inline())
    assert report.counts == {"ok": 20}, report.problems
    return lake


def test_every_chip_is_a_row_that_points_where_it_does(ingested: Lake, night: SimulationResult) -> None:
    rows, truth = rows_of(ingested), truth_of(night)
    assert len(night.frames) == 5 and set(rows.file) == {str(path) for path in night.frames}
    assert rows.extension.value_counts().to_dict() == {1: 5, 2: 5, 3: 5, 4: 5}
    np.testing.assert_allclose(rows.index.get_level_values(1), truth.index.get_level_values(1), atol=1e-8)
    off = separation_deg(rows.ra_deg, rows.dec_deg, truth.ra_deg.to_numpy(), truth.dec_deg.to_numpy())
    assert (off * 3600.0 / SCALE).max() < 0.15
    turn = (rows.rotation_deg.to_numpy() - truth.rotation_deg.to_numpy() + 180.0) % 360.0 - 180.0
    assert np.abs(turn).max() < 0.05


def test_seeds_place_frames_and_wrong_rotations_are_found(
    ingested: Lake, chips: tuple[Profile, ...], scenario: Scenario
) -> None:
    rows = rows_of(ingested)
    wrong = rows.telescope_rotation_deg.abs() > 5.0
    axis = Telescope(0.0, 0.0, ROTATION_DEG)
    told = np.array([header_telescope(scenario, number, axis).angle_deg for number in range(5)])
    # In exposures whose card is wrong all four chips are solved by patterns.
    assert wrong.groupby("mjd_mid").sum().tolist() == (4 * (np.abs(told - ROTATION_DEG) > 5.0)).tolist()
    assert 0 < wrong.sum() < 12
    assert set(rows[wrong].wcs_source) == {"solved"} and set(rows[~wrong].wcs_source) == {"seeded"}
    # Seeds are as good as simulated: 40 arcsec of the telescope and 12 of the chip, each along two axes.
    assert rows[~wrong].telescope_offset_arcsec.max() < 4.0 * np.hypot(40.0, 12.0)
    report = learn_focal_plane(ingested, chips)
    assert {one["file"] for one in report.odd} == set(rows[wrong].file)
    assert all("its cards give a rotation" in one["why"] for one in report.odd)
    assert report.telescope["rotation_scatter_deg"] < 0.6


def gauged(places: np.ndarray, start: np.ndarray) -> np.ndarray:
    for _ in range(9):
        mean = np.mean([rotation_vector(a.T @ b) for a, b in zip(start, places, strict=True)], axis=0)
        places = places @ rotation_matrix(-mean)
    return places


def pulls_of(report: MosaicReport, scenario: Scenario, chips: tuple[Profile, ...]) -> np.ndarray:
    """Places as learned less true ones, in standard errors; the mean of all chips is that of the profile."""
    start = np.array([matrix_of_place(*one.base.place_arcsec, one.base.place.angle_deg) for one in chips])
    true = np.array([matrix_of_place(*true_place(scenario, one.base)) for one in chips])
    pulls = []
    for told, matrix in zip(report.chips, gauged(true, start), strict=True):
        x, y, angle = place_of_matrix(matrix)
        turn = (told["angle_deg"] - angle + 180.0) % 360.0 - 180.0
        pulls += [
            (told["x_arcsec"] - x) / told["x_err_arcsec"], (told["y_arcsec"] - y) / told["y_err_arcsec"],
            turn / told["angle_err_deg"],
        ]  # fmt: skip
    return np.array(pulls)


def test_places_of_chips_are_learned_within_their_errors(
    ingested: Lake, chips: tuple[Profile, ...], scenario: Scenario
) -> None:
    report = learn_focal_plane(ingested, chips)
    assert [one["chip"] for one in report.chips] == ["C1", "C2", "C3", "C4"]
    pulls = pulls_of(report, scenario, chips)
    assert np.abs(pulls).max() < 4.0 and 0.5 < np.sqrt(np.mean(pulls**2)) < 1.5
    # They were wrong by 12 arcsec and 0.2 degrees, and are known to a twentieth of a pixel.
    assert max(one["x_err_arcsec"] for one in report.chips) < 0.05 * SCALE
    assert max(abs(one["dx_arcsec"]) for one in report.chips) > 3.0
    kept = read_focal_plane(ingested.layout, "four-C2")
    assert len(kept) == 1 and kept[0].n_exposures == 5 and kept[0].n_stars > 100
    assert place_of_matrix(kept[0].lens.matrix)[2] == pytest.approx(90.0, abs=1.0)


def hidden_but_four(path: Path, night: SimulationResult, frame: int) -> None:
    """Put clouds before all stars of chip 3 in a frame, but for four bright ones."""
    stars = pd.read_parquet(next(one for one in night.truth_detections if one.parent.name == "C3"))
    shown = stars[(stars.frame == frame) & ~stars.saturated].nsmallest(4, "mag")
    with fits.open(path, mode="update") as file:
        pixels = file[3].data
        level = np.median(pixels)
        noise = 1.48 * np.median(np.abs(pixels - level))
        y, x = np.indices(pixels.shape)
        apart = [np.hypot(x - a, y - b) for a, b in zip(shown.x_px, shown.y_px, strict=True)]
        sky = np.random.default_rng(1).normal(level, noise, pixels.shape).clip(0, 65535)
        file[3].data = np.where(np.min(apart, axis=0) < 8.0, pixels, sky).astype(pixels.dtype)


def test_a_chip_with_few_stars_is_placed_by_its_siblings(
    chips: tuple[Profile, ...], scenario: Scenario, night: SimulationResult, empty: Lake, tmp_path: Path
) -> None:
    lake, folder = copy_of(empty, tmp_path), tmp_path / "frames"
    folder.mkdir()
    axis = Telescope(0.0, 0.0, ROTATION_DEG)
    right = [n for n in range(5) if abs(header_telescope(scenario, n, axis).angle_deg - ROTATION_DEG) < 5.0]
    files = [Path(shutil.copy2(night.frames[number], folder)) for number in right]
    hidden_but_four(files[1], night, right[1])
    report = ingest_frames(lake, chips, files, Inline())
    rows = rows_of(lake)
    assert rows[rows.wcs_source == "mosaic"].index.get_level_values(0).tolist() == ["four-C3"], (
        report.problems
    )
    assert report.counts == {"ok": 4 * len(files)} and len(rows) == 4 * len(files), report.problems
    row, true = rows.loc["four-C3"].iloc[1], truth_of(night).loc["four-C3"].iloc[right[1]]
    off = separation_deg(row.ra_deg, row.dec_deg, true.ra_deg, true.dec_deg) * 3600.0 / SCALE
    turn = (row.rotation_deg - true.rotation_deg + 180.0) % 360.0 - 180.0
    assert off < 0.15 and abs(turn) < 0.1 and row.n_detected < 10
    # Nothing is done twice, and nothing changes by another run.
    again = ingest_frames(lake, chips, files, Inline())
    assert again.counts == {} and again.n_known == len(rows)
    assert rows_of(lake).equals(rows)


def test_chips_with_files_of_their_own_are_kept_apart(
    chips: tuple[Profile, ...], night: SimulationResult, empty: Lake, tmp_path: Path
) -> None:
    lake, folder = copy_of(empty, tmp_path), tmp_path / "frames"
    folder.mkdir()
    own = []
    for number, profile in enumerate(chips[:2]):
        with fits.open(night.frames[0]) as file:
            cards = file[number + 1].header
            cards["CHIP"] = number + 1
            fits.PrimaryHDU(file[number + 1].data, cards).writeto(folder / f"x{number}.fits")
        base = profile.base
        place = replace(base.place, card="CHIP", value=str(number + 1))
        own.append(
            replace(profile, base=replace(base, header=replace(base.header, extension=None), place=place))
        )
    (folder / "broken.fits").write_bytes(b"SIMPLE  = ")
    report = ingest_frames(lake, own, [folder], Inline(), IngestOptions())
    assert report.counts == {"ok": 2, "failed": 1}, report.problems
    rows = rows_of(lake).reset_index()
    names = dict(zip(rows.camera, rows.file.map(lambda file: Path(file).name), strict=True))
    assert names["four-C2"] == "x1.fits" and set(rows.file.map(lambda f: Path(f).name)) == {
        "x0.fits", "x1.fits", "broken.fits",
    }  # fmt: skip
    assert ingest_frames(lake, own, [folder], Inline()).counts == {}
