"""Whether stars that no solution has were measured often enough for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.star_magnitudes import FEW_REPEATS, LEAST_STARS, REPEATED_STARS, enough_repeats
from skylake.flow.zeropoints.season_plans import Extension, SeasonNight, SeasonPlan
from skylake.flow.zeropoints.star_solutions import STARS
from skylake.lake import Snapshot
from skylake.lake.storage.slices import Slice, read_files
from skylake.sky.pixels import Pixel, overlaps

Ids = npt.NDArray[np.int64]

#: So many matches are read at a time.
READ_TOGETHER = 2_000_000


def new_repeats(snapshot: Snapshot, plan: SeasonPlan) -> Extension | None:
    """Return the frames with new stars of the fresh nights of a plan, if enough of these were measured often enough.

    New are stars that the solution in force has not. Only frames that are calibrated with the catalog count, and only
    stars that are on such a frame of a fresh night; other nights are read where they have matches in the same pixels.
    So a night costs the same however many there are.
    """
    unsolved, _ = _unsolved_frames(snapshot, plan, plan.fresh)
    stars = np.zeros(0, np.int64)
    for group in groups(plan.fresh):
        rows = _matches(plan, [one for night in group for one in night.matches])
        stars = np.union1d(stars, rows.filter(pc.is_in(rows["frame_id"], unsolved))["ref_id"].to_numpy())
    stars = np.setdiff1d(stars, solved_stars(plan))
    if len(stars) < REPEATED_STARS:
        return None
    pixels = {pixel for night in plan.fresh for pixel in night.pixels}
    near = [night for night in plan.nights if _slices_in(night, pixels)]
    unsolved, with_some = _unsolved_frames(snapshot, plan, near)
    nights = [night for night in near if night.night in with_some]
    counts = np.zeros(len(stars), np.int64)
    for _, rows in _read_near(plan, nights, pixels):
        found = rows.filter(pc.is_in(rows["frame_id"], unsolved))["ref_id"].to_numpy()
        found = found[np.isin(found, stars)]
        counts += np.bincount(np.searchsorted(stars, found), minlength=len(stars))
    if not enough_repeats(counts):
        return None
    repeated = stars[counts >= FEW_REPEATS]
    return _frames_of(_read_near(plan, nights, pixels), repeated, unsolved.to_numpy(zero_copy_only=False))


def _read_near(
    plan: SeasonPlan, nights: Sequence[SeasonNight], pixels: set[Pixel | None]
) -> Iterator[tuple[tuple[SeasonNight, ...], pa.Table]]:
    """Yield some of the nights and their matches in some pixels, until all were read."""
    for group in groups(nights):
        yield group, _matches(plan, [one for night in group for one in _slices_in(night, pixels)])


def _frames_of(
    matches: Iterator[tuple[tuple[SeasonNight, ...], pa.Table]], stars: Ids, unsolved: Ids
) -> Extension:
    """Return the frames that show enough of some stars, of those nights that have one calibrated with the catalog.

    Other frames of these nights connect new stars with those that have magnitudes.
    """
    frames, chosen = [np.zeros(0, np.int64)], []
    for nights, rows in matches:
        rows = rows.filter(pc.is_in(rows["ref_id"], pa.array(stars)))
        frame, first, count = np.unique(rows["frame_id"].to_numpy(), return_index=True, return_counts=True)
        night, enough = rows["night"].to_numpy()[first], count >= LEAST_STARS
        with_some = np.unique(night[enough & np.isin(frame, unsolved)])
        frames.append(frame[enough & np.isin(night, with_some)])
        chosen += [one for one in nights if one.night in with_some]
    return Extension(tuple(chosen), np.sort(np.concatenate(frames)))


def groups(nights: Sequence[SeasonNight]) -> Iterator[tuple[SeasonNight, ...]]:
    """Yield nights that are read together."""
    group: list[SeasonNight] = []
    for night in nights:
        if group and sum(one.n_matches for one in group) + night.n_matches > READ_TOGETHER:
            yield tuple(group)
            group = []
        group.append(night)
    if group:
        yield tuple(group)


def _unsolved_frames(
    snapshot: Snapshot, plan: SeasonPlan, nights: Sequence[SeasonNight]
) -> tuple[pa.Array, set[int]]:
    """Return the frames of some nights that were calibrated with the catalog at last, and which nights have any."""
    wanted = {night.night for night in nights}
    mine = (pc.field("band") == plan.band) & (pc.field("catalog") == plan.catalog)
    rows = snapshot.read(
        "zeropoints",
        ["frame_id", "night", "version", "method"],
        lambda part: part.camera == plan.camera and part.night in wanted,
        mine,
    ).sort_by([("frame_id", "ascending"), ("version", "ascending")])
    frame = rows["frame_id"].to_numpy()
    is_last = np.append(frame[1:] != frame[:-1], True) if len(frame) else np.zeros(0, bool)
    is_plain = pc.fill_null(pc.equal(rows["method"], "frame"), False).to_numpy()
    chosen = is_last & is_plain
    return pa.array(frame[chosen]), set(rows["night"].to_numpy()[chosen].tolist())


def _matches(plan: SeasonPlan, slices: Sequence[Slice]) -> pa.Table:
    """Return the matches in the band of a plan."""
    return read_files("matches", slices, ["frame_id", "night", "ref_id"], pc.field("band") == plan.band)


def solved_stars(plan: SeasonPlan) -> Ids:
    """Return the stars that the solution in force and its extensions have."""
    members = plan.in_force.members if plan.in_force is not None else ()
    slices = [piece for one in members for piece in one.stars_slices]
    return np.asarray(read_files(STARS, slices, ["ref_id"])["ref_id"].to_numpy())


def _slices_in(night: SeasonNight, pixels: set[Pixel | None]) -> list[Slice]:
    """Return where those matches of a night are that lie in some pixels."""
    known = [pixel for pixel in pixels if pixel is not None]
    return [
        piece
        for piece, pixel in zip(night.matches, night.pixels, strict=True)
        if night.is_matched and (pixel is None or pixel in pixels or overlaps(pixel, known))
    ]
