"""Mask bits of the pixels of tiles, circles and footprints."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Bytes = npt.NDArray[np.uint8]


@kernel
def tile_bits(mask: Bytes, tile: int, tiles: Bytes) -> None:
    """Set `tiles` to the bits that occur in squares of `tile` pixels."""
    height, width = mask.shape
    line = np.empty(width, np.uint8)
    for first in range(0, height, tile):
        line[:] = 0
        for row in range(first, min(first + tile, height)):
            for column in range(width):
                line[column] |= mask[row, column]
        for column in range(width):
            tiles[first // tile, column // tile] |= line[column]


@kernel
def count_bits(mask: Bytes, sets: Bytes) -> npt.NDArray[np.int64]:
    """Return how many pixels have any of the bits of each of some sets, shape (sets,)."""
    counts = np.zeros(sets.size, np.int64)
    for row in range(mask.shape[0]):
        line = mask[row]
        for number in range(sets.size):
            bits, some = sets[number], 0
            for column in range(line.size):
                some += (line[column] & bits) != 0
            counts[number] += some
    return counts


@kernel
def footprint_bits(
    mask: Bytes, tiles: Bytes, tile: int, bits: int, segments: npt.NDArray[np.int32], held: Bytes
) -> None:
    """Set `held`, shape (n + 1,), to those of some bits that the pixels of each segment have; 0 is no segment."""
    height, width = mask.shape
    for row in range(height):
        for place in range(tiles.shape[1]):
            if tiles[row // tile, place] & bits:
                for column in range(place * tile, min(place * tile + tile, width)):
                    here = mask[row, column] & bits
                    if here:
                        held[segments[row, column]] |= here


@kernel
def circle_bits(
    mask: Bytes,
    tiles: Bytes,
    tile: int,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    radius: float,
    held: Bytes,
) -> None:
    """Set `held`, shape (n,), to the bits of the pixels whose centres are in circles."""
    height, width = mask.shape
    for source in range(len(x)):
        px, py, bits = x[source], y[source], np.uint8(0)
        rows = range(max(0, math.ceil(py - radius)), min(height, math.floor(py + radius) + 1))
        columns = range(max(0, math.ceil(px - radius)), min(width, math.floor(px + radius) + 1))
        near = np.uint8(0)
        if len(rows) and len(columns):
            for up in range(rows.start // tile, (rows.stop - 1) // tile + 1):
                for along in range(columns.start // tile, (columns.stop - 1) // tile + 1):
                    near |= tiles[up, along]
        if near:
            for row in rows:
                for column in columns:
                    if (column - px) ** 2 + (row - py) ** 2 <= radius * radius:
                        bits |= mask[row, column]
        held[source] = bits
