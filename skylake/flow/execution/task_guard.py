"""The errors of tasks: of one frame, of a whole task, and of the code of a user."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from skylake.core.reasons import Reason
from skylake.errors import ConfigurationError, FrameError, FrameFailed, LakeError, SkylakeError, reason_of

Result = TypeVar("Result")


def guard(work: Callable[[], Result]) -> Result | FrameError:
    """Return the result of some work on one frame, or the error that ended it.

    This is the boundary of a task: the other frames go on whatever happens to one, so every exception is caught.
    """
    try:
        return work()
    except FrameError as error:
        return error
    except Exception as error:  # noqa: BLE001
        return FrameFailed(
            Reason.ERROR, f"an error of skylake ({type(error).__name__}: {error}); please report it"
        )


def value_of(result: Any, failure: str, advice: str = "run again") -> Any:
    """Return the result of a task, as :func:`~skylake.flow.execution.cluster.run_in_windows` returns it.

    Parameters
    ----------
    result : object
        The value, or the error that ended the task.
    failure, advice : str
        What failed, and what to do, for an error that has no sentence of its own.

    Raises
    ------
    SkylakeError
        If the task failed; a `LakeError` for any other error.
    """
    if isinstance(result, SkylakeError):
        raise result
    if isinstance(result, BaseException):
        raise LakeError(f"{failure} ({reason_of(result, with_file=True)}); {advice}") from result
    return result


def cause_of(error: BaseException) -> str:
    """Return the cause of an error of dask, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def code_of_user(file: str, failed: str) -> Iterator[None]:
    """Run code from a file of the user; report its exceptions as errors of the file.

    Raises
    ------
    ConfigurationError
        With the file, what failed, the line, and the error.
    """
    try:
        yield
    except SkylakeError:
        raise
    except Exception as error:
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == file]
        where = f" in line {lines[-1]}" if lines else ""
        raise ConfigurationError(f"{file}: {failed}{where} ({type(error).__name__}: {error})") from error
