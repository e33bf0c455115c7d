"""``skylake ingest``, ``calibrate``, ``aggregate``, ``mirror``, ``report`` and ``run``: the night's work."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    Number,
    aggregate_files_option,
    as_of_option,
    camera_option,
    cluster_options,
    files_argument,
    lake_argument,
    mirror_options,
    night,
    open_lake,
    out_option,
    plot_option,
    readable_lake_argument,
    require_catalog,
    start_workers,
)
from skylake.cli.calibration_pictures import show_differences
from skylake.cli.dropped_version import show_dropped
from skylake.cli.outdated_tables import out_of_date, stale_aggregates
from skylake.cli.progress_bar import progress
from skylake.core.counted import counted
from skylake.core.reasons import Reason

if TYPE_CHECKING:
    from skylake.flow.ingest.ingest_report import IngestReport
    from skylake.flow.zeropoints.calibrate_nights import Choice
    from skylake.lake import Lake

#: Columns of ``frames`` with the pointing of a frame and the catalog behind it.
PLACE = ("wcs_catalog", "ra_deg", "dec_deg", "pixel_scale_arcsec", "width_px", "height_px")
_HALF_SKY_ARCSEC = 180.0 * 3600.0
_INGEST_EXAMPLE = """\b
skylake ingest LAKE --camera sim night/
skylake ingest LAKE --camera sim --redo --from 20240407 --to 20240407 night/
skylake ingest LAKE --camera sim --retry no_wcs --retry bad_wcs night/
"""

_CALIBRATE_EXAMPLE = """\b
skylake calibrate LAKE
skylake calibrate LAKE --camera sim --from 20240407 --profile sim.toml --dry-run
skylake calibrate LAKE --version 2 --method frame
skylake calibrate LAKE --diff 1 2 -o differences.csv --plot differences.png
skylake calibrate LAKE --drop 2
"""


@click.command(short_help="Reduce frames to rows of `frames` and `sources`.", epilog=_INGEST_EXAMPLE)
@lake_argument
@camera_option
@files_argument
@click.option("--from", "first", type=night, metavar="NIGHT", help="First night to take, YYYYMMDD.")
@click.option("--to", "last", type=night, metavar="NIGHT", help="Last night to take, YYYYMMDD.")
@click.option("--redo", is_flag=True, help="Reduce frames again that the lake holds already.")
@click.option(
    "--retry",
    type=click.Choice([reason.value for reason in Reason]),
    multiple=True,
    metavar="REASON",
    help="Reduce those again that ended with this reason, such as no_wcs; may be repeated.",
)
@click.option(
    "--rotation",
    type=Number(-360, 360),
    metavar="DEG",
    help="Position angle of the focal plane, east of north, in place of what headers and profile say.",
)
@cluster_options
@show.as_json
@click.pass_context
def ingest(
    ctx: click.Context,
    lake: Path,
    camera_name: str,
    paths: tuple[Path, ...],
    first: int | None,
    last: int | None,
    redo: bool,
    retry: tuple[str, ...],
    rotation: float | None,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Reduce the frames below PATH… to rows of `frames` and `sources`, night by night.

    Frames that the lake holds already are left alone, so the command can be repeated at will. Those that lacked a
    catalog, its index, a geometry or masters are reduced again once that is there or has changed. Every frame
    becomes one row of `frames`, whatever becomes of it; the exit status is 1 if some failed or were rejected, or
    targets could not be measured. Of a camera of several chips each is a row for each exposure, and those with few
    stars are placed by the others.
    """
    from skylake import cameras
    from skylake.cameras.profile import with_rotation
    from skylake.flow.ingest.ingest_frames import ingest_frames
    from skylake.flow.ingest.ingest_report import IngestOptions

    _require_order(first, last)
    opened = open_lake(lake)
    chips = cameras.load_chips(camera_name)
    if rotation is not None:
        chips = tuple(with_rotation(chip, rotation) for chip in chips)
    options = IngestOptions(redo, first, last, retry=frozenset(retry))
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = ingest_frames(opened, chips, paths, pool, options, shown)
    show.result(dataclasses.asdict(report), as_json, lambda: _show_ingest(report, opened))
    ctx.exit(0 if report.all_well else 1)


