"""Kernel that chooses matches among pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray, IntArray

Mask = npt.NDArray[np.bool_]
Ranks = npt.NDArray[np.int8]

#: The rank from which on pairs are no candidates.
REFUSED = 2


@kernel
def choose(
    order: IntArray,
    starts: IntArray,
    codes: IntArray,
    numbers: IntArray,
    separation: FloatArray,
    rank: Ranks,
) -> tuple[Mask, IntArray, FloatArray, FloatArray]:
    """Choose the mutual nearest pairs of each group.

    Parameters
    ----------
    order : ndarray of int64, shape (n,)
        The pairs, group by group.
    starts : ndarray of int64, shape (groups + 1,)
        First place of each group in `order`, and n.
    codes : ndarray of int64, shape (2, n)
        The members of each pair, left and right, counted from 0.
    numbers : ndarray of int64, shape (2, n)
        Their numbers, the smaller of which is preferred at the same distance.
    separation : ndarray, shape (n,)
    rank : ndarray of int8, shape (n,)
        Pairs of a smaller one are better, however far they are; 0 are likely, those from :data:`REFUSED` on never
        chosen.

    Returns
    -------
    chosen : ndarray of bool, shape (n,)
    n_candidates : ndarray of int64, shape (n,)
        Pairs of the left member in its group that are not refused.
    second, rival : ndarray, shape (n,)
        Of chosen pairs the smallest separation of the left member from another partner, whatever its rank, and that of
        any other pair of either member that is likely; NaN where there is none.
    """
    n = order.size
    chosen, n_candidates = np.zeros(n, np.bool_), np.zeros(n, np.int64)
    second, rival = np.full(n, np.nan), np.full(n, np.nan)
    size = 0
    for place in range(n):
        size = max(size, codes[0, place] + 1, codes[1, place] + 1)
    best, count = np.full((2, size), -1), np.zeros(size, np.int64)
    for group in range(starts.size - 1):
        pairs = order[starts[group] : starts[group + 1]]
        for pair in pairs:
            if rank[pair] < REFUSED:
                count[codes[0, pair]] += 1
            for side in range(2):
                member = codes[side, pair]
                held = best[side, member]
                if held >= 0:
                    if rank[pair] != rank[held]:
                        worse = rank[pair] > rank[held]
                    elif separation[pair] != separation[held]:
                        worse = separation[pair] > separation[held]
                    else:
                        worse = numbers[1 - side, pair] >= numbers[1 - side, held]
                    if worse:
                        continue
                best[side, member] = pair
        for pair in pairs:
            one, other = best[0, codes[0, pair]], best[1, codes[1, pair]]
            n_candidates[pair] = count[codes[0, pair]]
            chosen[pair] = one == pair and other == pair and rank[pair] < REFUSED
            for side, held in ((0, one), (1, other)):
                if held == pair or rank[held] >= REFUSED or best[1 - side, codes[1 - side, held]] != held:
                    continue
                if side == 0 and not separation[pair] >= second[held]:
                    second[held] = separation[pair]
                if rank[pair] == 0 and not separation[pair] >= rival[held]:
                    rival[held] = separation[pair]
        for pair in pairs:
            count[codes[0, pair]] = 0
            best[0, codes[0, pair]] = best[1, codes[1, pair]] = -1
    return chosen, n_candidates, second, rival


@kernel
def sort_by_group(codes: IntArray, n_groups: int) -> tuple[IntArray, IntArray]:
    """Return the order of rows by group, which is stable, and the first place of each group, and their number."""
    starts = np.zeros(n_groups + 1, np.int64)
    for code in codes:
        starts[code + 1] += 1
    for group in range(n_groups):
        starts[group + 1] += starts[group]
    free, order = starts[:-1].copy(), np.empty(codes.size, np.int64)
    for row in range(codes.size):
        order[free[codes[row]]] = row
        free[codes[row]] += 1
    return order, starts
