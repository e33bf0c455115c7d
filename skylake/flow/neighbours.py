"""Frames that do not tell where they point are reduced once more, with what the frames before and after tell.

Neighbours are the frames of the whole night that tell their place themselves, those that the lake holds among them,
and never one that was placed by others. So it is all one in which tasks, runs and order frames come; a frame whose
neighbours have changed since is reduced again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.reasons import Reason, Status
from skylake.flow.frames import Chunk
from skylake.image.astrometry import WcsCheck
from skylake.image.lenstext import lens_of_text
from skylake.image.neighbours import Neighbour, Neighbours, Prior
from skylake.image.placed import INTERPOLATED, NEIGHBOURS
from skylake.lake import Snapshot

_COLUMNS = [
    "frame_id", "file", "status", "reason", "gates_failed", "flags", "mjd_mid", "width_px", "height_px", "wcs_source",
    "wcs_matched", "wcs_expected", "wcs_lens", "wcs_neighbours", "astrom_n",
    "astrom_rms_px", "astrom_parameters",
]  # fmt: skip
_LOST = {Reason.NO_WCS.value, Reason.BAD_WCS.value}

Priors = dict[str, Prior | None]
"""What neighbours tell of frames, by file; None of one that is to be reduced without them."""


def changed_priors(
    chunks: Mapping[int, Sequence[Chunk]], snapshot: Snapshot, profile: Profile
) -> dict[int, Priors]:
    """Return what is to be reduced again, by night: frames of which neighbours tell something else than before.

    Parameters
    ----------
    chunks : mapping
        New frames by night, each in one chunk alone.
    snapshot : Snapshot
        Tells of the others.
    profile : Profile
    """
    held = snapshot.read(
        "frames", [*_COLUMNS, "night"], lambda part: part.camera == profile.name and part.night in chunks
    ).to_pylist()
    found = {}
    for night, some in chunks.items():
        fresh = [row for chunk in some for row in chunk.frames.select(_COLUMNS).to_pylist()]
        ids, files = ({row[name] for row in fresh} for name in ("frame_id", "file"))
        kept = [
            row
            for row in held
            if row["night"] == night and row["frame_id"] not in ids and row["file"] not in files
        ]
        if priors := priors_of([*fresh, *kept]):
            found[night] = priors
    return found


def priors_of(rows: Sequence[Mapping[str, Any]]) -> Priors:
    """Return what neighbours tell of the frames of a night, where it is something else than before.

    Parameters
    ----------
    rows : sequence of mapping
        All rows of ``frames`` of a night of a camera.
    """
    told: dict[tuple[int, int], list[Neighbour]] = {}
    for row in rows:
        if (one := _neighbour(row)) is not None:
            told.setdefault((row["height_px"], row["width_px"]), []).append(one)
    nights = {size: Neighbours.of(frames, size) for size, frames in told.items()}
    found: Priors = {}
    for row in rows:
        if not _is_lost(row):
            continue
        night = nights.get((row["height_px"], row["width_px"]))
        prior = None if night is None else night.prior(row["mjd_mid"])
        if (None if prior is None else prior.text) != row["wcs_neighbours"] and Path(row["file"]).is_file():
            found[row["file"]] = prior
    return found


def _neighbour(row: Mapping[str, Any]) -> Neighbour | None:
    """Return a frame as a neighbour of others; None if its stars do not tell where it points."""
    if row["wcs_lens"] is None or row["wcs_source"] in (NEIGHBOURS, INTERPOLATED) or row["mjd_mid"] is None:
        return None
    check = WcsCheck(row["wcs_expected"] or 0, row["wcs_matched"] or 0, 0.0)
    if not check.passed:
        return None
    n_stars, n_parameters = row["astrom_n"] or 1, row["astrom_parameters"] or 0
    # The mean variance of a place by a fit is that of a star times the parameters over the coordinates.
    fit_px = (row["astrom_rms_px"] or 0.0) * math.sqrt(0.5 * n_parameters / n_stars)
    lens = lens_of_text(row["wcs_lens"])
    return Neighbour(row["frame_id"], row["mjd_mid"], lens, n_stars, fit_px)


def _is_lost(row: Mapping[str, Any]) -> bool:
    """Tell whether a frame that was read does not tell where it points."""
    if row["status"] not in (Status.OK, Status.REJECTED) or None in (row["mjd_mid"], row["width_px"]):
        return False
    if row["wcs_source"] in (None, NEIGHBOURS, INTERPOLATED):
        return True
    return row["reason"] in _LOST and row["gates_failed"] is None


def with_placed(chunks: Sequence[Chunk], placed: Sequence[Chunk]) -> list[Chunk]:
    """Return the chunks of a night with frames that were reduced again in place of what they were.

    A file that cannot be read any more, or holds another frame by now, leaves what there is as it is.
    """
    good = []
    for chunk in placed:
        rows = chunk.frames.select(["status"]).to_pylist()
        kept = pa.array([row["status"] != Status.FAILED.value for row in rows], pa.bool_())
        good.append(replace(chunk, frames=chunk.frames.filter(kept)))
    ids = pa.array([one for chunk in good for one in chunk.frames["frame_id"].to_pylist()], pa.int64())
    others = [
        replace(chunk, frames=chunk.frames.filter(pc.invert(pc.is_in(chunk.frames["frame_id"], ids))))
        for chunk in chunks
    ]
    return [*others, *good]


def place_lost(
    chunks: dict[int, list[Chunk]],
    snapshot: Snapshot,
    profile: Profile,
    reduce: Callable[[list[str], Priors], list[Chunk]],
) -> dict[int, list[Chunk]]:
    """Reduce the frames again that their neighbours can place, and return the chunks of each night.

    Parameters
    ----------
    chunks : dict
        New frames by night.
    snapshot : Snapshot
    profile : Profile
    reduce : callable
        Reduces some files with what is told of them.
    """
    asked = changed_priors(chunks, snapshot, profile)
    files = sorted(file for priors in asked.values() for file in priors)
    if not files:
        return chunks
    placed = reduce(files, {file: one for priors in asked.values() for file, one in priors.items()})
    found = dict(chunks)
    for night in asked:
        mine = [
            replace(chunk, frames=chunk.frames.filter(pc.equal(chunk.frames["night"], night)))
            for chunk in placed
        ]
        found[night] = with_placed(chunks[night], [one for one in mine if one.frames.num_rows])
    return found
