"""``skylake lc``: light curves of stars."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import click

from skylake.cli.arguments import as_of_option, open_snapshot, plot_option, readable_lake_argument
from skylake.cli.camera_names import require_camera
from skylake.cli.lightcurves.lightcurve_of_star import export_star
from skylake.cli.lightcurves.lightcurve_options import LightCurveOptions, lightcurve_options
from skylake.cli.lightcurves.lightcurves_of_many import export_field, export_stars

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
