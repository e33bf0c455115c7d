"""Identifiers that follow from content: the same input always has the same one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def content_id(*pieces: str | bytes) -> int:
    """Return the first 63 bits of the SHA-256 of `pieces` as a non-negative integer.

    The pieces are separated by a zero byte, so ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    digest = hashlib.sha256()
    for number, piece in enumerate(pieces):
        if number:
            digest.update(b"\0")
        # Names of files may hold bytes that are no text; they come as surrogates and go back to bytes.
        digest.update(piece.encode(errors="surrogateescape") if isinstance(piece, str) else piece)
    return int.from_bytes(digest.digest()[:8]) >> 1


def frame_id(camera: str, extension: int | str, content: str | bytes) -> int:
    """Return the identifier of a frame.

    Parameters
    ----------
    camera : str
        Name of the camera.
    extension : int or str
        Index or name of the FITS extension.
    content : bytes or str
        The decompressed bytes of the file; its raw bytes if they cannot be decompressed; its path, as
        text, if there are no bytes to be had.
    """
    return content_id(camera, str(extension), content)


def text_id(text: str) -> int:
    """Return the identifier of a catalog star that is known by a text, such as ``4049-1234-1``."""
    return content_id(text)


def config_sha256(configuration: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a resolved configuration, independent of the order of its keys."""
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
