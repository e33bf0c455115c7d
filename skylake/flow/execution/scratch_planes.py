"""Pass image planes between tasks as files in the staging folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.errors import cannot_be_written


def keep_plane(path: Path, plane: npt.NDArray[Any], what: str) -> None:
    """Write a plane as a file, whose folder is made if it is not there.

    Parameters
    ----------
    path : Path
    plane : ndarray
    what : str
        What it is, for the sentence.

    Raises
    ------
    LakeError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, plane)
    except OSError as error:
        raise cannot_be_written(path, error, what) from error
