"""The index of a reference catalog for plate solving: one file beside the catalog, mapped into memory.

The file names the version of its format and the checksum of the catalog; an index of another version, or of a catalog
that was replaced, counts as none. One process at a time builds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from skylake.core.asterism_codes import AsterismBand
from skylake.core.bands import mag_column
from skylake.core.sphere import FloatArray, unit_vectors
from skylake.durable import PARTIAL, locked_alone
from skylake.errors import CatalogError, reason_of
from skylake.sky.asterism_build import FINEST_DENSITY, RATIO, bands_of, finest_density
from skylake.sky.asterism_file import VERSION, Content, read_bands, read_limits, write_bands
from skylake.sky.lake_catalogs import ReferenceCatalog, reading

#: Cells of this order, 0.23 degrees wide, of each of which the brightest stars are looked at.
_CELL_ORDER = 8
_SKY_SQUARE_DEGREES = 41252.96
_CELL_SQUARE_DEGREES = _SKY_SQUARE_DEGREES / (12 * 4**_CELL_ORDER)
#: So many times more stars are looked at than the narrowest band takes.
_SPARE = 2.0
#: Of an index, at most; the file has 300 bytes for each, and to build it takes 600 bytes of memory.
_MOST_STARS = 6_000_000
#: Stars of a picture that is nearly certain to be solved: all of the catalog, or those of many that a band takes.
_SURE, _SURE_OF_MANY = 12.0, 36.0


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
    called : str
        Its lake and catalog, as a command takes them.
    """

    bands: tuple[AsterismBand, ...]
    narrowest_deg: float
    widest_deg: float
    magnitude: str
    called: str = ""

    @property
    def n_stars(self) -> int:
        """Stars of the narrowest band, which has those of all others."""
        return len(self.bands[0].zones.ra)

    @property
    def sure_deg(self) -> float:
        """Width from which on pictures are nearly certain to be solved.

        Nine in ten have a dozen stars there; where the index does not take all stars of the catalog, three dozen.
        """
        zones = self.bands[0].zones
        # Cells of equal area, 2 square degrees; those without a star may be beyond the catalog.
        rows = np.minimum((50.0 * (zones.vectors[:, 2] + 1.0)).astype(np.int64), 99)
        columns = np.minimum((100.0 / math.pi * zones.ra).astype(np.int64), 199)
        counts = np.bincount(200 * rows + columns, minlength=20_000)
        fewest = float(np.percentile(counts[counts > 0], 10.0)) / (_SKY_SQUARE_DEGREES / counts.size)
        taken = self.bands[0].density * math.radians(1.0) ** 2
        return max(math.sqrt(_SURE / fewest), math.sqrt(_SURE_OF_MANY / taken))

    @property
    def n_asterisms(self) -> int:
        """Asterisms of all bands."""
        return sum(len(band.quads.sizes) for band in self.bands)


