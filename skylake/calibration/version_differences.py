"""Differences of two versions of a calibration, frame by frame and summed up by night."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.robust import sigma_mad

Floats = npt.NDArray[np.float64]

#: Columns of ``zeropoints`` that are compared.
COLUMNS = ("frame_id", "camera", "night", "band", "mjd_mid", "version", "zp", "colour_term")
_KEY = ("camera", "night", "band")
#: Columns of the table of differences.
DIFFERENCE_COLUMNS = (
    *_KEY,
    "n_both",
    "n_only_first",
    "n_only_second",
    "n_other_band",
    "median_mag",
    "scatter_mag",
    "largest_mag",
    "largest_frame_id",
    "colour_term",
)


@dataclass(frozen=True, slots=True)
class Differences:
    """Frames of two versions; arrays of shape (n,).

    Attributes
    ----------
    camera, band, second_band : ndarray of str
        Bands in the first version and in the second; that of the other where a version has no row.
    night, frame_id : ndarray of int
    mjd : ndarray
        Mid-exposure, UTC.
    has_first, has_second : ndarray of bool
        Which versions have a zeropoint.
    zp, colour_term : ndarray
        Second version minus first, NaN where one has no zeropoint or the bands differ.
    """

    camera: npt.NDArray[np.object_]
    band: npt.NDArray[np.object_]
    second_band: npt.NDArray[np.object_]
    night: npt.NDArray[np.int64]
    frame_id: npt.NDArray[np.int64]
    mjd: Floats
    has_first: npt.NDArray[np.bool_]
    has_second: npt.NDArray[np.bool_]
    zp: Floats
    colour_term: Floats


def difference(zeropoints: pa.Table, first: int, second: int) -> Differences:
    """Compare the zeropoints of two versions.

    Parameters
    ----------
    zeropoints : pyarrow.Table
        :data:`COLUMNS` of both versions of one catalog.
    first, second : int
        The versions.
    """
    one, other = (zeropoints.filter(pc.equal(zeropoints["version"], version)) for version in (first, second))
    frame_id = np.unique(np.concatenate([table["frame_id"].to_numpy() for table in (one, other)]))
    places = [pc.index_in(pa.array(frame_id), table["frame_id"]) for table in (one, other)]

    def both(name: str) -> tuple[pa.Array, pa.Array]:
        left, right = (table[name].take(place) for table, place in zip((one, other), places, strict=True))
        return left.combine_chunks(), right.combine_chunks()

    def either(name: str) -> pa.Array:
        return pc.coalesce(*both(name))

    (zp, other_zp), (term, other_term) = (
        tuple(np.array(values.to_numpy(zero_copy_only=False), float) for values in both(name))
        for name in ("zp", "colour_term")
    )
    band, other_band = both("band")
    first_band, second_band = (
        np.array(pc.fill_null(pc.coalesce(left, right), "").to_pylist(), object)
        for left, right in ((band, other_band), (other_band, band))
    )
    same = first_band == second_band
    return Differences(
        np.array(either("camera").to_pylist(), object),
        first_band,
        second_band,
        either("night").to_numpy(zero_copy_only=False).astype(np.int64),
        frame_id,
        either("mjd_mid").to_numpy(zero_copy_only=False),
        np.isfinite(zp),
        np.isfinite(other_zp),
        np.where(same, other_zp - zp, np.nan),
        np.where(same, other_term - term, np.nan),
    )


def summed_up(found: Differences) -> list[dict[str, Any]]:
    """Return a row of :data:`DIFFERENCE_COLUMNS` for each camera, night and band of the first version."""
    keys = list(zip(found.camera.tolist(), found.night.tolist(), found.band.tolist(), strict=True))
    codes = {key: number for number, key in enumerate(sorted(set(keys)))}
    group = np.array([codes[key] for key in keys], np.intp)
    order = np.argsort(group, kind="stable")
    pieces = np.split(order, np.searchsorted(group[order], np.arange(1, len(codes)))) if codes else []
    return [
        dict(zip(_KEY, key, strict=True)) | _row(found, rows) for key, rows in zip(codes, pieces, strict=True)
    ]


def _row(found: Differences, rows: npt.NDArray[np.intp]) -> dict[str, Any]:
    first, second, zp = found.has_first[rows], found.has_second[rows], found.zp[rows]
    both = first & second
    known = np.isfinite(zp)
    row: dict[str, Any] = {
        "n_both": int(both.sum()),
        "n_only_first": int((first & ~second).sum()),
        "n_only_second": int((second & ~first).sum()),
        "n_other_band": int((both & ~known).sum()),
    }
    terms = found.colour_term[rows][np.isfinite(found.colour_term[rows])]
    row["colour_term"] = float(np.median(terms)) if terms.size else None
    if not known.any():
        return row | dict.fromkeys(("median_mag", "scatter_mag", "largest_mag", "largest_frame_id"))
    largest = int(np.nanargmax(np.abs(zp)))
    return row | {
        "median_mag": float(np.median(zp[known])),
        "scatter_mag": sigma_mad(zp[known]) if known.sum() > 1 else None,
        "largest_mag": float(zp[largest]),
        "largest_frame_id": int(found.frame_id[rows][largest]),
    }


def changed_bands(found: Differences) -> dict[tuple[str, str, str], int]:
    """Return how many frames have changed their band, by camera, first and second band."""
    rows = np.flatnonzero(found.has_first & found.has_second & (found.band != found.second_band))
    return dict(Counter((found.camera[i], found.band[i], found.second_band[i]) for i in rows))
