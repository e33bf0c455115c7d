"""The distributed spatial join: detections of a night with a reference catalog, by lsdb.

lsdb aligns the pixels of the two catalogs, brings the margin of the reference catalog along and runs
the algorithm below on every pair of partitions. It gives all pairs within the radius; who belongs to
whom is decided afterwards over whole frames, which straddle pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from skylake.core.sphere import (
    FloatArray,
    arcsec_of_chord,
    julian_epoch,
    tangent_motion,
    unit_vectors,
)
from skylake.errors import CatalogError
from skylake.sky.hats import read_collection, read_properties, require_own_parts
from skylake.sky.hats_compiled import keep_compiled
from skylake.sky.lake_catalogs import reading
from skylake.sky.match import pairs_within
from skylake.sky.strip_crossmatch import PartitionCrossmatch, arrow_series, positions
from skylake.sky.strip_kernels import measure_moved

#: Columns that the join needs of the left side, and gives back with every pair.
LEFT_COLUMNS = ("frame_id", "source_no", "mjd_mid", "ra_deg", "dec_deg")
_RIGHT_SUFFIX = "_ref"
_EXTRA = {
    "separation_arcsec": pa.float64(),
    "moved_ra_deg": pa.float64(),
    "moved_dec_deg": pa.float64(),
}


class PairsWithin(PartitionCrossmatch):
    """All pairs within a radius, the right side moved by proper motion to the epoch of the left.

    Parameters
    ----------
    radius_arcsec : float
    epoch : float
        Julian epoch of the positions on the right.
    proper_motion : (str, str) or None
        Columns of the right side, mas/yr.
    """

    extra_columns = pd.DataFrame(
        {name: pd.Series(dtype=pd.ArrowDtype(kind)) for name, kind in _EXTRA.items()}
    )

    def __init__(self, radius_arcsec: float, epoch: float, proper_motion: tuple[str, str] | None) -> None:
        super().__init__()
        self.radius_arcsec = radius_arcsec
        self.epoch = epoch
        self.proper_motion = proper_motion

    def perform_crossmatch(self, crossmatch_args: Any) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
        """Match two partitions; see the base class."""
        left, right = crossmatch_args.left_df, crossmatch_args.right_df
        stars = _PartitionStars(right, self.epoch, self.proper_motion)
        mjd = left["mjd_mid"].to_numpy(float)
        vectors = positions(left, crossmatch_args.left_catalog_info)
        # Within a night no star moves by a pixel: pairs are searched night by night at its mean epoch, a
        # little wider, and measured at the epoch of each frame.
        day = np.floor(mjd) if stars.is_moving else np.zeros(len(mjd))
        found = [(np.zeros(0, np.intp), np.zeros(0, np.intp))]
        for one in np.unique(day):
            rows = np.flatnonzero(day == one)
            reach = self.radius_arcsec + stars.daily_motion_arcsec
            i, j, _ = pairs_within(vectors[rows], stars.vectors_at(mjd[rows].mean()), reach)
            found.append((rows[i], j))
        i, j = (np.concatenate(rows) for rows in zip(*found, strict=True))
        length, ra, dec = stars.measure(vectors, i, j, mjd)
        separation = arcsec_of_chord(length)
        keep = separation <= self.radius_arcsec
        values = {
            "separation_arcsec": separation,
            "moved_ra_deg": ra,
            "moved_dec_deg": dec,
        }
        extra = pd.DataFrame({name: arrow_series(value[keep]) for name, value in values.items()})
        return i[keep], j[keep], extra


class _PartitionStars:
    """Positions of a partition of catalog stars at any epoch."""

    def __init__(self, frame: pd.DataFrame, epoch: float, proper_motion: tuple[str, str] | None) -> None:
        self.epoch = epoch
        self.ra, self.dec = (frame[name].to_numpy(float, na_value=np.nan) for name in ("ra_deg", "dec_deg"))
        self._vectors = unit_vectors(self.ra, self.dec)
        self._motion = np.zeros_like(self._vectors)
        self.daily_motion_arcsec = 0.0
        if proper_motion is not None:
            pm_ra, pm_dec = (
                np.nan_to_num(frame[name].to_numpy(float, na_value=np.nan)) for name in proper_motion
            )
            fastest = float(np.max(np.hypot(pm_ra, pm_dec), initial=0.0))
            self.daily_motion_arcsec = fastest / 1000.0 / 365.25
            if fastest > 0.0:
                self._motion = tangent_motion(self.ra, self.dec, pm_ra, pm_dec)

    @property
    def is_moving(self) -> bool:
        """Whether any star has a proper motion."""
        return self.daily_motion_arcsec > 0.0

    def vectors_at(self, mjd: float) -> FloatArray:
        """Return the unit vectors of all stars at an instant, shape (m, 3)."""
        if not self.is_moving:
            return self._vectors
        moved = self._vectors + (float(julian_epoch(mjd)) - self.epoch) * self._motion
        return np.asarray(moved / np.sqrt(np.einsum("ij,ij->i", moved, moved))[:, None])

    def measure(
        self, left: FloatArray, i: np.ndarray, j: np.ndarray, mjd: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return straight distance, right ascension and declination of the stars of pairs, when they were seen."""
        years = julian_epoch(mjd[i]) - self.epoch
        found: tuple[FloatArray, FloatArray, FloatArray] = measure_moved(
            left, i, j, years, (self.ra, self.dec, self._vectors, self._motion)
        )
        return found


