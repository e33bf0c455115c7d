"""The history of a lake: its snapshots, its runs, and the snapshot that was current at a time."""

from __future__ import annotations

import re
import shlex
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from numbers import Integral

from skylake.errors import LakeError, UnknownName, UsageError
from skylake.lake.commits.ledger_records import (
    INSTANT,
    LedgerEntry,
    as_one,
    in_runs,
    is_recorded,
    is_retained,
    newest_first,
    read_entry,
    recorded_numbers,
    retained_numbers,
)
from skylake.lake.layout import Layout
from skylake.lake.published_layout import PublishedLayout
from skylake.places import Reaching

#: A day in ISO 8601, optionally followed by any one character and a time of day.
_DAY = re.compile(r"\d{4}(?:-\d\d-\d\d|\d{4}|-W\d\d(?:-\d)?|W\d\d\d?)")


def current_number(layout: Layout) -> int:
    """Return the number of the current snapshot.

    Raises
    ------
    LakeError
        If the pointer leads nowhere.
    """
    if isinstance(layout, PublishedLayout):
        return _published_number(layout)
    try:
        number = int(layout.current.readlink().name)
    except (OSError, ValueError) as error:
        if layout.current.is_file():
            raise LakeError(
                f"{layout.root}: this is a lake that was published; read it as {layout.root.as_uri()}"
            ) from error
        raise LakeError(
            f"{layout.root}: the link 'current' is broken; point it to a folder of _snapshots"
        ) from error
    if not layout.snapshot(number).is_dir():
        raise LakeError(
            f"{layout.root}: the link 'current' leads to the snapshot {number}, which is missing; "
            "point it to another folder of _snapshots"
        )
    return number


def history(
    layout: Layout, last: int | None = None, batch: str | None = None, table: str | None = None
) -> list[LedgerEntry]:
    """Return the commits of a lake, the oldest first.

    A commit that was interrupted before it became current does not count.

    Parameters
    ----------
    last : int or None
        Only the newest so many; older records are not read.
    batch, table : str or None
        Only commits that wrote or removed rows of a batch, of a table.
    """
    few = last if batch is None and table is None else None
    return list(islice((entry for entry in _newest_first(layout, few) if entry.is_of(batch, table)), last))[
        ::-1
    ]


def runs(
    layout: Layout, last: int | None = None, batch: str | None = None, table: str | None = None
) -> list[LedgerEntry]:
    """Return the runs of a lake, each as one commit that leads to the state after it; as :func:`history` does."""
    newest = (as_one(commits[::-1]) for commits in in_runs(_newest_first(layout)))
    return list(islice((run for run in newest if run.is_of(batch, table)), last))[::-1]


def before_last_run(layout: Layout) -> int:
    """Return the number of the snapshot on which the last run began.

    Raises
    ------
    LakeError
        If there was none before, or others ran at the same time, whose commits would be undone as well.
    """
    groups = in_runs(_newest_first(layout))
    last = next(groups)
    base = last[-1].base
    if base is None:
        raise LakeError(f"{layout.root}: nothing has run on the lake yet, so there is nothing to go back to")
    others = list(takewhile(lambda commits: commits[0].snapshot > last[-1].snapshot, groups))
    if not others:
        return base
    retained = retained_numbers(layout, last[0].snapshot)
    wanted = (base, min(commits[-1].base or 1 for commits in (last, *others)))
    choices = sorted(
        {
            max((snapshot for snapshot in retained if snapshot <= number), default=retained[0])
            for number in wanted
        }
    )
    undone = sorted(commit.snapshot for commits in others for commit in commits if commit.snapshot > base)
    raise LakeError(
        f"{layout.root}: going back to before the last run would undo what another one committed at the same time, "
        f"snapshot {', '.join(map(str, undone))}; name the snapshot to go back to, {' or '.join(map(str, choices))}, "
        f"as in `skylake rollback {shlex.quote(str(layout.root))} {choices[-1]}`"
    )


