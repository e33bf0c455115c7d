from __future__ import annotations

import bz2
import gzip
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skylake.core.frame import FileContent
from skylake.errors import FrameFailed, FrameUnavailable
from skylake.image.detrend.linear_pass import open_image
from skylake.image.fitsio.read_fits import peek_header, read_file

DTYPES = {8: np.uint8, 16: np.int16, 32: np.int32, 64: np.int64, -32: np.float32, -64: np.float64}
RAMP = np.arange(30 * 40, dtype=np.int16).reshape(30, 40) - 100


def content(data: bytes) -> FileContent:
    return FileContent("/nowhere/frame.fits", len(data), 0, data)


def stored_as(values: np.ndarray[Any, Any], **cards: Any) -> bytes:
    """A FITS file of stored values, with cards that say how to scale them."""
    unit = fits.PrimaryHDU(values)
    for name, value in cards.items():
        unit.header[name] = value
    buffer = io.BytesIO()
    # Written by hand, since astropy would scale the values back.
    buffer.write(unit.header.tostring().encode("ascii"))
    raw = values.astype(values.dtype.newbyteorder(">")).tobytes()
    buffer.write(raw + b"\0" * (-len(raw) % 2880))
    return buffer.getvalue()


def bytes_of(*units: Any) -> bytes:
    buffer = io.BytesIO()
    fits.HDUList(list(units)).writeto(buffer, output_verify="ignore")
    return buffer.getvalue()


def failure(data: bytes, extension: int | str | None = None) -> FrameFailed:
    with pytest.raises(FrameFailed) as caught:
        open_image(content(data), extension)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")
    return caught.value


@pytest.mark.parametrize("bitpix", DTYPES)
@given(data=st.data())
def test_pixels_are_zero_plus_scale_times_what_is_stored(bitpix: int, data: st.DataObject) -> None:
    dtype = np.dtype(DTYPES[bitpix])
    elements = (
        st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)
        if dtype.kind in "iu"
        else st.floats(-1e6, 1e6, width=32)
    )
    values = data.draw(
        hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=elements)
    )
    scale = data.draw(st.sampled_from([None, 1.0, 0.037, -2.5]))
    zero = data.draw(st.sampled_from([None, 0.0, 32768.0, -128.0, 2147483648.0, 9223372036854775808.0]))
    cards = {"BSCALE": scale, "BZERO": zero}
    raw = open_image(content(stored_as(values, **{k: v for k, v in cards.items() if v is not None})))
    scaled = values.astype(float) * (1.0 if scale is None else scale)
    expected = scaled + (0.0 if zero is None else zero)
    assert (
        raw.pixels.dtype == np.dtype("f4") and raw.pixels.dtype.isnative and raw.pixels.shape == values.shape
    )
    # As good as the numbers: 24 bits of the larger of both terms where two bytes or floats are stored.
    size = np.maximum(np.abs(expected), np.abs(scaled)) if bitpix in (8, 16, -32) else np.abs(expected)
    if bitpix == 64:
        size = np.maximum(size, np.abs(scaled) * 2.0**-28)
    assert (np.abs(raw.pixels - expected) <= 3e-7 * size + 1e-37).all()


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_of_numpy_comes_back_from_either_byte_order(dtype: str, order: str) -> None:
    limits = np.iinfo(dtype) if dtype[0] in "iu" else np.finfo("f4")
    values = np.array([[0, 1, 2, 100], [limits.min, limits.max, limits.max // 2, 7]], np.dtype(order + dtype))
    pixels = open_image(content(bytes_of(fits.PrimaryHDU(values)))).pixels
    # An offset of 2^63 leaves doubles no digit below 1024.
    np.testing.assert_allclose(pixels, values.astype("f8"), rtol=1e-7, atol=1024.0 if dtype == "u8" else 0.0)
    assert pixels.dtype.byteorder in "=" + ("<" if sys.byteorder == "little" else ">")


def test_an_offset_of_unsigned_integers_costs_no_digit() -> None:
    values = np.array([[0, 1, 300, 65535]], np.uint32)
    np.testing.assert_array_equal(open_image(content(bytes_of(fits.PrimaryHDU(values)))).pixels, values)


@pytest.mark.parametrize("bitpix", [8, 16, 32, 64])
def test_blank_integers_are_nan_and_nothing_else_is(bitpix: int) -> None:
    values = np.array([[7, 1], [0, 7]], DTYPES[bitpix])
    pixels = open_image(content(stored_as(values, BLANK=7, BSCALE=2.0, BZERO=1.0))).pixels
    np.testing.assert_array_equal(pixels, [[np.nan, 3.0], [1.0, np.nan]])


def test_values_beyond_float32_are_infinite_without_a_warning() -> None:
    pixels = open_image(content(stored_as(np.array([[1e300, -1e300, 1.0]])))).pixels
    np.testing.assert_array_equal(pixels, [[np.inf, -np.inf, 1.0]])


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "fits": lambda data: data,
    "fits.gz": gzip.compress,
    "fits.bz2": bz2.compress,
    "gzip twice joined": lambda data: gzip.compress(data[:5760]) + gzip.compress(data[5760:]),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("place", ["primary", "extension", "third"])
def test_the_first_image_is_found_wherever_it_is(
    form: Callable[[bytes], bytes], place: str, tmp_path: Path
) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(9))])
    units = {
        "primary": [fits.PrimaryHDU(RAMP), fits.ImageHDU(RAMP + 1)],
        "extension": [fits.PrimaryHDU(), fits.ImageHDU(RAMP)],
        "third": [fits.PrimaryHDU(), table, fits.ImageHDU(RAMP), fits.ImageHDU(RAMP + 1)],
    }[place]
    path = tmp_path / "any.name"
    path.write_bytes(form(bytes_of(*units)))
    raw = open_image(read_file(path))
    np.testing.assert_array_equal(raw.pixels, RAMP)
    assert raw.extension == {"primary": 0, "extension": 1, "third": 2}[place]
    assert peek_header(path)["NAXIS1"] == 40


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
def test_integers_in_tiles_come_back_exactly(compression: str, tmp_path: Path) -> None:
    pixels = RAMP - RAMP.min()
    data = bytes_of(fits.PrimaryHDU(), fits.CompImageHDU(pixels, compression_type=compression))
    for name, packed in (("frame.fits.fz", data), ("frame.fits.fz.gz", gzip.compress(data))):
        path = tmp_path / name
        path.write_bytes(packed)
        raw = open_image(read_file(path))
        np.testing.assert_array_equal(raw.pixels, pixels)
        assert (raw.extension, raw.header["NAXIS1"], raw.pixels.dtype) == (1, 40, np.float32)
        assert raw.pixels.flags.c_contiguous


