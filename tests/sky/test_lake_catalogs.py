from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.core.sphere import apply_proper_motion, separation_deg
from skylake.errors import CatalogError
from skylake.sky.catalog_build import CatalogBuildReport, build_catalog
from skylake.sky.catalog_columns import catalog_schema
from skylake.sky.lake_catalogs import ReferenceCatalog, StarField
from skylake.sky.pixels import PixelTree

Stars = Callable[..., pa.Table]
Build = Callable[..., tuple[Path, CatalogBuildReport]]
MJD_2025 = 51544.5 + 25 * 365.25


def test_a_catalog_tells_what_it_is(sky: pa.Table, build: Build) -> None:
    target, _ = build(sky, 1, 450.0)
    found = ReferenceCatalog.open(target)
    assert (found.name, found.epoch, found.margin_arcsec, found.n_rows) == ("stars", 2000.0, 450.0, len(sky))
    assert (found.bands, found.colours) == (["V", "B"], ["B-V"])
    assert found.root == target / "stars"
    assert found.columns[:2] == ("_healpix_29", "ref_id")
    assert len(found.checksum) == 64


def test_a_catalog_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no catalog 'nothing'"):
        ReferenceCatalog.open(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("collection.properties", ""),
        ("collection.properties", "hats_primary_table_url=stars\nskylake_margin_arcsec=wide\n"),
        ("stars/hats.properties", "hats_nrows=3\n"),
        ("stars/dataset/_common_metadata", "no Parquet"),
    ],
)
def test_a_damaged_catalog_is_refused_with_the_mend(stars: Stars, build: Build, file: str, text: str) -> None:
    target, _ = build(stars([1.0], [2.0]))
    (target / file).write_text(text)
    with pytest.raises(CatalogError, match=r"damaged.*import it again"):
        ReferenceCatalog.open(target)


@pytest.mark.parametrize("to", ["/etc", "../other/stars", "s3://bucket/stars", "stars/../.."])
@pytest.mark.parametrize("key", ["hats_primary_table_url", "default_margin"])
def test_a_collection_that_leads_out_of_its_folder_is_refused(
    stars: Stars, build: Build, key: str, to: str
) -> None:
    """A lake may be somebody else's."""
    target, _ = build(stars([1.0], [2.0]))
    file = target / "collection.properties"
    file.write_text(re.sub(f"(?m)^{key}=.*$", f"{key}={to}", file.read_text()))
    with pytest.raises(CatalogError, match=f"{key} leads out of the catalog; delete that folder and import"):
        ReferenceCatalog.open(target)


def moved(stars: pa.Table, years: float) -> tuple[np.ndarray, np.ndarray]:
    names = ("ra_deg", "dec_deg", "pm_ra_mas_yr", "pm_dec_mas_yr")
    columns = (stars[name].cast("float64").to_numpy(zero_copy_only=False) for name in names)
    return apply_proper_motion(*columns, years)


def test_of_a_field_with_too_many_stars_the_brightest_are_read(sky: pa.Table, build: Build) -> None:
    target, _ = build(sky, 1)
    catalog = ReferenceCatalog.open(target)
    every = np.sort(StarField(catalog, "V").at(10.0, 20.0, 180.0, MJD_2025)[2])
    assert len(every) == len(sky)
    field = StarField(catalog, "V", most=200)
    some = np.sort(field.at(10.0, 20.0, 180.0, MJD_2025)[2])
    assert 150 < len(some) <= 200 and some.tolist() == every[: len(some)].tolist()
    # The limit is that of the field, and holds for a frame within it.
    bright = np.sort(field.at(0.0, 90.0, 20.0, MJD_2025)[2])
    assert 0 < len(bright) < len(some) and bright[-1] <= some[-1]
    # A small field is read as deep as the catalog goes, and a depth that is asked for holds as before.
    assert StarField(catalog, "V", most=200).at(0.0, 90.0, 2.0, MJD_2025)[2].max() > 14.0
    assert StarField(catalog, "V", most=200).at(10.0, 20.0, 180.0, MJD_2025, 5.2)[2].max() <= 5.2


def test_stars_of_one_magnitude_are_not_left_out(stars: Stars, build: Build) -> None:
    random = np.random.default_rng(2)
    rows = stars(random.uniform(0, 360, 500), random.uniform(-60, 60, 500), mag_V=np.full(500, 9.25))
    target, _ = build(rows, 1)
    found = StarField(ReferenceCatalog.open(target), "V", most=50).at(0.0, 0.0, 180.0, MJD_2025)
    assert len(found[0]) == 500


@pytest.fixture
def moving(stars: Stars) -> pa.Table:
    """Stars around the pole of which a third moves fast, a third not at all and a third by nobody knows what."""
    random = np.random.default_rng(8)
    n = 900
    third = np.arange(n) % 3
    motion = np.where(third == 0, random.normal(0, 900, n), 0.0)
    return stars(
        random.uniform(0, 360, n), 90 - 1.5 * np.sqrt(random.uniform(0, 1, n)),
        pm_ra_mas_yr=pa.array(motion, mask=third == 2), pm_dec_mas_yr=pa.array(-motion, mask=third == 2),
    )  # fmt: skip


