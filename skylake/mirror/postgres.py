"""The small tables of a lake in PostgreSQL: a copy that can be dropped and rebuilt.

A part of a table is copied when its checksum differs from the one in ``mirror_parts``. All changes of a run
are one transaction, so a reader sees the lake before or after it, and a run that is killed leaves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import psycopg
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from skylake import logs
from skylake.core.batch import is_plain_name
from skylake.core.ids import content_id
from skylake.errors import MirrorError, UsageError
from skylake.mirror import address, books, structure
from skylake.mirror.books import State
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


class Plan(NamedTuple):
    """What brings a mirror to a snapshot.

    Attributes
    ----------
    checksums : dict of (table, part) and str
        All parts of the snapshot. Those with the recorded checksum are left alone.
    read : callable
        Given a table and a part, reads its rows.
    state : State
        The snapshot, and the lake that it is of.
    """

    checksums: dict[tuple[str, str], str]
    read: Callable[[str, str], pa.Table]
    state: State


@dataclass(frozen=True, slots=True)
class CopyCounts:
    """What :meth:`Mirror.follow` did.

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
    """A schema of a PostgreSQL database that shows the small tables of a lake.

    Parameters
    ----------
    url : str
        ``postgresql://user:password@host:port/database``; also ``postgres://`` and ``postgresql+psycopg://``.
        Missing parts come from the environment, as with psql. The password is never shown.
    schema : str or None
        Schema of the database to work in, created where missing; None takes the user's default.
    patience_s : float
        How long to wait for another mirror or for a lock before giving up, in seconds.

    Raises
    ------
    UsageError
        If the URL or the name of the schema cannot be used.
    """

    def __init__(self, url: str, *, schema: str | None = None, patience_s: float = 600.0) -> None:
        if schema is not None and not (is_plain_name(schema) and len(schema) < 64):
            raise UsageError(f"{schema!r} is no name of a schema; use letters, digits, _ . and -")
        if schema is not None and schema.startswith(("pg_", "information_schema")):
            raise UsageError(f"{schema!r} is a name that PostgreSQL keeps for itself; name another schema")
        parsed = address.parse(url)
        self.shown = address.shown(parsed) + (f", schema {schema}" if schema else "")
        self._schema = schema
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

    def prepare(self, rebuild: bool = False) -> None:
        """Create or extend tables, indexes, views and grants; do nothing where all is as it should be.

        Parameters
        ----------
        rebuild : bool
            Drop the mirror first, whichever lake it is of, with views of others on it.

        Raises
        ------
        MirrorError
            If the database cannot be used, holds tables of these names that skylake did not make, or has tables
            that differ from the schemas by more than missing columns that may be null.
        """
        with self._transaction(exclusive=True) as connection:
            self._create_schema(connection)
            if rebuild:
                structure.drop(connection, self.shown)
            structure.prepare(connection, self.shown)

    def snapshot(self) -> int | None:
        """Return the snapshot of the lake that the mirror shows; None where it shows none.

        Raises
        ------
        MirrorError
            If the database cannot be read.
        """
        with self._transaction() as connection:
            return books.state(connection).snapshot if structure.is_ours(connection) else None

    def follow(self, plan: Callable[[State, dict[tuple[str, str], str]], Plan]) -> CopyCounts:
        """Bring the mirror to a snapshot in one transaction; write nothing where nothing changes.

        Parameters
        ----------
        plan : callable
            Called once no other mirror runs, with what the mirror shows and the checksums of its parts.

        Raises
        ------
        MirrorError
            If the database cannot be written, or is not prepared.
        """
        with self._transaction(exclusive=True) as connection:
            if not structure.is_ours(connection):
                raise MirrorError(f"{self.shown}: the tables of the mirror are missing; prepare it first")
            state, recorded = books.state(connection), books.parts(connection)
            planned = plan(state, dict(recorded))
            writer = PartWriter(_driver(connection), planned.state.snapshot)
            outcome = _apply(writer, recorded, planned)
            if writer.touched or planned.state != state:
                books.set_state(connection, planned.state)
            connection.execute(_FLUSH_STATISTICS)
        if writer.touched:
            self._tidy()
        return outcome

    def _create_schema(self, connection: sa.Connection) -> None:
        if self._schema is None:
            return
        there = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
        # IF NOT EXISTS asks for the right to create, even where there is nothing to create.
        if connection.execute(there, {"name": self._schema}).first() is None:
            connection.execute(sa.schema.CreateSchema(self._schema))

    @contextmanager
    def _transaction(self, *, exclusive: bool = False) -> Iterator[sa.Connection]:
        """Open a transaction that is confined to one schema, is patient, and is alone where `exclusive`."""
        with translated(self.shown, connecting=True):
            connection = self._engine.connect()
        with translated(self.shown), connection, connection.begin():
            schema = self._schema or connection.execute(sa.text("SELECT current_schema()")).scalar()
            if schema is None:
                raise MirrorError(f"{self.shown}: the user has no schema to work in; name one with --schema")
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
                schema = self._schema or connection.execute(sa.text("SELECT current_schema()")).scalar()
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


def _apply(writer: PartWriter, recorded: dict[tuple[str, str], str], plan: Plan) -> CopyCounts:
    changed = [part for part, checksum in plan.checksums.items() if recorded.get(part) != checksum]
    gone = recorded.keys() - plan.checksums.keys()
    # Old rows go first, since rows move between parts: a frame to another night if its clock is corrected.
    for table, part in [*gone, *(recorded.keys() & set(changed))]:
        writer.remove(table, part)
    for table, part in changed:
        writer.copy(table, part, plan.checksums[table, part], plan.read(table, part))
    return CopyCounts(len(changed), len(gone), writer.n_rows_copied, writer.n_rows_removed)
