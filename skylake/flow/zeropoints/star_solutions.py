"""The solutions of a lake that are in force: star magnitudes of cameras, and where their rows are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from skylake.calibration.star_magnitudes import SolutionKey, StarReference
from skylake.cameras import Profile
from skylake.core.reasons import Status
from skylake.lake import Part, Snapshot
from skylake.lake.storage.slices import Slice, read_files

#: The tables that a solution has a part in, both of one name.
STARS, SOLUTIONS = "star_magnitudes", "global_solutions"


@dataclass(frozen=True, slots=True)
class StoredSolution:
    """A solution of a camera, band and catalog, and where its rows are."""

    key: SolutionKey
    solution: Part
    checksum: str
    stars_slices: tuple[Slice, ...]
    solution_slices: tuple[Slice, ...]

    @property
    def label(self) -> str:
        """Band, version and content: what zeropoints were made with."""
        return f"{self.key.band}:{self.key.version}:{self.checksum}"

    def read(self) -> StarReference:
        """Return the star magnitudes, and what the solution says of the camera."""
        return StarReference.of(
            read_files(STARS, self.stars_slices), read_files(SOLUTIONS, self.solution_slices)
        )


def solutions_in_force(snapshot: Snapshot, camera: str, catalog: str) -> dict[str, StoredSolution]:
    """Return the solution of the largest version of each band of a camera."""
    stars = snapshot.parts(STARS)
    found: dict[str, SolutionKey] = {}
    for part in snapshot.parts(SOLUTIONS).values():
        values = dict(part.key)
        if (values.get("camera"), values.get("catalog")) != (camera, catalog) or part.name not in stars:
            continue
        key = SolutionKey(camera, str(values["band"]), catalog, int(values["version"]))
        if key.band not in found or key.version > found[key.band].version:
            found[key.band] = key
    return {band: _stored(snapshot, key) for band, key in sorted(found.items())}


def _stored(snapshot: Snapshot, key: SolutionKey) -> StoredSolution:
    stars, solution = (snapshot.parts(table)[key.name] for table in (STARS, SOLUTIONS))
    slices = [tuple(snapshot.version(part.table).slices_of(part)) for part in (stars, solution)]
    return StoredSolution(key, solution, f"{stars.checksum}{solution.checksum}", *slices)


def bands_of_nights(
    snapshot: Snapshot, profiles: Mapping[str, Profile]
) -> dict[tuple[str, int], dict[str, int]]:
    """Return the number of good frames in each band of each night of some cameras, as their profiles are now."""
    good = pc.field("status") == Status.OK.value
    rows = snapshot.read("frames", ["camera", "night", "filter"], lambda part: part.camera in profiles, good)
    counted = rows.group_by(["camera", "night", "filter"]).aggregate([([], "count_all")])
    found: dict[tuple[str, int], dict[str, int]] = {}
    for row in counted.to_pylist():
        camera = profiles[row["camera"]].base
        name = row["filter"] or camera.default_filter
        band = camera.filter_band(name) if name is not None else None
        if band is not None:
            bands = found.setdefault((row["camera"], row["night"]), {})
            bands[band.band] = bands.get(band.band, 0) + row["count_all"]
    return found


def orphaned_solutions(snapshot: Snapshot) -> dict[str, list[str]]:
    """Return the parts of solutions whose camera has no frames any more, by table."""
    cameras = {part.camera for part in snapshot.parts("frames").values()}
    return {
        table: [part.name for part in snapshot.parts(table).values() if part.camera not in cameras]
        for table in (STARS, SOLUTIONS)
    }


def labels_of(solutions: Mapping[str, StoredSolution], bands: Iterable[str]) -> dict[str, str]:
    """Return what zeropoints of a night with frames in some bands are made from beside matches and frames."""
    used = [solutions[band].label for band in sorted(bands) if band in solutions]
    return {STARS: " ".join(used)} if used else {}
