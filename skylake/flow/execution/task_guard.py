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

    The other frames go on whatever happens to one.
    """
    try:
        with _boundary(FrameError, _error_of_skylake):
            return work()
    except FrameError as error:
        return error


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

    def error_of_user(error: Exception) -> ConfigurationError:
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == file]
        where = f" in line {lines[-1]}" if lines else ""
        return ConfigurationError(f"{file}: {failed}{where} ({type(error).__name__}: {error})")

    with _boundary(SkylakeError, error_of_user):
        yield


def _error_of_skylake(error: Exception) -> FrameFailed:
    return FrameFailed(
        Reason.ERROR, f"an error of skylake ({type(error).__name__}: {error}); please report it"
    )


@contextmanager
def _boundary(known: type[SkylakeError], named: Callable[[Exception], SkylakeError]) -> Iterator[None]:
    """Give every exception that is not known the sentence that names it: whatever happens is reported here."""
    try:
        yield
    except known:
        raise
    except Exception as error:
        raise named(error) from error
