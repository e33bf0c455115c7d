"""Frames whose header or pixels are wrong say so in their rows, in the words of what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from astropy.io import fits

from skylake.cameras import Profile
from skylake.core.flags import FrameFlag
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.simulate import SimulationResult
from skylake.sky.asterism_index import build_index
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog

Floats = npt.NDArray[np.float64]


def with_cards(**cards: object) -> Callable[[Any, Floats], Floats]:
    """Return what changes cards, or takes those away that are None."""

    def change(header: Any, pixels: Floats) -> Floats:
        for name, value in cards.items():
            header.remove(name.replace("_OBS", "-OBS"), ignore_missing=True)
            if value is not None:
                header[name.replace("_OBS", "-OBS")] = value
        return pixels

    return change


def with_nothing_in(part: Any, value: float, **cards: object) -> Callable[[Any, Floats], Floats]:
    """Return what gives some pixels one value, and changes cards."""

    def change(header: Any, pixels: Floats) -> Floats:
        pixels[part] = value
        return with_cards(**cards)(header, pixels)

    return change


def shuffled(header: Any, pixels: Floats) -> Floats:
    """Lay pieces of the image elsewhere, so that it shows no field, under a WCS that is none."""
    tiles = pixels.reshape(16, 16, 16, 16).transpose(0, 2, 1, 3).reshape(256, 16, 16)
    tiles = np.random.default_rng(2).permutation(tiles).reshape(16, 16, 16, 16)
    return with_cards(**dict.fromkeys(FLAT, 0.0))(header, tiles.transpose(0, 2, 1, 3).reshape(256, 256))


FLAT = {"CD1_1": 0.0, "CD2_2": 0.0, "CD1_2": None, "CD2_1": None}


def with_two_exposures(header: Any, pixels: Floats) -> Floats:
    header.append(("EXPTIME", 2.5 * header["EXPTIME"]))
    return pixels


def with_a_scale_in_wrong_units(header: Any, pixels: Floats) -> Floats:
    for name in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        header[name] = header.get(name, 0.0) / 3600.0
    return pixels


def with_an_older_matrix(header: Any, pixels: Floats) -> Floats:
    """Add the PC of a WCS that points the same way, turned by 50 degrees."""
    cosine, sine = np.cos(np.radians(50.0)), np.sin(np.radians(50.0))
    before = np.array([[header.get(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)])
    after = before @ np.array([[cosine, -sine], [sine, cosine]])
    header.update({f"PC{i + 1}_{j + 1}": after[i, j] for i in (0, 1) for j in (0, 1)})
    header.update({"CDELT1": 1.0, "CDELT2": 1.0})
    return pixels


WAYS: dict[str, Callable[[Any, Floats], Floats]] = {
    "good": with_cards(),
    "exposure": with_cards(EXPTIME=30000.0),
    "gain": with_cards(GAIN=150.0),
    "future": with_cards(DATE_OBS="2090-05-01T03:00:00"),
    "singular": with_cards(**FLAT),
    "no scale": with_cards(**(FLAT | {"CD1_1": None, "CD2_2": None})),
    "negated": lambda _, pixels: -pixels,
    "inverted": lambda _, pixels: pixels.max() - pixels,
    "rows of NaN": with_nothing_in(np.s_[::2], np.nan),
    "shuffled": shuffled,
    "half read out by day": with_nothing_in(np.s_[128:], 0.0, DATE_OBS="2024-10-01T16:00:00"),
    "two exposures": with_two_exposures,
    "wrong units": with_a_scale_in_wrong_units,
    "older matrix": with_an_older_matrix,
    "unset clock": with_cards(DATE_OBS="1970-01-01T03:00:00"),
}


@pytest.fixture(scope="module")
def rows(
    archive: SimulationResult,
    profile: Profile,
    columns: CatalogColumns,
    tmp_path_factory: pytest.TempPathFactory,
) -> pd.DataFrame:
    """What an ingest makes of a frame that is wrong in each way."""
    root = tmp_path_factory.mktemp("bad")
    frames = root / "frames"
    frames.mkdir()
    for number, (name, way) in enumerate(WAYS.items()):
        with fits.open(archive.frames[number % len(archive.frames)]) as file:
            header, pixels = file[0].header.copy(), file[0].data.astype(float)
        for card in ("BSCALE", "BZERO"):
            header.remove(card, ignore_missing=True)
        fits.PrimaryHDU(way(header, pixels).astype("f4"), header).writeto(frames / f"{name}.fits")
    lake = Lake.create(root / "lake", Settings(cluster="inline", pixel_order=5))
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    build_index(ReferenceCatalog.open(lake.layout.catalog("simcat")), "V", 0.5, 2.0)
    ingest(lake, profile, [frames], Inline())
    found = lake.snapshot().read("frames").to_pandas()
    found.index = pd.Index([Path(file).stem for file in found.file])
    return found


def test_a_good_frame_has_nothing_to_show(rows: pd.DataFrame) -> None:
    row = rows.loc["good"]
    assert row.status == "ok" and pd.isna(row.message) and not row["flags"] & FrameFlag.HEADER_DOUBTED


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "exposure",
            "an exposure of 30000 s is unusual; if EXPTIME is in milliseconds, header.exposure.scale = 0.001",
        ),
        ("gain", "GAIN = 150 lies outside 0.001 to 100 and is left out"),
        ("future", "the time of DATE-OBS, 2090-05-01T03:00:00 UTC, is still to come"),
        ("singular", "has a scale of zero along an axis (CD1_1 = 0, CD2_2 = 0), and is left out"),
        ("no scale", "the WCS of the header has no scale (neither CD1_1 … nor CDELT1), and is left out"),
        (
            "wrong units",
            "the WCS of the header has 0.002222 arcsec per pixel and small 8, and is left out: correct its cards",
        ),
        ("older matrix", "the WCS of the header contradicts itself: CD1_1 … has"),
        (
            "unset clock",
            "DATE-OBS = 1970-01-01T03:00:00 is on 1970-01-01, where clocks begin that were never set",
        ),
    ],
)
def test_impossible_header_values_are_noted_on_a_measured_frame(
    rows: pd.DataFrame, name: str, words: str
) -> None:
    row = rows.loc[name]
    assert row.status == "ok" and row.n_sources > 100
    assert words in row.message and row["flags"] & FrameFlag.HEADER_DOUBTED


def test_a_wcs_that_is_none_is_not_used(rows: pd.DataFrame) -> None:
    assert set(rows.loc[["singular", "no scale"]].wcs_source) == {"solved"}
    assert rows.loc[["singular", "no scale"]].pixel_scale_arcsec.to_list() == pytest.approx(
        [8.0, 8.0], rel=1e-3
    )


def test_a_matrix_that_the_stars_confirm_is_used(rows: pd.DataFrame) -> None:
    assert "optics.pixel_scale_arcsec" not in rows.loc["wrong units"].message, (
        "the stars speak for the profile"
    )
    row = rows.loc["older matrix"]
    assert row.wcs_source == rows.loc["good"].wcs_source and row.pixel_scale_arcsec == pytest.approx(
        8.0, rel=1e-3
    )
    assert rows.loc["wrong units"].wcs_source == "solved"
    assert rows.loc["wrong units"].pixel_scale_arcsec == pytest.approx(8.0, rel=1e-3)


def test_a_card_that_stands_twice_is_named_with_both_values(rows: pd.DataFrame) -> None:
    row = rows.loc["two exposures"]
    assert (row.status, row.reason) == ("failed", "ambiguous_header")
    assert row.message == (
        "exposure: the cards disagree (EXPTIME = 30, EXPTIME = 75); delete the wrong card EXPTIME"
    )


def test_a_wrong_gain_is_not_used(rows: pd.DataFrame) -> None:
    assert rows.loc["gain"].gain_e_per_adu == rows.loc["good"].gain_e_per_adu == 1.5


@pytest.mark.parametrize("name", ["negated", "inverted"])
def test_stars_darker_than_the_sky_are_no_clouds(rows: pd.DataFrame, name: str) -> None:
    row = rows.loc[name]
    assert (row.status, row.reason) == ("rejected", "inverted")
    assert "stars are darker than the sky" in row.message and "BSCALE" in row.message


def test_pixels_without_values_are_named_where_they_matter(rows: pd.DataFrame) -> None:
    row = rows.loc["rows of NaN"]
    assert (row.status, row.reason) == ("rejected", "too_few_sources")
    assert "32768 pixels (50%) hold no valid number, as NaN, 128 of the 256 rows among them" in row.message
    assert "gates.n_sources" in row.message


def test_parts_not_read_out_are_noted_beside_the_verdict(rows: pd.DataFrame) -> None:
    row = rows.loc["half read out by day"]
    assert (row.status, row.reason) == ("rejected", "twilight") and "gates." in row.message
    assert "50% of the raw pixels hold 0, as if not read out" in row.message


def test_sentences_are_not_cut(rows: pd.DataFrame) -> None:
    """Why a frame is not solved takes several of them."""
    row = rows.loc["shuffled"]
    assert (row.status, row.reason) == ("rejected", "no_wcs")
    assert row.message.startswith(
        "the WCS of the header has a scale of zero along an axis (CD1_1 = 0, CD1_2 = 0, "
    )
    assert row.message.endswith("scale, centre and parity left open, as if none was given")
    assert len(row.message) > 290
