"""No code comes from the current folder, which may hold files of somebody else.

Python looks there for modules in each process that is started with ``-c`` or ``-m``, as workers are. numba reads
from there where compiled code is kept, and would run what it finds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skylake.errors import UsageError

#: With it, Python does not look for modules in the current folder; any text will do.
SAFE_PATH = "PYTHONSAFEPATH"
#: What it is here, by which it is known from that of a user.
_OURS = "skylake"
_NUMBA_FILE = Path(".numba_config.yaml")


@contextmanager
def no_code_from_here() -> Iterator[None]:
    """Have no process that starts in the meantime, by whatever package, take code from the current folder.

    Raises
    ------
    UsageError
        If a file there tells numba which folder holds compiled code.
    """
    if _NUMBA_FILE.exists():
        raise UsageError(
            f"{_NUMBA_FILE.absolute()}: numba would run code that this file names; run skylake in another folder, or "
            "remove the file and set its values as variables NUMBA_…"
        )
    if os.environ.get(SAFE_PATH):
        yield
        return
    os.environ[SAFE_PATH] = _OURS
    try:
        yield
    finally:
        del os.environ[SAFE_PATH]


def environment_of_user() -> dict[str, str]:
    """Return the environment for a program of the user, which may well be in Python and have modules beside it."""
    return {name: value for name, value in os.environ.items() if (name, value) != (SAFE_PATH, _OURS)}
