"""Solve for star magnitudes: all nights of a camera in one band together, again whenever there is much that is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.global_solution import GlobalSolution
from skylake.calibration.match_selection import Band
from skylake.calibration.star_magnitudes import (
    FEW_REPEATS,
    MANY_STARS,
    REPEATED_STARS,
    REPEATS,
    Season,
    global_solutions_table,
    has_repeats,
    solve_season,
    star_magnitudes_table,
)
from skylake.calibration.star_observations import FRAME_COLUMNS, StarObservations, star_observations
from skylake.cameras import Profile
from skylake.core.camera import Camera
from skylake.core.counted import counted
from skylake.core.reasons import Status
from skylake.flow.compaction.unbundle import unbundle
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress
from skylake.flow.execution.task_guard import value_of
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibration_parameters import camera_of_frames
from skylake.flow.zeropoints.camera_epochs import of_one_epoch
from skylake.flow.zeropoints.crossmatch_night import filters_of, with_filters
from skylake.flow.zeropoints.repeat_memory import RepeatMemory, keep_memory, read_memory
from skylake.flow.zeropoints.repeated_stars import groups, new_stars_repeat, solved_stars
from skylake.flow.zeropoints.season_plans import SeasonNight, SeasonPlan
from skylake.flow.zeropoints.star_solutions import SOLUTIONS, STARS, WITHDRAWN, solution_configuration
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.lake.storage.slices import read_files
from skylake.sky.lake_catalogs import ReferenceCatalog

#: So many matches are solved together at most, which takes about 4 GB; of more, frames are left out evenly.
MOST_MATCHES = 20_000_000
#: Why a solution does not hold any more.
_WHY_WITHDRAWN = {Why.CATALOG: "the catalog has changed", Why.PARAMETERS: "the profile has changed"}
_OF_FRAMES = "its frames have changed"


@dataclass(slots=True)
class SeasonReport:
    """A solution that was made."""

    camera: str
    band: str
    catalog: str
    version: int
    n_stars: int
    n_frames: int
    n_nights: int
    floor_mag: float
    catalog_scatter: float
    notes: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The report as a sentence."""
        return (
            f"solve {self.camera} {self.band}: version {self.version} of the magnitudes of "
            f"{counted(self.n_stars, 'star')} from {counted(self.n_frames, 'frame')} of "
            f"{counted(self.n_nights, 'night')}; the catalog scatters by {1000 * self.catalog_scatter:.0f} mmag "
            f"beyond its errors, bright stars by {1000 * self.floor_mag:.1f} mmag from frame to frame"
        )


def look_for_repeats(snapshot: Snapshot, plan: SeasonPlan) -> SeasonPlan:
    """Return a plan with the reason that stars of its fresh nights repeat, if it has no other and they do."""
    if plan.why is None and plan.fresh and new_stars_repeat(snapshot, plan):
        return replace(plan, why=Why.NEW)
    return plan


def remember_fresh(lake: Lake, plan: SeasonPlan) -> None:
    """Remember that the fresh nights of a plan have too few stars that repeat."""
    if plan.fresh:
        _remember(lake, plan, 0)


def _remember(lake: Lake, plan: SeasonPlan, n_frames_in_vain: int) -> None:
    held = read_memory(lake.layout, plan.camera, plan.band, plan.inputs)
    nights = held.nights | {night.night: night.checksum for night in plan.fresh}
    in_vain = max(held.n_frames_in_vain, n_frames_in_vain)
    keep_memory(lake, plan.camera, plan.band, plan.inputs, RepeatMemory(nights, in_vain))


