"""What a calibration has come to: whether any frame has a zeropoint, and how two versions differ."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.frame_zeropoints import NO_MATCHES
from skylake.calibration.version_differences import COLUMNS, Differences, difference
from skylake.core.counted import counted
from skylake.core.reasons import Status
from skylake.errors import UsageError
from skylake.flow.zeropoints.calibrate_nights import Choice
from skylake.flow.zeropoints.calibrated_nights import zeropoints_names
from skylake.flow.zeropoints.calibration_in_force import cameras_of
from skylake.flow.zeropoints.drop_version import require_version
from skylake.flow.zeropoints.uncovered_fields import of_unmatched
from skylake.lake import Lake, Part, Snapshot
from skylake.sky.lake_catalogs import ReferenceCatalog


def require_nights(snapshot: Snapshot, choice: Choice) -> None:
    """Raise an error if no night of the lake is chosen, although it has some.

    Raises
    ------
    UsageError
        It names the nights that there are.
    """
    parts = snapshot.parts("frames").values()
    mine = [part for part in parts if not choice.cameras or part.camera in choice.cameras]
    nights = sorted({part.night for part in mine if part.night})
    if nights and not any(_is_chosen(part, choice) for part in mine):
        asked = " ".join(
            f"{word} {night}"
            for word, night in (("from", choice.first_night), ("to", choice.last_night))
            if night is not None
        )
        have = counted(len(nights), "night")
        raise UsageError(
            f"there are no frames {asked}; the lake has those of {have} from {nights[0]} to {nights[-1]}"
        )


def nothing_calibrated(lake: Lake, choice: Choice) -> str | None:
    """Return a sentence if no frame of the chosen nights has a zeropoint; None if one has, or there are no frames."""
    snapshot = lake.snapshot()
    counts: Counter[str | None] = Counter()
    unmatched: tuple[str, str, pa.Array] | None = None
    for camera in sorted(cameras_of(snapshot) & set(choice.cameras or cameras_of(snapshot))):
        catalog = choice.catalog or lake.calibrating_catalog(camera)
        names = zeropoints_names(snapshot, camera, catalog, choice.version)
        columns = ["frame_id", "zp", "reason"]
        rows = snapshot.read("zeropoints", columns, partial(_is_of, names=names, choice=choice))
        if rows["zp"].null_count < rows.num_rows:
            return None
        frames = rows.filter(pc.equal(rows["reason"], NO_MATCHES))["frame_id"].combine_chunks()
        unmatched = unmatched or ((camera, catalog, frames) if len(frames) else None)
        counts.update(rows["reason"].to_pylist())
    if not counts:
        return None if _n_good(snapshot, choice) == 0 else "no frame was calibrated"
    why = ", ".join(f"{reason}: {count}" for reason, count in counts.most_common())
    sentence = f"no frame of {sum(counts.values())} has a zeropoint ({why})"
    if unmatched is None:
        return sentence
    camera, catalog, frames = unmatched
    advice = of_unmatched(snapshot, camera, ReferenceCatalog.open(lake.layout.catalog(catalog)), frames)
    return f"{sentence}; {advice}" if advice else sentence


def compared_versions(lake: Lake, choice: Choice, first: int, second: int) -> tuple[Differences, list[str]]:
    """Compare two versions of the zeropoints of the chosen nights.

    Returns
    -------
    differences : Differences
    catalogs : list of str
        Those of the versions.

    Raises
    ------
    UsageError
        If a version is not there.
    """
    snapshot = lake.snapshot()
    cameras = sorted(cameras_of(snapshot) & set(choice.cameras or cameras_of(snapshot)))
    catalogs = {camera: choice.catalog or lake.calibrating_catalog(camera) for camera in cameras}
    for version in (first, second):
        require_version(snapshot, catalogs, version)
    wanted = pc.field("version").isin([first, second])
    ofs = [
        (pc.field("camera") == camera) & (pc.field("catalog") == name) for camera, name in catalogs.items()
    ]
    mine = ofs[0]
    for one in ofs[1:]:
        mine = mine | one
    rows = snapshot.read(
        "zeropoints",
        list(COLUMNS),
        lambda part: part.camera in catalogs and _is_chosen(part, choice),
        wanted & mine,
    )
    return difference(rows, first, second), sorted(set(catalogs.values()))


def _is_chosen(part: Part, choice: Choice) -> bool:
    """Return whether a part is of the nights that are chosen."""
    return choice.takes_night(part.night or 0)


def _is_of(part: Part, names: set[str], choice: Choice) -> bool:
    return part.name in names and _is_chosen(part, choice)


def _n_good(snapshot: Snapshot, choice: Choice) -> int:
    rows = snapshot.read(
        "frames",
        ["frame_id"],
        lambda part: (not choice.cameras or part.camera in choice.cameras) and _is_chosen(part, choice),
        pc.field("status") == Status.OK.value,
    )
    return int(rows.num_rows)
