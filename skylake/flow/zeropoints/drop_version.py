"""Drop a version of the zeropoints of some nights, which then have the largest of their other versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skylake.core.batch import Batch
from skylake.core.counted import counted
from skylake.errors import UsageError
from skylake.flow.execution.retry_commit import retry_superseded
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.zeropoints.calibrate_nights import Choice
from skylake.flow.zeropoints.calibrated_nights import versions_of, zeropoints_name
from skylake.flow.zeropoints.calibration_in_force import cameras_of
from skylake.lake import Commit, Lake, Part, Snapshot


@dataclass(frozen=True, slots=True)
class DroppedNight:
    """A night whose zeropoints of a version are dropped.

    Attributes
    ----------
    camera, night, catalog : str, int, str
    version : int
        The version that is dropped.
    in_force : int
        The version that is in force afterwards: the largest of the others.
    part : str
        Name of the part of ``zeropoints``.
    n_frames : int
        Rows that go.
    """

    camera: str
    night: int
    catalog: str
    version: int
    in_force: int
    part: str
    n_frames: int

    def as_dict(self) -> dict[str, Any]:
        """Return the night for JSON and tables."""
        names = ("camera", "night", "catalog", "version", "in_force", "n_frames")
        return {name: getattr(self, name) for name in names}


def plan_drop(lake: Lake, choice: Choice, version: int) -> list[DroppedNight]:
    """Return the nights of which a version of the zeropoints would be dropped, and change nothing.

    Raises
    ------
    UsageError
        If no chosen night has the version, or one has no other.
    """
    return _planned(lake, lake.snapshot(), choice, version)


def drop_version(
    lake: Lake, choice: Choice, version: int, progress: Progress | None = None
) -> list[DroppedNight]:
    """Drop a version of the zeropoints of the chosen nights in one commit; return the nights.

    Older snapshots still have it until they are vacuumed, and ``skylake rollback`` brings it back.

    Raises
    ------
    UsageError
        As :func:`plan_drop`.
    LakeError
        If the lake cannot be written.
    """

    def drop() -> list[DroppedNight]:
        snapshot = lake.snapshot()
        nights = _planned(lake, snapshot, choice, version)
        commit = Commit("calibrate", f"drop version {version}", base=snapshot.number)
        for night in nights:
            commit.remove("zeropoints", night.part)
        lake.commit(commit)
        return nights

    return retry_superseded(drop, progress or Silent())


def require_version(snapshot: Snapshot, catalogs: dict[str, str], version: int) -> None:
    """Refuse a version that no camera has zeropoints of.

    Parameters
    ----------
    snapshot : Snapshot
    catalogs : dict of str to str
        Cameras and the catalogs that calibrate them.
    version : int

    Raises
    ------
    UsageError
        It names the versions that there are.
    """
    known = {v for camera, name in catalogs.items() for v in versions_of(snapshot, name, camera)}
    if version not in known:
        have = f"there are {', '.join(map(str, sorted(known)))}" if known else "there are none"
        names = " and ".join(sorted({name for name in catalogs.values() if name})) or "this lake"
        raise UsageError(f"version {version} has no zeropoints of {names}; {have}")


def _planned(lake: Lake, snapshot: Snapshot, choice: Choice, version: int) -> list[DroppedNight]:
    cameras = sorted(cameras_of(snapshot) & set(choice.cameras or cameras_of(snapshot)))
    catalogs = {camera: choice.catalog or lake.calibrating_catalog(camera) for camera in cameras}
    require_version(snapshot, catalogs, version)
    found: list[DroppedNight] = []
    alone: list[int] = []
    for (camera, night), held in _versions(snapshot, catalogs).items():
        gone = held.pop(version, None) if choice.takes_night(night) else None
        if gone is None:
            continue
        if held:
            catalog = catalogs[camera]
            found.append(DroppedNight(camera, night, catalog, version, max(held), gone.name, gone.n_rows))
        else:
            alone.append(night)
    if alone:
        raise UsageError(
            f"version {version} is the only one of {counted(len(set(alone)), 'night')} from {min(alone)} on, which "
            "would have no zeropoints; calibrate them in another version first, or choose other nights by --from and "
            "--to"
        )
    if not found:
        raise UsageError(f"version {version} has no zeropoints of the nights that are chosen")
    return sorted(found, key=lambda one: (one.camera, one.night))


def _versions(snapshot: Snapshot, catalogs: dict[str, str]) -> dict[tuple[str, int], dict[int, Part]]:
    """Return the zeropoints of each night of cameras by their version."""
    found: dict[tuple[str, int], dict[int, Part]] = {}
    for part in snapshot.parts("zeropoints").values():
        if part.camera not in catalogs or part.night is None:
            continue
        start = zeropoints_name(str(Batch(part.camera, part.night)), catalogs[part.camera], "")
        version = part.name.removeprefix(start)
        if part.name.startswith(start) and version.isdecimal():
            found.setdefault((part.camera, part.night), {})[int(version)] = part
    return found
