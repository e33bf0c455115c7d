"""The table ``alerts``: which nights are to be judged for which watch lists, and the commit of what has changed.

It is no aggregate of the engine: a night is made from single stars of all nights before it, which the engine would
read whole, and what was once an alert stays when the past is calibrated anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.counted import counted
from skylake.core.ids import config_sha256
from skylake.core.sphere import separation_deg
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.retry_commit import retry_superseded
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.execution.task_guard import value_of
from skylake.flow.staleness import Why, why_stale
from skylake.flow.watching.appeared_places import appeared, appeared_stars
from skylake.flow.watching.changed_stars import Row, WatchedNight, changed, judge, names_of
from skylake.flow.watching.episodes import COLUMNS, Episodes
from skylake.flow.watching.night_frames import NightDetections, NightFrames
from skylake.flow.watching.night_tables import DETECTED, FORCED, LEAST_GOOD
from skylake.flow.watching.vanished_stars import vanished_by_force, vanished_from_frames, vanished_since
from skylake.flow.zeropoints.calibration_in_force import CalibrationInForce, calibration_in_force
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.storage.watch_lists import watch_list_names, watch_lists
from skylake.schema import load
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.alerts import APPEARED, alerts_table

_TABLE = "alerts"
#: Tables that a night is made from; light curves follow from the others.
_FOLLOWED = ("sources", "matches", "zeropoints", "lightcurves", "star_statistics", "forced_lightcurves")
#: What appeared is the same as before within this distance, when its night is judged again.
_SAME_ARCSEC = 60.0


@dataclass(frozen=True, slots=True)
class PlannedAlerts:
    """A night of a camera to judge.

    Attributes
    ----------
    night : WatchedNight
    catalog : Path or None
        The reference catalog that calibrates the camera.
    inputs : dict
        What the part is made from.
    configuration : dict
    made_from : tuple of (str, str)
        Parts of other derived tables that it is made from.
    """

    night: WatchedNight
    catalog: Path | None
    inputs: dict[str, str]
    configuration: dict[str, Any]
    made_from: tuple[tuple[str, str], ...]

    def why(self, held: Part | None, lost: Collection[str] = ()) -> Why | None:
        """Return why the night has to be judged, given its part in the lake; a list that is gone is no reason."""
        if held is not None:
            gone = [name for name in held.inputs if name.startswith("watch ") and name not in self.inputs]
            held = replace(held, inputs={name: one for name, one in held.inputs.items() if name not in gone})
        why = why_stale(held, self.inputs, load(_TABLE).sha256)
        return why or (Why.LOST if self.night.part in lost else None)


def plan_alerts(lake: Lake, calibrated: CalibrationInForce | None = None) -> Iterator[PlannedAlerts]:
    """Yield the nights that watch lists of a lake watch, and what each would be judged by now."""
    lists = watch_lists(lake.layout)
    if not lists:
        return
    calibrated = calibrated or calibration_in_force(lake)
    snapshot = calibrated.snapshot
    for frames in snapshot.parts("frames").values():
        mine = tuple(one for one in lists if (frames.night or 0) >= one.from_night)
        if not mine or frames.camera is None or not frames.night:
            continue
        parts = {table: calibrated.part(table, frames) for table in _FOLLOWED}
        if parts["zeropoints"] is None:
            continue
        inputs = {table: "" if part is None else part.checksum for table, part in parts.items()}
        inputs |= {f"watch {one.name}": one.checksum for one in mine}
        configuration = calibrated.configuration(frames)
        inputs["configuration"] = config_sha256(configuration)
        names = {"frames": frames.name} | {table: calibrated.name(table, frames) for table in _FOLLOWED}
        catalog = configuration["catalog"]
        yield PlannedAlerts(
            WatchedNight(snapshot, names, frames.camera, frames.night, mine),
            snapshot.catalog(catalog) if catalog in snapshot.catalogs() else None,
            inputs,
            configuration,
            tuple((table, names[table]) for table in _FOLLOWED if table != "sources"),
        )


def make_alerts(lake: Lake, workers: Workers, progress: Progress | None = None) -> tuple[int, int]:
    """Judge the nights that are new to the watch lists of a lake, in one commit.

    Returns
    -------
    (int, int)
        Nights that were judged, and those that were up to date.

    Raises
    ------
    LakeError
        If a table cannot be read or written.
    """
    progress = progress or Silent()
    return retry_superseded(partial(_make, lake, workers, progress), progress)


def _make(lake: Lake, workers: Workers, progress: Progress) -> tuple[int, int]:
    if not watch_list_names(lake.layout) and not lake.snapshot().parts(_TABLE):
        return 0, 0
    calibrated = calibration_in_force(lake)
    snapshot, planned = calibrated.snapshot, list(plan_alerts(lake, calibrated))
    version = snapshot.version(_TABLE)
    held, lost = version.parts, version.lost()
    stale = [one for one in planned if one.why(held.get(one.night.part), lost) is not None]
    gone = orphans(snapshot)
    if not stale and not gone:
        return 0, len(planned)
    commit = Commit("aggregate alerts", "-", base=snapshot.number)
    commit.configure(one.configuration for one in stale)
    for name in gone:
        commit.remove(_TABLE, name)
    with lake.stage("aggregate-alerts") as staging:
        progress.begin(_TABLE, len(_by_camera(stale)))
        task = dask.delayed(make_parts, pure=False)
        makers = [partial(task, one, staging) for one in _by_camera(stale)]
        for result in run_in_windows(workers, makers, lambda *_: progress.advance()):
            for part in value_of(result, "alerts could not be made", "fix that and run again"):
                commit.replace(part, staging)
        progress.end()
        lake.commit(commit)
    progress.line(
        f"aggregate alerts: {counted(len(stale), 'part')} made, {len(planned) - len(stale)} up to date"
    )
    return len(stale), len(planned) - len(stale)


def orphans(snapshot: Snapshot) -> list[str]:
    """Return the parts of nights that have no frames any more."""
    held = snapshot.parts(_TABLE)
    return sorted(held.keys() - snapshot.parts("frames").keys()) if held else []


def _by_camera(planned: Sequence[PlannedAlerts]) -> list[list[PlannedAlerts]]:
    """Return the nights of each camera in the order of time: an alert depends on those of earlier nights."""
    nights = sorted(planned, key=lambda one: (one.night.camera, one.night.night))
    return [list(some) for _, some in groupby(nights, key=lambda one: one.night.camera)]


def make_parts(planned: Sequence[PlannedAlerts], staging: Path) -> list[Part]:
    """Judge some nights of a camera, one after the other; runs on a worker."""
    snapshot, camera = planned[0].night.snapshot, planned[0].night.camera
    anew = {one.night.night for one in planned}
    rows = snapshot.read(_TABLE, COLUMNS, lambda part: part.camera == camera and part.night not in anew)
    alerts, parts = rows.to_pylist(), []
    for one in planned:
        night = replace(one.night, episodes=Episodes.of(alerts, one.night.night))
        made = _judged(night, one.catalog)
        alerts += made.select(list(COLUMNS)).to_pylist()
        parts.append(stage_part(made, _TABLE, night.part, staging, None, camera, night.night, one.inputs))
    return parts


def _judged(night: WatchedNight, catalog: Path | None) -> pa.Table:
    """Return the rows of a night: its alerts, and those of lists that were removed."""
    before = night.snapshot.read_part(_TABLE, night.part)
    lists = {one.name for one in night.lists}
    kept = before.filter(pc.invert(pc.is_in(before["watch_list"], pa.array(sorted(lists), pa.string()))))
    rows = _settled(judge_night(night, catalog), before)
    return pa.concat_tables([kept, alerts_table(rows, night.camera, night.night)])


def judge_night(night: WatchedNight, catalog: Path | None) -> list[Row]:
    """Return what has changed in a night for its watch lists, values by column.

    Parameters
    ----------
    night : WatchedNight
    catalog : Path or None
        The reference catalog that calibrates the camera.
    """
    frames, detections = NightFrames.read(night), NightDetections.read(night)
    detected, forced = judge(night, DETECTED), judge(night, FORCED)
    found = changed(detected, "detected", night.episodes)
    # A star that was detected often enough is judged by that.
    sure = {
        (one.listed.name, *_star(detected.stars.rows, one.row))
        for one in detected.watched
        if detected.medians.n_good[np.searchsorted(detected.rows, one.row)] >= LEAST_GOOD
    }
    others = [*changed(forced, "forced", night.episodes), *vanished_by_force(forced, night.episodes)]
    found += [row for row in others if not names_of([row]) & sure]
    by_force = {
        _star(forced.stars.rows, row)
        for i, row in enumerate(forced.rows)
        if forced.medians.n_good[i] >= LEAST_GOOD and np.isfinite(forced.changes.past_mag[i])
    }
    of_night = night, frames, detections, detected.stars, by_force
    found += vanished_from_frames(*of_night)
    known = names_of(found)
    found += [row for row in vanished_since(*of_night) if not names_of([row]) & known]
    found += appeared_stars(night, detected, frames)
    reference = None if catalog is None else ReferenceCatalog.open(catalog)
    return found + appeared(night, frames, detections, detected.stars, reference)


def _star(rows: pa.Table, row: int) -> tuple[str, int, str]:
    catalog, star, band = (rows[name][int(row)].as_py() for name in ("catalog", "object_id", "band"))
    return catalog, star, band


def _settled(rows: list[Row], before: pa.Table) -> list[Row]:
    """Return alerts in which what appeared has the identifier that it had when its night was judged before."""
    known = [row for row in before.to_pylist() if row["kind"] == APPEARED and row["catalog"] == "sources"]
    for row in rows:
        if row["kind"] != APPEARED or row["catalog"] != "sources":
            continue
        same = [one for one in known if all(one[name] == row[name] for name in ("watch_list", "band"))]
        apart = [
            float(separation_deg(row["ra_deg"], row["dec_deg"], one["ra_deg"], one["dec_deg"]))
            for one in same
        ]
        if apart and min(apart) * 3600.0 <= _SAME_ARCSEC:
            chosen = same[int(np.argmin(apart))]
            row["object_id"] = chosen["object_id"]
            known.remove(chosen)
    return rows
