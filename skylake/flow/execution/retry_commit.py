"""Repeat a run whose commit failed because another run wrote at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from skylake.errors import Superseded
from skylake.flow.execution.run_progress import Progress

Result = TypeVar("Result")

#: Times that other runs may commit first before this run gives up; each time they have made progress.
_TRIES = 4


def retry_superseded(work: Callable[[], Result], progress: Progress) -> Result:
    """Do some work, and repeat it if another run has changed its inputs in the meantime.

    Parameters
    ----------
    work : callable
        Reads the lake as it is when called, and commits; it skips what is done already.
    progress : Progress
        Reports that it begins again.

    Raises
    ------
    Superseded
        If other runs committed first each time.
    """
    for left in reversed(range(_TRIES)):
        try:
            return work()
        except Superseded:
            if not left:
                raise
            progress.line("another run has changed the lake in the meantime; looking again at what it holds")
    raise AssertionError("a try returns or raises")
