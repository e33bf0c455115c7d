"""Calibrate: the detections of each night are joined with a reference catalog and given zeropoints."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.frame_zeropoints import TOO_FEW_STARS
from skylake.calibration.global_zeropoints import calibrated_frames
from skylake.calibration.match_selection import Band
from skylake.calibration.star_magnitudes import FEW_REPEATS, MANY_STARS, REPEATED_STARS, REPEATS
from skylake.calibration.zeropoints import NO_BAND, NO_COLOUR, UNKNOWN_FILTER
from skylake.cameras import Profile
from skylake.core.bands import SURVEYS
from skylake.core.camera import Camera
from skylake.core.counted import counted
from skylake.core.magnitude_sources import magnitude_source
from skylake.core.reasons import Status
from skylake.core.scintillation import Scintillation
from skylake.errors import LakeError, reason_of, together
from skylake.flow.catalogs.import_catalogs import MARGIN_ARCSEC
from skylake.flow.compaction.unbundle import cut_crowded, in_groups, unbundle
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.retry_commit import retry_superseded
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibrated_nights import (
    Against,
    Method,
    Night,
    method_of_version,
    orphans,
    plan_nights,
    versions_of,
    zeropoints_names,
)
from skylake.flow.zeropoints.calibration_in_force import cameras_of
from skylake.flow.zeropoints.calibration_parameters import (
    calibration_configuration,
    camera_of_frames,
    transformations_of,
)
from skylake.flow.zeropoints.camera_epochs import same_epoch
from skylake.flow.zeropoints.choose_matches import match_radius_arcsec
from skylake.flow.zeropoints.crossmatch_night import filters_of, match_night, with_filters
from skylake.flow.zeropoints.season_plans import SeasonPlan, plan_seasons
from skylake.flow.zeropoints.solve_season import (
    SeasonReport,
    look_for_repeats,
    remember_fresh,
    solve_planned,
)
from skylake.flow.zeropoints.uncovered_fields import of_unmatched, unmatched_frames
from skylake.flow.zeropoints.variable_stars import with_variables
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.cameras.chosen_catalogs import ChosenCatalog, read_choice
from skylake.lake.storage.slices import read_files
from skylake.sky.catalog_build import widen_margin
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import PixelTree

#: Columns of ``frames`` that tell how far detections may lie from their star.
_RADIUS_COLUMNS = ["mjd_mid", "pixel_scale_arcsec"]


@dataclass(slots=True)
class CalibrateReport:
    """What a calibration did.

    Attributes
    ----------
    catalog : str
        Catalog, or catalogs where cameras have several.
    version : int
        Version of the zeropoints; the largest where nights or catalogs have several.
    batches : list of dict
        camera, night, catalog, version, frames, zeropoints and matches of each night that was calibrated.
    n_current : int
        Nights whose calibration was up to date.
    n_renewed : int
        Nights whose calibration of this version was made anew, since frames, catalog or parameters changed.
    warnings : list of str
        What frames could not be calibrated for, each as a sentence with the fix.
    chosen : dict of str to str
        Camera to a sentence that says which of several catalogs was chosen for it now, as nobody names one, and why.
    solved : list of SeasonReport
        The magnitudes of stars that were solved for.
    """

    catalog: str
    version: int
    batches: list[dict[str, Any]] = field(default_factory=list)
    n_current: int = 0
    n_renewed: int = 0
    warnings: list[str] = field(default_factory=list)
    chosen: dict[str, str] = field(default_factory=dict)
    solved: list[SeasonReport] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The report as one line."""
        what = f"{self.catalog}, version {self.version}"
        current = counted(self.n_current, "night is", "nights are")
        if not self.batches:
            return f"calibrate: {current} up to date with {what}"
        renewed = f" ({self.n_renewed} made anew)" if self.n_renewed else ""
        nights, frames = (
            counted(len(self.batches), "night"),
            counted(self.n_frames, "frame has", "frames have"),
        )
        rest = f"; {current} up to date" if self.n_current else ""
        return (
            f"calibrate: {nights}{renewed} against {what}; {self.n_zeropoints} of {frames} a zeropoint{rest}"
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
class Choice:
    """Which nights are calibrated, and how.

    Attributes
    ----------
    catalog : str or None
        Reference catalog; None takes that in force for each camera.
    version : int or None
        Version of the zeropoints; with None each night keeps its largest, and a new one takes that of most nights.
    cameras : tuple of str
        Cameras whose nights are calibrated; all of the lake where none is named.
    first_night, last_night : int or None
        Nights (YYYYMMDD) to calibrate.
    profiles : tuple of Profile
        Profiles that are in force from now on, in place of those that the lake has of their cameras.
    method : Method or None
        What stars are compared with; None takes what the nights of this version have so far.
    """

    catalog: str | None = None
    version: int | None = None
    cameras: tuple[str, ...] = ()
    first_night: int | None = None
    last_night: int | None = None
    profiles: tuple[Profile, ...] = ()
    method: Method | None = None

    @property
    def is_limited(self) -> bool:
        """Whether only some nights of the cameras are to be calibrated."""
        return self.first_night is not None or self.last_night is not None

    def takes(self, night: Night) -> bool:
        """Tell whether a night is to be calibrated."""
        return self.takes_night(night.night)

    def takes_night(self, night: int) -> bool:
        """Tell whether a night, YYYYMMDD, is to be calibrated."""
        since = self.first_night is None or night >= self.first_night
        until = self.last_night is None or night <= self.last_night
        return since and until


@dataclass(frozen=True, slots=True)
class _Run:
    """What the steps of a calibration share."""

    profiles: dict[str, Profile]
    workers: Workers
    progress: Progress
    choices: dict[str, ChosenCatalog]


def no_catalog(lake: Lake) -> LakeError:
    """Return the error of a lake without a catalog to calibrate with, which names what to type."""
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
    choice: Choice | None = None,
) -> CalibrateReport:
    """Match and calibrate every night that is not calibrated yet, or whose calibration is out of date.

    It is so if the frames, the catalog or those values of the profile have changed that it depends on; it is
    then made anew under its version. What is not to be replaced is kept by naming a new version. Where stars of a
    camera and band were measured often enough, their magnitudes are solved for from all nights together, and nights
    are calibrated with these from then on. Stars of new fields are added when they repeat, and only the nights of
    these fields are calibrated again.

    Parameters
    ----------
    lake : Lake
    workers : Workers
    catalog, version : str or None, int or None
        As in :class:`Choice`, if there is nothing else to choose.
    progress : Progress or None
    choice : Choice or None

    Raises
    ------
    LakeError
        If the lake has no catalog. A night that cannot be calibrated is named only after all the others
        are committed.
    CatalogError
        If it has no catalog of that name.
    """
    progress = progress or Silent()
    choice = choice or Choice(catalog, version)
    chosen = _new_choices(lake, choice)
    against = _against(lake, lake.snapshot(), choice)
    names = sorted({one.reference.name for one in against.values()})
    version = choice.version or max(max(versions_of(lake.snapshot(), name), default=1) for name in names)
    report = CalibrateReport(", ".join(names), version, chosen=chosen)
    try:
        retry_superseded(lambda: _calibrate(lake, choice, workers, progress, report), progress)
        number = lake.snapshot().number
        retry_superseded(lambda: _solve(lake, choice, workers, progress, report), progress)
        if lake.snapshot().number != number:
            retry_superseded(lambda: _calibrate(lake, choice, workers, progress, report), progress)
    except LakeError:
        # Nights beside the one that failed may have no zeropoints for a reason of their own.
        for sentence in _warnings(lake, lake.snapshot(), against):
            progress.line(sentence)
        raise
    snapshot = lake.snapshot()
    report.warnings = _warnings(lake, snapshot, against)
    for sentence in (
        *_of_too_few_stars(snapshot, against, report),
        *_of_no_matches(snapshot, against, report),
    ):
        progress.line(sentence)
    return report


