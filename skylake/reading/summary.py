"""What a lake holds, at a glance."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from skylake.lake.commits.ledger_records import read_entry
from skylake.reading.rows import html_table

if TYPE_CHECKING:
    from skylake.lake import Snapshot


@dataclass(frozen=True, slots=True)
class Nights:
    """The nights of a camera: their number, the first and the last, YYYYMMDD.

    Frames whose time is not known are of no night.
    """

    camera: str
    count: int
    first: int | None
    last: int | None

    def __str__(self) -> str:
        if self.count == 0:
            return f"{self.camera} (no night known)"
        span = f"{self.first}" if self.count == 1 else f"{self.first} to {self.last}"
        return f"{self.camera} ({self.count} night{'s' * (self.count > 1)}, {span})"


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
        Rows of each table.
    catalogs : tuple of str
    """

    root: str
    snapshot: int
    time_utc: str
    cameras: tuple[Nights, ...]
    tables: dict[str, int]
    descriptions: dict[str, str]
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
        lines += [f"  {name:<{width}}  {rows:>{digits},} rows" for name, rows in filled.items()]
        lines += [f"  without rows: {', '.join(empty)}"] if empty else []
        return "\n".join(lines)

    def html(self) -> str:
        """Return the summary as HTML that needs nothing from outside; whatever is in it is text."""
        told = "<br>".join(f"{key}: {html.escape(value)}" for key, value in self._lines)
        rows = [(name, f"{count:,}", self.descriptions[name]) for name, count in self.tables.items()]
        table = html_table(rows, ["table", "rows", "a row is"])
        return f"<div><strong>lake {html.escape(self.root)}</strong><br>{told}{table}</div>"


def summary(snapshot: Snapshot) -> Summary:
    """Return what a snapshot holds."""
    entry = read_entry(snapshot.layout, snapshot.number)
    return Summary(
        root=str(snapshot.layout.root),
        snapshot=snapshot.number,
        time_utc=f"{entry.time_utc:%Y-%m-%d %H:%M:%S}",
        cameras=_cameras(snapshot),
        tables={name: snapshot.n_rows(name) for name in snapshot.tables},
        descriptions={name: snapshot.schema(name).description for name in snapshot.tables},
        catalogs=tuple(snapshot.catalogs()),
    )


def _cameras(snapshot: Snapshot) -> tuple[Nights, ...]:
    """Return the nights of each camera that has frames."""
    rows = snapshot.read("frames", ["camera", "night"])
    pairs = rows.group_by(["camera", "night"]).aggregate([])
    found = []
    for camera in sorted(pc.unique(pairs["camera"]).to_pylist()):
        nights = pairs.filter(pc.equal(pairs["camera"], camera))["night"].to_pylist()
        known = sorted(night for night in nights if night)
        found.append(Nights(camera, len(known), known[0] if known else None, known[-1] if known else None))
    return tuple(found)