def test_stars_of_a_field_are_those_of_its_epoch(moving: pa.Table, build: Build) -> None:
    field = StarField(ReferenceCatalog.open(build(moving)[0]), "V")
    ra, dec = moved(moving, 25.0)
    for centre, radius in (((10.0, 89.7), 0.5), ((200.0, 89.9), 0.3), ((10.0, 89.7), 0.4)):
        near = separation_deg(*centre, ra, dec) <= radius
        found = field.at(*centre, radius, MJD_2025)
        order, expected = np.argsort(found[2]), np.argsort(moving["mag_V"].to_numpy()[near])
        assert found[0][order] == pytest.approx(ra[near][expected], abs=1e-9)
        assert found[1][order] == pytest.approx(dec[near][expected], abs=1e-9)
        assert near.sum() > 20


def test_the_next_frames_of_a_field_read_nothing(moving: pa.Table, build: Build) -> None:
    target, _ = build(moving)
    field = StarField(ReferenceCatalog.open(target), "V")
    first = field.at(10.0, 89.7, 0.5, MJD_2025)
    shutil.rmtree(target / "stars" / "dataset")
    again = field.at(10.0, 89.7, 0.5, MJD_2025)
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    assert len(field.at(10.0, 89.65, 0.5, MJD_2025)[0]) > 0
    with pytest.raises(CatalogError, match="the catalog is damaged"):
        field.at(10.0, 88.7, 0.5, MJD_2025)


def test_an_unreadable_field_is_not_taken_for_the_last_one(moving: pa.Table, build: Build) -> None:
    target, _ = build(moving)
    field = StarField(ReferenceCatalog.open(target), "V")
    assert len(field.at(10.0, 89.7, 0.5, MJD_2025)[0]) > 0
    shutil.move(target / "stars" / "dataset", target / "elsewhere")
    for _ in range(2):
        with pytest.raises(CatalogError, match="the catalog is damaged"):
            field.at(10.0, 88.7, 0.5, MJD_2025)
    shutil.move(target / "elsewhere", target / "stars" / "dataset")
    fresh = StarField(ReferenceCatalog.open(target), "V").at(10.0, 88.7, 0.5, MJD_2025)
    assert all(
        (one == other).all() for one, other in zip(field.at(10.0, 88.7, 0.5, MJD_2025), fresh, strict=True)
    )


def test_tasks_of_a_process_share_the_field_of_one_catalog(moving: pa.Table, build: Build) -> None:
    catalog = ReferenceCatalog.open(build(moving)[0])
    again = ReferenceCatalog.open(catalog.collection)
    assert StarField.shared(catalog, "V") is StarField.shared(again, "V")
    assert StarField.shared(catalog, "B") is not StarField.shared(replace(catalog, checksum="other"), "B")


@pytest.mark.parametrize(("band", "column"), [("B", "mag_B"), ("R", "mag_V"), (None, "mag_V")])
def test_stars_are_ranked_by_the_band_or_the_first_there_is(
    stars: Stars, build: Build, band: str | None, column: str
) -> None:
    table = stars([5.0, 5.01], [1.0, 1.0], mag_V=[8.0, None], mag_B=[None, 9.0])
    found = StarField(ReferenceCatalog.open(build(table)[0]), band).at(5.0, 1.0, 0.1, MJD_2025)[2]
    expected: list[Any] = [np.nan if value is None else value for value in table[column].to_pylist()]
    assert sorted(found, key=str) == pytest.approx(sorted(expected, key=str), nan_ok=True)


def test_a_catalog_without_magnitudes_cannot_rank_stars(stars: Stars, tmp_path: Path) -> None:
    bare = catalog_schema((), ())
    table = stars([5.0], [1.0]).select(list(bare.names))
    build_catalog([table], bare, tmp_path / "bare", PixelTree.uniform(0), 60.0, {"skylake_epoch": "2000.0"})
    with pytest.raises(CatalogError, match=r"bare has no magnitudes.*--mag"):
        StarField(ReferenceCatalog.open(tmp_path / "bare"), "V")


@pytest.mark.parametrize(
    ("values", "survey", "lists_variables"),
    [
        ({}, "", False),
        ({"skylake_survey": "refcat2", "skylake_variables": "false"}, "refcat2", False),
        ({"skylake_survey": "vsx", "skylake_variables": "true"}, "vsx", True),
        ({"skylake_survey": "gaia"}, "gaia_dr2", False),
        ({"skylake_survey": "gaia", "skylake_epoch": "2016.0"}, "gaia", False),
    ],
)
def test_a_catalog_says_in_whose_system_it_is(
    values: dict[str, str], survey: str, lists_variables: bool, stars: Stars, tmp_path: Path
) -> None:
    properties = {"skylake_epoch": "2015.5", "skylake_origin": "a test"} | values
    schema = catalog_schema(("V", "B"), ("B-V",))
    build_catalog([stars([1.0], [2.0])], schema, tmp_path / "stars", PixelTree.uniform(1), 60.0, properties)
    opened = ReferenceCatalog.open(tmp_path / "stars")
    assert (opened.survey, opened.lists_variables) == (survey, lists_variables)
