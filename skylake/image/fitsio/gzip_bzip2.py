"""Decompression of gzip and bzip2 files within bounds.

A few bytes can unpack to more than any memory holds, so no more is unpacked than the headers of a file imply.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from typing import IO

from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.image.fitsio.fits_units import SMALL_BYTES, Unit, refuse_inflated, walk

#: Modules by the first bytes of what they pack.
MAGIC = {b"\x1f\x8b": gzip, b"BZ": bz2}
#: What these raise for damaged bytes.
DAMAGE = (OSError, EOFError, ValueError, zlib.error)
#: Bytes that are read, and bytes that are unpacked, at a time.
_READ, _UNPACKED = 1 << 20, 1 << 22


def unpack(stream: IO[bytes], n_bytes: int) -> bytes:
    """Return what a packed file holds.

    Parameters
    ----------
    stream : file
        Open at its start.
    n_bytes : int
        Its size.

    Raises
    ------
    FrameFailed
        ``corrupt`` if the file unpacks to more than its headers imply, or than a frame can hold.
    OSError, EOFError, ValueError, zlib.error
        If the file is damaged.
    """
    pieces = gunzipped(stream) if stream.read(2) == b"\x1f\x8b" else _bunzipped(stream)
    stream.seek(0)
    held, length = [], 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        # To ask the headers of small files would take longer than to unpack what may follow their last unit.
        if length > SMALL_BYTES:
            return _large(_Unpacked(bytearray().join(held), pieces), n_bytes)
    return b"".join(held)


def _large(content: _Unpacked, n_bytes: int) -> bytes:
    """Return the whole of a file of which the beginning is unpacked."""
    units, end = walk(content), 0
    while True:
        try:
            unit = next(units)
        except (StopIteration, FrameFailed):
            break  # A bad header is reported when the image is looked for.
        end = unit.data_offset + unit.data_bytes
        refuse_inflated(end, n_bytes)
    if content.reach(end + SMALL_BYTES):
        raise FrameFailed(
            Reason.CORRUPT,
            f"the file unpacks to more than the {end} bytes that its headers imply; copy it again or leave it out",
        )
    return bytes(content.data)


def not_inflated(units: Iterator[Unit], n_bytes: int) -> Iterator[Unit]:
    """Yield the units of a packed file of so many bytes, and raise before one that cannot be in it is skipped over.

    Raises
    ------
    FrameFailed
        ``corrupt``; see :func:`skylake.image.fitsio.fits_units.refuse_inflated`.
    """
    for unit in units:
        refuse_inflated(unit.data_offset + unit.data_bytes, n_bytes)
        yield unit


class _Unpacked:
    """A stream of pieces of bytes, which keeps what was read or passed over."""

    def __init__(self, data: bytearray, pieces: Iterator[bytes]) -> None:
        self.data, self._pieces, self._place = data, pieces, 0

    def reach(self, end: int) -> bool:
        """Unpack up to a place; return whether there are bytes beyond it."""
        while len(self.data) <= end:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self.data += piece
        return True

    def read(self, size: int) -> bytes:
        self.reach(self._place + size)
        data = bytes(self.data[self._place : self._place + size])
        self._place += len(data)
        return data

    def seek(self, offset: int, _whence: int) -> None:
        self._place += offset


def gunzipped(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what the members of a gzip file hold; zeros may follow each."""
    rest = stream.read(_READ)
    while rest:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            block = member.decompress(rest, _UNPACKED)
            yield block
            rest = member.unconsumed_tail
            if not rest and len(block) < _UNPACKED and not member.eof:
                rest = _more(stream)
        rest = member.unused_data.lstrip(b"\0")
        while not rest and (piece := stream.read(_READ)):
            rest = piece.lstrip(b"\0")


def _bunzipped(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what the streams of a bzip2 file hold; anything else may follow them."""
    rest, is_first = stream.read(_READ), True
    while rest:
        member = bz2.BZ2Decompressor()
        while not member.eof:
            try:
                block = member.decompress(rest, _UNPACKED)
            except OSError:
                if is_first:
                    raise
                return
            yield block
            rest = _more(stream) if member.needs_input and not member.eof else b""
        rest, is_first = member.unused_data or stream.read(_READ), False


def _more(stream: IO[bytes]) -> bytes:
    piece = stream.read(_READ)
    if not piece:
        raise EOFError("the file ends too early")
    return piece
