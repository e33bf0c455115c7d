"""The nights of a lake as a calibration sees them: what each would be made from, and whether it is up to date."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from skylake.cameras import Profile
from skylake.core.batch import Batch
from skylake.flow.staleness import Why, why_stale
from skylake.flow.zeropoints.calibration_parameters import CalibrationSource
from skylake.flow.zeropoints.star_solutions import (
    StoredSolution,
    bands_of_nights,
    labels_of,
    orphaned_solutions,
    solutions_in_force,
)
from skylake.flow.zeropoints.variable_stars import variable_catalogs
from skylake.lake import Part, Snapshot
from skylake.lake.storage.slices import Slice
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.matches import matches_name


class Method(StrEnum):
    """What the stars of a frame are compared with."""

    FRAME = "frame"
    """Their magnitudes in the catalog."""
    GLOBAL = "global"
    """The camera's own star magnitudes, which are solved for again."""
    AUTO = "auto"
    """The camera's own star magnitudes where there are any, else those of the catalog."""


@dataclass(frozen=True, slots=True)
class Against:
    """What a camera is calibrated against: a catalog, the version that its zeropoints get, and the method.

    A version of None is the largest of each night, and for new nights that of most nights. A method of None is that of
    each night so far, and for new nights that which all others of the version have.
    """

    reference: ReferenceCatalog
    version: int | None = None
    method: Method | None = None


@dataclass(frozen=True, slots=True)
class Night:
    """A night to calibrate: everything that a worker needs.

    ``version`` and ``method`` are those of its zeropoints. ``matches`` is the part of an earlier calibration that
    still holds, or None to join anew. ``why_matches`` and ``why_zeropoints`` tell why they are made anew; None means
    that they are up to date. ``inputs`` are those of matches, ``zeropoint_inputs`` those of zeropoints, which may be
    made with ``solutions`` of the camera.
    """

    name: str
    camera: str
    night: int
    against: Against
    version: int
    method: Method
    frames: tuple[Slice, ...]
    sources: Part
    sources_slices: tuple[Slice, ...]
    matches: Part | None
    matches_slices: tuple[Slice, ...]
    inputs: dict[str, str]
    zeropoint_inputs: dict[str, str]
    solutions: tuple[StoredSolution, ...]
    variables: tuple[ReferenceCatalog, ...]
    why_matches: Why | None
    why_zeropoints: Why | None

    @property
    def matches_name(self) -> str:
        """Name of its part of ``matches``."""
        return matches_name(self.name, self.against.reference.name)

    @property
    def zeropoints_name(self) -> str:
        """Name of its part of ``zeropoints``."""
        return zeropoints_name(self.name, self.against.reference.name, self.version)

    @property
    def is_current(self) -> bool:
        """Whether there is nothing to do."""
        return self.why_matches is None and self.why_zeropoints is None

    def joined_from(self, sources: Part, slices: tuple[Slice, ...]) -> Night:
        """Return the night with its detections in other files."""
        return replace(self, sources=sources, sources_slices=slices)

    def matched_in(self, slices: tuple[Slice, ...]) -> Night:
        """Return the night with the matches that still hold in other files."""
        return replace(self, matches_slices=slices)


def zeropoints_name(batch: str, catalog: str, version: int | str) -> str:
    """Return the name of the part of ``zeropoints`` of a batch."""
    return f"{batch}-{catalog}-v{version}"


def versions_of(snapshot: Snapshot, catalog: str, camera: str | None = None) -> list[int]:
    """Return the versions of the zeropoints from a catalog, of one camera or of all, the largest first.

    They stand in the descriptions, so a file that is lost is no hindrance to making it again.
    """
    parts = [part for part in snapshot.parts("zeropoints").values() if camera in (None, part.camera)]
    keys = [dict(part.key) for part in parts if part.n_rows]
    return sorted({int(key["version"]) for key in keys if key.get("catalog") == catalog}, reverse=True)


def versions_of_nights(snapshot: Snapshot, camera: str, catalog: str) -> dict[str, int]:
    """Return the largest version of the zeropoints of each night of a camera, by the name of its batch."""
    found: dict[str, int] = {}
    for part in snapshot.parts("zeropoints").values():
        if part.camera != camera or part.night is None:
            continue
        # A night without good frames has no rows that would name catalog and version.
        batch = str(Batch(camera, part.night))
        start = zeropoints_name(batch, catalog, "")
        version = part.name.removeprefix(start)
        if part.name.startswith(start) and version.isdecimal():
            found[batch] = max(int(version), found.get(batch, 0))
    return found


def version_of_new(versions: Mapping[str, int]) -> int:
    """Return the version that a new night gets: that of most nights, of several the largest; 1 if there are none."""
    counts = Counter(versions.values())
    return max(counts, key=lambda version: (counts[version], version), default=1)


