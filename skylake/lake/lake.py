"""The lake: create, open, read and commit."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skylake import logs
from skylake.durable import content_of, hold, in_use, is_in_use, replace_durably, text_of
from skylake.errors import (
    ConfigurationError,
    LakeError,
    OvertakenError,
    SkylakeError,
    UsageError,
    cannot_be_written,
    is_full,
    reason_of,
)
from skylake.inside import links_below, remove_tree
from skylake.lake.access.open_table import OpenTable
from skylake.lake.cameras.chosen_catalogs import ChosenCatalog, choice_file, choice_text, read_choice
from skylake.lake.commits.changes import Commit
from skylake.lake.commits.commit import committing, create_empty, publish, restore
from skylake.lake.commits.file_lock import locked
from skylake.lake.commits.internal_links import is_settled, require_own
from skylake.lake.commits.ledger_records import LedgerEntry, read_entry
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.commits.snapshot_history import before_last_run, find_snapshot, history, runs
from skylake.lake.layout import Layout
from skylake.lake.maintenance.vacuum import LASTING, Retention, VacuumReport, sweep, vacuum
from skylake.lake.published_layout import PublishedLayout
from skylake.lake.remote.published_lake import PublishedSnapshot
from skylake.places import Reaching, is_url, place
from skylake.settings import Catalogs, Settings, change_setting, read_settings, write_settings
from skylake.sky.pixels import PixelTree

if TYPE_CHECKING:
    # Imported where profiles are read: most uses of a lake need no camera, and its modules take long to import.
    from skylake.cameras import Profile

_log = logs.get(__name__)

#: Commits between two removals of old snapshots, since going through the versions of all tables takes time.
_THINNED_EVERY = 20


class Lake:
    """A lake on disk, or one that was published to an object store, which can only be read.

    Parameters
    ----------
    root : path or URL
        An existing lake; :meth:`create` makes a new one. URLs are those of fsspec, as in ``s3://bucket/lake``.
    run : str or None
        A unique name for the commits to come: they count as one in the history, and when old snapshots are removed.
        With None each commit counts by itself.

    Raises
    ------
    LakeError
        If there is no lake, or a link is in the place of one of its own folders.
    """

    def __init__(self, root: str | Path, run: str | None = None) -> None:
        self.run, self._has_begun = run, False
        self._choices: dict[tuple[str, int, tuple[str, ...]], ChosenCatalog | None] = {}
        self.layout = PublishedLayout(place(root)) if is_url(root) else Layout(place(root))
        with Reaching(self.root):
            if not is_url(root) and Path(root).is_file():
                raise LakeError(
                    f"{root}: this is a file, and a lake is a folder; name the folder of the lake"
                )
            if not self.layout.has_settings:
                command = (
                    f"skylake publish LAKE {root}"
                    if is_url(root)
                    else f"skylake init {shlex.quote(str(root))}"
                )
                raise LakeError(f"{root}: there is no lake; make one with `{command}`")
            if not is_url(root):
                require_own(self.layout)
            self.settings = read_settings(self.layout.settings_file)

    @classmethod
    def create(cls, root: str | Path, settings: Settings | None = None) -> Lake:
        """Make an empty lake.

        Raises
        ------
        UsageError
            If the folder holds anything already.
        LakeError
            If the folder cannot be written.
        """
        if is_url(root):
            raise UsageError(
                f"{root}: a lake is made in a folder of this machine; `skylake publish` copies it there"
            )
        if Path(root).is_file():
            raise UsageError(f"{root}: this is a file, and a lake is a folder; name a new folder")
        layout = Layout(Path(root).resolve())
        was_there = layout.root.is_dir()
        if layout.settings_file.exists():
            raise UsageError(f"{root}: there is a lake already")
        if layout.staging.is_dir() and layout.catalogs.is_dir():
            raise UsageError(
                f"{root}: a lake was begun here and not finished, or its {layout.settings_file.name} is lost; "
                "put that back, or remove the folder if it never held anything"
            )
        if layout.root.is_dir() and any(layout.root.iterdir()):
            raise UsageError(f"{root}: the folder is not empty; name a new one")
        try:
            layout.root.mkdir(parents=True, exist_ok=True)
            for folder in (layout.catalogs, layout.staging):
                folder.mkdir()
            create_empty(layout)
            write_settings(layout.settings_file, settings or Settings())
        except OSError as error:
            if not isinstance(error, FileExistsError):
                _clear(layout.root, with_folder=not was_there)
            raise LakeError(f"{root}: the lake cannot be made ({reason_of(error)})") from error
        return cls(root)

    @property
    def root(self) -> Path:
        """Folder of the lake."""
        return self.layout.root

    @property
    def tree(self) -> PixelTree:
        """Pixels into which tables with positions are divided at first."""
        return PixelTree.uniform(self.settings.pixel_order)

    def tree_of(self, table: str) -> PixelTree:
        """Return the pixels into which a table is divided now; dense pixels were divided further."""
        return self.snapshot().tree(table, self.settings.pixel_order)

    def snapshot(self, as_of: str | int | datetime | None = None) -> Snapshot:
        """Return the current snapshot, or the one that was current at a time.

        Parameters
        ----------
        as_of : str, int, datetime or None
            Number of a snapshot, or a time (ISO 8601, UTC unless it names a zone).
        """
        while True:
            number = find_snapshot(self.layout, as_of)
            try:
                if isinstance(self.layout, PublishedLayout):
                    return PublishedSnapshot(self.layout, number)
                return Snapshot(self.layout, number)
            except LakeError:
                # A commit and a vacuum may happen between reading the pointer and holding its snapshot.
                if find_snapshot(self.layout, as_of) == number:
                    raise

    def open(self, table: str, as_of: str | int | datetime | None = None) -> OpenTable:
        """Open a table for reading with Arrow, pandas, polars, dask, DuckDB or lsdb, as it is now or was at a time."""
        return OpenTable(self.snapshot(as_of), table)

    @property
    def _writable(self) -> Layout:
        """Layout of a lake that can be written.

        Raises
        ------
        LakeError
            If the lake was published.
        """
        if isinstance(self.layout, PublishedLayout):
            raise LakeError(
                f"{self.root}: a published lake can only be read; write to the lake it was published from"
            )
        return self.layout

    def history(
        self, last: int | None = None, batch: str | None = None, table: str | None = None
    ) -> list[LedgerEntry]:
        """Return the commits of the lake, the oldest first.

        Parameters
        ----------
        last : int or None
            Only the newest so many; this takes no longer in a lake of many commits.
        batch, table : str or None
            Only commits that wrote or removed rows of a batch, of a table.
        """
        return history(self.layout, last, batch, table)

    def runs(
        self, last: int | None = None, batch: str | None = None, table: str | None = None
    ) -> list[LedgerEntry]:
        """Return the runs of the lake, each as one commit, the oldest first; as :meth:`history` does."""
        return runs(self.layout, last, batch, table)

    def entry(self, number: int) -> LedgerEntry:
        """Return the commit that made a snapshot."""
        return read_entry(self.layout, number)

    def before_last_run(self) -> Snapshot:
        """Return the snapshot on which the last run began."""
        return self.snapshot(before_last_run(self.layout))

    def rollback(self, as_of: str | int | datetime) -> Snapshot:
        """Restore the lake to a snapshot or time, in a new snapshot; nothing is lost."""
        with self._changing():
            return restore(self.layout, self.snapshot(as_of), self.run)

    def vacuum(self, retention: Retention | None = None) -> VacuumReport:
        """Remove old snapshots, by default by the settings ``keep_…``, and the files that only they need."""
        with committing(self._writable):
            return vacuum(self.layout, retention or self._retention)

    @property
    def _retention(self) -> Retention:
        return Retention(self.settings.keep_newest, self.settings.keep_days, self.settings.keep_months)

    def set(self, name: str, value: Any) -> None:
        """Change a setting."""
        self.settings = change_setting(self._writable.settings_file, name, value)

    def catalogs(self, camera: str | None = None) -> Catalogs:
        """Return the reference catalogs of a camera: those of its profile, and of the settings where it has none."""
        if camera is None or not self.layout.profile(camera).is_file():
            return self.settings.catalog
        return self.profile(camera).base.catalog.over(self.settings.catalog)

    def calibrating_catalog(self, camera: str, profile: Profile | None = None) -> str:
        """Return the catalog that calibrates a camera; empty if the lake has none.

        It is that of the profile, else that of the settings, else that which calibrated the camera so far, else the
        best one, as :func:`skylake.lake.access.catalog_choice.choose_catalog` finds it.

        Parameters
        ----------
        camera : str
        profile : Profile or None
            The profile that is going to be in force; None takes the one that is.
        """
        if profile is None and not self.layout.profile(camera).is_file():
            return self.settings.catalog.calibrate or next(iter(self.snapshot().catalogs()), "")
        profile = profile or self.profile(camera)
        named = profile.base.catalog.over(self.settings.catalog).calibrate
        if named:
            return named
        chosen = self.chosen_catalog(profile)
        return "" if chosen is None else chosen.calibrate

    def chosen_catalog(self, profile: Profile) -> ChosenCatalog | None:
        """Return the catalog that calibrates a camera if nobody names one, and why; None if the lake has none."""
        snapshot = self.snapshot()
        kept = read_choice(self.layout, profile.name)
        if kept is not None and kept.calibrate in snapshot.catalogs():
            return kept
        # It takes the reader of catalogs, which most questions to a lake do without.
        from skylake.lake.access.catalog_choice import choose_catalog

        # Stars are counted, so it is asked once for the same frames.
        question = profile.sha256, snapshot.number, tuple(snapshot.catalogs())
        if question not in self._choices:
            self._choices[question] = choose_catalog(snapshot, profile)
        return self._choices[question]

    def keep_choice(self, camera: str, chosen: ChosenCatalog) -> None:
        """Keep the catalog that was chosen to calibrate a camera, so that one imported later does not replace it."""
        path, text = choice_file(self._writable, camera), choice_text(chosen)
        if is_settled(self.layout) and _holds(path, text):
            return
        with self._changing():
            try:
                path.parent.mkdir(exist_ok=True)
                _replace_if_other(path, text)
            except OSError as error:
                raise cannot_be_written(self.root, error) from error

    def keep_profile(self, profile: Profile) -> None:
        """Keep the profile of a camera, for the stages after ingest; it is in force until its file is edited."""
        from skylake.cameras.profile import absolute_source
        from skylake.cameras.profile_json import to_stored_text

        profile = replace(profile, source=absolute_source(profile))
        path = self._writable.profile(profile.name)
        text = to_stored_text(profile)
        seen = f"{profile.file_sha256}\n"
        if is_settled(self.layout) and _holds(path, text) and _holds(_seen_file(path), seen):
            return
        # An interrupted rollback is finished first; otherwise it would remove this profile again.
        with self._changing():
            try:
                path.parent.mkdir(exist_ok=True)
                _replace_if_other(path, text)
                _replace_if_other(_seen_file(path), seen)
            except OSError as error:
                raise cannot_be_written(self.root, error) from error

    def kept_profile(self, camera: str) -> Profile:
        """Return the profile under which the frames of a camera were last ingested or calibrated."""
        from skylake.cameras.profile_json import from_json

        return from_json(self.layout.profile(camera))

    def profile(self, camera: str, strict: bool = False) -> Profile:
        """Return the profile of a camera that is in force: the kept one, or its file if that was edited since.

        Parameters
        ----------
        camera : str
        strict : bool
            Whether an edited file that is not a valid profile is an error; otherwise it is a warning, and the kept
            profile is in force.

        Raises
        ------
        ConfigurationError
            If the edited file is not a valid profile, or the kept one cannot be read.
        """
        from skylake.cameras.profile import of_source

        kept = self.kept_profile(camera)
        if isinstance(self.layout, PublishedLayout):
            return kept
        try:
            now = of_source(kept)
        except ConfigurationError as error:
            if strict:
                raise
            _warn_once(
                f"{error}; until that is fixed the profile that the lake has kept of {camera} is in force"
            )
            return kept
        if now is None:
            return kept
        # Not the SHA-256 of the kept profile: after a rollback an older one is kept, though the file was not edited.
        seen = _seen_file(self.layout.profile(camera))
        known = text_of(seen).strip() if seen.is_file() else kept.file_sha256
        return kept if now.file_sha256 == known else now

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """Give a folder to write parts in, which is removed afterwards."""
        try:
            folder, descriptor = self._staging_folder(name)
        except OSError as error:
            raise cannot_be_written(self.root, error) from error
        try:
            yield folder
        finally:
            remove_tree(folder, self.root, ignore_errors=True)
            os.close(descriptor)

    def _staging_folder(self, name: str) -> tuple[Path, int]:
        """Make a folder in the staging area, and hold it."""
        self._writable.staging.mkdir(exist_ok=True)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self.layout.staging))
            try:
                return folder, hold(folder)
            except FileNotFoundError:
                # Another process has removed it as the leftover of a killed process.
                continue

    @contextmanager
    def lasting_stage(self, name: str) -> Iterator[Path]:
        """Give a folder to write parts in, which is found again if the run is interrupted.

        It is removed after success or if the disk is full, and after a week in which no run has used it.
        """
        folder = self._writable.staging / f"{LASTING}{name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
            # Nothing may be written through a link that somebody has put here.
            for link in links_below(folder):
                link.unlink()
        except OSError as error:
            raise cannot_be_written(self.root, error) from error
        with in_use(folder), self._removed_at_the_end(folder):
            yield folder

    @contextmanager
    def interruptible_stage(self, name: str) -> Iterator[Path]:
        """Give a folder like :meth:`lasting_stage`, but to this run alone; other runs find it once this has ended."""
        try:
            folder, descriptor = self._staging_folder(f"{LASTING}{name}")
        except OSError as error:
            raise cannot_be_written(self.root, error) from error
        try:
            with self._removed_at_the_end(folder):
                yield folder
        finally:
            os.close(descriptor)

    def interrupted_stages(self, name: str) -> list[Path]:
        """Return the folders of a name that interrupted runs have left."""
        staging = self.layout.staging
        found = sorted(staging.glob(f"{LASTING}*")) if staging.is_dir() else []
        mine = [folder for folder in found if folder.name.rpartition(".")[0] == f"{LASTING}{name}"]
        return [folder for folder in mine if not is_in_use(folder)]

    def drop_lasting(self, name: str) -> None:
        """Remove the folder of a name that an interrupted run has left, when it is no longer needed."""
        remove_tree(self._writable.staging / f"{LASTING}{name}", self.root, ignore_errors=True)

    @contextmanager
    def _removed_at_the_end(self, folder: Path) -> Iterator[None]:
        """Remove a folder after success or if the disk is full; after any other error the next run can use it."""
        try:
            yield
        except (SkylakeError, OSError) as error:
            if is_full(error):  # it takes up the room that is lacking
                remove_tree(folder, self.root, ignore_errors=True)
            raise
        remove_tree(folder, self.root, ignore_errors=True)

    @contextmanager
    def compacting(self) -> Iterator[None]:
        """Hold the lock of compactions of the lake.

        Raises
        ------
        LakeError
            If another process compacts it.
        """
        with locked(self._writable.root / "_compacting", wait=False):
            yield

    def commit(self, commit: Commit) -> Snapshot:
        """Publish a commit on the current snapshot. A commit that changes nothing makes no snapshot.

        Files that interrupted runs have left are removed first. The first commit of a run, and later ones from time to
        time, also remove old snapshots by the settings ``keep_…``.
        """
        with self._changing():
            base = self.snapshot()
            if not commit.tables:
                return base
            commit.run = self.run
            made = publish(self.layout, base, commit)
            begins, self._has_begun = self.run is not None and not self._has_begun, True
            if begins or made.number % _THINNED_EVERY == 0:
                del base  # or it would count as being read
                self._thin_out()
            return made

    def _thin_out(self) -> None:
        """Remove old snapshots by the settings ``keep_…``; a failure is logged, and the commit stays."""
        try:
            vacuum(self.layout, self._retention, self.run)
        except SkylakeError as error:
            _log.warning("the commit is made, but old snapshots stay until the next vacuum: %s", error)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock of the committer, and leave nothing behind after a failure."""
        with committing(self._writable):
            sweep(self.layout)
            try:
                yield
            except OvertakenError:
                # Unfinished files that exist now belong to the other process, which is still running.
                raise
            except SkylakeError:
                # What was built so far takes up space, which may be just what was missing.
                with suppress(SkylakeError):
                    sweep(self.layout)
                raise


@cache
def _warn_once(sentence: str) -> None:
    _log.warning("%s", sentence)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and content_of(path) == text.encode()


def _seen_file(kept: Path) -> Path:
    """Return the file with the SHA-256 of the file of a profile when it was last taken over."""
    return kept.with_suffix(".seen")


def _replace_if_other(path: Path, text: str) -> None:
    """Write a text file, unless it has that content already."""
    if not _holds(path, text):
        replace_durably(path, text)


def _clear(root: Path, with_folder: bool) -> None:
    """Remove an unfinished lake from a folder that was empty, so that it can be created again."""
    with suppress(OSError):
        for path in list(root.iterdir()):
            remove_tree(path, root, ignore_errors=True)
        if with_folder:
            root.rmdir()
