"""Kernels that let stars vote for the zenith in an image of the whole sky."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


class Voters(NamedTuple):
    """Stars that vote.

    Attributes
    ----------
    distance : ndarray, shape (k, n)
        Radius of stars about the zenith in focal lengths, for each projection.
    azimuth : ndarray, shape (n,)
        Of the same stars, radians.
    ranks : ndarray of int, shape (2, n)
        First and last (excluded) of the detections that each star may be.
    """

    distance: Floats
    azimuth: Floats
    ranks: Places


@kernel(error_model="numpy")
def vote(
    voters: Voters,
    x: Floats,
    y: Floats,
    focal: Floats,
    n_turns: int,
    window: Floats,
    cell: float,
    best: Floats,
) -> None:
    """Set `best` to score, x and y of the best zenith for each projection, focal length, parity and turn.

    Parameters
    ----------
    voters : Voters
    x, y : ndarray, shape (m,)
        Detections, pixels, the brightest first.
    focal : ndarray, shape (f,)
    n_turns : int
    window : ndarray, shape (4,)
        Least and greatest x and y of the zenith.
    cell : float
        Side of the cells that votes are counted in; two by two of them count together.
    best : ndarray, shape (k, f, 2, n_turns, 3)

    Notes
    -----
    A star votes once in a cell, however many detections lead there, so that a crowd of detections is no more than one.
    The score is the logarithm of how much likelier the count is for a right place than by chance (Poisson).
    """
    distance, azimuth, ranks = voters
    n_columns = int((window[1] - window[0]) / cell) + 1
    n_rows = int((window[3] - window[2]) / cell) + 1
    counts = np.empty((n_rows + 1, n_columns + 1), np.int32)
    column_of, row_of = x / cell, y / cell
    voted = np.empty((n_rows + 1, n_columns + 1), np.int32)
    for kind in range(distance.shape[0]):
        for length in range(len(focal)):
            for side in range(2):
                hand = 1.0 if side == 1 else -1.0
                for turn in range(n_turns):
                    counts[:] = 0
                    voted[:] = -1
                    for star in range(len(azimuth)):
                        angle = azimuth[star] + 2.0 * math.pi * turn / n_turns
                        radius = focal[length] * distance[kind, star]
                        left = (window[0] + hand * radius * math.sin(angle)) / cell
                        low = (window[2] + radius * math.cos(angle)) / cell
                        for other in range(ranks[0, star], ranks[1, star]):
                            across, upward = column_of[other] - left, row_of[other] - low
                            if 0.0 <= across < n_columns and 0.0 <= upward < n_rows:
                                row, column = np.uint64(upward), np.uint64(across)
                                if voted[row, column] != star:
                                    voted[row, column] = star
                                    counts[row, column] += 1
                    found = best[kind, length, side, turn]
                    _count(counts, n_rows, n_columns, window, cell, found)


@kernel(error_model="numpy")
def _count(
    counts: npt.NDArray[np.int32], n_rows: int, n_columns: int, window: Floats, cell: float, best: Floats
) -> None:
    """Set `best` to score, x and y of the two by two cells with most votes."""
    total, most, at_row, at_column = 0, 0, 0, 0
    for row in range(n_rows):
        for column in range(n_columns):
            total += counts[row, column]
            here = (
                counts[row, column]
                + counts[row, column + 1]
                + counts[row + 1, column]
                + counts[row + 1, column + 1]
            )
            if here > most:
                most, at_row, at_column = here, row, column
    expected = 4.0 * max(total, 1) / (n_rows * n_columns)
    best[0] = most * math.log(most / expected) - (most - expected) if most > expected else 0.0
    best[1] = window[0] + (at_column + 1.0) * cell
    best[2] = window[2] + (at_row + 1.0) * cell
