from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.sky.footers import KeptFooters, read_footer


def written(path: Path, index: list[int]) -> Path:
    pq.write_table(pa.table({"_healpix_29": pa.array(index, pa.int64())}), path, row_group_size=10)
    return path


def test_a_footer_is_read_once_and_that_of_a_new_file_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", list(range(100)))
    first = read_footer(path)
    assert first.n_rows == 100 and first.low.tolist() == list(range(0, 100, 10))
    assert first.high.tolist() == list(range(9, 100, 10)) and read_footer(path) is first
    other = written(tmp_path / "b.parquet", list(range(50)))
    other.replace(path)
    assert read_footer(path).n_rows == 50
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_footer(path)


def test_the_footers_that_were_used_last_are_kept(tmp_path: Path) -> None:
    footers = [read_footer(written(tmp_path / f"{number}.parquet", [number])) for number in range(4)]
    kept = KeptFooters(3 * footers[0].n_bytes)
    for number in (0, 1, 2):
        kept.keep((number,), footers[number])
    assert kept.get((0,)) is footers[0]
    kept.keep((3,), footers[3])
    assert [kept.get((number,)) is not None for number in range(4)] == [True, False, True, True]
    assert KeptFooters(1).keep((0,), footers[0]) is footers[0]


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 20)), min_size=1, max_size=4),
)
def test_row_groups_without_a_row_in_the_ranges_alone_are_left_out(
    tmp_path_factory: pytest.TempPathFactory, index: list[int], pieces: list[tuple[int, int]]
) -> None:
    index = sorted(index)
    footer = read_footer(written(tmp_path_factory.mktemp("footers") / "a.parquet", index))
    ends = np.array([0])
    ranges = []
    for start, length in sorted(pieces):
        if start >= ends[-1]:
            ranges.append((start, start + length))
            ends = np.append(ends, start + length)
    touched = footer.touched(np.array(ranges, np.int64))
    for group in range(len(footer.low)):
        low, high = min(index[10 * group : 10 * group + 10]), max(index[10 * group : 10 * group + 10])
        assert (group in touched) == any(start <= high and end > low for start, end in ranges)
