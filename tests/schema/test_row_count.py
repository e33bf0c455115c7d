"""Row counts of Parquet files, read from the first bytes of their footers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skylake.schema import arrow_schema, load, table_names
from skylake.schema import row_count as module
from skylake.schema.parquet import write_parquet
from skylake.schema.row_count import row_count

NUMBERS = pa.schema([pa.field("x", pa.int64(), nullable=False), pa.field("name", pa.string())])


def numbers(count: int) -> pa.Table:
    return pa.table({"x": np.arange(count), "name": pa.nulls(count, pa.string())}, NUMBERS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 70_000))
@example(63)
@example(64)
@example(8192)
def test_it_is_the_number_that_the_whole_footer_shows(tmp_path: Path, count: int) -> None:
    path = tmp_path / "numbers.parquet"
    write_parquet(numbers(count), path)
    assert row_count(path, NUMBERS) == pq.read_metadata(path).num_rows == count


@pytest.mark.parametrize("table", table_names())
def test_footers_of_all_tables_are_known_by_their_beginning(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = arrow_schema(load(table))
    path = tmp_path / "rows.parquet"
    write_parquet(schema.empty_table(), path)
    # The slow way must not be taken for files of our own.
    monkeypatch.delattr(module.pq, "read_metadata")
    assert row_count(path, schema) == 0


def test_a_file_of_another_schema_is_counted_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"y": [1.0, 2.0, 3.0]}), path)
    assert row_count(path, NUMBERS) == 3


@pytest.mark.parametrize("kept", [0, 3, 7, 100])
def test_what_is_no_parquet_file_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    write_parquet(numbers(500), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(pa.ArrowInvalid):
        row_count(path, NUMBERS)
