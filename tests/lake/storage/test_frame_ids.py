from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.lake.storage.frame_ids import FrameIds


def write(path: Path, ids: list[int]) -> Path:
    pq.write_table(pa.table({"night": ids, "frame_id": pa.array(ids, pa.int64())}), path)
    return path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were opened."""
    found: list[Path] = []
    real: Callable[[Path], Any] = FrameIds.held.__globals__["_read"]

    def read(path: Path) -> Any:
        found.append(path)
        return real(path)

    monkeypatch.setattr("skylake.lake.storage.frame_ids._read", read)
    return found


def test_what_is_held_is_what_sets_say(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        contents = [random.choice(200, size, replace=False) for size in (0, 1, 40, 80)]
        paths = [write(tmp_path / f"{n}.parquet", list(one)) for n, one in enumerate(contents)]
        wanted = random.choice(200, 30, replace=False)
        expected = [int(one) for content in contents for one in sorted({*content} & {*wanted})]
        assert FrameIds().held(paths, wanted) == expected
        for path in paths:
            path.unlink()


def test_a_file_is_opened_once_under_whatever_name(tmp_path: Path, opened: list[Path]) -> None:
    first, second = write(tmp_path / "1.parquet", [3, 1]), write(tmp_path / "2.parquet", [2])
    other = tmp_path / "3.parquet"
    other.hardlink_to(first)
    ids = FrameIds()
    assert ids.held([first, second], np.array([2, 3])) == [3, 2]
    assert ids.held([second, other], np.array([1, 4, 2])) == [2, 1]
    assert opened == [first, second]
    assert ids.held([], np.array([1])) == []
    assert ids.held([first], np.array([1])) == [1]
    assert opened == [first, second, first], "nothing is remembered that was not asked for"


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path, opened: list[Path]) -> None:
    path = write(tmp_path / "1.parquet", [3, 1])
    ids = FrameIds()
    assert ids.held([path], np.array([4])) == []
    path.unlink()
    assert ids.held([write(path, [4, 5])], np.array([4])) == [4]
    path.unlink()
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(pa.ArrowInvalid):
        ids.held([path], np.array([4]))
