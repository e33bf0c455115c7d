"""The bookkeeping of a mirror: which parts of which snapshot it holds.

All functions work in the schema that comes first in ``search_path`` and in the transaction of the connection.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import sqlalchemy as sa


@cache
def metadata() -> sa.MetaData:
    """Return the tables ``mirror_parts`` and ``mirror_state``."""
    tables = sa.MetaData()
    sa.Table(
        "mirror_parts",
        tables,
        sa.Column("table_name", sa.Text, primary_key=True, comment="Mirrored table"),
        sa.Column("part", sa.Text, primary_key=True, comment="Name of the part in the lake"),
        sa.Column(
            "checksum", sa.Text, nullable=False, comment="Checksum of the part; empty asks for a new copy"
        ),
        sa.Column("n_rows", sa.BigInteger, nullable=False, comment="Rows of the part"),
        sa.Column("keys", sa.JSON, nullable=False, comment="Primary keys of the rows of the part, by column"),
        sa.Column("snapshot", sa.BigInteger, comment="Snapshot of the lake from which the part was copied"),
        sa.Column("mirrored_at", sa.DateTime(timezone=True), nullable=False, comment="When it was copied"),
        comment="The parts of the lake that have been copied. Written by skylake mirror.",
    )
    sa.Table(
        "mirror_state",
        tables,
        sa.Column("only_row", sa.Boolean, sa.CheckConstraint("only_row"), primary_key=True, comment="True"),
        sa.Column("snapshot", sa.BigInteger, comment="Snapshot of the lake that the mirror shows"),
        sa.Column("lake", sa.Text, comment="Folder of the lake when it was last mirrored"),
        sa.Column(
            "record_sha256", sa.Text, comment="SHA-256 of what the ledger of the lake says of that snapshot"
        ),
        sa.Column("generation", sa.BigInteger, nullable=False, comment="Changes of the mirror so far"),
        sa.Column("mirrored_at", sa.DateTime(timezone=True), comment="When the mirror last changed"),
        sa.Column(
            "structure_sha256", sa.Text, nullable=False, comment="SHA-256 of tables, indexes, views, grants"
        ),
        comment="The snapshot of the lake that the mirror shows, in one row. Written by skylake mirror.",
    )
    return tables


class State(NamedTuple):
    """What a mirror shows: a snapshot, the folder of its lake, and the SHA-256 of its record in the ledger.

    The record has a random token, so that of two lakes with a snapshot of this number only one has this record.
    Older mirrors do not say whose they are.
    """

    snapshot: int | None = None
    lake: str | None = None
    record_sha256: str | None = None


def state(connection: sa.Connection) -> State:
    """Return what the mirror shows."""
    row = connection.execute(sa.text("SELECT snapshot, lake, record_sha256 FROM mirror_state")).one()
    return State(*row)


def set_state(connection: sa.Connection, state: State) -> None:
    """Record what the mirror now shows."""
    statement = (
        "UPDATE mirror_state SET generation = generation + 1, snapshot = :snapshot, lake = :lake, "
        "record_sha256 = :record_sha256, mirrored_at = now()"
    )
    connection.execute(sa.text(statement), state._asdict())


def structure_sha256(connection: sa.Connection) -> str | None:
    """Return what :func:`set_structure_sha256` recorded."""
    recorded: str | None = connection.execute(sa.text("SELECT structure_sha256 FROM mirror_state")).scalar()
    return recorded


def set_structure_sha256(connection: sa.Connection, sha256: str) -> None:
    """Record with which structure the mirror was prepared."""
    statement = (
        "INSERT INTO mirror_state (only_row, generation, structure_sha256) VALUES (true, 0, :sha256) "
        "ON CONFLICT (only_row) DO UPDATE SET structure_sha256 = :sha256"
    )
    connection.execute(sa.text(statement), {"sha256": sha256})


def parts(connection: sa.Connection) -> dict[tuple[str, str], str]:
    """Return the checksums of the mirrored parts by table and part."""
    rows = connection.execute(sa.text("SELECT table_name, part, checksum FROM mirror_parts"))
    return {(row.table_name, row.part): row.checksum for row in rows}


def request_copy(connection: sa.Connection, table: str) -> None:
    """Ask for a new copy of all parts of a table."""
    statement = sa.text("UPDATE mirror_parts SET checksum = '' WHERE table_name = :table")
    connection.execute(statement, {"table": table})
