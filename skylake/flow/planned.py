"""Plans of aggregates: what each part would be made from now, and the calibration that it is made with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skylake.flow.nights import largest_version, zeropoints_name
from skylake.flow.stale import Why, why_stale
from skylake.lake import Lake, Part, Snapshot
from skylake.lake.slices import Slice
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

    ``copies`` tells where copies of matches are that were made for reading, by name of their part.
    """

    snapshot: Snapshot
    catalog: str
    version: int
    copies: dict[str, tuple[Slice, ...]] = field(default_factory=dict)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """Return the resolved configuration of an aggregate, given what it depends on besides."""
        return {"catalog": self.catalog, "version": self.version, **more}

    def zeropoints_name(self, batch: str) -> str:
        """Return the name of the part of zeropoints of a batch."""
        return zeropoints_name(batch, self.catalog, self.version)

    def made_from(self, batch: str) -> tuple[tuple[str, str], ...]:
        """Return the parts of a batch that a calibration makes, as (table, part)."""
        return ("matches", matches_name(batch, self.catalog)), ("zeropoints", self.zeropoints_name(batch))

    def zeropoints(self, batch: str) -> Part | None:
        """Return the part of zeropoints of a batch."""
        return self.snapshot.parts("zeropoints").get(self.zeropoints_name(batch))

    def matches(self, batch: str) -> Part | None:
        """Return the part of matches of a batch. Names are compared whole: one catalog may end as another does."""
        return self.snapshot.parts("matches").get(matches_name(batch, self.catalog))

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
    """Return the calibration in force: the default catalog, and the largest version of it."""
    snapshot = snapshot or lake.snapshot()
    catalog = lake.settings.default_catalog
    return Calibrated(snapshot, catalog, largest_version(snapshot, catalog) or 1)


def bind(task: Any, *arguments: Any) -> Callable[[Path], Any]:
    """Return a function that makes the task, given where its files are to go."""
    return lambda staging: task(*arguments, staging)


def cameras_of(snapshot: Snapshot) -> set[str]:
    """Return the cameras that have frames."""
    return {part.camera for part in snapshot.parts("frames").values() if part.camera is not None}
