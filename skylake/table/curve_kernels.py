"""Compiled loops over the measurements of light curves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.integer]


@kernel
def is_in_time(order: Places, starts: Places, mjd: Floats, frame: npt.NDArray[np.int64]) -> bool:
    """Tell whether the rows of each group come in the order of time and then of frames."""
    for group in range(len(starts) - 1):
        for i in range(starts[group] + 1, starts[group + 1]):
            before, row = order[i - 1], order[i]
            if mjd[row] < mjd[before] or (mjd[row] == mjd[before] and frame[row] < frame[before]):
                return False
    return True
