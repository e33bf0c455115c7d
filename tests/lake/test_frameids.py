from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.lake.frameids import FrameIds


def write(path: Path, ids: list[int]) -> Path:
    pq.write_table(pa.table({"night": ids, "frame_id": pa.array(ids, pa.int64())}), path)
    return path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were opened."""
    found: list[Path] = []
    real: Callable[[Path], pa.ChunkedArray] = FrameIds.read.__globals__["_read"]

    def read(path: Path) -> pa.ChunkedArray:
        found.append(path)
        return real(path)

    monkeypatch.setattr("skylake.lake.frameids._read", read)
    return found


def test_a_file_is_opened_once_under_whatever_name(tmp_path: Path, opened: list[Path]) -> None:
    first, second = write(tmp_path / "1.parquet", [3, 1]), write(tmp_path / "2.parquet", [2])
    other = tmp_path / "3.parquet"
    other.hardlink_to(first)
    ids = FrameIds()
    assert ids.read([first, second]).to_pylist() == [3, 1, 2]
    assert ids.read([second, other]).to_pylist() == [2, 3, 1]
    assert opened == [first, second]
    assert ids.read([]).to_pylist() == []
    assert ids.read([first]).to_pylist() == [3, 1]
    assert opened == [first, second, first], "nothing is remembered that was not asked for"


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path, opened: list[Path]) -> None:
    path = write(tmp_path / "1.parquet", [3, 1])
    ids = FrameIds()
    ids.read([path])
    path.unlink()
    assert ids.read([write(path, [4, 5])]).to_pylist() == [4, 5]
    path.unlink()
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(pa.ArrowInvalid):
        ids.read([path])
