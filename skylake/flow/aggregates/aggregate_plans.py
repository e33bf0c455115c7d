"""Plans of aggregates: what each part would be made from now, and the calibration that it is made with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skylake.flow.aggregates.staleness import Why, why_stale
from skylake.flow.zeropoints.calibrated_nights import versions_of, zeropoints_name
from skylake.lake import Lake, Part, Snapshot
from skylake.lake.storage.slices import Slice
from skylake.schema import load
from skylake.table.matches import matches_name


@dataclass(frozen=True, slots=True)
class Planned:
    """A part of an aggregate: its name, what it is made from, and the task that makes it.

    ``made_from`` names the parts of matches and zeropoints among its inputs, as (table, part); ``reads`` the part
    of matches that the task reads alone, without those of other nights in the same files.
    """

    name: str
    inputs: dict[str, str]
    configuration: dict[str, Any]
    made_from: tuple[tuple[str, str], ...]
    task: Callable[[Path], Any]
    reads: str | None = None

    def why(self, held: Part | None, table: str, lost: Collection[str] = ()) -> Why | None:
        """Return why the part has to be made anew, given the one that the lake holds, and those with lost files."""
        why = why_stale(held, self.inputs, load(table).sha256)
        return why or (Why.LOST if self.name in lost else None)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The calibration that aggregates use, and the files of a snapshot that hold it.

    ``in_force`` has the catalog of each camera, empty for none, and the largest version of it; ``versions`` all
    versions of each catalog, the largest first. ``copies`` has copies of matches that were made for reading, by name
    of their part.
    """

    snapshot: Snapshot
    in_force: Mapping[str, tuple[str, int]]
    versions: Mapping[str, Sequence[int]]
    copies: dict[str, tuple[Slice, ...]] = field(default_factory=dict)

    def configuration(self, batch: str | None = None, **more: Any) -> dict[str, Any]:
        """Return the resolved configuration of an aggregate of a batch, or of all, given what else it depends on."""
        if batch is not None:
            catalog, version = self._in_force(batch)
            return {"catalog": catalog, "version": version, **more}
        if len(set(self.in_force.values())) == 1:
            (catalog, version), *_ = self.in_force.values()
            return {"catalog": catalog, "version": version, **more}
        return {"in_force": {camera: list(one) for camera, one in sorted(self.in_force.items())}, **more}

    def _in_force(self, batch: str) -> tuple[str, int]:
        """Return catalog and version of a batch."""
        part = self.snapshot.parts("frames").get(batch)
        return self.in_force.get((part and part.camera) or "", ("", 1))

    def matches_name(self, batch: str) -> str:
        """Return the name of the part of matches of a batch."""
        return matches_name(batch, self._in_force(batch)[0])

    def zeropoints_name(self, batch: str) -> str:
        """Return the name of the part of zeropoints of a batch."""
        return zeropoints_name(batch, *self._in_force(batch))

    def made_from(self, batch: str) -> tuple[tuple[str, str], ...]:
        """Return the parts of a batch that a calibration makes, as (table, part)."""
        return ("matches", self.matches_name(batch)), ("zeropoints", self.zeropoints_name(batch))

    def zeropoints(self, batch: str) -> Part | None:
        """Return the part of zeropoints of a batch: of an earlier version where it has not the one in force yet."""
        catalog, parts = self._in_force(batch)[0], self.snapshot.parts("zeropoints")
        names = (zeropoints_name(batch, catalog, version) for version in self.versions.get(catalog, ()))
        return next((parts[name] for name in names if name in parts), None)

    def matches(self, batch: str) -> Part | None:
        """Return the part of matches of a batch. Names are compared whole: one catalog may end as another does."""
        return self.snapshot.parts("matches").get(self.matches_name(batch))

    def slices(self, table: str, names: Iterable[str]) -> list[Slice]:
        """Return where the rows of parts are, by name."""
        version = self.snapshot.version(table)
        return version.slices(version.parts[name] for name in names if name in version.parts)

    def matches_alone(self, part: Part | None) -> list[Slice]:
        """Return where the rows of a part of matches are, or a copy of them for as long as there is one."""
        if part is None:
            return []
        return list(self.copies.get(part.name) or self.snapshot.version("matches").slices_of(part))


def calibration_in_force(lake: Lake, snapshot: Snapshot | None = None) -> Calibrated:
    """Return the calibration in force: the catalog that calibrates each camera, and the largest version of it."""
    snapshot = snapshot or lake.snapshot()
    catalogs = {camera: lake.catalogs(camera).calibrate for camera in sorted(cameras_of(snapshot))}
    versions = {name: versions_of(snapshot, name) for name in set(catalogs.values())}
    in_force = {
        camera: (name, max(versions_of(snapshot, name, camera), default=1))
        for camera, name in catalogs.items()
    }
    return Calibrated(snapshot, in_force, versions)


def bind(task: Any, *arguments: Any) -> Callable[[Path], Any]:
    """Return a function that makes the task, given where its files are to go."""
    return lambda staging: task(*arguments, staging)


def cameras_of(snapshot: Snapshot) -> set[str]:
    """Return the cameras that have frames."""
    return {part.camera for part in snapshot.parts("frames").values() if part.camera is not None}
