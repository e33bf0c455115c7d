"""What kernels of sums have in common: the sums of a pixel, of whole rows, and squares around many sources.

Sums are collected in an array of six numbers: the signal, the variance times the square of the overlap, the
signal times the square of the overlap, the overlap, its square, and the overlap with unusable pixels.

Unsigned indices are not looked at for counting from the end, which would cost half of the time. The cache of a
kernel does not see changes here: after one, remove the folders ``__pycache__``.

Loops over lanes write to few arrays each: LLVM gives up where more than eight pairs of them might overlap.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Pixels = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Cube = npt.NDArray[np.float32]

FLUX, NOISE, LIGHT, AREA, SQUARES, HIDDEN = range(6)
N_SUMS = 6

#: Sums may be added in any order; NaN keeps its meaning.
ANY_ORDER = {"reassoc", "contract"}
#: Sources that are summed at a time: without a branch, so that the processor's vector units are busy.
LANES = 64


@kernel(fastmath=ANY_ORDER)
def add_run(
    signal: Pixels,
    mask: Bytes,
    variance: Pixels,
    unusable: int,
    spoiled: bool,
    row: int,
    first: int,
    last: int,
    sums: Floats,
) -> None:
    """Add the whole pixels `first` to `last` (excluded) of a row."""
    r = np.uint64(row)
    flux, noise, hidden = 0.0, 0.0, 0
    plane = variance.shape[0] == signal.shape[0]
    if spoiled:
        for column in range(first, last):
            if mask[r, np.uint64(column)] & unusable:
                hidden += 1
            else:
                flux += signal[r, np.uint64(column)]
                if plane:
                    noise += variance[r, np.uint64(column)]
    else:
        for column in range(first, last):
            flux += signal[r, np.uint64(column)]
        if plane:
            for column in range(first, last):
                noise += variance[r, np.uint64(column)]
    seen = last - first - hidden
    sums[FLUX] += flux
    sums[NOISE] += noise
    sums[LIGHT] += flux
    sums[AREA] += seen
    sums[SQUARES] += seen
    sums[HIDDEN] += hidden


@kernel(fastmath=ANY_ORDER)
def add_part(
    signal: Pixels,
    mask: Bytes,
    variance: Pixels,
    unusable: int,
    spoiled: bool,
    row: int,
    column: int,
    part: float,
    sums: Floats,
) -> None:
    """Add a part of a pixel."""
    r, c = np.uint64(row), np.uint64(column)
    if spoiled and mask[r, c] & unusable:
        sums[HIDDEN] += part
        return
    value, square = part * signal[r, c], part * part
    sums[FLUX] += value
    sums[LIGHT] += part * value
    sums[AREA] += part
    sums[SQUARES] += square
    if variance.shape[0] == signal.shape[0]:
        sums[NOISE] += square * variance[r, c]


@kernel
def any_bit(tiles: Bytes, tile: int, bits: int, x: float, y: float, reach: float) -> bool:
    """Tell whether a tile within `reach` of a place has any of some bits."""
    first, last = max(0, int(x - reach) // tile), min(tiles.shape[1], int(x + reach + 1.0) // tile + 1)
    bottom, top = max(0, int(y - reach) // tile), min(tiles.shape[0], int(y + reach + 1.0) // tile + 1)
    found = 0
    for row in range(bottom, top):
        for column in range(first, last):
            found |= tiles[np.uint64(row), np.uint64(column)]
    return (found & bits) != 0


@kernel
def gather(
    signal: Pixels,
    mask: Bytes,
    variance: Pixels,
    unusable: int,
    spoiled: bool,
    starts: npt.NDArray[np.uint64],
    side: int,
    cube: npt.NDArray[np.float32],
) -> None:
    """Set signal, usability and variance of squares whose first pixels are `starts`; shape (3, side, side, lanes)."""
    width = np.uint64(signal.shape[1])
    flat, usable, noise = signal.reshape(-1), mask.reshape(-1), variance.reshape(-1)
    plane = variance.shape[0] == signal.shape[0]
    for row in range(side):
        for column in range(side):
            offset = np.uint64(row) * width + np.uint64(column)
            for lane in range(LANES):
                cube[0, row, column, lane] = flat[starts[lane] + offset]
            for lane in range(LANES):
                cube[1, row, column, lane] = np.float32(1.0)
            if plane:
                for lane in range(LANES):
                    cube[2, row, column, lane] = noise[starts[lane] + offset]
            if spoiled:
                for lane in range(LANES):
                    if usable[starts[lane] + offset] & unusable:
                        cube[:, row, column, lane] = np.float32(0.0)