def _newest_first(layout: Layout, last: int | None = None) -> Iterator[LedgerEntry]:
    """Yield the commits of a lake, or the last few; each record is read when its turn comes."""
    current = current_number(layout)
    numbers = recorded_numbers(layout, current)
    if last is not None:
        numbers = numbers[max(len(numbers) - last, 0) :]
    return newest_first(layout, numbers, retained_numbers(layout, current))


def _published_number(layout: PublishedLayout) -> int:
    with Reaching(layout.root):
        number = layout.current_number()
    if number is None:
        raise LakeError(f"{layout.root}: no snapshot was published there; publish one with `skylake publish`")
    return number


def find_snapshot(layout: Layout, as_of: str | int | datetime | None) -> int:
    """Return the number of the snapshot that was current at a time.

    Parameters
    ----------
    as_of : str, int, datetime or None
        Number of a snapshot, or a time in ISO 8601, UTC where it names no zone; None is now. A text that names a
        day, minute or second means the end of it.

    Raises
    ------
    UsageError
        If it is neither a number nor a time.
    LakeError
        If the lake did not exist then, or the snapshot was vacuumed.
    """
    if as_of is None:
        return current_number(layout)
    wanted = _number_or_time(as_of)
    asked = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of).strip()
    current = current_number(layout)
    number = wanted if isinstance(wanted, int) else _number_at(layout, wanted, current, asked)
    if number > current or not is_retained(layout, number):
        raise UnknownName(_why_missing(layout, number, current))
    return number


def _number_at(layout: Layout, time: datetime, current: int, asked: str) -> int:
    """Return the number of the snapshot that was current at a time, given by the user as `asked`.

    Times grow with the numbers. In a published lake, which may lack snapshots, it is the last one before the time.
    """
    published = isinstance(layout, PublishedLayout)
    numbers = (retained_numbers if published else recorded_numbers)(layout, current)
    place = bisect_right(numbers, time, key=lambda number: read_entry(layout, number).time_utc)
    if place == 0:
        raise LakeError(f"{layout.root}: there was no lake at {asked}; `skylake history` shows when it began")
    return numbers[place - 1]


def _why_missing(layout: Layout, number: int, current: int) -> str:
    if number > current or not is_recorded(layout, number):
        return f"{layout.root}: there is no snapshot {number}; `skylake history` lists them"
    nearest = min(retained_numbers(layout, current), key=lambda kept: abs(kept - number))
    gone = "is not among the published ones" if isinstance(layout, PublishedLayout) else "was vacuumed"
    return f"{layout.root}: the snapshot {number} {gone}; the nearest that is kept is {nearest}"


def _number_or_time(as_of: object) -> int | datetime:
    if isinstance(as_of, Integral):
        return int(as_of)
    if not isinstance(as_of, datetime):
        # Times of numpy and astropy are in ISO 8601 as text.
        as_of = str(as_of).strip()
        if as_of.isdecimal() and len(as_of) < 8:
            return int(as_of)
        try:
            as_of = _end_of(as_of)
        except ValueError:
            raise UsageError(
                f"{as_of!r} is neither the number of a snapshot nor a time such as 2024-05-01T12:00"
            ) from None
    return as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of


def _end_of(text: str) -> datetime:
    """Return the last instant of a time with the precision it is written in: of a day, a minute or a second.

    So a time copied from `skylake history`, which shows seconds, includes that commit.
    """
    time = datetime.fromisoformat(text)
    day = _DAY.match(text)
    clock = text[day.end() + 1 :] if day else ""
    if not clock:
        return time + timedelta(days=1) - INSTANT
    digits = re.split(r"[Zz+-]", clock)[0].replace(":", "")
    if "." in digits or "," in digits:
        return time
    spans = {2: timedelta(hours=1), 4: timedelta(minutes=1), 6: timedelta(seconds=1)}
    return time + spans[len(digits)] - INSTANT
