"""What is read is what was written, or an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.errors import LakeError
from skylake.lake import Lake, Snapshot
from skylake.lake.storage.slices import read_files, read_verified
from skylake.schema.parquet import write_parquet

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
COLUMN = "mjd_mid"


def test_no_flipped_bit_of_a_page_is_read_as_another_value(tmp_path: Path, make_rows: MakeRows) -> None:
    random = np.random.default_rng(1)
    rows = make_rows("sources", 2000, 1, flux_aper2=random.normal(1e3, 1e2, 2000).astype(np.float32))
    path = tmp_path / "rows.parquet"
    write_parquet(rows, path)
    content = path.read_bytes()
    group = pq.read_metadata(path).row_group(0)
    (chunk,) = (
        column
        for column in map(group.column, range(group.num_columns))
        if column.path_in_schema == "flux_aper2"
    )
    size = chunk.total_compressed_size
    places = chunk.data_page_offset + random.integers(size // 5, size, 40)  # after the header of the page
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(LakeError, match="CRC checksum verification failed"):
            read_files("sources", [path], ["flux_aper2"])
    path.write_bytes(content)
    assert read_files("sources", [path]).equals(rows)


@pytest.mark.parametrize("change", ["a value", "a row less", "a row twice"])
def test_described_rows_are_read_as_written_or_refused(
    lake: Lake, make_rows: MakeRows, put: Put, change: str
) -> None:
    version = put(lake, ("frames", "c-1", make_rows("frames", 20, 1))).version("frames")
    (where,) = version.slices_of(version.parts["c-1"])
    rows = read_verified("frames", where)
    assert rows.num_rows == 20
    place = rows.column_names.index(COLUMN)
    changed = {
        "a value": rows.set_column(
            place, rows.schema.field(COLUMN), pa.array([*rows[COLUMN].to_pylist()[:-1], 0.5])
        ),
        "a row less": rows.slice(1),
        "a row twice": pa.concat_tables([rows, rows.slice(3, 1)]),
    }[change]
    write_parquet(changed, where.path)
    with pytest.raises(LakeError, match=f"{where.path}: the rows are not those that were written"):
        read_verified("frames", where)
    assert read_verified("frames", replace(where, expected=None)).num_rows == changed.num_rows