def calibrating_catalogs(lake: Lake) -> set[str]:
    """Return the catalogs that calibrate the cameras of a lake, or would those of one without frames."""
    cameras = cameras_of(lake.snapshot())
    named = {lake.calibrating_catalog(camera) for camera in cameras}
    return (named or {_of_no_camera(lake)}) - {""}


def _of_no_camera(lake: Lake) -> str:
    """Return the catalog that a lake without frames has for calibrations; empty for none."""
    return lake.settings.catalog.calibrate or next(iter(lake.snapshot().catalogs()), "")


def plan_calibration(lake: Lake, choice: Choice) -> list[Night]:
    """Return the nights that :func:`calibrate` would make anew, and change nothing.

    Nights are among them that are up to date and will not be once there are the star magnitudes of
    :func:`plan_solutions`.

    Raises
    ------
    LakeError, CatalogError
        As :func:`calibrate`.
    """
    snapshot = lake.snapshot()
    profiles, against = _profiles(lake, snapshot, choice), _against(lake, snapshot, choice)
    solved = {
        (plan.camera, night.night) for plan in plan_solutions(lake, choice) for night in plan.solved_nights
    }
    nights = []
    for night in plan_nights(snapshot, profiles, against):
        if night.is_current and night.method is not Method.FRAME and (night.camera, night.night) in solved:
            night = replace(night, why_zeropoints=Why.STAR_MAGNITUDES)
        if choice.takes(night) and not night.is_current:
            nights.append(night)
    return nights


