"""Reference catalogs that are in a lake."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skylake.core.bands import mag_column
from skylake.core.magnitude_sources import bands_of, magnitude_source
from skylake.core.sphere import IntArray, apply_proper_motion, julian_epoch, separation_deg, within
from skylake.errors import CatalogError
from skylake.places import arrow_dataset, is_url
from skylake.schema.arrow import filter_columns
from skylake.sky.cone import Box, faintest_of, read_area, read_cone, read_ranges, touched_pixels
from skylake.sky.hats import (
    IN_PLACE,
    files_below,
    leaf_files,
    read_collection,
    read_common_metadata,
    read_objects,
    read_pixels,
    read_properties,
)
from skylake.sky.hats_in_place import HatsInPlace
from skylake.sky.pixels import cone_ranges, ranges_around
from skylake.sky.sky_polygon import Polygon

Floats = npt.NDArray[np.float64]

#: A cone is read this much wider than asked for, so that the next frames of the field find it in memory.
_SPARE = 1.3
#: Stars of a field that are held: more than the sources of any frame, and 20 MB.
MOST_STARS = 400_000
#: Cells of this order, 3.4 arcminutes, are read around positions.
_CELL_ORDER = 10
#: The passbands of Gaia DR2, the epoch of which is 2015.5, are not those of DR3. Where a catalog does not name its
#: release the epoch tells it.
_GAIA_DR3_EPOCH = 2016.0


@dataclass(frozen=True, slots=True)
class ReferenceCatalog:
    """A reference catalog on disk.

    Attributes
    ----------
    collection : Path
        HATS collection of the catalog and its margin cache.
    name : str
    epoch : float
        Julian epoch of its positions.
    margin_arcsec : float
    n_rows : int
    checksum : str
        SHA-256 of its content.
    columns : tuple of str
    survey : str
        The survey in whose photometric system it is, of :data:`skylake.core.bands.SURVEYS`; empty if unknown.
    lists_variables : bool
        Whether all its stars are variable, so that it calibrates nothing.
    in_place : HatsInPlace or None
        Where its stars are, if they are not in the collection.
    """

    collection: Path
    name: str
    epoch: float
    margin_arcsec: float
    n_rows: int
    checksum: str
    columns: tuple[str, ...]
    survey: str = ""
    lists_variables: bool = False
    in_place: HatsInPlace | None = field(default=None, compare=False)

    @classmethod
    def open(cls, collection: Path) -> ReferenceCatalog:
        """Open a catalog.

        Raises
        ------
        CatalogError
            If it is not there or damaged.
        """
        try:
            outer = read_collection(collection)
            root = collection / outer["hats_primary_table_url"]
            inner = read_properties(root)
            columns = tuple(read_common_metadata(root).names)
            epoch, survey = float(inner["skylake_epoch"]), inner.get("skylake_survey", "")
            return cls(
                collection,
                collection.name,
                epoch,
                float(outer["skylake_margin_arcsec"]),
                int(inner["hats_nrows"]),
                inner["skylake_sha256"],
                columns,
                survey="gaia_dr2" if survey == "gaia" and epoch < _GAIA_DR3_EPOCH else survey,
                lists_variables=inner.get("skylake_variables") == "true",
                in_place=HatsInPlace.read(collection) if IN_PLACE in outer else None,
            )
        except FileNotFoundError as error:
            raise CatalogError(
                f"there is no catalog {collection.name!r} in the lake; `skylake catalog list` shows those that are"
            ) from error
        except (KeyError, ValueError, OSError, pa.ArrowInvalid) as error:
            raise CatalogError(f"{collection}: the catalog is damaged ({error}); import it again") from error

    @property
    def root(self) -> Path:
        """Folder of the catalog without its margin."""
        return self.collection / self.name

    def cone(
        self,
        ra_deg: float,
        dec_deg: float,
        radius_deg: float,
        columns: Sequence[str] | None = None,
        filter: Any = None,
    ) -> pa.Table:
        """Return the stars within a cone as :func:`skylake.sky.cone.read_cone` does.

        Raises
        ------
        CatalogError
            If a file is missing or damaged.
        """
        if self.in_place is not None:
            return self._cone_in_place(ra_deg, dec_deg, radius_deg, columns, filter)
        with reading(self.collection):
            return read_cone(self.root, ra_deg, dec_deg, radius_deg, columns, filter)

    def _cone_in_place(
        self, ra_deg: float, dec_deg: float, radius_deg: float, columns: Sequence[str] | None, filter: Any
    ) -> pa.Table:
        ranges = cone_ranges(ra_deg, dec_deg, radius_deg)
        pieces = self._pieces(ranges, columns, filter, partial(within, ra_deg, dec_deg, radius_deg))
        return pa.concat_tables([self._without_stars(columns), *pieces])

    def _without_stars(self, columns: Sequence[str] | None) -> pa.Table:
        empty = read_common_metadata(self.root).empty_table()
        return empty if columns is None else empty.select(list(columns))

    def _pieces(
        self,
        ranges: IntArray,
        columns: Sequence[str] | None,
        filter: Any,
        holds: Callable[[Floats, Floats], npt.NDArray[np.bool_]],
    ) -> Iterator[pa.Table]:
        """Yield the stars of a catalog in place whose positions some function holds, pixel by pixel."""
        assert self.in_place is not None
        names = columns
        if columns is not None and filter is not None:
            # A filter may ask for columns that are not returned.
            names = [*columns, *filter_columns(filter, read_common_metadata(self.root))]
        for stars in self.in_place.tables(ranges, names):
            inside = stars.filter(pa.array(holds(stars["ra_deg"].to_numpy(), stars["dec_deg"].to_numpy())))
            chosen = inside if filter is None else inside.filter(filter)
            yield chosen if columns is None else chosen.select(list(columns))

    def area(self, area: Box | Polygon, filter: Any = None) -> pa.Table:
        """Return the stars in a box or polygon as :func:`skylake.sky.cone.read_area` does.

        Raises
        ------
        CatalogError
            If a file is missing or damaged.
        """
        if self.in_place is not None:
            pieces = self._pieces(area.ranges, None, filter, area.holds)
            return pa.concat_tables([self._without_stars(None), *pieces])
        with reading(self.collection):
            return read_area(self.root, area, filter)

    def around(
        self,
        ra_deg: Floats,
        dec_deg: Floats,
        margin_arcsec: float,
        columns: Sequence[str],
    ) -> pa.Table:
        """Return the stars within a margin of some positions, and others in the cells that these lie in.

        Raises
        ------
        CatalogError
            If a file is missing or damaged.
        """
        ranges = ranges_around(ra_deg, dec_deg, margin_arcsec, _CELL_ORDER)
        empty = self._without_stars(columns)
        if not len(ranges):
            return empty
        if self.in_place is not None:
            pieces = self.in_place.tables(ranges, columns)
            return pa.concat_tables([empty, *(piece.select(list(columns)) for piece in pieces)])
        with reading(self.collection):
            pixels = touched_pixels(read_pixels(self.root), ranges)
            files = [(path, None) for _, path in leaf_files(self.root, pixels)]
            return read_ranges(files, ranges, read_common_metadata(self.root), columns).select(list(columns))

    def brightest(
        self,
        cone: tuple[float, float, float],
        columns: Sequence[str],
        magnitude: str,
        most: int,
        faintest: float = math.inf,
    ) -> pa.Table:
        """Return about the `most` brightest stars within a cone, none of them fainter than a limit.

        Stars without a magnitude are there only where neither leaves any star out.

        Parameters
        ----------
        cone : (float, float, float)
            Right ascension, declination and radius, degrees.
        columns : sequence of str
            Columns to return, with that of the magnitude.
        magnitude : str
            Column.
        most : int
        faintest : float

        Raises
        ------
        CatalogError
            If a file is missing or damaged.
        """
        if self.in_place is None:
            with reading(self.collection):
                held = faintest_of(self.root, *cone, magnitude, most)
            deepest = min(held, faintest)
            bright = None if math.isinf(deepest) else pc.field(magnitude) <= deepest
            return self.cone(*cone, columns, bright)
        limit = None if math.isinf(faintest) else pc.field(magnitude) <= faintest
        kept = self._without_stars(columns)
        # Each file is read once, as it may be far away, and what is too faint is dropped on the way.
        for piece in self._pieces(cone_ranges(*cone), columns, limit, partial(within, *cone)):
            kept = pa.concat_tables([kept, piece])
            if kept.num_rows > 2 * most:
                kept = _brightest(kept, magnitude, most)
        return kept if kept.num_rows <= most else _brightest(kept, magnitude, most)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch | pa.Table]:
        """Yield columns of all stars, some at a time.

        Raises
        ------
        CatalogError
            If a file is missing or damaged.
        """
        if self.in_place is not None:
            for stars in self.in_place.tables(None, columns):
                yield stars.select(list(columns))
            return
        with reading(self.collection):
            files = [path for _, path in leaf_files(self.root, read_pixels(self.root))]
            stars = arrow_dataset(files, read_common_metadata(self.root))
            # One row group after another: a catalog may be larger than memory.
            yield from stars.to_batches(columns=list(columns), batch_readahead=1, fragment_readahead=1)

    @property
    def bands(self) -> list[str]:
        """Bands in which it has magnitudes."""
        return bands_of(self.columns)

    @property
    def colours(self) -> list[str]:
        """Colours that it gives as such."""
        return [n.removeprefix("colour_").replace("_", "-") for n in self.columns if n.startswith("colour_")]


@contextmanager
def reading(collection: Path) -> Iterator[None]:
    """Say which file of a catalog was the one that could not be read; the files are gone through only then.

    Raises
    ------
    CatalogError
        If a file is missing or damaged.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # In an object store the reader of the store says what is wrong.
        path = None if is_url(collection) else _damaged_file(collection)
        if path is None:
            raise
        lake = collection.parents[1] if collection.parent.name == "catalogs" else "LAKE"
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CatalogError(
            f"{path}: the catalog is damaged ({said}); import it again: "
            f"`skylake catalog import {shlex.quote(str(lake))} {collection.name} --replace …`"
        ) from error


