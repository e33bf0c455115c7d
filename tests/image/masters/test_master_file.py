from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from skylake.core.flags import PixelFlag
from skylake.errors import FrameFailed, FrameUnavailable
from skylake.image.masters.master_file import load_master, read_master, write_master
from skylake.image.masters.master_library import Master


def write(path: Path, kind: str = "bias", **content: object) -> Master:
    cards = {"KIND": kind, "OFFSETX": 3, "OFFSETY": 5, "EXPTIME": 30.0, "FILTER": None, "MASTER1": "a-bias"}
    sha256 = write_master(path, cards, **content)  # type: ignore[arg-type]
    return Master("m", kind, path.name, sha256, 0, "1x1")


def test_floats_come_back_bit_for_bit_though_compressed(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    pixels = random.normal(300.0, 5.0, (90, 120)).astype(np.float32)
    error = random.uniform(0.5, 1.0, (90, 120)).astype(np.float32)
    pixels[3, 4] = np.nan
    found = load_master(tmp_path, write(tmp_path / "m.fits", pixels=pixels, error=error))
    assert found.pixels is not None and found.error is not None
    np.testing.assert_array_equal(found.pixels, pixels)
    np.testing.assert_array_equal(found.error, error)
    assert found.offset == (3, 5) and found.exposure_s == 30.0 and found.shape == (90, 120)
    assert found.used == ("a-bias",) and found.name == "m" and found.mask is None
    flat = np.ones((200, 200), np.float32)
    write(tmp_path / "flat.fits", "flat", pixels=flat)
    assert (tmp_path / "flat.fits").stat().st_size < flat.nbytes / 5


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    pixels = np.ones((10, 10), np.float32)
    first = write(tmp_path / "a.fits", pixels=pixels)
    time.sleep(1.1)
    second = write(tmp_path / "b.fits", pixels=pixels)
    assert first.sha256 == second.sha256
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()
    assert write(tmp_path / "c.fits", pixels=pixels + 1).sha256 != first.sha256


def test_a_flat_comes_as_its_inverse(tmp_path: Path) -> None:
    flat = np.array([[1.0, 0.5], [0.0, -1.0]], np.float32)
    found = load_master(tmp_path, write(tmp_path / "f.fits", "flat", pixels=flat))
    np.testing.assert_array_equal(found.pixels, [[1.0, 2.0], [np.nan, np.nan]])


def test_masks_and_tables_are_kept(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2, 3] = PixelFlag.HOT | PixelFlag.DEAD
    found = load_master(tmp_path, write(tmp_path / "b.fits", "bad_pixels", mask=mask))
    np.testing.assert_array_equal(found.mask, mask)
    curve = write(tmp_path / "t.fits", "transfer", tables={"TRANSFER": {"LEVEL": np.array([1.0, 2.0])}})
    assert load_master(tmp_path, curve).tables["TRANSFER"]["LEVEL"].tolist() == [1.0, 2.0]
    assert found.tables == {}
    with fits.open(tmp_path / "t.fits") as units:
        assert units["TRANSFER"].data["LEVEL"].tolist() == [1.0, 2.0]


def test_a_master_that_is_damaged_or_gone_is_reported(tmp_path: Path) -> None:
    master = write(tmp_path / "m.fits", pixels=np.ones((10, 10), np.float32))
    data = bytearray((tmp_path / "m.fits").read_bytes())
    data[-100] ^= 1
    (tmp_path / "m.fits").write_bytes(data)
    with pytest.raises(FrameFailed, match="not as it was written") as caught:
        load_master(tmp_path, master)
    assert caught.value.reason == "bad_master"
    (tmp_path / "m.fits").unlink()
    with pytest.raises(FrameUnavailable, match="cannot be read"):
        load_master(tmp_path, master)
    with pytest.raises(FrameFailed, match="damaged"):
        read_master(b"SIMPLE but no more", "x")
