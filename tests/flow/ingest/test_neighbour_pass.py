"""Nights of a camera that drifts, turns and is slewed, with clouds: where the frames between the others point."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.time import Time

from skylake.cameras import Profile
from skylake.core.flags import FrameFlag, SourceFlag
from skylake.core.rotations import rotation_matrix
from skylake.core.sphere import ra_dec, separation_deg, unit_vectors
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.ingest.single_frames import bench_for
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import lens_of_text
from skylake.image.wcs.sip import to_sip
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.sky.asterism_index import build_index
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog

Checksums = Callable[..., dict[tuple[str, str], str]]

SIZE = 256
SCALE = 8.0
FOCAL = np.degrees(1.0) * 3600.0 / SCALE
START = 60585.25
MINUTE = 1.0 / 1440.0
WIND_PX = 0.1
#: Stars that each frame shows; None is all. The camera is slewed after the ninth.
SHOWN = (None, None, None, 0, 2, 5, None, None, None, None, None, 1, None, None)
SLEW_AFTER = 8
#: The frame without any star, one with too few, one with few.
BLANK, CLOUDY, FEW = 3, 4, 5


@dataclass(frozen=True, slots=True)
class Night:
    """Frames of a night, and the lenses that they were made with."""

    files: list[Path]
    lenses: list[Lens]
    mjd: np.ndarray


def sky(random: np.random.Generator) -> pd.DataFrame:
    n = 5000
    ra, dec = random.uniform(-2.0, 4.0, n) % 360.0, random.uniform(-26.0, -23.2, n)
    mag = 7.0 + 5.0 * random.power(2.5, n)
    columns = {"id": np.arange(n) + 1, "ra": ra, "dec": dec, "V": mag, "B": mag + 0.6}
    still = {"pmra": 0.0, "pmdec": 0.0, "V_err": 0.01, "B_err": 0.01, "B-V": 0.6}
    return pd.DataFrame(columns | {name: np.full(n, value) for name, value in still.items()})


def lenses_of_night(random: np.random.Generator) -> list[Lens]:
    """A drift of ten pixels a minute, a turn of the field, wind, and a slew of two degrees."""
    found = []
    for number in range(len(SHOWN)):
        slewed = 2.0 if number > SLEW_AFTER else 0.0
        axis = unit_vectors(
            0.3 + slewed + number * 9.0 * SCALE / 3600.0, -24.6 + number * 4.0 * SCALE / 3600.0
        )
        bare = Lens.aimed(axis, unit_vectors(0.3 + slewed, 60.0), FOCAL, (128.3, 126.0))
        wind = rotation_matrix([*random.normal(0.0, WIND_PX / FOCAL, 2), np.radians(0.05 * number)])
        found.append(bare.turned(bare.matrix.T @ wind @ bare.matrix))
    return found


def write_frame(
    path: Path, lens: Lens, stars: pd.DataFrame, shown: int | None, mjd: float, random: np.random.Generator
) -> None:
    x, y = lens.to_pixels(unit_vectors(stars.ra, stars.dec))
    inside = np.flatnonzero((x > -4) & (x < SIZE + 3) & (y > -4) & (y < SIZE + 3))
    inside = inside[np.argsort(stars.V.to_numpy()[inside])]
    if shown is not None:
        well = (x[inside] > 20) & (x[inside] < SIZE - 21) & (y[inside] > 20) & (y[inside] < SIZE - 21)
        inside = inside[well][:shown]
    pixels = np.full((SIZE, SIZE), 800.0)
    grid = np.arange(SIZE)
    for star in inside:
        flux = 10.0 ** (-0.4 * (stars.V.iloc[star] - 19.5))
        across, along = (np.exp(-0.5 * ((grid - place) / 1.3) ** 2) for place in (x[star], y[star]))
        pixels += flux / (2.0 * np.pi * 1.3**2) * along[:, None] * across[None]
    pixels = random.normal(pixels, np.sqrt(pixels / 1.5 + 30.0))
    header = fits.Header()
    header["DATE-OBS"], header["EXPTIME"] = Time(mjd - 5.0 / 86400.0, format="mjd").isot, 10.0
    header["FILTER"], header["GAIN"], header["RDNOISE"], header["OBSTYPE"] = "V", 1.5, 8.0, "expose"
    fits.writeto(path, np.clip(np.rint(pixels), 0, 65535).astype(np.uint16), header)


@pytest.fixture(scope="module")
def stars() -> pd.DataFrame:
    return sky(np.random.default_rng(0))


@pytest.fixture(scope="module")
def night(stars: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Night:
    random, folder = np.random.default_rng(1), tmp_path_factory.mktemp("night")
    lenses, files = lenses_of_night(random), []
    mjd = START + MINUTE * np.arange(len(SHOWN))
    for number, (lens, shown) in enumerate(zip(lenses, SHOWN, strict=True)):
        files.append(folder / f"{number:02d}.fits")
        write_frame(files[-1], lens, stars, shown, mjd[number], random)
    return Night(files, lenses, mjd)


@pytest.fixture(scope="module")
def camera(profile: Profile) -> Profile:
    """The camera: no header shows where it points, and no gate is in the way."""
    header = replace(profile.base.header, wcs="none")
    return replace(profile, base=replace(profile.base, header=header, gates={}))


@pytest.fixture(scope="module")
def empty(stars: pd.DataFrame, columns: CatalogColumns, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("drifting")
    stars.to_parquet(folder / "catalog.parquet")
    lake = Lake.create(folder / "lake", Settings(cluster="inline", pixel_order=5))
    import_catalog(lake, "simcat", "table", [folder / "catalog.parquet"], columns)
    build_index(ReferenceCatalog.open(lake.layout.catalog("simcat")), "V", 0.5, 2.0)
    return lake


def copy_of(lake: Lake, folder: Path) -> Lake:
    return Lake(shutil.copytree(lake.root, folder / "lake", symlinks=True))


@pytest.fixture(scope="module")
def placed(empty: Lake, camera: Profile, night: Night, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The night as a whole. Tests do not change it."""
    lake = copy_of(empty, tmp_path_factory.mktemp("placed"))
    ingest(lake, camera, night.files, Inline())
    return lake


