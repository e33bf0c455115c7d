from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skylake.image.fitsio.memory_maps import give_back, mapped


def resident_bytes() -> int:
    """What of memory this process has mapped from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssFile", "RssShmem")))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not report its memory")
def test_a_plane_takes_memory_only_while_it_is_used() -> None:
    plane = np.random.default_rng(1).normal(size=(1500, 1400)).astype(np.float32)
    held = mapped(plane)
    total = float(held.sum())
    before = resident_bytes()
    give_back(held[:700])
    assert before - resident_bytes() > 0.9 * plane.nbytes
    np.testing.assert_array_equal(held, plane)
    assert float(held.sum()) == total


def test_small_planes_stay_where_they_are() -> None:
    plane = np.ones((10, 10), np.float32)
    assert mapped(plane) is plane
    give_back(plane)


def test_without_room_for_files_a_plane_stays_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    plane = np.ones((1500, 1400), np.float32)
    assert mapped(plane) is plane


def test_planes_whose_columns_come_first_are_mapped_as_they_are() -> None:
    plane = np.arange(1500 * 1400, dtype=np.float32).reshape(1400, 1500).T
    np.testing.assert_array_equal(mapped(plane), plane)
