"""The table ``matches``: which catalog star each detection is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.bands import colour_column, mag_column
from skylake.core.camera import FLUXES, FilterBand
from skylake.core.sphere import healpix_index
from skylake.schema import conform, empty_table, load
from skylake.schema.aperture_columns import MORE, unpacked

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


#: Columns of ``matches`` about the light of catalog stars in the aperture of another, which are null at first.
LIGHT_COLUMNS = ("ref_crowding", "ref_crowding_err", "ref_sky_light", "ref_neighbours")


def matches_name(batch: str, catalog: str) -> str:
    """Return the name of the part of ``matches`` of a batch."""
    return f"{batch}-{catalog}"


def reference_columns(bands: Sequence[FilterBand], available: Collection[str]) -> list[str]:
    """Return the columns of a catalog that matches in some bands need, of those that it has."""
    wanted = ["ref_id"]
    for band in bands:
        wanted += [mag_column(band.band), f"{mag_column(band.band)}_err"]
        if band.colour is not None:
            wanted += _colour_sources(band.colour)
    return [name for name in dict.fromkeys(wanted) if name in available]


def _colour_sources(colour: str) -> list[str]:
    blue, _, red = colour.partition("-")
    return [colour_column(colour), mag_column(blue), mag_column(red)]


def matches_table(
    pairs: pa.Table, catalog: str, filters: dict[str, FilterBand], default_mag_err: float
) -> pa.Table:
    """Return chosen pairs as rows of the schema.

    Parameters
    ----------
    pairs : pyarrow.Table
        One row per match: the columns of :data:`CARRIED`, :data:`MORE` where any row has it, those of the join and
        of the catalog (with the suffix ``_ref`` where both sides have them), and ``n_candidates``.
    catalog : str
        Name of the catalog.
    filters : dict
        Band of each filter that occurs in ``filter``; rows of other filters have no magnitude.
    default_mag_err : float
        Error of catalog magnitudes where the catalog gives none.
    """
    if pairs.num_rows == 0:
        return empty_table(load("matches"))
    n = pairs.num_rows
    band = np.full(n, None, object)
    mag, mag_err, colour = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    names = np.asarray(pairs["filter"].to_pylist(), object)
    for name, chosen in filters.items():
        rows = names == name
        band[rows] = chosen.band
        mag[rows] = numbers(pairs, mag_column(chosen.band))[rows]
        stated = numbers(pairs, f"{mag_column(chosen.band)}_err")[rows]
        mag_err[rows] = np.where(np.isfinite(stated), stated, default_mag_err)
        if chosen.colour is not None:
            colour[rows] = colours(pairs, chosen.colour)[rows]
    mag_err[~np.isfinite(mag)] = np.nan
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
        "band": pa.array(band, pa.string()),
        "ref_mag": pa.array(mag),
        "ref_mag_err": pa.array(mag_err),
        "ref_colour": pa.array(colour),
        **dict.fromkeys(LIGHT_COLUMNS, pa.nulls(n, pa.float32())),
    }
    return conform(pa.table(columns), load("matches"))


def numbers(pairs: pa.Table, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return a column as floats, NaN for nulls or a column that is not there."""
    if name not in pairs.column_names:
        return np.full(pairs.num_rows, np.nan)
    return np.asarray(pairs[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)


def colours(pairs: pa.Table, colour: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return a colour as the catalog gives it, else as the difference of two magnitudes."""
    given = numbers(pairs, colour_column(colour))
    blue, _, red = colour.partition("-")
    difference = numbers(pairs, mag_column(blue)) - numbers(pairs, mag_column(red))
    return np.where(np.isfinite(given), given, difference)


def catalog_values(
    stars: pa.Table, ref_id: npt.NDArray[np.int64], band: str, colour: str | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return magnitude and colour of stars of a catalog by their identifier; NaN where it does not tell.

    Parameters
    ----------
    stars : pyarrow.Table
        Rows of the catalog: the columns of :func:`reference_columns`.
    ref_id : ndarray of int64, shape (n,)
        The stars that are asked for.
    band : str
    colour : str or None
    """
    if stars.num_rows == 0:
        return np.full(len(ref_id), np.nan), np.full(len(ref_id), np.nan)
    known = stars["ref_id"].to_numpy()
    order = np.argsort(known)
    place = order[np.minimum(np.searchsorted(known, ref_id, sorter=order), len(known) - 1)]
    mag = numbers(stars, mag_column(band))
    values = colours(stars, colour) if colour else np.full(len(known), np.nan)
    there = known[place] == ref_id
    return np.where(there, mag[place], np.nan), np.where(there, values[place], np.nan)
