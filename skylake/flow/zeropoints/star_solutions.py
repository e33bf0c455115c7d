"""The solutions of a lake that are in force: star magnitudes of cameras, and where their rows are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.star_magnitudes import SolutionKey
from skylake.calibration.star_reference import STAR_COLUMNS, StarReference
from skylake.cameras import Profile
from skylake.core.flags import FrameFlag
from skylake.core.ids import config_sha256
from skylake.core.reasons import Status
from skylake.core.scintillation import Scintillation
from skylake.flow.zeropoints.camera_epochs import epochs
from skylake.flow.zeropoints.crossmatch_night import filter_now
from skylake.lake import Part, Snapshot
from skylake.lake.storage.slices import Slice, read_files
from skylake.sky.lake_catalogs import ReferenceCatalog

#: The tables that a solution has a part in, both of one name.
STARS, SOLUTIONS = "star_magnitudes", "global_solutions"
#: What a solution is made from has this too once it was withdrawn: why.
WITHDRAWN = "withdrawn"
#: What an extension is made from has this too: the full solution that it extends.
EXTENDS = "extends"


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

    @property
    def nights(self) -> dict[int, dict[str, Any]]:
        """What it keeps of each of its nights: ``n_frames`` and ``checksum``."""
        row = read_files(SOLUTIONS, self.solution_slices, ["nights"]).to_pylist()[0]["nights"]
        return {
            night: {"n_frames": n_frames, "checksum": checksum}
            for night, n_frames, checksum in zip(row["night"], row["n_frames"], row["checksum"], strict=True)
        }


@dataclass(frozen=True)
class SolutionChain:
    """A full solution, and the extensions by stars of new fields that were made since, in the order of versions.

    ``last_version`` is the largest of any solution of the band.
    """

    base: StoredSolution
    extensions: tuple[StoredSolution, ...]
    last_version: int

    @property
    def members(self) -> tuple[StoredSolution, ...]:
        """All of them, the full solution first."""
        return self.base, *self.extensions

    @property
    def band(self) -> str:
        """Their band."""
        return self.base.key.band

    @cached_property
    def extended(self) -> dict[str, frozenset[int]]:
        """The nights of each extension by its label."""
        return {one.label: frozenset(one.nights) for one in self.extensions}

    def kept(self, labels: Collection[str], night: int) -> SolutionChain:
        """Return the chain that zeropoints of a night may keep, given the labels of what they were made with.

        It is what they were made with as long as that is still in force and no other extension has stars for the
        night.
        """
        mine = {label for label in labels if label.startswith(f"{self.band}:")}
        if self.base.label not in mine or not mine <= {one.label for one in self.members}:
            return self
        others = [one.label for one in self.extensions if one.label not in mine]
        if any(night in self.extended[label] for label in others):
            return self
        return replace(self, extensions=tuple(one for one in self.extensions if one.label in mine))

    def read(self) -> StarReference:
        """Return the star magnitudes, and what the full solution says of the camera."""
        stars = [piece for one in self.members for piece in one.stars_slices]
        rows = [piece for one in self.members for piece in one.solution_slices]
        return StarReference.of(read_files(STARS, stars, STAR_COLUMNS), read_files(SOLUTIONS, rows))


def solution_configuration(profile: Profile, band: str) -> dict[str, Any]:
    """Return the values of a profile that a solution depends on."""
    base = profile.base
    colours = {(one.colour or "", one.pivot_colour) for one in base.filters.values() if one.band == band}
    found: dict[str, Any] = {
        "band": band,
        "colours": sorted(colours),
        "calibration": asdict(base.calibration),
        "flux": base.apertures.flux,
    }
    telescope = Scintillation.of(base)
    found |= {"scintillation": asdict(telescope)} if telescope is not None else {}
    return found | ({"epochs": others} if (others := epochs(profile)) else {})


def solution_inputs(profile: Profile, reference: ReferenceCatalog, band: str) -> dict[str, str]:
    """Return what a solution is made from beside its nights: names to checksums."""
    configuration = solution_configuration(profile, band)
    return {"catalog": reference.checksum, "configuration": config_sha256(configuration)}


def latest_solutions(snapshot: Snapshot, camera: str, catalog: str) -> dict[str, SolutionChain]:
    """Return the latest full solution of each band of a camera and its extensions, whether it is in force or not."""
    stars = snapshot.parts(STARS)
    found: dict[str, list[SolutionKey]] = {}
    for part in snapshot.parts(SOLUTIONS).values():
        values = dict(part.key)
        if (values.get("camera"), values.get("catalog")) != (camera, catalog) or part.name not in stars:
            continue
        key = SolutionKey(camera, str(values["band"]), catalog, int(values["version"]))
        found.setdefault(key.band, []).append(key)
    chains = {band: _chain(snapshot, keys) for band, keys in sorted(found.items())}
    return {band: chain for band, chain in chains.items() if chain is not None}


def _chain(snapshot: Snapshot, keys: Iterable[SolutionKey]) -> SolutionChain | None:
    """Return the latest full solution of a band with its extensions; None if there are only extensions."""
    keys, parts = sorted(keys, key=lambda key: key.version), snapshot.parts(SOLUTIONS)
    full = [key for key in keys if EXTENDS not in parts[key.name].inputs]
    if not full:
        return None
    base = _stored(snapshot, full[-1])
    mine = [key for key in keys if parts[key.name].inputs.get(EXTENDS) == base.label]
    return SolutionChain(base, tuple(_stored(snapshot, key) for key in mine), keys[-1].version)


def solutions_in_force(
    snapshot: Snapshot, profile: Profile, reference: ReferenceCatalog
) -> dict[str, SolutionChain]:
    """Return the solutions of a camera by band that its frames are calibrated with.

    These are the latest full ones with their extensions, if they were made from the catalog and the parameters as they
    are now and were not withdrawn: a catalog that is imported again may number its stars anew.
    """
    latest = latest_solutions(snapshot, profile.name, reference.name)
    return {
        band: one
        for band, one in latest.items()
        if one.base.solution.inputs == solution_inputs(profile, reference, band)
    }


def _stored(snapshot: Snapshot, key: SolutionKey) -> StoredSolution:
    stars, solution = (snapshot.parts(table)[key.name] for table in (STARS, SOLUTIONS))
    slices = [tuple(snapshot.version(part.table).slices_of(part)) for part in (stars, solution)]
    return StoredSolution(key, solution, f"{stars.checksum}{solution.checksum}", *slices)


def bands_of_nights(
    snapshot: Snapshot, profiles: Mapping[str, Profile]
) -> dict[tuple[str, int], dict[str, int]]:
    """Return the number of good frames in each band of each night of some cameras, as their profiles are now."""
    slices = snapshot.slices("frames", lambda part: part.camera in profiles)
    times, kinds = _kinds_of_frames(tuple(slices))
    cameras = {
        (row["camera"], row["night"]): profiles[row["camera"]].at(row["mjd_mid_mean"])
        for row in times.to_pylist()
    }
    found: dict[tuple[str, int], dict[str, int]] = {batch: {} for batch in cameras}
    for row in kinds.to_pylist():
        batch = row["camera"], row["night"]
        band = cameras[batch].filter_band(filter_now(row["filter"], row["flags"], cameras[batch]))
        if band is not None:
            found[batch][band.band] = found[batch].get(band.band, 0) + row["count_all"]
    return found


@lru_cache(maxsize=4)
def _kinds_of_frames(slices: tuple[Slice, ...]) -> tuple[pa.Table, pa.Table]:
    """Return the mean time of the good frames of each night, and how many there are of each filter.

    One calibration asks several times for the same frames, and descriptions have the checksums of their files.
    """
    good = pc.field("status") == Status.OK.value
    rows = read_files("frames", slices, ["camera", "night", "filter", "flags", "mjd_mid"], good)
    # Of the flags only one matters, and frames of a night differ in few filters.
    assumed = pc.bit_wise_and(rows["flags"], pa.scalar(int(FrameFlag.FILTER_ASSUMED), rows["flags"].type))
    rows = rows.set_column(rows.schema.get_field_index("flags"), "flags", assumed)
    times = rows.group_by(["camera", "night"]).aggregate([("mjd_mid", "mean")])
    kinds = rows.group_by(["camera", "night", "filter", "flags"]).aggregate([([], "count_all")])
    return times, kinds


def orphaned_solutions(snapshot: Snapshot) -> dict[str, list[str]]:
    """Return the parts of solutions whose camera has no frames any more, by table."""
    cameras = {part.camera for part in snapshot.parts("frames").values()}
    return {
        table: [part.name for part in snapshot.parts(table).values() if part.camera not in cameras]
        for table in (STARS, SOLUTIONS)
    }


def labels_of(solutions: Mapping[str, SolutionChain], bands: Iterable[str]) -> dict[str, str]:
    """Return what zeropoints of a night with frames in some bands are made from beside matches and frames."""
    used = [one.label for band in sorted(bands) if band in solutions for one in solutions[band].members]
    return {STARS: " ".join(used)} if used else {}


def solutions_kept(
    solutions: Mapping[str, SolutionChain], fitted: Part | None, night: int
) -> dict[str, SolutionChain]:
    """Return of each band the chain that the zeropoints of a night may keep; the whole one if there are none."""
    labels = fitted.inputs.get(STARS, "").split() if fitted is not None else []
    return {band: one.kept(labels, night) for band, one in solutions.items()}