def plan_solutions(lake: Lake, choice: Choice) -> list[SeasonPlan]:
    """Return the star magnitudes that :func:`calibrate` would solve for, and change nothing.

    Whether stars repeat is not known of nights that are not matched yet.

    Raises
    ------
    LakeError, CatalogError
        As :func:`calibrate`.
    """
    if choice.is_limited:
        return []
    snapshot = lake.snapshot()
    profiles, against = _profiles(lake, snapshot, choice), _against(lake, snapshot, choice)
    return [plan for plan in _seasons(snapshot, choice, profiles, against) if plan.why is not None]


def _choices(lake: Lake, choice: Choice, profiles: Mapping[str, Profile]) -> dict[str, ChosenCatalog]:
    """Return what is chosen for cameras of which neither the run, the profile nor the settings name the catalog."""
    named = lake.settings.catalog
    unnamed = [
        profile
        for profile in profiles.values()
        if not (choice.catalog or profile.base.catalog.over(named).calibrate)
    ]
    found = {profile.name: lake.chosen_catalog(profile) for profile in unnamed}
    return {camera: chosen for camera, chosen in found.items() if chosen is not None}


def _new_choices(lake: Lake, choice: Choice) -> dict[str, str]:
    """Return a sentence for each camera for which one of several catalogs is chosen now."""
    snapshot = lake.snapshot()
    if len(snapshot.catalogs()) < 2:
        return {}
    return {
        camera: f"{chosen.calibrate} calibrates {camera}: {chosen.reason}"
        for camera, chosen in _choices(lake, choice, _profiles(lake, snapshot, choice)).items()
        if read_choice(lake.layout, camera) != chosen
    }


def _profiles(lake: Lake, snapshot: Snapshot, choice: Choice) -> dict[str, Profile]:
    """Return the profiles of the cameras that are chosen."""
    told = {profile.name: profile for profile in choice.profiles}
    cameras = sorted(cameras_of(snapshot) & set(choice.cameras or cameras_of(snapshot)))
    return {camera: told.get(camera) or lake.profile(camera, strict=True) for camera in cameras}


def _against(lake: Lake, snapshot: Snapshot, choice: Choice) -> dict[str, Against]:
    """Return what each of the cameras is calibrated against; of a lake without frames, what one would be."""
    names = {
        camera: choice.catalog or lake.calibrating_catalog(camera, profile)
        for camera, profile in _profiles(lake, snapshot, choice).items()
    } or {"": choice.catalog or _of_no_camera(lake)}
    if not any(names.values()):
        raise no_catalog(lake)
    return {
        camera: Against(
            ReferenceCatalog.open(lake.layout.catalog(name)),
            choice.version,
            choice.method,
        )
        for camera, name in names.items()
        if name
    }


def _chosen_nights(
    lake: Lake, snapshot: Snapshot, choice: Choice, profiles: dict[str, Profile]
) -> tuple[int, list[Night]]:
    """Return how many nights are chosen, and those of them that are out of date."""
    planned = plan_nights(snapshot, profiles, _against(lake, snapshot, choice))
    chosen = [night for night in planned if choice.takes(night)]
    return len(chosen), [night for night in chosen if not night.is_current]