def zeropoints_names(snapshot: Snapshot, camera: str, catalog: str, version: int | None) -> set[str]:
    """Return the names of the zeropoints of a camera in a version, or in the largest version of each night."""
    versions = versions_of_nights(snapshot, camera, catalog)
    return {zeropoints_name(batch, catalog, version or own) for batch, own in versions.items()}


def plan_nights(
    snapshot: Snapshot, profiles: Mapping[str, Profile], against: Mapping[str, Against]
) -> Iterator[Night]:
    """Yield all nights of the cameras that are calibrated, those that are up to date too."""
    sources, matches, zeropoints = (snapshot.parts(table) for table in ("sources", "matches", "zeropoints"))
    variables = variable_catalogs(snapshot)
    made_from = {
        camera: CalibrationSource(one.reference, profiles[camera], variables)
        for camera, one in against.items()
        if camera in profiles
    }
    lost = {table: snapshot.version(table).lost() for table in ("matches", "zeropoints")}
    solved = {
        camera: solutions_in_force(snapshot, profiles[camera], one.reference)
        for camera, one in against.items()
        if camera in profiles
    }
    bands = bands_of_nights(snapshot, {camera: profiles[camera] for camera, found in solved.items() if found})
    methods = {camera: method_of_version(snapshot, camera, one) for camera, one in against.items()}
    versions = {
        camera: versions_of_nights(snapshot, camera, one.reference.name) for camera, one in against.items()
    }
    for part in snapshot.parts("frames").values():
        if part.camera is None or part.night is None or part.camera not in solved:
            continue
        reference, held_versions = against[part.camera].reference, versions[part.camera]
        version = (
            against[part.camera].version or held_versions.get(part.name) or version_of_new(held_versions)
        )
        detections = sources.get(part.name) or Part("sources", part.name, (), part.camera, part.night)
        inputs = made_from[part.camera].inputs(part, detections, part.night)
        held = matches.get(matches_name(part.name, reference.name))
        why_matches = why_stale(held, inputs) or _why_lost(held, lost["matches"])
        current = held if why_matches is None else None
        fitted = zeropoints.get(zeropoints_name(part.name, reference.name, version))
        solutions = solved[part.camera]
        method = _method_of(against[part.camera], fitted, methods[part.camera])
        if method is Method.FRAME:
            solutions, of_zeropoints = {}, inputs | {"method": Method.FRAME.value}
        else:
            of_zeropoints = inputs | labels_of(solutions, bands.get((part.camera, part.night), ()))
        yield Night(
            part.name,
            part.camera,
            part.night,
            against[part.camera],
            version,
            method,
            tuple(snapshot.version("frames").slices_of(part)),
            detections,
            tuple(snapshot.version("sources").slices_of(detections)),
            current,
            tuple(snapshot.version("matches").slices_of(current)) if current else (),
            inputs,
            of_zeropoints,
            tuple(solutions.values()),
            variables,
            why_matches,
            why_stale(fitted, of_zeropoints)
            or _why_lost(fitted, lost["zeropoints"])
            or (Why.UPSTREAM if why_matches else None),
        )


def method_of_version(snapshot: Snapshot, camera: str, against: Against) -> Method:
    """Return the method of new nights of a version: that of all the others, if it is one."""
    catalog = against.reference.name
    version = against.version or version_of_new(versions_of_nights(snapshot, camera, catalog))
    held = [
        part.inputs.get("method")
        for part in snapshot.parts("zeropoints").values()
        if part.camera == camera
        and part.key
        and (dict(part.key).get("catalog"), dict(part.key).get("version")) == (catalog, version)
    ]
    return Method.FRAME if held and all(one == Method.FRAME.value for one in held) else Method.AUTO


def _method_of(against: Against, fitted: Part | None, of_version: Method) -> Method:
    """Return the method of a night: that which is wanted, else that which it has, else that of its version."""
    if against.method is not None:
        return against.method
    if fitted is None:
        return of_version
    return Method(fitted.inputs.get("method", Method.AUTO.value))


def _why_lost(held: Part | None, lost: set[str]) -> Why | None:
    return Why.LOST if held is not None and held.name in lost else None


def orphans(snapshot: Snapshot) -> dict[str, list[str]]:
    """Return the parts of matches, zeropoints and solutions of which there are no frames any more, by table."""
    alive = {(part.camera, part.night) for part in snapshot.parts("frames").values()}
    return {
        table: [
            part.name for part in snapshot.parts(table).values() if (part.camera, part.night) not in alive
        ]
        for table in ("matches", "zeropoints")
    } | orphaned_solutions(snapshot)