def test_floats_in_tiles_keep_nans_and_are_true_to_the_noise() -> None:
    noise = np.random.default_rng(1).normal(100.0, 5.0, (64, 64)).astype("f4")
    noise[3, 4] = np.nan
    image = fits.CompImageHDU(noise, compression_type="RICE_1", quantize_level=16.0)
    pixels = open_image(content(bytes_of(fits.PrimaryHDU(), image))).pixels
    assert np.isnan(pixels[3, 4]) and np.count_nonzero(np.isnan(pixels)) == 1
    assert np.nanstd(pixels - noise) < 0.2


def test_an_extension_is_taken_by_number_or_name() -> None:
    data = bytes_of(
        fits.PrimaryHDU(RAMP), fits.ImageHDU(RAMP + 1, name="SCI"), fits.ImageHDU(RAMP + 2, name="ERR")
    )
    for extension, offset in ((None, 0), (0, 0), (1, 1), (2, 2), ("SCI", 1), ("err", 2)):
        np.testing.assert_array_equal(open_image(content(data), extension).pixels, RAMP + offset)


def test_a_plane_in_a_cube_of_one_is_an_image() -> None:
    np.testing.assert_array_equal(
        open_image(content(bytes_of(fits.PrimaryHDU(RAMP[None, None])))).pixels, RAMP
    )


def test_groups_and_bytes_after_the_end_do_no_harm() -> None:
    plain = bytes_of(fits.PrimaryHDU(RAMP))
    np.testing.assert_array_equal(open_image(content(plain + b"garbage")).pixels, RAMP)
    unpadded = plain[: 2880 + RAMP.nbytes]
    np.testing.assert_array_equal(open_image(content(unpadded)).pixels, RAMP)


