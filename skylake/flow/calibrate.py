"""Calibrate: the detections of each night are joined with a reference catalog and given zeropoints."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.camera import Camera
from skylake.core.reasons import Status
from skylake.errors import LakeError, reason_of, together
from skylake.flow.cluster import Workers, run_in_windows
from skylake.flow.crossmatch import filters_of, match_night
from skylake.flow.loosen import cut_crowded, in_groups, loosen
from skylake.flow.meanwhile import undisturbed
from skylake.flow.nights import Night, largest_version, orphans, plan_nights, zeropoints_name
from skylake.flow.parameters import calibration_configuration, camera_of_frames
from skylake.flow.progress import Progress, Silent, counted
from skylake.flow.stale import Why
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.slices import read_files
from skylake.sky.catalogs import ReferenceCatalog
from skylake.sky.pixels import PixelTree
from skylake.table.matches import matches_name
from skylake.table.selection import Band
from skylake.table.zeropoints import NO_BAND, NO_COLOUR, TOO_FEW_STARS, zeropoints_table


@dataclass(slots=True)
class CalibrateReport:
    """What a calibration did.

    Attributes
    ----------
    catalog : str
    version : int
    batches : list of dict
        camera, night, frames, zeropoints and matches of each night that was calibrated.
    n_current : int
        Nights whose calibration was up to date.
    n_renewed : int
        Nights whose calibration of this version was made anew, since frames, catalog or parameters changed.
    warnings : list of str
        Columns that the catalog lacks and frames need, each as a sentence with the mend.
    """

    catalog: str
    version: int
    batches: list[dict[str, Any]] = field(default_factory=list)
    n_current: int = 0
    n_renewed: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The report as one line."""
        renewed = f", {self.n_renewed} of them made anew" if self.n_renewed else ""
        made, current = (counted(count, "night") for count in (len(self.batches), self.n_current))
        return (
            f"calibrate: {made} against {self.catalog}, version {self.version}{renewed}; "
            f"{self.n_zeropoints} of {self.n_frames} frames have a zeropoint; {current} up to date"
        )

    @property
    def n_frames(self) -> int:
        """Frames of the nights that were calibrated."""
        return sum(batch["frames"] for batch in self.batches)

    @property
    def n_zeropoints(self) -> int:
        """Those of them that have a zeropoint."""
        return sum(batch["zeropoints"] for batch in self.batches)


@dataclass(frozen=True, slots=True)
class _Run:
    """What the steps of a calibration share."""

    profiles: dict[str, Profile]
    reference: ReferenceCatalog
    version: int
    workers: Workers
    progress: Progress


def no_catalog(lake: Lake) -> LakeError:
    """Return the error of a lake without a reference catalog, which names the command to type."""
    return LakeError(
        f"{lake.root}: the lake has no reference catalog; import one with `skylake catalog import "
        f"{shlex.quote(str(lake.root))} NAME --format table FILE --ra COLUMN --dec COLUMN "
        "--mag V=COLUMN --colour B-V=COLUMN`"
    )


def calibrate(
    lake: Lake,
    workers: Workers,
    catalog: str | None = None,
    version: int | None = None,
    progress: Progress | None = None,
) -> CalibrateReport:
    """Match and calibrate every night that is not calibrated yet, or whose calibration is out of date.

    It is so if the frames, the catalog or those values of the profile have changed that it depends on; it is
    then made anew under its version. What is not to be replaced is kept by naming a new version.

    Parameters
    ----------
    lake : Lake
    workers : Workers
    catalog : str or None
        Reference catalog; None takes the lake's default.
    version : int or None
        Version of the zeropoints; None takes the largest there is, or 1.

    Raises
    ------
    LakeError
        If the lake has no catalog. A night that cannot be calibrated is named only after all the others
        are committed.
    CatalogError
        If it has no catalog of that name.
    """
    progress = progress or Silent()
    name = catalog or lake.settings.default_catalog
    if not name:
        raise no_catalog(lake)
    reference = ReferenceCatalog.open(lake.layout.catalog(name))
    version = version or largest_version(lake.snapshot(), name) or 1
    report = CalibrateReport(name, version)
    try:
        undisturbed(lambda: _calibrate(lake, reference, version, workers, progress, report), progress)
    except LakeError:
        # Nights beside the one that failed may have no zeropoints for a reason of their own.
        for sentence in _warnings(lake.snapshot(), name, version):
            progress.line(sentence)
        raise
    report.warnings = _warnings(lake.snapshot(), name, version)
    for sentence in _of_too_few_stars(lake.snapshot(), report):
        progress.line(sentence)
    return report


