"""Tables of users are read like any other, with one row for each key however they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pytest

from skylake.errors import UsageError
from skylake.reading.reader import LakeReader
from skylake.reading.tables import Table

pytestmark = pytest.mark.xdist_group("lsdb-reading")

READERS: dict[str, Callable[[Table], Any]] = {
    "arrow": lambda table: table.arrow().to_pandas(),
    "polars": lambda table: table.polars().to_pandas(),
    "dask": lambda table: table.dask().compute(scheduler="synchronous"),
    "dataset": lambda table: table.dataset().to_table().to_pandas(),
    "lazy_polars": lambda table: table.lazy_polars().collect().to_pandas(),
    "lsdb": lambda table: table.lsdb().compute().reset_index(),
}


def in_order(rows: Any, columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows)[columns].sort_values(columns).reset_index(drop=True)


def test_the_lake_names_them(of_user: LakeReader) -> None:
    assert tuple(of_user.tables)[-2:] == ("crowding", "stars")
    assert len(of_user["crowding"]) == 4 and len(of_user["stars"]) == 60
    assert {"crowding", "stars"} <= set(of_user._ipython_key_completions_())
    assert "An aggregate of the user, from stars.sql" in of_user._repr_html_()
    assert "  crowding" in repr(of_user)
    assert [run.stage for run in of_user.history(table="stars")] == ["aggregate stars"]
    star = of_user["stars"].pandas().iloc[0]
    assert len(of_user.cone("stars", star["ra_deg"], star["dec_deg"], 1)) == 1
    with pytest.raises(
        UsageError, match=r"no table or view 'crowd'; it has frames, .*stars, calibrated_frames"
    ):
        of_user["crowd"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["crowding", "stars"])
def test_all_libraries_agree_with_sql(of_user: LakeReader, name: str, reader: str) -> None:
    table = of_user[name]
    assert isinstance(table, Table)
    if (name, reader) == ("crowding", "lsdb"):
        pytest.skip("it has no positions")
    columns = list(table.columns)
    expected = in_order(of_user.sql(f"FROM {name}").pandas(), columns)
    assert len(expected) == len(table)
    pd.testing.assert_frame_equal(in_order(READERS[reader](table), columns), expected, check_dtype=False)


def test_filters_choose_merged_rows(of_user: LakeReader) -> None:
    for name, count, cone in (("crowding", "n_frames", None), ("stars", "n", (0.0, 0.0, 9.0))):
        table, n = of_user[name], {"crowding": 9, "stars": 6}[name]
        every = table.arrow(cone=cone)
        assert set(every[count].to_pylist()) == {n}
        for columns in (None, ["newest"]):
            assert len(table.arrow(columns, pc.field(count) == n, cone)) == len(every) > 3
            assert len(table.arrow(columns, pc.field(count) < n, cone)) == 0
        with pytest.raises(UsageError, match=rf"{name} has no column 'night'; its columns are "):
            table.arrow(filter=pc.field("night") == 20240408, cone=cone)
    assert len(of_user["crowding"].arrow(filter=pc.field("band") == "V")) == 2


def test_lsdb_refuses_filters_of_single_nights(of_user: LakeReader) -> None:
    with pytest.raises(UsageError, match=r"the files of stars have a row for each night.*query\("):
        of_user["stars"].lsdb(filters=[("n", ">", 1)])
    assert len(of_user["stars"].lsdb().query("n > 1").compute()) == 60


@pytest.mark.parametrize("name", ["crowding", "stars", "frames", "calibrated_frames"])
@pytest.mark.parametrize(
    ("filter", "why"),
    [
        (pc.field("colour") == 1, "has no column 'colour'; (its columns are|did you mean 'colour_term')"),
        (pc.field("camera") > 1, "cannot be applied"),
        ([("camera", "==", "a")], "is not an expression of pyarrow"),
    ],
)
def test_a_filter_that_is_none_is_refused(of_user: LakeReader, name: str, filter: Any, why: str) -> None:
    if name == "stars":
        filter = pc.field("catalog") > 1 if why == "cannot be applied" else filter
    with pytest.raises(UsageError, match=why):
        of_user[name].arrow(filter=filter)


@pytest.mark.parametrize("name", ["stars", "frames", "calibrated_frames"])
def test_no_columns_are_refused(of_user: LakeReader, name: str) -> None:
    for read in ("arrow", "pandas", "polars", "dask", "lsdb"):
        with pytest.raises(UsageError, match=f"no column of {name} is named"):
            getattr(of_user[name], read)([])
