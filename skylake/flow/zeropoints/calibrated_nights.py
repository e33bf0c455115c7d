"""The nights of a lake as a calibration sees them: what each would be made from, and whether it is up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from skylake.cameras import Profile
from skylake.flow.staleness import Why, why_stale
from skylake.flow.zeropoints.calibration_parameters import calibration_inputs
from skylake.flow.zeropoints.variable_stars import variable_catalogs
from skylake.lake import Part, Snapshot
from skylake.lake.storage.slices import Slice
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.matches import matches_name


@dataclass(frozen=True, slots=True)
class Against:
    """What a camera is calibrated against: a catalog, and the version that its zeropoints get."""

    reference: ReferenceCatalog
    version: int


@dataclass(frozen=True, slots=True)
class Night:
    """A night to calibrate: everything that a worker needs.

    ``matches`` is the part of an earlier calibration that still holds, or None to join anew. ``why_matches`` and
    ``why_zeropoints`` tell why they are to be made anew; None means that they are up to date.
    """

    name: str
    camera: str
    night: int
    against: Against
    frames: tuple[Slice, ...]
    sources: Part
    sources_slices: tuple[Slice, ...]
    matches: Part | None
    matches_slices: tuple[Slice, ...]
    inputs: dict[str, str]
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
        return zeropoints_name(self.name, self.against.reference.name, self.against.version)

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


def zeropoints_name(batch: str, catalog: str, version: int) -> str:
    """Return the name of the part of ``zeropoints`` of a batch."""
    return f"{batch}-{catalog}-v{version}"


def versions_of(snapshot: Snapshot, catalog: str, camera: str | None = None) -> list[int]:
    """Return the versions of the zeropoints from a catalog, of one camera or of all, the largest first.

    They stand in the descriptions, so a file that is lost is no hindrance to making it again.
    """
    parts = [part for part in snapshot.parts("zeropoints").values() if camera in (None, part.camera)]
    keys = [dict(part.key) for part in parts if part.n_rows]
    return sorted({int(key["version"]) for key in keys if key.get("catalog") == catalog}, reverse=True)


def plan_nights(
    snapshot: Snapshot, profiles: Mapping[str, Profile], against: Mapping[str, Against]
) -> Iterator[Night]:
    """Yield all nights of the cameras that are calibrated, those that are up to date too."""
    sources, matches, zeropoints = (snapshot.parts(table) for table in ("sources", "matches", "zeropoints"))
    variables = variable_catalogs(snapshot)
    lost = {table: snapshot.version(table).lost() for table in ("matches", "zeropoints")}
    for part in snapshot.parts("frames").values():
        if part.camera is None or part.night is None or part.camera not in against:
            continue
        reference, version = against[part.camera].reference, against[part.camera].version
        detections = sources.get(part.name) or Part("sources", part.name, (), part.camera, part.night)
        inputs = calibration_inputs(part, detections, reference, profiles[part.camera], part.night, variables)
        held = matches.get(matches_name(part.name, reference.name))
        why_matches = why_stale(held, inputs) or _why_lost(held, lost["matches"])
        current = held if why_matches is None else None
        fitted = zeropoints.get(zeropoints_name(part.name, reference.name, version))
        yield Night(
            part.name,
            part.camera,
            part.night,
            against[part.camera],
            tuple(snapshot.version("frames").slices_of(part)),
            detections,
            tuple(snapshot.version("sources").slices_of(detections)),
            current,
            tuple(snapshot.version("matches").slices_of(current)) if current else (),
            inputs,
            variables,
            why_matches,
            why_stale(fitted, inputs)
            or _why_lost(fitted, lost["zeropoints"])
            or (Why.UPSTREAM if why_matches else None),
        )


def _why_lost(held: Part | None, lost: set[str]) -> Why | None:
    return Why.LOST if held is not None and held.name in lost else None


def orphans(snapshot: Snapshot) -> dict[str, list[str]]:
    """Return the parts of matches and zeropoints whose nights have no frames any more, by table."""
    alive = {(part.camera, part.night) for part in snapshot.parts("frames").values()}
    return {
        table: [
            part.name for part in snapshot.parts(table).values() if (part.camera, part.night) not in alive
        ]
        for table in ("matches", "zeropoints")
    }
