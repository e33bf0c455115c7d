"""What a night and the nights before it have of the stars that are watched: rows of aggregates, in one form.

Of the night all stars are read, as they are what watched stars are compared with; of the past only single stars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.sphere import IntArray, unit_vectors
from skylake.flow.watching.episodes import Episodes
from skylake.lake import Part, Snapshot
from skylake.lake.storage.damaged_files import damaged, reading
from skylake.lake.storage.slices import read_files
from skylake.schema import arrow_schema, load
from skylake.sky.cone import WrongCount, read_ranges, touched_pixels
from skylake.sky.pixels import ranges_around

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Good measurements that a night needs.
LEAST_GOOD = 2
#: Nights of the past that a night is compared with, the last ones of the camera: it costs the same after years.
MOST_NIGHTS = 200
#: A mean of forced measurements with a smaller ratio of signal to noise is none of the past.
_LEAST_SNR = 5.0
#: A star whose episode reaches far back is looked for around its place of then, in cells of at most this order.
_SAME_ARCSEC, _FINEST = 5.0, 14
#: Columns in both forms of a star of a night; those of forced photometry have other names.
KEY = ("catalog", "object_id", "band")
#: The catalog of targets that no catalog has.
TARGETS = "detections"
_PLACE = ("_healpix_29", "ra_deg", "dec_deg")


@dataclass(frozen=True, slots=True)
class Source:
    """A table that the magnitudes of nights are taken from.

    Attributes
    ----------
    measured : {'detected', 'forced'}
    statistics : str
        Table in blocks with the sums or means of each star and night.
    curves : str
        Table in blocks with its measurements.
    columns : tuple of str
        Columns of `statistics` that its means are made of.
    """

    measured: str
    statistics: str
    curves: str
    columns: tuple[str, ...]


DETECTED = Source(
    "detected",
    "star_statistics",
    "lightcurves",
    (*KEY, *_PLACE, "ref_mag", "n_points", "n_good", "sum_weight", "sum_weight_mag"),
)
FORCED = Source(
    "forced",
    "forced_lightcurves",
    "forced_lightcurves",
    (
        "origin",
        "ref_id",
        "star_id",
        "band",
        *_PLACE,
        "ref_mag",
        "n_points",
        "n_clean",
        "mag_mean",
        "mag_mean_random_err",
        "snr_mean",
        "mag_mean_limit",
        "mag_median",
        "mag_scatter",
    ),
)
SOURCES = (DETECTED, FORCED)


@dataclass(frozen=True)
class NightStars:
    """Stars of a night, each in each of its bands; see :func:`tonight`.

    Attributes
    ----------
    rows : pyarrow.Table
        catalog, object_id, band, _healpix_29, ra_deg, dec_deg, ref_mag, n_points, n_good, mag and err, of forced
        photometry also snr, limit, mag_median and mag_scatter. Means are null where the night has less than two good
        measurements.
    """

    rows: pa.Table

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def floats(self, name: str) -> Floats:
        """Return a column as floats, NaN for null."""
        return np.asarray(self.rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)

    @cached_property
    def index(self) -> IntArray:
        """HEALPix index of each."""
        return np.asarray(self.rows["_healpix_29"], np.int64)

    @cached_property
    def vectors(self) -> Floats:
        """Positions as unit vectors, shape (n, 3)."""
        return unit_vectors(self.floats("ra_deg"), self.floats("dec_deg"))

    @cached_property
    def band(self) -> npt.NDArray[np.object_]:
        """Band of each."""
        return np.asarray(self.rows["band"].to_pylist(), object)

    @cached_property
    def star(self) -> npt.NDArray[np.int64]:
        """Number of the star of each, the same in all its bands."""
        catalog = self.rows["catalog"].combine_chunks().dictionary_encode().indices.to_numpy()
        pairs = np.column_stack([catalog, self.rows["object_id"].to_numpy()])
        return np.asarray(np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1), np.int64)

    @cached_property
    def has_mean(self) -> npt.NDArray[np.bool_]:
        """Whether each has a mean magnitude."""
        return np.isfinite(self.floats("mag")) & np.isfinite(self.floats("err"))


def tonight(snapshot: Snapshot, source: Source, part: str) -> NightStars:
    """Return all stars of a night of a camera, by the name of its part."""
    version = snapshot.version(source.statistics)
    held = version.part(part)
    files = [] if held is None else version.slices_of(held)
    return NightStars(_means(read_files(source.statistics, files, source.columns), source))


def past_nights(
    snapshot: Snapshot,
    source: Source,
    ranges: IntArray,
    camera: str,
    night: int,
    episodes: Episodes | None = None,
    most: int = MOST_NIGHTS,
) -> pa.Table:
    """Return the rows of earlier nights of single stars, as :class:`NightStars` has them, those with a mean only.

    Parameters
    ----------
    snapshot : Snapshot
    source : Source
    ranges : ndarray of int64, shape (n, 2)
        Of the HEALPix index, as :func:`ranges_of` gives them.
    camera, night : str, int
        Whose nights, and before which.
    episodes : Episodes or None
        Nights of these are left out, and so many earlier ones of the star take their place.
    most : int
        So many of the last ones.
    """
    held = snapshot.parts(source.statistics).values()
    parts = [part for part in held if part.camera == camera and 0 < (part.night or 0) < night]
    nights = np.unique(np.array([part.night for part in parts], np.int64))
    rows = _means_of(snapshot, source, ranges, parts, camera, nights[-most:])
    if episodes is None:
        return rows
    rows = episodes.without(rows)
    further = episodes.further_nights(nights, most)
    if not further:
        return rows
    # What has changed is rare, so these are few stars, however long ago their episodes began.
    ra, dec = np.array([episodes.places[star] for star in further]).T
    around = ranges_around(ra, dec, _SAME_ARCSEC, _FINEST)
    wanted = [(*star, one) for star, some in further.items() for one in some]
    names = (*KEY, "night")
    chosen = pa.table(
        {
            name: pa.array(values, rows.schema.field(name).type)
            for name, values in zip(names, zip(*wanted, strict=True), strict=True)
        }
    )
    earlier = _means_of(snapshot, source, around, parts, camera, chosen["night"].to_numpy())
    return pa.concat_tables([rows, earlier.join(chosen, list(names), join_type="left semi")])


def _means_of(
    snapshot: Snapshot, source: Source, ranges: IntArray, parts: Sequence[Part], camera: str, nights: IntArray
) -> pa.Table:
    """Return the rows that some nights have in ranges of the index, those with a mean."""
    columns = tuple(dict.fromkeys([*source.columns, "camera", "night"]))
    chosen = set(nights.tolist())
    parts = [part for part in parts if part.night in chosen]
    in_time = (pc.field("camera") == camera) & pc.field("night").isin(pa.array(sorted(chosen), pa.int32()))
    rows = rows_in_ranges(snapshot, source.statistics, ranges, columns, parts, in_time)
    means = _means(rows, source)
    return means.filter(pc.and_(pc.is_valid(means["mag"]), pc.is_valid(means["err"])))


def ranges_of(index: IntArray) -> IntArray:
    """Return the ranges of single indices."""
    return np.column_stack([index, index + 1]).astype(np.int64)


def points_of(snapshot: Snapshot, source: Source, part: str, index: IntArray) -> pa.Table:
    """Return the measurements of stars of a night, by their HEALPix index, one in a row.

    Returns
    -------
    pyarrow.Table
        catalog, object_id, band, frame_id, mjd_mid, mag, err and flags.
    """
    version = snapshot.version(source.curves)
    held = version.part(part)
    files = [] if held is None else version.slices_of(held)
    names = KEY if source is DETECTED else ("origin", "ref_id", "star_id", "band")
    inner = {"lightcurve": ("frame_id", "mjd_mid", "mag", "flags"), "lightcurve_errors": ("mag_random_err",)}
    chosen = pc.field("_healpix_29").isin(pa.array(np.unique(index), pa.int64()))
    rows = read_files(source.curves, files, [*names, *inner], chosen, inner).combine_chunks()
    # Rows that are older than errors in parts cannot be judged.
    rows = _named(rows, source).filter(pc.is_valid(rows["lightcurve_errors"]))
    nested = {name: rows[name].combine_chunks() for name in inner}
    lists = {name: pc.struct_field(nested[column], name) for column, names in inner.items() for name in names}
    counts = pc.list_value_length(lists["frame_id"]).to_numpy(zero_copy_only=False)
    which = pa.array(np.repeat(np.arange(rows.num_rows), counts))
    flat = {name: rows[name].take(which) for name in KEY}
    flat |= {name: values.flatten() for name, values in lists.items()}
    flat["err"] = flat.pop("mag_random_err").cast(pa.float64())
    return pa.table(flat)


def rows_in_ranges(
    snapshot: Snapshot,
    table: str,
    ranges: IntArray,
    columns: Sequence[str],
    parts: Sequence[Part] | None = None,
    filter: pc.Expression | None = None,
) -> pa.Table:
    """Return the blocks of a table whose index is in ranges; only the row groups that these touch are read.

    Of some parts only the files that hold them are read; these may hold others too, which `filter` leaves out.
    """
    form = arrow_schema(load(table))
    version = snapshot.version(table)
    leaves = version.leaves
    pixels = touched_pixels(sorted(leaves), ranges) if len(ranges) else []
    files = [file for pixel in pixels for file in leaves[pixel].items()]
    if parts is not None:
        holding = {piece.path for part in parts for piece in version.slices_of(part)}
        files = [(path, n_rows) for path, n_rows in files if path in holding]
    if not files:
        return form.empty_table().select(list(columns))
    try:
        with reading(lambda: [path for path, _ in files]):
            return read_ranges(files, ranges, form, columns, filter).select(list(columns))
    except WrongCount as error:
        raise damaged(error.path, error.why) from error


def _named(rows: pa.Table, source: Source) -> pa.Table:
    """Return rows whose stars are named by catalog and object_id."""
    if source is DETECTED:
        return rows
    rows = rows.append_column("object_id", pc.coalesce(rows["ref_id"], rows["star_id"]))
    rows = rows.append_column("catalog", pc.fill_null(rows["origin"], TARGETS))
    return rows.drop_columns(["origin", "ref_id", "star_id"])


def _means(rows: pa.Table, source: Source) -> pa.Table:
    """Return rows with the mean of the night and its random error, null where it has too few good measurements."""
    rows = _named(rows, source)
    if source is DETECTED:
        mag = pc.divide(rows["sum_weight_mag"], rows["sum_weight"])
        made = {"mag": mag, "err": pc.power(rows["sum_weight"], -0.5)}
        enough = pc.greater_equal(rows["n_good"], LEAST_GOOD)
    else:
        made = {"mag": rows["mag_mean"], "err": rows["mag_mean_random_err"]}
        enough = pc.greater_equal(rows["n_clean"], LEAST_GOOD)
        enough = pc.and_(enough, pc.greater_equal(pc.fill_null(rows["snr_mean"], 0.0), _LEAST_SNR))
    columns: Mapping[str, Any] = {name: rows[name] for name in rows.column_names} | {
        name: pc.if_else(enough, values, None) for name, values in made.items()
    }
    renamed = {"n_clean": "n_good", "snr_mean": "snr", "mag_mean_limit": "limit"}
    unused = ("sum_weight", "sum_weight_mag", "mag_mean", "mag_mean_random_err")
    return pa.table({renamed.get(name, name): one for name, one in columns.items() if name not in unused})
