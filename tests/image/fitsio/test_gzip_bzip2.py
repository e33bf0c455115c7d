"""Packed files are unpacked as far as their headers imply, and no further."""

from __future__ import annotations

import bz2
import gzip
import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake.errors import FrameFailed
from skylake.image.detrend.linear_pass import open_image
from skylake.image.fitsio.read_fits import open_stored, peek_header, read_file
from skylake.image.masters.master_file import read_master

ZEROS = bytes(1 << 20)
PACKERS: dict[str, Any] = {"gz": gzip.compress, "bz2": bz2.compress}


def frame(shape: tuple[int, int], kind: str = "i2", **cards: int) -> bytes:
    """A file with an image of zeros, whose cards may lie about it."""
    unit = fits.PrimaryHDU(np.zeros(shape, kind))
    text = unit.header.tostring()
    for name, value in cards.items():
        text = text.replace(fits.Card(name, unit.header[name]).image[:30], fits.Card(name, value).image[:30])
    return text.encode() + unit.data.tobytes().ljust(-(-unit.data.nbytes // 2880) * 2880, b"\0")


def several() -> bytes:
    """A file with several images, larger than what is unpacked without a look at its headers."""
    planes = np.zeros((9, 2048, 4096), np.uint8)
    planes[:, :, :100] = np.random.default_rng(1).integers(0, 256, (9, 2048, 100))
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *map(fits.ImageHDU, planes)]).writeto(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("form", PACKERS)
@pytest.mark.parametrize(
    ("cards", "sentence"),
    [
        ({}, r"unpacks to more than the \d+ bytes that its headers imply; copy it again or leave it out"),
        ({"NAXIS2": 60000, "NAXIS1": 60000}, r"imply 7200\d+ bytes unpacked, and at most \d+ are read; cut"),
        (
            {"NAXIS2": 9000, "NAXIS1": 9000},
            r"imply 1620\d+ bytes unpacked from \d+, which no image of the sky",
        ),
    ],
    ids=["beyond its headers", "beyond measure", "too much for its bytes"],
)
def test_a_bomb_fails_before_it_fills_the_memory(
    form: str, cards: dict[str, int], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / f"frame.fits.{form}"
    pack = PACKERS[form]
    path.write_bytes(pack(frame((30, 40), **cards)) + 400 * pack(ZEROS))
    tracemalloc.start()
    content = read_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6
    # Such a file is known by its bytes as they are.
    assert content.data == path.read_bytes()
    with pytest.raises(FrameFailed, match=sentence) as caught:
        open_stored(content)
    assert caught.value.reason == "corrupt"


def test_a_file_larger_than_any_frame_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    with path.open("wb") as file:
        file.write(frame((30, 40)))
        file.truncate(1 << 33)
    content = read_file(path)
    assert (content.data, content.n_bytes) == (str(path).encode(), 1 << 33)
    with pytest.raises(FrameFailed, match=r"has 8589934592 bytes, and at most \d+ are read; cut it"):
        open_stored(content)


@pytest.mark.parametrize("form", PACKERS)
@pytest.mark.parametrize(
    "pieces",
    [lambda data: [data], lambda data: [data[:4000], data[4000:]], lambda data: [data, ZEROS]],
    ids=["one member", "two members", "bytes after the last unit"],
)
def test_members_are_joined(form: str, pieces: Any, tmp_path: Path) -> None:
    data = frame((300, 400))
    path = tmp_path / f"frame.fits.{form}"
    path.write_bytes(b"".join(map(PACKERS[form], pieces(data))))
    assert read_file(path).data == b"".join(pieces(data))
    assert open_image(read_file(path)).pixels.shape == (300, 400)


def test_what_follows_the_members_is_passed_over_as_ever(tmp_path: Path) -> None:
    data, path = frame((30, 40)), tmp_path / "frame.fits"
    for packed in (
        gzip.compress(data) + bytes(1 << 19),
        bz2.compress(data) + b"a trailer",
        gzip.compress(data) + bytes(7) + gzip.compress(b""),
    ):
        path.write_bytes(packed)
        assert read_file(path).data == data


@pytest.mark.parametrize("form", PACKERS)
def test_large_files_of_several_images_are_whole(form: str, tmp_path: Path) -> None:
    data, path = several(), tmp_path / f"frame.fits.{form}"
    path.write_bytes(gzip.compress(data, 1) if form == "gz" else bz2.compress(data, 1))
    content = read_file(path)
    assert content.data == data
    assert open_stored(content, 9).shape == (2048, 4096) and open_stored(content).n_further == 8


def tiled(kind: str, shape: tuple[int, int] = (20, 30), **options: Any) -> bytes:
    buffer = io.BytesIO()
    unit = fits.CompImageHDU(
        np.arange(np.prod(shape), dtype="i2").reshape(shape), compression_type=kind, **options
    )
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(buffer)
    return buffer.getvalue()


def with_cards(data: bytes, **cards: object) -> bytes:
    for name, value in cards.items():
        start = data.index(f"{name:8}=".encode())
        data = data[:start] + f"{name:8}= {value:>20}".ljust(80).encode() + data[start + 80 :]
    return data


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
@pytest.mark.parametrize(
    ("cards", "sentence"),
    [
        ({"ZTILE1": 0}, "the card ZTILE1 .* holds 0, which is no number of pixels; copy"),
        ({"ZTILE1": -5}, "the card ZTILE1 .* holds -5"),
        ({"ZTILE2": "'x'"}, "the card ZTILE2 .* holds 'x'"),
        ({"ZNAXIS1": 0}, "the card ZNAXIS1 .* holds 0"),
        ({"ZNAXIS": 1}, "the card ZNAXIS in HDU 1 holds 1, and a picture has 2 axes"),
        ({"ZNAXIS1": 10**9}, r"imply \d+ tiles, and there are (20|1); copy the file again"),
        ({"ZNAXIS1": 10**5, "ZTILE1": 10**5, "ZNAXIS2": 10**4, "ZTILE2": 10**4}, "100000 x 10000 pixels, and at most"),
        ({"ZNAXIS1": 10**4, "ZTILE1": 10**4, "ZNAXIS2": 10**4, "ZTILE2": 10**4}, "imply 200000000 bytes unpacked"),
    ],
)  # fmt: skip
def test_cards_of_tiles_that_cannot_be_are_named(
    kind: str, cards: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "frame.fits.fz"
    path.write_bytes(with_cards(tiled(kind), **cards))
    with pytest.raises(FrameFailed, match=sentence):
        open_stored(read_file(path))


def test_a_tile_that_unpacks_to_more_than_its_pixels_is_damage(tmp_path: Path) -> None:
    """As a frame and as a master."""
    data = bytearray(tiled("GZIP_1", (1, 90_000)))
    bomb = gzip.compress(bytes(200 << 20), 9)
    start = data.index(b"\x1f\x8b")
    data[start - 8 : start] = np.array([len(bomb), 0], ">i4").tobytes()
    data[start:] = bomb.ljust(-(-(len(bomb) + 8) // 2880) * 2880 - 8, b"\0")
    spoilt = with_cards(bytes(data), PCOUNT=len(bomb))
    path = tmp_path / "frame.fits.fz"
    path.write_bytes(spoilt)
    with pytest.raises(
        FrameFailed, match=r"tile 1 does not hold the 90000 pixels that its header implies\); copy"
    ):
        open_stored(read_file(path))
    with pytest.raises(FrameFailed, match=r"the master is damaged .*tile 1 does not hold"):
        read_master(spoilt, "flat.fits")


def test_a_tile_of_hcompress_has_the_size_of_its_header(tmp_path: Path) -> None:
    """The decoder would write beyond the end of its array."""
    data = bytearray(tiled("HCOMPRESS_1"))
    start = data.index(b"\xdd\x99")
    data[start + 2 : start + 6] = np.array([5000], ">i4").tobytes()
    path = tmp_path / "frame.fits.fz"
    path.write_bytes(bytes(data))
    with pytest.raises(FrameFailed, match="tile 1 does not hold the 600 pixels"):
        open_stored(read_file(path))


@pytest.mark.parametrize(
    ("magic", "sentence"),
    [(b"PK\x03\x04", "is a zip archive; unpack it"), (b"\xfd7zXZ\0", "is packed by xz; run unxz")],
)
def test_other_packing_is_named(magic: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    path.write_bytes(magic + bytes(9000))
    with pytest.raises(FrameFailed, match=sentence) as caught:
        open_stored(read_file(path))
    assert caught.value.reason == "not_fits"


@pytest.mark.parametrize("form", PACKERS)
def test_a_look_at_a_header_skips_over_no_bomb(form: str, tmp_path: Path) -> None:
    table = fits.BinTableHDU(np.zeros(0, [("bytes", "u1", len(ZEROS))]))
    header = table.header.tostring().replace(
        fits.Card("NAXIS2", 0).image[:30], fits.Card("NAXIS2", 90).image[:30]
    )
    image = fits.ImageHDU(np.zeros((30, 40), "i2"))
    pack, path = PACKERS[form], tmp_path / f"frame.fits.{form}"
    begin, end = fits.PrimaryHDU().header.tostring() + header, image.header.tostring()
    zeros = bytes(-90 * len(ZEROS) % 2880)
    path.write_bytes(pack(begin.encode()) + 90 * pack(ZEROS) + pack(zeros + end.encode() + bytes(2880)))
    assert peek_header(path) is None
    small = tmp_path / f"small.fits.{form}"
    small.write_bytes(pack(fits.PrimaryHDU().header.tostring().encode() + end.encode() + bytes(2880)))
    assert peek_header(small)["NAXIS1"] == 40