def _show_ingest(report: IngestReport, lake: Lake) -> None:
    for sentence in report.complaints:
        show.complain(sentence)
    # One sentence at the end is for these.
    together = {
        (contradiction.camera, file)
        for contradiction in report.contradictions
        for file in contradiction.files
    }
    for problem in report.problems:
        if (problem["camera"], problem["file"]) in together:
            continue
        show.complain(f"{problem['file']}: {problem['status']}/{problem['reason']}: {problem['message']}")
    if report.repeated:
        show.complain(repeated(report.repeated))
    for sentence in _one_of_each(report.kept):
        show.complain(sentence)
    if report.unchecked:
        show.complain(unchecked(report.unchecked, lake.root, _first_row(lake, report.unchecked[0])))
    if report.unexposed:
        show.complain(unexposed(report.unexposed))
    alone = [
        sentence
        for sentence in report.contradicting
        if not any(sentence.startswith(f"{file}: ") for _, file in together)
    ]
    for sentence in _one_of_each(alone):
        show.complain(sentence)
    counts = (
        ", ".join(f"{number} {status}" for status, number in sorted(report.counts.items())) or "nothing new"
    )
    if report.n_without_targets:
        counts += f", targets of {report.n_without_targets} not measured"
    known = f", {report.n_known} known before" if report.n_known else ""
    click.echo(f"ingest: {counts}{known}")
    if report.n_otherwise:
        nights = counted(report.n_otherwise, "night was", "nights were")
        click.echo(
            f"ingest: of all that the lake has of the camera, {nights} made with another configuration; "
            "--redo renews those whose frames are named"
        )
    for sentence in report.overlapping:
        show.complain(sentence)
    if report.half_skies:
        click.echo(half_skies(report))
    for contradiction in report.contradictions:
        show.complain(contradiction.sentence)


def _one_of_each(sentences: Sequence[str]) -> list[str]:
    """Return one of several sentences that differ in their numbers only, and how many others are like it."""
    alike: dict[str, list[str]] = {}
    for sentence in sentences:
        _, _, text = sentence.partition(": ")
        alike.setdefault(re.sub(r"[\d.+-]+", "", text), []).append(sentence)
    return [
        first + (f" (and {len(others)} more like it)" if others else "") for first, *others in alike.values()
    ]


def repeated(files: Sequence[str], content: str = "bytes as another file") -> str:
    """Return the sentence that names files with the content of others, as all of an archive that was moved."""
    more = f" (and {len(files) - 1} more below {os.path.commonpath(files)})" if len(files) > 1 else ""
    return f"{files[0]}{more}: the same {content}, which is used for both"


def unchecked(files: Sequence[str], lake: Path, row: Mapping[str, Any] | None) -> str:
    """Return the sentence that names frames in fields with too few catalog stars.

    `row` is the row in ``frames`` of the first of them; None if it is gone.
    """
    more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
    if row is None:
        return (
            f"{files[0]}{more}: the catalog has too few stars there to check the WCS; either it does not reach so "
            "far, or the WCS is wrong (flag WCS_UNCHECKED)"
        )
    across = math.hypot(row["width_px"], row["height_px"]) * row["pixel_scale_arcsec"]
    radius = math.ceil(min(0.5 * across, _HALF_SKY_ARCSEC))
    catalog, place = row["wcs_catalog"], f"{row['ra_deg']:.4f} {row['dec_deg']:.4f} {radius}"
    return (
        f"{files[0]}{more}: the catalog {catalog} has too few stars there to check the WCS; either it does not reach "
        f"so far, or the WCS is wrong (flag WCS_UNCHECKED; `skylake catalog cone {shlex.quote(str(lake))} {catalog} "
        f"{place}` prints the stars that it has there)"
    )


