"""What differs over the field of a frame, on the pixels of a map: which of 3 x 3 cells of the image shows each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import tangent_basis, unit_vectors

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Cells along each axis of an image, as ``frames`` numbers them.
SIDE = 3
#: Columns of ``frames`` that tell where an image lies, and those that have a value for each cell.
PLACE_COLUMNS = (
    "ra_deg",
    "dec_deg",
    "pixel_scale_arcsec",
    "rotation_deg",
    "mirrored",
    "width_px",
    "height_px",
)
CELL_COLUMNS = ("flux_limit", "flux_limit_injected")
#: Lenses of wider fields, degrees from the centre to a corner, have pixels of equal angles rather than tangents.
_WIDE_DEG = 40.0


def cell_names(name: str) -> list[str]:
    """Return the columns of ``frames`` that have the value of a column in each cell."""
    return [f"{name}_cell{number}" for number in range(1, SIDE * SIDE + 1)]


def fainter_in_cells(frames: pa.Table, name: str, held: Sequence[Integers], order: int) -> Floats:
    """Return by how many magnitudes a limit is fainter on each pixel of each frame than on the frame as a whole.

    Parameters
    ----------
    frames : pyarrow.Table
        :data:`PLACE_COLUMNS`, the limit and its values in cells.
    name : str
        A total flux of :data:`CELL_COLUMNS`.
    held : sequence of ndarray of int64
        NESTED pixels that each frame holds.
    order : int
        Order of the pixels.

    Returns
    -------
    ndarray of float64
        One frame after the other; 0 where nothing is known.
    """
    pieces = [np.zeros(0)]
    rows = frames.select([*PLACE_COLUMNS, name, *cell_names(name)]).to_pylist()
    for row, pixels in zip(rows, held, strict=True):
        values = np.array([row[one] for one in (name, *cell_names(name))], float)
        known = all(row[one] is not None for one in PLACE_COLUMNS) and np.isfinite(values[0])
        if not known or len(pixels) == 0:
            pieces.append(np.zeros(len(pixels)))
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = -2.5 * np.log10(values[1:] / values[0])
        steps = np.where(np.isfinite(steps), steps, 0.0)
        pieces.append(steps[cells_of_pixels(pixels, order, row)])
    return np.concatenate(pieces)


def cells_of_pixels(pixels: Integers, order: int, row: dict[str, Any]) -> Integers:
    """Return the cells of an image, from 0 along x, then y, that show the centres of NESTED pixels.

    Parameters
    ----------
    pixels : ndarray of int64
    order : int
    row : dict
        :data:`PLACE_COLUMNS`.
    """
    import healpy

    points = np.column_stack(healpy.pix2vec(2**order, pixels, nest=True))
    centre = unit_vectors(row["ra_deg"], row["dec_deg"])
    east, north = tangent_basis(row["ra_deg"], row["dec_deg"])
    xi, eta, depth = points @ east, points @ north, points @ centre
    size = np.array([row["width_px"], row["height_px"]], float)
    scale = np.radians(row["pixel_scale_arcsec"] / 3600.0)
    sine = np.hypot(xi, eta)
    reach = np.tan(np.minimum(np.arctan2(sine, depth), 1.5))
    if 0.5 * np.degrees(scale) * np.hypot(*size) > _WIDE_DEG:
        reach = np.arctan2(sine, depth)
    factor = reach / np.maximum(sine, 1e-12) / scale
    angle = np.radians(row["rotation_deg"])
    up = xi * np.sin(angle) + eta * np.cos(angle)
    right = (eta * np.sin(angle) - xi * np.cos(angle)) * (-1.0 if row["mirrored"] else 1.0)
    column, line = (
        np.clip((0.5 + factor * along / whole) * SIDE, 0, SIDE - 1).astype(np.int64)
        for along, whole in zip((right, up), size, strict=True)
    )
    return np.asarray(line * SIDE + column, np.int64)
