"""``skylake lc``: light curves of stars."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.arguments import as_of_option, open_snapshot, plot_option, readable_lake_argument
from skylake.cli.camera_names import require_camera
from skylake.cli.lightcurve_options import DATABASES, SUFFIXES, LightCurveOptions, lightcurve_options
from skylake.core.counted import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from skylake.errors import SkylakeError
    from skylake.lake import Snapshot
    from skylake.reading.curve_options import CurveOptions
    from skylake.report.stars.star_list import ListedStar
    from skylake.sky.sky_region import SkyRegion

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

    If some of several stars are not there, or cannot be given as you ask, they are named with the reason, the others
    are written, and the exit status is 1.
    """
    for word in given["words"]:
        if re.match(r"--?[A-Za-z]", word):
            raise click.NoSuchOption(word, ctx=ctx)
    options = LightCurveOptions(**given)
    options.require_agreement()
    snapshot = open_snapshot(lake, as_of)
    if options.camera is not None:
        options = dataclasses.replace(options, camera=require_camera(snapshot, options.camera))
    if options.is_all:
        ctx.exit(1 if export_field(snapshot, options) else 0)
    stars = options.stars()
    if len(stars) > 1 or options.stars_file is not None:
        ctx.exit(1 if export_stars(snapshot, stars, options) else 0)
    export_star(snapshot, stars[0], options)


def export_star(snapshot: Snapshot, listed: ListedStar, options: LightCurveOptions) -> None:
    """Write the light curve of one star, and its picture."""
    curve, star = _curve_of(snapshot, listed, options)
    _say_what_it_is(curve, options)
    _say_who_else_saw_it(snapshot, listed, curve, options)
    _say_what_is_lost(curve["n_lost"], options)
    if options.plot is not None:
        _write_picture(snapshot, curve, options)
    if options.out is not None or options.plot is None:
        made = _result(snapshot, curve, listed.called, options)
        _write(made, curve, listed.called, options, _file_of(star, options))


def _curve_of(
    snapshot: Snapshot, listed: ListedStar, options: LightCurveOptions
) -> tuple[dict[str, Any], str]:
    """Return the light curve of a star, and by what it was found."""
    from skylake.report.stars.star_curves import listed_curve

    curve, star = listed_curve(snapshot, listed, options.curve_choice)
    points = options.point_choice(snapshot)
    # Counted before it is detrended, which may leave out points too.
    n_lost = _n_lost(snapshot, listed, curve, options)
    return _detrended(snapshot, points.chosen(curve), options) | {"n_lost": n_lost}, star


def _detrended(snapshot: Snapshot, curve: dict[str, Any], options: LightCurveOptions) -> dict[str, Any]:
    from skylake.reading.curve_options import detrended

    given: CurveOptions = {"detrend": options.detrend, "duration_d": options.duration}
    given |= {"period_d": options.period, "epoch_bjd": options.epoch}
    return detrended(snapshot, curve, given)


def _say_what_it_is(curve: dict[str, Any], options: LightCurveOptions) -> None:
    """Say on standard error what a table of measurements does not."""
    from skylake.report.stars.which_star import best_fluxes, doubt_about_star, found_at_position

    if found := found_at_position(curve):
        click.echo(found, err=True)
    if doubt := doubt_about_star(curve):
        show.complain(doubt)
    for sentence in best_fluxes(curve) if options.flux == "best" else ():
        click.echo(f"{sentence} (--flux calibrated uses the flux of the zeropoints)", err=True)
    for band in curve.get("detrended", ()):
        click.echo(_how_detrended(band), err=True)
    if curve["catalog"] == "sources":
        click.echo(
            f"star {curve['object_id']} is in no catalog, so this is the light curve of its detections; its colour is "
            "unknown: magnitudes assume the pivot colour, and mag_systematic_err allows for other colours",
            err=True,
        )


def _say_who_else_saw_it(
    snapshot: Snapshot, listed: ListedStar, curve: dict[str, Any], options: LightCurveOptions
) -> None:
    """Say on standard error which cameras have detections of a target of others."""
    from skylake.report.stars.star_curves import detected_elsewhere

    for camera, count in sorted(detected_elsewhere(snapshot, listed, options.curve_choice, curve).items()):
        click.echo(
            f"{camera} has {counted(count, 'detection')} of this star, which is no target of it (--camera {camera} "
            "writes them)",
            err=True,
        )


