from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.schema import arrow_schema, empty_table, load
from skylake.schema.parquet import write_parquet
from skylake.sky import hats
from skylake.sky.pixels import Pixel

pixels = st.integers(0, 13).flatmap(
    lambda order: st.tuples(st.just(order), st.integers(0, 12 * 4**order - 1))
)


@given(pixels, st.sampled_from(["", "/", "/night.parquet", "/Npix=3.parquet"]))
def test_a_folder_tells_its_pixel(pixel: Pixel, rest: str) -> None:
    assert hats.pixel_of(Path("some") / "where" / f"{hats.leaf_folder(*pixel)}{rest}") == pixel


@pytest.mark.parametrize(
    "path", ["dataset/_metadata", "dataset/Norder=1/Dir=0/Npix=7.parquet", "Norder=1", ""]
)
def test_a_path_outside_pixels_has_none(path: str) -> None:
    assert hats.pixel_of(path) is None


def test_folders_are_those_of_the_format() -> None:
    assert hats.leaf_folder(3, 17) == "dataset/Norder=3/Dir=0/Npix=17"
    assert hats.leaf_folder(6, 43210) == "dataset/Norder=6/Dir=40000/Npix=43210"


def test_pixels_and_files_are_found_in_order_but_hidden_ones(tmp_path: Path) -> None:
    empty = empty_table(load("sources"))
    for pixel in [(2, 100), (1, 3), (2, 9)]:
        for name in ("b", "a", ".half", "_metadata"):
            write_parquet(empty, tmp_path / hats.leaf_folder(*pixel) / f"{name}.parquet")
    assert hats.find_pixels(tmp_path) == [(1, 3), (2, 9), (2, 100)]
    found = [(pixel, path.name) for pixel, path in hats.leaf_files(tmp_path, [(2, 9), (1, 3), (0, 0)])]
    assert found == [(pixel, name) for pixel in [(2, 9), (1, 3)] for name in ("a.parquet", "b.parquet")]


PROPERTIES = hats.Properties("mine", "source", 42)


def test_properties_are_read_back_and_hats_understands_them(tmp_path: Path) -> None:
    from hats.catalog import TableProperties

    margin = hats.Properties("edge", "margin", 3, primary="mine", margin_arcsec=12.5)
    hats.write_metadata(tmp_path, load("sources"), margin, [(2, 9), (1, 3)], {"skylake_extra": "a = b # c"})
    mine = hats.read_properties(tmp_path)
    assert mine["hats_nrows"] == "3"
    assert mine["skylake_extra"] == "a = b # c"
    theirs = TableProperties.read_from_dir(tmp_path)
    assert (theirs.catalog_name, theirs.catalog_type, theirs.total_rows) == ("edge", "margin", 3)
    assert (theirs.ra_column, theirs.dec_column) == ("ra_deg", "dec_deg")
    assert (theirs.primary_catalog, theirs.margin_threshold) == ("mine", 12.5)
    assert (tmp_path / "partition_info.csv").read_text() == "Norder,Npix\n1,3\n2,9\n"
    stored = pq.read_schema(tmp_path / "dataset" / "_common_metadata")
    # Parquet calls what is in a list an element, and Arrow an item.
    wanted = arrow_schema(load("sources"))
    assert stored.equals(wanted) and stored.metadata == wanted.metadata
    assert [one.metadata for one in stored] == [one.metadata for one in wanted]


def test_metadata_are_replaced_and_never_changed_in_place(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    hats.write_metadata(old, load("sources"), PROPERTIES, [(1, 3)])
    names = ("hats.properties", "partition_info.csv", "dataset/_common_metadata")
    before = {name: (old / name).read_bytes() for name in names}
    (new / "dataset").mkdir(parents=True)
    for name in names:
        os.link(old / name, new / name)
    hats.write_metadata(new, load("matches"), hats.Properties("other", "source", 7), [(2, 5)])
    assert {name: (old / name).read_bytes() for name in names} == before
    assert all((new / name).read_bytes() != before[name] for name in names)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_collection_names_its_catalog_and_margin(tmp_path: Path) -> None:
    from hats.catalog.dataset.collection_properties import CollectionProperties

    hats.write_collection(tmp_path, "stars", "stars_margin", 300.0)
    theirs = CollectionProperties.read_from_dir(tmp_path)
    assert (theirs.name, theirs.hats_primary_table_url) == ("stars", "stars")
    assert (theirs.all_margins, theirs.default_margin) == (["stars_margin"], "stars_margin")
    mine = hats.read_properties(tmp_path, "collection.properties")
    assert float(mine["skylake_margin_arcsec"]) == 300.0
