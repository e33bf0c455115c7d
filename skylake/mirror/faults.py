"""Convert errors of a database to one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from skylake.errors import MirrorError

#: Beginnings of SQLSTATE codes (PostgreSQL documentation, appendix A), the longest first, and what to do.
_ADVICE_BY_STATE = {
    "3D000": "create the database, for example with createdb",
    "3F000": "name another --schema",
    "42501": "ask its owner for the right, or give another user, database or --schema",
    "42P01": "run the command again, with --rebuild if that does not help",
    "53100": "free space on the disk of the server",
    "53300": "wait until others have left, or raise its max_connections",
    "55P03": "end the session that holds the table, or wait for it",
    "0A000": "drop what depends on it, or run the command with --rebuild, which drops it too",
    "2BP01": "drop what depends on it, or run the command with --rebuild, which drops it too",
    "23505": "run the command with --rebuild",
    "25006": "give the URL of a server that can be written",
    "22021": "use a database with the encoding UTF8",
    "22P05": "use a database with the encoding UTF8",
    "57": "run the command again when the server is up; nothing was changed",
    "28": "give the right user and password in the URL, in PGPASSWORD or in ~/.pgpass",
    "53": "give the server more room",
}

#: libpq gives no code for a connection that failed, so its message is searched for words.
_ADVICE_BY_WORDS = {
    "the database system is": "run the command again when the server is up",
    "password": "give the right user and password in the URL, in PGPASSWORD or in ~/.pgpass",
    "authentication failed": "give the right user and password in the URL, in PGPASSWORD or in ~/.pgpass",
    "pg_hba.conf": "let the server's pg_hba.conf admit this user from here",
    "role ": "create the role, or give another user in the URL",
    "database ": "create the database, for example with createdb",
    "too many": "wait until others have left, or raise its max_connections",
    "No space left": "free space on the disk of the server",
    "invalid connection option": "fix the options of the URL",
}
_UNREACHABLE = "start the server, or fix host and port in the URL"
_LOST = "run the command again, or look into the log of the server; nothing was changed"


@contextmanager
def translated(shown: str, *, connecting: bool = False) -> Iterator[None]:
    """Turn what the database raises in a block into a MirrorError.

    Parameters
    ----------
    shown : str
        How to call the database.
    connecting : bool
        Whether the block only opens a connection.

    Raises
    ------
    MirrorError
        For any error of psycopg or SQLAlchemy.
    """
    try:
        yield
    except (psycopg.Error, SQLAlchemyError) as error:
        raise MirrorError(f"{shown}: {_sentence(error, connecting)}") from error


def _sentence(error: psycopg.Error | SQLAlchemyError, connecting: bool) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if not isinstance(cause, psycopg.Error):
        return f"{' '.join(str(cause).split())}; fix the URL"
    return f"{_database_message(cause)}; {_advice(cause, connecting)}"


def _database_message(error: psycopg.Error) -> str:
    if error.diag.message_primary:
        pieces = (error.diag.message_primary, error.diag.message_detail)
        return ". ".join(" ".join(piece.split()) for piece in pieces if piece).rstrip(".")
    return " ".join(str(error).split()).rstrip(".") or "the connection was lost"


def _advice(error: psycopg.Error, connecting: bool) -> str:
    state = error.sqlstate
    if state:
        for beginning, advice in _ADVICE_BY_STATE.items():
            if state.startswith(beginning):
                return advice
        return "run the command again, with --rebuild if that does not help"
    if not connecting:
        return _LOST
    # The name of the host comes first and may hold any of the words.
    words = str(error).rpartition("failed:")[2]
    return next((advice for word, advice in _ADVICE_BY_WORDS.items() if word in words), _UNREACHABLE)
