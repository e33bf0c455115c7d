"""What happened to a lake: its snapshots, and the one that was current at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skylake.errors import LakeError, UsageError
from skylake.lake.layout import Layout
from skylake.lake.remote import PublishedLayout
from skylake.places import Reaching


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit of the ledger.

    Attributes
    ----------
    snapshot : int
        Number of the snapshot that it made.
    base : int or None
        Snapshot that it was built upon.
    time_utc : datetime
        When it was committed.
    stage, batch : str
        What ran.
    software_version : str
    rows : dict
        Rows of the new parts, by table.
    parts : dict
        Names of the parts that it wrote or removed, by table; what a compaction moved is not among them.
    n_removed : int
        Parts that were removed.
    kept : bool
        Whether the snapshot is still there.
    """

    snapshot: int
    base: int | None
    time_utc: datetime
    stage: str
    batch: str
    software_version: str
    rows: dict[str, int] = field(default_factory=dict)
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    n_removed: int = 0
    kept: bool = True

    def is_of(self, batch: str | None = None, table: str | None = None) -> bool:
        """Tell whether the commit wrote or removed rows of a batch and of a table; None means any."""
        if batch is None and table is None:
            return True
        names = (name for one, some in self.parts.items() if table in (None, one) for name in some)
        return any(batch is None or name == batch or name.startswith(f"{batch}-") for name in names)


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
        raise LakeError(
            f"{layout.root}: the link 'current' is broken; point it to a folder of _snapshots"
        ) from error
    if not layout.snapshot(number).is_dir():
        raise LakeError(
            f"{layout.root}: the link 'current' leads to the snapshot {number}, which is missing; "
            "point it to another folder of _snapshots"
        )
    return number


def history(layout: Layout) -> list[Entry]:
    """Return the commits of a lake, the oldest first.

    A commit that was interrupted before it became current is none.
    """
    last = current_number(layout)
    if isinstance(layout, PublishedLayout):
        kept = layout.published()
        records = layout.records(last)
        return [_entry(layout.record(number), number in kept, text) for number, text in records.items()]
    found = ((int(path.stem), path) for path in sorted(layout.ledger.glob("[0-9]*.json")))
    return [_entry(path, layout.snapshot(number).is_dir()) for number, path in found if number <= last]


def _published_number(layout: PublishedLayout) -> int:
    with Reaching(layout.root):
        number = layout.current_number()
    if number is None:
        raise LakeError(f"{layout.root}: no snapshot was published there; publish one with `skylake publish`")
    return number


def _entry(path: Path, kept: bool, text: bytes | None = None) -> Entry:
    try:
        record: dict[str, Any] = json.loads(path.read_bytes() if text is None else text)
        rows = {
            table: sum(part["rows"] for part in parts.values()) for table, parts in record["replaced"].items()
        }
        parts = {table: tuple(names) for table, names in record["replaced"].items()}
        for table, names in record["removed"].items():
            parts[table] = (*parts.get(table, ()), *names)
        return Entry(
            int(record["snapshot"]),
            record["base"],
            datetime.fromisoformat(record["time_utc"]),
            record["stage"],
            record["batch"],
            record["software_version"],
            rows,
            parts,
            sum(len(names) for names in record["removed"].values()),
            kept,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LakeError(
            f"{path}: the record of the ledger is damaged ({error}); restore it from a copy"
        ) from error


def find_snapshot(layout: Layout, as_of: str | int | datetime | None) -> int:
    """Return the number of the snapshot that was current at a time.

    Parameters
    ----------
    as_of : str, int, datetime or None
        Number of a snapshot, or a time in ISO 8601, UTC where it names no zone; None is now.

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
    entries = history(layout)
    published = isinstance(layout, PublishedLayout)
    if isinstance(wanted, int):
        found = [entry for entry in entries if entry.snapshot == wanted]
        missing = f"{layout.root}: there is no snapshot {wanted}; `skylake history` lists them"
    else:
        # Of the commits of a night only the last is published: the last published one before a time is meant.
        known = [entry for entry in entries if entry.kept] if published else entries
        found = [entry for entry in known if entry.time_utc <= wanted][-1:]
        missing = (
            f"{layout.root}: there was no lake at {wanted.isoformat()}; `skylake history` tells when it began"
        )
    if not found:
        raise LakeError(missing)
    if not found[0].kept:
        kept = [entry.snapshot for entry in entries if entry.kept]
        nearest = min(kept, key=lambda number: abs(number - found[0].snapshot))
        gone = "is not among the published ones" if published else "was vacuumed"
        raise LakeError(
            f"{layout.root}: the snapshot {found[0].snapshot} {gone}; the nearest that is kept is {nearest}"
        )
    return found[0].snapshot


def _number_or_time(as_of: str | int | datetime) -> int | datetime:
    if isinstance(as_of, int):
        return as_of
    if isinstance(as_of, str):
        if as_of.strip().isdecimal() and len(as_of.strip()) < 8:
            return int(as_of)
        try:
            as_of = datetime.fromisoformat(as_of.strip())
        except ValueError:
            raise UsageError(
                f"{as_of!r} is neither the number of a snapshot nor a time such as 2024-05-01T12:00"
            ) from None
    return as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of