def _calibrate(
    lake: Lake, choice: Choice, workers: Workers, progress: Progress, report: CalibrateReport
) -> None:
    """Calibrate the nights that are out of date as the lake is now."""
    snapshot = lake.snapshot()
    _remove_orphans(lake, snapshot)
    profiles = _profiles(lake, snapshot, choice)
    run = _Run(profiles, workers, progress, _choices(lake, choice, profiles))
    n_chosen, nights = _chosen_nights(lake, snapshot, choice, profiles)
    for camera, profile in profiles.items():
        kept = lake.kept_profile(camera)
        if profile in choice.profiles or profile.sha256 != kept.sha256:
            lake.keep_profile(profile)
            if (profile.sha256, profile.source) != (kept.sha256, kept.source):
                progress.line(f"{camera}: the profile {profile.source} is in force from now on")
    # What was calibrated before another run came between is in the report already.
    made = {(batch["camera"], batch["night"]) for batch in report.batches}
    made -= {(night.camera, night.night) for night in nights}
    report.n_current = n_chosen - len(nights) - len(made)
    _widen_margins(nights, run)
    _loosen(lake, nights, run)
    failures: list[LakeError] = []
    for group in in_groups(nights, workers):
        failures += _calibrate_group(lake, snapshot, group, run, report)
    if failures:
        raise LakeError(together(failures)) from failures[0]


def _solve(lake: Lake, choice: Choice, workers: Workers, progress: Progress, report: CalibrateReport) -> None:
    """Solve for star magnitudes where there are none yet, or much is new, as the lake is now."""
    snapshot = lake.snapshot()
    profiles, against = _profiles(lake, snapshot, choice), _against(lake, snapshot, choice)
    # What was solved before another run came between is in the report already.
    made = {(one.camera, one.band) for one in report.solved}
    for plan in _seasons(snapshot, choice, profiles, against):
        if (plan.camera, plan.band) in made:
            continue
        if plan.why is None:
            remember_fresh(lake, plan)
            continue
        reason = _why_not_now(choice, plan)
        if reason:
            progress.line(f"solve {plan.camera} {plan.band}: {reason}")
            continue
        solved = solve_planned(lake, snapshot, plan, profiles[plan.camera], workers, progress)
        if solved is not None:
            report.solved.append(solved)
        elif choice.method is Method.GLOBAL and any(night.n_matches for night in plan.nights):
            progress.line(
                f"solve {plan.camera} {plan.band}: fewer than {REPEATED_STARS} stars were measured on "
                f"{REPEATS} frames each, or {MANY_STARS} on {FEW_REPEATS}, so zeropoints are those against the catalog"
            )


def _seasons(
    snapshot: Snapshot, choice: Choice, profiles: Mapping[str, Profile], against: Mapping[str, Against]
) -> Iterator[SeasonPlan]:
    """Yield the bands of cameras that are calibrated with star magnitudes, those that have none yet too."""
    for camera, one in against.items():
        method = choice.method or method_of_version(snapshot, camera, one)
        if camera not in profiles or method is Method.FRAME:
            continue
        for plan in plan_seasons(snapshot, profiles[camera], one.reference, choice.method is Method.GLOBAL):
            yield look_for_repeats(snapshot, plan)


def _why_not_now(choice: Choice, plan: SeasonPlan) -> str:
    """Return why star magnitudes cannot be solved for in this run, and what to do; empty if they can."""
    if choice.is_limited:
        count = counted(len(plan.solved_nights), "night")
        return (
            f"new star magnitudes are due, which {'all nights' if plan.extension is None else count} would then be "
            "calibrated with; run `skylake calibrate` without --from and --to"
        )
    stale = [night.night for night in plan.solved_nights if not night.is_matched]
    if stale:
        return (
            f"no new star magnitudes, as the matches of {counted(len(stale), 'night')} from {stale[0]} on are out of "
            "date; run `skylake calibrate` again"
        )
    return ""


def _widen_margins(nights: Sequence[Night], run: _Run) -> None:
    """Give catalogs margins as wide as the cameras of the nights that are matched need."""
    needed: dict[ReferenceCatalog, float] = {}
    for night in nights:
        if night.why_matches is None:
            continue
        try:
            frames = read_files(
                "frames", night.frames, _RADIUS_COLUMNS, pc.field("status") == Status.OK.value
            )
        except LakeError:
            continue  # the task of this night names the file, and the others are calibrated
        if frames.num_rows:
            radius = match_radius_arcsec(frames, camera_of_frames(run.profiles[night.camera], frames))
            needed[night.against.reference] = max(radius, needed.get(night.against.reference, 0.0))
    for reference, radius in needed.items():
        # A little wider, for stars that move and for pixels that are larger next night.
        if radius > reference.margin_arcsec and widen_margin(reference.collection, radius + MARGIN_ARCSEC):
            run.progress.line(
                f"catalog {reference.name}: its margin was widened from {reference.margin_arcsec:g} to "
                f"{radius + MARGIN_ARCSEC:g} arcsec, as the match radius is {radius:g}"
            )


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