def _calibrate(
    lake: Lake,
    reference: ReferenceCatalog,
    version: int,
    workers: Workers,
    progress: Progress,
    report: CalibrateReport,
) -> None:
    """Calibrate the nights that are out of date as the lake is now."""
    snapshot = lake.snapshot()
    _remove_orphans(lake, snapshot)
    profiles = {camera: lake.profile(camera) for camera in _cameras(snapshot)}
    run = _Run(profiles, reference, version, workers, progress)
    nights = [night for night in plan_nights(snapshot, profiles, reference, version) if not night.is_current]
    # What was calibrated before another run came between is in the report already.
    made = {(batch["camera"], batch["night"]) for batch in report.batches}
    made -= {(night.camera, night.night) for night in nights}
    report.n_current = len(snapshot.parts("frames")) - len(nights) - len(made)
    _loosen(lake, nights, run)
    failures: list[LakeError] = []
    for group in in_groups(nights, workers):
        failures += _calibrate_group(lake, snapshot, group, run, report)
    if failures:
        raise LakeError(together(failures)) from failures[0]


def _calibrate_group(
    lake: Lake, snapshot: Snapshot, nights: Sequence[Night], run: _Run, report: CalibrateReport
) -> list[LakeError]:
    """Calibrate some nights and commit them one by one; return the errors of those that could not be."""
    failures: list[LakeError] = []
    task = dask.delayed(calibrate_night, pure=False)
    # One object in the graph, however many tasks share it.
    tree = dask.delayed(lake.tree_of("matches"), pure=False, traverse=False)
    with lake.stage("calibrate") as staging:
        nights = _with_own_files(snapshot, nights, staging / "cut", run)
        run.progress.begin("nights", len(nights))
        makers = [
            partial(
                task,
                night,
                run.profiles[night.camera],
                run.reference,
                run.version,
                tree,
                staging / night.name,
            )
            for night in nights
        ]

        def commit(number: int, result: Any) -> None:
            if isinstance(result, BaseException):
                failures.append(_failure(nights[number], result))
            else:
                _commit(lake, nights[number], result, staging, snapshot.number, run, report)
            run.progress.advance()

        run_in_windows(run.workers, makers, commit)
    run.progress.end()
    return failures


def _warnings(snapshot: Snapshot, catalog: str, version: int) -> list[str]:
    """Return a sentence for each column of the catalog that frames could not be calibrated without."""
    lacking = pc.field("reason").isin([NO_BAND, NO_COLOUR])
    mine = (pc.field("catalog") == catalog) & (pc.field("version") == version)
    rows = snapshot.read("zeropoints", ["camera", "band", "colour", "reason"], filter=mine & lacking)
    grouped = rows.group_by(["camera", "band", "colour", "reason"]).aggregate([([], "count_all")])
    sentences = []
    for row in sorted(grouped.to_pylist(), key=str):
        what, option = (
            (f"magnitude in {row['band']}", f"--mag {row['band']}=COLUMN")
            if row["reason"] == NO_BAND
            else (f"colour {row['colour']}", f"--colour {row['colour']}=COLUMN")
        )
        have = "has" if row["count_all"] == 1 else "have"
        sentences.append(
            f"{counted(row['count_all'], 'frame')} of {row['camera']} {have} no zeropoint: no star of the catalog "
            f"{catalog} that they saw has a {what}; import the catalog again with `{option}`, or one that has it"
        )
    return sentences


def _of_too_few_stars(snapshot: Snapshot, report: CalibrateReport) -> list[str]:
    """Return a sentence for each camera and band with frames of too few stars in the nights that were calibrated.

    It says which cut took the stars of the frame that had most of them.
    """
    chosen = (pc.field("catalog") == report.catalog) & (pc.field("version") == report.version)
    nights = {(batch["camera"], batch["night"]) for batch in report.batches}
    columns = ["camera", "night", "band", "n_matched", "message"]
    rows = snapshot.read(
        "zeropoints",
        columns,
        lambda part: (part.camera, part.night) in nights,
        filter=chosen & (pc.field("reason") == TOO_FEW_STARS),
    )
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        found.setdefault((row["camera"], row["band"]), []).append(row)
    sentences = []
    for (camera, band), lacking in sorted(found.items()):
        most = max(lacking, key=lambda row: (row["n_matched"], row["night"], row["message"]))
        have = "has" if len(lacking) == 1 else "have"
        sentences.append(
            f"{counted(len(lacking), 'frame')} of {camera} in {band} {have} too few stars for a zeropoint; "
            f"the one with most matches, of {most['night']}: {most['message']}"
        )
    return sentences


def _cameras(snapshot: Snapshot) -> set[str]:
    return {part.camera for part in snapshot.parts("frames").values() if part.camera is not None}


