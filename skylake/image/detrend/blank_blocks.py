"""Parts of a detector that were not read out: blocks of raw pixels of one constant value.

A readout that stopped, or a dead amplifier, leaves zeros or another constant. As a value of the sky they would ruin
the background and the threshold of the whole frame; so they count as pixels without a value.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from skylake.core.frame import BEYOND_MEASURE, Mask, Pixels, StoredImage, Unread

#: A block of twice this side holds a whole tile wherever it lies.
_TILE_PX = 32
#: Places in a tile that are looked at first, in pairs of neighbours: hardly a tile with noise goes beyond them.
_PLACES = ((3, 5), (3, 6), (11, 21), (11, 22), (19, 11), (19, 12), (28, 27), (28, 28))
#: Pixels with a noise of half a step and more equal their neighbours less often; of less, whole tiles may be equal.
_MOST_EQUAL = 0.6
#: Where less than this share of the tiles has noise, the constant is what is usual in the frame.
_LEAST_ALIVE = 0.2
#: Values brighter than this percentage of the others may be clipped light, whatever the profile says.
_BRIGHT_PERCENT = 90
#: More values than this are no amplifiers.
_MOST_VALUES = 4

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def blank_unread(
    pixels: Pixels, source: StoredImage, window: tuple[slice, slice], saturation_adu: float | None
) -> Unread | None:
    """Make NaN of the pixels of a window that were not read out, in place, and return their share and value.

    Parameters
    ----------
    pixels : ndarray of float32, shape of the window
        Reduced in whatever way.
    source, window, saturation_adu
        As in :func:`find_unread`.
    """
    unread = find_unread(source, window, saturation_adu)
    if unread is None:
        return None
    pixels[unread[0]] = np.nan
    return unread[1]


def find_unread(
    source: StoredImage, window: tuple[slice, slice], saturation_adu: float | None
) -> tuple[Mask, Unread] | None:
    """Return the pixels of a window that were not read out, with their share and value; None if there are none.

    Blocks of at least 64 x 64 pixels are found, and all pixels of the same value that are joined to them. Saturated
    pixels, and blocks beside which the noise is below half a step of the numbers, are no such blocks.

    Parameters
    ----------
    source : StoredImage
    window : tuple of slice
        Rows and columns that are looked at.
    saturation_adu : float or None
        Level of saturation, ADU as in the file.

    Returns
    -------
    mask : ndarray of bool, shape of the window
    unread : Unread
        Share of the window, and the value that most of these pixels hold.
    """
    stored = source.stored[window]
    if not _any_suspect(stored):
        return None
    samples = _samples(stored)
    constant = (samples == samples[0]).all(axis=0)
    if not constant.any():
        return None
    _keep_whole(constant, stored)
    values = source.zero + source.scale * samples.astype(np.float64)
    alive = ~constant & np.isfinite(values).all(axis=0)
    if not constant.any() or alive.mean() < _LEAST_ALIVE:
        return None
    bright = float(np.percentile(values[:, alive], _BRIGHT_PERCENT))
    limit = min(bright, np.inf if saturation_adu is None else saturation_adu)
    mask, raw_values = np.zeros(stored.shape, bool), []
    kinds, counts = np.unique(samples[0][constant], return_counts=True)
    for kind in kinds[np.argsort(-counts, kind="stable")][:_MOST_VALUES]:
        value, tiles = source.zero + source.scale * float(kind), constant & (samples[0] == kind)
        judged = kind != source.blank and -BEYOND_MEASURE < value < limit
        if judged and _has_noise_beside(tiles, alive, values):
            mask |= _grown(tiles, stored == kind)
            raw_values.append(value)
    return (mask, Unread(float(mask.mean()), raw_values[0])) if raw_values else None


def _any_suspect(stored: npt.NDArray[np.generic]) -> bool:
    """Return whether any tile holds one value at all places; most are out at the first pair, which is a fast look."""
    height, width = (side - side % _TILE_PX for side in stored.shape)
    (row, column), (_, beside), *others = _PLACES
    first, second = (stored[row:height:_TILE_PX, start:width:_TILE_PX] for start in (column, beside))
    y, x = np.nonzero(first == second)
    for row, column in others:
        same = stored[y * _TILE_PX + row, x * _TILE_PX + column] == first[y, x]
        y, x = y[same], x[same]
    return len(y) > 0


def _samples(stored: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return some pixels of each whole tile, shape (places, rows of tiles, tiles in a row), of native numbers."""
    height, width = (side - side % _TILE_PX for side in stored.shape)
    some = np.stack([stored[row:height:_TILE_PX, column:width:_TILE_PX] for row, column in _PLACES])
    return some.astype(some.dtype.newbyteorder("="), copy=False)


def _keep_whole(constant: Bools, stored: npt.NDArray[np.generic]) -> None:
    """Leave, in place, only tiles all of whose pixels are equal; a row of tiles at a time, to be short of memory."""
    for row in np.flatnonzero(constant.any(axis=1)):
        strip = stored[row * _TILE_PX : (row + 1) * _TILE_PX, : constant.shape[1] * _TILE_PX]
        tiles = strip.reshape(_TILE_PX, -1, _TILE_PX)[:, constant[row]]
        constant[row, constant[row]] = (tiles == tiles[:1, :, :1]).all(axis=(0, 2))


def _has_noise_beside(tiles: Bools, alive: Bools, values: Floats) -> bool:
    """Return whether neighbours of constant tiles have noise of half a step or more; all tiles if there are none.

    The tiles next to them may be constant in part, and so those after the next are asked.
    """
    around = np.ones((3, 3), bool)
    near = ndimage.binary_dilation(tiles, around, iterations=2) & ~ndimage.binary_dilation(tiles, around)
    some = near & alive
    beside = values[:, some if some.any() else alive]
    return float(np.mean(beside[::2] == beside[1::2])) < _MOST_EQUAL


def _grown(tiles: Bools, equal: Bools) -> Mask:
    """Return the pixels of one value that are joined to constant tiles of that value."""
    labels, n_labels = ndimage.label(equal)
    joined = np.zeros(n_labels + 1, bool)
    rows, columns = np.nonzero(tiles)
    joined[labels[rows * _TILE_PX, columns * _TILE_PX]] = True
    return np.asarray(joined[labels], bool)
