"""Solve for star magnitudes: all nights of a camera in one band together, and later those of new fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.global_solution import GlobalSolution
from skylake.calibration.match_selection import Band
from skylake.calibration.solution_extension import solve_extension
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
from skylake.core.scintillation import Scintillation
from skylake.flow.compaction.unbundle import unbundle
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress
from skylake.flow.execution.task_guard import value_of
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibration_parameters import camera_of_frames
from skylake.flow.zeropoints.camera_epochs import of_one_epoch, same_epoch
from skylake.flow.zeropoints.crossmatch_night import filters_of, with_filters
from skylake.flow.zeropoints.repeat_memory import RepeatMemory, keep_memory, read_memory
from skylake.flow.zeropoints.repeated_stars import groups, new_repeats, solved_stars
from skylake.flow.zeropoints.season_plans import Extension, SeasonNight, SeasonPlan
from skylake.flow.zeropoints.star_solutions import (
    EXTENDS,
    SOLUTIONS,
    STARS,
    WITHDRAWN,
    SolutionChain,
    solution_configuration,
)
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.lake.storage.slices import read_files

#: So many matches are solved together at most, which takes about 4 GB; of more, frames are left out evenly.
MOST_MATCHES = 20_000_000
#: Why a solution does not hold any more.
_WHY_WITHDRAWN = {Why.CATALOG: "the catalog has changed", Why.PARAMETERS: "the profile has changed"}
_OF_FRAMES = "its frames have changed"


@dataclass(slots=True)
class SeasonReport:
    """A solution that was made; with a ``base_version`` the stars are those that it adds to that version."""

    camera: str
    band: str
    catalog: str
    version: int
    n_stars: int
    n_frames: int
    n_nights: int
    floor_mag: float
    catalog_scatter: float
    base_version: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The report as a sentence."""
        start, solved = (
            f"solve {self.camera} {self.band}: version {self.version}",
            counted(self.n_stars, "star"),
        )
        source = f"{counted(self.n_frames, 'frame')} of {counted(self.n_nights, 'night')}"
        if self.base_version is not None:
            return f"{start} extends version {self.base_version} by the magnitudes of {solved} from {source}"
        return (
            f"{start} of the magnitudes of {solved} from {source}; the catalog scatters by "
            f"{1000 * self.catalog_scatter:.0f} mmag beyond its errors, bright stars by "
            f"{1000 * self.floor_mag:.1f} mmag from frame to frame"
        )


@dataclass(frozen=True, slots=True)
class _SeasonRead:
    """The observations of a season.

    ``nights`` has the night of each frame, ``scintillation`` is the rms of the frames, magnitudes, NaN where it is not
    known, and ``notes`` say what was left out.
    """

    observations: StarObservations
    band: Band
    nights: dict[int, int]
    scintillation: float
    notes: list[str]


def look_for_repeats(snapshot: Snapshot, plan: SeasonPlan) -> SeasonPlan:
    """Return a plan with the reason that stars of its fresh nights repeat, if it has no other and they do.

    A solution that is in force is then extended by them.
    """
    found = new_repeats(snapshot, plan) if plan.why is None and plan.fresh else None
    if found is None or (plan.in_force is not None and not found.nights):
        return plan
    return replace(plan, why=Why.NEW, extension=found if plan.in_force is not None else None)


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
    workers: Workers,
    progress: Progress,
) -> SeasonReport | None:
    """Solve a band of a camera and commit its star magnitudes; None if its stars were not measured often enough.

    The solution that there is of the band is then withdrawn: it stays, and no frame is calibrated with it or with its
    extensions. One that was to be extended stays in force.

    Parameters
    ----------
    lake : Lake
    snapshot : Snapshot
        From which the plan was made.
    plan : SeasonPlan
        The nights that it solves have matches that are up to date.
    profile : Profile
    workers : Workers
    progress : Progress

    Raises
    ------
    LakeError
        If matches cannot be read, or the lake cannot be written.
    """
    chain = plan.extended
    solved = solved_stars(plan) if chain is not None else np.zeros(0, np.int64)
    read = _read(plan, profile, workers, progress) if plan.solved_nights else None
    season = Season.of(read.observations) if read is not None else None
    if read is None or season is None or not _has_new_repeats(season, solved):
        if chain is not None:
            remember_fresh(lake, plan)
        else:
            _remember(lake, plan, plan.n_frames)
            _withdraw(lake, snapshot, plan, workers, progress)
        return None
    band, nights = read.band, read.nights
    if chain is None:
        solution = solve_season(season, nights, band)
    else:
        solution = solve_extension(season, nights, band, chain.read(), solved)
    made = _tables(plan, season, solution, read)
    _commit(lake, snapshot, plan, made, solution_configuration(profile, plan.band))
    # Fresh nights that the solution has are known by it, also after a rollback.
    own = {night.night for night in plan.solved_nights}
    remember_fresh(lake, replace(plan, fresh=tuple(night for night in plan.fresh if night.night not in own)))
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
        chain.base.key.version if chain is not None else None,
        read.notes,
    )
    for sentence in (*read.notes, report.line):
        progress.line(sentence)
    return report


def _has_new_repeats(season: Season, solved: npt.NDArray[np.int64]) -> bool:
    """Tell whether stars repeat that are not solved yet; cuts may have left none of them."""
    seen = season.observations
    is_new = ~np.isin(seen.star, solved)
    return has_repeats(seen.frame[is_new], seen.star[is_new])