def solve_planned(
    lake: Lake,
    snapshot: Snapshot,
    plan: SeasonPlan,
    profile: Profile,
    reference: ReferenceCatalog,
    workers: Workers,
    progress: Progress,
) -> SeasonReport | None:
    """Solve a band of a camera and commit its star magnitudes; None if its stars were not measured often enough.

    The solution that there is of the band is then withdrawn: it stays, and no frame is calibrated with it.

    Parameters
    ----------
    lake : Lake
    snapshot : Snapshot
        From which the plan was made.
    plan : SeasonPlan
        All its nights have matches that are up to date.
    profile : Profile
    reference : ReferenceCatalog
    workers : Workers
    progress : Progress

    Raises
    ------
    LakeError
        If matches cannot be read, or the lake cannot be written.
    """
    read = _read(plan, profile, reference, workers, progress) if plan.nights else None
    season = Season.of(read[0]) if read is not None else None
    if read is None or season is None or not has_repeats(season.observations.frame, season.observations.star):
        _remember(lake, plan, plan.n_frames)
        _withdraw(lake, snapshot, plan, workers, progress)
        return None
    if plan.why is Why.NEW and not _has_new_repeats(season, plan):
        _remember(lake, plan, plan.n_frames)
        return None
    _, band, nights, notes = read
    solution = solve_season(season, nights, band)
    made = _tables(plan, season, solution, nights, band)
    _commit(lake, snapshot, plan, made, solution_configuration(profile, plan.band))
    report = SeasonReport(
        plan.camera,
        plan.band,
        plan.catalog,
        plan.key.version,
        int(np.count_nonzero(np.isfinite(solution.stars.magnitude))),
        len(season.frames),
        len({nights[one] for one in season.frames.tolist()}),
        solution.camera.floor,
        solution.catalog_scatter,
        notes,
    )
    for sentence in (*notes, report.line):
        progress.line(sentence)
    return report


def _has_new_repeats(season: Season, plan: SeasonPlan) -> bool:
    """Tell whether those stars repeat that the solution in force has not; cuts may have left none of them."""
    seen = season.observations
    is_new = ~np.isin(seen.star, solved_stars(plan))
    return has_repeats(seen.frame[is_new], seen.star[is_new])


def _withdraw(lake: Lake, snapshot: Snapshot, plan: SeasonPlan, workers: Workers, progress: Progress) -> None:
    """Note in the latest solution of a band that no frame is calibrated with it any more."""
    if plan.held is None or WITHDRAWN in plan.held.solution.inputs:
        return
    name, why = plan.held.key.name, plan.why or Why.INPUTS
    unbundle(lake, workers, {SOLUTIONS: [name]}, progress)
    rows = read_files(SOLUTIONS, plan.held.solution_slices)
    commit = Commit("solve", name, base=snapshot.number)
    with lake.stage("solve") as staging:
        inputs = plan.held.solution.inputs | {WITHDRAWN: why.value}
        part = stage_part(rows, SOLUTIONS, name, staging / SOLUTIONS, None, plan.camera, None, inputs)
        commit.replace(part, staging / SOLUTIONS)
        lake.commit(commit)
    progress.line(
        f"solve {plan.camera} {plan.band}: version {plan.held.key.version} of the star magnitudes is withdrawn, as "
        f"{_WHY_WITHDRAWN.get(why, _OF_FRAMES)}, and fewer than {REPEATED_STARS} stars are on {REPEATS} frames each "
        f"now, or {MANY_STARS} on {FEW_REPEATS}; zeropoints are those against the catalog"
    )


def _tables(
    plan: SeasonPlan, season: Season, solution: GlobalSolution, nights: Mapping[int, int], band: Band
) -> dict[str, pa.Table]:
    """Return the rows of a solution by table."""
    key, records = plan.key, [one.record for one in plan.nights]
    pivot = band.band.pivot_colour if band.band.colour is not None else float("nan")
    return {
        STARS: star_magnitudes_table(season, solution, nights, key, pivot),
        SOLUTIONS: global_solutions_table(season, solution, key, band, records),
    }


def _commit(
    lake: Lake,
    snapshot: Snapshot,
    plan: SeasonPlan,
    tables: Mapping[str, pa.Table],
    configuration: dict[str, Any],
) -> None:
    """Publish the parts of a solution."""
    commit = Commit("solve", plan.key.name, base=snapshot.number)
    commit.configure([configuration])
    with lake.stage("solve") as staging:
        for table, rows in tables.items():
            tree = lake.tree_of(table) if table == STARS else None
            part = stage_part(
                rows, table, plan.key.name, staging / table, tree, plan.camera, None, plan.inputs
            )
            commit.replace(part, staging / table)
        lake.commit(commit)


