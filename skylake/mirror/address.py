"""Parse URLs of databases, and show them without their password."""

from __future__ import annotations

from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from skylake.errors import UsageError

_DRIVERS = ("postgresql", "postgres", "postgresql+psycopg")
_DEFAULTS = {"connect_timeout": "15", "application_name": "skylake mirror"}


def parse(url: str) -> sa.URL:
    """Return the address of a database.

    Parameters
    ----------
    url : str
        ``postgresql://``, ``postgres://`` or ``postgresql+psycopg://``.

    Raises
    ------
    UsageError
        If it is not such a URL; the error does not quote it, since it may hold a password.
    """
    try:
        address = sa.make_url(url)
    except (ArgumentError, ValueError):
        address = None
    if address is None or address.drivername not in _DRIVERS:
        raise UsageError("the URL of the database cannot be read; write postgresql://user@host:port/database")
    if "@" in f"{address.host}{address.database}":
        raise UsageError(
            "the URL of the database has an @ too many; write %40 for @ and %2F for / in a password"
        )
    missing = {name: text for name, text in _DEFAULTS.items() if name not in address.query}
    return address.set(drivername="postgresql+psycopg").update_query_dict(missing)


def has_password(url: str) -> bool:
    """Return whether a URL holds a password."""
    address = parse(url)
    return bool(address.password) or any("password" in name for name in address.query)


def shown(address: sa.URL) -> str:
    """Return the URL of the database for messages: without password and options, except the host."""
    query = {name: text for name, text in address.query.items() if name == "host"}
    bare = sa.URL.create(
        "postgresql", address.username, None, address.host, address.port, address.database, query
    )
    return f"the database {unquote(bare.render_as_string())}"