def _warnings(lake: Lake, snapshot: Snapshot, against: Mapping[str, Against]) -> list[str]:
    """Return a sentence for each thing for whose lack frames could not be calibrated."""
    return [
        sentence
        for camera in sorted(cameras_of(snapshot) & against.keys())
        for sentence in _warnings_of(lake, snapshot, camera, against[camera])
    ]


def _warnings_of(lake: Lake, snapshot: Snapshot, camera: str, against: Against) -> list[str]:
    """Return these sentences of one camera."""
    mine = zeropoints_names(snapshot, camera, against.reference.name, against.version)
    lacking = pc.field("reason").isin([NO_BAND, NO_COLOUR, UNKNOWN_FILTER])
    columns = ["frame_id", "band", "colour", "reason"]
    rows = snapshot.read("zeropoints", columns, lambda part: part.name in mine, lacking)
    unknown = pc.equal(rows["reason"], UNKNOWN_FILTER)
    return [
        *_without_columns(rows.filter(pc.invert(unknown)), camera, against.reference),
        *_without_filter(lake, snapshot, camera, rows.filter(unknown)["frame_id"]),
    ]


def _without_columns(rows: pa.Table, camera: str, catalog: ReferenceCatalog) -> list[str]:
    """Return a sentence for each column of the catalog that frames could not be calibrated without."""
    grouped = rows.group_by(["band", "colour", "reason"]).aggregate([([], "count_all")])
    sentences = []
    for row in sorted(grouped.to_pylist(), key=str):
        what, option = (
            (f"magnitude in {row['band']}", f"--mag {row['band']}=COLUMN")
            if row["reason"] == NO_BAND
            else (f"colour {row['colour']}", f"--colour {row['colour']}=COLUMN")
        )
        have = "has" if row["count_all"] == 1 else "have"
        sentences.append(
            f"{counted(row['count_all'], 'frame')} of {camera} {have} no zeropoint: no star of the catalog "
            f"{catalog.name} that they saw has a {what}; import the catalog again with `{option}`, or one that has it"
            f"{_of_unknown_survey(row['band'], catalog)}"
        )
    return sentences


def _of_unknown_survey(band: str, catalog: ReferenceCatalog) -> str:
    """Return what to do if a band would follow from columns of a catalog, did one know whose they are."""
    if catalog.survey in SURVEYS:
        return ""
    found = {name: magnitude_source(band, catalog.columns, name) for name in ("ps1", "sdss", "apass")}
    examples = [
        source.inputs[0][0] for source in found.values() if source is not None and source.transformation
    ]
    if not examples:
        return ""
    options = " or ".join(f"`--mag {example}=COLUMN`" for example in examples)
    return f"; {band} would follow from its other bands: say of which survey they are, as in {options}"


def _without_filter(lake: Lake, snapshot: Snapshot, camera: str, frame_id: pa.ChunkedArray) -> list[str]:
    """Return a sentence for each filter that the profile had when its frames were ingested, and has no more."""
    if len(frame_id) == 0:
        return []
    had = pc.field("frame_id").isin(frame_id.combine_chunks()) & pc.field("band").is_valid()
    rows = snapshot.read("frames", ["filter"], lambda part: part.camera == camera, had)
    source = lake.profile(camera).source
    return [
        f"{counted(count, 'frame')} of {camera} {'has' if count == 1 else 'have'} no zeropoint: the profile {source} "
        f"knows no filter {name!r} any more; name it in [filters] or among the aliases of a filter, or "
        "`skylake ingest --redo` the frames if their filter is in other cards now"
        for name, count in sorted(Counter(rows["filter"].to_pylist()).items(), key=str)
    ]


