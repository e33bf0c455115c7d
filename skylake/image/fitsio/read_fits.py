"""Reading of FITS files: plain, gzip, bzip2 or tile-compressed; any BITPIX, BSCALE and BZERO.

Uncompressed pixels are handed on as they lie in the bytes of the file, to be converted where they are first
needed, in the same pass as the calibration, and so are integers of compressed tiles once they are unpacked.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from skylake.core.frame import BEYOND_MEASURE, FileContent, StoredImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed, FrameRejected, FrameUnavailable
from skylake.image.fitsio.fits_units import DTYPES, MAX_BYTES, Unit, number, plane, walk
from skylake.image.fitsio.gzip_bzip2 import DAMAGE, MAGIC, not_inflated, unpack
from skylake.image.fitsio.tile_compression import open_tiles

#: How files begin that people take for frames, and what these are.
_FOREIGN = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"\xfd7zXZ": "packed by xz; run unxz",
    b"\x28\xb5\x2f\xfd": "packed by zstd; run unzstd",
    b"\x1f\x9d": "packed by compress; run uncompress",
}
#: Cards of the header's own data, and of a WCS, which is that of one image.
_OWN_CARD = re.compile(
    r"(SIMPLE|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM|EXT(NAME|VER|LEVEL)"
    r"|INHERIT|NEXTEND|COMMENT|HISTORY|CONTINUE|END|WCSAXES|LONPOLE|LATPOLE"
    r"|(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)\d|(CD|PC|PV)\d+_\d+|[AB]P?_(\d_\d|ORDER))?\Z"
)


def read_file(path: str | Path) -> FileContent:
    """Read a file and undo gzip or bzip2.

    A file that would fill the memory is not read, or not unpacked: it fails when its image is opened.

    Raises
    ------
    FrameUnavailable
        If the file cannot be opened or read at the moment.
    """
    path = Path(path)
    failure: FrameFailed | None = None
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise FrameUnavailable(
                Reason.UNREADABLE, "this is a pipe or device, whose end might never come; copy it into a file"
            )
        with path.open("rb") as stream:
            if status.st_size > MAX_BYTES:
                data, failure = os.fsencode(path.absolute()), _too_large(status.st_size)
            else:
                data, failure = _data(stream, status.st_size)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            raise FrameUnavailable(
                Reason.UNREADABLE,
                f"the file is a link to nowhere, {os.path.realpath(path)} is not there; fix or remove the link",
            ) from error
        why = error.strerror or type(error).__name__
        raise FrameUnavailable(
            Reason.UNREADABLE, f"the file cannot be read ({why}); fix its permissions or the mount"
        ) from error
    return FileContent(str(path.absolute()), status.st_size, status.st_mtime_ns, data, failure)


def _data(stream: BinaryIO, n_bytes: int) -> tuple[bytes, FrameFailed | None]:
    """Return the content of a file, unpacked if that can be done, and what is wrong if it must not be."""
    failure = None
    packed = stream.read(2) in MAGIC
    stream.seek(0)
    if packed:
        try:
            return unpack(stream, n_bytes), None
        except FrameFailed as error:
            failure = error
        except DAMAGE:
            pass  # Such a file is known by its bytes as they are.
        stream.seek(0)
    return stream.read(), failure


def _too_large(n_bytes: int) -> FrameFailed:
    return FrameFailed(
        Reason.CORRUPT,
        f"the file has {n_bytes} bytes, and at most {MAX_BYTES} are read; cut it into smaller ones or leave it out",
    )


def peek_header(path: str | Path, extension: int | str | None = None) -> Any:
    """Return the header of a file's image without reading its pixels; None if that fails for any reason."""
    path = Path(path)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as plain:
            module = MAGIC.get(plain.read(2))
        opener: Any = open if module is None else module.open
        with opener(path, "rb") as stream:
            units = walk(stream)
            if module is not None:
                # To skip over data means to unpack them.
                units = not_inflated(units, path.stat().st_size)
            return _choose(units, extension).header
    except (*DAMAGE, FrameFailed):
        return None


def peeked_size(header: Any) -> tuple[int, int]:
    """Return height and width of the image that a header is of, packed or not; 0 where it has no such number."""
    width, height = (header.get(f"ZNAXIS{axis}", header.get(f"NAXIS{axis}")) for axis in (1, 2))
    return (height, width) if type(width) is int and type(height) is int else (0, 0)


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
    if content.failure is not None:
        raise content.failure
    if content.data[:2] in MAGIC:
        raise FrameFailed(Reason.TRUNCATED, "the compressed file ends too early or is damaged; copy it again")
    for magic, what in _FOREIGN.items():
        if content.data.startswith(magic):
            raise FrameFailed(Reason.NOT_FITS, f"the file is {what}")
    if not content.data.startswith(b"SIMPLE"):
        raise FrameFailed(
            Reason.NOT_FITS,
            "the file is no FITS file (it does not begin with SIMPLE); move it out of the folder of frames",
        )
    units = walk(io.BytesIO(content.data))
    unit = _choose(units, extension)
    if unit.data_offset + unit.data_bytes > len(content.data):
        missing = unit.data_offset + unit.data_bytes - len(content.data)
        raise FrameFailed(
            Reason.TRUNCATED, f"the last {missing} bytes of the image are missing; copy it again"
        )
    stored = open_tiles(content.data, unit) if unit.tile_compressed else _stored(content.data, unit)
    return replace(stored, n_further=_count_images(units))