def _n_lost(snapshot: Snapshot, listed: ListedStar, curve: dict[str, Any], options: LightCurveOptions) -> int:
    """Return how many points of a star are on frames that the version that is asked for did not calibrate."""
    from skylake.report.stars.star_curves import listed_curve

    if options.version is None:
        return 0
    in_force, _ = listed_curve(snapshot, listed, dataclasses.replace(options.curve_choice, version=None))
    return options.point_choice(snapshot).n_lost(curve, in_force)


def _say_what_is_lost(n_points: int, options: LightCurveOptions) -> None:
    if n_points:
        show.complain(
            f"left out: {counted(n_points, 'point')} of frames without version {options.version} of the calibration"
        )


def _how_detrended(band: dict[str, Any]) -> str:
    """Return how a light curve was detrended, in words."""
    stars = f"{band['n_stars'] - 1} stars around"
    # Stars around a target are targets, unless these are too few.
    stars = f"the detections of {stars}" if "around" in band else stars
    where = f"from the table {band['table']}" if "table" in band else f"with {stars}"
    text = f"{band['camera']} {band['band']}: {band['detrended']} magnitudes, {where}"
    if "reason" in band:
        return f"{text}; {band['reason']}"
    if band.get("signal") is None:
        return text + ("; no signal was fitted" if band["detrended"] == "joint" else "")
    size = f"{1000 * band['amplitude']:.1f} +- {1000 * band['amplitude_err']:.1f} mmag"
    if band["signal"] == "wave":
        return f"{text}; a wave of {band['period_d']:.6g} d, from brightest to faintest {size}"
    when = f"at BJD {band['epoch_bjd']:.4f}" if band["signal"] == "dip" else f"every {band['period_d']:.6g} d"
    return f"{text}; a dip of {24 * band['duration_d']:.2g} h {when}, {size} deep"


def _table(snapshot: Snapshot, curve: dict[str, Any], options: LightCurveOptions) -> pa.Table:
    from skylake.reading.lightcurves import points_table

    return options.point_choice(snapshot).table(points_table(curve))


def _result(
    snapshot: Snapshot, curve: dict[str, Any], called: str, options: LightCurveOptions
) -> pa.Table | str:
    """Return what is written of a star: the text that a database takes, or a table."""
    if options.form in DATABASES:
        return _submission(snapshot, curve, called, options)
    return _table(snapshot, curve, options)


def _write(
    made: pa.Table | str, curve: dict[str, Any], called: str, options: LightCurveOptions, out: Path | None
) -> None:
    from skylake.cli.output import write_table, write_text

    if isinstance(made, str):
        write_text(made, out)
    else:
        about: dict[str, str | float] = {
            "object": _name(curve, called),
            "star": str(curve["object_id"]),
            "catalog": curve["catalog"],
            "ra_deg": round(curve["ra_deg"], 7),
            "dec_deg": round(curve["dec_deg"], 7),
        }
        if "detrended" in curve:
            about["detrended"] = "; ".join(map(_how_detrended, curve["detrended"]))
        write_table(made, out, options.form, about)


def _name(curve: dict[str, Any], called: str) -> str:
    """Return what a star is called, or its identifier if that is a position or a number."""
    from skylake.core.sky_positions import position_of

    is_number = called.removeprefix(f"{curve['catalog']}:").isdigit()
    return str(curve["object_id"]) if is_number or position_of(called) is not None else called


def _submission(snapshot: Snapshot, curve: dict[str, Any], called: str, options: LightCurveOptions) -> str:
    from skylake.report.stars.submissions import Submission
    from skylake.report.stars.submitted_curves import magnitudes_by_frame, submitted

    check = _check_star(snapshot, curve, options) if options.form == "aavso" else None
    check_name = "" if check is None else str(check["object_id"])
    about = Submission(_name(curve, called), options.observer, {}, check_name, magnitudes_by_frame(check))
    text, n_left_out = submitted(snapshot, curve, str(options.form), about, options.version)
    if n_left_out:
        show.complain(
            f"left out: {counted(n_left_out, 'point')} on frames without an airmass, which EXOTIC fits"
        )
    return text