PLAIN = bytes_of(fits.PrimaryHDU(RAMP))
TILES = bytes_of(fits.PrimaryHDU(), fits.CompImageHDU(RAMP, compression_type="RICE_1"))
ZIPPED = bytes_of(fits.PrimaryHDU(), fits.CompImageHDU(RAMP, compression_type="GZIP_1"))
FIRST_TILE = ZIPPED.index(b"\x1f\x8b\x08") + 10


def with_card(data: bytes, name: str, text: str) -> bytes:
    """The same file with one card replaced by another text."""
    start = next(i for i in range(0, len(data), 80) if data[i : i + 80].startswith(name.ljust(8).encode()))
    return data[:start] + text.ljust(80).encode("latin-1") + data[start + 80 :]


BAD = {
    "empty": (b"", "empty_file", "empty.*copy it again"),
    "text": (b"not a picture at all\n" * 300, "not_fits", "no FITS file.*SIMPLE"),
    "a page": (b"<html><body>404</body></html>", "not_fits", "no FITS file"),
    "truncated gzip": (gzip.compress(PLAIN)[:-20], "truncated", "ends too early or is damaged; copy it again"),
    "damaged gzip": (b"\x1f\x8b" + b"\x07" * 200, "truncated", "damaged; copy it again"),
    "truncated bzip2": (bz2.compress(PLAIN)[:-20], "truncated", "damaged; copy it again"),
    "within pixels": (PLAIN[:4000], "truncated", "last 1280 bytes of the image are missing; copy it again"),
    "within the header": (PLAIN[:1000], "truncated", "ends within a header; copy it again"),
    "header only": (PLAIN[:2880], "truncated", "last 2400 bytes"),
    "no END": (PLAIN[:2880].replace(b"END     ", b"FIN     ") * 2001, "corrupt", "no END card; copy the file"),
    "no image": (bytes_of(fits.PrimaryHDU()), "no_image", "no HDU holds an image; correct header.extension"),
    "a line": (bytes_of(fits.PrimaryHDU(np.arange(9))), "no_image", "no HDU holds an image"),
    "a cube": (bytes_of(fits.PrimaryHDU(np.zeros((3, 4, 5), "i2"))), "no_image", "cube of 5 x 4 x 3"),
    "odd BITPIX": (with_card(PLAIN, "BITPIX", "BITPIX  =                   12"), "corrupt", "BITPIX or NAXIS"),
    "negative NAXIS1": (with_card(PLAIN, "NAXIS1", "NAXIS1  =                  -40"), "corrupt", "BITPIX or NAXIS"),
    "text in NAXIS1": (with_card(PLAIN, "NAXIS1", "NAXIS1  = 'forty'"), "corrupt", "copy the file again"),
    "broken NAXIS2": (with_card(PLAIN, "NAXIS2", "NAXIS2  = 30 px wide"), "corrupt", "copy the file again"),
    "no NAXIS2": (with_card(PLAIN, "NAXIS2", "COMMENT"), "corrupt", "header is damaged.*copy the file again"),
    "huge NAXIS2": (with_card(PLAIN, "NAXIS2", f"NAXIS2  = {10**18:>20}"), "corrupt", "BITPIX or NAXIS"),
    "large NAXIS2": (with_card(PLAIN, "NAXIS2", f"NAXIS2  = {10**9:>20}"), "truncated", "missing"),
    "text in BZERO": (stored_as(RAMP, BZERO="many"), "corrupt", "card BZERO holds 'many', no number"),
    "BSCALE of zero": (stored_as(RAMP, BSCALE=0.0), "corrupt", "card BSCALE holds 0, which makes all pixels alike"),
    "no number in BSCALE": (stored_as(RAMP, BSCALE="NaN"), "corrupt", "card BSCALE holds 'NaN', no number; correct"),
    "BSCALE near zero": (stored_as(RAMP, BSCALE=1e-300), "corrupt", "makes all pixels alike"),
    "huge BSCALE": (stored_as(RAMP, BSCALE=1e300), "corrupt", "BSCALE holds 1e[+]300, beyond all measure; correct"),
    "no number of axes": (with_card(PLAIN, "NAXIS", "NAXIS   = 'two'"), "corrupt", "'two' is no number of axes"),
    "negative axes": (with_card(PLAIN, "NAXIS", "NAXIS   =  -1"), "corrupt", "NAXIS = -1 is no number of axes"),
    "BITPIX twice": (with_card(PLAIN, "EXTEND", "BITPIX  =                    8"), "ambiguous_header",
                     r"card BITPIX stands in the header more than once, as -?\d+ and 8; delete the wrong one"),
    "NAXIS twice and alike": (with_card(PLAIN, "EXTEND", f"NAXIS   = {2:>20}")[:4000], "truncated", "missing"),
    "no columns": (with_card(PLAIN, "NAXIS1", "NAXIS1  =                    0"), "no_image",
                   "card NAXIS1 of HDU 0 holds 0, so it has no pixels; copy the file again"),
    "damaged tiles": (TILES[:5760] + b"\xff" * (len(TILES) - 5760), "corrupt", "damaged.*copy the file again"),
    "damaged zipped tiles": (ZIPPED[:FIRST_TILE] + b"\x07" * 40 + ZIPPED[FIRST_TILE + 40 :], "corrupt", "damaged"),
    "truncated tiles": (TILES[:6000], "truncated", "missing; copy it again"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "reason", "sentence"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_with_a_file_is_reported(
    data: bytes, reason: str, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "frame.fits"
    path.write_bytes(data)
    with pytest.raises(FrameFailed, match=sentence) as caught:
        open_image(read_file(path))
    assert (caught.value.reason, caught.value.status) == (reason, "failed")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
    peek_header(path)


@pytest.mark.parametrize(
    ("extension", "sentence"),
    [
        (7, "there is no HDU 7; correct header.extension"),
        ("ERR", "no HDU 'ERR'"),
        (1, "HDU 1 holds no image; correct"),
    ],
)
def test_an_extension_that_is_no_image_is_reported(extension: int | str, sentence: str) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(9))])
    error = failure(bytes_of(fits.PrimaryHDU(RAMP), table), extension)
    assert error.reason == "no_image" and re.search(sentence, str(error))


