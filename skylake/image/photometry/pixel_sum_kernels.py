"""What the kernels of pixel sums share: images, sums of a pixel and of a row, squares around many sources.

Sums are collected in an array of six numbers: the signal, the variance times the square of the overlap, the
signal times the square of the overlap, the overlap, its square, and the overlap with unusable pixels.

Unsigned indices are not looked at for counting from the end, which would cost half of the time. The cache of a
kernel does not see changes here: after one, remove the folders ``__pycache__``.

Loops over lanes write to few arrays each: LLVM gives up where more than eight pairs of them might overlap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Pixels = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Cube = npt.NDArray[np.float32]

FLUX, NOISE, LIGHT, AREA, SQUARES, OBSCURED = range(6)
N_SUMS = 6

#: Sums may be added in any order; NaN keeps its meaning.
ANY_ORDER = {"reassoc", "contract"}
#: Sources that are summed at a time: without a branch, so that the processor's vector units are busy.
LANES = 64


class Planes(NamedTuple):
    """An image as kernels read it.

    Attributes
    ----------
    signal : ndarray of float32, shape (height, width)
    mask : ndarray of uint8, shape (height, width)
    variance : ndarray of float32
        Of the shape of the image; or of shape (0, 0) where no variances are known or needed.
    tiles : ndarray of uint8
        The bits of the mask in squares of `tile` pixels.
    tile : int
    unusable : int
        Pixels with any of these bits are left out.
    """

    signal: Pixels
    mask: Bytes
    variance: Pixels
    tiles: Bytes
    tile: int
    unusable: int


class PixelNoise(NamedTuple):
    """What the variance of pixels at n sources is made of, ADU^2.

    Attributes
    ----------
    rms, excess : ndarray, shape (n,)
        Noise of the sky, ADU, and what is added to the plane of variances, at each source.
    per_adu : float
        Variance per ADU of light, where there is no such plane.
    scale : float
        Factor of the plane.
    """

    rms: Floats
    per_adu: float
    scale: float
    excess: Floats


class SourceNoise(NamedTuple):
    """What the variance of pixels at one source is made of, ADU^2; as :class:`PixelNoise`, but for the sky's."""

    sky: float
    per_adu: float
    scale: float
    excess: float


@kernel
def noise_of(noise: PixelNoise, source: int) -> SourceNoise:
    """Return the noise at one source."""
    return SourceNoise(
        noise.rms[source] * noise.rms[source], noise.per_adu, noise.scale, noise.excess[source]
    )


@kernel(fastmath=ANY_ORDER)
def add_run(
    planes: Planes,
    spoiled: bool,
    row: int,
    first: int,
    last: int,
    sums: Floats,
) -> None:
    """Add the whole pixels `first` to `last` (excluded) of a row."""
    signal, mask, variance, unusable = planes.signal, planes.mask, planes.variance, planes.unusable
    r = np.uint64(row)
    flux, noise, obscured = 0.0, 0.0, 0
    plane = variance.shape[0] == signal.shape[0]
    if spoiled:
        for column in range(first, last):
            if mask[r, np.uint64(column)] & unusable:
                obscured += 1
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
    seen = last - first - obscured
    sums[FLUX] += flux
    sums[NOISE] += noise
    sums[LIGHT] += flux
    sums[AREA] += seen
    sums[SQUARES] += seen
    sums[OBSCURED] += obscured


@kernel(fastmath=ANY_ORDER)
def add_part(
    planes: Planes,
    spoiled: bool,
    row: int,
    column: int,
    part: float,
    sums: Floats,
) -> None:
    """Add a part of a pixel."""
    r, c = np.uint64(row), np.uint64(column)
    if spoiled and planes.mask[r, c] & planes.unusable:
        sums[OBSCURED] += part
        return
    value, square = part * planes.signal[r, c], part * part
    sums[FLUX] += value
    sums[LIGHT] += part * value
    sums[AREA] += part
    sums[SQUARES] += square
    if planes.variance.shape[0] == planes.signal.shape[0]:
        sums[NOISE] += square * planes.variance[r, c]


@kernel
def any_unusable(planes: Planes, x: float, y: float, reach: float) -> bool:
    """Return whether a tile within `reach` of a place has an unusable pixel."""
    tiles, tile = planes.tiles, planes.tile
    first, last = max(0, int(x - reach) // tile), min(tiles.shape[1], int(x + reach + 1.0) // tile + 1)
    bottom, top = max(0, int(y - reach) // tile), min(tiles.shape[0], int(y + reach + 1.0) // tile + 1)
    bits = 0
    for row in range(bottom, top):
        for column in range(first, last):
            bits |= tiles[np.uint64(row), np.uint64(column)]
    return (bits & planes.unusable) != 0


@kernel
def gather(
    planes: Planes,
    spoiled: bool,
    starts: npt.NDArray[np.uint64],
    side: int,
    cube: npt.NDArray[np.float32],
) -> None:
    """Set signal, usability and variance of squares whose first pixels are `starts`; shape (3, side, side, lanes)."""
    signal, mask, variance, unusable = planes.signal, planes.mask, planes.variance, planes.unusable
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


@kernel(error_model="numpy", fastmath=ANY_ORDER)
def add_lanes(cube: Cube, row: int, column: int, parts: Floats, plane: bool, sums: Floats) -> None:
    """Add to `sums`, shape (6, lanes), a part of one pixel of each of the squares of :func:`gather`."""
    for lane in range(LANES):
        value = parts[lane] * cube[0, row, column, lane]
        sums[FLUX, lane] += value
        sums[LIGHT, lane] += parts[lane] * value
    for lane in range(LANES):
        seen = parts[lane] * cube[1, row, column, lane]
        sums[AREA, lane] += seen
        sums[SQUARES, lane] += parts[lane] * seen
    for lane in range(LANES):
        sums[OBSCURED, lane] += parts[lane] * (1.0 - cube[1, row, column, lane])
    if plane:
        for lane in range(LANES):
            sums[NOISE, lane] += parts[lane] * parts[lane] * cube[2, row, column, lane]


@kernel
def take_lane(lane_sums: Floats, lane: int, sums: Floats) -> None:
    """Set the six sums of one source from those of its lane."""
    for column in range(N_SUMS):
        sums[column] = lane_sums[column, lane]
    # What is left of rounding obscures nothing.
    if lane_sums[OBSCURED, lane] < 1e-9:
        sums[OBSCURED] = 0.0
