"""Recognise copies of a frame among files of the same time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from skylake.errors import FrameError
from skylake.image.fitsio.read_fits import read_file


class FileDigests:
    """Recognises copies of a frame by their bytes, decompressed; each file is read once, and only if asked for."""

    def __init__(self) -> None:
        self._digests: dict[str, bytes] = {}

    def is_new(self, file: str, others: Iterable[str]) -> bool:
        """Return whether a file is a copy of none of some others."""
        others = list(others)
        return not others or self._digest(file) not in {self._digest(other) for other in others}

    def _digest(self, file: str) -> bytes:
        """Return a digest of the content; what cannot be read is like nothing else."""
        if file not in self._digests:
            try:
                content = read_file(file).data
            except FrameError:
                content = file.encode(errors="surrogateescape")
            self._digests[file] = hashlib.blake2b(content, digest_size=16).digest()
        return self._digests[file]