def test_a_file_that_cannot_be_opened_is_tried_again_later(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.fits", tmp_path):
        with pytest.raises(
            FrameUnavailable, match=r"cannot be read .*; fix its permissions or the mount"
        ) as caught:
            read_file(path)
        assert (caught.value.reason, caught.value.status) == ("unreadable", "failed")
        assert peek_header(path) is None


def test_a_link_to_nowhere_is_reported_with_its_target(tmp_path: Path) -> None:
    dangling = tmp_path / "dangling.fits"
    dangling.symlink_to("gone.fits")
    with pytest.raises(FrameUnavailable, match="link to nowhere") as caught:
        read_file(dangling)
    assert str(tmp_path.resolve() / "gone.fits") in str(caught.value)
    assert "permissions" not in str(caught.value)
    assert (caught.value.reason, caught.value.status) == ("unreadable", "failed")
    assert peek_header(dangling) is None


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.fits")
    with pytest.raises(FrameUnavailable, match="pipe or device"):
        read_file(tmp_path / "pipe.fits")
    assert peek_header(tmp_path / "pipe.fits") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_file_without_permission_is_tried_again_later(tmp_path: Path) -> None:
    path = tmp_path / "locked.fits"
    path.write_bytes(PLAIN)
    path.chmod(0)
    with pytest.raises(FrameUnavailable, match="Permission denied"):
        read_file(path)


def test_a_file_shows_its_size_and_time_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits.gz"
    path.write_bytes(gzip.compress(PLAIN))
    os.utime(path, ns=(5, 1_700_000_000_123_456_789))
    found = read_file(path)
    assert (found.path, found.n_bytes, found.data) == (str(path), path.stat().st_size, PLAIN)
    assert found.modified_ns == path.stat().st_mtime_ns


ODD_CARDS = {
    "text without quotes": ("OBSERVER= the night shift / who", "OBSERVER", "the night shift"),
    "accents": ("OBSERVER= 'Jos\xe9    '", "OBSERVER", "Jos?"),
    "a tab": ("OBSERVER= 'a\tb     '", "OBSERVER", "a b"),
    "no closing quote": ("OBSERVER= 'night", "OBSERVER", "night"),
}


@pytest.mark.parametrize(("card", "name", "value"), ODD_CARDS.values(), ids=ODD_CARDS.keys())
def test_cards_that_break_the_standard_are_read_as_text(card: str, name: str, value: str) -> None:
    data = with_card(stored_as(RAMP, OBSERVER="x"), "OBSERVER", card)
    raw = open_image(content(data))
    np.testing.assert_array_equal(raw.pixels, RAMP)
    assert raw.header[name] == value


@pytest.mark.parametrize("data", [PLAIN, TILES, ZIPPED], ids=["plain", "tiles", "zipped"])
@given(
    cut=st.integers(0, 20000),
    spoilt=st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=30)), max_size=4),
)
@example(cut=20000, spoilt=[(2880 + 80 * 8, b"\0" * 30)])
def test_a_damaged_file_is_read_or_fails_with_one_sentence(
    data: bytes, cut: int, spoilt: list[tuple[int, bytes]]
) -> None:
    broken = bytearray(data)
    for place, text in spoilt:
        broken[place : place + len(text)] = text[: max(0, len(broken) - place)]
    try:
        raw = open_image(content(bytes(broken[:cut])))
    except FrameFailed as error:
        assert "\n" not in str(error) and error.reason != "error"
    else:
        assert raw.pixels.ndim == 2 and raw.pixels.dtype == np.float32
        for name in raw.header:
            raw.header.get(name)


