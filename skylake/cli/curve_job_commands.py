"""``skylake detrend``, ``periods`` and ``statistics``: jobs over the light curves of a lake."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    Command,
    cluster_options,
    duration,
    lake_argument,
    night,
    open_lake,
    start_workers,
)
from skylake.cli.progress_bar import progress
from skylake.cli.sky_arguments import Cone, cone_option, moc_option, sky_region

if TYPE_CHECKING:
    from skylake.flow.curves.curve_tables import CurveTableReport
    from skylake.flow.curves.field_blocks import CurveSource
    from skylake.flow.curves.find_periods import Method
    from skylake.lake import Lake, Snapshot
    from skylake.lake.access.curve_rows import Measured
    from skylake.sky.sky_region import SkyRegion

_FLUXES = ("calibrated", "hybrid1", "hybrid2", "hybrid3", "psf", "aper1", "aper2", "aper3")
_DETREND_EXAMPLE = """\b
skylake detrend LAKE
skylake detrend LAKE --cone 188.7,-1.4,7200 --from 20240401 --to 20240430 -o april
"""


def _durations(text: Any) -> tuple[float, ...]:
    """Read lengths of time, as 1h,2h."""
    return (
        text
        if isinstance(text, tuple)
        else tuple(duration(one) for one in str(text).split(",") if one.strip())
    )


def curve_options(command: Command) -> Command:
    """Add the options that say which light curves are worked on."""
    for option in reversed(_CURVES):
        command = option(command)
    return command


_CURVES = [
    click.option(
        "--camera", metavar="C", help="Only light curves by this camera.", shell_complete=completion.cameras
    ),
    click.option("--band", metavar="B", help="Only this band."),
    click.option(
        "--measured",
        type=click.Choice(["detected", "forced", "relative"]),
        help="The detections of stars, the measurements at the places of targets, or detections on frames that no "
        "catalog places, relative to the stars of the field. Without the option detected, or relative where there is "
        "nothing else.",
    ),
    click.option(
        "--flux",
        type=click.Choice(_FLUXES),
        default="calibrated",
        show_default=True,
        help="calibrated is the flux of the zeropoints. Of detections another one is an aperture.",
    ),
    cone_option("Only stars in a cone: position (degrees) and radius."),
    moc_option("Only stars in a coverage map (FITS, JSON or text)."),
    click.option("--from", "first_night", type=night, metavar="NIGHT", help="First night, YYYYMMDD."),
    click.option("--to", "last_night", type=night, metavar="NIGHT", help="Last night."),
    click.option("--replace", is_flag=True, help="Replace a table that was made with other options."),
]


def curve_source(lake: Path, given: dict[str, Any]) -> CurveSource:
    """Return which light curves the options name.

    Raises
    ------
    UsageError
        If there is no such flux of such measurements, or no such camera.
    """
    from skylake.cli.camera_names import require_camera
    from skylake.errors import UsageError
    from skylake.flow.curves.field_blocks import CurveSource
    from skylake.report.stars.which_star import RELATIVE_NOTE

    flux, measured = given["flux"], given["measured"]
    snapshot = open_lake(lake).snapshot()
    if given["camera"] is not None:
        given["camera"] = require_camera(snapshot, given["camera"])
    if measured is None:
        measured, others = _usual_measurements(snapshot, given["camera"])
        if others:
            show.complain(
                f"{' and '.join(others)} left out: light curves are relative there (--measured relative takes them)"
            )
    if measured == "relative":
        if flux != "calibrated":
            raise UsageError(f"relative light curves are in one flux; leave out --flux {flux}")
        click.echo(RELATIVE_NOTE, err=True)
    if measured == "detected" and flux != "calibrated" and not flux.startswith("aper"):
        raise UsageError(
            f"detections have no flux {flux}; name aper1, aper2 or aper3, or add --measured forced"
        )
    names = ("flux", "camera", "band", "first_night", "last_night")
    return CurveSource(measured, *(given[name] for name in names))


def _usual_measurements(snapshot: Snapshot, camera: str | None) -> tuple[Measured, list[str]]:
    """Return which light curves are meant where nobody says so, and the cameras whose curves are others.

    They are detections, and relative ones of cameras that have nothing else.
    """
    from skylake.lake.access.relative_curves import relative_cameras

    calibrated = {part.camera for part in snapshot.version("lightcurves").parts.values()}
    relative = [one for one in relative_cameras(snapshot) if one not in calibrated and camera in (None, one)]
    is_calibrated = calibrated if camera is None else camera in calibrated
    return ("detected", relative) if is_calibrated or not relative else ("relative", [])


def star_options(command: Command) -> Command:
    """Add the options that say which stars are taken, and which of their light curves."""
    for option in reversed([*_STARS, curve_options, _DETRENDED]):
        command = option(command)
    return command


_STARS = [
    click.option(
        "--candidates", is_flag=True, help="Only stars that vary beyond noise, by the view variable_stars."
    ),
    click.option("--all", "is_all", is_flag=True, help="All stars with light curves."),
]
_DETRENDED = click.option(
    "--detrended",
    metavar="TABLE",
    help="Take mag_joint of a table that `skylake detrend` has made, not the light curves as calibrated.",
    shell_complete=completion.tables,
)


def chosen_curves(lake: Path, given: dict[str, Any]) -> tuple[CurveSource, SkyRegion | None]:
    """Return which light curves the options name, and of which part of the sky; None for candidates.

    Raises
    ------
    UsageError
        If it is not clear which stars are meant, or options contradict each other.
    """
    from skylake.errors import UsageError

    candidates, is_all, cone, moc, detrended = (
        given.pop(name) for name in ("candidates", "is_all", "cone", "moc", "detrended")
    )
    n_ways = sum((candidates, is_all, cone is not None or moc is not None))
    if n_ways != 1:
        say = "choose one of these" if n_ways else "say which stars are taken"
        raise UsageError(f"{say}: --candidates, --all, or those in --cone or --moc")
    if detrended is not None and given["flux"] != "calibrated":
        raise UsageError(f"{detrended} has the flux that it was made of; leave out --flux")
    source = dataclasses.replace(curve_source(lake, given), detrended=detrended)
    return source, None if candidates else sky_region(cone, moc)


@click.command(epilog=_DETREND_EXAMPLE, short_help="Detrend light curves into a table.")
@lake_argument
@click.option("-o", "name", default="detrended", show_default=True, metavar="NAME", help="Name of the table.")
@curve_options
@click.option(
    "--templates",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    metavar="N",
    help="Stars whose curves show the trends for TFA, at most one for 20 frames; 0 for none.",
)
@click.option(
    "--effects",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    metavar="N",
    help="Common effects that SysRem takes off; 0 for none.",
)
@click.option(
    "--durations",
    type=_durations,
    default="1h,2h,4h",
    show_default=True,
    metavar="T,…",
    help="Durations of dips that are looked for beside waves, for mag_joint; '' for none.",
)
@cluster_options
@show.as_json
def detrend(
    lake: Path,
    name: str,
    templates: int,
    effects: int,
    durations: tuple[float, ...],
    cone: Cone | None,
    moc: Path | None,
    replace: bool,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Detrend the light curves of LAKE into a table, in several ways side by side.

    mag_raw is as calibrated. mag_ensemble lacks what all stars of a frame lose alike, mag_epd also what follows from
    position, image shape, sky, airmass, hour angle and temperature. mag_joint is mag_epd with the best wave or dip of
    the star fitted beside them, so that one which is found stays whole: the one to use. Where there are fewer than 5
    nights or 100 good measurements it is mag_ensemble, as method_joint says. mag_tfa (trend filtering) and mag_sysrem
    take a part of signals too. Stars with fewer than 100 good measurements have no mag_epd, and those with fewer
    than 5 no row. The same command again makes the table anew if light curves have changed.
    """
    from skylake.flow.curves.detrend_field import DetrendChoice
    from skylake.flow.curves.detrend_lake import detrend_lake

    source, region = curve_source(lake, given), sky_region(cone, moc)
    choice = DetrendChoice(n_templates=templates, n_effects=effects, durations_days=durations)
    opened: Lake = open_lake(lake)
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = detrend_lake(opened, name, source, region, choice, pool, replace, shown)
    say_made(report, as_json)


