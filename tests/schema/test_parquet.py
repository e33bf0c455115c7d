from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
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
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.errors import SchemaError
from skylake.schema import arrow_schema, load, table_names
from skylake.schema.parquet import ROW_GROUP_ROWS, open_writer, write_options, write_parquet

#: A value of each type that a schema of ours or a foreign catalog may have.
TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "flag": (pa.bool_(), st.booleans()),
    "tiny": (pa.int8(), st.integers(-(2**7), 2**7 - 1)),
    "short": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "word": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "long": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "bits": (pa.uint32(), st.integers(0, 2**32 - 1)),
    "wide": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "half": (pa.float16(), st.floats(width=16, allow_nan=False)),
    "float": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "double": (pa.float64(), st.floats(allow_nan=False)),
    "text": (pa.string(), st.text(max_size=8)),
    "long text": (pa.large_string(), st.text(max_size=8)),
    "octets": (pa.binary(), st.binary(max_size=8)),
    "day": (pa.date32(), st.dates()),
    "instant": (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
    "price": (pa.decimal128(9, 2), st.integers(-(10**9) + 1, 10**9 - 1).map(lambda n: Decimal(n) / 100)),
    "frame_id": (pa.int64(), st.sampled_from([-(2**62), 3, 2**62])),
    "mjd_mid": (pa.float64(), st.sampled_from([55000.25, 61000.875])),
    "a.b": (pa.int64(), st.integers(-9, 9)),
}  # fmt: skip
INNER = ["frame_id", "mjd_mid", "double", "word", "short", "text", "instant"]
FLAT = ["_healpix_29", "frame_id", "night", "mjd_mid", "ra_deg", "flux", "camera", "n"]