def _check_star(
    snapshot: Snapshot, curve: dict[str, Any], options: LightCurveOptions
) -> dict[str, Any] | None:
    """Return the check star, detrended if the star is; None without one."""
    from skylake.errors import LakeError
    from skylake.report.stars.submitted_curves import check_star

    check = check_star(snapshot, curve, options.check, options.curve_choice)
    if check is None or options.detrend is None:
        return check
    # It has no signal. Of few nights the star itself was not detrended by more than its ensemble.
    used = {str(band["detrended"]) for band in curve["detrended"]}
    method = options.detrend if options.detrend != "joint" else "epd" if "joint" in used else "ensemble"
    plain = dataclasses.replace(options, detrend=method, period=None, epoch=None, duration=None)
    try:
        return _detrended(snapshot, check, plain)
    except LakeError as error:
        if options.check is not None:
            raise
        show.complain(f"there is no check star, as the one that was chosen cannot be detrended: {error}")
        return None


def _write_picture(snapshot: Snapshot, curve: dict[str, Any], options: LightCurveOptions) -> None:
    from skylake.cli.output import writing
    from skylake.report.stars.chosen_points import PointChoice
    from skylake.report.stars.star_picture import star_figure
    from skylake.report.style import save

    assert options.plot is not None
    choice = PointChoice(period_d=options.period, epoch_bjd=options.epoch)
    bins = None if options.width is None else _table(snapshot, curve, options)
    check = _check_star(snapshot, curve, options)
    with writing(options.plot):
        save(star_figure(curve, choice.fold(curve), bins, check), options.plot)
    click.echo(f"wrote {options.plot}", err=True)


def _file_of(star: str, options: LightCurveOptions) -> Path | None:
    """Return the file for a star: that of -o, or one in its folder."""
    if options.out is None or not options.out.is_dir():
        return options.out
    form = options.form or "csv"
    plain = re.sub(r"[^A-Za-z0-9.+-]+", "_", star).strip("_")
    return options.out / f"{plain}.{SUFFIXES.get(form, form)}"


def export_stars(snapshot: Snapshot, stars: list[ListedStar], options: LightCurveOptions) -> int:
    """Write the light curves of several stars, and return how many cannot be given."""
    import pyarrow as pa

    from skylake.cli.output import write_table
    from skylake.errors import LakeError, StarError, UsageError
    from skylake.report.stars.which_star import doubt_about_star, found_at_position, unknown_identifiers

    if options.plot is not None:
        raise UsageError("--plot draws one star; name one")
    one_each = options.out is not None and options.out.is_dir()
    if options.form in DATABASES and not one_each:
        raise UsageError(f"--format {options.form} is a file for each star; name a folder, as in -o curves/")
    if not stars:
        raise UsageError(f"{options.stars_file}: the file names no star; write one on each line")
    left_out, lines, tables, by_place, n_lost = _LeftOut(), [], [], list[str](), 0
    for listed in stars:
        try:
            curve, star = _curve_of(snapshot, listed, options)
            made = _result(snapshot, curve, listed.called, options)
        except (LakeError, StarError) as error:
            if len(stars) == 1:
                raise
            left_out.add(error)
            lines.append(f"left out: {listed.called}, because {error}")
            continue
        n_lost += curve["n_lost"]
        if star != (listed.object_id or star):
            by_place.append(listed.object_id)
        if one_each:
            _write(made, curve, listed.called, options, _file_of(star, options))
        else:
            tables.append(_with_star(made, curve, star))
        if doubt := doubt_about_star(curve):
            show.complain(f"{found_at_position(curve)}; {doubt}")
    if left_out.n == len(stars):
        raise left_out.as_one(f"the {len(stars)} stars", options)
    for line in lines:
        show.complain(line)
    _say_what_is_lost(n_lost, options)
    if by_place:
        n_identifiers = sum(bool(one.object_id) for one in stars)
        show.complain(unknown_identifiers(by_place, n_identifiers, options.radius))
    if tables:
        write_table(pa.concat_tables(tables, promote_options="permissive"), options.out, options.form)
    return left_out.n


@dataclasses.dataclass(slots=True)
class _LeftOut:
    """Stars that cannot be given, and why. Errors themselves are not kept: what they come from holds tables."""

    n: int = 0
    first: str = ""
    kinds: set[type[SkylakeError]] = dataclasses.field(default_factory=set)

    def add(self, error: SkylakeError) -> None:
        """Count a star."""
        self.first = self.first or str(error)
        self.kinds.add(type(error))
        self.n += 1

    def as_one(self, stars: str, options: LightCurveOptions) -> SkylakeError:
        """Return the error that says of all stars what was said of each."""
        from skylake.errors import LakeError, StarError
        from skylake.report.curves import FluxOfTargets

        if self.kinds == {FluxOfTargets}:
            why = (
                "--measured detected leaves out what is measured of targets"
                if options.curve_choice.measured == "detected"
                else f"none of {stars} is a target"
            )
            return FluxOfTargets(
                f"the flux {options.flux} is measured of targets only, and {why}; leave out --flux, or name aper1, "
                "aper2 or aper3"
            )
        kind = StarError if all(issubclass(one, StarError) for one in self.kinds) else LakeError
        return kind(f"none of {stars} can be given; the first not, because {self.first}")


