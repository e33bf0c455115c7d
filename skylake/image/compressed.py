"""Images that are compressed by tiles (Pence et al. 2010, A&A 524, A42; FITS standard 4.0, 10).

Integers under Rice, which is what cameras and archives write, are unpacked here, at once and to the numbers of the
file, which the first pass of the reduction takes as they are. All else is decoded by astropy.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.frame import StoredImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.image.kernels.rice import unpack_tiles
from skylake.image.units import Unit, number, plane, readable

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
#: Types of the stored numbers by their bytes, and those that the bits of a pixel are unpacked to.
_STORED = {1: (np.uint8, np.uint8), 2: (np.int16, np.uint16), 4: (np.int32, np.uint32)}


@dataclass(frozen=True, slots=True)
class _Tiles:
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
    tiles = _find_tiles(data, unit)
    return _by_astropy(data, unit) if tiles is None else _unpacked(data, unit, tiles)


def _find_tiles(data: bytes, unit: Unit) -> _Tiles | None:
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
    axes = [_count(header, f"ZNAXIS{n + 1}") for n in range(_count(header, "ZNAXIS"))]
    if len(axes) < 2 or not math.prod(axes):
        return None
    height, width = plane(axes, unit.index)
    tile = _count(header, "ZTILE2", 1), _count(header, "ZTILE1", width)
    found = _descriptors(data, unit, ">i4" if kind[1] == "P" else ">i8")
    if min(tile) < 1 or found is None or len(found) != -(-height // tile[0]) * -(-width // tile[1]):
        return None
    lengths, starts = found[:, 0], found[:, 1]
    # A tile without bytes is held in another column.
    if lengths.min() < 1 or starts.min() < 0 or (lengths + starts).max() > unit.data_offset + unit.data_bytes:
        return None
    return _Tiles((height, width), tile, starts.copy(), lengths.copy(), block, size)


def _descriptors(data: bytes, unit: Unit, kind: str) -> Places | None:
    """Return length and place in the data of the bytes of each tile, shape (tiles, 2)."""
    row, n_rows = unit.header["NAXIS1"], unit.header["NAXIS2"]
    pair = 2 * np.dtype(kind).itemsize
    heap = _count(unit.header, "THEAP", row * n_rows)
    if row < pair or n_rows < 1 or row * n_rows > unit.data_bytes or heap < row * n_rows:
        return None
    rows = np.frombuffer(data, np.uint8, row * n_rows, unit.data_offset).reshape(n_rows, row)
    found = np.ascontiguousarray(rows[:, :pair]).view(kind).astype(np.int64)
    return np.asarray(found + np.array([0, unit.data_offset + heap]))


def _count(header: Any, name: str, default: int = 0) -> int:
    value = header.get(name, default)
    return value if type(value) is int else -1


def _unpacked(data: bytes, unit: Unit, tiles: _Tiles) -> StoredImage:
    stored, bits = _STORED[tiles.size]
    pixels = np.empty(tiles.shape, bits)
    found = np.frombuffer(data, np.uint8)
    bad = unpack_tiles(found, tiles.starts, tiles.lengths, tiles.tile, tiles.block, 8 * tiles.size, pixels)
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

    found = fits.Header()
    found["XTENSION"] = "IMAGE"
    for name in ("BITPIX", "NAXIS", *(f"NAXIS{n + 1}" for n in range(header["ZNAXIS"]))):
        found[name] = header[f"Z{name}"]
    for name, default in (("PCOUNT", 0), ("GCOUNT", 1)):
        found[name] = header.get(f"Z{name}", default)
    cards = [card for card in header.cards if not _OF_TABLE.match(card.keyword)]
    named = [card for card in cards if card.keyword != "EXTNAME" or card.value != _NO_NAME]
    found.extend(named, strip=False, bottom=True)
    return found


def _by_astropy(data: bytes, unit: Unit) -> StoredImage:
    from astropy.io import fits

    # astropy has no public name for the exception of its decoders.
    from astropy.io.fits.hdu.compressed._compression import CfitsioException
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            with fits.open(io.BytesIO(data), memmap=False) as units:
                image = units[unit.index]
                if not isinstance(image, fits.CompImageHDU):
                    raise ValueError("its header is incomplete")
                height, width = plane(list(image.shape[::-1]), unit.index)
                pixels = np.ascontiguousarray(image.data, np.float32).reshape(height, width)
                return StoredImage(pixels, readable(image.header.copy()), unit.index)
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
            zlib.error,
            fits.VerifyError,
            CfitsioException,
        ) as error:
            why = " ".join(str(error).split())
            raise FrameFailed(
                Reason.CORRUPT, f"the compressed image is damaged ({why}); copy the file again"
            ) from error
