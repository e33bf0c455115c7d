"""The shared context of building masters, and the file and row of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skylake.cameras import Profile
from skylake.core.camera import Camera
from skylake.core.ids import config_sha256
from skylake.errors import cannot_be_written
from skylake.flow.execution.cluster import Workers
from skylake.flow.masters.master_groups import MasterGroup, validity
from skylake.flow.masters.master_tasks import PreparedFile
from skylake.image.combine.make_masters import FlatForm
from skylake.image.masters.master_file import write_master
from skylake.lake.layout import Layout
from skylake.revision import code_version

_DIGITS = 12


@dataclass(frozen=True, slots=True)
class MasterBuilder:
    """The context that all masters of a build share."""

    layout: Layout
    profile: Profile
    workers: Workers
    form: FlatForm
    staging: Path

    def camera(self, group: MasterGroup) -> Camera:
        """Return the camera as it was when the frames of a group were taken."""
        return self.profile.at(group.mjd)


@dataclass(frozen=True, slots=True)
class BuiltMaster:
    """A master that was made.

    Attributes
    ----------
    group : MasterGroup
    prepared : mapping
        The frames behind it, by file; their pixels may be gone.
    mask : Path
        Array of the bits of the pixels that it shows to be bad.
    row : dict
        Its row of ``masters``.
    """

    group: MasterGroup
    prepared: Mapping[str, PreparedFile]
    mask: Path
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def use(self) -> tuple[Any, ...]:
        """What a mask shares with the masters that it follows from: chip, binning, night, period."""
        first = self.group.first
        return first.wanted.extension, first.wanted.binning, self.group.night, first.config_sha256


def describe(
    builder: MasterBuilder,
    group: MasterGroup,
    prepared: Mapping[str, PreparedFile],
    kind: str,
    used: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what the row of every master says; `used` are masters that were not used on its frames one by one."""
    used = {name: sha256 for file in prepared.values() for name, sha256 in file.used.items()} | dict(
        used or {}
    )
    inputs = {file: prepared_file.sha256 for file, prepared_file in sorted(prepared.items())} | dict(
        sorted(used.items())
    )
    first = group.first
    # A frame of another size may be the first, but then it was left out.
    raw_size = next(iter(prepared.values())).raw_size
    valid_from, valid_to = validity(group, builder.profile)
    return {
        "camera": builder.profile.name,
        "kind": kind,
        "night": group.night,
        "extension": first.wanted.extension,
        "binning": first.wanted.binning,
        "filter": None,
        "header_gain": group.header_gain,
        "readout": first.wanted.readout,
        "exposure_s": None,
        "temperature_c": group.temperature_c,
        "mjd_mid": group.mjd,
        "raw_width_px": raw_size[0],
        "raw_height_px": raw_size[1],
        "valid_from_mjd": valid_from,
        "valid_to_mjd": valid_to,
        "n_frames": len(prepared),
        "inputs": json.dumps(inputs, sort_keys=True),
        # Paths change when an archive is moved; what a frame holds does not.
        "inputs_sha256": config_sha256({"inputs": sorted(inputs.values())}),
        "config_sha256": first.config_sha256,
        "software_version": code_version(),
    }


def write_entry(
    builder: MasterBuilder,
    row: dict[str, Any],
    offset: tuple[int, int],
    used: Iterable[str] = (),
    further: Mapping[str, Any] | None = None,
    **content: Any,
) -> None:
    """Write the file of a master into the library, with further cards, and complete its row."""
    cards = {
        "KIND": (row["kind"], "kind of master"),
        "CAMERA": row["camera"],
        "FILTER": row["filter"],
        "EXPTIME": (row["exposure_s"], "[s] exposure of the frames"),
        "BINNING": row["binning"],
        "HDRGAIN": (row["header_gain"], "[e-/ADU] gain in the headers of the frames"),
        "READOUT": row["readout"],
        "CCDTEMP": (row["temperature_c"], "[deg C] median temperature"),
        "MJD-AVG": (row["mjd_mid"], "mean time of the frames, UTC"),
        "NFRAMES": row["n_frames"],
        "OFFSETX": (offset[0], "raw pixel of the first pixel"),
        "OFFSETY": (offset[1], "raw pixel of the first pixel"),
        "INPUTS": row["inputs_sha256"],
        **{f"MASTER{number}": name for number, name in enumerate(used, start=1)},
        **(further or {}),
    }
    plane = content.get("pixels") if content.get("pixels") is not None else content.get("mask")
    if plane is not None:
        row["height_px"], row["width_px"] = plane.shape
    folder = builder.layout.calibrations(builder.profile.name)
    partial_file = builder.staging / "master.fits"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        row["sha256"] = write_master(partial_file, cards, **content)
        row["name"] = f"{row['camera']}-{row['kind']}-{row['night']:08d}-{row['sha256'][:_DIGITS]}"
        target = folder / f"{row['name']}.fits"
        partial_file.replace(target)
    except OSError as error:
        raise cannot_be_written(folder, error, "the masters") from error
    row["file"] = target.relative_to(builder.layout.root).as_posix()
    row["file_bytes"] = target.stat().st_size
