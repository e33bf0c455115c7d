"""Where star magnitudes of a camera are to be solved for: the nights of each band, and why there is a new solution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from skylake.calibration.star_magnitudes import FEW_REPEATS, SolutionKey
from skylake.cameras import Profile
from skylake.flow.staleness import Why, why_stale
from skylake.flow.zeropoints.calibration_parameters import CalibrationSource
from skylake.flow.zeropoints.repeat_memory import RepeatMemory, read_memory
from skylake.flow.zeropoints.star_solutions import (
    SOLUTIONS,
    WITHDRAWN,
    StoredSolution,
    bands_of_nights,
    latest_solutions,
    solution_inputs,
)
from skylake.flow.zeropoints.variable_stars import variable_catalogs
from skylake.lake import Part, Snapshot
from skylake.lake.storage.slices import Slice, read_files
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import Pixel
from skylake.table.matches import matches_name

#: A solution is made again when so large a share of its frames is new, gone or made anew: fewer change it by less than
#: its errors, and every new one makes all nights calibrate again.
GROWTH = 0.25


@dataclass(frozen=True, slots=True)
class SeasonNight:
    """A night of a camera: its good frames in a band, and its parts of tables.

    ``checksum`` is that of its matches, empty if it has none, and ``pixels`` those of its matches, file by file.
    ``is_matched`` tells whether the matches are those of frames, catalog and profile as they are now.
    """

    night: int
    n_frames: int
    n_matches: int
    checksum: str
    is_matched: bool
    frames: tuple[Slice, ...]
    matches: tuple[Slice, ...]
    pixels: tuple[Pixel | None, ...]

    @property
    def record(self) -> dict[str, Any]:
        """What the solution keeps of it."""
        return {"night": self.night, "n_frames": self.n_frames, "checksum": self.checksum}


@dataclass(frozen=True, slots=True)
class SeasonPlan:
    """A camera and band with all its nights, and the latest solution that there is.

    ``why`` says why there has to be a new solution; None if nothing but new stars that repeat can be a reason.
    ``fresh`` are the nights in which no such stars were looked for yet.
    """

    camera: str
    band: str
    catalog: str
    nights: tuple[SeasonNight, ...]
    held: StoredSolution | None
    inputs: dict[str, str]
    why: Why | None
    fresh: tuple[SeasonNight, ...]

    @property
    def key(self) -> SolutionKey:
        """Of the next solution; no version is ever used again."""
        version = 1 if self.held is None else self.held.key.version + 1
        return SolutionKey(self.camera, self.band, self.catalog, version)

    @property
    def in_force(self) -> StoredSolution | None:
        """The solution that frames are calibrated with, if there is one."""
        return self.held if self.held is not None and self.held.solution.inputs == self.inputs else None

    @property
    def n_frames(self) -> int:
        """Good frames in the band."""
        return sum(night.n_frames for night in self.nights)


def plan_seasons(
    snapshot: Snapshot, profile: Profile, reference: ReferenceCatalog, is_forced: bool = False
) -> Iterator[SeasonPlan]:
    """Yield each band of a camera that may have repeats or a solution, those that are up to date too.

    Parameters
    ----------
    snapshot : Snapshot
    profile : Profile
    reference : ReferenceCatalog
        The catalog that its nights are matched with.
    is_forced : bool
        Solve again, whatever has changed.
    """
    camera = profile.name
    by_night = bands_of_nights(snapshot, {camera: profile})
    held = latest_solutions(snapshot, camera, reference.name)
    parts = _parts(snapshot, profile, reference)
    for band in sorted({name for bands in by_night.values() for name in bands} | held.keys()):
        nights = tuple(
            _season_night(snapshot, night, by_night[camera, night], band, *parts[night])
            for night in sorted(parts)
            if by_night.get((camera, night), {}).get(band)
        )
        inputs = solution_inputs(profile, reference, band)
        plan = SeasonPlan(camera, band, reference.name, nights, held.get(band), inputs, None, ())
        if plan.held is None and plan.n_frames < FEW_REPEATS and not is_forced:
            continue
        memory = read_memory(snapshot.layout, plan.camera, plan.band, plan.inputs)
        yield replace(plan, why=Why.INPUTS if is_forced else _why(plan), fresh=_fresh(plan, memory))


def _parts(
    snapshot: Snapshot, profile: Profile, reference: ReferenceCatalog
) -> dict[int, tuple[Part, Part | None, bool]]:
    """Return frames and matches of each night of a camera, and whether the matches are up to date."""
    matches, sources = snapshot.parts("matches"), snapshot.parts("sources")
    made_from = CalibrationSource(reference, profile, variable_catalogs(snapshot))
    found: dict[int, tuple[Part, Part | None, bool]] = {}
    for part in snapshot.parts("frames").values():
        if part.camera != profile.name or part.night is None:
            continue
        held = matches.get(matches_name(part.name, reference.name))
        detections = sources.get(part.name) or Part("sources", part.name, (), part.camera, part.night)
        inputs = made_from.inputs(part, detections, part.night)
        found[part.night] = (part, held, why_stale(held, inputs) is None)
    return found


def _season_night(
    snapshot: Snapshot,
    night: int,
    bands: Mapping[str, int],
    band: str,
    frames: Part,
    matches: Part | None,
    is_matched: bool,
) -> SeasonNight:
    slices = tuple(snapshot.version("matches").slices_of(matches)) if matches else ()
    return SeasonNight(
        night,
        bands[band],
        (matches.n_rows if matches else 0) * bands[band] // max(sum(bands.values()), 1),
        matches.checksum if matches else "",
        is_matched,
        tuple(snapshot.version("frames").slices_of(frames)),
        slices,
        tuple(file.pixel for file in matches.files) if matches else (),
    )


def _why(plan: SeasonPlan) -> Why | None:
    """Return why there has to be a new solution, as far as descriptions of parts tell."""
    if plan.held is None or WITHDRAWN in plan.held.solution.inputs:
        return None
    changed = why_stale(plan.held.solution, plan.inputs)
    if changed is not None:
        return changed
    old, counts = _nights_of(plan.held)
    now = {night.night for night in plan.nights}
    fresh = sum(night.n_frames for night in plan.nights if old.get(night.night) != night.checksum)
    gone = sum(count for night, count in counts.items() if night not in now)
    return Why.INPUTS if fresh + gone > GROWTH * sum(counts.values()) else None


def _fresh(plan: SeasonPlan, memory: RepeatMemory) -> tuple[SeasonNight, ...]:
    """Return the nights in which stars that repeat were not looked for yet."""
    if plan.n_frames <= (1.0 + GROWTH) * memory.n_frames_in_vain:
        return ()
    known = dict(memory.nights)
    if plan.in_force is not None:
        known |= _nights_of(plan.in_force)[0]
    return tuple(
        night
        for night in plan.nights
        if night.is_matched and night.n_matches and known.get(night.night) != night.checksum
    )


def _nights_of(solution: StoredSolution) -> tuple[dict[int, str], dict[int, int]]:
    """Return the checksum of the matches of each night of a solution, and its frames."""
    row = read_files(SOLUTIONS, solution.solution_slices, ["nights"]).to_pylist()[0]["nights"]
    return (
        dict(zip(row["night"], row["checksum"], strict=True)),
        dict(zip(row["night"], row["n_frames"], strict=True)),
    )
