"""The checks of a lake: each is a query of ``sql/checks`` that returns the rows which violate it.

Such a file begins with what must hold, as comment lines, and then says how it is checked::

    -- Every detection is one row of sources.
    -- deep: by frame_id
    -- says: detection {source_no} of frame {frame_id} is {n_rows} rows
    -- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…

The second part is one of ``fast``, ``deep`` (asks what only reading every row can show), ``deep: by COLUMN`` (reads
the tables themselves, in shares of the values of a column that all of them have) and ``hats``. The others are
templates with columns of the offending row; ``{lake}`` is the lake, ``{file_repair}`` the repair of a file of it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skylake.errors import ConfigurationError
from skylake.lake.integrity.file_footers import first_line
from skylake.resources import folder
from skylake.schema import table_names

if TYPE_CHECKING:
    import duckdb

KINDS = ("fast", "deep", "hats")
#: Offending rows are counted up to this number.
MOST_FOUND = 10_000
_FORM = re.compile(r"(fast|deep|hats)(?:: by (\w+))?")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """An invariant.

    Attributes
    ----------
    name, sentence : str
        Name of the file, and what must hold.
    kind : str
        ``fast``, ``deep`` or ``hats``.
    share : str or None
        Column by whose values the tables are divided, so that memory is bounded.
    says, repair : str
        Templates: the offending row in words, and the command that repairs it.
    sql : str
        The query.
    """

    name: str
    sentence: str
    kind: str
    share: str | None
    says: str
    repair: str
    sql: str

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables of the lake that the query reads."""
        words = set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", self.sql))
        return tuple(name for name in table_names() if name in words)


@dataclass(slots=True)
class CheckOutcome:
    """The result of a check.

    Attributes
    ----------
    check : Check
    rows : list of dict
        The first of the offending rows.
    n_found : int
        All of them, counted up to :data:`MOST_FOUND` in each share.
    error : str or None
        Why the check could not be run.
    seconds : float
    """

    check: Check
    rows: list[Row] = field(default_factory=list)
    n_found: int = 0
    error: str | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.n_found and self.error is None


@cache
def load_checks() -> tuple[Check, ...]:
    """Return all checks, in the order of their names.

    Raises
    ------
    ConfigurationError
        If a file does not begin as it should.
    """
    return tuple(read_check(path) for path in sorted((folder("sql") / "checks").glob("*.sql")))


def read_check(path: Path) -> Check:
    """Read a check from its file."""
    comments, lines = [], path.read_text(encoding="utf-8").splitlines()
    for line in lines:
        if not line.startswith("--"):
            break
        comments.append(line.removeprefix("--").strip())
    texts = {
        key: " ".join(
            comment.partition(":")[2].strip() for comment in comments if comment.startswith(f"{key}:")
        )
        for key in ("says", "repair")
    }
    forms = [form for comment in comments if (form := _FORM.fullmatch(comment))]
    sentences = [
        comment
        for comment in comments
        if not _FORM.fullmatch(comment) and not comment.startswith(("says:", "repair:"))
    ]
    if len(forms) != 1 or not sentences or not all(texts.values()):
        raise ConfigurationError(
            f"{path}: a check begins with what must hold, and comments `fast`, `deep` or `hats`, `says:` and `repair:`"
        )
    sql = "\n".join(lines[len(comments) :]).strip().removesuffix(";")
    return Check(
        path.stem, " ".join(sentences), forms[0][1], forms[0][2], texts["says"], texts["repair"], sql
    )


def run_check(connection: duckdb.DuckDBPyConnection, check: Check, show: int) -> CheckOutcome:
    """Run a check on a connection that knows the relations and tables that it asks.

    A check that cannot be run because of damage returns the error.
    """
    import time

    import duckdb

    outcome, start = CheckOutcome(check), time.monotonic()
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE offending AS FROM ({check.sql}) LIMIT {MOST_FOUND}")
        ((outcome.n_found,),) = connection.execute("SELECT count(*) FROM offending").fetchall()
        if outcome.n_found:
            rows = connection.execute(f"FROM offending ORDER BY ALL LIMIT {show}")
            names = [column[0] for column in rows.description or ()]
            outcome.rows = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    except duckdb.Error as error:
        outcome.error = first_line(error)
    outcome.seconds = time.monotonic() - start
    return outcome


class _Lenient(string.Formatter):
    """Fills templates: null values are left out, and missing ones are worked out."""

    def __init__(self, ask: Mapping[str, Callable[[], str]]) -> None:
        self.ask = ask

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        if isinstance(key, str) and key not in kwargs and key in self.ask:
            return self.ask[key]()
        value = kwargs[str(key)]
        if value is None:
            return "no" if str(key).startswith("n_") else "nothing"
        return value


def fill(template: str, row: Mapping[str, Any], ask: Mapping[str, Callable[[], str]] | None = None) -> str:
    """Return a template filled with the values of a row; `ask` works out others on demand."""
    return _Lenient(ask or {}).vformat(template, (), row)
