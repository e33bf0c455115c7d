"""Frames of a wide-field camera in, a lake of calibrated tables out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skylake.revision import VERSION

if TYPE_CHECKING:
    import os
    from datetime import datetime

    from skylake.reading.reader import LakeReader
__version__ = VERSION
__all__ = ["__version__", "open"]


def open(where: str | os.PathLike[str], as_of: str | int | datetime | None = None) -> LakeReader:
    """Open a lake for reading.

    Parameters
    ----------
    where : path or URL
        A lake on disk, or one that was published to an object store, as in ``s3://bucket/lake``.
    as_of : str, int, datetime or None
        Number of a snapshot, or a time (ISO 8601, UTC unless it names a zone; a day, minute or second means the end of
        it); None is now.

    Raises
    ------
    skylake.errors.SkylakeError
        If there is no lake, or none at that time; the sentence names the path and the fix.

    Examples
    --------
    >>> import skylake
    >>> lake = skylake.open("demo/lake")
    >>> lake["sources"].pandas(["mjd_mid", "flux_aper2"])
    """
    # Not above: to import skylake takes no time, whatever of it is needed then.
    from skylake.reading.reader import LakeReader

    return LakeReader(where, as_of)
