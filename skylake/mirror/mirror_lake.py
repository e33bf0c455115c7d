"""Mirror a lake: copy what changed since the last time, in one transaction."""

from __future__ import annotations

import hashlib
import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from skylake.errors import ConfigurationError, MirrorError
from skylake.lake import Lake, Snapshot
from skylake.lake.layout import Layout
from skylake.mirror import address
from skylake.mirror.books import State
from skylake.mirror.embedded import EmbeddedServer
from skylake.mirror.postgres import CopyCounts, Mirror, Plan
from skylake.schema.schema_ddl import MIRRORED
from skylake.settings import misplaced, user_file, user_setting


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """The report of a mirror run.

    Attributes
    ----------
    snapshot : int
        Snapshot that the database now shows.
    outcome : CopyCounts
        Parts and rows copied and removed.
    where : str
        The database, without a password.
    psql : str or None
        Command that opens the embedded database, where that was left running.
    """

    snapshot: int
    outcome: CopyCounts
    where: str
    psql: str | None = None


def mirror_lake(
    lake: Lake,
    url: str | None = None,
    schema: str | None = None,
    keep_running: bool = False,
    rebuild: bool = False,
    as_of: str | None = None,
) -> MirrorReport:
    """Bring the mirror of a lake up to date.

    Parameters
    ----------
    lake : Lake
    url : str or None
        Database; None takes that of the user's configuration, or an embedded server inside the lake.
    schema : str or None
        Schema of the database; None takes that of the user's configuration, or the default of the database.
    keep_running : bool
        Leave the embedded server running, so that it can be queried.
    rebuild : bool
        Drop the mirrored tables and copy all.
    as_of : str or None
        Number of a snapshot, or a time: the database shows the lake as it was, until the next run. None means as
        it is.

    Raises
    ------
    ConfigurationError
        If the user's configuration cannot be used, or lets others read a password, or the lake names a database.
    LakeError
        If there is no such snapshot.
    MirrorError
        If the database cannot be used, or shows another lake.
    """
    then = None if as_of is None else lake.snapshot(as_of)
    url = url or _own_url(lake.root)
    is_embedded = url is None
    with ExitStack() as stack:
        psql = None
        if url is None:
            server = stack.enter_context(EmbeddedServer(lake.layout.database, keep_running=keep_running))
            url, psql = server.url, server.psql_command if keep_running else None
        mirror = Mirror(url, schema=schema or user_setting(lake.root, "mirror_schema") or None)
        mirror.prepare(rebuild)
        snapshot = then or lake.snapshot()

        def plan(state: State, mirrored: dict[tuple[str, str], str]) -> Plan:
            nonlocal snapshot
            # Another run may have mirrored a newer one while this one waited for it.
            snapshot = then or lake.snapshot()
            checksums = _checksums(snapshot)
            if not _is_of(lake.layout, state, mirrored, checksums):
                of = f" of {state.lake}" if state.lake else ""
                raise MirrorError(
                    f"{mirror.shown}: this is the mirror of another lake (snapshot {state.snapshot}{of}), and a "
                    "schema holds one; name a schema for this lake with --schema, or replace that mirror by `skylake "
                    "mirror` with --rebuild"
                )
            record = _record_sha256(lake.layout, snapshot.number)
            return Plan(
                checksums, partial(_rows, snapshot), State(snapshot.number, str(lake.root.resolve()), record)
            )

        outcome = mirror.follow(plan)
        # An address is of use only while the server runs.
        where = f"{lake.layout.database} (stopped again)" if is_embedded and not psql else mirror.shown
        return MirrorReport(snapshot.number, outcome, where, psql)


def _own_url(root: Path) -> str | None:
    """Return the database that the user's configuration names for a lake."""
    url = user_setting(root, "mirror_url")
    if not url:
        unused = misplaced(root, "mirror_url")
        if unused is not None:
            raise ConfigurationError(unused)
        return None
    file = user_file()
    if address.has_password(url) and file.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"{file}: others may read the password of mirror_url; run `chmod 600 {shlex.quote(str(file))}`, or leave "
            "the password to ~/.pgpass, or give the URL in SKYLAKE_MIRROR_URL"
        )
    return url


def stop_server(lake: Lake) -> bool:
    """Stop the embedded server of a lake; return whether one was running."""
    server = EmbeddedServer(lake.layout.database)
    was_running = server.running
    server.stop()
    return was_running


def _checksums(snapshot: Snapshot) -> dict[tuple[str, str], str]:
    return {
        (table, part.name): part.checksum for table in MIRRORED for part in snapshot.parts(table).values()
    }


def _is_of(
    layout: Layout,
    state: State,
    mirrored: dict[tuple[str, str], str],
    checksums: dict[tuple[str, str], str],
) -> bool:
    """Return whether a mirror is of a lake, and not of another one, nor of the one that this is a copy of.

    The lake has then made the snapshot that the mirror shows. A copy of a lake has made it, too, but leaves the mirror
    to the other as long as that is where it was.
    """
    if state.snapshot is None or state.record_sha256 is None:
        return not mirrored or not mirrored.items().isdisjoint(checksums.items())
    if _record_sha256(layout, state.snapshot) != state.record_sha256:
        return False
    other = Layout(Path(state.lake or layout.root))
    is_there = _record_sha256(other, state.snapshot) == state.record_sha256
    return not is_there or other.root.samefile(layout.root)


def _record_sha256(layout: Layout, number: int) -> str | None:
    """Return the SHA-256 of the record of a snapshot in the ledger of a lake; None if that cannot be read."""
    path = layout.record(number)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except OSError:
        return None


def _rows(snapshot: Snapshot, table: str, name: str) -> pa.Table:
    return snapshot.read(table, where=lambda part: part.name == name)
