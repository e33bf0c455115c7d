"""The calibration that aggregates are made with, and where its parts are in a snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skylake.flow.zeropoints.calibrated_nights import (
    version_of_new,
    versions_of,
    versions_of_nights,
    zeropoints_name,
)
from skylake.lake import Lake, Part, Snapshot
from skylake.table.aggregate import CALIBRATED
from skylake.table.matches import matches_name


@dataclass(frozen=True, slots=True)
class CalibrationInForce:
    """The calibration that aggregates use, in a snapshot.

    ``in_force`` has the catalog of each camera, empty for none, and the version that new nights get; ``versions`` all
    versions of each catalog, the largest first. The largest of each night is in force.
    """

    snapshot: Snapshot
    in_force: Mapping[str, tuple[str, int]]
    versions: Mapping[str, Sequence[int]]
    _of_batch: dict[str, tuple[str, int]] = field(default_factory=dict, repr=False, compare=False)

    def configuration(self, frames: Part) -> dict[str, Any]:
        """Return what identifies the calibration of a night, given its part of frames."""
        catalog, version = self._in_force(frames)
        return {"catalog": catalog, "version": version}

    def _in_force(self, frames: Part) -> tuple[str, int]:
        # Plans ask for the same night many times.
        if frames.name not in self._of_batch:
            catalog, of_new = self.in_force.get(frames.camera or "", ("", 1))
            parts, known = self.snapshot.parts("zeropoints"), self.versions.get(catalog, ())
            found = (one for one in known if zeropoints_name(frames.name, catalog, one) in parts)
            self._of_batch[frames.name] = catalog, next(found, of_new)
        return self._of_batch[frames.name]

    def name(self, table: str, frames: Part) -> str:
        """Return the name of the part of a table of the night of a part of frames."""
        if table not in CALIBRATED:
            return frames.name
        catalog, version = self._in_force(frames)
        if table == "matches":
            return matches_name(frames.name, catalog)
        return zeropoints_name(frames.name, catalog, version)

    def part(self, table: str, frames: Part) -> Part | None:
        """Return the part of a table of the night of a part of frames.

        Names are compared whole, since the name of one catalog may end like that of another.
        """
        return self.snapshot.parts(table).get(self.name(table, frames))


def calibration_in_force(lake: Lake, snapshot: Snapshot | None = None) -> CalibrationInForce:
    """Return the calibration in force: the catalog that calibrates each camera, and the versions of its nights."""
    snapshot = snapshot or lake.snapshot()
    catalogs = {camera: lake.calibrating_catalog(camera) for camera in sorted(cameras_of(snapshot))}
    versions = {name: versions_of(snapshot, name) for name in set(catalogs.values())}
    in_force = {
        camera: (name, version_of_new(versions_of_nights(snapshot, camera, name)))
        for camera, name in catalogs.items()
    }
    return CalibrationInForce(snapshot, in_force, versions)


def cameras_of(snapshot: Snapshot) -> set[str]:
    """Return the cameras that have frames."""
    return {part.camera for part in snapshot.parts("frames").values() if part.camera is not None}
