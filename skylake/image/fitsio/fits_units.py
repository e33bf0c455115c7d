"""Header-data units of a FITS file: where they are, and their headers."""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from skylake.cameras.header_values import values_of
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed

#: Numbers of an image by its BITPIX.
DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_BLOCK, _CARD = 2880, 80
_MAX_HEADER_BLOCKS = 2000
#: Headers hold printable ASCII; what else is found there is a blank or a question mark.
_PRINTABLE = bytes(code if 32 <= code < 127 else 63 if code > 127 else 32 for code in range(256))
#: No disk holds a unit of so many bytes.
_MAX_UNIT_BYTES = 1 << 50
#: Most pixels of an image: those of a scanned photographic plate.
_MAX_PIXELS = 1 << 29
#: Most bytes of a file, unpacked.
MAX_BYTES = 1 << 32
#: Files that unpack to no more than this many bytes are harmless.
SMALL_BYTES = 1 << 26
#: Larger images are not packed by more than this factor: noise is not, and constants by 130 with Rice.
MAX_PACKING = 200
#: With a smaller scale all pixels are alike, and with a larger one they are no numbers of single precision.
_MIN_SCALE, _MAX_SCALE = 1e-30, 1e30
#: What follows the keyword of a card that holds a text.
_TEXT = re.compile(rb"=?\s*'(?:[^']|'')*'\s*(?:/.*)?\Z")
#: Astropy takes such keywords for patterns; the standard has none.
_PATTERN = re.compile(r"[?*]|\.\.\.\Z")
#: Cards without which pixels would be read wrongly.
_VITAL = re.compile(r"(SIMPLE|XTENSION|EXTNAME|Z?(BITPIX|NAXIS\d*|BSCALE|BZERO|BLANK|IMAGE)|[PG]COUNT)\Z")


class Stream(Protocol):
    """What units are read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, fewer at the end."""

    def seek(self, offset: int, whence: int, /) -> object:
        """Go to another place."""


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


def walk(stream: Stream) -> Iterator[Unit]:
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


def _header_text(stream: Stream, first: bool) -> bytes | None:
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
        header = readable(fits.Header.fromstring(_continued(text.translate(_PRINTABLE)).decode("ascii")))
        _refuse_repeated(header)
        try:
            n_axes = header["NAXIS"]
            if type(n_axes) is not int or n_axes < 0:
                raise ValueError(f"NAXIS = {n_axes!r} is no number of axes")
            axes = [header[f"NAXIS{i + 1}"] for i in range(n_axes)]
            whole = [header["BITPIX"], *axes, header.get("PCOUNT", 0), header.get("GCOUNT", 1)]
        except (KeyError, TypeError, ValueError, fits.VerifyError) as error:
            raise FrameFailed(
                Reason.CORRUPT, f"the header is damaged ({error}); copy the file again"
            ) from error
    if (
        not all(type(value) is int for value in whole)
        or whole[0] not in DTYPES
        or min(whole[1:]) < 0
        or _data_bytes(header) > _MAX_UNIT_BYTES
    ):
        raise FrameFailed(Reason.CORRUPT, "BITPIX or NAXIS make no sense; copy the file again")
    return header


def _refuse_repeated(header: Any) -> None:
    """Raise for a card by which pixels are read that stands twice with different values."""
    for name, count in Counter(header.keys()).items():
        if count > 1 and _VITAL.match(name) and len(values := values_of(header, name)) > 1:
            raise FrameFailed(
                Reason.AMBIGUOUS_HEADER,
                f"the card {name} stands in the header more than once, as {' and '.join(map(str, values))}; delete "
                "the wrong one",
            )


def _continued(text: bytes) -> bytes:
    """Return a header in which CONTINUE follows texts only; what else it stands for astropy cannot read."""
    if b"CONTINUE" not in text:
        return text
    cards, is_text = [text[start : start + _CARD] for start in range(0, len(text), _CARD)], False
    for number, card in enumerate(cards):
        has_text = _TEXT.match(card, 8) is not None
        if not card.startswith(b"CONTINUE"):
            is_text = has_text
        elif not (is_text and has_text):
            cards[number] = b"COMMENT " + card[8:]
    return b"".join(cards)


def readable(header: Any) -> Any:
    """Return a header with every value readable: what breaks the standard, such as text without quotes, is text.

    Cards with keywords that cannot be asked for are left out.

    Raises
    ------
    FrameFailed
        ``corrupt`` if such a card says how pixels are stored.
    """
    from astropy.io import fits

    for number, card in reversed(list(enumerate(header.cards))):
        if _PATTERN.search(card.keyword):
            del header[number]
            continue
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


def plane(axes: list[int], index: int) -> tuple[int, int]:
    """Return height and width of the image in an HDU, whose further axes must have length one."""
    if len(axes) > 2 and math.prod(axes[2:]) != 1:
        shape = " x ".join(str(axis) for axis in axes)
        cards = ", ".join(f"NAXIS{number} = {axis}" for number, axis in enumerate(axes[2:], 3) if axis != 1)
        raise FrameFailed(
            Reason.NO_IMAGE,
            f"the image in HDU {index} is a cube of {shape} ({cards}); only single planes are read: write them to "
            "files of their own, or name an HDU with a plane in header.extension of the profile",
        )
    if axes[0] * axes[1] > _MAX_PIXELS:
        raise FrameFailed(
            Reason.NO_IMAGE,
            f"the image in HDU {index} has {axes[0]} x {axes[1]} pixels, and at most {_MAX_PIXELS} are read: cut it "
            "into smaller ones, or name another HDU in header.extension of the profile",
        )
    return axes[1], axes[0]


def refuse_inflated(n_unpacked: int, n_packed: int, packing: int = MAX_PACKING) -> None:
    """Raise for what would fill the memory once it is unpacked.

    Parameters
    ----------
    n_unpacked : int
        Bytes that the headers imply.
    n_packed : int
        Bytes that there are.
    packing : int
        How many times more the first may be than the second, beyond :data:`SMALL_BYTES`.

    Raises
    ------
    FrameFailed
        ``corrupt``.
    """
    if n_unpacked > MAX_BYTES:
        raise FrameFailed(
            Reason.CORRUPT,
            f"the headers imply {n_unpacked} bytes unpacked, and at most {MAX_BYTES} are read; cut the image into "
            "smaller ones or leave the file out",
        )
    if n_unpacked > max(SMALL_BYTES, packing * n_packed):
        raise FrameFailed(
            Reason.CORRUPT,
            f"the headers imply {n_unpacked} bytes unpacked from {n_packed}, which no image of the sky gives; copy "
            "the file again or leave it out",
        )


def number(header: Any, name: str, default: float) -> float:
    """Return the number of a card by which pixels are scaled; what stands there in its place fails the frame."""
    value = header.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not abs(number) < _MAX_SCALE:
        what = "beyond all measure" if math.isfinite(number) else "no number"
        raise FrameFailed(
            Reason.CORRUPT, f"the card {name} holds {value!r}, {what}; correct it or copy the file again"
        )
    if abs(number) < _MIN_SCALE and default != 0.0:
        raise FrameFailed(
            Reason.CORRUPT,
            f"the card {name} holds {number:g}, which makes all pixels alike; correct it or copy the file again",
        )
    return number
