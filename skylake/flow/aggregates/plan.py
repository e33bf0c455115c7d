"""Plans of aggregates: the inputs that each part would now be made from, and why one in the lake is out of date."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.batch import days_between
from skylake.core.ids import config_sha256
from skylake.flow.forced.target_list import base_of, checksum_of, is_full, version_of
from skylake.flow.staleness import Why, why_stale
from skylake.flow.zeropoints.calibration_in_force import CalibrationInForce, cameras_of
from skylake.flow.zeropoints.calibration_parameters import calibration_configuration, periods_of
from skylake.lake import Lake, Part, Snapshot
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.aggregate import DERIVED, REFERENCE, Aggregate, Input

#: Inputs that are not divided into batches. The measurements of a batch name which of them were used.
LISTS = ("targets", REFERENCE)


@dataclass(frozen=True, slots=True)
class Planned:
    """The part of an aggregate for one batch, and what it is made from.

    ``parts`` maps the table of each input to its part, for inputs that exist, and ``around`` to the parts of the
    nights around; ``made_from`` holds the parts of other derived tables that it is made from, as (table, part).
    """

    name: str
    camera: str
    night: int
    parts: Mapping[str, Part]
    inputs: dict[str, str]
    configuration: dict[str, Any]
    made_from: tuple[tuple[str, str], ...]
    lists: tuple[Part, ...] = ()
    around: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)

    def why(self, held: Part | None, schema_sha256: str, lost: Collection[str] = ()) -> Why | None:
        """Return why the part has to be made anew, given the part in the lake and the parts with lost files."""
        why = why_stale(held, self.inputs, schema_sha256)
        return why or (Why.LOST if self.name in lost else None)


@dataclass(frozen=True)
class PlanSources:
    """What the plans of all aggregates share: the calibration in force, profiles, catalogs and lists of targets."""

    lake: Lake
    calibrated: CalibrationInForce
    _origins: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that the plans are for."""
        return self.calibrated.snapshot

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        """The profile of each camera that has frames."""
        return {camera: self.lake.profile(camera) for camera in cameras_of(self.snapshot)}

    @cached_property
    def catalogs(self) -> dict[str, ReferenceCatalog]:
        """The reference catalogs of the lake, by name."""
        names = self.snapshot.catalogs()
        return {name: ReferenceCatalog.open(self.snapshot.catalog(name)) for name in names}

    def lists(self, measured: Part | None) -> tuple[Part, ...]:
        """Return the lists of targets that forced measurements were made with, even if there are newer ones."""
        named = measured.inputs.get("targets", "").split() if measured is not None else []
        parts = self.snapshot.parts("targets")
        return tuple(parts[name] for name in (one.partition(":")[0] for one in named) if name in parts)

    def catalog_checksums(self, lists: tuple[Part, ...]) -> dict[str, str]:
        """Return the checksums of the catalogs that the targets of some lists come from."""
        origins = {origin for one in lists for origin in self._origins_of(one)}
        return {name: self.catalogs[name].checksum for name in sorted(origins & self.catalogs.keys())}

    @cached_property
    def _full_lists(self) -> dict[str, dict[int, Part]]:
        found: dict[str, dict[int, Part]] = {}
        for part in self.snapshot.parts("targets").values():
            if is_full(part):
                found.setdefault(part.camera or "", {})[version_of(part)] = part
        return found

    def _origins_of(self, part: Part) -> tuple[str, ...]:
        if not is_full(part):
            # What extensions add is of no catalog.
            full = self._full_lists[part.camera or ""]
            part = full[base_of(full, version_of(part))]
        if part.name not in self._origins:
            listed = self.snapshot.read_part("targets", part.name, ["origin"])
            self._origins[part.name] = tuple(pc.unique(listed["origin"]).drop_null().to_pylist())
        return self._origins[part.name]