def rows_of(lake: Lake) -> pd.DataFrame:
    return lake.snapshot().read("frames").to_pandas().sort_values("mjd_mid").reset_index(drop=True)


def distance_px(found: Lens, true: Lens, edge: float = 0.0) -> float:
    y, x = (axis.ravel() for axis in np.meshgrid(*[np.linspace(edge, SIZE - 1 - edge, 5)] * 2, indexing="ij"))
    there = true.to_pixels(found.to_vectors(x, y))
    return float(np.sqrt(np.mean((there[0] - x) ** 2 + (there[1] - y) ** 2)))


def test_every_frame_of_a_night_with_clouds_and_slew_is_placed(placed: Lake, night: Night) -> None:
    rows = rows_of(placed)
    few = [number for number, shown in enumerate(SHOWN) if shown is not None]
    sources = ["interpolated" if SHOWN[n] < 3 else "neighbours" for n in few]  # type: ignore[operator]
    assert rows.wcs_source[few].tolist() == sources
    others = rows.drop(index=few)
    # The first frame after the slew among them.
    assert set(others.wcs_source) == {"solved"}
    assert others.wcs_neighbours.isna().all() and set(rows.wcs_catalog.drop(index=BLANK)) == {"simcat"}
    off = np.array(
        [
            distance_px(lens_of_text(text), true)
            for text, true in zip(rows.wcs_lens, night.lenses, strict=True)
        ]
    )
    assert off[others.index].max() < 0.15
    # In the middle of cells, as errors are of the image; places of blended stars are off by more than these.
    inner = [distance_px(lens_of_text(rows.wcs_lens[n]), night.lenses[n], 0.1 * SIZE) for n in others.index]
    assert 0.3 < np.median(inner / others.wcs_err_px) < 1.5
    assert (inner < 5.0 * others.wcs_err_px).all() and others.wcs_err_px.max() < 0.05
    # The wind moves each frame by 0.14 px, and two others show the place.
    assert off[few].max() < 0.6
    assert (off[few] < 4.0 * rows.wcs_err_px[few]).all()
    assert rows.wcs_err_px[few].between(0.03, 0.5).all()
    centres = [ra_dec(lens.to_vectors(127.5, 127.5)) for lens in night.lenses]
    true_ra, true_dec = np.array(centres).T
    assert separation_deg(rows.ra_deg, rows.dec_deg, true_ra, true_dec).max() * 3600.0 < 0.6 * SCALE
    bits = (rows["flags"] & int(FrameFlag.WCS_INTERPOLATED)) != 0
    assert rows.index[bits].tolist() == [n for n in few if SHOWN[n] < 3]  # type: ignore[operator]
    assert rows.reason[BLANK] == "no_sources" and set(rows.status.drop(index=BLANK)) == {"ok"}
    ids = rows.frame_id.astype(str)
    assert rows.wcs_neighbours[FEW].split()[:2] == [ids[2], ids[6]]
    found = placed.snapshot().read("sources").to_pandas()
    marked = (found["flags"] & int(SourceFlag.WCS_INTERPOLATED)) != 0
    assert set(found.frame_id[marked]) == set(rows.frame_id[bits]) - {rows.frame_id[BLANK]}


def test_chunks_runs_and_order_make_no_difference(
    placed: Lake, empty: Lake, camera: Profile, night: Night, checksums: Checksums, tmp_path: Path
) -> None:
    lake = copy_of(empty, tmp_path)
    order = [*range(4, 8), 13, *range(4), *range(8, 13)]
    for part in (order[:5], order[5:9], order[9:]):
        ingest(lake, camera, [night.files[number] for number in part], Inline())
    again, whole = checksums(lake, "frames", "sources"), checksums(placed, "frames", "sources")
    some, others = rows_of(lake), rows_of(placed)
    assert [name for name in some.columns if not some[name].equals(others[name])] == []
    assert again == whole


