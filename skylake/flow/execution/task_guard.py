"""Catch the errors of one frame in a task, so that other frames are not affected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from skylake.core.reasons import Reason
from skylake.errors import FrameError, FrameFailed

Result = TypeVar("Result")


def guard(work: Callable[[], Result]) -> Result | FrameError:
    """Return what some work on one frame gives, or why it failed.

    This is the boundary of a task: whatever a frame does, the others go on, so here and nowhere else
    every exception is caught.
    """
    try:
        return work()
    except FrameError as error:
        return error
    except Exception as error:  # noqa: BLE001
        return FrameFailed(
            Reason.ERROR, f"an error of skylake ({type(error).__name__}: {error}); please report it"
        )


def cause_of(error: BaseException) -> str:
    """Return what an error of dask comes from, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__
