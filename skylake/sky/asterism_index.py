"""The index of a reference catalog for plate solving: one file beside the catalog, mapped into memory.

The file begins with a line that names the format, then has the length of a header in JSON (8 bytes, little endian),
the header, and the arrays, each at a multiple of 64 bytes. The header names the version of the format and the checksum
of the catalog; an index of another version, or of a catalog that was replaced, counts as none.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from skylake.core.asterisms import Band, Quads
from skylake.core.bands import mag_column
from skylake.core.sphere import FloatArray, unit_vectors
from skylake.core.zones import Zones
from skylake.errors import CatalogError, reason_of
from skylake.sky.asterism_build import FINEST_DENSITY, bands_of
from skylake.sky.catalogs import ReferenceCatalog
from skylake.sky.hats import leaf_files, read_pixels

_MAGIC = b"skylake asterisms\n"
_VERSION = 1
_ALIGNED = 64
#: Cells of this order, 0.23 degrees wide, of each of which the brightest stars are looked at.
_CELL_ORDER = 8
_CELL_SQUARE_DEGREES = 41252.96 / (12 * 4**_CELL_ORDER)
#: So many times more stars are looked at than the narrowest band takes.
_SPARE = 2.0


@dataclass(frozen=True, slots=True)
class AsterismIndex:
    """An index, ready to solve with.

    Attributes
    ----------
    bands : tuple of Band
        Narrowest first; mapped from the file.
    narrowest_deg, widest_deg : float
        Pictures that it was made for.
    magnitude : str
        Column that stars were ranked by.
    """

    bands: tuple[Band, ...]
    narrowest_deg: float
    widest_deg: float
    magnitude: str

    @property
    def n_stars(self) -> int:
        """Stars of the narrowest band, which has those of all others."""
        return len(self.bands[0].zones.ra)

    @property
    def n_asterisms(self) -> int:
        """Asterisms of all bands."""
        return sum(len(band.quads.sizes) for band in self.bands)


def index_path(catalog: ReferenceCatalog) -> Path:
    """Return the file of the index of a catalog."""
    return catalog.collection.with_name(f"{catalog.name}.asterisms")


def build_index(
    catalog: ReferenceCatalog, band: str | None = None, narrowest_deg: float = 0.5, widest_deg: float = 60.0
) -> AsterismIndex:
    """Build the index of a catalog and write it beside the catalog, in the place of an older one.

    Parameters
    ----------
    catalog : ReferenceCatalog
    band : str or None
        Band that stars are ranked by; the first of the catalog by default.
    narrowest_deg, widest_deg : float
        Widths of the pictures that are to be solved.

    Raises
    ------
    CatalogError
        If the catalog has no such magnitudes or too few stars, or the file cannot be written.
    """
    magnitude = _magnitude(catalog, band)
    try:
        vectors, magnitudes = _bright_stars(catalog, magnitude)
        if len(magnitudes) < 100:
            raise CatalogError(
                f"{catalog.name}: {len(magnitudes)} stars with magnitudes are too few to solve with; import a larger "
                "catalog"
            )
        bands = bands_of(vectors, magnitudes, widest_deg, narrowest_deg)
        _write(index_path(catalog), bands, catalog, (narrowest_deg, widest_deg, magnitude))
    except OSError as error:
        raise CatalogError(
            f"{index_path(catalog)}: the index cannot be written ({reason_of(error)})"
        ) from error
    return open_index(catalog)


def _magnitude(catalog: ReferenceCatalog, band: str | None) -> str:
    if not catalog.bands:
        raise CatalogError(f"the catalog {catalog.name} has no magnitudes; import it with --mag BAND=COLUMN")
    if band is not None and band not in catalog.bands:
        raise CatalogError(
            f"the catalog {catalog.name} has no band {band}; it has {', '.join(catalog.bands)}"
        )
    return mag_column(band or catalog.bands[0])


def _bright_stars(catalog: ReferenceCatalog, magnitude: str) -> tuple[FloatArray, FloatArray]:
    """Return the brightest stars of every cell of the sky, read file by file."""
    most = math.ceil(_SPARE * FINEST_DENSITY * _CELL_SQUARE_DEGREES)
    pieces = []
    for _, path in leaf_files(catalog.root, read_pixels(catalog.root)):
        for batch in pq.ParquetFile(path).iter_batches(
            columns=["_healpix_29", "ra_deg", "dec_deg", magnitude]
        ):
            index, ra, dec, mag = (
                np.asarray(batch.column(i).to_numpy(zero_copy_only=False)) for i in range(4)
            )
            mag = mag.astype(float)
            good = np.flatnonzero(np.isfinite(mag))
            cells = index[good] >> (2 * (29 - _CELL_ORDER))
            kept = good[_brightest(cells, mag[good], most)]
            pieces.append(
                np.column_stack([ra[kept], dec[kept], mag[kept], index[kept] >> (2 * (29 - _CELL_ORDER))])
            )
    if not pieces:
        return np.zeros((0, 3)), np.zeros(0)
    stars = np.concatenate(pieces)
    # A cell may lie in several batches.
    stars = stars[_brightest(stars[:, 3].astype(np.int64), stars[:, 2], most)]
    return unit_vectors(stars[:, 0], stars[:, 1]), stars[:, 2]


def _brightest(cells: npt.NDArray[np.int64], mag: FloatArray, most: int) -> npt.NDArray[np.intp]:
    """Return the places of the brightest stars of each cell."""
    order = np.lexsort((mag, cells))
    grouped = cells[order]
    first = np.flatnonzero(np.diff(grouped, prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    return order[rank < most]


def _arrays(band: Band) -> dict[str, npt.NDArray[Any]]:
    parts = {f"zones.{name}": value for name, value in band.zones._asdict().items()}
    parts |= {f"quads.{name}": value for name, value in band.quads._asdict().items()}
    return {name: value for name, value in parts.items() if isinstance(value, np.ndarray)}


def _write(
    path: Path, bands: list[Band], catalog: ReferenceCatalog, limits: tuple[float, float, str]
) -> None:
    tables, offset = [], 0
    for band in bands:
        places = {}
        for name, values in _arrays(band).items():
            places[name] = [values.dtype.str, list(values.shape), offset]
            offset += -(-values.nbytes // _ALIGNED) * _ALIGNED
        tables.append(
            {
                "density": band.density, "rank": band.rank, "reach": band.reach, "height": band.zones.height,
                "n_x": band.quads.n_x, "smallest": band.quads.smallest, "arrays": places,
            }
        )  # fmt: skip
    header = {
        "version": _VERSION,
        "checksum": catalog.checksum,
        "limits": limits,
        "bytes": offset,
        "bands": tables,
    }
    text = json.dumps(header).encode()
    # Spaces, so that the arrays begin at a multiple too.
    text += b" " * (-(len(_MAGIC) + 8 + len(text)) % _ALIGNED)
    partial = path.with_name(f".{path.name}.tmp")
    with partial.open("wb") as stream:
        stream.write(_MAGIC + len(text).to_bytes(8, "little") + text)
        for values in (one for band in bands for one in _arrays(band).values()):
            stream.write(np.ascontiguousarray(values).data)
            stream.write(b"\0" * (-values.nbytes % _ALIGNED))
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def open_index(catalog: ReferenceCatalog) -> AsterismIndex:
    """Open the index of a catalog.

    Raises
    ------
    CatalogError
        If there is none, or it is damaged, or of another catalog or version.
    """
    path = index_path(catalog)
    mend = f"run `skylake catalog index LAKE {catalog.name}`"
    try:
        with path.open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        header, start = _header(content)
        if header["version"] != _VERSION or header["checksum"] != catalog.checksum:
            raise CatalogError(f"{path}: the index is not of this catalog and this skylake; {mend}")
        if len(content) != start + header["bytes"]:
            raise ValueError("it is not whole")
        bands = tuple(_band(table, content, start) for table in header["bands"])
        narrowest, widest, magnitude = header["limits"]
    except FileNotFoundError as error:
        raise CatalogError(f"the catalog {catalog.name} has no index to solve with; {mend}") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CatalogError(f"{path}: the index is damaged ({error}); {mend}") from error
    return AsterismIndex(bands, narrowest, widest, magnitude)


def _header(content: mmap.mmap) -> tuple[dict[str, Any], int]:
    if content[: len(_MAGIC)] != _MAGIC:
        raise ValueError("it is no index of asterisms")
    begin = len(_MAGIC) + 8
    start = begin + int.from_bytes(content[len(_MAGIC) : begin], "little")
    return json.loads(content[begin:start]), start


def _band(table: dict[str, Any], content: mmap.mmap, start: int) -> Band:
    arrays = {
        name: np.frombuffer(content, dtype, math.prod(shape), start + offset).reshape(shape)
        for name, (dtype, shape, offset) in table["arrays"].items()
    }
    zones = Zones(
        arrays["zones.vectors"], arrays["zones.magnitudes"], arrays["zones.ra"], arrays["zones.starts"],
        table["height"],
    )  # fmt: skip
    quads = Quads(
        arrays["quads.stars"], arrays["quads.codes"], arrays["quads.sizes"], arrays["quads.starts"],
        table["n_x"], table["smallest"],
    )  # fmt: skip
    return Band(table["density"], table["rank"], table["reach"], zones, quads)


def ensure_index(catalog: ReferenceCatalog, tell: Callable[[str], None]) -> AsterismIndex:
    """Open the index of a catalog; where there is none that fits, build it, for what the last one was asked for."""
    try:
        return open_index(catalog)
    except CatalogError as error:
        tell(f"{error}; it is built now, which takes a minute or two")
    narrowest, widest, magnitude = _limits_before(index_path(catalog)) or (0.5, 60.0, "")
    band = magnitude.removeprefix("mag_")
    return build_index(catalog, band if band in catalog.bands else None, narrowest, widest)


def _limits_before(path: Path) -> tuple[float, float, str] | None:
    """Return the limits and the magnitude of an index that may be of another catalog, or damaged."""
    try:
        with path.open("rb") as stream:
            header, _ = _header(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        narrowest, widest, magnitude = header["limits"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return float(narrowest), float(widest), str(magnitude)