def _withdraw(lake: Lake, snapshot: Snapshot, plan: SeasonPlan, workers: Workers, progress: Progress) -> None:
    """Note in the latest full solution of a band that no frame is calibrated with it any more."""
    if plan.held is None or WITHDRAWN in plan.held.base.solution.inputs:
        return
    base, why = plan.held.base, plan.why or Why.INPUTS
    name = base.key.name
    unbundle(lake, workers, {SOLUTIONS: [name]}, progress)
    rows = read_files(SOLUTIONS, base.solution_slices)
    commit = Commit("solve", name, base=snapshot.number)
    with lake.stage("solve") as staging:
        inputs = base.solution.inputs | {WITHDRAWN: why.value}
        part = stage_part(rows, SOLUTIONS, name, staging / SOLUTIONS, None, plan.camera, None, inputs)
        commit.replace(part, staging / SOLUTIONS)
        lake.commit(commit)
    progress.line(
        f"solve {plan.camera} {plan.band}: version {base.key.version} of the star magnitudes is withdrawn, as "
        f"{_WHY_WITHDRAWN.get(why, _OF_FRAMES)}, and fewer than {REPEATED_STARS} stars are on {REPEATS} frames each "
        f"now, or {MANY_STARS} on {FEW_REPEATS}; zeropoints are those against the catalog"
    )


def _tables(
    plan: SeasonPlan, season: Season, solution: GlobalSolution, read: _SeasonRead
) -> dict[str, pa.Table]:
    """Return the rows of a solution by table."""
    band, nights = read.band, read.nights
    key, records = plan.key, [one.record for one in plan.solved_nights]
    base = plan.extended.base.key.version if plan.extended is not None else None
    pivot = band.band.pivot_colour if band.band.colour is not None else float("nan")
    return {
        STARS: star_magnitudes_table(season, solution, nights, key, pivot),
        SOLUTIONS: global_solutions_table(season, solution, key, band, records, base, read.scintillation),
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
    inputs = plan.inputs
    if plan.extended is not None:
        inputs = inputs | {EXTENDS: plan.extended.base.label}
    commit.configure([configuration])
    with lake.stage("solve") as staging:
        for table, rows in tables.items():
            tree = lake.tree_of(table) if table == STARS else None
            part = stage_part(rows, table, plan.key.name, staging / table, tree, plan.camera, None, inputs)
            commit.replace(part, staging / table)
        lake.commit(commit)


def _read(plan: SeasonPlan, profile: Profile, workers: Workers, progress: Progress) -> _SeasonRead | None:
    """Read the observations of a season."""
    frames = read_files(
        "frames",
        [one for night in plan.solved_nights for one in night.frames],
        FRAME_COLUMNS,
        pc.field("status") == Status.OK.value,
    )
    if plan.extension is None or plan.in_force is None:
        frames, left_out = of_one_epoch(frames, profile, f"{plan.camera} {plan.band}")
    else:
        frames, left_out = _extending(frames, plan.extension, plan.in_force, profile), []
    if frames.num_rows == 0:
        return None
    latest = profile.at(float(pc.max(frames["mjd_mid"]).as_py()))
    wanted = _band_of(latest, plan.band)
    if wanted is None:
        return None
    frames = with_filters(frames, latest)
    frames, notes = _thinned(frames.filter(pc.equal(frames["band"], plan.band)), plan)
    task = dask.delayed(read_observations, pure=False)
    pieces_of = list(groups(plan.solved_nights))
    progress.begin("seasons", len(pieces_of))
    makers = [partial(task, group, frames, profile, wanted) for group in pieces_of]
    pieces = []
    for result in run_in_windows(workers, makers, lambda *_: progress.advance()):
        pieces.append(value_of(result, f"{plan.key.name}: the matches could not be read"))
    progress.end()
    nights = dict(zip(frames["frame_id"].to_pylist(), frames["night"].to_pylist(), strict=True))
    noise = np.zeros(0) if wanted.scintillation is None else wanted.scintillation.of_table(frames)
    rms = float(np.sqrt(np.nanmean(noise**2))) if np.isfinite(noise).any() else float("nan")
    return _SeasonRead(StarObservations.together(pieces), wanted, nights, rms, left_out + notes)


def _extending(frames: pa.Table, extension: Extension, chain: SolutionChain, profile: Profile) -> pa.Table:
    """Return the frames of an extension with the optics and the detector of the solution that it extends."""
    frames = frames.filter(pc.is_in(frames["frame_id"], pa.array(extension.frames)))
    if not profile.periods:
        return frames
    camera = profile.at(chain.read().mjd_last)
    same = {
        night: same_epoch(camera_of_frames(profile, frames.filter(pc.equal(frames["night"], night))), camera)
        for night in pc.unique(frames["night"]).to_pylist()
    }
    return frames.filter(pa.array([same[night] for night in frames["night"].to_pylist()], pa.bool_()))


def _band_of(camera: Camera, name: str) -> Band | None:
    """Return how a camera calibrates a band; None if no filter of it has the band any more."""
    for band in camera.filters.values():
        if band.band == name:
            return Band(
                band, camera.apertures.flux, camera.calibration, scintillation=Scintillation.of(camera)
            )
    return None


def _thinned(frames: pa.Table, plan: SeasonPlan) -> tuple[pa.Table, list[str]]:
    """Return frames in the order of time, evenly fewer where they have too many matches, and a sentence on that."""
    frames = frames.sort_by([("mjd_mid", "ascending"), ("frame_id", "ascending")])
    total = sum(night.n_matches for night in plan.solved_nights)
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
