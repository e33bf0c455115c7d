"""Solve for star magnitudes: all nights of a camera in one band together, again whenever there is much that is new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.global_solution import GlobalSolution
from skylake.calibration.match_selection import Band
from skylake.calibration.star_magnitudes import (
    FEW_REPEATS,
    Season,
    SolutionKey,
    global_solutions_table,
    has_repeats,
    solve_season,
    star_magnitudes_table,
)
from skylake.calibration.star_observations import FRAME_COLUMNS, StarObservations, star_observations
from skylake.cameras import Profile
from skylake.core.camera import Camera
from skylake.core.ids import config_sha256
from skylake.core.reasons import Status
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress, counted
from skylake.flow.execution.task_guard import value_of
from skylake.flow.staleness import Why, why_stale
from skylake.flow.zeropoints.calibration_parameters import camera_of_frames
from skylake.flow.zeropoints.camera_epochs import epochs, of_one_epoch
from skylake.flow.zeropoints.crossmatch_night import filters_of, with_filters
from skylake.flow.zeropoints.star_solutions import (
    SOLUTIONS,
    STARS,
    StoredSolution,
    bands_of_nights,
    solutions_in_force,
)
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.storage.slices import Slice, read_files
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.matches import matches_name

#: A solution is made again when so large a share of its frames is new, gone or made anew: fewer change it by less than
#: its errors, and every new one makes all nights calibrate again.
GROWTH = 0.25
#: So many matches are solved together at most, which takes about 4 GB; of more, frames are left out evenly.
MOST_MATCHES = 20_000_000
#: So many matches are read at a time.
_READ_TOGETHER = 2_000_000


@dataclass(frozen=True, slots=True)
class SeasonNight:
    """A night of a camera: its good frames in a band, and its parts of tables."""

    night: int
    n_frames: int
    n_matches: int
    checksum: str
    frames: tuple[Slice, ...]
    matches: tuple[Slice, ...]

    @property
    def record(self) -> dict[str, Any]:
        """What the solution keeps of it."""
        return {"night": self.night, "n_frames": self.n_frames, "checksum": self.checksum}


@dataclass(frozen=True, slots=True)
class SeasonPlan:
    """A camera and band with all its nights that have matches, and the solution that there is.

    ``why`` says why there has to be a new one; None if there is none to make.
    """

    camera: str
    band: str
    catalog: str
    nights: tuple[SeasonNight, ...]
    held: StoredSolution | None
    inputs: dict[str, str]
    why: Why | None

    @property
    def key(self) -> SolutionKey:
        """Of the next solution."""
        version = 1 if self.held is None else self.held.key.version + 1
        return SolutionKey(self.camera, self.band, self.catalog, version)

    @property
    def n_frames(self) -> int:
        """Good frames in the band."""
        return sum(night.n_frames for night in self.nights)


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


def plan_seasons(
    snapshot: Snapshot, profile: Profile, reference: ReferenceCatalog, is_forced: bool = False
) -> Iterator[SeasonPlan]:
    """Yield each band of a camera that has repeats or a solution, those that are up to date too.

    Parameters
    ----------
    snapshot : Snapshot
    profile : Profile
    reference : ReferenceCatalog
        The catalog that its nights are matched with.
    is_forced : bool
        Solve again, whatever has changed.
    """
    camera, matches = profile.name, snapshot.parts("matches")
    by_night = bands_of_nights(snapshot, {camera: profile})
    held = solutions_in_force(snapshot, camera, reference.name)
    parts = {
        part.night: (part, matches[matches_name(part.name, reference.name)])
        for part in snapshot.parts("frames").values()
        if part.camera == camera
        and part.night is not None
        and matches_name(part.name, reference.name) in matches
    }
    for band in sorted({name for bands in by_night.values() for name in bands} | held.keys()):
        nights = tuple(
            _season_night(snapshot, night, by_night[camera, night], band, *parts[night])
            for night in sorted(parts)
            if by_night.get((camera, night), {}).get(band)
        )
        n_frames = sum(night.n_frames for night in nights)
        if band not in held and n_frames < FEW_REPEATS and not is_forced:
            continue
        inputs = _inputs(profile, reference, band)
        plan = SeasonPlan(camera, band, reference.name, nights, held.get(band), inputs, None)
        why = Why.INPUTS if is_forced else _why(plan)
        yield SeasonPlan(camera, band, reference.name, nights, held.get(band), inputs, why)


def _season_night(
    snapshot: Snapshot, night: int, bands: Mapping[str, int], band: str, frames: Part, matches: Part
) -> SeasonNight:
    n_matches = matches.n_rows * bands[band] // max(sum(bands.values()), 1)
    return SeasonNight(
        night,
        bands[band],
        n_matches,
        matches.checksum,
        tuple(snapshot.version("frames").slices_of(frames)),
        tuple(snapshot.version("matches").slices_of(matches)),
    )


def _configuration(profile: Profile, band: str) -> dict[str, Any]:
    """Return the values of a profile that a solution depends on."""
    base = profile.base
    colours = {(one.colour or "", one.pivot_colour) for one in base.filters.values() if one.band == band}
    return {
        "band": band,
        "colours": sorted(colours),
        "calibration": asdict(base.calibration),
        "flux": base.apertures.flux,
    } | ({"epochs": epochs(profile)} if profile.periods else {})


def _inputs(profile: Profile, reference: ReferenceCatalog, band: str) -> dict[str, str]:
    """Return what a solution is made from beside its nights: names to checksums."""
    return {"catalog": reference.checksum, "configuration": config_sha256(_configuration(profile, band))}


def _why(plan: SeasonPlan) -> Why | None:
    """Return why there has to be a new solution."""
    if plan.held is None:
        return Why.NEW
    changed = why_stale(plan.held.solution, plan.inputs)
    if changed is not None:
        return changed
    row = read_files(SOLUTIONS, plan.held.solution_slices, ["n_frames", "nights"]).to_pylist()[0]
    old = dict(zip(row["nights"]["night"], row["nights"]["checksum"], strict=True))
    counts = dict(zip(row["nights"]["night"], row["nights"]["n_frames"], strict=True))
    now = {night.night for night in plan.nights}
    fresh = sum(night.n_frames for night in plan.nights if old.get(night.night) != night.checksum)
    gone = sum(count for night, count in counts.items() if night not in now)
    return Why.INPUTS if fresh + gone > GROWTH * row["n_frames"] else None


def solve_planned(
    lake: Lake,
    plan: SeasonPlan,
    profile: Profile,
    reference: ReferenceCatalog,
    workers: Workers,
    progress: Progress,
) -> SeasonReport | None:
    """Solve a band of a camera and commit its star magnitudes; None if its stars were not measured often enough.

    Solutions that there are of the band were then made from another catalog or with other parameters, and are removed.

    Raises
    ------
    LakeError
        If matches cannot be read, or the lake cannot be written.
    """
    snapshot = lake.snapshot()
    if plan.held is None and not has_repeats(*_seen(plan)):
        return None
    read = _read(plan, profile, reference, workers, progress) if plan.nights else None
    season = Season.of(read[0]) if read is not None else None
    if read is None or season is None or not has_repeats(season.observations.frame, season.observations.star):
        _withdraw(lake, snapshot, plan)
        return None
    _, band, nights, notes = read
    solution = solve_season(season, nights, band)
    made = _tables(plan, season, solution, nights, band)
    _commit(lake, snapshot, plan, made, _configuration(profile, plan.band))
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


def _seen(plan: SeasonPlan) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return frame and star of each match of a band."""
    slices = [one for night in plan.nights for one in night.matches]
    rows = read_files("matches", slices, ["frame_id", "ref_id"], pc.field("band") == plan.band)
    return rows["frame_id"].to_numpy(), rows["ref_id"].to_numpy()


def _withdraw(lake: Lake, snapshot: Snapshot, plan: SeasonPlan) -> None:
    """Remove the solutions of a band."""
    commit = Commit("solve", plan.key.name, base=snapshot.number)
    for table in (STARS, SOLUTIONS):
        for part in snapshot.parts(table).values():
            key = dict(part.key)
            if (key.get("camera"), key.get("band"), key.get("catalog")) == (
                plan.camera,
                plan.band,
                plan.catalog,
            ):
                commit.remove(table, part.name)
    if commit.tables:
        lake.commit(commit)


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
    groups = list(_groups(plan.nights))
    progress.begin("seasons", len(groups))
    makers = [partial(task, group, frames, profile, wanted) for group in groups]
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


def _groups(nights: Sequence[SeasonNight]) -> Iterator[tuple[SeasonNight, ...]]:
    """Yield nights that are read together."""
    group: list[SeasonNight] = []
    for night in nights:
        if group and sum(one.n_matches for one in group) + night.n_matches > _READ_TOGETHER:
            yield tuple(group)
            group = []
        group.append(night)
    if group:
        yield tuple(group)


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
