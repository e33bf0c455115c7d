"""Make masks of bad pixels from frames of the sky: ``skylake calib build --form mask``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np

from skylake.core.flags import PixelFlag
from skylake.flow.execution.scratch_planes import keep_plane
from skylake.flow.masters.assemble_master import results_of
from skylake.flow.masters.master_entries import MasterBuilder, describe, write_entry
from skylake.flow.masters.master_groups import MasterGroup
from skylake.flow.masters.master_tasks import PreparedFile, Term, combine_rows
from skylake.image.combine.bad_pixels_from_sky import high_passed, sky_mask, steep_places
from skylake.image.combine.combine_frames import CombineOptions, block_rows, frame_noise, join

#: With fewer frames stars leave too few values of a pixel; more frames than so many take room and show little more.
MASK_FRAMES, _MOST_FRAMES = 12, 400
#: Frames from which noise is measured.
_SAMPLES = 9
#: Stars and clouds are outliers on one side, nearer than those of darks and flats.
_CLIP_SIGMA = 2.5


def thinned(group: MasterGroup) -> MasterGroup:
    """Return a group of no more frames than a mask takes, evenly over their time."""
    count = len(group.frames)
    if count <= _MOST_FRAMES:
        return group
    chosen = np.linspace(0, count - 1, _MOST_FRAMES).round().astype(int)
    return replace(group, frames=tuple(group.frames[number] for number in chosen))


def sky_mask_row(
    builder: MasterBuilder, group: MasterGroup, prepared: Mapping[str, PreparedFile]
) -> dict[str, Any] | str:
    """Write the mask of bad pixels that frames of the sky show, and return its row.

    The pixels of the prepared frames are gone then.

    Returns
    -------
    dict or str
        Why there is none, as a sentence, where stars do not move from frame to frame.

    Raises
    ------
    LakeError
        If a task fails, its worker dies, or a file cannot be written.
    """
    files, camera = list(prepared.values()), builder.camera(group)
    is_mosaic = camera.detector.bayer_pattern is not None
    some = [files[number] for number in (0, len(files) // 2, -1)]
    steep = steep_places((np.asarray(file.open()) for file in some), is_mosaic)
    task = dask.delayed(pass_high, pure=False)
    paths = results_of(builder, group, [partial(task, file.path, is_mosaic) for file in files])
    files = [replace(file, path=path) for file, path in zip(files, paths, strict=True)]
    shape, noise = files[0].shape, frame_noise([file.open() for file in files[:_SAMPLES]])
    options = CombineOptions(threshold=_CLIP_SIGMA, start="mode", constant=noise**2)
    terms, task = [Term(file.path) for file in files], dask.delayed(combine_rows, pure=False)
    makers = [partial(task, terms, rows, options) for rows in block_rows(len(terms), shape)]
    combined = join(results_of(builder, group, makers))
    middle, limits = np.asarray(files[len(files) // 2].open()), camera.reduction.bad_pixels
    mask = sky_mask(combined, middle, steep, len(files), limits, is_mosaic)
    for file in files:
        file.path.unlink(missing_ok=True)
    if not mask.is_of_moving_stars:
        return (
            f"{mask.standing:.0%} of the stars are on the same pixels in all {len(files)} frames, where nobody can "
            "distinguish them from hot pixels; give frames between which the telescope moved by ten pixels and more, "
            "such as those of several fields"
        )
    row = describe(builder, group, prepared, kind="bad_pixels")
    for name, bit in (("hot", PixelFlag.HOT), ("dead", PixelFlag.DEAD), ("unstable", PixelFlag.UNSTABLE)):
        row[f"n_{name}_px"] = int(np.count_nonzero(mask.mask & np.uint8(bit)))
    row["n_bad_px"] = int(np.count_nonzero(mask.mask))
    write_entry(builder, row, files[0].offset, files[0].used, mask=mask.mask)
    return row


def pass_high(path: Path, is_mosaic: bool) -> Path:
    """Replace a prepared frame by the excess of single pixels over their neighbours, in a file of another name.

    Runs on a worker, and again if that dies; a finished file is not written twice.

    Returns
    -------
    Path
        Of the file; that of the frame is gone.

    Raises
    ------
    LakeError
        If the file cannot be written.
    """
    high = path.with_suffix(".high.npy")
    if path.exists():
        keep_plane(high, high_passed(np.load(path), is_mosaic), "a prepared frame")
        path.unlink()
    return high
