"""Read the current list of targets of a camera, for workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.sphere import apply_proper_motion, julian_epoch, separation_deg, within
from skylake.image.psf.targets_on_frame import TargetFinder, TargetStars
from skylake.lake import Part, Snapshot
from skylake.lake.storage.slices import Slice, read_files
from skylake.sky.pixels import cone_ranges

_COLUMNS = ["star_id", "ra_deg", "dec_deg", "epoch", "pm_ra_mas_yr", "pm_dec_mas_yr"]
#: A cone is read this much wider than asked for, so that the next frames of the field find it in memory.
_SPARE = 1.3


@dataclass(frozen=True, slots=True)
class TargetList:
    """Where the targets of a camera are.

    Attributes
    ----------
    camera : str
    version : int
    checksum : str
        Of its rows.
    slices : tuple of Slice
        Files that hold them.
    """

    camera: str
    version: int
    checksum: str
    slices: tuple[Slice, ...]

    @property
    def name(self) -> str:
        """Camera, version and content: what a night was measured with."""
        return f"{part_name(self.camera, self.version)}:{self.checksum[:16]}"

    @classmethod
    def in_force(cls, snapshot: Snapshot, camera: str) -> TargetList | None:
        """Return the largest version of a camera; None if it has no list, or an empty one."""
        parts = parts_of(snapshot, camera)
        if not parts:
            return None
        version = max(parts)
        part = parts[version]
        return cls(camera, version, part.checksum, tuple(snapshot.version("targets").slices_of(part)))

    def finder(self) -> TargetFinder:
        """Return a function that gives the targets around a position at a time.

        It remembers the last field, and is the same for all tasks that a process does with one list.
        """
        return _finder(self)


def parts_of(snapshot: Snapshot, camera: str) -> dict[int, Part]:
    """Return the lists of a camera by version."""
    parts = {}
    for name, part in snapshot.parts("targets").items():
        if part.camera == camera:
            parts[int(name.rpartition("-v")[2])] = part
    return parts


def part_name(camera: str, version: int) -> str:
    """Return the name of the part of a list."""
    return f"{camera}-v{version}"


def bases(parts: Iterable[Part]) -> dict[str, Part]:
    """Return the list that each extended one has all targets of, by the name of the extended one.

    Lists that grow night by night are many, and each is a whole list: who wants what they have in common reads the
    first.
    """
    lists = {part.checksum: part for part in parts}
    found = {part.name: lists.get(part.inputs.get("targets", "")) for part in lists.values()}
    return {name: base for name, base in found.items() if base is not None}


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
        rows = read_files("targets", self.targets.slices, _COLUMNS, near)
        distance = separation_deg(ra_deg, dec_deg, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
        return rows.filter(pa.array(distance <= radius_deg))
