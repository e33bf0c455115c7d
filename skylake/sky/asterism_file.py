"""The file of an index of asterisms, mapped into memory.

It begins with a line that names the format, then has the length of a header in JSON (8 bytes, little endian), the
header, and the arrays, each at a multiple of 64 bytes. The header has the checksum of all arrays, and its own.

To read all arrays for their checksum would take each process longer than to solve a frame, so it is done once for
each copy of the file: a note beside it says which one was found whole, by its number on the disk, size and time.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from skylake import logs
from skylake.core.asterism_codes import AsterismBand, Quads
from skylake.core.declination_zones import Zones
from skylake.durable import opened, replace_text, replacing, text_of

_log = logs.get(__name__)

#: Of the format. Files of version 1 have no checksums, and bands of 64 stars per square degree at most.
VERSION = 2
_MAGIC = b"skylake asterisms\n"
_ALIGNED = 64


class Content(NamedTuple):
    """What an index is of: the checksum of its catalog, limits of widths in degrees, the column that ranks stars."""

    checksum: str
    narrowest_deg: float
    widest_deg: float
    magnitude: str


def write_bands(path: Path, bands: Sequence[AsterismBand], content: Content) -> None:
    """Write an index, whole or not at all."""
    tables, offset, arrays = [], 0, []
    for band in bands:
        places = {}
        for name, values in _arrays(band).items():
            places[name] = [values.dtype.str, list(values.shape), offset]
            offset += -(-values.nbytes // _ALIGNED) * _ALIGNED
            arrays.append(np.ascontiguousarray(values))
        tables.append(
            {
                "density": band.density,
                "rank": band.rank,
                "reach": band.reach,
                "height": band.zones.height,
                "n_x": band.quads.n_x,
                "smallest": band.quads.smallest,
                "arrays": places,
            }
        )
    crc = 0
    for values in arrays:
        crc = zlib.crc32(_padding(values), zlib.crc32(_bytes(values), crc))
    limits = [content.narrowest_deg, content.widest_deg, content.magnitude]
    header = {
        "version": VERSION,
        "checksum": content.checksum,
        "limits": limits,
        "bytes": offset,
        "crc": crc,
        "bands": tables,
    }
    text = json.dumps(header | {"own": _own(header)}).encode()
    # Spaces, so that the arrays begin at a multiple too.
    text += b" " * (-(len(_MAGIC) + 8 + len(text)) % _ALIGNED)
    with replacing(path) as stream:
        stream.write(_MAGIC + len(text).to_bytes(8, "little") + text)
        for values in arrays:
            stream.write(_bytes(values))
            stream.write(_padding(values))
    _note(path, _state(path.stat(), crc))


def _arrays(band: AsterismBand) -> dict[str, npt.NDArray[Any]]:
    parts = {f"zones.{name}": value for name, value in band.zones._asdict().items()}
    parts |= {f"quads.{name}": value for name, value in band.quads._asdict().items()}
    return {name: value for name, value in parts.items() if isinstance(value, np.ndarray)}


def _bytes(values: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of an array; a view without elements cannot be cast."""
    return memoryview(values.reshape(-1).view(np.uint8).data)


def _padding(values: npt.NDArray[Any]) -> bytes:
    return b"\0" * (-values.nbytes % _ALIGNED)


def _own(header: dict[str, Any]) -> int:
    """Return the checksum of a header."""
    return zlib.crc32(json.dumps(header).encode())


def read_bands(path: Path) -> tuple[list[AsterismBand], Content, int]:
    """Map an index into memory; return its bands, what it is of, and the version of its format.

    There are no bands where the version is not :data:`VERSION`.

    Raises
    ------
    OSError
        If it is not there, or cannot be read.
    ValueError, LookupError, TypeError
        If it is damaged.
    """
    with opened(path) as stream:
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        status = os.fstat(stream.fileno())
    header, start = _header(content)
    recorded = Content(header["checksum"], *header["limits"])
    if header["version"] != VERSION:
        return [], recorded, header["version"]
    own = header.pop("own")
    if _own(header) != own:
        raise ValueError("its header has changed")
    if len(content) != start + header["bytes"]:
        raise ValueError("it is not whole")
    state = _state(status, header["crc"])
    if _noted(path) != state:
        if zlib.crc32(memoryview(content)[start:]) != header["crc"]:
            raise ValueError("its content has changed")
        _note(path, state)
    return [_band(table, content, start) for table in header["bands"]], recorded, VERSION


def damage_of(path: Path) -> str | None:
    """Return what is wrong with an index, read whole whatever was noted of it; None if nothing is."""
    try:
        with opened(path) as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        header, start = _header(content)
        own = header.pop("own", None)
        if header["version"] == VERSION and _own(header) != own:
            return "its header has changed"
        if header["version"] == VERSION and zlib.crc32(memoryview(content)[start:]) != header["crc"]:
            return "its content has changed"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"it cannot be read ({error})"
    return None


def read_limits(path: Path) -> Content | None:
    """Return what an index is of that may be of another version, or damaged; None where it does not say."""
    try:
        with opened(path) as stream:
            header, _ = _header(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        narrowest, widest, magnitude = header["limits"]
        content = Content(str(header["checksum"]), float(narrowest), float(widest), str(magnitude))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return content if 0.0 < content.narrowest_deg < content.widest_deg <= 180.0 else None


def _header(content: mmap.mmap) -> tuple[dict[str, Any], int]:
    if content[: len(_MAGIC)] != _MAGIC:
        raise ValueError("it is no index of asterisms")
    begin = len(_MAGIC) + 8
    start = begin + int.from_bytes(content[len(_MAGIC) : begin], "little")
    return json.loads(content[begin:start]), start


def _band(table: dict[str, Any], content: mmap.mmap, start: int) -> AsterismBand:
    arrays = {
        name: np.frombuffer(content, dtype, math.prod(shape), start + offset).reshape(shape)
        for name, (dtype, shape, offset) in table["arrays"].items()
    }
    zones = Zones(
        arrays["zones.vectors"],
        arrays["zones.magnitudes"],
        arrays["zones.ra"],
        arrays["zones.starts"],
        table["height"],
    )
    quads = Quads(
        arrays["quads.stars"],
        arrays["quads.codes"],
        arrays["quads.sizes"],
        arrays["quads.starts"],
        table["n_x"],
        table["smallest"],
    )
    return AsterismBand(table["density"], table["rank"], table["reach"], zones, quads)


def _note_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.whole")


def _state(status: os.stat_result, crc: int) -> str:
    """Return what distinguishes a file from its copies, and from itself after a change."""
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {crc}\n"


def _noted(path: Path) -> str | None:
    """Return which copy of a file was found whole; None if none was."""
    try:
        return text_of(_note_path(path))
    except (OSError, ValueError):
        return None


def _note(path: Path, state: str) -> None:
    """Note which copy of a file was found whole."""
    note = _note_path(path)
    try:
        replace_text(note, state)
    except OSError as error:
        # Who may only read the lake reads the index whole each time.
        _log.debug("%s: the note cannot be written (%s)", note, error.strerror)