def plan(aggregate: Aggregate, sources: PlanSources) -> Iterator[Planned]:
    """Yield the parts of an aggregate, one for each batch, with the inputs that each would be made from now."""
    calibrated = sources.calibrated
    tables = [one.table for one in aggregate.inputs if one.table not in LISTS]
    needed = {one.table for one in aggregate.inputs if one.is_needed}
    reaching = [one for one in aggregate.inputs if one.nights_around]
    in_order = _nights_in_order(sources.snapshot) if reaching else {}
    known: dict[tuple[Any, ...], tuple[dict[str, Any], str]] = {}
    for frames in sources.snapshot.parts("frames").values():
        if frames.camera is None or frames.night is None:
            continue
        found = {table: calibrated.part(table, frames) for table in tables}
        parts = {table: part for table, part in found.items() if part is not None}
        if not needed <= parts.keys():
            continue
        followed = [one.table for one in aggregate.inputs if one.is_followed and one.table in tables]
        inputs = {table: parts[table].checksum if table in parts else "" for table in followed}
        lists = sources.lists(parts.get("forced_sources")) if _reads_lists(aggregate) else ()
        if _reads_lists(aggregate):
            inputs["targets"] = config_sha256({one.name: checksum_of(one) for one in lists})
            inputs["catalog"] = config_sha256(sources.catalog_checksums(lists))
        made_from = [(table, calibrated.name(table, frames)) for table in tables if table in DERIVED]
        around: dict[str, tuple[Part, ...]] = {}
        for one in reaching:
            near = nights_around(in_order.get(frames.camera, []), frames.night, one)
            others = [calibrated.part(one.table, other) for other in near]
            around[one.table] = tuple(part for part in others if part is not None)
            inputs[f"{one.table} around"] = config_sha256(
                {part.name: part.checksum for part in around[one.table]}
            )
            made_from += [(one.table, calibrated.name(one.table, other)) for other in near]
        # Few of a thousand nights have a configuration of their own.
        same = _same_configuration(aggregate, sources, frames)
        if same not in known:
            resolved = _configuration(aggregate, sources, frames)
            known[same] = resolved, config_sha256(resolved)
        configuration, inputs["configuration"] = known[same]
        yield Planned(
            frames.name,
            frames.camera,
            frames.night,
            parts,
            inputs,
            configuration,
            tuple(made_from),
            lists,
            around,
        )


def _nights_in_order(snapshot: Snapshot) -> dict[str, list[Part]]:
    """Return the parts of frames of each camera in the order of their nights, but those without a date."""
    found: dict[str, list[Part]] = {}
    for part in snapshot.parts("frames").values():
        if part.camera is not None and part.night:
            found.setdefault(part.camera, []).append(part)
    return {camera: sorted(parts, key=lambda part: part.night or 0) for camera, parts in found.items()}


def nights_around(in_order: Sequence[Part], night: int, wanted: Input) -> list[Part]:
    """Return the parts of the nights around a night, without its own."""
    if not night:
        return []
    place, most = bisect_left(in_order, night, key=lambda part: part.night or 0), wanted.nights_around
    near = in_order[max(place - most, 0) : place + most + 1]
    near = [one for one in near if abs(days_between(one.night or 0, night)) <= wanted.days_around]
    before = [one for one in near if (one.night or 0) < night]
    after = [one for one in near if (one.night or 0) > night]
    return before + after[: _later_nights(len(before), len(after), most)]


def _later_nights(before: int, after: int, most: int) -> int:
    """Return how many of the nights after a night are compared with it.

    They are all until there are `most` nights around it, before and after together. More are added as their number
    doubles, so that a new night changes the comparison of a few nights, and not of `most`.
    """
    doubled = after if after >= most else 1 << (after.bit_length() - 1) if after else 0
    return max(doubled, min(after, most - before))


def _reads_lists(aggregate: Aggregate) -> bool:
    return any(one.table in LISTS for one in aggregate.inputs)


def _configuration(aggregate: Aggregate, sources: PlanSources, frames: Part) -> dict[str, Any]:
    """Return the resolved configuration of a part, of which its SHA-256 is an input."""
    found = sources.calibrated.configuration(frames) if aggregate.is_calibrated else {}
    found |= {name: getattr(sources.lake.settings, name) for name in aggregate.settings}
    for name in aggregate.profile:
        found[name] = _section(sources.profiles[frames.camera or ""], name, frames.night or 0)
    return found | ({"definition": aggregate.version} if aggregate.version else {})


def _same_configuration(aggregate: Aggregate, sources: PlanSources, frames: Part) -> tuple[Any, ...]:
    """Return what parts of the same configuration share."""
    camera, night = frames.camera or "", frames.night or 0
    calibration = tuple(sources.calibrated.configuration(frames).values()) if aggregate.is_calibrated else ()
    dated = periods_of(sources.profiles[camera], night) if "calibration" in aggregate.profile else ()
    return (camera, calibration, dated)


def _section(profile: Profile, name: str, night: int) -> Any:
    """Return a section of a profile as far as parts depend on it."""
    special: dict[str, Callable[[], Any]] = {
        "calibration": lambda: calibration_configuration(profile, night),
    }
    return special[name]() if name in special else asdict(getattr(profile.base, name))