def test_nothing_changes_where_all_is_done_again(
    placed: Lake, camera: Profile, night: Night, tmp_path: Path
) -> None:
    lake = copy_of(placed, tmp_path)
    number = lake.snapshot().number
    report = ingest(lake, camera, night.files[4:6], Inline(), IngestOptions(redo=True))
    assert sum(report.counts.values()) == 2
    assert lake.snapshot().number == number


def test_frames_with_right_headers_place_those_without(
    empty: Lake, camera: Profile, night: Night, tmp_path: Path
) -> None:
    lake, files = copy_of(empty, tmp_path), []
    for number in range(SLEW_AFTER):
        files.append(Path(shutil.copy2(night.files[number], tmp_path)))
        if SHOWN[number] is None:
            with fits.open(files[-1], mode="update") as file:
                file[0].header.update(to_sip(night.lenses[number], (SIZE, SIZE)).header)
    header = replace(camera.base.header, wcs="header")
    base = replace(camera.base, header=header, astrometry=replace(camera.base.astrometry, neighbours="all"))
    ingest(lake, replace(camera, base=base), files, Inline())
    rows = rows_of(lake)
    told = ["header"] * 3 + ["interpolated", "interpolated", "neighbours"] + ["header"] * 2
    assert rows.wcs_source.tolist() == told
    for number in (BLANK, CLOUDY, FEW):
        off = distance_px(lens_of_text(rows.wcs_lens[number]), night.lenses[number])
        assert off < min(0.6, 4.0 * rows.wcs_err_px[number])
        assert rows.wcs_err_px[number] < 0.6


def test_without_neighbours_such_frames_stay_lost(
    empty: Lake, camera: Profile, night: Night, tmp_path: Path
) -> None:
    lake = copy_of(empty, tmp_path)
    alone = replace(camera.base, astrometry=replace(camera.base.astrometry, neighbours="never"))
    report = ingest(lake, replace(camera, base=alone), night.files[2:7], Inline())
    assert report.counts == {"ok": 2, "rejected": 3}


def test_targets_are_measured_where_the_place_is_known(
    placed: Lake, camera: Profile, night: Night, tmp_path: Path
) -> None:
    lake, counts, marked, blank = copy_of(placed, tmp_path), [], [], []
    make_targets(lake, "small", TargetOptions("simcat", faint=10.0, seen=2), Inline())
    for share in (0.5, 1e-3):
        base = replace(camera.base, astrometry=replace(camera.base.astrometry, interpolated_targets=share))
        chosen = night.files[BLANK : FEW + 1]
        ingest(lake, replace(camera, base=base), chosen, Inline(), IngestOptions(redo=True))
        rows, forced = rows_of(lake), lake.snapshot().read("forced_sources").to_pandas()
        between = forced[forced.frame_id == rows.frame_id[CLOUDY]]
        counts.append((rows.n_targets[CLOUDY], len(between), rows.n_targets[FEW]))
        blank.append(forced[forced.frame_id == rows.frame_id[BLANK]])
        marked += ((between["flags"] & int(SourceFlag.WCS_INTERPOLATED)) != 0).tolist()
    (n_told, n_between, n_few), (nothing, none_between, few_again) = counts
    assert n_told == n_between == len(marked) > 5 and all(marked)
    assert nothing == none_between == 0
    assert n_few == few_again > 5
    # That nothing is seen is a measurement of every target.
    unseen, bits = blank[0], int(SourceFlag.WCS_INTERPOLATED | SourceFlag.FRAME_REJECTED)
    assert rows.status[BLANK] == "rejected" and len(unseen) > 5 and not len(blank[1])
    assert ((unseen["flags"] & bits) == bits).all()
    pulls = unseen.flux_hybrid2 / unseen.flux_hybrid2_err
    assert np.abs(pulls).max() < 6.0 and 0.5 < pulls.std() < 1.6


def test_a_frame_reduced_by_itself_asks_the_frames_of_the_lake(
    placed: Lake, camera: Profile, night: Night
) -> None:
    held = {row["file"]: row for row in placed.snapshot().read("frames").to_pylist()}
    with bench_for([night.files[BLANK]], camera, placed) as bench:
        alone = {number: bench.reduce(night.files[number]).reduced.row for number in (0, BLANK, FEW)}
    for number, row in alone.items():
        there = held[str(night.files[number])]
        for name in ("status", "wcs_source", "wcs_neighbours", "ra_deg", "dec_deg", "wcs_err_px"):
            assert row.get(name) == pytest.approx(there[name], nan_ok=True) or row.get(name) == there[name]
    assert [alone[number]["wcs_source"] for number in (BLANK, FEW)] == ["interpolated", "neighbours"]
