"""Frames whose stars do not show where they point are reduced again with the pointing of the frames before and after.

Neighbours are all frames of the night that are placed by their own stars, in the lake or new, and never frames that
were placed by others. So the result does not depend on the order of frames, tasks and runs; a frame whose neighbours
have changed since is reduced again.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.reasons import Reason, Status
from skylake.flow.astrometry.header_lenses import header_lenses
from skylake.flow.execution.cluster import Workers
from skylake.flow.ingest.chunk_rows import Chunk
from skylake.image.solving.neighbour_frames import EACH_SIDE, Neighbour, Neighbours, Prior
from skylake.image.solving.neighbour_pointing import INTERPOLATED, NEIGHBOURS
from skylake.image.solving.register_frames import CARDS, REGISTERED
from skylake.image.solving.wcs_check import WcsCheck
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import lens_of_text
from skylake.lake import Snapshot

_COLUMNS = [
    "frame_id",
    "file",
    "status",
    "reason",
    "gates_failed",
    "flags",
    "mjd_mid",
    "width_px",
    "height_px",
    "wcs_source",
    "wcs_matched",
    "wcs_expected",
    "wcs_lens",
    "wcs_neighbours",
    "astrom_n",
    "astrom_rms_px",
    "astrom_parameters",
    "wcs_offset_arcsec",
    "pixel_scale_arcsec",
]
#: What wcs_source says of frames that are not placed by their own stars.
_NOT_BY_STARS = (None, NEIGHBOURS, INTERPOLATED, CARDS, REGISTERED)
_LOST = {Reason.NO_WCS.value, Reason.BAD_WCS.value}

Priors = dict[str, Prior | None]
"""Where neighbours put frames, by file; None for a frame that is to be reduced without them."""

Asked = dict[tuple[int, str], Prior | None]
"""The same by frame_id and file."""


def changed_priors(
    chunks: Mapping[int, Sequence[Chunk]], snapshot: Snapshot, profile: Profile, workers: Workers
) -> dict[int, Asked]:
    """Return the frames to reduce again, by night: those whose neighbours give another pointing than before.

    Parameters
    ----------
    chunks : mapping
        New frames by night, each in one chunk alone.
    snapshot : Snapshot
        Has the other frames.
    profile : Profile
    workers : Workers
        Read headers.
    """
    held = snapshot.read(
        "frames", [*_COLUMNS, "night"], lambda part: part.camera == profile.name and part.night in chunks
    ).to_pylist()
    nights = {}
    for night, some in chunks.items():
        fresh = [row for chunk in some for row in chunk.frames.select(_COLUMNS).to_pylist()]
        ids, files = ({row[name] for row in fresh} for name in ("frame_id", "file"))
        kept = [
            row
            for row in held
            if row["night"] == night and row["frame_id"] not in ids and row["file"] not in files
        ]
        nights[night] = [*fresh, *kept]
    wanted = profile.base.astrometry.neighbours == "all"
    headers = [one for rows in nights.values() for one in _headers_wanted(rows)] if wanted else []
    lenses = header_lenses(headers, profile, workers) if headers else {}
    found = {night: priors_of(rows, lenses) for night, rows in nights.items()}
    return {night: priors for night, priors in found.items() if priors}


def prior_from_lake(
    row: Mapping[str, Any], snapshot: Snapshot, profile: Profile, workers: Workers
) -> Prior | None:
    """Return where the frames of its night in a lake put a frame whose own stars do not show where it points.

    Parameters
    ----------
    row : mapping
        Of ``frames``, as the frame was reduced by itself.
    snapshot : Snapshot
    profile : Profile
    workers : Workers
    """
    way = profile.base.astrometry
    mine = {name: row.get(name) for name in _COLUMNS}
    if way.neighbours == "never" or way.all_sky or not _is_lost(mine):
        return None
    held = snapshot.read(
        "frames", _COLUMNS, lambda part: part.camera == profile.name and part.night == row["night"]
    ).to_pylist()
    others = [one for one in held if one["frame_id"] != mine["frame_id"]]
    headers = _headers_wanted([mine, *others]) if way.neighbours == "all" else []
    lenses = header_lenses(headers, profile, workers) if headers else {}
    return priors_of([mine, *others], lenses).get((row["frame_id"], row["file"]))


def priors_of(rows: Sequence[Mapping[str, Any]], lenses: Mapping[str, Lens]) -> Asked:
    """Return where neighbours put the frames of a night, for frames where this has changed.

    Parameters
    ----------
    rows : sequence of mapping
        All rows of ``frames`` of a night of a camera.
    lenses : mapping
        Lenses of headers, by file.
    """
    placed: dict[tuple[int, int], list[Neighbour]] = {}
    for row in rows:
        if _is_placed(row) and (one := _neighbour(row, lenses)) is not None:
            placed.setdefault(_size(row), []).append(one)
    nights = {size: Neighbours.of(frames, size) for size, frames in placed.items()}
    found: Asked = {}
    for row in rows:
        if not _is_lost(row):
            continue
        night = nights.get(_size(row))
        prior = None if night is None else night.prior(row["mjd_mid"])
        if (None if prior is None else prior.text) != row["wcs_neighbours"] and Path(row["file"]).is_file():
            found[row["frame_id"], row["file"]] = prior
    return found


def _size(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["height_px"], row["width_px"]


def _is_placed(row: Mapping[str, Any]) -> bool:
    """Return whether a frame is placed by its own stars."""
    if row["wcs_source"] in _NOT_BY_STARS or row["mjd_mid"] is None:
        return False
    # The matches of a frame that was refused may be due to chance.
    found = WcsCheck(row["wcs_expected"] or 0, row["wcs_matched"] or 0, 0.0, row["reason"] not in _LOST)
    return found.passed


def _headers_wanted(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[int, int]]]:
    """Return the files, with sizes, of frames near a lost frame whose WCS is only in their header."""
    placed = sorted(
        (row for row in rows if _is_placed(row)), key=lambda row: (row["mjd_mid"], row["frame_id"])
    )
    times = [row["mjd_mid"] for row in placed]
    near: set[int] = set()
    for row in rows:
        if _is_lost(row):
            place = bisect_left(times, row["mjd_mid"])
            near.update(range(max(place - EACH_SIDE, 0), min(place + EACH_SIDE, len(times))))
    some = (placed[number] for number in sorted(near))
    return [(row["file"], _size(row)) for row in some if row["wcs_lens"] is None]


def _neighbour(row: Mapping[str, Any], lenses: Mapping[str, Lens]) -> Neighbour | None:
    """Return a frame as a neighbour of others; None if its lens is not known."""
    if row["wcs_lens"] is None:
        lens, offset = lenses.get(row["file"]), row["wcs_offset_arcsec"] / row["pixel_scale_arcsec"]
        n_matched = row["wcs_matched"]
        return (
            None if lens is None else Neighbour(row["frame_id"], row["mjd_mid"], lens, n_matched, 0.0, offset)
        )
    n_stars, n_parameters = row["astrom_n"] or 1, row["astrom_parameters"] or 0
    # The mean variance of a place by a fit is that of a star times the parameters over the coordinates.
    fit_px = (row["astrom_rms_px"] or 0.0) * math.sqrt(0.5 * n_parameters / n_stars)
    lens = lens_of_text(row["wcs_lens"])
    return Neighbour(row["frame_id"], row["mjd_mid"], lens, n_stars, fit_px)


def _is_lost(row: Mapping[str, Any]) -> bool:
    """Return whether a frame was read but is not placed by its own stars."""
    if row["status"] not in (Status.OK, Status.REJECTED) or None in (row["mjd_mid"], row["width_px"]):
        return False
    if row["wcs_source"] in _NOT_BY_STARS:
        return True
    return row["reason"] in _LOST and row["gates_failed"] is None


def with_placed(chunks: Sequence[Chunk], placed: Sequence[Chunk], asked: Asked) -> list[Chunk]:
    """Return the chunks of a night, with frames that were reduced again in place of their first rows.

    A frame keeps its first rows if its file can no longer be read, or holds another frame now.
    """
    good, wanted = [], {frame for frame, _ in asked}
    for chunk in placed:
        rows = chunk.frames.select(["frame_id", "status"]).to_pylist()
        kept = pa.array(
            [row["frame_id"] in wanted and row["status"] != Status.FAILED.value for row in rows], pa.bool_()
        )
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
    workers: Workers,
    reduce: Callable[[list[str], Priors], list[Chunk]],
) -> dict[int, list[Chunk]]:
    """Reduce frames again that their neighbours can place, and return the chunks of each night.

    Parameters
    ----------
    chunks : dict
        New frames by night.
    snapshot : Snapshot
    profile : Profile
    workers : Workers
    reduce : callable
        Reduces some files with the given priors.
    """
    asked = changed_priors(chunks, snapshot, profile, workers)
    priors = {file: one for some in asked.values() for (_, file), one in some.items()}
    if not priors:
        return chunks
    placed = reduce(sorted(priors), priors)
    found = dict(chunks)
    for night in asked:
        mine = [
            replace(chunk, frames=chunk.frames.filter(pc.equal(chunk.frames["night"], night)))
            for chunk in placed
        ]
        found[night] = with_placed(chunks[night], [one for one in mine if one.frames.num_rows], asked[night])
    return found
