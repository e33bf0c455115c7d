"""Publish a snapshot to an object store: new objects first, the pointer last, old snapshots removed after it.

Objects in the store are not sent again: an unchanged table is skipped, and unchanged files are copied within the
store. A publish that is killed leaves the last one unchanged; the next one finds the files that were sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from skylake.durable import text_of
from skylake.errors import LakeError, UsageError
from skylake.inside import inside, links_below, read_regular, require_no_link
from skylake.lake.cameras.master_files import FOLDER
from skylake.lake.commits.file_lock import locked
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.layout import Layout
from skylake.lake.published_layout import Publication, PublishedLayout, read_objects, read_publications
from skylake.lake.remote.published_lake import PublishedSnapshot
from skylake.lake.remote.snapshot_files import (
    FolderContents,
    catalog_contents,
    margin_contents,
    table_contents,
)
from skylake.lake.remote.upload import UNFINISHED, Transfer, Uploader, UploadPlan
from skylake.lake.storage.schema_versions import form_of
from skylake.places import Reaching, is_url, key, place, store
from skylake.revision import VERSION
from skylake.sky.hats import Objects

_KNOWN = {
    "_versions",
    "_margins",
    "_snapshots",
    "_ledger",
    "_cameras",
    "catalogs",
    "skylake.toml",
    "current",
    UNFINISHED,
    FOLDER,
}


@dataclass(slots=True)
class PublishReport:
    """The report of a publish, or with `dry_run` its plan.

    Attributes
    ----------
    url : str
    snapshot : int
    tables : dict
        For each table or ``catalogs/<name>`` that changed: files sent, copied within the store, or present already.
    n_sent, bytes_sent : int
        Files and bytes that were sent.
    n_copied, bytes_copied : int
        Files and bytes that were copied within the store.
    removed : list of int
        Published snapshots that were removed.
    dry_run : bool
    """

    url: str
    snapshot: int
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    n_sent: int = 0
    bytes_sent: int = 0
    n_copied: int = 0
    bytes_copied: int = 0
    removed: list[int] = field(default_factory=list)
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How to publish.

    Attributes
    ----------
    keep : int
        Published snapshots that stay, the newest of them.
    dry_run : bool
        Only find out what would be done.
    begin : callable or None
        Called with the number of files that will be sent or copied.
    step : callable or None
        Called for each of them.
    """

    keep: int = 7
    dry_run: bool = False
    begin: Callable[[int], None] = lambda total: None
    step: Callable[[], None] = lambda: None


def publish_snapshot(snapshot: Snapshot, url: str, options: PublishOptions | None = None) -> PublishReport:
    """Publish a snapshot of a lake on disk.

    Parameters
    ----------
    snapshot : Snapshot
        The current one.
    url : str
        Where to, as in ``s3://bucket/lake``; any URL of fsspec that can be written.
    options : PublishOptions or None

    Raises
    ------
    UsageError
        If it is not a URL, or its package is not installed.
    LakeError
        If the place holds something else or another lake, or cannot be reached or written, or another process is
        publishing the lake.
    """
    if not is_url(url):
        local = Path(url).absolute().as_uri()
        raise UsageError(f"{url}: a lake is published to a URL, as in s3://bucket/lake or {local}")
    target = PublishedLayout(place(url))
    if "file" in store(target.root).protocol:
        for link in links_below(Path(key(target.root))):
            require_no_link(link, Path(key(target.root)))
    with locked(snapshot.layout.root / "_publishing", wait=False), Reaching(target.root):
        return _Publisher(snapshot, target, options or PublishOptions()).run()


