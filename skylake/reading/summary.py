"""A summary of the contents of a lake."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from skylake.core.batch import UNDATED
from skylake.core.counted import counted
from skylake.lake.commits.ledger_records import read_entry
from skylake.reading.rows import html_table

if TYPE_CHECKING:
    from skylake.lake import Snapshot
    from skylake.schema import TableSchema


@dataclass(frozen=True, slots=True)
class Nights:
    """The nights of a camera: their number, the first and the last, YYYYMMDD.

    Frames whose time is not known are of no night, and are counted before.
    """

    camera: str
    count: int
    first: int | None
    last: int | None
    n_undated: int = 0

    def __str__(self) -> str:
        undated = f"{counted(self.n_undated, 'frame')} without a time, " if self.n_undated else ""
        if self.count == 0:
            return f"{self.camera} ({undated}no night known)"
        span = f"{self.first}" if self.count == 1 else f"{self.first} to {self.last}"
        return f"{self.camera} ({undated}{self.count} night{'s' * (self.count > 1)}, {span})"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a lake holds at a snapshot.

    Attributes
    ----------
    root : str
    snapshot : int
    time_utc : str
        When the snapshot was committed.
    cameras : tuple of Nights
    tables : dict
        Stored rows of each table. Those of a table in blocks, such as light curves, are blocks, which readers merge.
    schemas : dict
        Schema of each table.
    catalogs : tuple of str
    """

    root: str
    snapshot: int
    time_utc: str
    cameras: tuple[Nights, ...]
    tables: dict[str, int]
    schemas: dict[str, TableSchema]
    catalogs: tuple[str, ...]

    @property
    def _lines(self) -> list[tuple[str, str]]:
        return [
            ("snapshot", f"{self.snapshot}, {self.time_utc} UTC"),
            ("cameras", ", ".join(map(str, self.cameras)) or "none"),
            ("catalogs", ", ".join(self.catalogs) or "none"),
        ]

    def text(self) -> str:
        """Return the summary as lines of text; tables without rows are named together."""
        filled = {name: rows for name, rows in self.tables.items() if rows}
        empty = [name for name in self.tables if name not in filled]
        width = max(map(len, filled), default=0)
        digits = len(f"{max(filled.values(), default=0):,}")
        lines = [f"<lake {self.root}>", *(f"{key + ':':<10}{value}" for key, value in self._lines), "tables:"]
        lines += [
            f"  {name:<{width}}  {rows:>{digits},} {self.schemas[name].unit_of_count}"
            for name, rows in filled.items()
        ]
        lines += [f"  without rows: {', '.join(empty)}"] if empty else []
        return "\n".join(lines)

    def html(self) -> str:
        """Return the summary as HTML that needs nothing from outside; whatever is in it is text."""
        lines = "<br>".join(f"{key}: {html.escape(value)}" for key, value in self._lines)
        rows = []
        for name, count in self.tables.items():
            schema = self.schemas[name]
            unit = f" {schema.unit_of_count}" if schema.in_blocks else ""
            rows.append((name, f"{count:,}{unit}", schema.description))
        table = html_table(rows, ["table", "rows", "a row is"])
        return f"<div><strong>lake {html.escape(self.root)}</strong><br>{lines}{table}</div>"


def summary(snapshot: Snapshot) -> Summary:
    """Return what a snapshot holds."""
    entry = read_entry(snapshot.layout, snapshot.number)
    return Summary(
        root=str(snapshot.layout.root),
        snapshot=snapshot.number,
        time_utc=f"{entry.time_utc:%Y-%m-%d %H:%M:%S}",
        cameras=_cameras(snapshot),
        tables={name: snapshot.n_rows(name) for name in snapshot.tables},
        schemas={name: snapshot.schema(name) for name in snapshot.tables},
        catalogs=tuple(snapshot.catalogs()),
    )


def _cameras(snapshot: Snapshot) -> tuple[Nights, ...]:
    """Return the nights of each camera that has frames."""
    rows = snapshot.read("frames", ["camera", "night"])
    pairs = rows.group_by(["camera", "night"]).aggregate([([], "count_all")])
    found = []
    for camera in sorted(pc.unique(pairs["camera"]).to_pylist()):
        of_camera = pairs.filter(pc.equal(pairs["camera"], camera))
        frames = dict(zip(of_camera["night"].to_pylist(), of_camera["count_all"].to_pylist(), strict=True))
        n_undated, dated = frames.pop(UNDATED, 0), sorted(frames)
        first, last = (dated[0], dated[-1]) if dated else (None, None)
        found.append(Nights(camera, len(dated), first, last, n_undated))
    return tuple(found)
