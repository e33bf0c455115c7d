"""Fill bad pixels from their neighbours."""

from __future__ import annotations

import numpy as np

from skylake.core.flags import PixelFlag
from skylake.core.frame import MaskPlane, Pixels
from skylake.image.detrend.repair_kernels import fill_from_neighbours


def repair(pixels: Pixels, mask: MaskPlane, bits: PixelFlag, stride: int = 1) -> int:
    """Fill pixels that have any of some bits from their neighbours, in place, and mark them REPAIRED.

    The value is the mean of the linear interpolations along the row and along the column between the nearest good
    pixels. A pixel that has none within reach stays. Of a Bayer mosaic only every second pixel of a row or column
    has the same one: there the stride is 2.

    Returns
    -------
    int
        Pixels that were filled.
    """
    bad = (mask & np.uint8(bits | PixelFlag.INVALID)).astype(np.uint8)
    y, x = np.nonzero(mask & np.uint8(bits))
    values = np.empty(len(x), np.float32)
    fill_from_neighbours(pixels, bad, x, y, values, stride)
    finite = np.isfinite(values)
    y, x = y[finite], x[finite]
    pixels[y, x] = values[finite]
    mask[y, x] |= np.uint8(PixelFlag.REPAIRED)
    return len(x)
