"""A lake: made, opened, read and committed to."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from skylake.cameras import Profile
from skylake.cameras.keep import from_json, to_json
from skylake.durable import in_use
from skylake.errors import LakeError, UsageError
from skylake.lake.commit import Commit, committing, create_empty, locked, publish, restore
from skylake.lake.history import Entry, find_snapshot, history
from skylake.lake.layout import Layout
from skylake.lake.opened import OpenTable
from skylake.lake.remote import PublishedLayout, PublishedSnapshot
from skylake.lake.snapshot import Snapshot
from skylake.lake.vacuum import Retention, VacuumReport, vacuum
from skylake.places import Reaching, is_url, place
from skylake.settings import Settings, change_setting, read_settings, write_settings
from skylake.sky.hats import replace_text
from skylake.sky.pixels import PixelTree

#: Commits between two thinnings; reading the whole ledger for every commit would cost more and more.
_THINNED_EVERY = 20


class Lake:
    """A lake on disk, or one that was published to an object store, which can only be read.

    Parameters
    ----------
    root : path or URL
        An existing lake; :meth:`create` makes a new one. URLs are those of fsspec, as in ``s3://bucket/lake``.

    Raises
    ------
    LakeError
        If there is no lake.
    """

    def __init__(self, root: str | Path) -> None:
        self.layout = PublishedLayout(place(root)) if is_url(root) else Layout(place(root))
        with Reaching(self.root):
            if not self.layout.has_settings:
                mend = (
                    f"skylake publish LAKE {root}"
                    if is_url(root)
                    else f"skylake init {shlex.quote(str(root))}"
                )
                raise LakeError(f"{root}: there is no lake; make one with `{mend}`")
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
        layout = Layout(Path(root).absolute())
        if layout.settings_file.exists():
            raise UsageError(f"{root}: there is a lake already")
        if layout.root.is_dir() and any(layout.root.iterdir()):
            raise UsageError(f"{root}: the folder is not empty; name a new one")
        try:
            layout.root.mkdir(parents=True, exist_ok=True)
            for folder in (layout.catalogs, layout.staging):
                folder.mkdir()
            create_empty(layout)
            write_settings(layout.settings_file, settings or Settings())
        except OSError as error:
            raise LakeError(f"{root}: the lake cannot be made ({error.strerror})") from error
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
        """Return the pixels into which a table is divided now: those that grew dense were divided further."""
        return self.snapshot().tree(table, self.settings.pixel_order)

    def snapshot(self, as_of: str | int | datetime | None = None) -> Snapshot:
        """Return the current snapshot, or the one that was current at a time.

        Parameters
        ----------
        as_of : str, int, datetime or None
            Number of a snapshot, or a time (ISO 8601, UTC unless it names a zone).
        """
        number = find_snapshot(self.layout, as_of)
        kind = PublishedSnapshot if isinstance(self.layout, PublishedLayout) else Snapshot
        return kind(self.layout, number)

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

    def history(self) -> list[Entry]:
        """Return the commits of the lake, the oldest first."""
        return history(self.layout)

    def rollback(self, as_of: str | int | datetime) -> Snapshot:
        """Make the lake as it was at a snapshot or time, in a new snapshot; nothing is lost."""
        with committing(self._writable):
            return restore(self.layout, self.snapshot(as_of))

    def vacuum(self, retention: Retention | None = None) -> VacuumReport:
        """Remove snapshots that are not to be kept, and what only they need."""
        with committing(self._writable):
            return vacuum(self.layout, retention or self._retention)

    @property
    def _retention(self) -> Retention:
        return Retention(self.settings.keep_newest, self.settings.keep_days, self.settings.keep_months)

    def set(self, name: str, value: Any) -> None:
        """Change a setting."""
        self.settings = change_setting(self._writable.settings_file, name, value)

    def keep_profile(self, profile: Profile) -> None:
        """Keep the profile of a camera, for the stages after ingest."""
        path = self._writable.profile(profile.name)
        text = to_json(profile)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        try:
            path.parent.mkdir(exist_ok=True)
            replace_text(path, text)
        except OSError as error:
            raise LakeError(
                f"{self.root}: the lake cannot be written ({error.strerror}); mend its permissions"
            ) from error

    def profile(self, camera: str) -> Profile:
        """Return the profile under which the frames of a camera were last ingested."""
        return from_json(self.layout.profile(camera))

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """Give a folder to write parts in, which is removed afterwards."""
        try:
            self._writable.staging.mkdir(exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self.layout.staging))
        except OSError as error:
            raise LakeError(
                f"{self.root}: the lake cannot be written ({error.strerror}); mend its permissions or free space"
            ) from error
        try:
            with in_use(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def lasting_stage(self, name: str) -> Iterator[Path]:
        """Give a folder to write parts in, which is found again if the run is interrupted.

        It is removed when all went well; a vacuum removes what nobody comes back for.
        """
        folder = self._writable.staging / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LakeError(
                f"{self.root}: the lake cannot be written ({error.strerror}); mend its permissions or free space"
            ) from error
        with in_use(folder):
            yield folder
        shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def compacting(self) -> Iterator[None]:
        """Be the one who compacts the lake.

        Raises
        ------
        LakeError
            If somebody else does.
        """
        with locked(self._writable.root / "_compacting", wait=False):
            yield

    def commit(self, commit: Commit) -> Snapshot:
        """Publish a commit upon the current snapshot. A commit that changes nothing makes no snapshot.

        Now and then it also thins out old snapshots, as the settings ``keep_…`` say.
        """
        with committing(self._writable):
            base = self.snapshot()
            if not commit.tables:
                return base
            made = publish(self.layout, base, commit)
            if made.number % _THINNED_EVERY == 0:
                del base  # or it would count as being read
                vacuum(self.layout, self._retention)
            return made