def columns_of(length: int) -> st.SearchStrategy[pa.Table]:
    """Tables of so many rows with a column of each type, lists of each, and a struct of lists, all with nulls."""

    def column(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(st.none() | values, min_size=length, max_size=length)

    def lists(name: str) -> st.SearchStrategy[list[Any]]:
        return column(st.lists(st.none() | TYPES[name][1], max_size=3))

    def table(flat: dict[str, list[Any]], listed: dict[str, list[Any]]) -> pa.Table:
        arrays = {name: pa.array(flat[name], TYPES[name][0]) for name in flat}
        inner = {name: pa.array(values, pa.list_(TYPES[name][0])) for name, values in listed.items()}
        struct = pa.StructArray.from_arrays(list(inner.values()), names=list(inner))
        return pa.table(arrays | {f"{name}s": array for name, array in inner.items()} | {"curve": struct})

    flat = st.fixed_dictionaries({name: column(values) for name, (_, values) in TYPES.items()})
    return st.builds(table, flat, st.fixed_dictionaries({name: lists(name) for name in INNER}))


def detections(count: int, frames: int = 50, seed: int = 0) -> pa.Table:
    """Rows sorted by position, with little of its own in the columns of a frame."""
    random = np.random.default_rng(seed)
    frame = random.integers(0, frames, count)
    return pa.table({
        "_healpix_29": np.sort(random.integers(0, 12 << 58, count)),
        "frame_id": random.integers(0, 2**62, frames)[frame],
        "night": (20240101 + frame // 10).astype(np.int32),
        "mjd_mid": random.uniform(60000, 60010, frames)[frame],
        "ra_deg": random.uniform(0, 360, count),
        "flux": pa.array(random.normal(size=count).astype(np.float32), mask=random.random(count) < 0.1),
        "camera": np.array(["one", "two"])[frame % 2],
        "n": pa.array(random.integers(0, 9, count), pa.int16()),
    })  # fmt: skip


def curves(lengths: Sequence[int]) -> pa.Table:
    """A row for each length, with a list of that length in a struct."""
    offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
    values = pa.array(np.arange(int(np.sum(lengths)), dtype=float))
    lists = pa.ListArray.from_arrays(offsets, values)
    curve = pa.StructArray.from_arrays([lists, lists], names=["mjd_mid", "mag"])
    return pa.table({"object_id": np.arange(len(lengths)), "curve": curve})


def written(rows: pa.Table, path: Path, blocks: Sequence[int] = ()) -> str:
    """Write rows, in blocks between the given places, and return the digest of the file."""
    with open_writer(rows.schema, path) as writer:
        borders = [0, *sorted(blocks), rows.num_rows]
        for start, end in pairwise(borders):
            writer.write(rows.slice(start, end - start))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def encodings(path: Path) -> dict[str, set[str]]:
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    return {chunk.path_in_schema: set(chunk.encodings) for chunk in chunks}


@given(rows=st.integers(0, 6).flatmap(columns_of))
def test_every_type_with_its_nulls_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: pa.Table
) -> None:
    path = tmp_path_factory.mktemp("types") / "rows.parquet"
    write_parquet(rows, path)
    back = pq.read_table(path)
    back.validate(full=True)
    assert back.equals(rows)
    assert back.schema.equals(rows.schema)


@pytest.mark.parametrize("name", table_names())
def test_every_leaf_of_a_table_is_written_as_its_options_say(name: str, tmp_path: Path) -> None:
    schema = arrow_schema(load(name))
    table = pa.table([pa.array([_sample(field.type)] * 40, field.type) for field in schema], schema=schema)
    write_parquet(table, tmp_path / "rows.parquet")
    options, found = write_options(schema), encodings(tmp_path / "rows.parquet")
    assert set(options["use_dictionary"]).isdisjoint(options["column_encoding"])
    assert {*options["use_dictionary"], *options["column_encoding"]} == set(found)
    for path, encoding in options["column_encoding"].items():
        assert encoding in found[path]
    booleans = {field.name for field in schema if pa.types.is_boolean(field.type)}
    for path in {*options["use_dictionary"]} - booleans:
        assert "RLE_DICTIONARY" in found[path]


def _sample(kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return {field.name: _sample(field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_sample(kind.value_type)] * 3
    if pa.types.is_timestamp(kind):
        return datetime(2024, 4, 7, tzinfo=UTC)
    return "text" if pa.types.is_string(kind) else pa.scalar(1).cast(kind).as_py()


def test_what_rows_of_a_frame_share_is_in_dictionaries() -> None:
    sources, lightcurves = (write_options(arrow_schema(load(name))) for name in ("sources", "lightcurves"))
    assert {"frame_id", "mjd_mid", "night", "camera", "filter"} == set(sources["use_dictionary"])
    assert sources["column_encoding"]["_healpix_29"] == "DELTA_BINARY_PACKED"
    assert sources["column_encoding"]["ra_deg"] == "BYTE_STREAM_SPLIT"
    assert "lightcurve.frame_id.list.element" in lightcurves["use_dictionary"]
    assert lightcurves["column_encoding"]["lightcurve.mag.list.element"] == "BYTE_STREAM_SPLIT"


def test_a_foreign_catalog_is_written_by_its_types(tmp_path: Path) -> None:
    fields = {
        "d": (pa.date32(), date(2024, 4, 7)),
        "h": (pa.float16(), np.float16(1.5)),
        "t": (pa.large_string(), "a"),
    }
    rows = pa.table({name: pa.array([value], kind) for name, (kind, value) in fields.items()})
    write_parquet(rows, tmp_path / "x.parquet")
    found = encodings(tmp_path / "x.parquet")
    assert "DELTA_BINARY_PACKED" in found["d"]
    assert "RLE_DICTIONARY" in found["h"] & found["t"]


def test_few_frames_are_smaller_than_by_type_encodings(tmp_path: Path) -> None:
    rows = detections(20000, frames=80)
    write_parquet(rows, tmp_path / "ours.parquet")
    options = write_options(rows.schema) | {"use_dictionary": ["camera", "n"]}
    options["column_encoding"] |= {"frame_id": "DELTA_BINARY_PACKED", "mjd_mid": "BYTE_STREAM_SPLIT"}
    pq.write_table(rows, tmp_path / "typed.parquet", **options)
    sizes = [(tmp_path / name).stat().st_size for name in ("ours.parquet", "typed.parquet")]
    assert sizes[0] < sizes[1] - 8 * rows.num_rows


def test_each_row_group_has_the_range_of_each_column(tmp_path: Path) -> None:
    rows = detections(2 * ROW_GROUP_ROWS + 5)
    write_parquet(rows, tmp_path / "rows.parquet")
    metadata = pq.ParquetFile(tmp_path / "rows.parquet").metadata
    assert [metadata.row_group(number).num_rows for number in range(3)] == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 5]
    for number in range(3):
        piece = rows.slice(number * ROW_GROUP_ROWS, ROW_GROUP_ROWS)
        for place, name in enumerate(FLAT):
            found, values = metadata.row_group(number).column(place).statistics, piece[name].drop_null()
            assert found.has_min_max and found.null_count == piece[name].null_count
            assert (found.min, found.max) == (min(values.to_pylist()), max(values.to_pylist()))


def test_statistics_find_the_rows_of_a_position(tmp_path: Path) -> None:
    rows = detections(3 * ROW_GROUP_ROWS)
    write_parquet(rows, tmp_path / "rows.parquet")
    index = rows["_healpix_29"][2 * ROW_GROUP_ROWS - 1].as_py()
    fragment = next(pds.dataset(tmp_path / "rows.parquet").get_fragments())
    groups = fragment.split_by_row_group(pds.field("_healpix_29") == index)
    assert [group.row_groups[0].id for group in groups] == [1]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 2 * ROW_GROUP_ROWS + 9), max_size=6),
    st.sampled_from([0, 7, ROW_GROUP_ROWS, 2 * ROW_GROUP_ROWS + 9]),
)
def test_the_same_rows_give_the_same_bytes_in_any_blocks(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[int], count: int
) -> None:
    folder, rows = tmp_path_factory.mktemp("blocks"), detections(count)
    # Long texts fill several pages, which end where chunks do if nobody prevents it.
    texts = pc.utf8_lpad(rows["_healpix_29"].cast(pa.string()), 64, "0")
    rows = rows.append_column("text", texts)
    write_parquet(rows, folder / "whole.parquet")
    whole = hashlib.sha256((folder / "whole.parquet").read_bytes()).hexdigest()
    assert written(rows, folder / "pieces.parquet", [min(place, count) for place in blocks]) == whole
    chunks = pa.concat_tables([rows.slice(0, count // 3), rows.slice(count // 3)])
    write_parquet(chunks, folder / "chunks.parquet")
    assert (folder / "chunks.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 900, 20000, 40000]), max_size=25),
    st.lists(st.integers(0, 25), max_size=4),
)
def test_a_row_group_of_light_curves_holds_few_measurements(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], blocks: list[int]
) -> None:
    folder, rows = tmp_path_factory.mktemp("curves"), curves(lengths)
    places = [min(place, rows.num_rows) for place in blocks]
    assert written(rows, folder / "a.parquet") == written(rows, folder / "b.parquet", places)
    file = pq.ParquetFile(folder / "a.parquet")
    assert file.read().equals(rows)
    counts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    ends = np.cumsum([0, *counts])
    for number, (start, end) in enumerate(pairwise(ends)):
        points = np.maximum(lengths[start:end], 1)
        assert points[:-1].sum() < ROW_GROUP_ROWS
        assert number == len(counts) - 1 or points.sum() >= ROW_GROUP_ROWS


def test_no_rows_make_a_file_that_says_so(tmp_path: Path) -> None:
    schema = arrow_schema(load("sources"))
    with open_writer(schema, tmp_path / "rows.parquet"):
        pass
    assert pq.read_table(tmp_path / "rows.parquet").equals(schema.empty_table())
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/rows.parquet'").fetchall() == [(0,)]
    assert list(pd.read_parquet(tmp_path / "rows.parquet")) == schema.names


def test_readers_agree_on_every_value(tmp_path: Path) -> None:
    rows = detections(ROW_GROUP_ROWS + 500)
    path = tmp_path / "rows.parquet"
    write_parquet(rows, path)
    with duckdb.connect() as connection:
        assert connection.sql(f"FROM '{path}'").to_arrow_table().cast(rows.schema).equals(rows)
        few = connection.sql(
            f"SELECT _healpix_29 FROM '{path}' WHERE n = 3 AND flux > 1 AND night = 20240103"
        )
        found = few.to_arrow_table()
    filters = [("n", "=", 3), ("flux", ">", 1.0), ("night", "=", 20240103)]
    assert found["_healpix_29"].to_pylist() == pq.read_table(path, filters=filters)["_healpix_29"].to_pylist()
    assert found.num_rows > 10
    frame = pd.read_parquet(path, dtype_backend="pyarrow")
    assert pa.Table.from_pandas(frame, schema=rows.schema, preserve_index=False).equals(rows)


def test_polars_agrees_where_it_is_installed(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    rows, path = detections(ROW_GROUP_ROWS + 500), tmp_path / "rows.parquet"
    write_parquet(rows, path)
    assert polars.read_parquet(path).to_arrow().cast(rows.schema).equals(rows)


def test_readers_agree_on_lists_in_structs(tmp_path: Path) -> None:
    rows, path = curves([3, 0, 40000, 1]), tmp_path / "rows.parquet"
    write_parquet(rows, path)
    with duckdb.connect() as connection:
        found = connection.sql(f"FROM '{path}'").to_arrow_table()
    assert found.cast(rows.schema).equals(rows)


def test_an_error_leaves_only_the_older_file(tmp_path: Path) -> None:
    older, new = detections(10), detections(2 * ROW_GROUP_ROWS, seed=1)
    write_parquet(older, tmp_path / "rows.parquet")
    for name in ("rows.parquet", "new.parquet"):
        with pytest.raises(ZeroDivisionError), open_writer(new.schema, tmp_path / name) as writer:
            writer.write(new)
            assert len(list(tmp_path.glob(".*.tmp"))) == 1
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]
    assert pq.read_table(tmp_path / "rows.parquet").equals(older)


def test_rows_of_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    rows = detections(10)
    with (
        pytest.raises(SchemaError, match="flux"),
        open_writer(rows.schema, tmp_path / "rows.parquet") as writer,
    ):
        writer.write(rows.drop_columns(["n"]))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_seen_before_it_is_whole(tmp_path: Path) -> None:
    rows = detections(ROW_GROUP_ROWS)
    with open_writer(rows.schema, tmp_path / "deep" / "rows.parquet") as writer:
        writer.write(rows)
        assert pds.dataset(tmp_path / "deep", format="parquet").files == []
        assert list((tmp_path / "deep").glob("*.parquet")) == []
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["rows.parquet"]