@given(place=st.integers(1, 600), text=st.binary(min_size=1, max_size=8))
def test_a_damaged_gzip_file_is_read_or_fails_with_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, place: int, text: bytes
) -> None:
    packed = gzip.compress(PLAIN, mtime=0)
    place %= len(packed)
    broken = packed[:place] + text + packed[place + len(text) :]
    path = tmp_path_factory.getbasetemp() / "broken.fits.gz"
    path.write_bytes(broken)
    try:
        np.testing.assert_array_equal(open_image(read_file(path)).pixels.shape, RAMP.shape)
    except FrameFailed as error:
        assert "\n" not in str(error)
    peek_header(path)


def several(*units: Any) -> bytes:
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(buffer)
    return buffer.getvalue()


def test_images_that_follow_are_counted() -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("n", "J", array=np.arange(3))])
    picture, packed = fits.ImageHDU(RAMP), fits.CompImageHDU(RAMP)
    counts = {
        (): 0,
        (table,): 0,
        (fits.ImageHDU(RAMP[0]),): 0,
        (table, fits.ImageHDU(RAMP)): 1,
        (fits.ImageHDU(RAMP), packed): 2,
    }
    for units, n_further in counts.items():
        raw = open_image(content(several(picture, *units)))
        assert (raw.extension, raw.n_further) == (1, n_further)
        np.testing.assert_array_equal(raw.pixels, RAMP)
    both = several(packed, picture, packed)
    assert [open_image(content(both), which).n_further for which in (1, 2, 3)] == [2, 1, 0]


@given(st.binary(max_size=6000), st.booleans())
def test_what_follows_the_image_does_no_harm(tail: bytes, like_header: bool) -> None:
    """The standard allows special records at the end, and copies pad files with what they like."""
    tail = b"XTENSION= 'IMAGE   '" + tail + b"END     ".ljust(2880) if like_header else tail
    raw = open_image(content(several(fits.ImageHDU(RAMP)) + tail))
    np.testing.assert_array_equal(raw.pixels, RAMP)
    assert raw.n_further in (0, 1)


@pytest.mark.parametrize("card", ["CONTINUE  'more&'", "CONTINUE= 5", "CONTINUE"])
@pytest.mark.parametrize("name", ["BZERO", "GAIN"])
def test_a_continuation_of_a_number_is_passed_over(name: str, card: str) -> None:
    data = with_card(stored_as(RAMP, **({name: 100.0} | {"AFTER": "x"})), "AFTER", card)
    raw = open_image(content(data))
    np.testing.assert_array_equal(raw.pixels, RAMP + (100.0 if name == "BZERO" else 0.0))
    assert raw.header[name] == 100.0


def test_cards_that_astropy_takes_for_patterns_are_left_out() -> None:
    raw = open_image(content(with_card(stored_as(RAMP, ODD="x"), "ODD", "A(?     = 'x'")))
    np.testing.assert_array_equal(raw.pixels, RAMP)
    assert "A(?" not in raw.header
