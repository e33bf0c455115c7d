from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest

from skylake.core.sphere import separation_deg
from skylake.errors import ConfigurationError, LakeError
from skylake.lake import Lake, Snapshot
from skylake.schema import load, table_names
from skylake.settings import Settings

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
HATS = [name for name in table_names() if load(name).layout.kind == "hats"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, make_rows: MakeRows, put: Put) -> Lake:
    """A lake with two parts in every table, which have been replaced once. Tests do not change it."""
    lake = Lake.create(tmp_path_factory.mktemp("filled") / "lake", Settings(pixel_order=1))
    for seed in (1, 2):
        put(
            lake, *((name, f"c-{part}", make_rows(name, 60, seed + part)) for name in HATS for part in (1, 2))
        )
    others = [name for name in table_names() if name not in (*HATS, "masters", "targets")]
    for name in others:
        put(lake, (name, "c-1", make_rows(name, 9, 1)), (name, "c-2", make_rows(name, 8, 2)))
    return lake


def plain(table: pa.Table, name: str) -> pd.DataFrame:
    """Rows in the order of the key and in types that all readers share."""
    key = list(load(name).layout.sort)
    table = table.select([column for column in load(name).names if column in table.column_names])
    frame = table.replace_schema_metadata().to_pandas()
    nested = [column for column in frame if frame[column].map(lambda cell: isinstance(cell, dict)).any()]
    for column in nested:
        frame[column] = list(map(str, table[column].to_pylist()))
    return frame.sort_values(key, kind="stable").reset_index(drop=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sources", "matches", "frames"])
@pytest.mark.parametrize("through", ["link", "folder"])
def test_parquet_readers_agree_whichever_path_they_take(filled: Lake, name: str, through: str) -> None:
    snapshot = filled.snapshot()
    place = filled.root / name if through == "link" else snapshot.folder(name)
    expected = plain(snapshot.read(name), name)
    assert len(expected) == snapshot.n_rows(name) > 0
    for found in (
        pa.Table.from_pandas(snapshot.pandas(name)),
        pq.read_table(place / "dataset"),
        pds.dataset(place / "dataset", format="parquet").to_table(),
        pa.Table.from_pandas(pd.read_parquet(place / "dataset")),
        duckdb.sql(f"SELECT * FROM read_parquet('{place}/dataset/**/*.parquet')").to_arrow_table(),
        snapshot.duckdb().sql(f'SELECT * FROM "{name}"').to_arrow_table(),
    ):
        pd.testing.assert_frame_equal(plain(found, name), expected, check_dtype=False)


def test_light_curves_come_with_their_measurements(filled: Lake) -> None:
    snapshot = filled.snapshot()
    expected = plain(snapshot.merged("lightcurves"), "lightcurves")
    found = snapshot.duckdb().sql("SELECT * FROM lightcurves").to_arrow_table()
    pd.testing.assert_frame_equal(plain(found, "lightcurves"), expected, check_dtype=False)


@pytest.mark.slow
@pytest.mark.xdist_group("lsdb")
@pytest.mark.parametrize("name", HATS)
def test_lsdb_agrees_through_the_link_and_through_the_folder(filled: Lake, name: str) -> None:
    import lsdb

    snapshot = filled.snapshot()
    expected = snapshot.read(name)
    key = load(name).layout.sort[-1]
    opened = [
        snapshot.lsdb(name), lsdb.open_catalog(filled.root / name), lsdb.open_catalog(snapshot.folder(name))
    ]  # fmt: skip
    for catalog in opened:
        if catalog is not opened[0] or not load(name).in_blocks:
            assert len(catalog) == expected.num_rows, "the number of rows that the properties give"
        rows = catalog.compute()
        assert len(rows) == expected.num_rows
        for column in ("ra_deg", key):
            assert sorted(rows[column]) == sorted(expected[column].to_pylist())
    cone = snapshot.lsdb(name, columns=["ra_deg", "dec_deg"]).cone_search(0.0, 0.0, 3600.0 * 3).compute()
    assert sorted(cone["ra_deg"]) == sorted(snapshot.cone(name, 0.0, 0.0, 3.0)["ra_deg"].to_pylist())
    assert 0 < len(cone) < expected.num_rows


def test_every_file_is_sorted_by_its_schema(filled: Lake) -> None:
    for name in table_names():
        for path in filled.snapshot().version(name).whole_files():
            rows = pq.read_table(path, partitioning=None)
            assert rows.equals(rows.sort_by([(key, "ascending") for key in load(name).layout.sort])), path


def test_rows_columns_and_parts_can_be_chosen(filled: Lake, make_rows: MakeRows) -> None:
    snapshot = filled.snapshot()
    columns = ["flags", "frame_id"]
    rows = snapshot.read("sources", columns, lambda part: part.name == "c-2", pc.field("flags") > 50)
    expected = make_rows("sources", 60, 4)
    expected = expected.filter(pc.greater(expected["flags"], 50)).select(columns)
    assert rows.column_names == columns
    assert sorted(map(str, rows.to_pylist())) == sorted(map(str, expected.to_pylist()))
    nothing = snapshot.read("sources", columns, lambda part: False)
    assert (nothing.num_rows, nothing.column_names) == (0, columns)


def test_a_small_table_is_kept_and_no_more_than_wanted(filled: Lake) -> None:
    snapshot, columns = filled.snapshot(), ["frame_id", "night"]
    kept = snapshot.whole("frames", columns)
    assert kept is not None and kept.equals(snapshot.read("frames", columns))
    assert snapshot.whole("frames", columns) is kept
    n_values = 3 * kept.num_rows
    assert snapshot.whole("zeropoints", columns, n_values + 3 * snapshot.n_rows("zeropoints") - 1) is None
    assert snapshot.whole("zeropoints", columns, n_values + 3 * snapshot.n_rows("zeropoints")) is not None


def test_a_cone_is_a_search_through_all_rows(filled: Lake) -> None:
    snapshot = filled.snapshot()
    for name in HATS:
        rows = snapshot.merged(name)
        near = separation_deg(359.0, 1.0, rows["ra_deg"], rows["dec_deg"]) <= 2.5
        found = snapshot.cone(name, 359.0, 1.0, 2.5)
        assert 0 < near.sum() < len(rows)
        pd.testing.assert_frame_equal(plain(found, name), plain(rows.filter(pa.array(near)), name))
    with pytest.raises(LakeError, match="frames have no index of positions"):
        snapshot.cone("frames", 0.0, 0.0, 1.0)


def test_a_table_that_is_none_is_reported_with_those_that_are(lake: Lake) -> None:
    with pytest.raises(ConfigurationError, match="no table 'galaxies'; the tables are frames, sources"):
        lake.snapshot().folder("galaxies")


@pytest.mark.parametrize("name", ["a lake [1]", "it's *", "näïve?", "50%"])
def test_any_name_of_a_folder_will_do(tmp_path: Path, name: str, make_rows: MakeRows, put: Put) -> None:
    Lake.create(tmp_path / "a lake 1")  # what a pattern would find in place of the first
    lake = Lake.create(tmp_path / name, Settings(pixel_order=1))
    snapshot = put(
        lake, ("sources", "c-1", make_rows("sources", 30, 1)), ("frames", "c-1", make_rows("frames", 3))
    )
    counts = snapshot.duckdb().sql("SELECT (SELECT count(*) FROM sources), (SELECT count(*) FROM frames)")
    assert counts.fetchall() == [(30, 3)]
    assert snapshot.cone("sources", 0.0, 0.0, 8.0).num_rows == snapshot.read("sources").num_rows == 30


@pytest.mark.full
@pytest.mark.xdist_group("lsdb")
def test_lsdb_opens_a_lake_whose_folder_has_an_odd_name(
    tmp_path: Path, make_rows: MakeRows, put: Put
) -> None:
    lake = Lake.create(tmp_path / "a lake [1] *", Settings(pixel_order=1))
    snapshot = put(lake, ("sources", "c-1", make_rows("sources", 30, 1)))
    assert len(snapshot.lsdb("sources").compute()) == 30


def test_only_what_a_query_needs_is_read(filled: Lake, tmp_path: Path) -> None:
    """A file of another pixel may be unreadable: a cone does not touch it."""
    snapshot = Lake(shutil.copytree(filled.root, tmp_path / "lake", symlinks=True)).snapshot()
    rows = snapshot.read("sources")
    star = rows.slice(0, 1).to_pylist()[0]
    expected = snapshot.cone("sources", star["ra_deg"], star["dec_deg"], 1e-5)
    pixel = star["_healpix_29"] >> 56
    for path in snapshot.version("sources").whole_files():
        if f"Npix={pixel}/" not in str(path):
            path.write_bytes(b"spoiled")
    assert snapshot.cone("sources", star["ra_deg"], star["dec_deg"], 1e-5).equals(expected)
    with pytest.raises(LakeError, match=r"cannot be read.*skylake verify"):
        snapshot.read("sources")


def test_numbers_of_rows_come_from_the_parts_and_are_true(filled: Lake) -> None:
    snapshot = filled.snapshot()
    counts: dict[str, Any] = {name: snapshot.read(name).num_rows for name in table_names()}
    assert {name: snapshot.n_rows(name) for name in table_names()} == counts
    assert np.all([count for name, count in counts.items() if name not in ("masters", "targets")])
