"""Why a frame lacks a master, in cases that have an explanation of their own."""

from __future__ import annotations

from typing import Any

from skylake.cameras import HeaderReading
from skylake.cameras.calibration_suspects import suspected_kind


def why_missing(header: Any, reading: HeaderReading, file_name: str, kind: str) -> str | None:
    """Return what of a frame may be why no master of a kind fits it, with the fix; None if nothing is.

    Parameters
    ----------
    header : mapping
    reading : HeaderReading
    file_name : str
        Name of the file, without its folders.
    kind : str
        Of the master.
    """
    cause = suspected_kind(header, reading, file_name)
    if cause is not None or kind != "flat" or reading.filter is None:
        return cause
    camera = reading.camera
    if camera.filter_key(reading.filter) is not None:
        return None
    known = ", ".join(camera.filters) or "none"
    return (
        f"the filter {reading.filter!r} of the frame is not one of {reading.profile} ({known}): give it as one of the "
        "aliases of its filter there, or a [filters] section of its own"
    )
