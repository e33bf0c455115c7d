"""Every path of a lake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skylake import settings
from skylake.inside import folders_in, links_in, named, require_no_link
from skylake.schema import load
from skylake.sky.hats import leaf_folder
from skylake.sky.pixels import Pixel

#: Folder of a version with one small description per part.
PARTS_FOLDER = "_parts"
#: Folder of the state of cameras: that of the lake is in force, and each snapshot has its own.
CAMERAS_FOLDER = "_cameras"
#: Its files that frames are reduced and calibrated with; the others may be lost.
_OF_CAMERAS = ("*.json", "*.catalog", "*.geometries.parquet", "*.distortions.parquet", "*.place.parquet")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below the root of a lake.

    Names of cameras, tables and catalogs come from tables and files too: one that leads out of the lake is refused.
    """

    root: Path

    @property
    def settings_file(self) -> Path:
        """File of the settings."""
        return self.root / settings.FILE_NAME

    @property
    def has_settings(self) -> bool:
        """Whether there is a lake."""
        return self.settings_file.is_file()

    @property
    def current(self) -> Path:
        """Symbolic link to the current snapshot: the only pointer."""
        return self.root / "current"

    @property
    def newest_file(self) -> Path:
        """File with the number of the newest snapshot that was ever current."""
        return self.root / "_newest"

    @property
    def lock_file(self) -> Path:
        """File that the one committer holds locked."""
        return self.root / "_lock"

    @property
    def snapshots(self) -> Path:
        """Folder of snapshots."""
        return self.root / "_snapshots"

    @property
    def staging(self) -> Path:
        """Folder in which workers write."""
        return self.root / "_staging"

    @property
    def ledger(self) -> Path:
        """Folder with one record per commit."""
        return self.root / "_ledger"

    @property
    def configurations(self) -> Path:
        """Folder of the resolved configurations that the ledger names, each by its SHA-256."""
        return self.ledger / "configurations"

    @property
    def catalogs(self) -> Path:
        """Folder of reference catalogs."""
        return self.root / "catalogs"

    @property
    def database(self) -> Path:
        """Folder of the embedded database."""
        return self.root / "_postgres"

    @property
    def watch_lists(self) -> Path:
        """Folder of the watch lists, and of what was delivered of their alerts."""
        return self.root / "_watch"

    @property
    def report(self) -> Path:
        """Folder of the report, which the user may have put elsewhere."""
        return self.root / "report"

    def snapshot(self, number: int) -> Path:
        """Folder of a snapshot: one link per table."""
        return self.snapshots / f"{number:06d}"

    def record(self, number: int) -> Path:
        """File with the ledger's record of a commit."""
        return self.ledger / f"{number:06d}.json"

    def versions(self, table: str) -> Path:
        """Folder of the versions of a table."""
        return named(self.root, f"_versions/{table}")

    def version(self, table: str, number: int) -> Path:
        """Folder of one version of a table."""
        return self.versions(table) / f"{number:06d}"

    def margin(self, table: str, number: int | str) -> Path:
        """Folder of the collection that binds a version of a table, by its number, and its margin."""
        return named(self.root, f"_margins/{table}/{int(number):06d}")

    def margins_of_tables(self) -> list[Path]:
        """Folders of the margins of all versions of all tables."""
        return self._numbered("_margins")

    def versions_of_tables(self) -> list[Path]:
        """Folders of all versions of all tables."""
        return self._numbered("_versions")

    def _numbered(self, name: str) -> list[Path]:
        """Return the folders of versions of all tables, none of which may be a link."""
        tables = folders_in(self.root / name)
        for link in (link for table in tables for link in links_in(table)):
            require_no_link(link, self.root)
        return [version for table in tables for version in folders_in(table) if version.name[0].isdigit()]

    def profile(self, camera: str) -> Path:
        """File of the profile under which a camera's frames were ingested."""
        return named(self.root, f"{CAMERAS_FOLDER}/{camera}.json")

    def of_cameras(self) -> list[Path]:
        """Files of the profiles, and of what was learned of cameras, that are in force."""
        folder = self.root / CAMERAS_FOLDER
        return sorted(path for pattern in _OF_CAMERAS for path in folder.glob(pattern))

    def psf_memory(self, camera: str) -> Path:
        """Folder of the PSF sums of frames of the last nights; it may be lost."""
        return named(self.root, f"{CAMERAS_FOLDER}/{camera}.psf")

    def repeat_memory(self, camera: str) -> Path:
        """File of the nights in which stars that repeat were looked for in vain; it may be lost."""
        return named(self.root, f"{CAMERAS_FOLDER}/{camera}.unsolved")

    def backfill_memory(self, camera: str) -> Path:
        """File that says how far earlier frames are measured at new targets; it may be lost."""
        return named(self.root, f"{CAMERAS_FOLDER}/{camera}.unfilled")

    def calibrations(self, camera: str) -> Path:
        """Folder of the masters of a camera."""
        return named(self.root, f"calibrations/{camera}")

    def catalog(self, name: str) -> Path:
        """Folder of a reference catalog."""
        return named(self.root, f"catalogs/{name}")


def part_file(table: str, part: str, pixel: Pixel | None) -> str:
    """Return the path of a part's file relative to its version.

    Parameters
    ----------
    table : str
    part : str
        Name of the part.
    pixel : (order, number) or None
        Pixel of the leaf for a HATS table; None for the others.
    """
    if pixel is not None:
        return f"{leaf_folder(*pixel)}/{part}.parquet"
    if load(table).layout.kind == "hats":
        raise ValueError(f"the files of {table} lie in pixels")
    return f"dataset/{part}.parquet"
