"""Memory-mapped planes in unnamed files, which take memory only while they are used.

Masters with their errors are as large as six images, and a worker needs them for a hundredth of a second of each
frame. The operating system keeps the file in what memory is free.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

#: Smaller planes stay where they are.
_LEAST_BYTES = 1 << 22


def mapped(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a plane that lies in a file, or the plane itself if it is small or there is no room for files."""
    if plane.nbytes < _LEAST_BYTES:
        return plane
    try:
        with tempfile.TemporaryFile(prefix="skylake-") as file:
            # Room is taken first: to write into a mapped file on a full disk would kill the process.
            file.write(plane.tobytes() if not plane.flags.c_contiguous else plane.data)
            file.flush()
            held = np.memmap(file, plane.dtype, "r+", shape=plane.shape)
    except OSError:
        return plane
    return np.asarray(held)


def give_back(plane: npt.NDArray[Any]) -> None:
    """Give back the memory of a plane that lies in a file, or of that which it is part of; others stay."""
    base: Any = plane
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