def _called(catalog: ReferenceCatalog) -> str:
    """Return the lake and the name of a catalog as a command takes them."""
    # Catalogs of a lake are beside each other in its folder of them.
    folder = catalog.collection.parent
    return f"{folder.parent if folder.name == 'catalogs' else 'LAKE'} {catalog.name}"


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
        If the catalog has no such magnitudes or too few stars, or too many for pictures so narrow, or the file cannot
        be written.
    """
    with _building(catalog, None):
        return _built(catalog, band, narrowest_deg, widest_deg)


def _built(
    catalog: ReferenceCatalog, band: str | None, narrowest_deg: float, widest_deg: float
) -> AsterismIndex:
    """Build an index while no other process does."""
    magnitude = _magnitude(catalog, band)
    least = narrowest_possible_deg(catalog.n_rows)
    if narrowest_deg < least:
        raise CatalogError(
            f"{catalog.name}: an index for pictures of {narrowest_deg:g} degrees would have more than "
            f"{_MOST_STARS / 1e6:g} million stars; choose {least:.2g} degrees or more, or import a part of the catalog"
        )
    density = RATIO * finest_density(narrowest_deg)
    finer = min(catalog.n_rows, density * _SKY_SQUARE_DEGREES) <= _MOST_STARS
    with reading(catalog.collection):
        vectors, magnitudes = _bright_stars(catalog, magnitude, density if finer else density / RATIO)
    if len(magnitudes) < 100:
        raise CatalogError(
            f"{catalog.name}: {len(magnitudes)} stars with magnitudes are too few to solve with; import a larger "
            "catalog"
        )
    bands = bands_of(vectors, magnitudes, widest_deg, narrowest_deg, finer)
    content = Content(catalog.checksum, narrowest_deg, widest_deg, magnitude)
    write_bands(index_path(catalog), bands, content)
    return open_index(catalog)


def narrowest_possible_deg(n_stars: int) -> float:
    """Return how narrow pictures may be that an index of so many stars can be built for; 0 for any."""
    if n_stars <= _MOST_STARS:
        return 0.0
    # Of a larger catalog a band takes as many everywhere on the sky as it wants.
    return math.ceil(50.0 * math.sqrt(FINEST_DENSITY * _SKY_SQUARE_DEGREES / _MOST_STARS)) / 100.0


def _magnitude(catalog: ReferenceCatalog, band: str | None) -> str:
    if not catalog.bands:
        raise CatalogError(f"the catalog {catalog.name} has no magnitudes; import it with --mag BAND=COLUMN")
    if band is not None and band not in catalog.bands:
        raise CatalogError(
            f"the catalog {catalog.name} has no band {band}; it has {', '.join(catalog.bands)}"
        )
    return mag_column(band or catalog.bands[0])


def _bright_stars(catalog: ReferenceCatalog, magnitude: str, density: float) -> tuple[FloatArray, FloatArray]:
    """Return the brightest stars of every cell of the sky, read file by file."""
    most = math.ceil(_SPARE * max(density, FINEST_DENSITY) * _CELL_SQUARE_DEGREES)
    pieces = []
    for batch in catalog.batches(["_healpix_29", "ra_deg", "dec_deg", magnitude]):
        index, ra, dec, mag = (np.asarray(batch.column(i).to_numpy(zero_copy_only=False)) for i in range(4))
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
    if not len(cells) or np.bincount(cells - cells.min()).max() <= most:
        return np.arange(len(cells))
    order = np.lexsort((mag, cells))
    grouped = cells[order]
    first = np.flatnonzero(np.diff(grouped, prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    return order[rank < most]


def open_index(catalog: ReferenceCatalog) -> AsterismIndex:
    """Open the index of a catalog.

    Raises
    ------
    CatalogError
        If there is none, or it is damaged, or of another catalog or version.
    """
    path = index_path(catalog)
    called = _called(catalog)
    advice = f"run `skylake catalog index {called}`"
    try:
        bands, content, version = read_bands(path)
    except FileNotFoundError as error:
        raise CatalogError(f"the catalog {catalog.name} has no index to solve with; {advice}") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CatalogError(f"{path}: the index is damaged ({error}); {advice}") from error
    if version != VERSION:
        raise CatalogError(
            f"{path}: the index has version {version} of the format and this skylake reads {VERSION}; {advice}"
        )
    if content.checksum != catalog.checksum:
        raise CatalogError(f"{path}: the index is not of this catalog; {advice}")
    return AsterismIndex(tuple(bands), content.narrowest_deg, content.widest_deg, content.magnitude, called)


def index_name(catalog: ReferenceCatalog) -> str | None:
    """Return what distinguishes the index of a catalog from another one of it; None if there is none to solve with."""
    try:
        index = open_index(catalog)
    except CatalogError:
        return None
    limits = f"{index.narrowest_deg:g} {index.widest_deg:g} {index.magnitude}"
    return f"{VERSION} {limits} {index.n_stars} {index.n_asterisms}"


def ensure_index(catalog: ReferenceCatalog, report: Callable[[str], None]) -> AsterismIndex:
    """Open the index of a catalog; where there is none that fits, build it, for what the last one was asked for."""
    try:
        return open_index(catalog)
    except CatalogError as error:
        why = str(error)
    with _building(catalog, report):
        try:
            # Another process may have built it in the meantime.
            return open_index(catalog)
        except CatalogError:
            report(f"{why}; it is built now, which takes some seconds")
        return _built_as_before(catalog)


def renew_index(catalog: ReferenceCatalog) -> AsterismIndex:
    """Build the index of a catalog as :func:`build_index` does, for what the last one was asked for."""
    with _building(catalog, None):
        return _built_as_before(catalog)


def _built_as_before(catalog: ReferenceCatalog) -> AsterismIndex:
    before = read_limits(index_path(catalog))
    if before is None:
        return _built(catalog, None, 0.5, 60.0)
    band = before.magnitude.removeprefix("mag_")
    narrowest = max(before.narrowest_deg, narrowest_possible_deg(catalog.n_rows))
    return _built(catalog, band if band in catalog.bands else None, narrowest, before.widest_deg)


@contextmanager
def _building(catalog: ReferenceCatalog, report: Callable[[str], None] | None) -> Iterator[None]:
    """Be the only process that builds the index of a catalog; wait for another that does, and say so."""
    path = index_path(catalog)
    lock = path.with_name(f".{path.name}.lock")
    try:
        with locked_alone(
            lock, lambda: report and report(f"{path}: another process builds the index; it is waited for")
        ):
            # What a process left that was killed over it.
            for left in path.parent.glob(f".{path.name}.*{PARTIAL}"):
                left.unlink(missing_ok=True)
            yield
    except OSError as error:
        advice = f"clear that up, then run `skylake catalog index {_called(catalog)}`"
        raise CatalogError(f"{path}: the index cannot be written ({reason_of(error)}); {advice}") from error