def _first_row(lake: Lake, file: str) -> dict[str, Any] | None:
    """Return the pointing of a frame in a lake; None if another run has removed the frame in the meantime."""
    import pyarrow.compute as pc

    # Other chips of a file may not be placed.
    located = (pc.field("file") == file) & pc.field("wcs_catalog").is_valid() & pc.field("ra_deg").is_valid()
    rows = lake.snapshot().read("frames", list(PLACE), filter=located)
    return next(iter(rows.to_pylist()), None)


def unexposed(files: Sequence[str]) -> str:
    """Return the sentence that names frames whose exposure is assumed."""
    more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
    return (
        f"{files[0]}{more}: no card gives an exposure, so 1 s is assumed (flag EXPOSURE_ASSUMED); name the right one "
        "in header.exposure.cards of the profile, or [] if there is none (`skylake camera check` shows what they hold)"
    )


def half_skies(report: IngestReport) -> str:
    """Return the line that names nights in which the sky of frames would now differ."""
    nights = ", ".join(str(night) for night in report.half_skies)
    return (
        f"ingest: frames of {nights} took their sky from earlier or later frames alone, and now there are both; "
        "--redo with --from and --to renews these nights"
    )


@click.command(short_help="Match detections with a catalog, fit zeropoints.", epilog=_CALIBRATE_EXAMPLE)
@lake_argument
@click.option(
    "--catalog",
    metavar="NAME",
    help="Reference catalog; the one that calibrates the camera otherwise.",
    shell_complete=completion.catalogs,
)
@click.option(
    "--version",
    type=click.IntRange(min=1),
    metavar="V",
    help="Version of the zeropoints to make; the largest of each night otherwise.",
)
@click.option(
    "--camera",
    "-c",
    "camera_name",
    metavar="C",
    help="Camera whose nights are calibrated; all otherwise.",
    shell_complete=completion.cameras,
)
@click.option(
    "--method",
    type=click.Choice(["auto", "frame", "global"]),
    help="What stars are compared with: the catalog (frame), or the camera's own star magnitudes, solved for once "
    "stars repeat (auto) or again now (global). Nights keep their method; at first it is auto.",
)
@click.option("--from", "first", type=night, metavar="NIGHT", help="First night to calibrate, YYYYMMDD.")
@click.option("--to", "last", type=night, metavar="NIGHT", help="Last night to calibrate, YYYYMMDD.")
@click.option(
    "--profile",
    "profile_name",
    metavar="TOML",
    help="Profile that is in force for its camera from now on; "
    "the one of the last ingest otherwise, as its file is now.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="List the nights that would be calibrated, or dropped, and change nothing.",
)
@click.option(
    "--drop",
    type=click.IntRange(min=1),
    metavar="N",
    help="Drop version N of the nights that are chosen; the largest of their other versions is in force then.",
)
@click.option(
    "--diff",
    "versions",
    type=click.IntRange(min=1),
    nargs=2,
    metavar="A B",
    help="Compare two versions night by night, B minus A, and change nothing.",
)
@out_option
@plot_option
@cluster_options
@show.as_json
@click.pass_context
def calibrate(
    ctx: click.Context,
    /,
    lake: Path,
    cluster: str | None,
    workers: int | None,
    dry_run: bool,
    drop: int | None,
    versions: tuple[int, int] | None,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Match the detections of LAKE with a reference catalog, and fit a zeropoint to every frame.

    Nights that are up to date are left alone. Those whose frames, catalog or calibration parameters have changed
    are rebuilt under the same version, unless a new --version is named: that is a new set of zeropoints beside
    the old one, and the largest is in force. Detections are never rewritten. A profile that was edited is in force
    at once. Once stars of a camera and band were measured often enough, their magnitudes are solved for from all
    nights together, and nights are calibrated with these; new fields add their stars later. The exit status is 1 if
    the catalog lacks a magnitude or colour that frames need, or the profile their filter, and 3 if no frame of the
    nights has a zeropoint.

    With --diff nothing is calibrated: two versions are compared, and -o and --plot write the table and a picture.
    With --drop a version goes; every night keeps another one.
    """
    from skylake.flow.zeropoints.calibrate_nights import calibrate as run_calibrate
    from skylake.flow.zeropoints.calibrate_nights import calibrating_catalogs
    from skylake.flow.zeropoints.calibration_outcome import nothing_calibrated, require_nights

    opened = open_lake(lake)
    choice = _choice(opened, **chosen)
    require_nights(opened.snapshot(), choice)
    is_calibration = choice.version or choice.profiles or choice.method
    if drop is not None:
        if versions or out or plot or is_calibration:
            raise click.UsageError(
                "--drop takes --catalog, --camera, --from, --to and --dry-run; leave out the other options"
            )
        show_dropped(opened, lake, choice, drop, dry_run, as_json)
        return
    if versions is not None:
        if dry_run or is_calibration:
            raise click.UsageError(
                "--diff changes nothing; leave out --dry-run, --version, --method and --profile"
            )
        if versions[0] == versions[1]:
            raise click.UsageError(f"--diff {versions[0]} {versions[1]} names one version twice; name two")
        show_differences(opened, choice, versions, out, plot, as_json)
        return
    if out or plot:
        raise click.UsageError("-o and --plot are for --diff A B; name two versions")
    if dry_run:
        _show_planned(opened, choice, as_json)
        return
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = run_calibrate(opened, pool, progress=shown, choice=choice)
    in_force = calibrating_catalogs(opened)
    stale = stale_aggregates(opened) if report.n_zeropoints else {}

    def text() -> None:
        for sentence in report.chosen.values():
            click.echo(f"calibrate: {sentence}")
        click.echo(report.line)
        if choice.catalog and choice.catalog not in in_force:
            click.echo(
                f"calibrate: light curves, nights and maps are of {' and '.join(sorted(in_force)) or 'no catalog'}; "
                f"for {choice.catalog} write calibrate = {json.dumps(choice.catalog)} below [catalog] in "
                f"{opened.layout.settings_file}"
            )
        if stale:
            click.echo(f"calibrate: {out_of_date(stale, lake)}")

    show.result(dataclasses.asdict(report) | {"outdated": stale}, as_json, text)
    for sentence in report.warnings:
        show.complain(sentence)
    nothing = None if report.n_zeropoints else nothing_calibrated(opened, choice)
    if nothing:
        show.complain(nothing)
    ctx.exit(3 if nothing else 1 if report.warnings else 0)


def _choice(
    lake: Lake,
    catalog: str | None,
    version: int | None,
    camera_name: str | None,
    method: str | None,
    first: int | None,
    last: int | None,
    profile_name: str | None,
) -> Choice:
    """Return the choice of nights to calibrate."""
    from skylake import cameras
    from skylake.cli.camera_names import require_cameras
    from skylake.flow.zeropoints.calibrate_nights import Choice
    from skylake.flow.zeropoints.calibrated_nights import Method

    _require_order(first, last)
    profiles = () if profile_name is None else cameras.load_chips(profile_name)
    snapshot = lake.snapshot()
    require_catalog(snapshot, catalog)
    names = require_cameras(snapshot, camera_name) if camera_name else ()
    for profile in profiles:
        require_cameras(snapshot, profile.name)
        if names and profile.name not in names:
            raise click.UsageError(
                f"--profile {profile_name} is that of {profile.name}, not of {camera_name}; leave out one of them"
            )
    return Choice(catalog, version, names, first, last, profiles, None if method is None else Method(method))


def _require_order(first: int | None, last: int | None) -> None:
    if first is not None and last is not None and first > last:
        raise click.UsageError(f"--from {first} is after --to {last}; name the earlier night first")


def _show_planned(lake: Lake, choice: Choice, as_json: bool) -> None:
    """Show which nights would be calibrated, and why."""
    from skylake.flow.zeropoints.calibrate_nights import plan_calibration, plan_solutions

    rows = [
        {
            "camera": plan.camera,
            "night": plan.night,
            "catalog": plan.against.reference.name,
            "version": plan.version,
            "matches": plan.why_matches and plan.why_matches.value,
            "zeropoints": plan.why_zeropoints and plan.why_zeropoints.value,
        }
        for plan in plan_calibration(lake, choice)
    ]
    names = ["camera", "night", "catalog", "version", "matches", "zeropoints"]

    def text() -> None:
        if rows:
            show.table([[row[name] for name in names] for row in rows], names)
        else:
            click.echo("calibrate: every night is up to date")
        for season in plan_solutions(lake, choice):
            click.echo(
                f"solve {season.camera} {season.band}: version {season.key.version} of the star magnitudes would be "
                f"solved for from {counted(season.n_solved_frames, 'frame')}, and these nights be calibrated with it"
            )

    show.result(rows, as_json, text)


@click.command(short_help="Refresh nights, light curves, maps and aggregates of your own.")
@lake_argument
@click.argument("names", nargs=-1, metavar="[NAME…]")
@aggregate_files_option
@cluster_options
@show.as_json
@click.pass_context
def aggregate(
    ctx: click.Context,
    lake: Path,
    names: tuple[str, ...],
    files: tuple[Path, ...],
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Refresh aggregates of LAKE.

    They are nights, photometric_nights, lightcurves, forced_lightcurves, maps, clusters, repeatability, seeing,
    star_statistics and objects (with coverage), or those named. `alerts` has what changed among the stars of your
    watch lists (`skylake watch`), and is sent to the command or webhook of each.
    Light curves are of the detections of stars, forced_lightcurves of what was measured at the places of targets.
    Aggregates of your own are files in ~/.config/skylake/aggregates, or named by --aggregate; docs/aggregates.md shows
    how to write one.

    Only what was made from changed inputs is rebuilt. Objects that are new to the list of targets in force of a camera
    make its next version.
    """
    from skylake.flow.aggregates import aggregate as run_aggregate
    from skylake.flow.aggregates import uncalibrated
    from skylake.flow.forced.extend_targets import extend_targets
    from skylake.flow.watching.deliver_alerts import deliver_alerts
    from skylake.table.objects import NAME as OBJECTS

    opened = open_lake(lake)
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = run_aggregate(opened, names, pool, shown, files)
    news = deliver_alerts(opened)
    extended = extend_targets(opened) if OBJECTS in report.refreshed else []

    def show_text() -> None:
        made = ", ".join(f"{name} {counted(count, 'part')}" for name, count in report.refreshed.items())
        click.echo(f"aggregate: {made}")
        if news.line:
            click.echo(f"aggregate: {news.line}")

    found = dataclasses.asdict(report) | {"alerts": dataclasses.asdict(news)}
    show.result(found, as_json, show_text)
    for one in extended:
        click.echo(one.line, err=as_json)
    for sentence in (*report.left, *report.failed, *news.waiting, *news.failures):
        show.complain(sentence)
    waiting = uncalibrated(opened)
    if waiting:
        are = "part of matches and zeropoints is" if waiting == 1 else "parts of matches and zeropoints are"
        show.complain(
            f"{waiting} {are} out of date, and so is what is made from them; run "
            f"`skylake calibrate {shlex.quote(str(lake))}`, then this again"
        )
    ctx.exit(1 if report.failed or news.failures else 0)


@click.command(short_help="Copy the small tables into PostgreSQL.")
@lake_argument
@mirror_options
@click.option(
    "--keep-running", is_flag=True, help="Leave the embedded server running, and print how to connect."
)
@click.option("--stop", is_flag=True, help="Stop an embedded server that was left running.")
@click.option(
    "--rebuild", is_flag=True, help="Drop the mirrored tables, of another lake too, and copy everything."
)
@as_of_option
@show.as_json
def mirror(
    lake: Path,
    url: str | None,
    schema: str | None,
    keep_running: bool,
    stop: bool,
    rebuild: bool,
    as_of: str | None,
    as_json: bool,
) -> None:
    """Copy `frames`, `zeropoints` and `nights` into PostgreSQL: what changed, in one transaction.

    The database is a copy that can be dropped and rebuilt. With --as-of it shows the lake as it was, until
    the next run.
    """
    from skylake.mirror.mirror_lake import mirror_lake, stop_server

    opened = open_lake(lake)
    if stop:
        click.echo(
            "the embedded server was stopped" if stop_server(opened) else "no embedded server is running"
        )
        return
    report = mirror_lake(opened, url, schema, keep_running, rebuild, as_of)
    done = report.outcome
    text = (
        f"mirror: snapshot {report.snapshot} in {report.where}; {counted(done.n_copied, 'part')} with "
        f"{counted(done.n_rows_copied, 'row')} copied, {done.n_removed} removed"
    )

    def show_text() -> None:
        click.echo(text)
        if report.psql is not None:
            click.echo(
                f"connect with: {report.psql}\nstop it with: skylake mirror {shlex.quote(str(lake))} --stop"
            )

    show.result(dataclasses.asdict(report), as_json, show_text)


@click.command(short_help="Write a web page with the state and pictures.")
@readable_lake_argument
@click.argument("out", type=click.Path(path_type=Path))
@as_of_option
def report(lake: Path, out: Path, as_of: str | None) -> None:
    """Write a web page with the state of LAKE and its pictures into the folder OUT."""
    from skylake.report.page import write_report

    files = write_report(open_lake(lake), out, as_of)
    click.echo(f"report: {files[0]} with {len(files) - 1} pictures")


@click.group()
def run() -> None:
    """Run pipelines: several stages, one after the other."""


def _own_report(lake: Path) -> Path:
    """Return the folder of a lake's report; a link in its place must be allowed by the user."""
    from skylake.errors import LakeError

    folder = lake / "report"
    if folder.is_symlink() and not folder.resolve().is_relative_to(lake.resolve()):
        raise LakeError(
            f"{folder}: this is a link out of the lake; if the report is to be written there, say so with "
            f"`--report {shlex.quote(str(folder.resolve()))}`, else remove the link"
        )
    return folder


@run.command()
@lake_argument
@camera_option
@files_argument
@click.option(
    "--report",
    "report_folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the report goes; LAKE/report by default.",
)
@mirror_options
@aggregate_files_option
@cluster_options
@show.as_json
@click.pass_context
def nightly(
    ctx: click.Context,
    lake: Path,
    camera_name: str,
    paths: tuple[Path, ...],
    report_folder: Path | None,
    url: str | None,
    schema: str | None,
    files: tuple[Path, ...],
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Ingest, calibrate, aggregate, compact, mirror and report: what a timer runs every morning.

    The stages are those of pipelines/nightly.toml. Everything that is done already is left alone. Without a
    reference catalog the frames are ingested all the same, and the exit status is 1.
    """
    from skylake.cli.nightly_command import NightlyOptions, run_nightly

    opened = open_lake(lake)
    options = NightlyOptions(camera_name, paths, report_folder or _own_report(lake), url, schema, files)
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        outcome = run_nightly(opened, options, pool, shown)

    def text() -> None:
        _show_ingest(outcome.ingest, opened)
        for line in outcome.lines:
            click.echo(line)

    show.result(outcome.as_dict(), as_json, text)
    for sentence in (*outcome.warnings, *outcome.failures):
        show.complain(sentence)
    ctx.exit(outcome.exit_status)