def _damaged_file(collection: Path) -> Path | None:
    """Return the first file of a catalog that is not as it was imported, or cannot be read; None if none is."""
    try:
        recorded = read_objects(collection) or {}
    except (OSError, ValueError, LookupError, TypeError):
        recorded = {}
    there = set(files_below(collection))
    for path in sorted(there | {collection / name for name in recorded}):
        if path not in there:
            return path
        known = recorded.get(path.relative_to(collection).as_posix())
        try:
            with path.open("rb") as stream:
                if known is not None and hashlib.file_digest(stream, "sha256").hexdigest() != known[1]:
                    return path
            if known is None and path.suffix == ".parquet":
                pq.read_table(path, partitioning=None, page_checksum_verification=True)
        except (pa.ArrowException, OSError):
            return path
    return None


class StarField:
    """Stars of a catalog around positions, moved to the epoch of a frame; the last field is kept.

    Parameters
    ----------
    catalog : ReferenceCatalog
    band : str or None
        Band that stars are ranked by; that which is nearest, or the catalog's first, if it has no such band.
    most : int
        The brightest so many stars of a field are read, about, however deep the catalog is.
    """

    def __init__(self, catalog: ReferenceCatalog, band: str | None, most: int = MOST_STARS) -> None:
        if not catalog.bands:
            raise CatalogError(
                f"the catalog {catalog.name} has no magnitudes; import it with --mag BAND=COLUMN"
            )
        self.catalog = catalog
        source = None if band is None else magnitude_source(band, catalog.columns, catalog.survey)
        # Of a band that it has by a transformation, the one that is nearest.
        self.magnitude = mag_column(catalog.bands[0] if source is None else source.inputs[0][1])
        self._most = most
        # One value, which is replaced as a whole: after a catalog that cannot be read it is as it was.
        self._field: tuple[float, float, float, float, pa.Table] | None = None

    @classmethod
    def shared(cls, catalog: ReferenceCatalog, band: str | None) -> StarField:
        """Return the field that all tasks share which a process does with one catalog and band."""
        return _shared_field(catalog, band)

    def at(
        self, ra_deg: float, dec_deg: float, radius_deg: float, mjd: float, faintest: float = math.inf
    ) -> tuple[Floats, Floats, Floats]:
        """Return right ascension, declination and magnitude of the stars within a radius.

        None is fainter than `faintest`, or than the brightest of a field so large that it has more than can be held.
        """
        stars = self._around(ra_deg, dec_deg, radius_deg, faintest)
        ra0, dec0, pm_ra, pm_dec, mag = (
            np.asarray(stars[name].cast(pa.float64()).to_numpy(), float) for name in stars.column_names
        )
        years = float(julian_epoch(mjd)) - self.catalog.epoch
        moved_ra, moved_dec = apply_proper_motion(ra0, dec0, pm_ra, pm_dec, years)
        near = within(ra_deg, dec_deg, radius_deg, moved_ra, moved_dec)
        near &= ~(mag > faintest)
        return moved_ra[near], moved_dec[near], mag[near]

    def _around(self, ra_deg: float, dec_deg: float, radius_deg: float, faintest: float) -> pa.Table:
        """Return the stars of a field that holds a cone: the last one, if it does."""
        if self._field is not None:
            ra, dec, radius, limit, stars = self._field
            away = float(separation_deg(ra, dec, ra_deg, dec_deg))
            if away + radius_deg <= radius and faintest <= limit:
                return stars
        wide = min(_SPARE * radius_deg + 0.01, 180.0)
        limit = math.ceil(faintest) if math.isfinite(faintest) else math.inf
        columns = ["ra_deg", "dec_deg", "pm_ra_mas_yr", "pm_dec_mas_yr", self.magnitude]
        stars = self.catalog.brightest((ra_deg, dec_deg, wide), columns, self.magnitude, self._most, limit)
        self._field = ra_deg, dec_deg, wide, limit, stars
        return stars


def _brightest(stars: pa.Table, magnitude: str, most: int) -> pa.Table:
    """Return the brightest stars with a magnitude, in their order."""
    first = pc.select_k_unstable(
        stars.filter(pc.field(magnitude).is_valid()), most, [(magnitude, "ascending")]
    )
    return stars.filter(pc.field(magnitude).is_valid()).take(pa.array(np.sort(first.to_numpy())))


@lru_cache(maxsize=1)
def _shared_field(catalog: ReferenceCatalog, band: str | None) -> StarField:
    return StarField(catalog, band)
