"""The COPY stream, read by an independent reader of PostgreSQL's binary format."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skylake.mirror.copy import encode, storable
from skylake.schema import load


def fields(stream: bytes) -> list[list[bytes | None]]:
    rows, at = [], 0
    while at < len(stream):
        (count,) = struct.unpack_from(">h", stream, at)
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", stream, at)
            at += 4
            row.append(None if length < 0 else stream[at : at + length])
            at += max(length, 0)
        rows.append(row)
    return rows


def expected(value: Any, kind: pa.DataType) -> bytes | None:
    if value is None or value != value:
        return None
    if pa.types.is_string(kind):
        return str(value).encode()
    code = {pa.bool_(): "?", pa.int8(): "h", pa.int16(): "h", pa.int32(): "i", pa.int64(): "q",
            pa.float32(): "f", pa.float64(): "d"}[kind]  # fmt: skip
    return struct.pack(f">{code}", value)


@pytest.mark.parametrize("table", ["frames", "zeropoints", "nights"])
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_field_has_its_length_and_bytes(
    table: str, data: st.DataObject, any_rows: Callable[..., Any]
) -> None:
    rows = data.draw(any_rows(table)).select(load(table).flat_names)
    found = fields(b"".join(encode(rows)))
    assert len(found) == rows.num_rows
    kinds = rows.schema.types
    for cells, values in zip(found, rows.to_pylist(), strict=True):
        wanted = [expected(value, kind) for value, kind in zip(values.values(), kinds, strict=True)]
        assert cells == wanted


@given(st.lists(st.one_of(st.none(), st.integers(-128, 127)), max_size=5))
def test_bytes_travel_as_short_integers(values: list[int | None]) -> None:
    table = pa.table({"a": pa.array(values, pa.int8())})
    assert [row[0] for row in fields(b"".join(encode(table)))] == [
        expected(value, pa.int8()) for value in values
    ]


@given(st.lists(st.one_of(st.none(), st.datetimes()), max_size=5))
def test_timestamps_count_microseconds_from_2000(values: list[Any]) -> None:
    table = pa.table({"a": pa.array(values, pa.timestamp("us", tz="UTC"))})
    epoch = pa.scalar(946_684_800_000_000)
    counts = [None if value is None else pa.scalar(value, pa.timestamp("us")).value for value in values]
    wanted = [None if count is None else struct.pack(">q", count - epoch.as_py()) for count in counts]
    assert [row[0] for row in fields(b"".join(encode(table)))] == wanted


def test_a_large_table_is_cut_without_loss(make_rows: Callable[..., pa.Table]) -> None:
    rows = make_rows("frames", 20_000).select(load("frames").flat_names)
    pieces = list(encode(rows.slice(7)))
    assert len(pieces) > 1
    ids = [struct.unpack(">q", row[0] or b"")[0] for piece in pieces for row in fields(piece)]
    assert ids == rows.column("frame_id").to_pylist()[7:]


def test_chunks_and_slices_of_arrow_do_not_show(make_rows: Callable[..., pa.Table]) -> None:
    # The database has no nested columns.
    rows = make_rows("zeropoints", 50).drop_columns(["position_terms", "shares"])
    chunked = pa.concat_tables([rows.slice(0, 13), rows.slice(13, 0), rows.slice(13)])
    assert b"".join(encode(chunked)) == b"".join(encode(rows))


@given(st.lists(st.one_of(st.none(), st.text(alphabet="a\0é")), max_size=6))
def test_storable_changes_zero_bytes_and_nothing_else(values: list[str | None]) -> None:
    table = pa.table({"text": pa.array(values, pa.string()), "number": pa.array(range(len(values)))})
    after = storable(table)
    assert after.column("number").equals(table.column("number"))
    wanted = [None if value is None else value.replace("\0", "\ufffd") for value in values]
    assert after.column("text").to_pylist() == wanted
