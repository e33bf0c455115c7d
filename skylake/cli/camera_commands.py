"""``skylake camera``: profiles, and how they read headers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion, show
from skylake.cli.arguments import camera_option, lake_argument, open_lake
from skylake.cli.learn_commands import geometry, learn
from skylake.cli.output import writing

if TYPE_CHECKING:
    from skylake.cameras import Profile


_CHECK_EXAMPLE = """\b
skylake camera check --camera sim night/frame-0042.fits
skylake camera check --camera raw.toml --lake LAKE night/*.fits
"""
_NEW_EXAMPLE = """\b
skylake camera new night/*.fits -o my-camera.toml
skylake camera new night/*.fits --name piggyback > piggyback.toml
"""


@click.group()
def camera() -> None:
    """Camera profiles, how they read headers, and the distortion of cameras."""


camera.add_command(learn)
camera.add_command(geometry)


@camera.command("list")
@show.as_json
def list_(as_json: bool) -> None:
    """List the profiles that come with skylake."""
    from skylake import cameras

    profiles = [(name, cameras.load(name).base.description) for name in cameras.names()]
    value = [{"name": name, "description": text} for name, text in profiles]
    show.result(value, as_json, lambda: show.table(profiles, ["name", "description"]))


@camera.command("show")
@click.argument("name", shell_complete=completion.profiles)
@click.option("--at", "date", metavar="DATE", help="Show the camera as it was on a date, such as 2013-06-10.")
@show.as_json
def show_(name: str, date: str | None, as_json: bool) -> None:
    """Show the profile NAME (or a .toml file), with its dated blocks, as TOML.

    It is complete: what it has from other profiles is in it, and comments show the keys that have their default.
    """
    from skylake import cameras
    from skylake.cameras.clock_times import calendar_mjd
    from skylake.cameras.profile_json import camera_to_json, to_json
    from skylake.cameras.profile_toml import camera_to_toml, to_toml
    from skylake.errors import UsageError

    profile = cameras.load(name)
    if date is None:
        click.echo((to_json if as_json else to_toml)(profile), nl=False)
        return
    parts = date.split("-")
    mjd = (
        calendar_mjd(*map(int, parts)) if len(parts) == 3 and all(part.isdigit() for part in parts) else None
    )
    if mjd is None:
        raise UsageError(f"{date!r} is no date; write it as 2013-06-10")
    click.echo((camera_to_json if as_json else camera_to_toml)(profile.at(mjd)), nl=False)


@camera.command(epilog=_NEW_EXAMPLE)
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE…",
)
@click.option(
    "--name", metavar="NAME", help="Name of the camera; default: that of the instrument in the headers."
)
@click.option(
    "-o",
    "out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="New .toml file to write.",
)
def new(files: tuple[Path, ...], name: str | None, out: Path | None) -> None:
    """Write a profile for the camera of some frames, as TOML: what headers show, with units, and what is missing.

    FILE… are some frames of the sky, best of several filters and exposures. Values that no header shows stand in it
    as comments. See through it, then try it with `skylake camera check`.
    """
    from skylake.cli.camera_draft import draft_profile
    from skylake.core.batch import is_plain_name
    from skylake.errors import UsageError

    if name is not None and not is_plain_name(name):
        raise UsageError(f"--name {name!r}: use letters, digits, '.', '_' and '-'")
    text = draft_profile(files, name)
    if out is None:
        click.echo(text, nl=False)
        return
    with writing(out):
        try:
            with out.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise UsageError(f"{out}: it exists, and may hold what you have added; name a new file") from None
    click.echo(
        f"wrote {out}; next: skylake camera check --camera {shlex.quote(str(out))} {shlex.quote(str(files[0]))}"
    )


@camera.command(epilog=_CHECK_EXAMPLE)
@click.option(
    "--camera",
    "-c",
    "name",
    default="generic",
    show_default=True,
    metavar="C",
    help="Profile, or a .toml file.",
    shell_complete=completion.profiles,
)
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE…",
)
@click.option(
    "--lake",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="LAKE",
    help="Lake with the masters and photon transfers that raw frames are compared with.",
)
@show.as_json
@click.pass_context
def check(ctx: click.Context, name: str, files: tuple[Path, ...], lake: Path | None, as_json: bool) -> None:
    """Show what the header of each FILE gives under a profile, and from which card.

    With --lake the masters that an ingest would take are named; without it those that the steps need are a note. For a
    bias, dark or flat frame it shows which kind `skylake calib build` would make of it. A table at the end shows what
    frames contradict in their header or the profile, with both values, and which is taken. The exit status is 1 if a
    frame could not be processed. A frame whose profile says header.wcs = "none" can be: an ingest finds where it
    points from its stars, if the lake has a catalog.
    """
    from skylake import cameras
    from skylake.cli.camera_check import check_file

    chips = cameras.load_chips(name)
    snapshot = None if lake is None else open_lake(lake).snapshot()
    checked = [
        check_file(file, chip, snapshot) for file in files for chip in chips if _belongs_to(chip, chips, file)
    ]

    def text() -> None:
        for file in checked:
            taken = file["taken_as"] and f"{file['taken_as']}, no frame of the sky"
            click.echo(f"{file['file']}: {'ok' if file['usable'] else taken or file['reason']}")
            if file["message"]:
                click.echo(f"  {file['message']}")
            if file["readings"]:
                show.table(
                    [
                        (f"  {r['quantity']}", _short(r["value"]), r["source"], r["verdict"], r["note"])
                        for r in file["readings"]
                    ],
                    ["  quantity", "value", "from", "verdict", "note"],
                )
            click.echo()
        doubts = [_doubt_row(file["file"], doubt) for file in checked for doubt in file["doubts"]]
        if doubts:
            show.table(doubts, ["file", "doubted", "what the frame says", "taken", "why"])

    show.result(checked, as_json, text)
    ctx.exit(0 if all(file["usable"] or file["taken_as"] for file in checked) else 1)


def _belongs_to(profile: Profile, chips: tuple[Profile, ...], file: Path) -> bool:
    """Return whether a file is read under the profile of a chip, as an ingest would."""
    from skylake.flow.ingest.multi_detector import chips_of_files

    if not profile.base.place.has_own_files:
        return True
    return chips[chips_of_files([str(file)], chips)[0]] is profile


def _doubt_row(file: str, doubt: dict[str, Any]) -> tuple[str, str, str, str, str]:
    stated = ", ".join(f"{source} = {value}" for source, value in doubt["stated"])
    return file, doubt["quantity"], stated, doubt["taken"] or "none", doubt["sentence"]


def _short(value: object) -> object:
    return f"{value:.8f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


_MOSAIC_COLUMNS = [
    "chip",
    "x_arcsec",
    "x_err_arcsec",
    "y_arcsec",
    "y_err_arcsec",
    "angle_deg",
    "angle_err_deg",
    "scale_arcsec",
    "dx_arcsec",
    "dy_arcsec",
    "dangle_deg",
    "exposures",
    "scatter_arcsec",
]


@camera.command()
@lake_argument
@camera_option
@show.as_json
@click.pass_context
def mosaic(ctx: click.Context, lake: Path, camera_name: str, as_json: bool) -> None:
    """Learn where the chips of a camera are in its focal plane, from all its frames in LAKE.

    Offsets and angles are those of all exposures together, with errors, beside those of the profile (dx, dy,
    dangle); they are kept in the lake, and later frames start from them. `skylake ingest` does the same after
    each night.
    Frames whose header gives another rotation than their stars, or that contradict the other chips, are named;
    the exit status is 1 then.
    """
    from dataclasses import asdict

    from skylake import cameras
    from skylake.errors import UsageError
    from skylake.flow.astrometry.learn_focal_plane import learn_focal_plane

    chips = cameras.load_chips(camera_name)
    if len(chips) < 2:
        raise UsageError(f"{camera_name}: the profile has no [[chip]]; there is nothing to learn")
    report = learn_focal_plane(open_lake(lake), chips)

    def text() -> None:
        show.table([[row[name] for name in _MOSAIC_COLUMNS] for row in report.chips], _MOSAIC_COLUMNS)
        if report.telescope:
            telescope = report.telescope
            turn, scatter = telescope["rotation_deg"], telescope["rotation_scatter_deg"]
            click.echo(
                f"telescope: {telescope['frames']} frames are {telescope['offset_arcsec']:.1f} arcsec from where "
                f"cards put them, turned by {turn:.3f} +- {scatter:.3f} degrees"
            )

    show.result(asdict(report), as_json, text)
    for frame in report.odd:
        show.complain(f"{frame['file']}: {frame['why']}")
    if report.apart:
        show.complain(
            f"{', '.join(report.apart)}: no exposure in common connects them with the other chips, so where they are "
            "to these is not known"
        )
    if not report.chips:
        show.complain("no chip shares two exposures with another in which stars show where both point")
    ctx.exit(1 if report.odd or not report.chips else 0)
