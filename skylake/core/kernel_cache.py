"""The cache of compiled kernels on disk: one process compiles, the others load.

Processes that begin together, such as the workers of a first night, miss the same kernels at the same moment. By
default each would compile all of them; and numba reads, extends and writes the index of a function without a lock, so
if two processes compile it for different types, one result would be lost or filed under the name of the other.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import time
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from skylake.durable import open_in_place

#: Seconds after which a process no longer waits for another that compiles; a kernel takes a few.
PATIENCE = 120.0


@cache
def compile_once() -> None:
    """Let functions that are decorated from now on, with ``cache=True``, be compiled by one process at a time.

    A process that finds another one compiling waits, and loads its result. The lock is a file beside the cache,
    and ends with its process. Where there can be none, each process compiles for itself, as without this.
    """
    dispatcher: Any = import_module("numba.core.dispatcher")
    dispatcher.FunctionCache = _cache_in_turn(dispatcher.FunctionCache)


def _cache_in_turn(base: Any) -> Any:
    class InTurn(base):  # type: ignore[misc]
        """The cache of a function, locked from a miss until the compiled code is stored."""

        def __init__(self, function: Any) -> None:
            super().__init__(function)
            self._turn: IO[bytes] | None = None

        def load_overload(self, signature: Any, context: Any) -> Any:
            overload = self._load(signature, context)
            if overload is None and self._turn is None:
                self._turn = _lock(Path(self.cache_path), self._impl.filename_base)
                overload = self._load(signature, context)
                if overload is not None:
                    self._leave()
            return overload

        def _load(self, signature: Any, context: Any) -> Any:
            try:
                return super().load_overload(signature, context)
            except (AttributeError, ImportError, EOFError, pickle.UnpicklingError):
                # The index is unpickled before numba asks whether it is that of the present source: it is damaged, or
                # names a class that an older version had.
                self.flush()
                return None

        def save_overload(self, signature: Any, compiled: Any) -> None:
            try:
                super().save_overload(signature, compiled)
            finally:
                self._leave()

        def _leave(self) -> None:
            if self._turn is not None:
                self._turn.close()
                self._turn = None

    return InTurn


def _lock(folder: Path, name: str) -> IO[bytes] | None:
    """Return the open file that holds the lock of a function; None where it cannot be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = os.fdopen(open_in_place(folder / f"{name}.lock"), "rb")
    except OSError:
        return None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # The file system knows no locks.
            break
        else:
            return stream
    stream.close()
    return None
