"""Show results: text tables for people, JSON for programs."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")

#: Between columns.
_GAP = "  "


def table(rows: Iterable[Sequence[object]], header: Sequence[str], width: float = math.inf) -> int:
    """Print rows in columns that are as wide as they need to be; numbers to the right.

    Only the first columns that fit into `width` characters are printed, and their number is returned.
    """
    rows = [list(row) for row in rows]
    texts = [[as_text(value, name) for value, name in zip(row, header, strict=True)] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in texts)]) for i, name in enumerate(header)]
    ends = itertools.accumulate(wide + len(_GAP) for wide in widths)
    n_fitting = max(1, sum(end - len(_GAP) <= width for end in ends))
    right = [
        bool(rows)
        and all(isinstance(row[i], int | float | None) and not isinstance(row[i], bool) for row in rows)
        for i in range(len(header))
    ]
    for line in ([*header], ["-" * width for width in widths], *texts):
        cells = [
            text.rjust(w) if r else text.ljust(w) for text, w, r in zip(line, widths, right, strict=True)
        ]
        click.echo(_GAP.join(cells[:n_fitting]).rstrip())
    return n_fitting


#: Columns of times in days and of positions, which need more digits than measurements.
_PRECISE = re.compile(r"(^|_)(mjd|bjd|jd|ra|dec)(_|$)")


def as_text(value: object, name: str = "") -> str:
    """Return a value as a person reads it; the name of its column says how many digits it needs."""
    if value is None:
        return ""
    if isinstance(value, float):
        # Enough for the tenth of a second of a Modified Julian Date and the milliarcseconds of a position.
        return f"{value:.11g}" if _PRECISE.search(name) else f"{value:.6g}"
    return str(value)


def result(value: Any, wanted: bool, text: Callable[[], object]) -> None:
    """Print a result as JSON if that is wanted, else as text."""
    if wanted:
        click.echo(json_text(value))
    else:
        text()


def json_text(value: Any) -> str:
    """Return a value as JSON; NaN and infinity, which JSON does not know, become null."""
    try:
        return json.dumps(value, indent=1, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=1, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def complain(sentence: str) -> None:
    """Print a sentence on standard error."""
    click.echo(f"skylake: {sentence}", err=True)
