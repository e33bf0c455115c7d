"""FITS files of masters: compressed without loss, the same bytes for the same content."""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.frame import MaskPlane, Pixels
from skylake.core.reasons import Reason
from skylake.core.response_settings import Gradient
from skylake.durable import replacing
from skylake.errors import FrameFailed, FrameUnavailable, LakeError, reason_of
from skylake.image.fitsio.fits_units import walk
from skylake.image.fitsio.memory_maps import mapped
from skylake.image.fitsio.tile_compression import refuse_absurd
from skylake.image.masters.master_library import Master
from skylake.inside import inside

Floats = npt.NDArray[np.float64]

#: Masters that a worker keeps in memory: one night of a camera with some filters.
_KEPT = 6
#: Bytes of the head of a gzip stream, of which the fifth to eighth give a time.
_GZIP_HEAD = 10
#: Cards of what a flat has of a gradient by chance.
_GRADIENT = "GRADXX", "GRADXY", "GRADYY"


@dataclass(frozen=True, slots=True)
class MasterFrame:
    """The content of a master.

    Attributes
    ----------
    kind : str
    pixels, error : ndarray of float32 or None
        ADU, or response for a flat; NaN where the master has no value. A flat comes as 1/flat. None for a mask.
    mask : ndarray of uint8 or None
        Bits of :class:`~skylake.core.flags.PixelFlag` for a mask.
    offset : tuple of int
        Raw pixel (x, y) of the first pixel.
    exposure_s : float or None
    name : str
        Name in the library; empty for one that is in none.
    used : tuple of str
        Names of the masters that its frames were reduced with, whose errors are part of its own.
    n_frames : int
        Frames behind it; 0 if unknown.
    gradient : Gradient or None
        Random gradient of a flat; None if its file does not state it.
    tables : mapping
        The curves of a photon transfer: name to columns, of float64.
    """

    kind: str
    pixels: Pixels | None
    error: Pixels | None
    mask: MaskPlane | None
    offset: tuple[int, int]
    exposure_s: float | None = None
    name: str = ""
    used: tuple[str, ...] = ()
    n_frames: int = 0
    gradient: Gradient | None = None
    tables: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        plane = self.pixels if self.pixels is not None else self.mask
        assert plane is not None
        return plane.shape[0], plane.shape[1]


