"""What was found on a frame is kept for the time of a run: the second reduction gives the same without a search."""

from __future__ import annotations

from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake.cameras import Profile
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.detection_files import DetectionFiles
from skylake.flow.forced.psf_pool import pool_psfs
from skylake.flow.ingest.chunk_rows import read_rows
from skylake.flow.ingest.frame_tasks import Reduction, reduce_chunk
from skylake.image.reduction.detection_cache import Kept
from skylake.simulate import Moffat, render

SIZE = 160


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three frames with stars and the trail of a satellite."""
    return drawn(tmp_path_factory.mktemp("frames"), photon_noise=True)


def drawn(folder: Path, photon_noise: bool) -> list[str]:
    """Draw frames of a gain of 1 electron per ADU; without the noise of photons the stars contradict that."""
    for minute in range(3):
        random = np.random.default_rng(minute)
        y, x = np.mgrid[24:144:28, 24:144:28].reshape(2, -1) + random.uniform(-6, 6, (2, 1))
        pixels = 3000.0 + random.normal(0.0, 10.0, (SIZE, SIZE))
        pixels += render((SIZE, SIZE), x, y, np.full(x.size, 6e4), Moffat(3.0))
        trail = np.linspace(2.0, 157.0, 400)
        pixels += render((SIZE, SIZE), trail, 0.6 * trail + 7.0, np.full(trail.size, 2e3), Moffat(3.0))
        if photon_noise:
            pixels += random.normal(0.0, np.sqrt(pixels))
        header = {
            "DATE-OBS": f"2024-04-08T03:{minute:02d}:00", "EXPTIME": 20.0, "FILTER": "V", "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN", "CRVAL1": 120.0, "CRVAL2": -25.0, "CRPIX1": 80.5, "CRPIX2": 80.5,
            "CD1_1": -0.001, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.001,
        }  # fmt: skip
        fits.PrimaryHDU(pixels.astype(np.float32), fits.Header(header)).writeto(folder / f"{minute}.fits")
    return sorted(map(str, folder.iterdir()))


def pooled(frames: list[str], plain_profile: Profile, folder: Path) -> list[Path]:
    """The files that are kept when frames have given their point spread function."""
    pool_psfs({20240407: frames}, plain_profile, Inline(), detections=folder)
    return sorted(folder.iterdir())


def reduced(frames: list[str], reduction: Reduction, out: Path) -> tuple[Any, Any]:
    chunk = reduce_chunk(frames, reduction, out)
    assert chunk.sources is not None
    return chunk.frames, read_rows(chunk.sources)


def test_frames_that_gave_the_psf_are_not_searched_twice(
    frames: list[str], plain_profile: Profile, tmp_path: Path
) -> None:
    wanted = reduced(frames, Reduction(plain_profile), tmp_path / "a.arrow")
    kept = pooled(frames, plain_profile, tmp_path / "found")
    assert len(kept) == 3
    rows = wanted[0].to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert rows[0]["n_streaks"] == 1
    found = reduced(
        frames, Reduction(plain_profile, kept=DetectionFiles(tmp_path / "found")), tmp_path / "b.arrow"
    )
    assert found[0].equals(wanted[0])
    assert found[1].equals(wanted[1])
    # Each file was asked for once, and its room is free.
    assert list((tmp_path / "found").iterdir()) == []


def test_frames_whose_gain_is_doubted_are_searched_twice(plain_profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    frames = drawn(tmp_path / "frames", photon_noise=False)
    fresh = reduced(frames, Reduction(plain_profile), tmp_path / "a.arrow")
    assert "contradicts the noise" in fresh[0]["message"][0].as_py()
    assert pooled(frames, plain_profile, tmp_path / "found") == []
    kept = DetectionFiles(tmp_path / "found")
    again = reduced(frames, Reduction(plain_profile, kept=kept), tmp_path / "b.arrow")
    assert again[0].equals(fresh[0])
    assert again[1].equals(fresh[1])


@pytest.mark.parametrize("size", [0, 100, 5000, 15_000])
def test_a_damaged_file_is_as_good_as_none(
    frames: list[str], plain_profile: Profile, tmp_path: Path, size: int
) -> None:
    wanted = reduced(frames[:1], Reduction(plain_profile), tmp_path / "a.arrow")
    (path,) = pooled(frames[:1], plain_profile, tmp_path / "found")
    assert path.stat().st_size > size
    path.write_bytes(path.read_bytes()[:size])
    found = reduced(
        frames[:1], Reduction(plain_profile, kept=DetectionFiles(tmp_path / "found")), tmp_path / "b.arrow"
    )
    assert found[0].equals(wanted[0])
    assert found[1].equals(wanted[1])


def test_all_that_is_kept_comes_back_to_the_last_bit(
    frames: list[str], plain_profile: Profile, tmp_path: Path
) -> None:
    (path,) = pooled(frames[:1], plain_profile, tmp_path / "found")
    content = path.read_bytes()
    kept = Kept.read(BytesIO(content))
    again = BytesIO()
    kept.write(again)
    assert again.getvalue() == content
    assert len(kept.trails) == 1
    assert all(getattr(kept.measured, item.name) is not None for item in fields(kept.measured))
    assert set(np.unique(kept.detections.segments)) == set(range(len(kept.detections) + 1))


def test_where_nothing_can_be_written_nothing_is_kept(
    frames: list[str], plain_profile: Profile, tmp_path: Path
) -> None:
    (tmp_path / "found").write_text("no folder")
    psfs = pool_psfs({20240407: frames}, plain_profile, Inline(), detections=tmp_path / "found")
    wanted = pool_psfs({20240407: frames}, plain_profile, Inline())
    assert {key: one.to_bytes() for key, one in psfs.items()} == {
        key: one.to_bytes() for key, one in wanted.items()
    }


def test_no_more_files_are_kept_than_there_is_room_for(
    frames: list[str], plain_profile: Profile, tmp_path: Path
) -> None:
    (path,) = pooled(frames[:1], plain_profile, tmp_path / "found")
    kept = Kept.read(BytesIO(path.read_bytes()))
    files = DetectionFiles(tmp_path / "many", may_add=True)
    for number in range(70):
        files.keep(number, kept)
    assert len(list(files.folder.iterdir())) == 64
    reader = DetectionFiles(files.folder)
    reader.keep(1000, kept)
    assert reader.recall(1000) is None
