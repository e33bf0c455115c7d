"""A mirror that tests tell what changes, in place of a lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from skylake.mirror import CopyCounts, Mirror
from skylake.mirror.books import State, parts
from skylake.mirror.postgres import Plan

#: Table, part, checksum, and its rows or what reads them once it is their turn.
Change = tuple[str, str, str, pa.Table | Callable[[], pa.Table]]


class TriedMirror(Mirror):
    """A mirror without a lake."""

    def synchronise(
        self, changes: Iterable[Change], removals: Iterable[tuple[str, str]], snapshot: int
    ) -> CopyCounts:
        """Replace or add some parts, and remove others."""
        changed = {(table, part): (checksum, rows) for table, part, checksum, rows in changes}
        gone = set(removals)

        def read(table: str, part: str) -> pa.Table:
            _, rows = changed[table, part]
            return rows() if callable(rows) else rows

        def plan(_: State, mirrored: dict[tuple[str, str], str]) -> Plan:
            kept = {part: checksum for part, checksum in mirrored.items() if part not in gone}
            new = {part: checksum for part, (checksum, _) in changed.items()}
            return Plan(kept | new, read, State(snapshot))

        return self.follow(plan)

    def parts(self) -> dict[tuple[str, str], str]:
        """Return the checksums of the parts that it holds, by table and part."""
        with self._transaction() as connection:
            return parts(connection)