def say_made(report: CurveTableReport, as_json: bool) -> None:
    """Print what a job has made."""
    text = f"{report.table}: {report.n_rows} rows" + ("" if report.made else ", up to date")
    show.result(dataclasses.asdict(report), as_json, lambda: click.echo(text))


_PERIODS_EXAMPLE = """\b
skylake periods LAKE --candidates
skylake periods LAKE --all --detrended detrended --method bls --min-period 0.5 -o transits
"""


@click.command(epilog=_PERIODS_EXAMPLE, short_help="Find periods of stars.")
@lake_argument
@click.option("-o", "name", default="periods", show_default=True, metavar="NAME", help="Name of the table.")
@star_options
@click.option(
    "--method",
    type=click.Choice(["ls", "bls"]),
    default="ls",
    show_default=True,
    help="Lomb-Scargle, a sinusoid; or box least squares, a transit, which takes up to seconds for each star.",
)
@click.option(
    "--min-period",
    type=duration,
    metavar="P",
    help="Shortest period: days, or as 2.4h; 0.1 d, for bls 0.5 d by default.",
)
@click.option(
    "--max-period", type=duration, default="20", show_default=True, metavar="P", help="Longest period."
)
@click.option(
    "--durations",
    type=_durations,
    default="1h,2h,4h",
    show_default=True,
    metavar="T,…",
    help="Durations of transits that are tried.",
)
@cluster_options
@show.as_json
def periods(
    lake: Path,
    name: str,
    replace: bool,
    method: Method,
    min_period: float | None,
    max_period: float,
    durations: tuple[float, ...],
    cluster: str | None,
    workers: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Find the best period of the stars of LAKE, into a table.

    Each star has a row with its period, the chance that white noise has one as good (false_alarm), the time of
    greatest brightness or of mid-transit (BJD, TDB), full amplitude or depth, and their errors. alias_of names the
    cycle of the nights that a period may be an alias of. Stars have 10 good measurements or more. The same command
    again makes the table anew if light curves have changed.
    """
    from skylake.flow.curves.find_periods import PeriodSearch, find_periods

    source, region = chosen_curves(lake, given)
    shortest = min_period or (0.1 if method == "ls" else 0.5)
    search = PeriodSearch(method, shortest, max_period, durations)
    opened: Lake = open_lake(lake)
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = find_periods(opened, name, source, region, search, pool, replace, shown)
    say_made(report, as_json)


_STATISTICS_EXAMPLE = """\b
skylake statistics LAKE --all
skylake statistics LAKE --cone 188.7,-1.4,7200 --detrended detrended -o flat_statistics
"""


@click.command(epilog=_STATISTICS_EXAMPLE, short_help="Compute statistics of light curves.")
@lake_argument
@click.option(
    "-o", "name", default="curve_statistics", show_default=True, metavar="NAME", help="Name of the table."
)
@star_options
@cluster_options
@show.as_json
def statistics(
    lake: Path,
    name: str,
    replace: bool,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Compute statistics of the light curves of LAKE, into a table.

    Each star has a row for a camera and band with its mean and median, standard deviation and robust scatter,
    skewness and kurtosis, percentiles and amplitude, chi-square, scatter beyond errors, von Neumann's eta, and J, K
    and L of Stetson. Stars have 5 good measurements or more. The same command again makes the table anew if light
    curves have changed.
    """
    from skylake.flow.curves.describe_curves import describe_curves

    source, region = chosen_curves(lake, given)
    opened: Lake = open_lake(lake)
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = describe_curves(opened, name, source, region, pool, replace, shown)
    say_made(report, as_json)