def _choose(units: Iterator[Unit], extension: int | str | None) -> Unit:
    primary = None
    for unit in _until_empty(units):
        primary = unit.header if primary is None else primary
        if isinstance(extension, str):
            wanted = str(unit.header.get("EXTNAME", "")).strip().upper() == extension.upper()
        else:
            wanted = unit.is_image if extension is None else unit.index == extension
        if wanted and unit.is_image:
            return unit if unit.index == 0 else replace(unit, header=inherited(unit.header, primary))
        if wanted:
            raise FrameFailed(Reason.NO_IMAGE, f"HDU {extension!r} holds no image; correct header.extension")
    which = "no HDU holds an image" if extension is None else f"there is no HDU {extension!r}"
    raise FrameFailed(
        Reason.NO_IMAGE, f"{which}; correct header.extension of the profile or leave the file out"
    )


def _until_empty(units: Iterator[Unit]) -> Iterator[Unit]:
    """Yield units; say of an image without pixels that it has none where no header follows it."""
    empty = None
    try:
        for unit in units:
            yield unit
            lengths = {
                f"NAXIS{axis + 1}": unit.header[f"NAXIS{axis + 1}"] for axis in range(unit.header["NAXIS"])
            }
            name = next((name for name, length in lengths.items() if length == 0), None)
            empty = (unit.index, name) if len(lengths) >= 2 and name is not None else None
    except FrameFailed:
        if empty is None:
            raise
    if empty is not None:
        raise FrameFailed(
            Reason.NO_IMAGE,
            f"the card {empty[1]} of HDU {empty[0]} holds 0, so it has no pixels; copy the file again",
        )


def _count_images(units: Iterator[Unit]) -> int:
    """Return how many images there are among the units that are left, up to one that cannot be read."""
    count = 0
    with contextlib.suppress(FrameFailed):
        for unit in units:
            count += unit.is_image
    return count


def _stored(data: bytes, unit: Unit) -> StoredImage:
    header = unit.header
    height, width = plane([header[f"NAXIS{i + 1}"] for i in range(header["NAXIS"])], unit.index)
    stored = np.frombuffer(data, DTYPES[header["BITPIX"]], height * width, unit.data_offset)
    blank = header.get("BLANK") if stored.dtype.kind in "iu" else None
    return StoredImage(
        stored.reshape(height, width),
        header,
        unit.index,
        scale=number(header, "BSCALE", 1.0),
        zero=number(header, "BZERO", 0.0),
        blank=blank if isinstance(blank, int) else None,
    )


def refuse_constant(image: StoredImage, saturation_adu: float | None) -> None:
    """Raise for an image all of whose raw pixels hold one value, in which a dark and a flat would draw a picture.

    One that is saturated everywhere was read out, and one without any valid number is reported where pixels are read.

    Parameters
    ----------
    image : StoredImage
    saturation_adu : float or None
        Level of saturation, ADU as in the file.

    Raises
    ------
    FrameRejected
        ``no_sources`` if the image is constant.
    """
    first = image.stored[0, 0]
    value = image.zero + image.scale * float(first)
    valid = abs(value) < BEYOND_MEASURE and first != image.blank
    if not valid or image.stored.size == 1 or (saturation_adu is not None and value >= saturation_adu):
        return
    # Hardly a frame goes beyond its first row.
    if (image.stored[0] == first).all() and (image.stored == first).all():
        raise FrameRejected(
            Reason.NO_SOURCES,
            f"all pixels of HDU {image.extension} hold the value {value:g}: the detector was not read out; leave the "
            "file out, or name another HDU in header.extension of the profile",
        )


def inherited(header: Any, primary: Any) -> Any:
    """Return the header of an extension with the cards that it inherits from the primary header.

    By the INHERIT convention (Hanisch et al. 2001, A&A 376, 359, appendix B) an extension that says ``INHERIT = T``
    has the cards of the primary header that it does not have itself. Many files do not say so and mean it: where the
    primary header has no image of its own, its cards can only be about those that follow.

    Parameters
    ----------
    header, primary : astropy.io.fits.Header
    """
    inherit = header.get("INHERIT")
    if inherit is False or (inherit is not True and primary.get("NAXIS", 0) != 0):
        return header
    further = [
        card for card in primary.cards if not _OWN_CARD.match(card.keyword) and card.keyword not in header
    ]
    if not further:
        return header
    whole = header.copy()
    whole.extend(further, unique=True)
    return whole
