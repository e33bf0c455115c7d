"""Tycho-2 from Debian: the star catalog inside the index files of astrometry.net.

The package ``astrometry-data-tycho2-07-littleendian`` (88 MB to fetch, 141 MB installed, BSD licence) holds
``index-tycho2-07.littleendian.fits``, made for plate solving. Besides the patterns of the solver it holds, in
FITS tables named after their one column, the stars that they are made of:

``kdtree_header_stars``
    No rows; its header says how the tree is stored (``KDT_NDAT`` stars in ``KDT_NDIM`` = 3 dimensions,
    ``KDT_DATA`` = u32, and ``ENDIAN``, the byte order of all ``kdtree`` tables).
``kdtree_range_stars``
    Seven float64: the lowest and the highest vector, and the number of integer steps per unit.
``kdtree_data_stars``
    Unit vectors, ICRS, three unsigned integers a star: vector = lowest + integers / steps.
``MAG_VT``
    The V_T magnitude in the same order, float32. Nothing else comes along: no identifier, B_T, proper motion
    or error.

What to know of these stars, from the headers and from a comparison with 981,853 stars to V = 11 whose places
are rounded to 0.36 arcsec:

- The steps are 0.1 mas, so packing costs 0.05 mas in each coordinate, a thousandth of the 60 mas of Tycho-2
  itself. The median separation is 0.15 arcsec, which is the rounding of the other catalog.
- The epoch is 2000.0 for most. Stars of the supplements, and those without a mean position, stand where they
  were seen about 1991.3: of the stars faster than 150 mas/yr 3% with V from 6 to 10, 28% from 10 to 11.
  Nothing marks them; nine years of 150 mas/yr are 1.3 arcsec.
- It is not all of Tycho-2 (2.54 million stars). Of each pixel of 22.5 arcmin the ten brightest are kept: of
  the stars with V < 10, 99.5% are there, with V < 11 97%, in the densest fields 53%. Of two stars within
  1 arcsec one is kept. Bright stars are missing as well: 43% with V from 2 to 3, 27% from 3 to 4, 10% from 4
  to 5, and none has V_T below 0.137.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import ra_dec
from skylake.errors import CatalogError
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.catalog_files import catalog_errors, open_fits
from skylake.sky.catalog_limits import quiet
from skylake.sky.catalog_rows import standardise
from skylake.sky.catalog_values import IntArray, mixed_id

#: Where Debian installs the index files.
FOLDER = Path("/usr/share/astrometry")
PACKAGE = "astrometry-data-tycho2-07-littleendian"
#: Julian year of the positions.
EPOCH = 2000.0

_BANDS = {"MAG_VT": "VT", "MAG_BT": "BT"}
_BYTE_ORDERS = {"04:03:02:01": "<", "01:02:03:04": ">"}
_TYPES = {"u16": "u2", "u32": "u4", "float": "f4", "double": "f8"}
_Unpack = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]
_ADVICE = f"install the package with: apt-get install {PACKAGE}"


@dataclass(frozen=True, slots=True)
class _Index:
    """An index file: how many stars, of which scale (rad) and part of the sky, with which magnitudes."""

    path: Path
    n_stars: int
    scale: float
    tile: tuple[int, int]
    magnitudes: tuple[str, ...]


def is_index(path: Path) -> bool:
    """Return whether a path is an index file of astrometry.net with stars, or a folder that has such files.

    Raises
    ------
    CatalogError
        If a FITS file is damaged.
    """
    if path.is_dir():
        return next(path.glob("index-*.fits"), None) is not None
    with catalog_errors(path, "readable"), path.open("rb") as file:
        is_fits = file.read(9) == b"SIMPLE  ="
    return is_fits and _inspect(path) is not None


def tycho2_columns(path: str | Path = FOLDER) -> CatalogColumns:
    """Return the columns of the catalog that :func:`read_tycho2` makes: its bands, epoch and schema.

    Raises
    ------
    CatalogError
        If the file or folder holds no index with Tycho-2 magnitudes.
    """
    return _columns(_chosen(Path(path)))


def read_tycho2(path: str | Path = FOLDER, batch_rows: int = 500_000) -> Iterator[pa.Table]:
    """Yield the Tycho-2 stars of index files of astrometry.net.

    Parameters
    ----------
    path : path
        An index file, or a folder of them. Of a folder the scale with most stars is read, the finest where
        scales hold equally many; where it is divided into tiles, stars of several tiles are counted once.
    batch_rows : int
        Most rows in a batch; memory is bounded by it.

    Yields
    ------
    pyarrow.Table
        Conformed to the schema of :func:`tycho2_columns`, band VT (and BT where the file has ``MAG_BT``).
        Errors, proper motions and names are null; the epoch is 2000, but see the module. ``ref_id`` is
        :func:`skylake.sky.catalog_values.mixed_id` of the three packed integers: the same on every machine
        and in every file that has the star.

    Raises
    ------
    CatalogError
        If there is no index with Tycho-2 magnitudes, naming the package to install, or a file is damaged.
    """
    indexes = _chosen(Path(path))
    columns = _columns(indexes)
    seen: IntArray = np.zeros(0, np.int64)
    for index in indexes:
        with catalog_errors(index.path, "astrometry.net"):
            for stars in _read_index(index.path, tuple(columns.magnitudes.values()), batch_rows):
                if len(indexes) > 1:
                    ids = stars["id"].to_numpy()
                    new = ~np.isin(ids, seen)
                    seen, stars = np.concatenate([seen, ids[new]]), stars.filter(pa.array(new))
                yield standardise(stars, columns, source=str(index.path))[0]


def _columns(indexes: list[_Index]) -> CatalogColumns:
    names = [name for name in _BANDS if all(name in index.magnitudes for index in indexes)]
    magnitudes = {_BANDS[name]: name for name in names}
    return CatalogColumns(ra="ra", dec="dec", id="id", epoch=EPOCH, magnitudes=magnitudes)


def _chosen(path: Path) -> list[_Index]:
    """Return the index files to read, one for each tile of the sky."""
    if path.is_file():
        index = _inspect(path)
        if index is None:
            raise CatalogError(f"{path}: the file is no index of Tycho-2 stars with MAG_VT; {_ADVICE}")
        return [index]
    indexes = [index for index in map(_inspect, sorted(path.glob("index-*.fits"))) if index is not None]
    if not indexes:
        raise CatalogError(f"{path}: there is no index of Tycho-2 stars; {_ADVICE}")
    scales: dict[float, dict[tuple[int, int], _Index]] = {}
    for index in indexes:
        # Both byte orders of a tile may be installed.
        scales.setdefault(index.scale, {}).setdefault(index.tile, index)
    best = max(scales, key=lambda scale: (sum(index.n_stars for index in scales[scale].values()), -scale))
    return list(scales[best].values())


def _tables(hdus: Any) -> dict[str, Any]:
    """Return the tables of an index file, by the name of their first column."""
    return {hdu.header["TTYPE1"]: hdu for hdu in hdus if "TTYPE1" in hdu.header}


def _inspect(path: Path) -> _Index | None:
    """Return what an index file holds, or None if it is not one of Tycho-2."""
    with catalog_errors(path, "astrometry.net"), quiet(), open_fits(path) as hdus:
        tables, header = _tables(hdus), hdus[0].header
        if not {"kdtree_header_stars", "kdtree_data_stars", "MAG_VT"} <= set(tables):
            return None
        return _Index(
            path=path,
            n_stars=int(tables["kdtree_data_stars"].header["NAXIS2"]),
            scale=float(header.get("SCALE_L", 0.0)),
            tile=(int(header.get("HPNSIDE", 0)), int(header.get("HEALPIX", -1))),
            magnitudes=tuple(name for name in _BANDS if name in tables),
        )


def _read_index(path: Path, magnitudes: tuple[str, ...], batch_rows: int) -> Iterator[pa.Table]:
    """Yield identifiers, positions (deg) and magnitudes of an index file in its own order."""
    with open_fits(path) as hdus:
        with quiet():
            tables = _tables(hdus)
            header = tables["kdtree_header_stars"].header
            words, vectors_of = _packed_vectors(tables, header)
            columns = {name: tables[name].data[name] for name in magnitudes}
        if {len(words), *map(len, columns.values())} != {int(header["KDT_NDAT"])}:
            raise ValueError("its tables differ in length")
        for start in range(0, len(words), batch_rows):
            part = slice(start, start + batch_rows)
            ra, dec = ra_dec(vectors_of(words[part]))
            magnitudes_of = {name: np.asarray(values[part], np.float32) for name, values in columns.items()}
            yield pa.table({"id": _star_ids(words[part]), "ra": ra, "dec": dec, **magnitudes_of})


def _packed_vectors(tables: dict[str, Any], header: Any) -> tuple[npt.NDArray[Any], _Unpack]:
    """Return what the tree stores for its stars, shape (n, 3), and the function that makes vectors of it."""
    order, kind = _BYTE_ORDERS[header["ENDIAN"].strip()], _TYPES[header["KDT_DATA"].strip()]
    if int(header["KDT_NDIM"]) != 3:
        raise ValueError("its stars are no vectors in space")
    words = _bytes(tables["kdtree_data_stars"]).view(order + kind).reshape(-1, 3)
    if kind.startswith("f"):
        return words, lambda stored: stored.astype(np.float64)
    scaling = _bytes(tables["kdtree_range_stars"]).view(order + "f8").ravel()
    lowest, steps = scaling[:3], scaling[6]
    return words, lambda stored: lowest + stored / steps


def _bytes(table: Any) -> npt.NDArray[np.uint8]:
    """Return the rows of a table of one column as they are stored, shape (n, bytes of a row)."""
    rows = np.asarray(table.data.view(np.ndarray))
    return rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)


def _star_ids(words: npt.NDArray[Any]) -> IntArray:
    native = np.ascontiguousarray(words, words.dtype.newbyteorder("="))
    unsigned = native.view(f"u{native.dtype.itemsize}").astype(np.uint64)
    return mixed_id(unsigned[:, 0], unsigned[:, 1], unsigned[:, 2])
