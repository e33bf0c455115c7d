"""Read records of the ledger one by one, since reading all of them would take too long."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from skylake.durable import content_of
from skylake.errors import LakeError
from skylake.lake.layout import Layout
from skylake.lake.published_layout import PublishedLayout
from skylake.places import Reaching

#: Times of commits are written to the microsecond.
INSTANT = timedelta(microseconds=1)
#: Records that are fetched from a store at the same time: few at first, as often these are enough.
_FIRST, _TOGETHER = 64, 1000
#: The batches of a run are named up to this number.
_FEW_NAMES = 3
#: Longest time between two commits of a run.
_PAUSE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One commit of the ledger.

    Attributes
    ----------
    snapshot : int
        Number of the snapshot that it made.
    base : int or None
        Snapshot that it was based on.
    time_utc : datetime
        When it was committed.
    stage, batch : str
        What ran.
    software_version : str
    rows : dict
        Rows of the new parts, by table.
    parts : dict
        Names of the parts that it wrote or removed, by table, without those that a compaction moved.
    n_removed : int
        Parts that were removed.
    kept : bool
        Whether the snapshot is still there.
    run : str or None
        The run of several commits that it belongs to; None for a commit of its own.
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
    run: str | None = None

    def is_of(self, batch: str | None = None, table: str | None = None) -> bool:
        """Return whether the commit wrote or removed rows of a batch and of a table; None means any."""
        if batch is None and table is None:
            return True
        names = (name for one, some in self.parts.items() if table in (None, one) for name in some)
        return any(batch is None or name == batch or name.startswith(f"{batch}-") for name in names)


def in_runs(entries: Iterable[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    """Yield commits, the newest first, by the runs that made them: each run at the place of its last commit.

    The commits of simultaneous runs are interleaved. A run is taken to begin where the day before its oldest commit
    has none of it; otherwise all records would be read to find the last run.
    """
    waiting: dict[str | int, list[LedgerEntry]] = {}
    for entry in entries:
        waiting.setdefault(entry.run or entry.snapshot, []).append(entry)
        while waiting:
            run, commits = next(iter(waiting.items()))
            if isinstance(run, str) and commits[-1].time_utc - entry.time_utc <= _PAUSE:
                break
            yield waiting.pop(run)
    yield from waiting.values()


def as_one(commits: Sequence[LedgerEntry]) -> LedgerEntry:
    """Return the commits of a run, the oldest first, as the one that led from the state before it to that after it."""
    last = commits[-1]
    if len(commits) == 1:
        return last
    rows: Counter[str] = Counter()
    parts: dict[str, tuple[str, ...]] = {}
    for commit in commits:
        rows.update(commit.rows)
        for table, names in commit.parts.items():
            parts[table] = (*parts.get(table, ()), *names)
    stages = dict.fromkeys(commit.stage.split()[0] for commit in commits)
    # The batch of a compaction is a table.
    nights = sorted({commit.batch for commit in commits if commit.stage != "compact"} - {"-"})
    return replace(
        last,
        base=commits[0].base,
        stage=", ".join(stages),
        batch=_shortened(nights),
        rows=dict(rows),
        parts=parts,
        n_removed=sum(commit.n_removed for commit in commits),
    )


def _shortened(names: Sequence[str]) -> str:
    if len(names) > _FEW_NAMES:
        return f"{names[0]} to {names[-1]} ({len(names)})"
    return ", ".join(names) or "-"


def recorded_numbers(layout: Layout, last: int) -> list[int]:
    """Return the numbers of the snapshots up to one that the ledger has a record of, the lowest first."""
    if isinstance(layout, PublishedLayout):
        with Reaching(layout.root):
            numbers = layout.recorded()
    else:
        stems = (path.stem for path in layout.ledger.iterdir() if path.suffix == ".json")
        numbers = {int(stem) for stem in stems if stem.isdecimal()}
    return sorted(number for number in numbers if number <= last)


def retained_numbers(layout: Layout, last: int) -> list[int]:
    """Return the numbers of the snapshots up to one that are still there, the lowest first."""
    if isinstance(layout, PublishedLayout):
        with Reaching(layout.root):
            numbers = layout.published()
    else:
        folders = (path for path in layout.snapshots.iterdir() if path.name.isdecimal())
        numbers = {int(path.name) for path in folders if path.is_dir()}
    return sorted(number for number in numbers if number <= last)


def is_retained(layout: Layout, number: int) -> bool:
    """Return whether a snapshot is still there."""
    if isinstance(layout, PublishedLayout):
        with Reaching(layout.root):
            return layout.read(layout.publication_file(number)) is not None
    return layout.snapshot(number).is_dir()


def is_recorded(layout: Layout, number: int) -> bool:
    """Return whether the ledger has a record of a snapshot."""
    if isinstance(layout, PublishedLayout):
        with Reaching(layout.root):
            return layout.read(layout.record(number)) is not None
    return layout.record(number).is_file()


def newest_first(layout: Layout, numbers: Sequence[int], retained: Sequence[int]) -> Iterator[LedgerEntry]:
    """Yield commits by their numbers, the last of these first; each is read when its turn comes.

    Raises
    ------
    LakeError
        If a record is damaged.
    """
    there = set(retained)
    if not isinstance(layout, PublishedLayout):
        yield from (read_entry(layout, number, number in there) for number in reversed(numbers))
        return
    ends = [len(numbers), *range(len(numbers) - _FIRST, 0, -_TOGETHER), 0]
    for end, start in pairwise(ends):
        block = numbers[max(start, 0) : end]
        with Reaching(layout.root):
            texts = layout.records(block)
        yield from (
            _entry(layout.record(number), number in there, texts[number]) for number in reversed(block)
        )


def read_entry(layout: Layout, number: int, kept: bool = True) -> LedgerEntry:
    """Return a commit by the number of its snapshot.

    Raises
    ------
    LakeError
        If its record is damaged or missing.
    """
    text = None
    if isinstance(layout, PublishedLayout):
        with Reaching(layout.root):
            text = layout.read(layout.record(number))
    return _entry(layout.record(number), kept, text)


def _entry(path: Path, kept: bool, text: bytes | None = None) -> LedgerEntry:
    try:
        record: dict[str, Any] = json.loads(content_of(path) if text is None else text)
        rows = {
            table: sum(part["rows"] for part in parts.values()) for table, parts in record["replaced"].items()
        }
        parts = {table: tuple(names) for table, names in record["replaced"].items()}
        for table, names in record["removed"].items():
            parts[table] = (*parts.get(table, ()), *names)
        return LedgerEntry(
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
            record.get("run"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LakeError(
            f"{path}: the record of the ledger is damaged ({error}); restore it from a copy"
        ) from error