class _Publisher:
    """One run of a publish."""

    def __init__(self, snapshot: Snapshot, target: PublishedLayout, options: PublishOptions) -> None:
        self.snapshot, self.target, self.options = snapshot, target, options
        self.filler = Uploader(target)
        self.report = PublishReport(str(target.root), snapshot.number, dry_run=options.dry_run)

    def run(self) -> PublishReport:
        """Publish, and return what was done."""
        self.filler.fs.invalidate_cache()
        last = self._last()
        folders, plans = {}, []
        for contents in self._contents(last):
            plan = self.filler.plan(contents, last)
            folders[contents.name] = plan.folder if isinstance(plan, UploadPlan) else plan
            if isinstance(plan, UploadPlan):
                self._report_plan(plan)
                plans.append(plan)
        if self.options.dry_run:
            self.report.removed = sorted(self._outdated())
            return self.report
        self._fill(plans)
        self._send_masters()
        self._write_rest()
        made, write = self._publication(folders), self.filler.write
        write(self.target.publication_file(made.snapshot), made.to_json())
        write(self.target.current, f"_snapshots/{made.snapshot:06d}.json\n")
        self._remove_outdated()
        return self.report

    def _last(self) -> Publication | None:
        """Return the last publication, if it is of this lake and not of a later state of it."""
        number = self.target.current_number()
        if number is None:
            strange = sorted(set(self.filler.names("")) - _KNOWN)
            if strange:
                raise LakeError(
                    f"{self.target.root}: something else is there, such as {strange[0]}; name an empty place"
                )
            return None
        last = self.target.publication(number)
        if number > self.snapshot.number or _time_of(self.snapshot.layout, number) != last.time_utc:
            raise LakeError(
                f"{self.target.root}: another lake, or a later state of this one, was published there (snapshot "
                f"{number} of {last.time_utc}); name another place, or remove it first"
            )
        return last

    def _contents(self, last: Publication | None) -> Iterable[FolderContents]:
        """Yield the contents of the folders to publish."""
        for name in self.snapshot.tables:
            yield table_contents(self.snapshot, name)
            margin = margin_contents(self.snapshot, name, *self._held(last, f"margins/{name}"))
            if margin is not None:
                yield margin
        for name in self.snapshot.catalogs():
            yield catalog_contents(self.snapshot, name, self._held(last, f"catalogs/{name}")[1])

    def _held(self, last: Publication | None, name: str) -> tuple[str, Objects]:
        """Return the folder that the last publication has under a name, and its files; an empty one without any."""
        folder = last.folders.get(name, "") if last else ""
        return folder, (read_objects(self.target, folder) or {} if folder else {})

    def _report_plan(self, plan: UploadPlan) -> None:
        sent = [transfer.n_bytes for transfer in plan.transfers if transfer.source is None]
        copied = [transfer.n_bytes for transfer in plan.transfers if transfer.source is not None]
        counts = {"sent": len(sent), "copied": len(copied), "there": plan.n_there}
        self.report.tables[plan.contents.name] = counts
        self.report.n_sent += len(sent)
        self.report.n_copied += len(copied)
        self.report.bytes_sent += sum(sent)
        self.report.bytes_copied += sum(copied)

    def _fill(self, plans: list[UploadPlan]) -> None:
        self.options.begin(sum(len(plan.transfers) for plan in plans))
        for plan in plans:
            self.filler.fill(plan, self.options.step)

    def _publication(self, folders: dict[str, str]) -> Publication:
        return Publication(
            self.snapshot.number,
            _time_of(self.snapshot.layout, self.snapshot.number) or "",
            {name: folders[name] for name in self.snapshot.tables},
            {name: self.snapshot.n_rows(name) for name in self.snapshot.tables},
            {name: form_of(self.snapshot.folder(name)) for name in self.snapshot.tables},
            {name: folders[f"catalogs/{name}"] for name in self.snapshot.catalogs()},
            VERSION,
            margins={
                name: folder
                for name in self.snapshot.tables
                # The collection names the table by its usual place.
                if (folder := folders.get(f"margins/{name}", "")).endswith(
                    folders[name].removeprefix("_versions")
                )
            },
        )

    def _write_rest(self) -> None:
        """Write the ledger with its configurations, the camera profiles and geometries, and the settings."""
        here = self.snapshot.layout
        records = [path for path in here.ledger.glob("[0-9]*.json") if int(path.stem) <= self.snapshot.number]
        self._send_missing(here.ledger, records)
        self._send_missing(here.configurations, here.configurations.glob("*.json"))
        contents = {path: read_regular(path, here.root) for path in here.of_cameras()}
        settings = read_regular(here.settings_file, here.root).decode()
        contents[here.settings_file] = _open_settings(settings).encode()
        for path, content in contents.items():
            where = self.target.root / path.relative_to(here.root).as_posix()
            if self.target.read(where) != content:
                self.filler.write(where, content)

    def _send_missing(self, folder: Path, paths: Iterable[Path]) -> None:
        """Send those files of a folder that the store does not have whole; they never change."""
        root = self.snapshot.layout.root
        where = folder.relative_to(root).as_posix()
        held = self.filler.sizes(where)
        missing = [path for path in sorted(paths) if path.lstat().st_size != held.get(path.name)]
        contents = ((path, read_regular(path, root)) for path in missing)
        self.filler.transfer(
            [
                Transfer(
                    self.filler.key(f"{where}/{path.name}"), len(content), sha256(content).hexdigest(), path
                )
                for path, content in contents
            ],
            lambda: None,
        )

    def _send_masters(self) -> None:
        """Send the files of masters that the store does not have whole; a file never changes."""
        root, held = self.snapshot.layout.root, self.filler.sizes(FOLDER)
        rows = self.snapshot.read("masters", ["file", "file_bytes", "sha256"]).to_pylist()
        missing = [
            row for row in rows if held.get(row["file"].removeprefix(f"{FOLDER}/")) != row["file_bytes"]
        ]
        transfers = []
        for row in missing:
            file = inside(root / FOLDER, row["file"].removeprefix(f"{FOLDER}/"), "the table masters")
            if not file.is_file():
                raise LakeError(f"{file}: the master is not there; `skylake verify` shows what repairs it")
            transfers.append(Transfer(self.filler.key(row["file"]), row["file_bytes"], row["sha256"], file))
        self.filler.transfer(transfers, lambda: None)
        self.report.n_sent += len(missing)
        self.report.bytes_sent += sum(row["file_bytes"] for row in missing)

    def _remove_masters(self, numbers: Iterable[int]) -> None:
        """Remove the files of masters that none of some published snapshots needs."""
        needed: set[str] = set()
        for number in numbers:
            needed.update(
                PublishedSnapshot(self.target, number).read("masters", ["file"])["file"].to_pylist()
            )
        for name in self.filler.sizes(FOLDER):
            if f"{FOLDER}/{name}" not in needed:
                self.filler.fs.rm(self.filler.key(f"{FOLDER}/{name}"))

    def _outdated(self) -> set[int]:
        """Return the published snapshots to remove."""
        published = self.target.published() | {self.snapshot.number}
        return published - set(sorted(published)[-self.options.keep :]) - {self.snapshot.number}

    def _remove_outdated(self) -> None:
        """Remove old snapshots, then all folders that no snapshot needs any more."""
        outdated = self._outdated()
        for one in sorted(outdated):
            self.filler.fs.rm(key(self.target.publication_file(one)))
        self.report.removed = sorted(outdated)
        publications = read_publications(self.target, self.target.published())
        needed = {folder for publication in publications.values() for folder in publication.folders.values()}
        for folder in (*self._folders(), UNFINISHED):
            if not any(
                folder_name == folder or folder_name.startswith(f"{folder}/") for folder_name in needed
            ):
                self.filler.remove(folder)
        if outdated:
            self._remove_masters(publications)

    def _folders(self) -> Iterable[str]:
        """Yield the folders that snapshots may need."""
        for parent in ("_versions", "_margins"):
            for table in self.filler.names(parent):
                for version in self.filler.names(f"{parent}/{table}"):
                    yield f"{parent}/{table}/{version}"
        for name in self.filler.names("catalogs"):
            yield f"catalogs/{name}"


def _time_of(layout: Layout, number: int) -> str | None:
    """Return when a snapshot was committed, from the ledger; None if it has no such commit."""
    try:
        record = json.loads(text_of(layout.ledger / f"{number:06d}.json"))
    except FileNotFoundError:
        return None
    return str(record["time_utc"])


def _open_settings(text: str) -> str:
    """Return the settings without the address of a mirror from older versions, which may hold a password."""
    import tomlkit

    document = tomlkit.parse(text)
    if "mirror_url" in document:
        document["mirror_url"] = ""
    return tomlkit.dumps(document)
