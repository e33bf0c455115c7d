"""Tile-compressed images (Pence et al. 2010, A&A 524, A42; FITS standard 4.0, 10).

Integers under Rice, which is what cameras and archives write, are unpacked here, at once and to the numbers of the
file, which the first pass of the reduction takes as they are. All else is decoded by astropy.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.frame import StoredImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.image.fitsio.fits_units import SMALL_BYTES, Unit, number, plane, refuse_inflated
from skylake.image.fitsio.gzip_bzip2 import DAMAGE, gunzipped
from skylake.image.fitsio.rice_kernels import unpack_tiles

Places = npt.NDArray[np.int64]

#: Cards of the table that holds the tiles, which say nothing of the image.
_OF_TABLE = re.compile(
    r"(XTENSION|BITPIX|NAXIS\d*|[PG]COUNT|TFIELDS|THEAP|T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|BCOL|DIM)\d+|"
    r"Z(IMAGE|SIMPLE|TENSION|EXTEND|BLOCKED|BITPIX|CMPTYPE|MASKCMP|QUANTIZ|DITHER0|BLANK|SCALE|ZERO|HECKSUM|"
    r"DATASUM|[PG]COUNT|(NAXIS|TILE|NAME|VAL)\d*)|CHECKSUM|DATASUM|END)\Z"
)
#: What astropy and fpack call a table for which the image has no name.
_NO_NAME = "COMPRESSED_IMAGE"
#: A descriptor of bytes in the heap: two integers of 32 or of 64 bits.
_DESCRIPTOR = re.compile(r"1?([PQ])B(\(\d*\))?\Z")
#: Nothing unpacks to more times its bytes by gzip.
_MAX_GZIP = 1040
#: Types of the stored numbers by their bytes, and those that the bits of a pixel are unpacked to.
_STORED = {1: (np.uint8, np.uint8), 2: (np.int16, np.uint16), 4: (np.int32, np.uint32)}


@dataclass(frozen=True, slots=True)
class _CompressedTiles:
    """Where the bytes of the tiles are, and how they are packed; `size` is the bytes of a pixel."""

    shape: tuple[int, int]
    tile: tuple[int, int]
    starts: Places
    lengths: Places
    block: int
    size: int


def open_tiles(data: bytes, unit: Unit) -> StoredImage:
    """Unpack the tiles of a unit.

    Raises
    ------
    FrameFailed
        With reason ``corrupt`` if that is not possible, ``no_image`` for a cube.
    """
    _refuse_absurd_cards(unit)
    tiles = _find_tiles(data, unit)
    return _by_astropy(data, unit) if tiles is None else _unpacked(data, unit, tiles)


def refuse_absurd(data: bytes, unit: Unit) -> None:
    """Raise for tiles that would fill the memory, or that astropy would write beyond the end of an array.

    Raises
    ------
    FrameFailed
        ``corrupt``, or ``no_image`` for other than a picture.
    """
    from astropy.io import fits

    _refuse_absurd_cards(unit)
    with fits.open(io.BytesIO(data), memmap=False, disable_image_compression=True) as units:
        columns = units[unit.index].columns.dtype
    n_rows, row = unit.header["NAXIS2"], unit.header["NAXIS1"]
    heap = unit.data_offset + _count(unit.header, "THEAP", row * n_rows)
    rows = np.frombuffer(data, np.uint8, row * n_rows, unit.data_offset).reshape(n_rows, row)
    sizes = _pixels_of_tiles(unit.header)
    for name in {"COMPRESSED_DATA", "GZIP_COMPRESSED_DATA"} & set(columns.names or ()):
        kind, offset = columns.fields[name][:2]
        if kind.shape != (2,):
            continue
        pairs = np.ascontiguousarray(rows[:, offset : offset + kind.itemsize]).view(
            kind.base.newbyteorder(">")
        )
        packing = "GZIP" if name != "COMPRESSED_DATA" else str(unit.header.get("ZCMPTYPE"))
        for number_, (length, place) in enumerate(pairs[: len(sizes)].tolist()):
            packed = data[heap + place : heap + place + length] if min(length, place) >= 0 else b""
            if packed and not _fits(packed, packing, int(sizes[number_])):
                raise FrameFailed(
                    Reason.CORRUPT,
                    f"the compressed image is damaged (tile {number_ + 1} does not hold the {sizes[number_]} pixels "
                    "that its header implies); copy the file again",
                )


def _refuse_absurd_cards(unit: Unit) -> None:
    """Raise for cards that imply no image, or one that the bytes of the file cannot hold."""
    header = unit.header
    n_axes = header.get("ZNAXIS")
    if n_axes not in (2, 3, 4):
        raise FrameFailed(
            Reason.NO_IMAGE,
            f"the card ZNAXIS in HDU {unit.index} holds {n_axes!r}, and a picture has 2 axes; name another HDU in "
            "header.extension of the profile",
        )
    for name in (f"{word}{axis + 1}" for word in ("ZNAXIS", "ZTILE") for axis in range(n_axes)):
        if _count(header, name, int(name.startswith("ZTILE"))) < 1:
            what = f"holds {header[name]!r}, which is no number of pixels" if name in header else "is missing"
            raise FrameFailed(
                Reason.CORRUPT, f"the card {name} of the compressed image {what}; copy the file again"
            )
    n_tiles = math.prod(len(lengths) for lengths in _lengths(header))
    if n_tiles > header["NAXIS2"]:
        raise FrameFailed(
            Reason.CORRUPT,
            f"the cards ZNAXIS1 … of the compressed image imply {n_tiles} tiles, and there are {header['NAXIS2']}; "
            "copy the file again",
        )
    axes = [header[f"ZNAXIS{axis + 1}"] for axis in range(n_axes)]
    plane(axes, unit.index)
    n_bytes = max(abs(_count(header, "ZBITPIX", 8)) // 8, 1)
    refuse_inflated(math.prod(axes) * n_bytes, unit.data_bytes, _MAX_GZIP)


def _lengths(header: Any) -> list[range]:
    """Return where the tiles begin along each axis."""
    axes = range(1, header["ZNAXIS"] + 1)
    tiles = [header.get(f"ZTILE{axis}", header["ZNAXIS1"] if axis == 1 else 1) for axis in axes]
    return [range(0, header[f"ZNAXIS{axis}"], tile) for axis, tile in zip(axes, tiles, strict=True)]


def _pixels_of_tiles(header: Any) -> Places:
    """Return how many pixels each tile has, in the order of the rows of their table."""
    pixels = np.ones(1, np.int64)
    for axis, starts in reversed(list(enumerate(_lengths(header), 1))):
        ends = np.minimum(np.array(starts) + starts.step, header[f"ZNAXIS{axis}"])
        pixels = np.multiply.outer(pixels, ends - np.array(starts)).ravel()
    return pixels


def _fits(packed: bytes, packing: str, n_pixels: int) -> bool:
    """Return whether the bytes of a tile do not unpack to more than its pixels."""
    if packing == "HCOMPRESS_1":
        # The decoder believes the size that is given within the tile.
        shape = struct.unpack(">2i", packed[2:10].ljust(8, b"\0"))
        return bool(min(shape) > 0 and math.prod(shape) == n_pixels)
    if not packing.startswith("GZIP") or len(packed) * _MAX_GZIP <= SMALL_BYTES:
        return True
    length = 0
    with contextlib.suppress(*DAMAGE):  # What else is wrong is reported by the decoder.
        for piece in gunzipped(io.BytesIO(packed)):
            length += len(piece)
            if length > 8 * n_pixels:
                return False
    return True


def _find_tiles(data: bytes, unit: Unit) -> _CompressedTiles | None:
    """Return the tiles of integers that are all packed by Rice; None for other units."""
    header = unit.header
    options = {header.get(f"ZNAME{n}"): header.get(f"ZVAL{n}") for n in range(1, 10)}
    size, block = options.get("BYTEPIX", 4), options.get("BLOCKSIZE", 32)
    kind = _DESCRIPTOR.match(str(header.get("TFORM1", "")).strip())
    columns = {str(header.get(f"TTYPE{n + 1}")).strip() for n in range(_count(header, "TFIELDS"))}
    if (
        header.get("ZCMPTYPE") not in ("RICE_1", "RICE_ONE")
        or header.get("ZBITPIX") not in (8, 16, 32)
        or header.get("TTYPE1") != "COMPRESSED_DATA"
        or kind is None
        or size not in _STORED
        or 8 * size < header["ZBITPIX"]
        or type(block) is not int
        or block < 1
        or "ZSCALE" in header
        or columns & {"ZSCALE", "ZZERO", "ZBLANK"}
    ):
        return None
    height, width = plane([header[f"ZNAXIS{n + 1}"] for n in range(header["ZNAXIS"])], unit.index)
    tile = header.get("ZTILE2", 1), min(header.get("ZTILE1", width), width)
    descriptors = _descriptors(data, unit, ">i4" if kind[1] == "P" else ">i8")
    if descriptors is None or len(descriptors) != -(-height // tile[0]) * -(-width // tile[1]):
        return None
    lengths, starts = descriptors[:, 0], descriptors[:, 1]
    # A tile without bytes is held in another column.
    if lengths.min() < 1 or starts.min() < 0 or (lengths + starts).max() > unit.data_offset + unit.data_bytes:
        return None
    return _CompressedTiles((height, width), tile, starts.copy(), lengths.copy(), block, size)


def _descriptors(data: bytes, unit: Unit, kind: str) -> Places | None:
    """Return length and place in the data of the bytes of each tile, shape (tiles, 2)."""
    row, n_rows = unit.header["NAXIS1"], unit.header["NAXIS2"]
    pair = 2 * np.dtype(kind).itemsize
    heap = _count(unit.header, "THEAP", row * n_rows)
    if row < pair or n_rows < 1 or row * n_rows > unit.data_bytes or heap < row * n_rows:
        return None
    rows = np.frombuffer(data, np.uint8, row * n_rows, unit.data_offset).reshape(n_rows, row)
    pairs = np.ascontiguousarray(rows[:, :pair]).view(kind).astype(np.int64)
    return np.asarray(pairs + np.array([0, unit.data_offset + heap]))


def _count(header: Any, name: str, default: int = 0) -> int:
    value = header.get(name, default)
    return value if type(value) is int else -1


def _unpacked(data: bytes, unit: Unit, tiles: _CompressedTiles) -> StoredImage:
    stored, bits = _STORED[tiles.size]
    pixels = np.empty(tiles.shape, bits)
    packed = np.frombuffer(data, np.uint8)
    bad = unpack_tiles(packed, tiles.starts, tiles.lengths, tiles.tile, tiles.block, 8 * tiles.size, pixels)
    if bad >= 0:
        raise FrameFailed(
            Reason.CORRUPT,
            f"the compressed image is damaged (the bytes of tile {bad + 1} end too early); copy the file again",
        )
    header = unit.header
    blank = header.get("BLANK", header.get("ZBLANK"))
    return StoredImage(
        pixels.view(stored),
        image_header(header),
        unit.index,
        scale=number(header, "BSCALE", 1.0),
        zero=number(header, "BZERO", 0.0),
        blank=blank if isinstance(blank, int) else None,
    )


def image_header(header: Any) -> Any:
    """Return the header of the image that a table of tiles holds."""
    from astropy.io import fits

    image = fits.Header()
    image["XTENSION"] = "IMAGE"
    for name in ("BITPIX", "NAXIS", *(f"NAXIS{n + 1}" for n in range(header["ZNAXIS"]))):
        image[name] = header[f"Z{name}"]
    for name, default in (("PCOUNT", 0), ("GCOUNT", 1)):
        image[name] = header.get(f"Z{name}", default)
    further = [card for card in header.cards if not _OF_TABLE.match(card.keyword)]
    named = [card for card in further if card.keyword != "EXTNAME" or card.value != _NO_NAME]
    image.extend(named, strip=False, bottom=True)
    return image


def _by_astropy(data: bytes, unit: Unit) -> StoredImage:
    from astropy.io import fits

    # astropy has no public name for the exception of its decoders.
    from astropy.io.fits.hdu.compressed._compression import CfitsioException
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            refuse_absurd(data, unit)
            with fits.open(io.BytesIO(data), memmap=False) as units:
                image = units[unit.index]
                if not isinstance(image, fits.CompImageHDU):
                    raise ValueError("its header is incomplete")
                height, width = plane(list(image.shape[::-1]), unit.index)
                pixels = np.ascontiguousarray(image.data, np.float32).reshape(height, width)
                return StoredImage(pixels, image_header(unit.header), unit.index)
        except (
            OSError,
            EOFError,
            ValueError,
            TypeError,
            ArithmeticError,
            LookupError,
            AttributeError,
            MemoryError,
            RuntimeError,
            re.error,
            zlib.error,
            fits.VerifyError,
            CfitsioException,
        ) as error:
            why = " ".join(str(error).split())
            raise FrameFailed(
                Reason.CORRUPT, f"the compressed image is damaged ({why}); copy the file again"
            ) from error
