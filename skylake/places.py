"""Places of files: folders of this machine, and URLs of object stores through fsspec.

A place of a store is a path of universal_pathlib. It is used like a :class:`pathlib.Path` for reading, and is
annotated as one: who only joins, lists and reads need not know which it is. What differs is here.
"""

from __future__ import annotations

import atexit
import gc
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from skylake.errors import LakeError, SkylakeError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pds

#: Readers of Parquet ask for just the ranges that they need. By default s3fs would read 50 MB with each of them.
_EXACT = {"default_cache_type": "none"}
#: Protocols of the URLs that are used; those of others, such as dask://, may run what they are answered. `memory` is a
#: store within this process.
_PROTOCOLS = {"file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "memory"}
_OPTIONS: dict[str, dict[str, Any]] = {"s3": _EXACT, "s3a": _EXACT, "file": {"auto_mkdir": True}}
#: What Arrow's threads take to close files of a store.
_SETTLING_S = 0.2
#: Packages whose exceptions mean that a store cannot be reached or used.
_OF_STORES = {"botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs", "azure", "google"}


def is_url(where: object) -> bool:
    """Return whether a text or path names a place by its URL."""
    return "://" in str(where)


def require_plain(where: str | Path) -> None:
    """Refuse a URL of a protocol that is not used, and one that leads through another (``::``).

    Raises
    ------
    UsageError
    """
    protocol = str(where).partition("://")[0]
    if is_url(where) and (protocol not in _PROTOCOLS or "::" in str(where)):
        raise UsageError(
            f"{where}: such a URL is not used; write one that begins with s3://, gs://, az://, https://, http:// or "
            "file://, without ::"
        )


def place(where: str | Path) -> Path:
    """Return a path or URL as something to join, list and read; a local path becomes absolute and free of links.

    Credentials and endpoints are those that fsspec finds: the variables ``AWS_…``, ``~/.aws`` or its own
    configuration.

    Raises
    ------
    UsageError
        If such URLs are not used (:func:`require_plain`), or nothing is installed that reads them.
    """
    require_plain(where)
    if not is_url(where):
        return Path(where).resolve()
    from upath import UPath

    url = str(where).rstrip("/")
    protocol = url.partition("://")[0]
    options = _OPTIONS.get(protocol, {})
    try:
        if protocol in ("http", "https"):
            from skylake.http_bodies import BoundedResponse

            options = {"client_kwargs": {"response_class": BoundedResponse}}
        found = UPath(url, **options)
        _ = found.fs
    except (ImportError, ValueError) as error:
        package = (
            "`pip install s3fs`" if protocol in ("s3", "s3a") else "install the package of fsspec for it"
        )
        advice = f"{package} in the environment of skylake"
        raise UsageError(f"{url}: URLs of {protocol}:// cannot be read here ({error}); {advice}") from error
    return cast(Path, found)


def store(where: Path) -> Any:
    """Return the fsspec file system of a place in a store."""
    return cast(Any, where).fs


def unchanging_store(where: Path) -> Any:
    """Return the file system of a place in a store whose files do not change, for DuckDB.

    DuckDB asks it when files were modified, which fsspec does not know of web servers.
    """
    from fsspec import AbstractFileSystem

    found = store(where)
    if type(found).modified is AbstractFileSystem.modified:
        found.modified = lambda path: datetime.fromtimestamp(0, UTC)
    return found


def key(where: Path) -> str:
    """Return the name of a place within its file system."""
    return cast(Any, where).path if is_url(where) else str(where)


def arrow_filesystem(where: Path) -> Any:
    """Return the file system of a place for Arrow."""
    from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

    if is_url(where):
        _settle_at_exit()
    return PyFileSystem(FSSpecHandler(store(where))) if is_url(where) else LocalFileSystem()


@cache
def _settle_at_exit() -> None:
    """Let Arrow's threads close their files before Python ends.

    They call back into Python for that; one that does so while the interpreter shuts down ends the process with an
    abort, after all is done.
    """
    atexit.register(_settle)


def _settle() -> None:
    gc.collect()
    time.sleep(_SETTLING_S)


def arrow_dataset(files: Sequence[Path], schema: pa.Schema) -> pds.Dataset:
    """Return Parquet files, all of one file system, as a dataset of Arrow.

    Pages that have a checksum are compared with it when they are read.
    """
    import pyarrow.dataset as pds

    if not files:
        return pds.dataset(schema.empty_table())
    names = [key(path) for path in files]
    return pds.dataset(names, schema=schema, format=parquet_format(), filesystem=arrow_filesystem(files[0]))


def parquet_format() -> pds.ParquetFileFormat:
    """Return how Arrow reads Parquet files: pages that have a checksum are compared with it."""
    import pyarrow.dataset as pds

    checked = pds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return pds.ParquetFileFormat(default_fragment_scan_options=checked)


def read_together(folder: Path, suffix: str) -> dict[str, bytes]:
    """Return the content of all objects of a folder of a store that end in a suffix, by name.

    They are read at the same time, which one after the other would take a round trip each.
    """
    found = store(folder)
    try:
        names = [name for name in found.ls(key(folder), detail=False) if name.endswith(suffix)]
    except FileNotFoundError:
        return {}
    return read_keys(found, names)


def read_keys(found: Any, names: Iterable[str]) -> dict[str, bytes]:
    """Return the content of objects of a file system by the last part of their names."""
    names = sorted(names)
    contents = found.cat(names) if names else {}
    if isinstance(contents, bytes):  # as it is given for a single name
        contents = {names[0]: contents}
    return {str(name).rpartition("/")[2]: content for name, content in sorted(contents.items())}


class Reaching:
    """Turns what a store says of itself into one sentence.

    Parameters
    ----------
    where : path
        The place that is read or written; errors of local paths are left alone.
    """

    def __init__(self, where: str | Path) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A broken pipe is that of the output, whose reader has closed it.
        if not is_url(self.where) or error is None or isinstance(error, SkylakeError | BrokenPipeError):
            return
        sentence = trouble(error)
        if sentence is not None:
            raise LakeError(f"{self.where}: {sentence}") from error


def trouble(error: BaseException) -> str | None:
    """Return the trouble with a store that an exception reports, and the fix; None for other exceptions."""
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    name = type(error).__name__
    if "support range requests" in said:
        return (
            "the server gives whole files only, and tables are read in parts; use one that answers requests with a "
            "Range, as nginx, Apache and object stores do"
        )
    if isinstance(error, PermissionError) or "Credentials" in name or "InvalidAccessKey" in said:
        return (
            f"access is refused ({said}); check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "~/.aws/credentials) and what they allow"
        )
    if "Connect" in name or "Endpoint" in name or "Timeout" in name:
        return f"the store cannot be reached ({said}); check the network and AWS_ENDPOINT_URL"
    if isinstance(error, FileNotFoundError):
        return f"it is not there ({said}); check the name of the bucket and the rest of the URL"
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _OF_STORES:
        return f"the store refuses ({said}); fix that and run again"
    return None
