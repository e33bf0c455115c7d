"""Prefetch files from the disk while the ones before them are reduced."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread

#: Bytes that are asked for, or read, at a time: the kernel does not take more of a request than its readahead allows.
_PIECE = 1 << 20


def ahead(paths: Sequence[str]) -> Iterator[str]:
    """Yield paths in their order; while one is in hand, the system brings the file of the next into its memory.

    A thread asks for no more than one file at a time, and what it reads is the operating system's to keep, so the
    process does not grow. The caller then reads the file as usual, with the bytes and
    errors of that moment, whether or not the prefetch succeeded.

    Parameters
    ----------
    paths : sequence of str

    Yields
    ------
    str
    """
    fetching: Thread | None = None
    for number, path in enumerate(paths):
        if fetching is not None:
            fetching.join()
        fetching = None
        if number + 1 < len(paths):
            fetching = Thread(target=fetch, args=(paths[number + 1],), name="ahead", daemon=True)
            fetching.start()
        yield path


def fetch(path: str) -> None:
    """Bring a file into the memory of the system; errors are left to the reader."""
    with suppress(OSError), Path(path).open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if hasattr(os, "posix_fadvise"):
            for start in range(0, size, _PIECE):
                os.posix_fadvise(file.fileno(), start, _PIECE, os.POSIX_FADV_WILLNEED)
            return
        piece = bytearray(_PIECE)
        while file.readinto(piece):
            pass
