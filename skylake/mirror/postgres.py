"""The small tables of a lake in PostgreSQL: a copy that can be dropped and rebuilt.

A part of a table is copied when its checksum differs from the one in ``mirror_parts``. All changes of a run
are one transaction, so a reader sees the lake before or after it, and a run that is killed leaves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from skylake import logs
from skylake.core.batch import is_plain_name
from skylake.core.ids import content_id
from skylake.errors import MirrorError, UsageError
from skylake.mirror import address, books, structure
from skylake.mirror.faults import translated
from skylake.mirror.mirrored_parts import PartWriter

_LOG = logs.get(__name__)

#: A run reads the lake while it writes, so limits that servers set for idle and long work do not fit.
_NO_LIMITS = sa.text("""
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
""")
_CONFINE = sa.text("""
    SELECT set_config('search_path', quote_ident(:schema), true), set_config('lock_timeout', :patience, true)
""")


#: The statistics of this transaction are to be there when it is over.
_FLUSH_STATISTICS = sa.text("SELECT pg_stat_force_next_flush()")
#: Tables of the mirror by the default thresholds of autovacuum.
_NEGLECTED = sa.text("""
    SELECT relname, n_dead_tup > 50 + 0.2 * n_live_tup AS dead
    FROM pg_stat_user_tables
    WHERE schemaname = :schema
        AND relname IN ('frames', 'zeropoints', 'nights', 'photometric_nights', 'mirror_parts')
        AND (n_dead_tup > 50 + 0.2 * n_live_tup OR n_mod_since_analyze > 50 + 0.1 * n_live_tup)
