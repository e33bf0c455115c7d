"""The changes of a commit: parts and bundles to publish, and parts to remove."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skylake.core.ids import config_sha256
from skylake.lake.storage.bundles import Bundle
from skylake.lake.storage.parts import Part
from skylake.schema import table_names


@dataclass(frozen=True, slots=True)
class StagedBundle:
    """A bundle to publish, its members, and the folder of its files."""

    bundle: Bundle
    members: tuple[Part, ...]
    staging: Path


@dataclass(slots=True)
class Commit:
    """Changes that become visible together or not at all.

    Attributes
    ----------
    stage, batch : str
        What made them, for the ledger.
    staged : dict
        Parts to publish, by table, with the folder that their files are in.
    removed : dict
        Names of parts to remove, by table.
    merged : dict
        Bundles to publish in place of their members, by table.
    unbundled : dict
        Names of those staged parts that were taken out of a bundle and did not change, by table.
    configurations : dict
        Resolved configurations that the parts were made with, by their SHA-256; the ledger keeps them.
    dropped : set of str
        Tables of users that go as a whole; all their parts are in `removed`.
    base : int or None
        Snapshot from which the parts were made. If another process has changed one of them since, the commit is
        refused, so that it does not undo that; None does not check.
    run : str or None
        The run that makes it, for the ledger; :class:`skylake.lake.Lake` fills it in.
    """

    stage: str
    batch: str
    staged: dict[str, list[tuple[Part, Path]]] = field(default_factory=dict)
    removed: dict[str, set[str]] = field(default_factory=dict)
    merged: dict[str, list[StagedBundle]] = field(default_factory=dict)
    unbundled: dict[str, set[str]] = field(default_factory=dict)
    configurations: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    base: int | None = None
    run: str | None = None

    def configure(self, configurations: Iterable[Mapping[str, Any]]) -> None:
        """Let the ledger keep some configurations."""
        self.configurations |= {
            config_sha256(configuration): configuration for configuration in configurations
        }

    def replace(self, part: Part, staging: Path) -> None:
        """Publish a part in place of the one of its name, if there is one."""
        self.staged.setdefault(part.table, []).append((part, staging))

    def unbundle(self, part: Part, staging: Path) -> None:
        """Publish a part of a bundle with files of its own and unchanged rows."""
        self.replace(part, staging)
        self.unbundled.setdefault(part.table, set()).add(part.name)

    def remove(self, table: str, name: str) -> None:
        """Remove a part."""
        self.removed.setdefault(table, set()).add(name)

    def drop(self, table: str, names: Iterable[str]) -> None:
        """Remove a table of a user with all its parts, given by name."""
        self.dropped.add(table)
        self.removed[table] = set(names)

    def merge(self, staged: StagedBundle) -> None:
        """Publish a bundle in place of the parts that it is made of."""
        self.merged.setdefault(staged.bundle.table, []).append(staged)

    @property
    def tables(self) -> list[str]:
        """Tables that the commit touches."""
        touched = self.staged.keys() | self.removed.keys() | self.merged.keys()
        own = [name for name in table_names() if name in touched]
        return own + sorted(touched.difference(own))

    def touched(self, table: str) -> set[str]:
        """Return the names of the parts of a table that the commit replaces, removes or merges."""
        parts = {part.name for part, _ in self.staged.get(table, [])}
        members = {name for bundle in self.merged.get(table, []) for name in bundle.bundle.names}
        return parts | members | self.removed.get(table, set())
