"""Algorithms for the cross-match of lsdb, with a kernel of our own.

lsdb aligns the pixels of both catalogs and brings the margins along; :class:`StripCrossmatch` finds the pairs of each
two partitions, several times faster than lsdb's own tree. It is used as any other algorithm of lsdb:

    left.crossmatch(right, algorithm=StripCrossmatch(5.0), suffix_method="overlapping_columns")
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from lsdb.core.crossmatch.abstract_crossmatch_algorithm import AbstractCrossmatchAlgorithm
from nested_pandas import NestedFrame

from skylake.core.sphere import FloatArray, unit_vectors
from skylake.errors import CatalogError, UsageError
from skylake.sky.match import nearest_within, pairs_within

#: The column of distances, as lsdb's own algorithm names it.
SEPARATION = "_dist_arcsec"


class PartitionCrossmatch(AbstractCrossmatchAlgorithm):  # type: ignore[misc]
    """Base of algorithms that puts the rows of an inner join together in a third of the time of lsdb's.

    Subclasses declare `extra_columns` and have :meth:`perform_crossmatch`, as those of lsdb.
    """

    def crossmatch(
        self,
        crossmatch_args: Any,
        how: str,
        suffixes: tuple[str, str],
        suffix_method: str | None = None,
    ) -> Any:
        """Return the rows of a pair of partitions; see the base class."""
        left, right = crossmatch_args.left_df, crossmatch_args.right_df
        if how != "inner" or left is None or right is None or len(right) == 0:
            return super().crossmatch(crossmatch_args, how, suffixes, suffix_method)
        i, j, extra = self.perform_crossmatch(crossmatch_args)
        # Of plain data frames: those of nested-pandas look at all columns at each step.
        of_left, of_right = pd.DataFrame(left).take(i), pd.DataFrame(right).take(j)
        common = set(left.columns) & set(right.columns) if suffix_method == "overlapping_columns" else None
        for rows, suffix in ((of_left, suffixes[0]), (of_right, suffixes[1])):
            rows.columns = [f"{name}{suffix}" if common is None or name in common else name for name in rows]
        of_right.index = extra.index = of_left.index
        return NestedFrame(pd.concat([of_left, of_right, extra], axis=1))


class StripCrossmatch(PartitionCrossmatch):
    """Pairs within a radius: all, or the nearest.

    Positions that are null or NaN are in no pair. Of equal distances the row that comes first is nearer. Pairs have
    the order of the left rows, and then that of distance.

    Parameters
    ----------
    radius_arcsec : float
    n_nearest : int or None
        So many partners of each row on the left, at most; None for all.

    Raises
    ------
    UsageError
        If a value makes no sense.
    """

    extra_columns = pd.DataFrame({SEPARATION: pd.Series(dtype=pd.ArrowDtype(pa.float64()))})

    def __init__(self, radius_arcsec: float, n_nearest: int | None = 1) -> None:
        super().__init__()
        if not 0.0 < radius_arcsec <= 180.0 * 3600.0:
            raise UsageError(
                f"the radius of a match is above 0 and at most 648000 arcsec, not {radius_arcsec:g}"
            )
        if n_nearest is not None and n_nearest < 1:
            raise UsageError(f"the number of nearest partners is at least 1, not {n_nearest}")
        self.radius_arcsec = float(radius_arcsec)
        self.n_nearest = n_nearest

    def validate(self, left: Any, right: Any) -> None:
        """Check the catalogs, before anything is read; see the base class.

        Raises
        ------
        CatalogError
            If the margin on the right is narrower than the radius, or a column has the name of the distance.
        """
        super().validate(left, right)
        for catalog in (left, right):
            if SEPARATION in catalog.columns:
                raise CatalogError(
                    f"{catalog.name}: the column {SEPARATION} is that of a match already; leave it out or rename it"
                )
        if right.margin is not None:
            _check_margin(right, self.radius_arcsec)

    def perform_crossmatch(self, crossmatch_args: Any) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
        """Match two partitions; see the base class."""
        left = positions(crossmatch_args.left_df, crossmatch_args.left_catalog_info)
        right = positions(crossmatch_args.right_df, crossmatch_args.right_catalog_info)
        if self.n_nearest is None:
            i, j, separation = pairs_within(left, right, self.radius_arcsec)
        else:
            i, j, separation = nearest_within(left, right, self.radius_arcsec, self.n_nearest)
        return i, j, pd.DataFrame({SEPARATION: arrow_series(separation)})


def positions(rows: pd.DataFrame, properties: Any) -> FloatArray:
    """Return the unit vectors of a partition, shape (n, 3); NaN where a coordinate is null or not finite."""
    coordinates = (
        rows[name].to_numpy(float, na_value=np.nan) for name in (properties.ra_column, properties.dec_column)
    )
    with np.errstate(invalid="ignore"):
        return unit_vectors(*coordinates)


def arrow_series(values: FloatArray) -> pd.Series:
    """Return numbers as a column of Arrow, which lsdb's tables are made of."""
    return pd.Series(pd.array(pa.array(values), dtype=pd.ArrowDtype(pa.float64())))


def _check_margin(catalog: Any, radius_arcsec: float) -> None:
    margin = catalog.margin.hc_structure.catalog_info.margin_threshold
    if margin < radius_arcsec:
        raise CatalogError(
            f"{catalog.name}: its margin of {margin:g} arcsec is too narrow for a match of {radius_arcsec:g}"
        )