def _of_too_few_stars(
    snapshot: Snapshot, against: Mapping[str, Against], report: CalibrateReport
) -> list[str]:
    """Return a sentence for each camera and band with frames of too few stars in the nights that were calibrated.

    It says which cut took the stars of the frame that had most of them.
    """
    nights = {(batch["camera"], batch["night"]) for batch in report.batches}
    mine = {
        name
        for camera, used in against.items()
        for name in zeropoints_names(snapshot, camera, used.reference.name, used.version)
    }
    rows = snapshot.read(
        "zeropoints",
        ["camera", "night", "band", "n_matched", "message"],
        lambda part: (part.camera, part.night) in nights and part.name in mine,
        filter=pc.field("reason") == TOO_FEW_STARS,
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


def _of_no_matches(snapshot: Snapshot, against: Mapping[str, Against], report: CalibrateReport) -> list[str]:
    """Return a sentence for each camera with frames without matches in the nights that were calibrated."""
    sentences = []
    # Where no frame at all has a zeropoint, the error at the end says so.
    for camera, used in against.items() if report.n_zeropoints else ():
        nights = {batch["night"] for batch in report.batches if batch["camera"] == camera}
        mine = zeropoints_names(snapshot, camera, used.reference.name, used.version)
        found = unmatched_frames(snapshot, mine, nights)
        if len(found) and (advice := of_unmatched(snapshot, camera, used.reference, found)):
            frames = counted(len(found), "frame has", "frames have")
            sentences.append(f"{camera}: {frames} no match; {advice}")
    return sentences


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
        "matches": [night.matches_name for night in nights if night.why_matches is not None],
        "zeropoints": [night.zeropoints_name for night in nights],
    }
    unbundle(lake, run.workers, names, run.progress)


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


def calibrate_night(night: Night, profile: Profile, tree: PixelTree, staging: Path) -> tuple[Part, Part]:
    """Match and calibrate one night; runs on a worker.

    Returns
    -------
    matches, zeropoints : Part
    """
    frames = read_files("frames", night.frames, filter=pc.field("status") == Status.OK.value)
    camera, reference = camera_of_frames(profile, frames), night.against.reference
    frames = with_filters(frames, camera)
    if night.matches is not None:
        matches_part = night.matches
        matches = read_files("matches", night.matches_slices)
    else:
        matches = match_night(frames, night.sources, night.sources_slices, camera, reference)
        matches = with_variables(matches, night.variables)
        matches_part = stage_part(
            matches,
            "matches",
            night.matches_name,
            staging / "matches",
            tree,
            night.camera,
            night.night,
            night.inputs,
        )
    # In one order, whether they were joined now or read: sums of the same numbers differ in another.
    matches = matches.sort_by([("frame_id", "ascending"), ("source_no", "ascending")])
    bands, version = _bands(frames, camera, reference), night.version
    known = {one.band: one.read() for one in night.solutions if one.band in bands}
    references = {
        band: stars for band, stars in known.items() if same_epoch(camera, profile.at(stars.mjd_last))
    }
    zeropoints = calibrated_frames(frames, matches, bands, references, reference.name, version)
    zeropoints_part = stage_part(
        zeropoints,
        "zeropoints",
        night.zeropoints_name,
        staging / "zeropoints",
        None,
        night.camera,
        night.night,
        night.zeropoint_inputs,
    )
    return matches_part, zeropoints_part


def _bands(frames: pa.Table, camera: Camera, reference: ReferenceCatalog) -> dict[str, Band]:
    return {
        band.band: Band(
            band,
            camera.apertures.flux,
            camera.calibration,
            "; ".join(one.description for one in transformations_of([band], reference)) or None,
            Scintillation.of(camera),
        )
        for band in filters_of(frames, camera).values()
    }


def _failure(night: Night, error: BaseException) -> LakeError:
    why = reason_of(error, with_file=True)
    return LakeError(f"{night.name}: the night could not be calibrated ({why}); fix that and run again")


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
    if n_zeropoints and night.camera in run.choices:
        # One that gives no zeropoints is chosen again, when there are other catalogs or frames.
        lake.keep_choice(night.camera, run.choices[night.camera])
    earlier = [one for one in report.batches if (one["camera"], one["night"]) == (night.camera, night.night)]
    report.n_renewed += night.why_zeropoints is not Why.NEW and not earlier
    report.batches = [one for one in report.batches if one not in earlier]
    report.batches.append(
        {
            "camera": night.camera,
            "night": night.night,
            "catalog": night.against.reference.name,
            "version": night.version,
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
