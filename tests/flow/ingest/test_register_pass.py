"""Frames that no catalog places keep their sources, those of one star at one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.time import Time

import skylake
from skylake.cameras import Profile
from skylake.core.flags import SourceFlag
from skylake.core.rotations import rotation_matrix
from skylake.core.sphere import separation_deg, unit_vectors
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.image.wcs.lens import Lens
from skylake.lake import Lake

SIZE, SCALE = 256, 8.0
FOCAL = np.degrees(1.0) * 3600.0 / SCALE
START = 60585.25
#: Frames of two fields; the second is seen after the telescope has been turned over.
FIELDS = (0, 0, 0, 0, 1, 1, 1)
CENTRES = ((12.0, -24.6), (18.0, -24.6))
#: The frame of the first field on which nothing is but noise and a few stars of another place.
STRANGER = 2


@dataclass(frozen=True, slots=True)
class Night:
    """Frames whose headers say about where they point, and the lenses that they were made with."""

    files: list[Path]
    lenses: list[Lens]


def write_frame(
    path: Path, lens: Lens, field: int, mjd: float, random: np.random.Generator, haze: float = 1.0
) -> None:
    sky = np.random.default_rng(field if path.stem != f"{STRANGER:02d}" else 99)
    ra0, dec0 = CENTRES[field]
    ra, dec = ra0 + sky.uniform(-0.6, 0.6, 160), dec0 + sky.uniform(-0.6, 0.6, 160)
    flux = haze * 10.0 ** sky.uniform(3.3, 5.0, 160)
    x, y = lens.to_pixels(unit_vectors(ra, dec))
    pixels, grid = np.full((SIZE, SIZE), 800.0), np.arange(SIZE)
    for star in np.flatnonzero((x > -4) & (x < SIZE + 3) & (y > -4) & (y < SIZE + 3)):
        across, along = (np.exp(-0.5 * ((grid - place) / 1.3) ** 2) for place in (x[star], y[star]))
        pixels += flux[star] / (2.0 * np.pi * 1.3**2) * along[:, None] * across[None]
    pixels = random.normal(pixels, np.sqrt(pixels / 1.5 + 30.0))
    header = fits.Header()
    header["DATE-OBS"], header["EXPTIME"] = Time(mjd, format="mjd").isot, 10.0
    header["FILTER"], header["GAIN"], header["RDNOISE"], header["OBSTYPE"] = "V", 1.5, 8.0, "expose"
    header["OBJCTRA"], header["OBJCTDEC"] = ra0 + 0.02 * random.normal(), dec0 + 0.02 * random.normal()
    fits.writeto(path, np.clip(np.rint(pixels), 0, 65535).astype(np.uint16), header)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    random, folder = np.random.default_rng(1), tmp_path_factory.mktemp("night")
    files, lenses = [], []
    for number, field in enumerate(FIELDS):
        ra, dec = np.array(CENTRES[field]) + random.normal(0.0, 0.03, 2)
        lens = Lens.aimed(unit_vectors(ra, dec), unit_vectors(ra, 60.0), FOCAL, (127.5, 127.5))
        turn = rotation_matrix([0.0, 0.0, np.radians(180.0 * (number == 6) + 0.3 * number + 7.0)])
        lens = lens.turned(lens.matrix.T @ turn @ lens.matrix)
        files.append(folder / f"{number:02d}.fits")
        write_frame(files[-1], lens, field, START + number / 1440.0, random)
        lenses.append(lens)
    return Night(files, lenses)


@pytest.fixture(scope="module")
def camera(profile: Profile) -> Profile:
    base = profile.base
    cards = replace(base.astrometry, ra=("OBJCTRA",), dec=("OBJCTDEC",))
    optics = replace(base.optics, pixel_scale_arcsec=SCALE)
    header = replace(base.header, wcs="none")
    return replace(profile, base=replace(base, header=header, astrometry=cards, optics=optics, gates={}))


def ingested(root: Path, camera: Profile, *runs: list[Path]) -> Lake:
    lake = Lake.create(root)
    for files in runs:
        ingest(lake, camera, files, Inline())
    return lake


def rows_of(lake: Lake) -> tuple[pd.DataFrame, pd.DataFrame]:
    tables = [lake.snapshot().read(name) for name in ("frames", "sources")]
    frames, sources = (table.to_pandas() for table in tables)
    # Identifiers do not fit into numbers with a fraction.
    frames["registered_to"] = np.array(tables[0]["registered_to"].to_pylist(), object)
    return frames.sort_values("mjd_mid").reset_index(drop=True), sources


def scatter_px(frames: pd.DataFrame, sources: pd.DataFrame, night: Night, numbers: list[int]) -> float:
    """Return how far sources of one star lie from one another on the sky, rms, pixels."""
    found = []
    for number in numbers:
        rows = sources[sources.frame_id == frames.frame_id[number]]
        true = night.lenses[number].to_vectors(rows.x_px.to_numpy(), rows.y_px.to_numpy())
        found.append((true, rows.ra_deg.to_numpy(), rows.dec_deg.to_numpy()))
    first, ra, dec = found[0]
    offsets = []
    for true, other_ra, other_dec in found[1:]:
        away = np.linalg.norm(first[:, None] - true[None], axis=2) * FOCAL
        one, two = np.nonzero(away < 0.7)
        assert len(one) > 15
        offsets.append(separation_deg(ra[one], dec[one], other_ra[two], other_dec[two]) * 3600.0 / SCALE)
    return float(np.sqrt(np.mean(np.concatenate(offsets) ** 2)))


def test_sources_of_a_star_lie_at_one_place_though_no_catalog_places_the_frames(
    night: Night, camera: Profile, tmp_path: Path
) -> None:
    frames, sources = rows_of(ingested(tmp_path / "lake", camera, night.files))

    assert set(frames.status) == {"rejected"} and set(frames.reason) == {"no_wcs"}
    assert list(frames.wcs_source).count("cards") == 3 and frames.wcs_source[STRANGER] == "cards"
    assert set(sources.frame_id) == set(frames.frame_id)
    assert (sources["flags"] & int(SourceFlag.FRAME_REJECTED) != 0).all()
    assert scatter_px(frames, sources, night, [0, 1, 3]) < 0.3
    assert scatter_px(frames, sources, night, [4, 5, 6]) < 0.3
    for number, row in frames.iterrows():
        base = frames[frames.frame_id == row.registered_to]
        if row.wcs_source == "registered":
            assert len(base) == 1 and FIELDS[number] == FIELDS[base.index[0]]
            assert row.astrom_n > 15 and row.astrom_rms_px < 0.5 and str(row.registered_to) in row.message
        # How far the cards may be off is the error of all places.
        assert row.wcs_err_px == pytest.approx(camera.base.astrometry.radius_deg * 3600.0 / SCALE)


def test_frames_of_later_runs_lie_on_the_places_of_earlier_ones(
    night: Night, camera: Profile, tmp_path: Path
) -> None:
    lake = ingested(tmp_path / "lake", camera, night.files[:1], night.files[1:4])
    frames, sources = rows_of(lake)
    assert list(frames.wcs_source) == ["cards", "registered", "cards", "registered"]
    assert scatter_px(frames, sources, night, [0, 1, 3]) < 0.3

    ingest(lake, camera, night.files[:4], Inline(), IngestOptions(redo=True))
    again, _ = rows_of(lake)
    pd.testing.assert_series_equal(again.ra_deg, frames.ra_deg, rtol=1e-6)


def test_light_curves_are_relative_to_the_stars_of_the_field(camera: Profile, tmp_path: Path) -> None:
    random, files = np.random.default_rng(5), []
    for number, haze in enumerate([1.0, 0.6, 0.9, 0.5, 0.8, 1.0, 0.7, 0.4]):
        ra, dec = np.array(CENTRES[0]) + random.normal(0.0, 0.02, 2)
        lens = Lens.aimed(unit_vectors(ra, dec), unit_vectors(ra, 60.0), FOCAL, (127.5, 127.5))
        files.append(tmp_path / f"a{number}.fits")
        write_frame(files[-1], lens, 0, START + number / 1440.0, random, haze)
    ingested(tmp_path / "lake", camera, files)

    query = "SELECT * FROM relative_lightcurve_points WHERE flags = 512"
    points = skylake.open(tmp_path / "lake").sql(query).pandas()

    curves = points.groupby(["base_frame_id", "star_no"])
    n, mean = curves.mag.transform("count"), curves.mag.transform("mean")
    pull = ((points.mag - mean) / points.mag_err / np.sqrt(1.0 - 1.0 / n))[n >= 6]
    assert len(pull) > 150 and points.base_frame_id.nunique() == 1
    # Neighbours that come into an aperture on some frames only are the tails.
    assert 0.8 < 1.4826 * np.median(np.abs(pull)) < 1.25
    bright = points[(n >= 6) & (points.mag_err < 0.02)]
    assert (bright.mag - mean[bright.index]).abs().median() < 0.01


def test_frames_without_cards_keep_nothing(night: Night, camera: Profile, tmp_path: Path) -> None:
    base = camera.base
    bare = replace(camera, base=replace(base, astrometry=replace(base.astrometry, ra=(), dec=())))
    frames, sources = rows_of(ingested(tmp_path / "lake", bare, night.files[:2]))
    assert frames.wcs_source.isna().all() and len(sources) == 0