""")


#: Parts that are new or differ (table, part, checksum, rows), parts that are gone (table, part), and the snapshot.
Plan = tuple[Iterable[tuple[str, str, str, pa.Table]], Iterable[tuple[str, str]], int]


@dataclass(frozen=True, slots=True)
class CopyCounts:
    """What :meth:`Mirror.synchronise` did.

    Attributes
    ----------
    n_copied, n_removed : int
        Parts copied and removed.
    n_rows_copied, n_rows_removed : int
        Rows written, and rows deleted with the parts that were removed or replaced.
    """

    n_copied: int = 0
    n_removed: int = 0
    n_rows_copied: int = 0
    n_rows_removed: int = 0


class Mirror:
    """A PostgreSQL database that shows the small tables of a lake.

    Parameters
    ----------
    url : str
        ``postgresql://user:password@host:port/database``; also ``postgres://`` and ``postgresql+psycopg://``.
        Missing parts come from the environment, as with psql. The password is never shown.
    namespace : str or None
        Schema of the database to work in, created where missing; None takes the user's default.
    patience_s : float
        How long to wait for another mirror or for a lock before giving up, in seconds.

    Raises
    ------
    UsageError
        If the URL or the namespace cannot be used.
    """

    def __init__(self, url: str, *, namespace: str | None = None, patience_s: float = 600.0) -> None:
        if namespace is not None and not (is_plain_name(namespace) and len(namespace) < 64):
            raise UsageError(f"{namespace!r} is no name of a schema; use letters, digits, _ . and -")
        parsed = address.parse(url)
        self.shown = address.shown(parsed)
        self._namespace = namespace
        self._patience_ms = str(max(1, math.ceil(patience_s * 1000)))
        with translated(self.shown):
            self._engine = sa.create_engine(
                parsed,
                poolclass=sa.NullPool,
                isolation_level="READ COMMITTED",
                hide_parameters=True,
                # Poolers between us and the server do not know prepared statements.
                connect_args={"prepare_threshold": None},
            )

    def prepare(self) -> None:
        """Create or extend tables, indexes, views and grants; do nothing where all is as it should be.

        Raises
        ------
        MirrorError
            If the database cannot be used, or its tables differ from the schemas by more than missing columns
            that may be null.
        """
        with self._transaction(exclusive=True) as connection:
            self._create_namespace(connection)
            structure.prepare(connection, self.shown)

    def rebuild(self) -> None:
        """Drop the mirror, with views of others on it, and prepare an empty one.

        Raises
        ------
        MirrorError
            If the database cannot be used, or holds tables of these names that skylake did not make.
        """
        with self._transaction(exclusive=True) as connection:
            self._create_namespace(connection)
            structure.drop(connection, self.shown)
            structure.prepare(connection, self.shown)

    def parts(self) -> dict[tuple[str, str], str]:
        """Return the checksums of the mirrored parts by table and part; empty where nothing is prepared.

        Raises
        ------
        MirrorError
            If the database cannot be read.
        """
        with self._transaction() as connection:
            return books.parts(connection) if structure.is_ours(connection) else {}

    def snapshot(self) -> int | None:
        """Return the snapshot of the lake that the mirror shows; None where it shows none.

        Raises
        ------
        MirrorError
            If the database cannot be read.
        """
        with self._transaction() as connection:
            return books.state(connection)[1] if structure.is_ours(connection) else None

    def synchronise(
        self,
        changes: Iterable[tuple[str, str, str, pa.Table]],
        removals: Iterable[tuple[str, str]],
        snapshot: int,
    ) -> CopyCounts:
        """Bring the mirror to a snapshot in one transaction; write nothing where nothing changes.

        Parameters
        ----------
        changes : iterable of (table, part, checksum, rows)
            Parts that are new or differ; read one by one. Those with the recorded checksum are skipped.
        removals : iterable of (table, part)
            Parts that are gone; unknown ones are skipped.
        snapshot : int
            Number of the lake's snapshot.

        Raises
        ------
        MirrorError
            If the database cannot be written, or is not prepared.
        """
        return self.follow(lambda held: (changes, removals, snapshot))

    def follow(self, plan: Callable[[dict[tuple[str, str], str]], Plan]) -> CopyCounts:
        """Bring the mirror to a snapshot by a plan that is made once no other mirror runs; see :meth:`synchronise`.

        Parameters
        ----------
        plan : callable
            Given the checksums of the mirrored parts, returns what :meth:`synchronise` takes.

        Raises
        ------
        MirrorError
            If the database cannot be written, or is not prepared.
        """
        with self._transaction(exclusive=True) as connection:
            if not structure.is_ours(connection):
                raise MirrorError(f"{self.shown}: the tables of the mirror are missing; prepare it first")
            recorded = books.parts(connection)
            changes, removals, snapshot = plan(dict(recorded))
            writer = PartWriter(_driver(connection), snapshot)
            outcome = _apply(writer, recorded, changes, removals)
            generation, shown_snapshot = books.state(connection)
            if writer.touched or shown_snapshot != snapshot:
                books.set_state(connection, generation + 1, snapshot)
            connection.execute(_FLUSH_STATISTICS)
        if writer.touched:
            self._tidy()
        return outcome

    def _create_namespace(self, connection: sa.Connection) -> None:
        if self._namespace is None:
            return
        there = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
        # IF NOT EXISTS asks for the right to create, even where there is nothing to create.
        if connection.execute(there, {"name": self._namespace}).first() is None:
            connection.execute(sa.schema.CreateSchema(self._namespace))

    @contextmanager
    def _transaction(self, *, exclusive: bool = False) -> Iterator[sa.Connection]:
        """Open a transaction that is confined to one schema, is patient, and is alone where `exclusive`."""
        with translated(self.shown, connecting=True):
            connection = self._engine.connect()
        with translated(self.shown), connection, connection.begin():
            schema = self._namespace or connection.execute(sa.text("SELECT current_schema()")).scalar()
            if schema is None:
                raise MirrorError(f"{self.shown}: the user has no schema to work in; give a namespace")
            connection.execute(_NO_LIMITS)
            connection.execute(_CONFINE, {"schema": schema, "patience": self._patience_ms})
            if exclusive:
                lock = content_id("skylake mirror", schema)
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            yield connection

    def _tidy(self) -> None:
        """Do what autovacuum would, since an embedded server is rarely up long enough for it."""
        try:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                schema = self._namespace or connection.execute(sa.text("SELECT current_schema()")).scalar()
                # A tenth of the usual sample is plenty here; for a wide table the usual one takes seconds.
                connection.execute(sa.text("SET default_statistics_target = 10"))
                for row in connection.execute(_NEGLECTED, {"schema": schema}).all():
                    work = "VACUUM (SKIP_LOCKED, ANALYZE)" if row.dead else "ANALYZE (SKIP_LOCKED)"
                    connection.execute(sa.text(f'{work} "{schema}"."{row.relname}"'))
        except SQLAlchemyError as error:
            _LOG.warning("%s: the tables could not be vacuumed (%s)", self.shown, type(error).__name__)


def _driver(connection: sa.Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    return cast("psycopg.Connection[Any]", driver)


def _apply(
    writer: PartWriter,
    recorded: dict[tuple[str, str], str],
    changes: Iterable[tuple[str, str, str, pa.Table]],
    removals: Iterable[tuple[str, str]],
) -> CopyCounts:
    n_copied = n_removed = 0
    for removal in removals:
        if recorded.pop(removal, None) is not None:
            writer.remove(*removal)
            n_removed += 1
    for table, part, checksum, rows in changes:
        if recorded.get((table, part)) == checksum:
            continue
        writer.replace(table, part, checksum, rows)
        recorded[table, part] = checksum
        n_copied += 1
    writer.finish()
    return CopyCounts(n_copied, n_removed, writer.n_rows_copied, writer.n_rows_removed)
