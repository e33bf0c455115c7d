"""HATS catalogs that are used where they are: on a disk, in an object store, behind a web server.

A lake keeps the address of such a catalog and which of its columns hold what. Rows are converted as they are read, by
the rules of an import, so that everything above sees a catalog like any other. A night is matched with a copy of the
stars around its detections, which therefore needs no margin of the catalog.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.bands import colour_column, mag_column
from skylake.core.sphere import IntArray
from skylake.declared import build
from skylake.durable import replace_text, text_of
from skylake.errors import CatalogError, reason_of
from skylake.places import Reaching, arrow_filesystem, is_url, key, parquet_format, place, require_plain
from skylake.schema.arrow import arrow_schema
from skylake.settings import how_to_confirm, is_confirmed
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.catalog_files import parquet_attributes
from skylake.sky.catalog_limits import BATCH_BYTES
from skylake.sky.catalog_rows import standardise
from skylake.sky.catalog_values import RawRows, first_number
from skylake.sky.hats import (
    COLLECTION_FILE,
    IN_PLACE,
    SOURCE_FILE,
    Properties,
    primary_of,
    read_properties,
    write_collection,
    write_metadata,
    write_objects,
)
from skylake.sky.hats_files import HatsFiles, open_hats
from skylake.sky.pixels import Pixel, pixel_range

_INDEX = "_healpix_29"
#: Rows of a file that tell the epoch.
_FEW_ROWS = 1000
#: Rows that are read at a time.
_BATCH_ROWS = 131_072


@dataclass(frozen=True, slots=True)
class HatsInPlace:
    """A HATS catalog elsewhere.

    Attributes
    ----------
    address : str
        Path or URL of the catalog.
    columns : CatalogColumns
        Which of its columns hold what.
    unconfirmed : str
        What to do before it is read, as a sentence; empty if the user has named this address for it. A lake may be
        somebody else's, and what is at its addresses too.
    """

    address: str
    columns: CatalogColumns = field(compare=False)
    unconfirmed: str = field(default="", compare=False)

    @classmethod
    def read(cls, collection: Path) -> HatsInPlace | None:
        """Return what the folder of a catalog of a lake says of one in place; None if it has its stars itself."""
        path = collection / SOURCE_FILE
        if not path.is_file():
            return None
        known = json.loads(text_of(path))
        address, lake, name = str(known["address"]), collection.parents[1], collection.name
        unconfirmed = "" if is_confirmed(lake, name, address) else how_to_confirm(lake, name, address)
        return cls(address, build(CatalogColumns, known["columns"], str(path)), unconfirmed)

    @property
    def text(self) -> str:
        """What :meth:`read` reads."""
        return json.dumps({"address": self.address, "columns": asdict(self.columns)}, indent=1) + "\n"

    @property
    def root(self) -> Path:
        """The folder of the catalog.

        Raises
        ------
        CatalogError
            If the user has not confirmed the address.
        """
        require_plain(self.address)
        if self.unconfirmed:
            raise CatalogError(
                f"{self.address}: a lake names this catalog, and may be somebody else's; if you trust what is there, "
                f"write {self.unconfirmed}"
            )
        return place(self.address)

    def pixels(self) -> list[Pixel]:
        """Return its pixels, in the order of the sky's space-filling curve."""
        with _reading(self.address):
            return _pixels(self.root)

    def narrowed(self, names: Sequence[str] | None) -> CatalogColumns:
        """Return its columns without those that only unwanted columns of the lake come from; all for None."""
        return self.columns if names is None else _narrowed(self.columns, names)

    def tables(self, ranges: IntArray | None, names: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield the stars pixel by pixel under the names of a catalog of the lake.

        Parameters
        ----------
        ranges : ndarray or None
            Half-open ranges of order-29 indices, shape (n, 2), sorted and disjoint; None for the whole sky.
        names : sequence of str or None
            Columns that are needed; others may be missing. None for all.

        Raises
        ------
        CatalogError, LakeError
            If a file cannot be reached or read.
        """
        columns = self.narrowed(names)
        with _reading(self.address):
            suffix = _properties(self.root).get("hats_npix_suffix", ".parquet")
            for pixel in _pixels(self.root):
                inner = None if ranges is None else _overlap(pixel, ranges)
                if inner is not None and not len(inner):
                    continue
                yield from _read_leaf(_leaf(self.root, pixel, suffix), columns, inner)

    def units(self) -> dict[str, str]:
        """Return the units that its first file states, by column."""
        with _reading(self.address):
            suffix = _properties(self.root).get("hats_npix_suffix", ".parquet")
            for pixel in _pixels(self.root):
                for path in _leaf(self.root, pixel, suffix):
                    return parquet_attributes(_dataset([path]).schema, "unit")
        return {}


def files_in_place(source: HatsInPlace, name: str, checksum: str) -> HatsFiles:
    """Return a catalog in place as files whose rows have the names, units and positions of a catalog of the lake.

    Parameters
    ----------
    source : HatsInPlace
    name : str
        What it is called in the lake.
    checksum : str
        Of what the lake holds of it.

    Raises
    ------
    CatalogError, LakeError
        If it cannot be reached or read.
    """
    found = open_hats(source.root)
    # Positions stay those by which rows were put into pixels.
    placed = replace(source, columns=replace(source.columns, row_epoch=None))
    schema = arrow_schema(placed.columns.schema)
    return HatsFiles(
        name,
        "ra_deg",
        "dec_deg",
        schema,
        tuple(schema.names),
        found.leaves,
        f"{found.identity} {checksum}",
        reads=partial(_read_for, placed),
        makes=partial(_made_of, placed, source.units()),
        file_schema=found.schema,
    )


def _read_for(source: HatsInPlace, names: Sequence[str]) -> Sequence[str]:
    return source.narrowed(names).wanted


def _made_of(source: HatsInPlace, units: Mapping[str, str], rows: pa.Table, names: Sequence[str]) -> pa.Table:
    stars, _ = standardise(rows, source.narrowed(names), units=units, source=source.address)
    return stars.select(list(names))


def recorded(address: str, columns: CatalogColumns) -> tuple[HatsInPlace, int, str]:
    """Return a catalog in place, its rows, and a checksum of what it says of itself.

    Raises
    ------
    CatalogError, LakeError
        If it cannot be reached, or is no HATS catalog.
    """
    root = catalog_of(address)
    with _reading(address):
        properties = _properties(root)
        text = json.dumps(properties, sort_keys=True) + repr(_pixels(root)) + repr(columns)
        return (
            HatsInPlace(str(root), columns),
            int(properties.get("hats_nrows", 0)),
            hashlib.sha256(text.encode()).hexdigest(),
        )


def catalog_of(address: str) -> Path:
    """Return the folder of the catalog that an address names, itself or by its collection.

    Raises
    ------
    CatalogError, LakeError
        If it cannot be reached, or is no HATS catalog.
    """
    root = place(address)
    with _reading(address):
        root = primary_of(root)
        _properties(root)
    return root


def columns_of(address: str) -> list[str]:
    """Return the columns of a HATS catalog."""
    root = catalog_of(address)
    with _reading(address):
        suffix = _properties(root).get("hats_npix_suffix", ".parquet")
        for pixel in _pixels(root):
            for path in _leaf(root, pixel, suffix):
                return list(_dataset([path]).schema.names)
    raise CatalogError(f"{address}: the catalog has no stars; name another one")


def first_epoch(address: str, columns: CatalogColumns) -> float:
    """Return the epoch of the first row of a HATS catalog that has one; NaN if none has, or rows have no epochs.

    Raises
    ------
    CatalogError, LakeError
        If it cannot be reached or read.
    """
    if columns.row_epoch is None:
        return math.nan
    root = catalog_of(address)
    with _reading(address):
        suffix = _properties(root).get("hats_npix_suffix", ".parquet")
        for pixel in _pixels(root):
            rows = _dataset(_leaf(root, pixel, suffix)).head(_FEW_ROWS, columns=[columns.row_epoch])
            known = first_number(RawRows(rows, {}, address, np.arange(rows.num_rows)), columns.row_epoch)
            if math.isfinite(known):
                return known
    return math.nan


@contextmanager
def _reading(address: str) -> Iterator[None]:
    """Turn what cannot be read into one sentence."""
    try:
        with Reaching(address):
            yield
    except FileNotFoundError as error:
        raise CatalogError(
            f"{address}: there is no HATS catalog ({reason_of(error, True)}); correct the path"
        ) from error
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise CatalogError(f"{address}: the HATS catalog cannot be read ({said}); check it there") from error


def _properties(root: Path) -> dict[str, str]:
    found = _read_if_there(root, "hats.properties") or _read_if_there(root, "properties")
    if found is None:
        # Of a web server that does not answer fsspec says that the file is not there.
        silent = " or the server does not answer" if is_url(root) else ""
        raise CatalogError(
            f"{root}: there is no HATS catalog, as it has no file hats.properties{silent}; correct the address"
        )
    return found


def _read_if_there(root: Path, name: str) -> dict[str, str] | None:
    """Return properties; None if there is no such file."""
    path = _followed(root / name)
    try:
        return read_properties(path.parent, path.name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _followed(path: Path) -> Path:
    """Return what a path leads to: a catalog of the user may be a folder of links, as files of a lake may not be."""
    return path if is_url(path) else path.resolve()


def _pixels(root: Path) -> list[Pixel]:
    text = text_of(_followed(root / "partition_info.csv"))
    rows = csv.DictReader(io.StringIO(text))
    pixels = [(int(row["Norder"]), int(row["Npix"])) for row in rows]
    return sorted(pixels, key=lambda pixel: pixel_range(*pixel))


def _leaf(root: Path, pixel: Pixel, suffix: str) -> list[Path]:
    """Return the files of a pixel."""
    order, number = pixel
    stem = f"dataset/Norder={order}/Dir={number // 10_000 * 10_000}/Npix={number}"
    if suffix != "/":
        return [root / f"{stem}{suffix}"]
    return sorted(path for path in (root / stem).iterdir() if path.suffix == ".parquet")


def _overlap(pixel: Pixel, ranges: IntArray) -> IntArray:
    """Return the parts of ranges that are in a pixel."""
    start, end = pixel_range(*pixel)
    clipped = ranges.clip(start, end)
    return clipped[clipped[:, 0] < clipped[:, 1]]


def _dataset(files: Sequence[Path]) -> pa.dataset.Dataset:
    import pyarrow.dataset as pds

    return pds.dataset(
        [key(path) for path in files], format=parquet_format(), filesystem=arrow_filesystem(files[0])
    )


def _read_leaf(files: list[Path], columns: CatalogColumns, ranges: IntArray | None) -> Iterator[pa.Table]:
    dataset = _dataset(files)
    near = None
    if ranges is not None and _INDEX in dataset.schema.names:
        # Only row groups between the outermost bounds are read.
        near = (pc.field(_INDEX) >= int(ranges[0, 0])) & (pc.field(_INDEX) < int(ranges[-1, 1]))
    units = parquet_attributes(dataset.schema, "unit")
    # Some rows at a time, as a file of somebody else may be of any size.
    batches = dataset.to_batches(
        columns=list(columns.wanted),
        filter=near,
        batch_size=_BATCH_ROWS,
        batch_readahead=1,
        fragment_readahead=1,
    )
    for batch in batches:
        if batch.nbytes > BATCH_BYTES:
            raise CatalogError(
                f"{files[0]}: {_BATCH_ROWS} rows have more than {BATCH_BYTES >> 20} MB, as no stars have"
            )
        rows = pa.Table.from_batches([batch])
        stars, _ = standardise(rows, columns, units=units, source=str(files[0]))
        if ranges is not None:
            index = stars[_INDEX].to_numpy()
            place_of = ranges[:, 0].searchsorted(index, side="right") - 1
            stars = stars.filter(pa.array((place_of >= 0) & (index < ranges[place_of.clip(0), 1])))
        yield stars


def _narrowed(columns: CatalogColumns, names: Sequence[str]) -> CatalogColumns:
    """Return columns without those that only unwanted columns of the catalog come from."""
    wanted = set(names)
    sums = {
        band: relation
        for band, relation in columns.sums.items()
        if wanted & {mag_column(band), f"{mag_column(band)}_err"}
    }
    needed = {band for relation in sums.values() for band in (*relation.terms, *relation.colour)}
    bands = {
        band
        for band in columns.magnitudes
        if band in needed or wanted & {mag_column(band), f"{mag_column(band)}_err"}
    }
    moves = columns.row_epoch is not None or wanted & {"pm_ra_mas_yr", "pm_dec_mas_yr"}
    return replace(
        columns,
        id=columns.id if wanted & {"ref_id", "name"} else None,
        star_name=columns.star_name if "name" in wanted else None,
        pm_ra=columns.pm_ra if moves else None,
        pm_dec=columns.pm_dec if moves else None,
        magnitudes={band: name for band, name in columns.magnitudes.items() if band in bands},
        magnitude_errors={band: name for band, name in columns.magnitude_errors.items() if band in bands},
        signal_to_noise={band: name for band, name in columns.signal_to_noise.items() if band in bands},
        keep_magnitudes={band: cuts for band, cuts in columns.keep_magnitudes.items() if band in bands},
        sums=sums,
        colours={colour: name for colour, name in columns.colours.items() if colour_column(colour) in wanted},
        variable=columns.variable if "is_variable" in wanted else None,
    )


def write_in_place(
    folder: Path, source: HatsInPlace, n_rows: int, checksum: str, properties: Mapping[str, str]
) -> None:
    """Write the folder of a catalog of a lake whose stars are elsewhere; its name is that of the catalog."""
    name = folder.name
    values = {**properties, "skylake_sha256": checksum}
    # Where it has stars is known here too.
    what, pixels = Properties(name, "object", n_rows), source.pixels()
    write_metadata(folder / name, source.columns.schema, what, pixels, values)
    replace_text(folder / SOURCE_FILE, source.text)
    # Around the detections of a night all stars are read, however far it goes.
    write_collection(folder, name, "", math.inf)
    properties_text = text_of(folder / COLLECTION_FILE)
    replace_text(folder / COLLECTION_FILE, f"{properties_text}{IN_PLACE}={source.address}\n")
    write_objects(folder)
