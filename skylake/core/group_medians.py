"""Medians of groups of values."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import FloatArray

Places = npt.NDArray[np.integer]

#: Of fewer groups, as of the light curves of one star, numpy is faster than numba is loaded.
_FEW = 200


def group_medians(values: npt.NDArray[Any], starts: Places, order: Any = None) -> FloatArray:
    """Return the median of the finite values of each group; NaN for one without any.

    Parameters
    ----------
    values : ndarray, shape (n,)
    starts : ndarray of int, shape (n_groups + 1,)
        Where each group starts, and the last one ends.
    order : ndarray of int, shape (n,), or None
        Where the values are in the order of their groups; None if they are in this order.
    """
    order = np.arange(len(values), dtype=np.int32) if order is None else order
    starts = np.asarray(starts, np.int64)
    if len(starts) > _FEW:
        from skylake.core.group_means import finite_medians

        return np.asarray(finite_medians(values, starts, order))
    groups = (values[order[low:high]] for low, high in pairwise(starts.tolist()))
    finite = (group[np.isfinite(group)] for group in groups)
    return np.array([np.median(group) if len(group) else np.nan for group in finite])


def medians_of(values: npt.NDArray[Any], group: npt.NDArray[np.intp], n_groups: int) -> FloatArray:
    """Return the median of the finite values of each group, shape (n_groups,); NaN for one without any.

    Parameters
    ----------
    values, group : ndarray, shape (n,)
        In any order.
    n_groups : int
    """
    order = np.argsort(group, kind="stable")
    return group_medians(values, np.searchsorted(group[order], np.arange(n_groups + 1)), order)
