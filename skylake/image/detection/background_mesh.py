"""Interpolation of the background from tiles and cells to pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.frame import Pixels
from skylake.image.detection.surface_kernels import add_cells, expand_splines

Floats = npt.NDArray[np.float64]
Edges = npt.NDArray[np.int64]


def mesh_edges(shape: tuple[int, ...], size: int) -> tuple[Edges, Edges]:
    """Return the edges of equal cells of about a size, along y and along x."""
    return cell_edges(shape[0], size), cell_edges(shape[1], size)


def cell_edges(length: int, size: int) -> Edges:
    """Return the edges of equal cells of about a size, from 0 to the length."""
    return np.linspace(0, length, max(1, round(length / size)) + 1).astype(np.int64)


def spline_surfaces(
    level: Floats, noise: Floats, edges: tuple[Edges, Edges], least_noise: float
) -> tuple[Pixels, Pixels]:
    """Expand level and noise of tiles to pixels by natural bicubic splines through their centres.

    Beyond the outermost centres the surface goes on straight.

    Parameters
    ----------
    level, noise : ndarray, shape (n, m)
        Finite.
    edges : tuple of ndarray of int64, shapes (n + 1,) and (m + 1,)
        Edges of the tiles along y and along x, pixels.
    least_noise : float
        Floor of the noise.

    Returns
    -------
    level, noise : ndarray of float32, shape (height, width)
    """
    rows, columns = edges
    knot, weights = _spline_weights(rows)
    bend = _curvatures(len(rows) - 1)
    parts: list[Pixels] = []
    for values in (level, noise):
        for part in (values, bend @ values):
            wide = _expand_along(part, columns)
            # One row more, whose weight is nothing, so that a single tile needs no rule of its own; rows that lie in
            # one piece, or the kernel would take ten times as long.
            parts.append(np.ascontiguousarray(np.concatenate([wide, wide[-1:]]), np.float32))
    shape = int(rows[-1]), int(columns[-1])
    levels, noises = np.empty(shape, np.float32), np.empty(shape, np.float32)
    expand_splines(
        (parts[0], parts[1]), (parts[2], parts[3]), knot, weights, np.float32(least_noise), levels, noises
    )
    return levels, noises


def shift_by_cells(level: Pixels, signal: Pixels, excess: Floats, edges: tuple[Edges, Edges]) -> None:
    """Add the values of cells, interpolated linearly between their centres, to a level, and take them off the signal.

    Both are changed in place.
    """
    rows, columns = edges
    place = _place(columns, np.arange(columns[-1]))
    nodes = np.arange(len(columns) - 1)
    across = np.maximum(0.0, 1.0 - np.abs(np.clip(place, 0.0, nodes[-1])[None, :] - nodes[:, None]))
    wide = excess @ across
    down = np.clip(_place(rows, np.arange(rows[-1])), 0.0, len(rows) - 2)
    cell = down.astype(np.int64)
    share = (down - cell).astype(np.float32)
    added = np.ascontiguousarray(np.concatenate([wide, wide[-1:]]), np.float32)
    add_cells(level, signal, added, cell, share)


def values_of_cells(cells: Floats, edges: tuple[Edges, Edges], x: Floats, y: Floats) -> Floats:
    """Return the values of cells at places, as :func:`shift_by_cells` adds them.

    Parameters
    ----------
    cells : ndarray, shape (n, m)
    edges : tuple of ndarray of int64, shapes (n + 1,) and (m + 1,)
    x, y : ndarray, shape (k,)
        Pixels.
    """
    (low, down), (left, across) = (
        _before(np.clip(_place(edge, at), 0.0, len(edge) - 2)) for edge, at in zip(edges, (y, x), strict=True)
    )
    below, right = np.minimum(low + 1, cells.shape[0] - 1), np.minimum(left + 1, cells.shape[1] - 1)
    upper = cells[low, left] + across * (cells[low, right] - cells[low, left])
    lower = cells[below, left] + across * (cells[below, right] - cells[below, left])
    return np.asarray(upper + down * (lower - upper))


def _before(place: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the cell before each place, and how far beyond it that is."""
    cell = place.astype(np.intp)
    return cell, place - cell


def _place(edges: Edges, pixels: Floats | Edges) -> Floats:
    """Return where pixels are between the centres of cells, in cells; beyond the outermost too."""
    centres = 0.5 * (edges[:-1] + edges[1:] - 1)
    if len(centres) == 1:
        return np.zeros(len(pixels))
    k = np.clip(np.searchsorted(centres, pixels, side="right") - 1, 0, len(centres) - 2)
    return np.asarray(k + (pixels - centres[k]) / np.diff(centres)[k])


def _spline_weights(edges: Edges) -> tuple[npt.NDArray[np.int64], Pixels]:
    """Return for each pixel the knot before it, and the weights of values and curvatures of both knots."""
    place = _place(edges, np.arange(edges[-1]))
    knot = np.clip(place.astype(np.int64), 0, max(0, len(edges) - 3))
    b = place - knot
    a = 1.0 - b
    # Cubic between the knots (Press et al. 1992, Numerical Recipes, 3.3), straight beyond the outermost.
    c, d = (np.where(part < 0.0, -part, part**3 - part) / 6.0 for part in (a, b))
    return knot, np.stack([a, b, c, d], axis=1).astype(np.float32)


def _expand_along(values: Floats, edges: Edges) -> Floats:
    """Return values at knots, shape (m, knots), expanded along x to pixels."""
    n = len(edges) - 1
    knot, weights = _spline_weights(edges)
    after = np.minimum(knot + 1, n - 1)
    bend = values @ _curvatures(n).T
    parts = (values[:, knot], values[:, after], bend[:, knot], bend[:, after])
    return sum((weights[:, i] * part for i, part in enumerate(parts)), np.zeros(1))


def _curvatures(n: int) -> Floats:
    """Return the matrix from values at n knots to second derivatives of the natural spline there."""
    bend = np.zeros((n, n))
    if n > 2:
        second = np.eye(n)[:-2] - 2.0 * np.eye(n)[1:-1] + np.eye(n)[2:]
        inner = 4.0 * np.eye(n - 2) + np.eye(n - 2, k=1) + np.eye(n - 2, k=-1)
        bend[1:-1] = 6.0 * np.linalg.solve(inner, second)
    return bend
