"""Read FITS: plain, gzip, bzip2 or tile-compressed; any BITPIX, BSCALE and BZERO.

Uncompressed pixels are handed on as they lie in the bytes of the file, to be converted where they are first
needed, in the same pass as the calibration; tile-compressed ones are decoded by astropy (Pence et al. 2010,
A&A 524, A42).
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import math
import re
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from skylake.core.frame import FileContent, RawImage, StoredImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed, FrameUnavailable
from skylake.image.linear import decode

_BLOCK = 2880
_MAX_HEADER_BLOCKS = 2000
_DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_MAGIC = {b"\x1f\x8b": gzip, b"BZ": bz2}
#: Headers hold printable ASCII; what else is found there is a blank or a question mark.
_PRINTABLE = bytes(code if 32 <= code < 127 else 63 if code > 127 else 32 for code in range(256))
#: No disk holds a unit of so many bytes.
_MAX_UNIT_BYTES = 1 << 50
#: Cards without which pixels would be read wrongly.
_VITAL = re.compile(r"(SIMPLE|XTENSION|EXTNAME|Z?(BITPIX|NAXIS\d*|BSCALE|BZERO|BLANK|IMAGE)|[PG]COUNT)\Z")


@dataclass(frozen=True, slots=True)
class Unit:
    """One header-data unit: its header as astropy reads it, and where its data are."""

    index: int
    header: Any
    data_offset: int
    data_bytes: int

    @property
    def tile_compressed(self) -> bool:
        """Whether the unit is a table that holds an image in tiles."""
        return bool(self.header.get("ZIMAGE", False))

    @property
    def is_image(self) -> bool:
        """Whether the unit holds pixels."""
        if self.tile_compressed:
            return True
        kind = str(self.header.get("XTENSION", "IMAGE")).strip()
        return kind in ("IMAGE", "IUEIMAGE") and self.header.get("NAXIS", 0) >= 2 and self.data_bytes > 0


def read_file(path: str | Path) -> FileContent:
    """Read a file and undo gzip or bzip2.

    Raises
    ------
    FrameUnavailable
        If the file cannot be opened or read at the moment.
    """
    path = Path(path)
    try:
        status = path.stat()
        raw = path.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise FrameUnavailable(
            Reason.UNREADABLE, f"the file cannot be read ({why}); mend its permissions or the mount"
        ) from error
    module = _MAGIC.get(raw[:2])
    try:
        data = raw if module is None else module.decompress(raw)
    except (OSError, EOFError, ValueError, zlib.error):
        data = raw
    return FileContent(str(path.absolute()), status.st_size, status.st_mtime_ns, data)


def peek_header(path: str | Path, extension: int | str | None = None) -> Any:
    """Return the header of a file's image without reading its pixels; None if that fails for any reason."""
    path = Path(path)
    try:
        with path.open("rb") as plain:
            module = _MAGIC.get(plain.read(2))
        opener: Any = open if module is None else module.open
        with opener(path, "rb") as stream:
            return _choose(_walk(stream), extension).header
    except (OSError, EOFError, ValueError, zlib.error, FrameFailed):
        return None


def open_image(content: FileContent, extension: int | str | None = None) -> RawImage:
    """Decode the image of a file to native float32; parameters and errors are those of :func:`open_stored`."""
    found = open_stored(content, extension)
    return RawImage(decode(found), found.header, found.extension, found.n_further)


def open_stored(content: FileContent, extension: int | str | None = None) -> StoredImage:
    """Find the image of a file.

    Parameters
    ----------
    content : FileContent
        The file.
    extension : int, str or None
        Index or name of the HDU; None takes the first that holds an image.

    Raises
    ------
    FrameFailed
        With reason ``empty_file``, ``not_fits``, ``truncated``, ``corrupt`` or ``no_image``.
    """
    if not content.data:
        raise FrameFailed(Reason.EMPTY_FILE, "the file is empty; copy it again from its origin")
    if content.data[:2] in _MAGIC:
        raise FrameFailed(Reason.TRUNCATED, "the compressed file ends too early or is damaged; copy it again")
    if not content.data.startswith(b"SIMPLE"):
        raise FrameFailed(
            Reason.NOT_FITS,
            "the file is no FITS file (it does not begin with SIMPLE); move it out of the folder of frames",
        )
    units = _walk(io.BytesIO(content.data))
    unit = _choose(units, extension)
    if unit.data_offset + unit.data_bytes > len(content.data):
        missing = unit.data_offset + unit.data_bytes - len(content.data)
        raise FrameFailed(
            Reason.TRUNCATED, f"the last {missing} bytes of the image are missing; copy it again"
        )
    found = _open_tiles(content, unit) if unit.tile_compressed else _stored(content.data, unit)
    return replace(found, n_further=_count_images(units))


def _choose(units: Iterator[Unit], extension: int | str | None) -> Unit:
    for unit in units:
        if isinstance(extension, str):
            wanted = str(unit.header.get("EXTNAME", "")).strip().upper() == extension.upper()
        else:
            wanted = unit.is_image if extension is None else unit.index == extension
        if wanted and unit.is_image:
            return unit
        if wanted:
            raise FrameFailed(Reason.NO_IMAGE, f"HDU {extension!r} holds no image; mend header.extension")
    which = "no HDU holds an image" if extension is None else f"there is no HDU {extension!r}"
    raise FrameFailed(Reason.NO_IMAGE, f"{which}; mend header.extension of the profile or leave the file out")