def write_master(
    path: Path,
    cards: Mapping[str, Any],
    pixels: Pixels | None = None,
    error: Pixels | None = None,
    mask: MaskPlane | None = None,
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    bad: MaskPlane | None = None,
) -> str:
    """Write a master and return the SHA-256 of the file.

    Parameters
    ----------
    path : Path
    cards : mapping
        Header cards: values, or pairs of value and comment. KIND, OFFSETX, OFFSETY, EXPTIME, NFRAMES and those of
        :func:`gradient_cards` are read again.
    pixels, error, mask
        As in :class:`MasterFrame`, a flat as such.
    tables : mapping or None
        Further tables, such as the curve of a photon transfer: name to columns.
    bad : ndarray of uint8 or None
        Bits of the pixels that the frames behind it show to be bad; :func:`load_bad` reads them.
    """
    from astropy.io import fits

    primary = fits.PrimaryHDU()
    for name, value in cards.items():
        if value is not None and (not isinstance(value, tuple) or value[0] is not None):
            primary.header[name] = value
    units: list[Any] = [primary]
    for name, plane in (("MASTER", pixels), ("ERROR", error)):
        if plane is not None:
            # Without quantisation floats come back bit for bit.
            units.append(fits.CompImageHDU(plane, name=name, compression_type="GZIP_2", quantize_level=0.0))
    for name, bits in (("MASK", mask), ("BAD", bad)):
        if bits is not None:
            units.append(fits.CompImageHDU(bits, name=name, compression_type="GZIP_1"))
    for name, columns in (tables or {}).items():
        made = [fits.Column(key, _format(values), array=values) for key, values in columns.items()]
        units.append(fits.BinTableHDU.from_columns(made, name=name))
    buffer = io.BytesIO()
    fits.HDUList(units).writeto(buffer)
    data = _without_times(buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as stream:
        stream.write(data)
    return hashlib.sha256(data).hexdigest()


def gradient_cards(gradient: Gradient) -> dict[str, Any]:
    """Return the cards that give what a flat has of a gradient by chance."""
    return {
        card: (getattr(gradient, card[-2:].lower()), f"(co)variance of chance gradient, {card[-2:].lower()}")
        for card in _GRADIENT
    }


def _without_times(buffer: io.BytesIO) -> bytes:
    """Return a FITS file without the time in the head of each compressed tile, which is that of the writing."""
    from astropy.io import fits

    data = bytearray(buffer.getvalue())
    with fits.open(io.BytesIO(buffer.getvalue()), disable_image_compression=True) as units:
        for unit in units:
            header = unit.header
            if not header.get("ZIMAGE", False):
                continue
            start, row, n_rows = unit.fileinfo()["datLoc"], header["NAXIS1"], header["NAXIS2"]
            kind, offset = unit.columns.dtype.fields["COMPRESSED_DATA"][:2]
            table = np.frombuffer(data, np.uint8, row * n_rows, start).reshape(n_rows, row)
            tiles = np.ascontiguousarray(table[:, offset : offset + kind.itemsize]).view(
                kind.base.newbyteorder(">")
            )
            heap = start + header.get("THEAP", row * n_rows)
            for length, place in tiles.reshape(n_rows, 2).tolist():
                if length >= _GZIP_HEAD and data[heap + place : heap + place + 2] == b"\x1f\x8b":
                    data[heap + place + 4 : heap + place + 8] = bytes(4)
    return bytes(data)


def _format(values: Any) -> str:
    return {"f": "D", "i": "K", "u": "K", "b": "L"}[np.asarray(values).dtype.kind]


def load_master(root: Path, master: Master) -> MasterFrame:
    """Return the content of a master of the library; some are kept in memory.

    Raises
    ------
    FrameUnavailable
        If the file cannot be read at the moment.
    FrameFailed
        ``bad_master`` if it is not what the library says.
    """
    return replace(_load(_path_of(root, master), master.sha256), name=master.name)


def load_bad(root: Path, master: Master) -> MaskPlane | None:
    """Return the bits of the pixels that the frames of a master show to be bad, height x width; None if it keeps none.

    Raises as :func:`load_master` does.
    """
    from astropy.io import fits

    path = _path_of(root, master)
    with _opened(path), fits.open(io.BytesIO(_bytes_of(path, master.sha256)), memmap=False) as units:
        bad: MaskPlane | None = _read_plane(units, "BAD", np.uint8)
    return bad


def _path_of(root: Path, master: Master) -> str:
    """Return the path of the file of a master, whose name comes from a table."""
    try:
        return str(inside(root, master.file, "the table masters"))
    except LakeError as error:
        raise FrameFailed(Reason.BAD_MASTER, str(error)) from error


@lru_cache(maxsize=_KEPT)
def _load(path: str, sha256: str) -> MasterFrame:
    return read_master(_bytes_of(path, sha256), path)


def _bytes_of(path: str, sha256: str) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FrameUnavailable(
            Reason.BAD_MASTER,
            f"{path}: the master cannot be read ({reason_of(error)}); restore it or build it anew",
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise FrameFailed(
            Reason.BAD_MASTER,
            f"{path}: the master is not as it was written; build it anew with `skylake calib build`",
        )
    return data


@contextmanager
def _opened(path: str) -> Iterator[None]:
    """Raise an error that says what to do about a file that cannot be read as a master."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, re.error, zlib.error, FrameFailed) as error:
        why = " ".join(str(error).split())
        raise FrameFailed(
            Reason.BAD_MASTER,
            f"{path}: the master is damaged ({why}); build it anew with `skylake calib build`",
        ) from error


def read_master(data: bytes, path: str) -> MasterFrame:
    """Return the content of a master's file.

    Raises
    ------
    FrameFailed
        ``bad_master`` if it is none.
    """
    from astropy.io import fits

    with _opened(path):
        for unit in walk(io.BytesIO(data)):
            if unit.tile_compressed:
                refuse_absurd(data, unit)
    with _opened(path), fits.open(io.BytesIO(data), memmap=False) as units:
        header = units[0].header
        kind, exposure = str(header["KIND"]), header.get("EXPTIME")
        pixels = _read_plane(units, "MASTER", np.float32, inverse=kind == "flat")
        spread = _read_plane(units, "ERROR", np.float32)
        mask = _read_plane(units, "MASK", np.uint8)
        used = tuple(str(header[card]) for card in sorted(header) if card.startswith("MASTER"))
        offset = int(header.get("OFFSETX", 0)), int(header.get("OFFSETY", 0))
        n_frames = int(header.get("NFRAMES") or 0)
        has_gradient = all(card in header for card in _GRADIENT)
        gradient = Gradient(*(float(header[card]) for card in _GRADIENT)) if has_gradient else None
        tables = _read_tables(units)
    return MasterFrame(
        kind,
        pixels,
        spread,
        mask,
        offset,
        None if exposure is None else float(exposure),
        used=used,
        n_frames=n_frames,
        gradient=gradient,
        tables=tables,
    )


def _read_plane(units: Any, name: str, kind: Any, inverse: bool = False) -> Any:
    """Return a plane, or one over it; None if there is none. No two planes are in memory at a time."""
    if name not in units:
        return None
    plane = np.ascontiguousarray(units[name].data, kind)
    del units[name].data
    return mapped(_inverse(plane) if inverse else plane)


def _read_tables(units: Any) -> dict[str, dict[str, Floats]]:
    from astropy.io import fits

    return {
        str(unit.name): {name: np.array(unit.data[name], np.float64) for name in unit.columns.names}
        for unit in units[1:]
        # A compressed image is a table too, but not one that was asked for.
        if type(unit) is fits.BinTableHDU
    }


def _inverse(flat: Pixels) -> Pixels:
    """Return one over a flat; NaN where it is not positive."""
    inverse = np.full(flat.shape, np.nan, np.float32)
    np.divide(np.float32(1.0), flat, out=inverse, where=flat > 0.0)
    return inverse
