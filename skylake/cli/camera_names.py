"""Find cameras of a lake by name, or by the profile that they were ingested with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skylake.lake import Snapshot


def name_in_lake(snapshot: Snapshot, text: str) -> str:
    """Return the name that a lake has for a camera.

    Parameters
    ----------
    snapshot : Snapshot
    text : str
        That name, or the path of a profile; one of several chips follows a colon. Any other text is returned
        as it is.

    Raises
    ------
    ConfigurationError
        If it is the path of a file that is no profile, or of a camera of several chips.
    UnknownProfile
        If it is the path of a file that is not there.
    """
    from skylake import cameras

    if _is_known(snapshot, text) or not _is_path(text):
        return text
    return cameras.load(text).name


def require_camera(snapshot: Snapshot, text: str) -> str:
    """Return the name of a camera, as :func:`name_in_lake`, of which the lake has, or had, frames.

    Raises
    ------
    UnknownName
        If the lake knows no such camera.
    ConfigurationError, UnknownProfile
        As :func:`name_in_lake`.
    """
    return _required(snapshot, name_in_lake(snapshot, text))


def require_cameras(snapshot: Snapshot, text: str) -> tuple[str, ...]:
    """Return the names of a camera, or of the chips of one, of which the lake has, or had, frames.

    Raises
    ------
    UnknownName, ConfigurationError, UnknownProfile
        As :func:`require_camera`, for several chips.
    """
    from skylake import cameras

    if _is_known(snapshot, text) or not _is_path(text):
        return (_required(snapshot, text),)
    return tuple(_required(snapshot, chip.name) for chip in cameras.load_chips(text))


def _required(snapshot: Snapshot, name: str) -> str:
    from skylake.errors import UnknownName

    if _is_known(snapshot, name):
        return name
    known = sorted(_with_frames(snapshot))
    has = (
        f"it has those of {', '.join(known)}"
        if known
        else "it has none at all; `skylake ingest` brings them in"
    )
    raise UnknownName(f"{snapshot.layout.root}: the lake has no frames of {name}; {has}")


def _is_known(snapshot: Snapshot, name: str) -> bool:
    from skylake.core.batch import is_plain_name

    if not is_plain_name(name):
        return False
    # A camera whose frames were all forgotten keeps its profile, and what was learned of it.
    return name in _with_frames(snapshot) or snapshot.layout.profile(name).is_file()


def _with_frames(snapshot: Snapshot) -> set[str]:
    return {part.camera for part in snapshot.parts("frames").values() if part.camera is not None}


def _is_path(text: str) -> bool:
    return any(mark in text for mark in "/:") or Path(text).suffix == ".toml" or Path(text).is_file()
