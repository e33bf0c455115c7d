"""The table ``matches``: which catalog star each detection is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.bands import colour_column
from skylake.core.camera import FLUXES, FilterBand
from skylake.core.magnitude_sources import colour_sources, magnitude_source, read_colour, read_colour_error
from skylake.core.sphere import healpix_index
from skylake.schema import conform, empty_table, load
from skylake.schema.aperture_columns import MORE, unpacked

Floats = npt.NDArray[np.float64]

#: Columns of ``sources`` that a match carries along, so that calibrations read one table.
CARRIED = (
    "camera",
    "night",
    "filter",
    "x_px",
    "y_px",
    *(f"flux_{name}{suffix}" for name in FLUXES for suffix in ("", "_err")),
    *(f"apcor_rel_{name}" for name in FLUXES),
    "crowding",
    "flags",
    "altitude_deg",
)


#: Columns that say how sure a match is.
JUDGED = ("second_separation_arcsec", "is_ambiguous", "is_discrepant")

#: Column of a catalog that marks variable stars.
VARIABLE = "is_variable"
#: Columns of ``matches`` about the light of catalog stars in the aperture of another, which are null at first.
LIGHT_COLUMNS = ("ref_crowding", "ref_crowding_err", "ref_sky_light", "ref_neighbours")


def matches_name(batch: str, catalog: str) -> str:
    """Return the name of the part of ``matches`` of a batch."""
    return f"{batch}-{catalog}"


def reference_columns(bands: Sequence[FilterBand], available: Collection[str], survey: str = "") -> list[str]:
    """Return the columns of a catalog that matches in some bands need, of those that it has.

    Parameters
    ----------
    bands : sequence of FilterBand
    available : collection of str
        Columns of the catalog.
    survey : str
        The survey in whose system it is; empty if unknown.
    """
    wanted = ["ref_id", VARIABLE]
    for band in bands:
        source = magnitude_source(band.band, available, survey)
        wanted += [] if source is None else source.columns
        if band.colour is not None:
            wanted += [colour_column(band.colour), f"{colour_column(band.colour)}_err"]
            wanted += [name for one in colour_sources(band.colour, available, survey) for name in one.columns]
    return [name for name in dict.fromkeys(wanted) if name in available]


def matches_table(
    pairs: pa.Table,
    catalog: str,
    filters: Mapping[str, FilterBand],
    default_mag_err: float,
    survey: str = "",
) -> pa.Table:
    """Return chosen pairs as rows of the schema.

    Parameters
    ----------
    pairs : pyarrow.Table
        One row per match: the columns of :data:`CARRIED`, :data:`MORE` where any row has it, those of the join and
        of the catalog (with the suffix ``_ref`` where both sides have them), ``n_candidates``, and :data:`JUDGED`
        where it is known.
    catalog : str
        Name of the catalog.
    filters : mapping
        Band of each filter that occurs in ``filter``; rows of other filters have no magnitude.
    default_mag_err : float
        Error of catalog magnitudes where the catalog gives none.
    survey : str
        The survey in whose system the catalog is; empty if unknown.
    """
    if pairs.num_rows == 0:
        return empty_table(load("matches"))
    n = pairs.num_rows
    reference = reference_values(pairs, filters, default_mag_err, survey)
    bands = {name: chosen.band for name, chosen in filters.items()}
    names = pairs["filter"].combine_chunks().dictionary_encode()
    band = pa.array([bands.get(name) for name in names.dictionary.to_pylist()], pa.string()).take(
        names.indices
    )
    columns = {name: pairs[name] for name in CARRIED if name != "filter"}
    if MORE in pairs.column_names:
        columns[MORE] = unpacked(pairs[MORE], load("matches"))
    columns |= {name: pairs[name] for name in ("frame_id", "source_no", "mjd_mid", "ref_id")}
    columns |= {
        "_healpix_29": healpix_index(numbers(pairs, "ra_deg_ref"), numbers(pairs, "dec_deg_ref")),
        "ra_deg": pairs["ra_deg_ref"],
        "dec_deg": pairs["dec_deg_ref"],
        "moved_ra_deg": pairs["moved_ra_deg"],
        "moved_dec_deg": pairs["moved_dec_deg"],
        "source_ra_deg": pairs["ra_deg"],
        "source_dec_deg": pairs["dec_deg"],
        "separation_arcsec": pairs["separation_arcsec"],
        "n_candidates": pc.min_element_wise(pairs["n_candidates"], 32767).cast(pa.int16()),
        "catalog": pa.repeat(catalog, n),
        "band": band,
        "ref_mag": pa.array(reference.mag),
        "ref_mag_err": pa.array(reference.mag_err),
        "ref_colour": pa.array(reference.colour),
        "ref_colour_err": pa.array(reference.colour_err),
        **dict.fromkeys(LIGHT_COLUMNS, pa.nulls(n, pa.float32())),
    }
    columns |= {name: pairs[name] for name in JUDGED if name in pairs.column_names}
    if VARIABLE in pairs.column_names:
        columns[VARIABLE] = pairs[VARIABLE].cast(pa.bool_())
    return conform(pa.table(columns), load("matches"))


class ReferenceValues(NamedTuple):
    """What a catalog says of stars in a band; arrays of shape (n,), NaN for none."""

    mag: Floats
    mag_err: Floats
    colour: Floats
    colour_err: Floats


def reference_values(
    pairs: pa.Table, filters: Mapping[str, FilterBand], default_mag_err: float, survey: str = ""
) -> ReferenceValues:
    """Return what the catalog says of the stars of pairs in the band of their filter, as it is or transformed.

    Parameters
    ----------
    pairs, filters, default_mag_err, survey
        As in :func:`matches_table`.
    """
    n, read = pairs.num_rows, partial(numbers, pairs)
    found = ReferenceValues(*(np.full(n, np.nan) for _ in range(4)))
    for name, chosen in filters.items():
        rows = pc.equal(pairs["filter"], name).fill_null(False).to_numpy(zero_copy_only=False)
        source = magnitude_source(chosen.band, pairs.column_names, survey)
        if source is not None:
            mag, mag_err = source.read(read, default_mag_err)
            found.mag[rows], found.mag_err[rows] = mag[rows], mag_err[rows]
        if chosen.colour is not None:
            of = chosen.colour, pairs.column_names, survey, read
            found.colour[rows], found.colour_err[rows] = read_colour(*of)[rows], read_colour_error(*of)[rows]
    return found


def numbers(pairs: pa.Table, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return a column as floats, NaN for nulls or a column that is not there."""
    if name not in pairs.column_names:
        return np.full(pairs.num_rows, np.nan)
    return np.asarray(pairs[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)


def catalog_values(
    stars: pa.Table, ref_id: npt.NDArray[np.int64], band: str, colour: str | None, survey: str = ""
) -> tuple[Floats, Floats, Floats]:
    """Return magnitude, colour and its error of stars of a catalog by their identifier; NaN where it gives none.

    Parameters
    ----------
    stars : pyarrow.Table
        Rows of the catalog: the columns of :func:`reference_columns`.
    ref_id : ndarray of int64, shape (n,)
        The stars that are asked for.
    band : str
    colour : str or None
    survey : str
        The survey in whose system the catalog is; empty if unknown.
    """
    if stars.num_rows == 0:
        return np.full(len(ref_id), np.nan), np.full(len(ref_id), np.nan), np.full(len(ref_id), np.nan)
    known = stars["ref_id"].to_numpy()
    order = np.argsort(known)
    place = order[np.minimum(np.searchsorted(known, ref_id, sorter=order), len(known) - 1)]
    read, nothing = partial(numbers, stars), np.full(len(known), np.nan)
    source = magnitude_source(band, stars.column_names, survey)
    mag = nothing if source is None else source.read(read, 0.0)[0]
    values, error = (
        of(colour, stars.column_names, survey, read) if colour else nothing
        for of in (read_colour, read_colour_error)
    )
    there = known[place] == ref_id
    mag, values, error = (np.where(there, one[place], np.nan) for one in (mag, values, error))
    return mag, values, error