def _read(
    plan: SeasonPlan, profile: Profile, reference: ReferenceCatalog, workers: Workers, progress: Progress
) -> tuple[StarObservations, Band, dict[int, int], list[str]] | None:
    """Read the observations of a season; with them the band, the night of each frame, and what was left out."""
    frames = read_files(
        "frames",
        [one for night in plan.nights for one in night.frames],
        FRAME_COLUMNS,
        pc.field("status") == Status.OK.value,
    )
    frames, left_out = of_one_epoch(frames, profile, f"{plan.camera} {plan.band}")
    latest = profile.at(float(pc.max(frames["mjd_mid"]).as_py()))
    wanted = _band_of(latest, plan.band)
    if wanted is None:
        return None
    frames = with_filters(frames, latest)
    frames, notes = _thinned(frames.filter(pc.equal(frames["band"], plan.band)), plan)
    task = dask.delayed(read_observations, pure=False)
    pieces_of = list(groups(plan.nights))
    progress.begin("seasons", len(pieces_of))
    makers = [partial(task, group, frames, profile, wanted) for group in pieces_of]
    pieces = []
    for result in run_in_windows(workers, makers, lambda *_: progress.advance()):
        pieces.append(value_of(result, f"{plan.key.name}: the matches could not be read"))
    progress.end()
    nights = dict(zip(frames["frame_id"].to_pylist(), frames["night"].to_pylist(), strict=True))
    return StarObservations.together(pieces), wanted, nights, left_out + notes


def _band_of(camera: Camera, name: str) -> Band | None:
    """Return how a camera calibrates a band; None if no filter of it has the band any more."""
    for band in camera.filters.values():
        if band.band == name:
            return Band(band, camera.apertures.flux, camera.calibration)
    return None


def _thinned(frames: pa.Table, plan: SeasonPlan) -> tuple[pa.Table, list[str]]:
    """Return frames in the order of time, evenly fewer where they have too many matches, and a sentence on that."""
    frames = frames.sort_by([("mjd_mid", "ascending"), ("frame_id", "ascending")])
    total = sum(night.n_matches for night in plan.nights)
    if total <= MOST_MATCHES:
        return frames, []
    count = max(int(frames.num_rows * MOST_MATCHES / total), 1)
    kept = np.linspace(0, frames.num_rows - 1, count).astype(np.int64)
    sentence = (
        f"solve {plan.camera} {plan.band}: {count} of {frames.num_rows} frames, evenly over time, since all of them "
        f"have {total / 1e6:.0f} million matches and {MOST_MATCHES / 1e6:.0f} million are solved together"
    )
    return frames.take(pa.array(np.unique(kept))), [sentence]


def read_observations(
    nights: Sequence[SeasonNight], frames: pa.Table, profile: Profile, wanted: Band
) -> StarObservations:
    """Read the observations of some nights; runs on a worker.

    Nights on which the camera measured another flux, or used another colour, are left out.
    """
    band = pc.field("band") == wanted.band.band
    matches = read_files("matches", [one for night in nights for one in night.matches], filter=band)
    pieces = []
    for night in nights:
        mine = frames.filter(pc.equal(frames["night"], night.night))
        if mine.num_rows == 0:
            continue
        camera = camera_of_frames(profile, mine)
        mine = with_filters(mine, camera)
        bands = {one.band: one for one in filters_of(mine, camera).values()}
        used = bands.get(wanted.band.band)
        if used is None or (used.colour, used.pivot_colour, camera.apertures.flux) != (
            wanted.band.colour,
            wanted.band.pivot_colour,
            wanted.flux,
        ):
            continue
        own = matches.filter(pc.equal(matches["night"], night.night))
        pieces.append(star_observations(mine, own, Band(used, wanted.flux, camera.calibration)))
    return StarObservations.together(pieces)
