"""The checksum of a sky file that a profile names, so that changed content changes the configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from skylake.core.camera import Camera


def sky_checksums(cameras: Iterable[Camera]) -> dict[str, str]:
    """Return the SHA-256 of each file that ``reduction.sky.file`` of cameras names; empty for one that is away."""
    names = {camera.reduction.sky.file for camera in cameras}
    return {name: _checksum(Path(name)) for name in sorted(name for name in names if name is not None)}


def _checksum(path: Path) -> str:
    try:
        known = path.stat()
        return _read(str(path), known.st_mtime_ns, known.st_size)
    except OSError:
        # Frames that need it say so.
        return ""


@lru_cache(maxsize=16)
def _read(path: str, changed: int, size: int) -> str:
    """Return the SHA-256 of a file as it was at some time."""
    with Path(path).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
