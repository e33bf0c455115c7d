"""``skylake lc``: light curves of stars."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.arguments import as_of_option, open_snapshot, plot_option, readable_lake_argument
from skylake.cli.lightcurve_options import DATABASES, SUFFIXES, LightCurveOptions, lightcurve_options

if TYPE_CHECKING:
    import pyarrow as pa

    from skylake.lake import Snapshot
    from skylake.reading.curve_options import CurveOptions

_EXAMPLES = """\b
skylake lc LAKE 188.7362 -1.3958 --plot star.png
skylake lc LAKE "12:34:56.7 -01:23:45" --period 0.5467 --bin 20min -o star.ecsv
skylake lc LAKE "RR Lyr" --format aavso --observer ABC -o rr-lyr.txt
skylake lc LAKE --all --cone 188.7,-1.4,1800 -o field.parquet
"""


@click.command(
    short_help="Light curves of stars.",
    epilog=_EXAMPLES,
    context_settings={"ignore_unknown_options": True},  # so that -5.4 is a declination
)
@readable_lake_argument
@click.argument("words", nargs=-1, metavar="[STAR]…")
@lightcurve_options
@plot_option
@as_of_option
@click.pass_context
def lc(ctx: click.Context, /, lake: Path, as_of: str | None, **given: Any) -> None:
    """Print the light curve of one STAR, or of several, in all bands, as CSV.

    A STAR is a position (188.7362 -1.3958, or "12:34:56.7 -01:23:45"), the identifier of an object, its name in the
    catalog, or its name in a catalog of variable stars that was imported (VSX). A star that no catalog has gets a
    light curve from its detections.

    bjd_tdb is the barycentric time of mid-exposure in TDB, at the direction of the star and from the site of the
    camera: the time that transits and periods need. mjd_mid is the time on the clock (UTC).

    With --plot it is drawn, and written only to the file of -o: nothing is printed then.

    A star that is a target of its camera is measured on every frame that shows it. Its fluxes may be negative, which
    gives no magnitude; mag_limit is that of a flux of five times its error.
    """
    for word in given["words"]:
        if re.match(r"--?[A-Za-z]", word):
            raise click.NoSuchOption(word, ctx=ctx)
    options = LightCurveOptions(**given)
    snapshot = open_snapshot(lake, as_of)
    if options.is_all:
        export_field(snapshot, options)
        return
    stars = options.stars()
    if len(stars) > 1 or options.stars_file is not None:
        ctx.exit(1 if export_stars(snapshot, stars, options) else 0)
    export_star(snapshot, stars[0], options)


def export_star(snapshot: Snapshot, star: str, options: LightCurveOptions) -> None:
    """Write the light curve of one star, and its picture."""
    curve = _curve_of(snapshot, star, options)
    _say_what_it_is(curve)
    if options.plot is not None:
        _write_picture(snapshot, curve, options)
    if options.out is not None or options.plot is None:
        _write(snapshot, curve, star, options, _file_of(star, options))


def _curve_of(snapshot: Snapshot, star: str, options: LightCurveOptions) -> dict[str, Any]:
    from skylake.report.stars.star_curves import star_curve

    curve = options.point_choice(snapshot).chosen(star_curve(snapshot, star, options.curve_choice))
    return _detrended(snapshot, curve, options)


def _detrended(snapshot: Snapshot, curve: dict[str, Any], options: LightCurveOptions) -> dict[str, Any]:
    from skylake.errors import UsageError
    from skylake.reading.curve_options import detrended

    if options.duration is not None and (options.detrend != "joint" or options.period is None):
        raise UsageError("--duration is that of a transit; add --detrend joint, --period and --epoch")
    given: CurveOptions = {"detrend": options.detrend, "duration_d": options.duration}
    given |= {"period_d": options.period, "epoch_bjd": options.epoch}
    return detrended(snapshot, curve, given)


def _say_what_it_is(curve: dict[str, Any]) -> None:
    """Say on standard error what a table of measurements does not."""
    for band in curve["bands"]:
        if curve["measured"] == "forced" and "flux_used" in band:
            which = f"{band.get('camera')} {band['band']}: flux {band['flux_used']}, in which such stars repeat best"
            click.echo(f"{which}; --flux calibrated gives that of the zeropoints", err=True)
    for band in curve.get("detrended", ()):
        click.echo(_how_detrended(band), err=True)
    if curve["catalog"] == "sources":
        click.echo(
            f"no catalog has the star {curve['object_id']}: these are its detections, with magnitudes of a star of "
            "the pivot colour; mag_systematic_err has the range of colours",
            err=True,
        )


def _how_detrended(band: dict[str, Any]) -> str:
    """Return how a light curve was detrended, in words."""
    where = (
        f"from the table {band['table']}" if "table" in band else f"with {band['n_stars'] - 1} stars around"
    )
    text = f"{band['camera']} {band['band']}: {band['detrended']} magnitudes, {where}"
    if band.get("period_d") is None:
        return text + ("; no signal was fitted" if band["detrended"] == "joint" else "")
    size = f"{1000 * band['amplitude']:.1f} +- {1000 * band['amplitude_err']:.1f} mmag"
    return f"{text}; signal of {band['period_d']:.6g} d, {size}"


def _table(curve: dict[str, Any], options: LightCurveOptions) -> pa.Table:
    from skylake.reading.lightcurves import points_table
    from skylake.report.stars.chosen_points import PointChoice

    choice = PointChoice(width_d=options.width, period_d=options.period, epoch_bjd=options.epoch)
    return choice.table(points_table(curve), choice.fold(curve))


def _write(
    snapshot: Snapshot, curve: dict[str, Any], star: str, options: LightCurveOptions, out: Path | None
) -> None:
    from skylake.cli.output import write_table, write_text

    if options.form in DATABASES:
        write_text(_submission(snapshot, curve, star, options), out)
    else:
        write_table(_table(curve, options), out, options.form)


def _submission(snapshot: Snapshot, curve: dict[str, Any], star: str, options: LightCurveOptions) -> str:
    from skylake.core.sky_positions import position_of
    from skylake.errors import UsageError
    from skylake.report.stars.submissions import Submission
    from skylake.report.stars.submitted_curves import check_star, magnitudes_by_frame, submitted

    if options.width is not None or options.period is not None:
        raise UsageError(f"--format {options.form} takes single measurements; leave out --bin and --period")
    is_name = position_of(star) is None and not star.isdigit()
    name = options.name or (star if is_name else str(curve["object_id"]))
    check = None
    if options.form == "aavso":
        check = check_star(snapshot, curve, options.check, options.curve_choice)
    check_name = "" if check is None else str(check["object_id"])
    about = Submission(name, options.observer, {}, check_name, magnitudes_by_frame(check))
    return submitted(snapshot, curve, str(options.form), about)


def _write_picture(snapshot: Snapshot, curve: dict[str, Any], options: LightCurveOptions) -> None:
    from skylake.cli.output import writing
    from skylake.report.stars.chosen_points import PointChoice
    from skylake.report.stars.star_picture import star_figure
    from skylake.report.stars.submitted_curves import check_star
    from skylake.report.style import save

    assert options.plot is not None
    choice = PointChoice(period_d=options.period, epoch_bjd=options.epoch)
    bins = None if options.width is None else _table(curve, options)
    check = check_star(snapshot, curve, options.check, options.curve_choice)
    if check is not None and options.detrend is not None:
        check = _detrended(snapshot, check, _without_signal(options))
    with writing(options.plot):
        save(star_figure(curve, choice.fold(curve), bins, check), options.plot)
    click.echo(f"wrote {options.plot}", err=True)


def _without_signal(options: LightCurveOptions) -> LightCurveOptions:
    """Return the options for a check star, which has no signal."""
    method = "epd" if options.detrend == "joint" else options.detrend
    return dataclasses.replace(options, detrend=method, period=None, epoch=None, duration=None)


def _file_of(star: str, options: LightCurveOptions) -> Path | None:
    """Return the file for a star: that of -o, or one in its folder."""
    if options.out is None or not options.out.is_dir():
        return options.out
    form = options.form or "csv"
    plain = re.sub(r"[^A-Za-z0-9.+-]+", "_", star).strip("_")
    return options.out / f"{plain}.{SUFFIXES.get(form, form)}"


def export_stars(snapshot: Snapshot, stars: list[str], options: LightCurveOptions) -> int:
    """Write the light curves of several stars, and return how many are not there."""
    import pyarrow as pa

    from skylake.cli.output import write_table
    from skylake.errors import LakeError, UsageError

    if options.plot is not None:
        raise UsageError("--plot draws one star; name one")
    one_each = options.out is not None and options.out.is_dir()
    if options.form in DATABASES and not one_each:
        raise UsageError(f"--format {options.form} is a file for each star; name a folder, as in -o curves/")
    missing, tables = 0, []
    for star in stars:
        try:
            curve = _curve_of(snapshot, star, options)
        except LakeError as error:
            show.complain(str(error))
            missing += 1
            continue
        if one_each:
            _write(snapshot, curve, star, options, _file_of(star, options))
        else:
            tables.append(_with_star(_table(curve, options), curve, star))
    if tables:
        write_table(pa.concat_tables(tables, promote_options="permissive"), options.out, options.form)
    elif not one_each:
        raise LakeError(f"none of the {len(stars)} stars has a light curve")
    return missing


def _with_star(points: pa.Table, curve: dict[str, Any], star: str) -> pa.Table:
    """Return points with columns that say whose they are, in front."""
    import pyarrow as pa

    n = points.num_rows
    own = {"star": pa.array([star] * n, pa.string())}
    for name in ("object_id", "catalog", "ra_deg", "dec_deg", "measured"):
        own[name] = pa.array([curve[name]] * n)
    for number, (name, values) in enumerate(own.items()):
        points = points.add_column(number, name, values)
    return points


def export_field(snapshot: Snapshot, options: LightCurveOptions) -> None:
    """Write the light curves of all stars of a part of the sky, some at a time."""
    from skylake.cli.stream_tables import write_each_star, write_stream
    from skylake.errors import UsageError
    from skylake.report.stars.field_export import field_points

    choice, points = options.curve_choice, options.point_choice(snapshot)
    if options.version is not None or choice.flux != "best" or points.width_d or points.period_d:
        raise UsageError(
            "--all exports measurements as the light curves have them; leave out --flux, --version, --bin and --period"
        )
    if options.detrend is not None:
        raise UsageError(
            "--all exports measurements as they are; `skylake detrend` makes a table of all stars"
        )
    if options.form in DATABASES or options.plot is not None:
        raise UsageError("--all writes tables; leave out --plot, and name a format of tables")
    region = options.region()
    if options.out is None:
        raise UsageError("--all writes files; name one, or a folder, by -o")
    tables = (points.rows(one) for one in field_points(snapshot, region, choice.measured))
    if options.out.is_dir():
        write_each_star(tables, options.out, options.form or "csv")
    else:
        write_stream(tables, options.out, options.form)