def _remove_orphans(lake: Lake, snapshot: Snapshot) -> None:
    """Remove matches and zeropoints of nights that have no frames any more."""
    commit = Commit("calibrate", "-", base=snapshot.number)
    for table, names in orphans(snapshot).items():
        for name in names:
            commit.remove(table, name)
    lake.commit(commit)


def _loosen(lake: Lake, nights: Sequence[Night], run: _Run) -> None:
    """Take what is going to be replaced out of its bundles, at once for all nights."""
    names = {
        "matches": [
            matches_name(night.name, run.reference.name) for night in nights if night.why_matches is not None
        ],
        "zeropoints": [zeropoints_name(night.name, run.reference.name, run.version) for night in nights],
    }
    loosen(lake, run.workers, names, run.progress)


def _with_own_files(snapshot: Snapshot, nights: Sequence[Night], staging: Path, run: _Run) -> list[Night]:
    """Return the nights with what they read in files of their own, where nights share theirs."""
    joined = [night.name for night in nights if night.why_matches is not None]
    made = cut_crowded(snapshot, "sources", joined, staging / "sources", run.workers, run.progress)
    kept = [night.matches.name for night in nights if night.matches is not None]
    held = cut_crowded(snapshot, "matches", kept, staging / "matches", run.workers, run.progress)
    nights = [night.joined_from(*made[night.name]) if night.name in made else night for night in nights]
    return [
        night.matched_in(held[night.matches.name][1])
        if night.matches is not None and night.matches.name in held
        else night
        for night in nights
    ]


def calibrate_night(
    night: Night, profile: Profile, reference: ReferenceCatalog, version: int, tree: PixelTree, staging: Path
) -> tuple[Part, Part]:
    """Match and calibrate one night; runs on a worker.

    Returns
    -------
    matches, zeropoints : Part
    """
    frames = read_files("frames", night.frames, filter=pc.field("status") == Status.OK.value)
    camera = camera_of_frames(profile, frames)
    if night.matches is not None:
        matches_part = night.matches
        matches = read_files("matches", night.matches_slices)
    else:
        matches = match_night(frames, night.sources, night.sources_slices, camera, reference)
        matches_part = stage_part(
            matches, "matches", matches_name(night.name, reference.name), staging / "matches", tree,
            night.camera, night.night, night.inputs,
        )  # fmt: skip
    # In one order, whether they were joined now or read: sums of the same numbers differ in another.
    matches = matches.sort_by([("frame_id", "ascending"), ("source_no", "ascending")])
    zeropoints = zeropoints_table(frames, matches, _bands(frames, camera), reference.name, version)
    zeropoints_part = stage_part(
        zeropoints, "zeropoints", zeropoints_name(night.name, reference.name, version), staging / "zeropoints",
        None, night.camera, night.night, night.inputs,
    )  # fmt: skip
    return matches_part, zeropoints_part


def _bands(frames: pa.Table, camera: Camera) -> dict[str, Band]:
    return {
        band.band: Band(band, camera.apertures.flux, camera.calibration)
        for band in filters_of(frames, camera).values()
    }


def _failure(night: Night, error: BaseException) -> LakeError:
    why = reason_of(error, with_file=True)
    return LakeError(f"{night.name}: the night could not be calibrated ({why}); mend that and run again")


def _commit(
    lake: Lake,
    night: Night,
    result: tuple[Part, Part],
    staging: Path,
    base: int,
    run: _Run,
    report: CalibrateReport,
) -> None:
    """Publish the parts of a night."""
    matches, zeropoints = result
    commit = Commit("calibrate", night.name, base=base)
    commit.configure([calibration_configuration(run.profiles[night.camera], night.night)])
    if night.matches is None:
        commit.replace(matches, staging / night.name / "matches")
    commit.replace(zeropoints, staging / night.name / "zeropoints")
    snapshot = lake.commit(commit)
    rows = snapshot.read_part("zeropoints", zeropoints.name, ["zp", "reason"])
    n_zeropoints = len(rows) - rows["zp"].null_count
    report.n_renewed += night.why_zeropoints is not Why.NEW
    report.batches.append(
        {
            "camera": night.camera,
            "night": night.night,
            "frames": rows.num_rows,
            "zeropoints": n_zeropoints,
            "matches": matches.n_rows,
        }
    )
    run.progress.line(
        f"calibrate {night.name}: {n_zeropoints} of {counted(rows.num_rows, 'frame')}, "
        f"{counted(matches.n_rows, 'match', 'matches')}{_reasons(rows)}"
    )


def _reasons(rows: pa.Table) -> str:
    """Return how many frames have no zeropoint for which reason, to end a line with; nothing if all have one."""
    counts = Counter(reason for reason in rows["reason"].to_pylist() if reason is not None)
    return "".join(f"; {reason}: {count}" for reason, count in sorted(counts.items()))
