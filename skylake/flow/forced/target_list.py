"""Read the current list of targets of a camera, for workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.ids import config_sha256
from skylake.core.sphere import apply_proper_motion, julian_epoch, separation_deg, within
from skylake.image.psf.targets_on_frame import TargetFinder, TargetStars
from skylake.lake import Part, Snapshot
from skylake.lake.storage.slices import read_files
from skylake.sky.pixels import cone_ranges

_COLUMNS = ["star_id", "ra_deg", "dec_deg", "epoch", "pm_ra_mas_yr", "pm_dec_mas_yr"]
#: A cone is read this much wider than asked for, so that the next frames of the field find it in memory.
_SPARE = 1.3


#: Input of the part of a list that extends another: the name of that one.
EXTENDS = "extends"


@dataclass(frozen=True, slots=True)
class TargetList:
    """Where the targets of a camera are.

    A list that grows is not written anew: its part has only what it adds to the one before it.

    Attributes
    ----------
    camera : str
    version, base_version : int
        Of the list, and of the full list that it extends; the same for a full list.
    checksum : str
        Of its rows.
    files : tuple of Path
        Files that hold them, among others.
    """

    camera: str
    version: int
    base_version: int
    checksum: str
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Camera, version and content: what a night was measured with."""
        return _name(part_name(self.camera, self.version), self.checksum)

    @classmethod
    def in_force(cls, snapshot: Snapshot, camera: str) -> TargetList | None:
        """Return the largest version of a camera; None if it has no list, or an empty one."""
        lists = parts_of(snapshot, camera)
        return cls.of(snapshot, camera, max(lists), lists) if lists else None

    @classmethod
    def of(
        cls, snapshot: Snapshot, camera: str, version: int, lists: Mapping[int, Part] | None = None
    ) -> TargetList:
        """Return a version of the list of a camera, given all its lists if they are known."""
        lists = lists or parts_of(snapshot, camera)
        base = base_of(lists, version)
        held = [part for number, part in lists.items() if base <= number <= version]
        files = sorted({piece.path for piece in snapshot.version("targets").slices(held)})
        return cls(camera, version, base, checksum_of(lists[version]), tuple(files))

    def rows(self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None) -> pa.Table:
        """Return its targets, each with its version.

        Parameters
        ----------
        columns : sequence of str or None
            None returns all.
        filter : pyarrow.compute.Expression or None
            Chooses targets.
        """
        rows = self.stored(columns, filter)
        place = rows.schema.get_field_index("version")
        if place < 0:
            return rows
        same = pa.array(np.full(rows.num_rows, self.version, np.int32))
        return rows.set_column(place, rows.schema.field(place), same)

    def stored(self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None) -> pa.Table:
        """Return the same as they are stored: with the version of the list that added each."""
        number = pc.field("version")
        mine = (pc.field("camera") == self.camera) & (number >= self.base_version) & (number <= self.version)
        return read_files("targets", self.files, columns, mine if filter is None else mine & filter)

    def finder(self) -> TargetFinder:
        """Return a function that gives the targets around a position at a time.

        It remembers the last field, and is the same for all tasks that a process does with one list.
        """
        return _finder(self)


def parts_of(snapshot: Snapshot, camera: str) -> dict[int, Part]:
    """Return the lists of a camera by version."""
    return {version_of(part): part for part in snapshot.parts("targets").values() if part.camera == camera}


def part_name(camera: str, version: int) -> str:
    """Return the name of the part of a list."""
    return f"{camera}-v{version}"


def version_of(part: Part) -> int:
    """Return the version of the list that a part belongs to."""
    return int(part.name.rpartition("-v")[2])


def is_full(part: Part) -> bool:
    """Return whether a part has a list as a whole, not only what it adds to the one before it."""
    return EXTENDS not in part.inputs


def base_of(lists: Mapping[int, Part], version: int) -> int:
    """Return the version of the full list that a version extends, given the lists of its camera; or its own."""
    return max(
        (number for number, part in lists.items() if number <= version and is_full(part)), default=version
    )


def checksum_of(part: Part) -> str:
    """Return the checksum of a list: that of its rows, and for one that extends another of that one too."""
    if is_full(part):
        return part.checksum
    return config_sha256({EXTENDS: part.inputs[EXTENDS], "rows": part.checksum})


def list_name(part: Part) -> str:
    """Return the name of a list, as :attr:`TargetList.name`."""
    return _name(part.name, checksum_of(part))


def _name(part: str, checksum: str) -> str:
    return f"{part}:{checksum[:16]}"


@lru_cache(maxsize=1)
def _finder(targets: TargetList) -> _Finder:
    return _Finder(targets)


class _Finder:
    """Reads targets around a position."""

    def __init__(self, targets: TargetList) -> None:
        self.targets = targets
        # One value, which is replaced as a whole, so that it stays unchanged if a list cannot be read.
        self._field: tuple[float, float, float, pa.Table] | None = None

    def __call__(self, ra_deg: float, dec_deg: float, radius_deg: float, mjd: float) -> TargetStars:
        rows = self._around(ra_deg, dec_deg, radius_deg)
        values = {name: rows[name].to_numpy() for name in ("star_id", "ra_deg", "dec_deg")}
        years = julian_epoch(mjd) - rows["epoch"].to_numpy()
        east, north = (rows[name].cast(pa.float64()).to_numpy() for name in ("pm_ra_mas_yr", "pm_dec_mas_yr"))
        now = apply_proper_motion(values["ra_deg"], values["dec_deg"], east, north, years)
        stars = TargetStars(
            values["star_id"], values["ra_deg"], values["dec_deg"], now[0], now[1], self.targets.version
        )
        return stars.take(np.flatnonzero(within(ra_deg, dec_deg, radius_deg, *now)))

    def _around(self, ra_deg: float, dec_deg: float, radius_deg: float) -> pa.Table:
        """Return the rows of a field that holds a cone: the last one, if it does."""
        if self._field is not None:
            ra, dec, radius, rows = self._field
            if float(separation_deg(ra, dec, ra_deg, dec_deg)) + radius_deg <= radius:
                return rows
        wide = min(_SPARE * radius_deg + 0.01, 180.0)
        rows = self._read(ra_deg, dec_deg, wide)
        self._field = ra_deg, dec_deg, wide, rows
        return rows

    def _read(self, ra_deg: float, dec_deg: float, radius_deg: float) -> pa.Table:
        ranges = cone_ranges(ra_deg, dec_deg, radius_deg)
        index = pc.field("_healpix_29")
        near = (index >= int(ranges[0, 0])) & (index < int(ranges[-1, 1]))
        rows = self.targets.rows(_COLUMNS, near)
        distance = separation_deg(ra_deg, dec_deg, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
        return rows.filter(pa.array(distance <= radius_deg))
