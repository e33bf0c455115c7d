"""The digest of rows: what it must not depend on, and what it must not overlook."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skylake.schema import digest
from skylake.schema.digest import add_digests, group_digests, rows_digest
from skylake.schema.parquet import write_parquet

Rows = Callable[..., pa.Table]
ZERO = "0" * 16
KNOWN = "8ee575d0c73e15ea"
counts = st.integers(0, 60)
seeds = st.integers(0, 5)


def replaced(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def test_no_rows_are_zero(make_rows: Rows) -> None:
    assert rows_digest(make_rows(0)) == rows_digest(make_rows(5).slice(0, 0)) == add_digests([]) == ZERO


def test_a_digest_is_the_same_in_every_release() -> None:
    # Lakes hold digests: whoever changes them makes every lake look damaged.
    rows = pa.table(
        {"a": pa.array([1, None], pa.int16()), "b": ["x", "y"], "c": [[0.5], [None, 2.0]], "d": [True, None]}
    )
    assert rows_digest(rows) == KNOWN


@given(count=counts, seed=seeds)
def test_order_of_rows_does_not_matter(count: int, seed: int, make_rows: Rows) -> None:
    rows = make_rows(count, seed)
    shuffled = rows.take(np.random.default_rng(seed).permutation(count))
    assert rows_digest(shuffled) == rows_digest(rows)


@given(count=counts, seed=seeds)
def test_order_of_columns_does_not_matter(count: int, seed: int, make_rows: Rows) -> None:
    rows = make_rows(count, seed)
    names = list(np.random.default_rng(seed).permutation(rows.column_names))
    assert rows_digest(rows.select(names)) == rows_digest(rows)


@given(count=counts, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_digests_of_pieces_add_up(count: int, cuts: list[int], make_rows: Rows) -> None:
    rows = make_rows(count)
    ends = [0, *sorted(min(cut, count) for cut in cuts), count]
    pieces = [rows.slice(start, end - start) for start, end in pairwise(ends)]
    assert add_digests(map(rows_digest, pieces)) == rows_digest(rows)
    assert rows_digest(pa.concat_tables(pieces)) == rows_digest(rows)


@given(count=counts, n_groups=st.integers(1, 5), seed=seeds)
def test_groups_are_digested_as_if_alone(count: int, n_groups: int, seed: int, make_rows: Rows) -> None:
    rows = make_rows(count, seed)
    group = np.random.default_rng(seed).integers(0, n_groups, count)
    found = group_digests(rows, group, n_groups)
    assert found == [rows_digest(rows.filter(pa.array(group == number))) for number in range(n_groups)]
    assert add_digests(found) == rows_digest(rows)


def test_more_rows_than_are_hashed_together_add_up(make_rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, group = make_rows(500), np.arange(500) % 3
    whole, groups = rows_digest(rows), group_digests(rows, group, 3)
    monkeypatch.setattr(digest, "_BLOCK", 64)
    assert rows_digest(rows) == whole
    assert group_digests(rows, group, 3) == groups


@given(count=counts, kind=st.sampled_from(["float", "nested", "text"]), place=st.integers(0, 9))
def test_a_column_of_nulls_adds_nothing(count: int, kind: str, place: int, make_rows: Rows) -> None:
    kinds = {"float": pa.float32(), "text": pa.string(), "nested": pa.struct([("x", pa.list_(pa.float64()))])}
    rows = make_rows(count)
    more = rows.add_column(place, "more", pa.nulls(count, kinds[kind]))
    assert rows_digest(more) == rows_digest(rows)


@given(count=counts, seed=seeds)
def test_widened_types_do_not_matter(count: int, seed: int, make_rows: Rows) -> None:
    rows = make_rows(count, seed)
    wide = rows
    for name, kind in {
        "short": pa.int64(),
        "count": pa.int64(),
        "flux": pa.float64(),
        "name": pa.large_string(),
    }.items():
        wide = replaced(wide, name, rows[name].cast(kind))
    curve = pa.struct([("mjd", pa.list_(pa.float64())), ("n", pa.list_(pa.int64()))])
    wide = replaced(wide, "curve", rows["curve"].cast(curve))
    assert rows_digest(wide) == rows_digest(rows)
    coded = replaced(rows, "name", rows["name"].dictionary_encode())
    assert rows_digest(coded) == rows_digest(rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=counts, seed=seeds)
def test_a_file_does_not_matter(count: int, seed: int, make_rows: Rows, tmp_path: Path) -> None:
    rows = make_rows(count, seed)
    write_parquet(rows, tmp_path / "rows.parquet")
    assert rows_digest(pq.read_table(tmp_path / "rows.parquet")) == rows_digest(rows)


@given(count=st.integers(1, 40), seed=seeds, data=st.data())
def test_a_row_that_is_lost_or_doubled_is_seen(
    count: int, seed: int, data: st.DataObject, make_rows: Rows
) -> None:
    rows, row = make_rows(count, seed), data.draw(st.integers(0, count - 1))
    lost = pa.concat_tables([rows.slice(0, row), rows.slice(row + 1)])
    assert rows_digest(lost) != rows_digest(rows)
    assert rows_digest(pa.concat_tables([rows, rows.slice(row, 1)])) != rows_digest(rows)
    # One lost and another doubled in its place.
    if count > 1:
        assert rows_digest(pa.concat_tables([lost, lost.slice(0, 1)])) != rows_digest(rows)


OTHER = {
    "id": -1, "short": 100, "count": 100, "flux": 0.123, "mag": 0.123, "name": "other", "good": None,
    "time": 7, "curve": {"mjd": [9.0], "n": [9]},
}  # fmt: skip


@given(count=st.integers(1, 40), seed=seeds, name=st.sampled_from(sorted(OTHER)), data=st.data())
def test_a_value_that_is_changed_is_seen(
    count: int, seed: int, name: str, data: st.DataObject, make_rows: Rows
) -> None:
    rows, row = make_rows(count, seed), data.draw(st.integers(0, count - 1))
    values = rows[name].to_pylist()
    other = OTHER[name] if name != "good" or values[row] is not None else True
    if name == "time":
        values, other = rows[name].cast(pa.int64()).to_pylist(), 7
    if values[row] == other:
        return
    values[row] = other
    changed = (
        pa.array(values, pa.int64()).cast(rows.schema.field(name).type)
        if name == "time"
        else pa.array(values, rows.schema.field(name).type)
    )
    assert rows_digest(replaced(rows, name, changed)) != rows_digest(rows)


@given(count=st.integers(2, 40), seed=seeds, name=st.sampled_from(["flux", "count", "name", "curve"]))
def test_values_that_change_rows_are_seen(count: int, seed: int, name: str, make_rows: Rows) -> None:
    rows = make_rows(count, seed)
    turned = pa.concat_arrays([rows[name].combine_chunks()[1:], rows[name].combine_chunks()[:1]])
    if turned.to_pylist() == rows[name].to_pylist():
        return
    assert rows_digest(replaced(rows, name, turned)) != rows_digest(rows)


def test_values_that_change_columns_are_seen() -> None:
    assert rows_digest(pa.table({"a": [1.0], "b": [2.0]})) != rows_digest(pa.table({"a": [2.0], "b": [1.0]}))
    assert rows_digest(pa.table({"a": [1]})) != rows_digest(pa.table({"b": [1]}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([None], [0.0]),
        ([[1.0, 2.0]], [[2.0, 1.0]]),
        ([[1.0], [2.0, 3.0]], [[1.0, 2.0], [3.0]]),
        ([[]], [[0.0]]),
        ([[1.0, None]], [[1.0]]),
        ([[None, 1.0]], [[1.0, None]]),
        ([[1.0], [1.0]], [[1.0, 1.0], []]),
        ([""], [None]),
        (["a", "b"], ["ab", ""]),
    ],
)
def test_what_looks_alike_differs(one: list[object], other: list[object]) -> None:
    # Beside an identifier, as every row of a table has one: rows of nulls alone weigh nothing.
    count = range(len(one))
    kind = pa.array([*one, *other]).type
    first, second = (pa.table({"id": count, "a": pa.array(values, kind)}) for values in (one, other))
    assert rows_digest(first) != rows_digest(second)


def test_rows_of_many_lists_are_as_those_of_each(make_rows: Rows) -> None:
    rows = make_rows(40)
    alone = add_digests(rows_digest(rows.slice(row, 1)) for row in range(40))
    assert alone == rows_digest(rows)
    reversed_lists = pc.list_slice(pc.struct_field(rows["curve"], "mjd"), 0, 1)
    assert rows_digest(pa.table({"id": rows["id"], "mjd": reversed_lists})) != rows_digest(
        pa.table({"id": rows["id"], "mjd": pc.struct_field(rows["curve"], "mjd")})
    )
