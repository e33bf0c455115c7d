"""Bundles: files into which compaction has merged many parts, and the description of each.

A bundle has one file in every pixel that its members touch. Its description is a file of JSON lines: first
the bundle with the names of its members, then one line per member. To look up one part, the first line and
the line of the part are enough.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skylake.durable import opened
from skylake.lake.storage.parts import Part, PartFile, require_plain

#: Folder of a version with one description per bundle.
BUNDLES_FOLDER = "_bundles"
#: How the names of bundles begin.
COMPACTED = "compacted-"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Parts that share their files.

    Attributes
    ----------
    table, name : str
    level : int
        Number of times that its rows were merged.
    files : tuple of PartFile
        Its files, whole.
    names : tuple of str
        Names of the members.
    """

    table: str
    name: str
    level: int
    files: tuple[PartFile, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        require_plain(self.name)

    @property
    def n_rows(self) -> int:
        """Rows in all files."""
        return sum(file.n_rows for file in self.files)

    def to_json(self, members: Sequence[Part]) -> str:
        """Return the description, given the members in the order of `names`."""
        places = {file.path: place for place, file in enumerate(self.files)}
        lines = [json.dumps(asdict(self))]
        for part in members:
            values = part.to_values()
            # A member may have a file in each of hundreds of pixels: short lines keep the description small.
            values["files"] = [[places[file.path], file.n_rows, file.digest] for file in part.files]
            lines.append(json.dumps(values))
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """Return a bundle from its description, without its members."""
        with io.TextIOWrapper(opened(path), "utf-8") as stream:
            return cls._of(stream.readline())

    @classmethod
    def _of(cls, line: str) -> Bundle:
        values: dict[str, Any] = json.loads(line)
        files = tuple(PartFile(**file) for file in values["files"])
        return cls(values["table"], values["name"], values["level"], files, tuple(values["names"]))


def read_members(path: Path, names: frozenset[str] | None = None) -> Iterator[Part]:
    """Yield members of a bundle from its description.

    Parameters
    ----------
    path : Path
    names : frozenset of str or None
        Members to read; None reads all.
    """
    with io.TextIOWrapper(opened(path), "utf-8") as stream:
        bundle = Bundle._of(stream.readline())
        for name, line in zip(bundle.names, stream, strict=True):
            if names is None or name in names:
                values = json.loads(line)
                values["files"] = [
                    {"path": bundle.files[place].path, "n_rows": n_rows, "digest": digest}
                    for place, n_rows, digest in values["files"]
                ]
                yield Part.from_values(values)
