"""Kernels that tell a plane of numbers by its runs along rows, and make it again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Numbers = npt.NDArray[np.int32]


@kernel
def list_runs(plane: Numbers) -> Numbers:
    """Return start, length and number of the runs of one number but 0, shape (3, n), in a plane seen as one row."""
    flat = plane.reshape(-1)
    number, before = 0, np.int32(0)
    for k in range(flat.size):
        value = flat[k]
        number += value != before and value != 0
        before = value
    runs, run, before = np.zeros((3, number), np.int32), -1, np.int32(0)
    for k in range(flat.size):
        value = flat[k]
        if value != 0:
            if value != before:
                run += 1
                runs[0, run], runs[2, run] = k, value
            runs[1, run] += 1
        before = value
    return runs


@kernel
def fill_runs(plane: Numbers, runs: Numbers) -> None:
    """Put runs into a plane of zeros."""
    flat = plane.reshape(-1)
    for run in range(runs.shape[1]):
        flat[runs[0, run] : runs[0, run] + runs[1, run]] = runs[2, run]
