"""Statistics of fluxes and magnitudes in each band, as arrays of their own while rows are made and merged.

In tables the band in which a row first had magnitudes has plain columns, and others are nested in ``more_bands``. Here
each band ``V`` has the columns ``n_flux@V``, ``mag_mean@V`` and so on, one value for each row: 0 of a count and NaN of
all else where a row has nothing in the band. An unknown band is the empty text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.schema import arrow_schema, load

Columns = dict[str, npt.NDArray[Any]]
Integers = npt.NDArray[np.int64]

#: The nested column of bands beyond the first.
MORE_BANDS = "more_bands"
#: Columns that rows have in each band; counts are 0 and all others NaN or null where there is nothing.
COUNTS = ("n_flux", "n_good", "n_good_nights")
#: A cluster is of one night, and has neither of these.
_OF_NIGHTS = ("n_good_nights", "mag_chi2_nights")
OF_BANDS = (
    "version",
    *COUNTS,
    "flux_adu_per_s",
    "flux_scatter",
    "mag_mean",
    "mag_random_err",
    "mag_systematic_err",
    "mag_chi2",
    "mag_chi2_nights",
    "mag_scatter",
)


def in_band(name: str, band: str) -> str:
    """Return the name of the column of a band."""
    return f"{name}@{band}"


def bands_of(columns: Mapping[str, Any]) -> list[str]:
    """Return the bands that columns have, in order."""
    return sorted(name.partition("@")[2] for name in columns if name.startswith("n_flux@"))


def of_band(columns: Mapping[str, Any], band: str) -> Columns:
    """Return the columns of a band under their plain names."""
    return {name: columns[in_band(name, band)] for name in OF_BANDS}


def with_bands(columns: Columns, bands: list[str]) -> Columns:
    """Return columns with those of more bands, in which rows have nothing."""
    n = len(columns["band"])
    new = {
        in_band(name, band): np.zeros(n, np.int64) if name in COUNTS else np.full(n, np.nan)
        for band in bands
        if in_band("n_flux", band) not in columns
        for name in OF_BANDS
    }
    return columns | new


def split_bands(rows: pa.Table) -> Columns:
    """Return the columns of each band of rows of a table, and ``band``: that of the plain columns."""
    own = np.array([band or "" for band in rows["band"].to_pylist()], object)
    nested = rows[MORE_BANDS].combine_chunks()
    names = [name for name in OF_BANDS if name in rows.column_names]
    lists = {name: pc.struct_field(nested, name) for name in ("band", *names)}
    lengths = lists["band"].value_lengths().fill_null(0).to_numpy()
    row = np.repeat(np.arange(rows.num_rows), lengths)
    others = np.array(lists["band"].flatten().to_pylist(), object)
    made = with_bands({"band": own}, sorted({*own.tolist(), *others.tolist()}))
    for name in names:
        for values, bands, place in (
            (rows[name].combine_chunks(), own, np.arange(rows.num_rows)),
            (lists[name].flatten(), others, row),
        ):
            known = np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), float)
            for band in set(bands.tolist()):
                mine = bands == band
                target = made[in_band(name, band)]
                target[place[mine]] = np.nan_to_num(known[mine]) if name in COUNTS else known[mine]
    if not set(_OF_NIGHTS) <= set(names):
        for band in bands_of(made):
            has = made[in_band("n_good", band)] > 0
            made[in_band("n_good_nights", band)] = has.astype(np.int64)
            made[in_band("mag_chi2_nights", band)] = np.where(has, 0.0, np.nan)
    return made


def join_bands(columns: Mapping[str, Any], table: str) -> dict[str, pa.Array]:
    """Return the columns of bands as ``clusters`` and ``objects`` have them.

    Parameters
    ----------
    columns : mapping
        Those of each band, and ``band``: the one that has plain columns.
    table : str
        Whose nested column is made.
    """
    own, bands = np.asarray(columns["band"], object), bands_of(columns)
    kind = arrow_schema(load(table)).field(MORE_BANDS).type
    made: dict[str, pa.Array] = {
        "band": pa.array(own, pa.string(), mask=own == ""),
        **{name: _chosen(columns, name, own, bands) for name in OF_BANDS if kind.get_field_index(name) >= 0},
    }
    others = [
        np.flatnonzero(
            (own != band) & (columns[in_band("n_flux", band)] + columns[in_band("n_good", band)] > 0)
        )
        for band in bands
    ]
    row = np.concatenate([np.zeros(0, np.int64), *others])
    order = np.argsort(row, kind="stable")
    starts = np.searchsorted(row[order], np.arange(len(own) + 1)).astype(np.int32)
    lists = []
    for field in kind:
        values = [
            np.full(len(rows), band, object)
            if field.name == "band"
            else columns[in_band(field.name, band)][rows]
            for band, rows in zip(bands, others, strict=True)
        ]
        flat = np.concatenate(values)[order] if values else np.zeros(0)
        lists.append(_lists(flat, starts, field.type))
    nothing = pa.array(np.diff(starts) == 0)
    made[MORE_BANDS] = pa.StructArray.from_arrays(lists, fields=list(kind), mask=nothing)
    return made


def _chosen(columns: Mapping[str, Any], name: str, own: npt.NDArray[Any], bands: list[str]) -> pa.Array:
    """Return the values of each row in its own band."""
    values = np.zeros(len(own)) if name in COUNTS else np.full(len(own), np.nan)
    for band in bands:
        values = np.where(own == band, columns[in_band(name, band)], values)
    return _array(values, pa.int64() if name in (*COUNTS, "version") else pa.float64())


def _lists(values: npt.NDArray[Any], starts: npt.NDArray[np.int32], kind: pa.DataType) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(starts), _array(values, kind.value_type), type=kind)


def _array(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Return values as an array: NaN is null."""
    return pa.array(values, from_pandas=True).cast(kind)


def main_band(columns: Columns) -> npt.NDArray[Any]:
    """Return the band of plain columns: the one that they had, or that of most magnitudes where this one has none."""
    own: npt.NDArray[Any] = columns["band"].copy()
    bands = bands_of(columns)
    if not bands:
        return own
    counts = np.column_stack([columns[in_band("n_good", band)] for band in bands])
    place = np.searchsorted(bands, own.astype(str))
    rows = np.arange(len(own))
    changes = (counts[rows, place] == 0) & (counts.max(axis=1) > 0)
    own[changes] = np.array(bands, object)[counts.argmax(axis=1)[changes]]
    return own


def first_band(columns: Columns, preferred: list[str]) -> npt.NDArray[Any]:
    """Return the band of each cluster that has plain columns: the first with magnitudes, else that of most fluxes.

    Parameters
    ----------
    columns : dict
        Those of each band.
    preferred : list of str
        Bands, the first one first.
    """
    bands = bands_of(columns)
    fluxes = np.column_stack([columns[in_band("n_flux", band)] for band in bands])
    own: npt.NDArray[Any] = np.array(bands, object)[fluxes.argmax(axis=1)]
    for band in reversed(preferred):
        own[columns[in_band("n_good", band)] > 0] = band
    return own
