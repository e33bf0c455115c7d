"""Read lenses from the WCS of headers, for frames that were not fitted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import dask

from skylake.cameras import Profile, read_header
from skylake.core.sphere import unit_vectors
from skylake.errors import FrameError
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.task_guard import guard
from skylake.image.detrend.detrend_steps import image_grid
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.wcs.header_wcs import header_pointing
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.refine_lens import lens_of

Size = tuple[int, int]

#: Frames in one task.
_CHUNK = 16


def header_lenses(files: Sequence[tuple[str, Size]], profile: Profile, workers: Workers) -> dict[str, Lens]:
    """Return the lenses of the WCS of headers, by file; none of a file that cannot be read any more.

    Parameters
    ----------
    files : sequence of (str, (int, int))
        Files, and height and width of their images after trimming.
    profile : Profile
    workers : Workers
    """
    task = dask.delayed(lenses_of_headers, pure=False)
    pieces = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    lens_of_files: dict[str, Lens] = {}
    for piece, result in zip(pieces, workers.run([task(piece, profile) for piece in pieces]), strict=True):
        if not isinstance(result, BaseException):
            lenses = zip(piece, result, strict=True)
            lens_of_files.update((file, lens) for (file, _), lens in lenses if lens is not None)
    return lens_of_files


def lenses_of_headers(files: Sequence[tuple[str, Size]], profile: Profile) -> list[Lens | None]:
    """Return the lens of each header, None where there is none. Runs on a worker."""
    lenses = [guard(partial(_lens_of_header, file, size, profile)) for file, size in files]
    return [None if isinstance(lens, FrameError) else lens for lens in lenses]


def _lens_of_header(file: str, size: Size, profile: Profile) -> Lens | None:
    raw = open_stored(read_file(file), profile.base.header.extension)
    camera = read_header(raw.header, profile, Path(file).name).camera
    pointing = header_pointing(raw.header, camera, size, *image_grid(raw.shape, camera))
    return lens_of(lambda x, y: unit_vectors(*pointing.to_sky(x, y)), size)
