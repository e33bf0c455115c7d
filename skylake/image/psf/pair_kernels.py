"""Kernels of the sparse linear system of overlapping stars: its pairs and its solution.

Pairs are kept as rows below the diagonal: those of star i with earlier stars, whose numbers ascend, are at
``starts[i]`` to ``starts[i + 1]``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.psf.stamp_kernels import Stamps

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_ZERO = np.float32(0.0)
#: A pivot is no smaller than this share of its diagonal element: a factor that is incomplete could make it so.
_LEAST_PIVOT = 1e-3


class PairMatrix(NamedTuple):
    """A symmetric matrix with an element per pair of neighbours.

    Attributes
    ----------
    diagonal : ndarray, shape (n,)
    starts : ndarray of int, shape (n + 1,)
    partners : ndarray of int, shape (pairs,)
    values : ndarray, shape (pairs,)
    """

    diagonal: Doubles
    starts: Places
    partners: Places
    values: Doubles


@kernel
def _near(i: int, j: int, columns: Places, rows: Places, reach: int) -> bool:
    return bool(abs(columns[i] - columns[j]) <= reach and abs(rows[i] - rows[j]) <= reach)


@kernel
def list_pairs(
    columns: Places, rows: Places, cells: Places, across: int, n_cells: int, reach: int, far: int
) -> tuple[Places, Places]:
    """Return `starts` and the earlier stars no farther away than `reach` in column and row.

    Stars are sorted by cell; there are `across` cells in a row of cells, with `far` empty ones or more at each edge,
    and so many cells are no smaller than `reach`.
    """
    n = len(columns)
    first = np.zeros(n_cells + 1, np.int64)
    for i in range(n):
        first[cells[i] + 1] += 1
    for cell in range(n_cells):
        first[cell + 1] += first[cell]
    starts, partners = np.zeros(n + 1, np.int64), np.empty(0, np.int64)
    for writing in (False, True):
        count = 0
        for i in range(n):
            for up in range(far, -1, -1):
                cell = cells[i] - up * across
                end = first[cell + far + 1] if up else i
                for j in range(first[cell - far], end):
                    if _near(i, j, columns, rows, reach):
                        if writing:
                            partners[count] = j
                        count += 1
            starts[i + 1] = count
        if not writing:
            partners = np.empty(count, np.int64)
    return starts, partners


@kernel(fastmath={"contract", "reassoc", "nsz"})
def overlaps(starts: Places, partners: Places, stamps: Stamps, good: Bytes, clean: bool) -> Doubles:
    """Return the sums of the products of the stamps of pairs of stars over good pixels; `clean` says that all are."""
    columns, rows, drawn, half = stamps.columns, stamps.rows, stamps.values, stamps.half
    side = np.int64(2 * half + 1)
    height, width = good.shape
    products = np.zeros(len(partners))
    for i in range(len(columns)):
        for pair in range(starts[i], starts[i + 1]):
            j = partners[pair]
            left = max(columns[i], columns[j]) - half
            start, end = max(left, 0), min(min(columns[i], columns[j]) + half + 1, width)
            top = max(max(rows[i], rows[j]) - half, 0)
            bottom = min(min(rows[i], rows[j]) + half + 1, height)
            for y in range(top, bottom):
                offset_i = (y - rows[i] + half) * side - columns[i] + half
                offset_j = (y - rows[j] + half) * side - columns[j] + half
                total = _ZERO
                if clean:
                    for x in range(start, end):
                        total += (
                            drawn[np.uint64(i), np.uint64(offset_i + x)]
                            * drawn[np.uint64(j), np.uint64(offset_j + x)]
                        )
                else:
                    for x in range(start, end):
                        product = (
                            drawn[np.uint64(i), np.uint64(offset_i + x)]
                            * drawn[np.uint64(j), np.uint64(offset_j + x)]
                        )
                        total += product * np.float32(good[np.uint64(y), np.uint64(x)])
                products[pair] += total
    return products


@kernel
def incomplete_cholesky(matrix: PairMatrix) -> tuple[Doubles, Doubles]:
    """Return the diagonal and the elements of a triangular factor that has elements where the matrix has some.

    It is exact where no three stars overlap all around a ring (Meijerink & van der Vorst 1977, Math. Comp. 31, 148).
    """
    diagonal, starts, partners, values = matrix
    pivots, factor = np.empty(len(diagonal)), np.empty(len(values))
    for i in range(len(diagonal)):
        rest = diagonal[i]
        for place in range(starts[i], starts[i + 1]):
            j = partners[place]
            value, here, there = values[place], starts[i], starts[j]
            while here < place and there < starts[j + 1]:
                if partners[here] == partners[there]:
                    value -= factor[here] * factor[there]
                    here, there = here + 1, there + 1
                elif partners[here] < partners[there]:
                    here += 1
                else:
                    there += 1
            factor[place] = value / pivots[j]
            rest -= factor[place] * factor[place]
        pivots[i] = math.sqrt(max(rest, _LEAST_PIVOT * diagonal[i]))
    return pivots, factor


@kernel
def _precondition(matrix: PairMatrix, pivots: Doubles, factor: Doubles, left: Doubles, out: Doubles) -> None:
    """Solve the system of the incomplete factor and its transpose."""
    starts, partners = matrix.starts, matrix.partners
    for i in range(len(pivots)):
        total = left[i]
        for place in range(starts[i], starts[i + 1]):
            total -= factor[place] * out[partners[place]]
        out[i] = total / pivots[i]
    for i in range(len(pivots) - 1, -1, -1):
        out[i] /= pivots[i]
        for place in range(starts[i], starts[i + 1]):
            out[partners[place]] -= factor[place] * out[i]


@kernel
def _multiply(matrix: PairMatrix, vector: Doubles, out: Doubles) -> None:
    diagonal, starts, partners, values = matrix
    for i in range(len(diagonal)):
        total = diagonal[i] * vector[i]
        for place in range(starts[i], starts[i + 1]):
            total += values[place] * vector[partners[place]]
            out[partners[place]] += values[place] * vector[i]
        out[i] = total


@kernel
def conjugate_gradients(
    matrix: PairMatrix,
    pivots: Doubles,
    factor: Doubles,
    right: Doubles,
    start: Doubles,
    enough: float,
    most: int,
) -> tuple[Doubles, int]:
    """Solve a symmetric sparse system (Hestenes & Stiefel 1952), preconditioned by :func:`incomplete_cholesky`.

    Parameters
    ----------
    enough : float
        Sum of squares at which to stop: of what is wrong with each unknown, in units of its error for noise of 1.

    Returns
    -------
    solution : ndarray
    steps : int
        Steps that were taken; `most` where it did not converge.
    """
    n = len(right)
    solution, image, towards = start.copy(), np.empty(n), np.empty(n)
    _multiply(matrix, solution, image)
    left = right - image
    _precondition(matrix, pivots, factor, left, towards)
    direction = towards.copy()
    power = np.dot(left, towards)
    for step in range(most):
        if power <= enough:
            return solution, step
        _multiply(matrix, direction, image)
        length = power / np.dot(direction, image)
        for k in range(n):
            solution[k] += length * direction[k]
            left[k] -= length * image[k]
        _precondition(matrix, pivots, factor, left, towards)
        before, power = power, np.dot(left, towards)
        ratio = power / before
        for k in range(n):
            direction[k] = towards[k] + ratio * direction[k]
    return solution, most
