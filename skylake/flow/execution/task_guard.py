"""Boundaries at which every exception is caught: of the work on one frame, and of the code of a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from skylake.core.reasons import Reason
from skylake.errors import ConfigurationError, FrameError, FrameFailed, SkylakeError

Result = TypeVar("Result")


def guard(work: Callable[[], Result]) -> Result | FrameError:
    """Return what some work on one frame gives, or why it failed.

    This is the boundary of a task: whatever a frame does, the others go on, so
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


@contextmanager
def code_of_user(file: str, failed: str) -> Iterator[None]:
    """Run code from a file of the user: what it raises is an error of the file.

    Raises
    ------
    ConfigurationError
        With the file, what failed, and the error.
    """
    try:
        yield
    except SkylakeError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{file}: {failed} ({type(error).__name__}: {error})") from error
