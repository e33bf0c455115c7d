"""Read FITS: plain, gzip, bzip2 or tile-compressed; any BITPIX, BSCALE and BZERO.

Uncompressed pixels are handed on as they lie in the bytes of the file, to be converted where they are first
needed, in the same pass as the calibration, and so are integers of compressed tiles once they are unpacked.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skylake.core.frame import FileContent, RawImage, StoredImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed, FrameRejected, FrameUnavailable
from skylake.image.compressed import open_tiles
from skylake.image.inherit import inherited
from skylake.image.kernels.fused import BEYOND_MEASURE
from skylake.image.linear import decode
from skylake.image.units import DTYPES, Unit, number, plane, walk

_MAGIC = {b"\x1f\x8b": gzip, b"BZ": bz2}


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
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            raise FrameUnavailable(
                Reason.UNREADABLE,
                f"the file is a link to nowhere, {os.path.realpath(path)} is not there; mend or remove the link",
            ) from error
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
            return _choose(walk(stream), extension).header
    except (OSError, EOFError, ValueError, zlib.error, FrameFailed):
        return None


def peeked_size(header: Any) -> tuple[int, int]:
    """Return height and width of the image that a header is of, packed or not; 0 where it does not tell them."""
    width, height = (int(header.get(f"ZNAXIS{axis}", header.get(f"NAXIS{axis}", 0))) for axis in (1, 2))
    return height, width


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
    units = walk(io.BytesIO(content.data))
    unit = _choose(units, extension)
    if unit.data_offset + unit.data_bytes > len(content.data):
        missing = unit.data_offset + unit.data_bytes - len(content.data)
        raise FrameFailed(
            Reason.TRUNCATED, f"the last {missing} bytes of the image are missing; copy it again"
        )
    found = open_tiles(content.data, unit) if unit.tile_compressed else _stored(content.data, unit)
    return replace(found, n_further=_count_images(units))


def _choose(units: Iterator[Unit], extension: int | str | None) -> Unit:
    primary = None
    for unit in units:
        primary = unit.header if primary is None else primary
        if isinstance(extension, str):
            wanted = str(unit.header.get("EXTNAME", "")).strip().upper() == extension.upper()
        else:
            wanted = unit.is_image if extension is None else unit.index == extension
        if wanted and unit.is_image:
            return unit if unit.index == 0 else replace(unit, header=inherited(unit.header, primary))
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

    One that is saturated everywhere was read out, and one without any valid number is told where pixels are read.

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