def join_catalog(
    detections: Path,
    collection: Path,
    left_columns: Sequence[str],
    right_columns: Sequence[str],
    radius_arcsec: float,
) -> pa.Table:
    """Return all pairs of detections and catalog stars within a radius.

    Parameters
    ----------
    detections : Path
        HATS catalog of detections with the columns of :data:`LEFT_COLUMNS`.
    collection : Path
        Reference catalog with a margin cache.
    left_columns, right_columns : sequence of str
        More columns to carry along. Those of the right get the suffix ``_ref`` where names meet, as its
        ``ra_deg`` and ``dec_deg`` do.
    radius_arcsec : float

    Raises
    ------
    CatalogError
        If the margin cache of the catalog is narrower than the radius.
    """
    import lsdb

    properties = read_collection(collection)
    margin = float(properties["skylake_margin_arcsec"])
    if radius_arcsec > margin:
        raise CatalogError(
            f"{collection.name}: the match radius of {radius_arcsec:g} arcsec exceeds the catalog's margin of "
            f"{margin:g}; `skylake calibrate` widens it"
        )
    catalog = read_properties(collection / properties["hats_primary_table_url"])
    moving = ("pm_ra_mas_yr", "pm_dec_mas_yr")
    keep_compiled()
    require_own_parts(collection)
    left = lsdb.open_catalog(detections, columns=list(dict.fromkeys([*LEFT_COLUMNS, *left_columns])))
    # The option is for Arrow, which lsdb reads files with: else a bit that was flipped would be a wrong magnitude.
    right = lsdb.open_catalog(
        collection,
        columns=list(dict.fromkeys(["ra_deg", "dec_deg", *moving, *right_columns])),
        page_checksum_verification=True,
    )
    algorithm = PairsWithin(radius_arcsec, float(catalog["skylake_epoch"]), moving)
    try:
        matched = left.crossmatch(
            right,
            algorithm=algorithm,
            suffixes=("", _RIGHT_SUFFIX),
            suffix_method="overlapping_columns",
            log_changes=False,
            require_right_margin=True,
        )
    except RuntimeError as error:
        if "do not overlap" not in str(error):
            raise
        # A camera may look where the catalog has no star.
        return _no_pairs(detections, list(left.columns), collection, list(right.columns))
    # A night is one task: its partitions are computed here, not sent back to a scheduler that may be
    # waiting for this very task.
    with dask.config.set(scheduler="synchronous"), reading(collection):
        rows = matched.compute(progress_bar=False)
    return pa.Table.from_pandas(rows, preserve_index=False)


def _no_pairs(
    detections: Path, left_columns: Sequence[str], collection: Path, right_columns: Sequence[str]
) -> pa.Table:
    """Return what a join gives that finds nothing."""
    left, right = (
        pq.read_schema(root / "dataset" / "_common_metadata")
        for root in (detections, collection / collection.name)
    )
    fields = [(name, left.field(name).type) for name in left_columns]
    fields += [
        (name + _RIGHT_SUFFIX if name in left_columns else name, right.field(name).type)
        for name in right_columns
    ]
    return pa.schema([*fields, *_EXTRA.items()]).empty_table()
