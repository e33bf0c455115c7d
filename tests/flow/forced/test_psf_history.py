"""A night that comes frame by frame asks each frame once, and ends as if it had come as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake.cameras import Profile
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced import psf_pool
from skylake.flow.forced.psf_pool import PsfKey, pool_psfs
from skylake.image.psf.psf_model import PsfModel
from skylake.simulate import Moffat, render

SIZE = 96


def write_frame(path: Path, minute: int, fwhm: float | None = 3.0) -> str:
    random = np.random.default_rng(minute)
    y, x = np.mgrid[18:84:26, 18:84:26].reshape(2, -1) + random.uniform(-5, 5, (2, 1))
    pixels = 3000.0 + random.normal(0.0, 10.0, (SIZE, SIZE))
    if fwhm is not None:
        pixels += render((SIZE, SIZE), x, y, np.full(x.size, 6e4), Moffat(fwhm))
    header = {
        "DATE-OBS": f"2024-04-08T{3 + minute // 60:02d}:{minute % 60:02d}:00", "EXPTIME": 20.0, "FILTER": "V",
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 120.0, "CRVAL2": -25.0, "CRPIX1": 48.5,
        "CRPIX2": 48.5, "CD1_1": -0.001, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.001,
    }  # fmt: skip
    fits.PrimaryHDU(pixels.astype(np.float32), fits.Header(header)).writeto(path, overwrite=True)
    return str(path)


class Counting(Inline):
    """Counts the tasks that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = 0

    def run(self, tasks: Any, *rest: Any) -> Any:
        self.tasks += len(tasks)
        return super().run(tasks, *rest)


def same(one: dict[PsfKey, PsfModel], other: dict[PsfKey, PsfModel]) -> bool:
    return one.keys() == other.keys() and all(one[key].to_bytes() == other[key].to_bytes() for key in one)


@pytest.fixture(scope="module")
def whole(night: list[str], plain_profile: Profile) -> dict[PsfKey, PsfModel]:
    """The functions of all of the night."""
    return pool_psfs({1: night}, plain_profile, Inline())


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Twenty-six frames, of which two say nothing."""
    folder = tmp_path_factory.mktemp("night")
    return [write_frame(folder / f"{i:02d}.fits", 3 * i, None if i in (4, 9) else 3.0) for i in range(26)]


@pytest.mark.parametrize("order", ["in time", "anyhow"])
def test_a_night_in_pieces_ends_as_one_that_comes_at_once(
    night: list[str], whole: dict[PsfKey, PsfModel], plain_profile: Profile, tmp_path: Path, order: str
) -> None:
    files = night if order == "in time" else np.random.default_rng(5).permutation(night).tolist()
    found: dict[PsfKey, PsfModel] = {}
    for count in (1, 11, 25, 26):
        found = pool_psfs({1: sorted(files[:count])}, plain_profile, Inline(), keep=tmp_path)
    assert same(found, whole)
    (one,) = whole.values()
    assert one.quality.n_frames == 20


def test_what_is_remembered_is_not_asked_again(
    night: list[str], plain_profile: Profile, tmp_path: Path
) -> None:
    workers = Counting()
    first = pool_psfs({1: night[:8]}, plain_profile, workers, keep=tmp_path)
    before, workers.tasks = workers.tasks, 0
    assert same(pool_psfs({1: night[:8]}, plain_profile, workers, keep=tmp_path), first)
    assert before == 3
    assert workers.tasks == 0
    pool_psfs({1: night[:9]}, plain_profile, workers, keep=tmp_path)
    # The header of the new frame, and its stars if it takes the place of another.
    assert 1 <= workers.tasks <= 2


def test_changed_files_and_damaged_memories_are_read_again(
    night: list[str], plain_profile: Profile, tmp_path: Path
) -> None:
    folder = tmp_path / "memory"
    files = [write_frame(tmp_path / f"{i}.fits", i) for i in range(3)]
    narrow = pool_psfs({1: files}, plain_profile, Inline(), keep=folder)
    write_frame(tmp_path / "1.fits", 1, fwhm=4.0)
    os.utime(files[1], ns=(1, 1))
    wide = pool_psfs({1: files}, plain_profile, Inline(), keep=folder)
    assert same(wide, pool_psfs({1: files}, plain_profile, Inline()))
    assert not same(wide, narrow)
    (memory,) = folder.iterdir()
    memory.write_bytes(memory.read_bytes()[:1000])
    assert same(pool_psfs({1: files}, plain_profile, Inline(), keep=folder), wide)


def test_old_nights_are_forgotten(night: list[str], plain_profile: Profile, tmp_path: Path) -> None:
    for number in range(1, 6):
        pool_psfs({number: night[number : number + 1]}, plain_profile, Inline(), keep=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.npz", "4.npz", "5.npz"]


def test_frames_that_are_asked_are_spread_over_the_night(plain_profile: Profile) -> None:
    """The largest gap is no more than a few times the mean one, for any night and any count of its frames."""
    for start in (0.05, 0.4, 0.8):
        times = 60408.0 + start + np.arange(400) * 0.001
        first = np.sort(sorted(times, key=psf_pool._rank)[:20])
        gaps = np.diff(np.concatenate([[times[0]], first, [times[-1]]]))
        assert gaps.max() < 3.0 * np.ptp(times) / 20