def _count_images(units: Iterator[Unit]) -> int:
    """Return how many images there are among the units that are left, up to one that cannot be read."""
    count = 0
    with contextlib.suppress(FrameFailed):
        for unit in units:
            count += unit.is_image
    return count


def _walk(stream: IO[bytes]) -> Iterator[Unit]:
    """Yield the units of a FITS stream, skipping over their data."""
    offset, index = 0, 0
    while True:
        text = _header_text(stream, first=index == 0)
        if text is None:
            return
        header = _parse_header(text)
        offset += len(text)
        size = _data_bytes(header)
        yield Unit(index, header, offset, size)
        padded = -(-size // _BLOCK) * _BLOCK
        stream.seek(padded, io.SEEK_CUR)
        offset, index = offset + padded, index + 1


def _header_text(stream: IO[bytes], first: bool) -> bytes | None:
    blocks: list[bytes] = []
    while len(blocks) < _MAX_HEADER_BLOCKS:
        block = stream.read(_BLOCK)
        if not block and not blocks and not first:
            return None
        if len(block) < _BLOCK:
            if not blocks and not first:
                return None  # bytes after the last unit, which the standard allows
            raise FrameFailed(Reason.TRUNCATED, "the file ends within a header; copy it again")
        blocks.append(block)
        if any(block[i : i + 8] == b"END     " for i in range(0, _BLOCK, 80)):
            return b"".join(blocks)
    raise FrameFailed(Reason.CORRUPT, "a header has no END card; copy the file again")


def _parse_header(text: bytes) -> Any:
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings():
        # Archives are full of cards that break the standard; what matters is read by name, with checks.
        warnings.simplefilter("ignore", AstropyWarning)
        header = _readable(fits.Header.fromstring(text.translate(_PRINTABLE).decode("ascii")))
        try:
            axes = [header[f"NAXIS{i + 1}"] for i in range(header["NAXIS"])]
            whole = [header["BITPIX"], *axes, header.get("PCOUNT", 0), header.get("GCOUNT", 1)]
        except (KeyError, TypeError, ValueError, fits.VerifyError) as error:
            raise FrameFailed(
                Reason.CORRUPT, f"the header is damaged ({error}); copy the file again"
            ) from error
    if (
        not all(type(value) is int for value in whole)
        or whole[0] not in _DTYPES
        or min(whole[1:]) < 0
        or _data_bytes(header) > _MAX_UNIT_BYTES
    ):
        raise FrameFailed(Reason.CORRUPT, "BITPIX or NAXIS make no sense; copy the file again")
    return header


def _readable(header: Any) -> Any:
    """Return a header with every value readable: what breaks the standard, such as text without quotes, is text.

    Raises
    ------
    FrameFailed
        ``corrupt`` if such a card says how pixels are stored.
    """
    from astropy.io import fits

    for number in reversed(range(len(header))):
        card = header.cards[number]
        try:
            card.value  # noqa: B018
        except fits.VerifyError:
            if _VITAL.match(card.keyword):
                raise FrameFailed(
                    Reason.CORRUPT, f"the card {card.keyword} cannot be read; copy the file again"
                ) from None
            text = str(card)[10:].partition("/")[0].strip(" '")
            del header[number]
            with contextlib.suppress(ValueError):  # raised for keywords that none may bear
                header.insert(number, fits.Card(card.keyword, text))
    return header


def _data_bytes(header: Any) -> int:
    axes = [header[f"NAXIS{i + 1}"] for i in range(header["NAXIS"])]
    if not axes:
        return 0
    count = math.prod(axes)
    if "XTENSION" in header:
        count = header.get("GCOUNT", 1) * (header.get("PCOUNT", 0) + count)
    return int(abs(header["BITPIX"]) // 8 * count)


def _plane(axes: list[int]) -> tuple[int, int]:
    """Return height and width of an image, whose further axes must have length one."""
    if len(axes) > 2 and math.prod(axes[2:]) != 1:
        shape = " x ".join(str(axis) for axis in axes)
        raise FrameFailed(Reason.NO_IMAGE, f"the image is a cube of {shape}; only single planes are read")
    return axes[1], axes[0]


def _stored(data: bytes, unit: Unit) -> StoredImage:
    header = unit.header
    height, width = _plane([header[f"NAXIS{i + 1}"] for i in range(header["NAXIS"])])
    stored = np.frombuffer(data, _DTYPES[header["BITPIX"]], height * width, unit.data_offset)
    blank = header.get("BLANK") if stored.dtype.kind in "iu" else None
    return StoredImage(
        stored.reshape(height, width),
        header,
        unit.index,
        scale=_number(header, "BSCALE", 1.0),
        zero=_number(header, "BZERO", 0.0),
        blank=blank if isinstance(blank, int) else None,
    )


def _number(header: Any, name: str, default: float) -> float:
    try:
        return float(header.get(name, default))
    except (TypeError, ValueError) as error:
        raise FrameFailed(Reason.CORRUPT, f"the card {name} holds {header.get(name)!r}, no number") from error


def _open_tiles(content: FileContent, unit: Unit) -> StoredImage:
    from astropy.io import fits

    # astropy has no public name for the exception of its decoders.
    from astropy.io.fits.hdu.compressed._compression import CfitsioException
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            with fits.open(io.BytesIO(content.data), memmap=False) as units:
                image = units[unit.index]
                if not isinstance(image, fits.CompImageHDU):
                    raise ValueError("its header is incomplete")
                height, width = _plane(list(image.shape[::-1]))
                pixels = np.ascontiguousarray(image.data, np.float32).reshape(height, width)
                return StoredImage(pixels, _readable(image.header.copy()), unit.index)
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
