"""Find the command that repairs a damaged file: a link to a copy in another version, or a stage that rebuilds it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.durable import text_of
from skylake.lake.commits.internal_links import foreign_links, lost_version
from skylake.lake.commits.new_tables import linked_tables
from skylake.lake.commits.table_version import Version
from skylake.lake.integrity.lake_facts import Facts
from skylake.lake.integrity.recover_part import recorded, recovered
from skylake.lake.layout import PARTS_FOLDER
from skylake.lake.storage.bundles import BUNDLES_FOLDER, COMPACTED, Bundle, read_members
from skylake.lake.storage.fact_relations import UNREADABLE
from skylake.lake.storage.parts import Part, PartFile, is_as_written
from skylake.schema import load
from skylake.sky.hats_coverage import COVERAGE_FILES

#: What to do after going back.
_THEN = "then run the pipeline again"
#: Tables that `skylake aggregate` does not make.
_OTHERS = ("frames", "sources", "forced_sources", "matches", "zeropoints", "targets", "masters")


class Repairs:
    """Commands that repair what a check finds in a lake.

    Parameters
    ----------
    facts : Facts
    """

    #: Names that a template may use.
    NAMES: ClassVar = frozenset(
        f"{name}_repair"
        for name in (
            "file",
            "part",
            "bundle",
            "orphan",
            "version",
            "pixel",
            "hats",
            "document",
            "pointer",
            "record",
            "snapshot",
        )
    ) | {"lake"}

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._records: dict[tuple[str, str], dict[str, Any]] = {}
        columns = ("table_name", "path", "n_rows", "n_bytes", "sha256", "kind", "owner", "camera", "night")
        for table, path, n_rows, n_bytes, sha256, *rest in facts.relations.values("lake_files", *columns):
            record = dict(zip(columns[5:], rest, strict=True))
            self._records[table, path] = record | {"file": PartFile(path, n_rows, "", n_bytes, sha256)}

    @property
    def lake(self) -> str:
        """The lake as a word of a shell."""
        return shlex.quote(str(self.facts.layout.root))

    def of(self, row: Mapping[str, Any]) -> dict[str, Callable[[], str]]:
        """Return functions that work out the repairs of a template from an offending row."""
        return {
            "lake": lambda: self.lake,
            "file_repair": lambda: self.file(row["table_name"], row["path"]),
            "pixel_repair": lambda: self.pixel(row["table_name"], row["path"]),
            "part_repair": lambda: self.before(row["table_name"], row["bundle"] or row["part"]),
            "bundle_repair": lambda: self.bundle(row["table_name"], row["bundle"]),
            "orphan_repair": lambda: self.orphan(row["table_name"], row["bundle"] or row["part"]),
            "version_repair": lambda: self.version(row["table_name"]),
            "hats_repair": lambda: self.hats(row["name"], row["folder"]),
            "document_repair": lambda: self.document(row["path"], row["kind"], row["table_name"]),
            "pointer_repair": lambda: self.pointer(row["link"], row["wanted"]),
            "record_repair": lambda: self.record(row["snapshot"]),
            "snapshot_repair": lambda: self.snapshot(row["snapshot"], row["table_name"], row["is_verified"]),
        }

    def pointer(self, link: str, wanted: str | None) -> str:
        """Return the command that repairs a link."""
        place = self.facts.layout.root / link
        if wanted is None:
            return f"restore {self.lake} from a copy"
        made = f"ln -sfn {shlex.quote(wanted)} {shlex.quote(str(place))}"
        if place.exists() and not place.is_symlink():
            return f"mv {shlex.quote(str(place))} {shlex.quote(f'{place}.broken')} && {made}"
        return made

    def snapshot(self, number: int, table: str, is_verified: bool) -> str:
        """Return the command that repairs the link of a snapshot, or removes the snapshot."""
        lost = lost_version(self.facts.layout, number, table)
        if lost is not None:
            link = (self.facts.layout.snapshot(number) / table).relative_to(self.facts.layout.root)
            return self.pointer(str(link), f"../../_versions/{table}/{lost}")
        if not is_verified:
            return f"rm -r {shlex.quote(str(self.facts.layout.snapshot(number)))}"
        newest = max(self.snapshots, default=None)
        if newest is None:
            return f"restore {self.lake} from a copy"
        folder = shlex.quote(str(self.facts.layout.snapshot(number)))
        return f"skylake rollback {self.lake} {newest}, rm -r {folder}, {_THEN}"

    def record(self, number: int) -> str:
        """Return the command that replaces a lost record of the ledger by one that says so."""
        times = dict(self.facts.relations.values("ledger", "snapshot", "time_utc"))
        before = [time for other, time in sorted(times.items()) if other < number]
        record: dict[str, Any] = {
            "snapshot": number,
            "base": number - 1,
            "stage": "lost",
            "batch": "-",
            "software_version": "unknown",
            "time_utc": before[-1] if before else "1970-01-01T00:00:00+00:00",
            "tables": list(linked_tables(self.facts.layout.snapshot(number))),
            "replaced": {},
            "removed": {},
            "merged": {},
            "loosened": {},
        }
        path = shlex.quote(str(self.facts.layout.record(number)))
        return (
            f"restore {path} from a copy of the lake; or do without, as only the history lacks it: "
            f"echo {shlex.quote(json.dumps(record))} > {path}"
        )

    def bundle(self, table: str, bundle: str) -> str:
        """Return the command that repairs the description of a bundle."""
        path = self.facts.folders[table] / BUNDLES_FOLDER / f"{bundle}.json"
        return self.document(str(path.relative_to(self.facts.layout.root)), "description of a bundle", table)

    def orphan(self, table: str, owner: str) -> str:
        """Return the command that removes rows of a night without frames."""
        command = {
            "matches": "calibrate",
            "zeropoints": "calibrate",
        }.get(table, None if table in _OTHERS else "aggregate")
        return f"skylake {command} {self.lake}" if command else self.before(table, owner)

    def hats(self, name: str, folder: str) -> str:
        """Return the command that repairs a HATS table, its margin, or a reference catalog."""
        if folder.startswith("_margins"):
            return f"rm -r {shlex.quote(str(self.facts.layout.root / folder))}"
        if name in self.facts.folders and load(name).layout.batch:
            return f"skylake compact {self.lake} {name} --all"
        if name in self.facts.folders:
            return self.version(name)
        return f"skylake catalog import {self.lake} {Path(folder).name} --replace …"

    def file(self, table: str, path: str) -> str:
        """Return the command that repairs a file of the snapshot."""
        record = self._records.get((table, path))
        target = self.facts.folders[table] / path
        if record is None or is_as_written(self.facts.folders[table], record["file"]):
            # The file is as it was written, or has no description: then the description is lost or wrong.
            owner = target.stem if record is None else record["owner"]
            description = self._copied_description(table, owner, target)
            if description is not None:
                return description
        if record is None:
            return self._undescribed(table, target)
        copy = self._copy(table, path, record)
        if copy is not None:
            made = "" if target.parent.is_dir() else f"mkdir -p {shlex.quote(str(target.parent))} && "
            return made + _link(copy, target)
        again = self._rebuild_command(table, record, target) if record["kind"] == "fresh" else None
        return again or self.before(table, record["owner"])

    def _undescribed(self, table: str, target: Path) -> str:
        """Return what to do with a file that no description lists: it may hold the only copy of its rows."""
        layout, owner = self.facts.layout, target.stem
        if recovered(layout, self.facts.folders[table], table, owner) is not None:
            return f"skylake verify {self.lake} --recover {shlex.quote(table)} {shlex.quote(owner)}"
        if owner.startswith(COMPACTED) or recorded(layout, table, owner) is not None:
            return self.before(table, owner)
        return f"rm {shlex.quote(str(target))}"

    def pixel(self, table: str, path: str | None) -> str:
        """Return the command that repairs the list of pixels: that of a lost file of the pixel, if there is one."""
        return self.version(table) if path is None else self.file(table, path)

    def _rebuild_command(self, table: str, record: dict[str, Any], target: Path) -> str | None:
        """Return the command that makes only the part of a file again; None if there is none.

        A file with wrong content is removed first, so that the part is out of date.
        """
        night, camera = shlex.quote(str(record["night"])), shlex.quote(str(record["camera"]))
        if table in ("sources", "forced_sources"):
            return f"skylake ingest {self.lake} --camera {camera} --redo --from {night} --to {night} PATH…"
        if table not in _OTHERS:
            command = f"skylake aggregate {self.lake} {shlex.quote(table)}"
        elif table in ("matches", "zeropoints"):
            catalog, _, version = (
                str(record["owner"]).removeprefix(f"{record['camera']}-{night}-").rpartition("-v")
            )
            if table == "matches":
                catalog, version = str(record["owner"]).removeprefix(f"{record['camera']}-{night}-"), ""
            command = f"skylake calibrate {self.lake} --catalog {shlex.quote(catalog)}" + (
                version and f" --version {shlex.quote(version)}"
            )
        else:
            return None
        return f"rm -f {shlex.quote(str(target))} && {command}"

    def before(self, table: str, owner: str) -> str:
        """Return the rollback to before a part or bundle was made."""
        for number, versions in sorted(self.snapshots.items(), reverse=True):
            version = Version(versions[table])
            if owner not in version.fresh and owner not in version.bundle_descriptions:
                return f"skylake rollback {self.lake} {number}, {_THEN}"
        return f"restore {owner} of {table} from a copy of the lake"

    def version(self, table: str) -> str:
        """Return the rollback to before the version of a table was made."""
        mine = self.facts.folders.get(table)
        for number, versions in sorted(self.snapshots.items(), reverse=True):
            if versions[table] != mine:
                return f"skylake rollback {self.lake} {number}, {_THEN}"
        return f"restore {mine or table} from a copy of the lake"

    def document(self, path: str, kind: str, table: str | None) -> str:
        """Return the command that repairs a description."""
        target = self.facts.layout.root / path
        if kind == "link":
            return next(foreign_links(self.facts.layout, [target])).repair
        if kind == "coverage":
            # Readers do without, and the next commit counts all rows again.
            return "rm -f " + " ".join(shlex.quote(str(target.parent / name)) for name in COVERAGE_FILES)
        if kind == "margin":
            # lsdb warns that there is none, until the next commit to the table makes it.
            return f"rm -r {shlex.quote(str(target))}"
        if kind in ("row group metadata", "empty file"):
            return f"rm {shlex.quote(str(target))}"
        if kind == "list of a catalog":
            return f"skylake catalog import {self.lake} {target.parent.name} --replace …"
        if kind == "configuration":
            name = shlex.quote(str(target))
            return (
                f"restore {name} from a copy of the lake; or do without, as the next run under this configuration "
                f"writes it again: mv {name} {shlex.quote(f'{target}.damaged')}"
            )
        if kind == "table of a camera":
            return f"rm {shlex.quote(str(target))}" + _learn_command(self.lake, target.name)
        if kind == "camera profile":
            return f"skylake ingest {self.lake} --camera FILE.toml PATH…"
        if table is not None and table in self.facts.folders:
            inner = target.relative_to(self.facts.folders[table])
            for other in self._versions(table):
                copy = other / inner
                if kind.startswith("description") and _is_whole_description(copy, kind):
                    if target.exists() and copy.samefile(target):
                        continue
                    return _link(copy, target)
                if kind == "common metadata" and copy.is_file() and copy.stat().st_size > 12:
                    return f"cp {shlex.quote(str(copy))} {shlex.quote(str(target))}"
            return self.version(table)
        if kind == "record of the ledger" and target.stem.isdecimal():
            return self.record(int(target.stem))
        if kind == "settings":
            return f"correct {shlex.quote(str(target))}, or restore it from a copy of the lake"
        return f"restore {shlex.quote(str(target))} from a copy of the lake"

    @cached_property
    def snapshots(self) -> dict[int, dict[str, Path]]:
        """Folders of the tables of every whole snapshot that is kept, before the one that is verified."""
        snapshots: dict[int, dict[str, Path]] = {}
        broken = set()
        for number, table, problem in self.facts.relations.values(
            "snapshot_tables", "snapshot", "table_name", "problem"
        ):
            folder = self.facts.layout.snapshot(number) / table
            snapshots.setdefault(number, {})[table] = folder.resolve()
            if problem is not None:
                broken.add(number)
        mine = self.facts.snapshot
        return {
            number: tables for number, tables in snapshots.items() if number not in broken and number != mine
        }

    def _versions(self, table: str) -> Iterator[Path]:
        """Yield the folders of the other versions of a table, the newest first."""
        folder = self.facts.layout.versions(table)
        mine = self.facts.folders.get(table)
        yield from (path for path in sorted(folder.glob("[0-9]*"), reverse=True) if path != mine)

    def _copy(self, table: str, path: str, record: dict[str, Any]) -> Path | None:
        """Return a whole copy of a file in another version, if there is one."""
        target = self.facts.folders[table] / path
        for version in self._versions(table):
            copy = version / path
            if target.exists() and copy.exists() and copy.samefile(target):
                continue
            if is_as_written(version, record["file"]):
                return copy
        return None

    def _copied_description(self, table: str, owner: str, file: Path) -> str | None:
        """Return the command that brings back a description which matches a file as it is."""
        mine = self.facts.folders[table]
        path = str(file.relative_to(mine))
        for kind in (PARTS_FOLDER, BUNDLES_FOLDER):
            target = mine / kind / f"{owner}.json"
            for version in self._versions(table):
                copy = version / kind / f"{owner}.json"
                same = target.exists() and copy.exists() and copy.samefile(target)
                if not same and _describes(copy, path, file):
                    return _link(copy, target)
        return None


def _learn_command(lake: str, name: str) -> str:
    """Return the command that learns the state of a camera again; nothing if the next run does so."""
    camera, _, what = name.removesuffix(".parquet").rpartition(".")
    learn = {"geometries": "learn", "distortions": "learn", "place": "mosaic"}.get(what)
    return f" && skylake camera {learn} {lake} --camera {camera}" if learn else ""


def _link(copy: Path, target: Path) -> str:
    return f"ln -f {shlex.quote(str(copy))} {shlex.quote(str(target))}"


def _describes(description: Path, path: str, file: Path) -> bool:
    """Return whether a description lists a file with the bytes and rows that it has."""
    try:
        if description.parent.name == PARTS_FOLDER:
            files = Part.from_json(text_of(description)).files
        else:
            files = Bundle.read(description).files
        n_rows = pq.read_metadata(file).num_rows
    except (*UNREADABLE, pa.ArrowException):
        return False
    written = next((file for file in files if file.path == path), None)
    if written is None or written.n_rows != n_rows:
        return False
    return is_as_written(file.parents[len(Path(path).parts) - 1], written)


def _is_whole_description(path: Path, kind: str) -> bool:
    try:
        if kind == "description of a part":
            Part.from_json(text_of(path))
        else:
            list(read_members(path))
    except UNREADABLE:
        return False
    return True
