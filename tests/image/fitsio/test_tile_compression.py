from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.frame import FileContent
from skylake.errors import FrameFailed
from skylake.image.detrend.linear_pass import open_image
from skylake.image.fitsio import tile_compression
from skylake.image.fitsio.fits_units import walk
from skylake.image.fitsio.read_fits import open_stored
from skylake.image.fitsio.rice_kernels import unpack_tiles
from skylake.image.fitsio.tile_compression import image_header

LIMITS = {"uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535), "int32": (-(2**31), 2**31 - 1)}


def packed(pixels: Any, header: fits.Header | None = None, **options: Any) -> FileContent:
    buffer = io.BytesIO()
    unit = fits.CompImageHDU(pixels, header, compression_type="RICE_1", **options)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(buffer)
    return FileContent("/nowhere/frame.fits.fz", len(buffer.getvalue()), 0, buffer.getvalue())


@pytest.fixture
def without_astropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read here is unpacked by us."""

    def refuse(*_: Any) -> None:
        raise AssertionError("astropy was asked")

    monkeypatch.setattr(tile_compression, "_by_astropy", refuse)


@pytest.mark.parametrize("kind", LIMITS)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    spread=st.sampled_from([0.0, 0.3, 5.0, 300.0, 1e5, 1e9]),
    seed=st.integers(0, 10**6),
)
def test_integers_come_back_bit_for_bit(
    kind: str, data: st.DataObject, shape: tuple[int, int], spread: float, seed: int
) -> None:
    tile = tuple(data.draw(st.integers(1, length)) for length in shape)
    low, high = LIMITS[kind]
    random = np.random.default_rng(seed)
    pixels = random.normal(0.5 * (low + high), spread, shape)
    # Some leaps, to which no number of plain bits fits well.
    pixels[random.random(shape) < 0.05] = low
    pixels[random.random(shape) < 0.05] = high
    pixels = np.clip(np.rint(pixels), low, high).astype(kind)
    found = open_stored(packed(pixels, tile_shape=tile))
    np.testing.assert_array_equal(found.zero + found.scale * found.stored.astype(float), pixels)


@pytest.mark.usefixtures("without_astropy")
@pytest.mark.parametrize("kind", LIMITS)
def test_integers_are_unpacked_here(kind: str) -> None:
    pixels = np.arange(600).reshape(20, 30).astype(kind)
    np.testing.assert_array_equal(open_image(packed(pixels)).pixels, pixels.astype(np.float32))


@pytest.mark.parametrize("kind", ["int16", "uint16"])
@pytest.mark.parametrize(
    "cards", [{}, {"EXTNAME": "SCI", "OBJECT": "a star"}, {"HISTORY": "twice", "BUNIT": "adu"}]
)
def test_the_header_is_that_of_the_image(kind: str, cards: dict[str, str]) -> None:
    header = fits.Header()
    header.update(cards)
    header["COMMENT"] = "one"
    header["COMMENT"] = "two"
    content = packed(np.ones((5, 6), kind), header)
    with fits.open(io.BytesIO(content.data)) as units:
        wanted = units[1].header
        # What the standard asks of a table or an image, in any order.
        assert sorted(map(str, open_stored(content).header.items())) == sorted(map(str, wanted.items()))


def test_blanks_of_integers_are_no_numbers() -> None:
    header = fits.Header({"BLANK": -7})
    pixels = np.arange(-20, 40, dtype=np.int16).reshape(6, 10)
    found = open_image(packed(pixels, header)).pixels
    np.testing.assert_array_equal(np.isnan(found), pixels == -7)


@given(st.integers(0, 10**6), st.integers(1, 400))
def test_whatever_the_bytes_nothing_beyond_them_is_read(seed: int, length: int) -> None:
    """Zeros would go on for ever, and ones ask for blocks that are not there."""
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, length).astype(np.uint8)
    data[random.random(length) < random.random()] = random.choice([0, 255])
    for bits, kind in ((8, np.uint8), (16, np.uint16), (32, np.uint32)):
        start, size = np.array([0], np.int64), np.array([length], np.int64)
        alone, among = np.zeros((2, 9, 50), kind)
        first = unpack_tiles(data, start, size, (9, 50), 32, bits, alone)
        after = np.concatenate([data, random.integers(0, 256, 100).astype(np.uint8)])
        second = unpack_tiles(after, start, size, (9, 50), 32, bits, among)
        assert first == second and first in (0, -1)
        np.testing.assert_array_equal(alone, among)


@pytest.mark.usefixtures("without_astropy")
def test_a_tile_that_ends_too_early_fails_the_frame() -> None:
    pixels = np.random.default_rng(1).normal(1000.0, 30.0, (20, 100)).astype(np.int16)
    content = packed(pixels)
    unit = list(walk(io.BytesIO(content.data)))[1]
    data = bytearray(content.data)
    # The descriptor of the third row says that it has five bytes.
    data[unit.data_offset + 2 * unit.header["NAXIS1"] + 3] = 5
    data[unit.data_offset + 2 * unit.header["NAXIS1"] + 2] = 0
    with pytest.raises(FrameFailed, match="the bytes of tile 3 end too early") as caught:
        open_stored(FileContent("/nowhere/frame.fits.fz", len(data), 0, bytes(data)))
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize("first_of", [0, 4], ids=["length", "place"])
def test_tiles_beyond_the_file_are_damage(first_of: int) -> None:
    content = packed(np.arange(2000, dtype=np.int16).reshape(20, 100))
    unit = list(walk(io.BytesIO(content.data)))[1]
    data = bytearray(content.data)
    data[unit.data_offset + 5 * unit.header["NAXIS1"] + first_of] = 0x7F
    with pytest.raises(FrameFailed) as caught:
        open_stored(FileContent("/nowhere/frame.fits.fz", len(data), 0, bytes(data)))
    assert caught.value.reason == "corrupt"


def test_names_that_only_tables_bear_are_left_out() -> None:
    content = packed(np.ones((3, 4), np.int16), fits.Header({"ZENITH": 3.0, "TTEMP": 1.0}))
    header = image_header(list(walk(io.BytesIO(content.data)))[1].header)
    assert header["ZENITH"] == 3.0 and header["TTEMP"] == 1.0
    assert not {"TTYPE1", "TFORM1", "ZIMAGE", "ZTILE1", "ZCMPTYPE", "ZVAL1"} & set(header)
