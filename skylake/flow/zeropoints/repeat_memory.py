"""In which nights stars that repeat were looked for in vain: a small file beside the profile, which may be lost.

Without it each run would count the measurements of all stars of all nights again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from skylake.durable import replace_durably, text_of
from skylake.errors import cannot_be_written
from skylake.lake import Lake
from skylake.lake.layout import Layout


@dataclass(frozen=True, slots=True)
class RepeatMemory:
    """What earlier runs have found of a band of a camera.

    Attributes
    ----------
    nights : dict of int to str
        Nights in which too few stars repeat, with the checksums of their matches.
    n_frames_in_vain : int
        So many frames gave no solution although their stars repeat; a quarter more are worth another try.
    """

    nights: dict[int, str] = field(default_factory=dict)
    n_frames_in_vain: int = 0


def read_memory(layout: Layout, camera: str, band: str, inputs: Mapping[str, str]) -> RepeatMemory:
    """Return what is remembered of a band, nothing if it was with another catalog or other parameters."""
    values = _read(layout, camera).get(band, {})
    if values.get("inputs") != dict(inputs):
        return RepeatMemory()
    nights = {int(night): str(checksum) for night, checksum in values["nights"].items()}
    return RepeatMemory(nights, int(values["n_frames_in_vain"]))


def keep_memory(lake: Lake, camera: str, band: str, inputs: Mapping[str, str], memory: RepeatMemory) -> None:
    """Remember what was found of a band.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    path = lake.layout.repeat_memory(camera)
    values = _read(lake.layout, camera) | {band: asdict(memory) | {"inputs": dict(inputs)}}
    try:
        path.parent.mkdir(exist_ok=True)
        replace_durably(path, json.dumps(values, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise cannot_be_written(lake.root, error) from error


def _read(layout: Layout, camera: str) -> dict[str, Any]:
    """Return the content of the file; of one that is gone or damaged nothing, as it only saves time."""
    try:
        values = json.loads(text_of(layout.repeat_memory(camera)))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