def _with_star(points: pa.Table, curve: dict[str, Any], star: str | None = None) -> pa.Table:
    """Return points with columns that say whose they are, in front, and as what the star was asked for."""
    import pyarrow as pa

    n = points.num_rows
    own = {} if star is None else {"star": pa.array([star] * n, pa.string())}
    for name in ("object_id", "catalog", "ra_deg", "dec_deg", "measured"):
        own[name] = pa.array([curve[name]] * n)
    for number, (name, values) in enumerate(own.items()):
        points = points.add_column(number, name, values)
    return points


def export_field(snapshot: Snapshot, options: LightCurveOptions) -> int:
    """Write the light curves of all stars of a part of the sky, some at a time; return how many cannot be given."""
    from skylake.cli.stream_tables import write_each_star, write_stream
    from skylake.errors import UsageError

    if options.detrend is not None:
        raise UsageError(
            "--all exports measurements as they are; `skylake detrend` makes a table of all stars"
        )
    if options.form in DATABASES or options.plot is not None:
        raise UsageError("--all writes tables; leave out --plot, and name a format of tables")
    region = options.region()
    if options.out is None:
        raise UsageError("--all writes files; name one, or a folder, by -o")
    left_out = _LeftOut()
    tables = _tables_of_field(snapshot, region, options, left_out)
    if options.out.is_dir():
        write_each_star(tables, options.out, options.form or "csv")
    else:
        write_stream(tables, options.out, options.form)
    if left_out.n:
        show.complain(
            f"left out: {counted(left_out.n, 'star')} of the field; the first, because {left_out.first}"
        )
    return left_out.n


def _tables_of_field(
    snapshot: Snapshot, region: SkyRegion, options: LightCurveOptions, left_out: _LeftOut
) -> Iterator[pa.Table]:
    """Yield the points of all stars of a region, some at a time; of rare choices star by star."""
    from skylake.cli.stream_tables import in_one_schema
    from skylake.errors import LakeError
    from skylake.report.stars.field_export import field_points, field_stars, star_tables

    choice, points = options.curve_choice, options.point_choice(snapshot)
    if options.version is None and choice.flux in ("best", "calibrated"):
        pieces = field_points(snapshot, region, choice.measured, choice.flux)
    else:
        pieces = _star_by_star(snapshot, field_stars(snapshot, region, choice.measured), options, left_out)
    n_tables = 0
    for table in in_one_schema(star_tables(piece, points) for piece in points.of_pieces(pieces)):
        n_tables += 1
        yield table
    if not n_tables and choice.measured and any(field_stars(snapshot, region)):
        raise LakeError(
            f"no star there has a light curve of {choice.measured} measurements; leave out --measured"
        )


def _star_by_star(
    snapshot: Snapshot,
    stars: Iterable[tuple[str, int, str]],
    options: LightCurveOptions,
    left_out: _LeftOut,
) -> Iterator[pa.Table]:
    """Yield the points of each star; count the stars that cannot be given."""
    from skylake.errors import LakeError, StarError
    from skylake.reading.lightcurves import points_table
    from skylake.report.curves import require_flux_of_detections
    from skylake.report.stars.star_curves import star_curve
    from skylake.report.stars.star_list import ListedStar

    choice, n_given, n_lost = options.curve_choice, 0, 0
    for catalog, star, kind in stars:
        try:
            if kind == "detected":
                require_flux_of_detections(choice.flux)  # before its curve is read
            curve = star_curve(snapshot, f"{catalog}:{star}", choice)
        except (LakeError, StarError) as error:
            left_out.add(error)
            continue
        n_given += 1
        n_lost += _n_lost(snapshot, ListedStar(f"{star}", f"{catalog}:{star}"), curve, options)
        yield _with_star(points_table(curve), curve)
    if left_out.n and not n_given:
        raise left_out.as_one("the stars of the field", options)
    _say_what_is_lost(n_lost, options)
