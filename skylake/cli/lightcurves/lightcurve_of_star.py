"""Write the light curve of one star: a table, a picture, or the text that a database takes."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.lightcurves.lightcurve_options import DATABASES, SUFFIXES, LightCurveOptions
from skylake.core.counted import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from skylake.lake import Snapshot
    from skylake.reading.curve_options import CurveOptions
    from skylake.report.stars.left_out import LeftOut
    from skylake.report.stars.star_list import ListedStar


def export_star(snapshot: Snapshot, listed: ListedStar, options: LightCurveOptions) -> None:
    """Write the light curve of one star, and its picture."""
    curve, star = curve_of(snapshot, listed, options)
    _say_what_it_is(curve, options)
    _say_who_else_saw_it(snapshot, listed, curve, options)
    left_out = curve["left_out"]
    if options.plot is not None:
        _write_picture(snapshot, curve, options)
    if options.out is not None or options.plot is None:
        made, left_out = written_form(snapshot, curve, listed.called, options)
        write_curve(made, curve | {"left_out": left_out}, listed.called, options, file_of(star, options))
    say_what_is_left_out(left_out)


def curve_of(
    snapshot: Snapshot, listed: ListedStar, options: LightCurveOptions
) -> tuple[dict[str, Any], str]:
    """Return the light curve of a star, with what is left out of it, and by what it was found."""
    from skylake.report.stars.left_out import left_out_points
    from skylake.report.stars.star_curves import listed_curve

    curve, star = listed_curve(snapshot, listed, options.curve_choice)
    chosen = options.point_choice(snapshot).chosen(curve)
    made = _detrended(snapshot, chosen, options)
    kept = {point["frame_id"] for point in made["points"]}
    lost = [point for point in chosen["points"] if point["frame_id"] not in kept]
    left_out = left_out_points(lost, "on frames with too few stars around") + lost_of_version(
        snapshot, listed, curve, options
    )
    return made | {"left_out": left_out}, star


def _detrended(snapshot: Snapshot, curve: dict[str, Any], options: LightCurveOptions) -> dict[str, Any]:
    from skylake.reading.curve_options import detrended

    given: CurveOptions = {"detrend": options.detrend, "duration_d": options.duration}
    given |= {"period_d": options.period, "epoch_bjd": options.epoch}
    return detrended(snapshot, curve, given)


def _say_what_it_is(curve: dict[str, Any], options: LightCurveOptions) -> None:
    """Say on standard error what a table of measurements does not."""
    from skylake.report.stars.which_star import (
        RELATIVE_NOTE,
        best_fluxes,
        doubt_about_star,
        found_at_position,
    )

    if found := found_at_position(curve):
        click.echo(found, err=True)
    if doubt := doubt_about_star(curve):
        show.complain(doubt)
    for sentence in best_fluxes(curve) if options.flux == "best" else ():
        click.echo(f"{sentence} (--flux calibrated uses the flux of the zeropoints)", err=True)
    for band in curve.get("detrended", ()):
        click.echo(_how_detrended(band), err=True)
    if curve["measured"] == "relative":
        click.echo(RELATIVE_NOTE, err=True)
    elif curve["catalog"] == "sources":
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


def lost_of_version(
    snapshot: Snapshot, listed: ListedStar, curve: dict[str, Any], options: LightCurveOptions
) -> LeftOut:
    """Return how many points of a star are on frames that the version that is asked for did not calibrate."""
    from skylake.report.stars.star_curves import listed_curve

    if options.version is None:
        return Counter()
    in_force, _ = listed_curve(snapshot, listed, dataclasses.replace(options.curve_choice, version=None))
    n_lost = options.point_choice(snapshot).n_lost(curve, in_force)
    return +Counter({f"of frames without version {options.version} of the calibration": n_lost})


def say_what_is_left_out(left_out: LeftOut) -> None:
    """Say on standard error how many points an export leaves out, and why."""
    from skylake.report.stars.left_out import left_out_in_words

    if left_out:
        show.complain(left_out_in_words(left_out))


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


def written_form(
    snapshot: Snapshot, curve: dict[str, Any], called: str, options: LightCurveOptions
) -> tuple[pa.Table | str, LeftOut]:
    """Return what is written of a star, the text that a database takes or a table, and what is left out of it."""
    from skylake.reading.lightcurves import points_table

    if options.form in DATABASES:
        return _submission(snapshot, curve, called, options)
    choice, points = options.point_choice(snapshot), points_table(curve)
    return choice.table(points), curve["left_out"] + choice.left_out(points)


def write_curve(
    made: pa.Table | str, curve: dict[str, Any], called: str, options: LightCurveOptions, out: Path | None
) -> None:
    """Write what is made of a star, with a header that says which star it is."""
    from skylake.cli.output import write_table, write_text
    from skylake.report.stars.left_out import left_out_in_words

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
        if curve["measured"] == "relative":
            about["relative_to"] = "the stars of its field"
        if "detrended" in curve:
            about["detrended"] = "; ".join(map(_how_detrended, curve["detrended"]))
        if curve["left_out"]:
            about["left_out"] = left_out_in_words(curve["left_out"]).removeprefix("left out: ")
        write_table(made, out, options.form, about)


def _name(curve: dict[str, Any], called: str) -> str:
    """Return what a star is called, or its identifier if that is a position or a number."""
    from skylake.core.sky_positions import position_of

    is_number = called.removeprefix(f"{curve['catalog']}:").isdigit()
    return str(curve["object_id"]) if is_number or position_of(called) is not None else called


def _submission(
    snapshot: Snapshot, curve: dict[str, Any], called: str, options: LightCurveOptions
) -> tuple[str, LeftOut]:
    from skylake.report.stars.submissions import Submission
    from skylake.report.stars.submitted_curves import magnitudes_by_frame, submitted

    check = _check_star(snapshot, curve, options) if options.form == "aavso" else None
    check_name = "" if check is None else str(check["object_id"])
    about = Submission(_name(curve, called), options.observer, {}, check_name, magnitudes_by_frame(check))
    return submitted(snapshot, curve, str(options.form), about, options.version)


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
    from skylake.reading.lightcurves import points_table
    from skylake.report.stars.chosen_points import PointChoice
    from skylake.report.stars.star_picture import star_figure
    from skylake.report.style import save

    assert options.plot is not None
    choice = PointChoice(period_d=options.period, epoch_bjd=options.epoch)
    bins = None if options.width is None else options.point_choice(snapshot).table(points_table(curve))
    check = _check_star(snapshot, curve, options)
    with writing(options.plot):
        save(star_figure(curve, choice.fold(curve), bins, check), options.plot)
    click.echo(f"wrote {options.plot}", err=True)


def file_of(star: str, options: LightCurveOptions) -> Path | None:
    """Return the file for a star: that of -o, or one in its folder."""
    if options.out is None or not options.out.is_dir():
        return options.out
    form = options.form or "csv"
    plain = re.sub(r"[^A-Za-z0-9.+-]+", "_", star).strip("_")
    return options.out / f"{plain}.{SUFFIXES.get(form, form)}"
