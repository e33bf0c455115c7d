"""The exceptions of skylake: one tree, one sentence each.

::

    SkylakeError                   names the file or key and the fix; exit status 3
    ├── UsageError                 the command or its options are wrong; exit status 2
    │   ├── UnknownProfile         no camera profile has the name that was given
    │   └── StarError              does not suit one star; of several stars the others may
    ├── ConfigurationError         a camera profile, a schema or skylake.toml is wrong
    ├── SchemaError                a table does not fit its schema; names column and row
    ├── LakeError                  the lake is missing, locked, damaged, read-only or full
    │   ├── OvertakenError         somebody else wrote to it at the same time, past the lock
    │   ├── Superseded             another run has changed what a commit was made from; look again
    │   └── UnknownName            the lake has nothing of the name that was given; exit status 2
    ├── CatalogError               a reference catalog cannot be read or used
    ├── MirrorError                the database cannot be reached or written
    ├── WorkerError                dask workers cannot be started or were lost
    └── FrameError                 one frame is not usable; becomes a row of ``frames``
        ├── FrameSkipped           nothing to do: not a picture of the sky
        ├── FrameRejected          readable, but not good enough
        └── FrameFailed            cannot be read or understood; do not retry
            └── FrameUnavailable   cannot be read now; a later run tries again

A :class:`FrameError` never stops a run. It carries the reason code under which the frame is filed
(:class:`skylake.core.reasons.Reason`), so that every frame given to skylake is accounted for.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

Corrections = Mapping[str, int | float | bool]
"""Keys of a camera profile, and the values that they should have."""


class SkylakeError(Exception):
    """Base of every error that skylake raises on purpose."""

    exit_status: ClassVar[int] = 3


class UsageError(SkylakeError):
    """The command was called wrongly."""

    exit_status: ClassVar[int] = 2


class UnknownProfile(UsageError):
    """No camera profile has the name or the path that was given."""


class StarError(UsageError):
    """What was asked does not suit one star; where there are several, the others may be as it was asked."""


class ConfigurationError(SkylakeError):
    """A profile, schema or settings file holds something that cannot be used."""


class SchemaError(SkylakeError):
    """A table does not conform to its schema."""


class LakeError(SkylakeError):
    """The lake cannot be opened or written."""


class OvertakenError(LakeError):
    """Another process writes to the lake at the same time, past the lock."""


class Superseded(LakeError):
    """Another run has changed what a commit was made from."""


class UnknownName(LakeError):
    """The lake has no camera, catalog, table, light curve or snapshot of the name that was given."""

    exit_status: ClassVar[int] = UsageError.exit_status


class CatalogError(SkylakeError):
    """A reference catalog cannot be read, imported or found."""


class MirrorError(SkylakeError):
    """The mirror database cannot be reached or written."""


class WorkerError(SkylakeError):
    """The dask cluster cannot be started or reached."""


class FrameError(SkylakeError):
    """One frame cannot be used.

    Parameters
    ----------
    reason : str
        A code of :class:`skylake.core.reasons.Reason`.
    message : str
        One sentence that names the fix; the row of ``frames`` names the file.
    corrections : mapping or None
        Keys of the camera profile that the sentence wants to have other values, and these values.
    """

    status: ClassVar[str] = "failed"

    def __init__(self, reason: str, message: str, corrections: Corrections | None = None) -> None:
        super().__init__(message)
        self.reason = str(reason)
        self.corrections: Corrections = corrections or {}

    def __reduce__(self) -> tuple[type[FrameError], tuple[str, str, Corrections]]:
        """Rebuild from all arguments; the default of Exception would lose the reason."""
        return (type(self), (self.reason, str(self), self.corrections))


class FrameSkipped(FrameError):
    """The file is fine but is not a frame of the sky."""

    status = "skipped"


class FrameRejected(FrameError):
    """The frame was measured and fell short of what its camera profile asks for."""

    status = "rejected"


class FrameFailed(FrameError):
    """The frame cannot be read or understood."""


class FrameUnavailable(FrameFailed):
    """The frame cannot be read at the moment: permissions, a lost mount, a failing disk."""


def reason_of(error: BaseException, with_file: bool = False) -> str:
    """Return why something failed: our own words, or those of the system without what libraries add."""
    if isinstance(error, SkylakeError):
        return str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno) + (f": {error.filename}" if with_file and error.filename else "")
    return f"{type(error).__name__}: {error}"


def is_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that it comes from, says that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


#: What helps against an answer of the system about a file or folder.
_ADVICE = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space or have the quota of its disk raised",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`)",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "raise the limit of open files of this machine",
    errno.EACCES: "fix its permissions",
    errno.EPERM: "fix its permissions",
    errno.EROFS: "mount its disk for writing",
    errno.EIO: "check its disk",
    errno.ESTALE: "mount its disk anew",
    errno.ENOTCONN: "mount its disk anew",
}


def advice_on(error: BaseException) -> str | None:
    """Return what helps against an error of the system; None for errors of which the number does not say enough."""
    return _ADVICE.get(error.errno or 0) if isinstance(error, OSError) else None


def cannot_be_written(where: object, error: OSError, what: str = "the lake") -> LakeError:
    """Return the error that something cannot be written, with advice that fits the answer of the system.

    Parameters
    ----------
    where : path
        Lake or file, which the sentence begins with.
    error : OSError
    what : str
        What cannot be written.
    """
    advice = advice_on(error) or "fix its permissions or free space"
    return LakeError(f"{where}: {what} cannot be written ({reason_of(error)}); {advice} and run again")


def together(failures: Sequence[SkylakeError], shown: int = 3) -> str:
    """Return the sentences of some failures; of many, as when a disk is full, the first ones and how many follow."""
    more = len(failures) - shown
    return "; ".join(map(str, failures[:shown])) + (f"; and {more} more like these" if more > 0 else "")


def no_column(table: str, column: object, names: Iterable[str]) -> str:
    """Return that a table has no such column, with the nearest of its names, or all where none is near."""
    import difflib

    known = list(names)
    near = difflib.get_close_matches(str(column), known, 1)
    said = f"did you mean {near[0]!r}?" if near else f"its columns are {', '.join(known)}"
    return f"{table} has no column {column!r}; {said}"
