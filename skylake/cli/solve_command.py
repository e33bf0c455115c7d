"""``skylake solve``: where frames point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion, show
from skylake.cli.arguments import Number, declination, open_snapshot, right_ascension

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skylake.cameras import Profile
    from skylake.flow.astrometry.solve_frames import SolvedFrame
    from skylake.image.solving.solve_parameters import SolveParams

_EXAMPLE = """\b
skylake solve night/*.fits --lake LAKE --scale 3.4 3.8
skylake solve frame.fits --lake LAKE --centre 83.6 -5.4 --radius 3 --write --plot --out solved
skylake solve night.fits --lake LAKE --camera allsky-magic --all-sky
"""
#: Columns that people see of a frame; --json shows all.
_COLUMNS = [
    "file",
    "status",
    "ra_deg",
    "dec_deg",
    "scale_arcsec",
    "n_matched",
    "rms_px",
    "rms_arcsec",
    "held_out_px",
    "completeness",
    "log_odds",
    "seconds",
]
_ALL_SKY_COLUMNS = [
    "file",
    "status",
    "ra_deg",
    "dec_deg",
    "n_matched",
    "rms_px",
    "rms_arcsec",
    "held_out_px",
    "order",
    "tilt_deg",
    "log_odds",
    "seconds",
]


@click.command(
    short_help="Find where frames point, blindly or near what is known.",
    epilog=_EXAMPLE,
    context_settings={"ignore_unknown_options": True},  # so that -5.4 is a declination
)
@click.argument(
    "frames", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FRAME…"
)
@click.option(
    "--lake",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="LAKE",
    help="Lake whose catalog has the stars.",
)
@click.option(
    "--catalog",
    metavar="NAME",
    help="Catalog of the lake; the one that solves the camera otherwise.",
    shell_complete=completion.catalogs,
)
@click.option(
    "--camera",
    "-c",
    "camera_name",
    default="generic",
    show_default=True,
    metavar="C",
    help="Camera profile: image of a file, trimming, detection, scale.",
    shell_complete=completion.profiles,
)
@click.option(
    "--scale",
    nargs=2,
    type=Number(0, 1e6, min_open=True),
    metavar="LOW HIGH",
    help="Limits of the scale, arcsec per pixel.",
)
@click.option(
    "--centre",
    type=(right_ascension, declination),
    metavar="RA DEC",
    help="Where the frames point, about; degrees.",
)
@click.option(
    "--radius",
    type=Number(0, 180, min_open=True),
    default=5.0,
    show_default=True,
    metavar="DEG",
    help="How far from --centre they may point.",
)
@click.option(
    "--rotation",
    type=(Number(-360, 360), Number(0, 180, min_open=True)),
    metavar="ANGLE TOLERANCE",
    help="Position angle of the y axis, east of north, and its error; degrees.",
)
@click.option(
    "--mirrored/--not-mirrored",
    "mirrored",
    default=None,
    help="Whether x runs to the east where y runs to the north; both are tried otherwise.",
)
@click.option(
    "--seconds",
    type=Number(min=0, min_open=True),
    default=1.8,
    show_default=True,
    metavar="S",
    help="Time of the processor after which a frame is given up.",
)
@click.option(
    "--solver",
    type=click.Choice(["skylake", "astrometry.net"]),
    default="skylake",
    show_default=True,
    help="astrometry.net: its program solve-field, with its own index files.",
)
@click.option(
    "--all-sky",
    is_flag=True,
    help="The camera sees the whole sky: site and time come from its profile and the header.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where headers or copies go; beside the frames otherwise.",
)
@click.option("--write", is_flag=True, help="Write a copy of the frame with the WCS, not the WCS alone.")
@click.option("--plot", is_flag=True, help="Draw what is left of each star, and the distortion of the lens.")
@show.as_json
@click.pass_context
def solve(
    ctx: click.Context,
    /,
    frames: tuple[Path, ...],
    lake: Path,
    catalog: str | None,
    camera_name: str,
    solver: str,
    all_sky: bool,
    out: Path | None,
    write: bool,
    plot: bool,
    as_json: bool,
    **hints: Any,
) -> None:
    """Find where each FRAME points, from its stars and a catalog of LAKE; nothing else need be known.

    A folder means the FITS frames in it and below, without the NAME.solved.fits of an earlier run.
    A lens is then fitted to all stars that the frame and the catalog share, and its WCS written: for a frame NAME.fits
    to NAME.wcs, a FITS file of cards alone, or with --write to NAME.solved.fits, a copy of the frame. The index of the
    catalog is built at the first use; `skylake catalog index` does it beforehand. The exit status is 1 if a frame was
    not solved.
    """
    from skylake import cameras
    from skylake.cli.solving_products import draw, write_wcs

    frames = _files(frames)
    stems = [(out or path.parent) / path.name.partition(".fit")[0] for path in frames]
    _require_different(frames, stems)
    profile = cameras.load(camera_name)
    solve_one = _solver(lake, catalog, profile, solver, all_sky, hints)
    rows: list[dict[str, Any]] = []
    for path, stem in zip(frames, stems, strict=True):
        solved = solve_one(path)
        rows.append(solved.row | {"product": write_wcs(solved, path, profile, stem, write)})
        if plot:
            rows[-1]["pictures"] = draw(solved, stem)

    names = _ALL_SKY_COLUMNS if all_sky else _COLUMNS
    show.result(
        rows,
        as_json,
        lambda: show.table(
            [[Path(row["file"]).name, *(row.get(name) for name in names[1:])] for row in rows], names
        ),
    )
    for row in rows:
        if row["message"]:
            show.complain(f"{row['file']}: {row['message']}")
    ctx.exit(0 if all(row["status"] == "solved" for row in rows) else 1)


def _files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return files, and the frames in folders; files that a run has written itself count only if they are named."""
    from skylake.errors import UsageError
    from skylake.flow.discover_files import find_frames

    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        frames, complaints = find_frames([path])
        if complaints:
            raise UsageError("; ".join(complaints))
        files += [frame for frame in frames if not frame.name.endswith(".solved.fits")]
    if not files:
        raise UsageError("there is no frame to solve; the folders hold only what was solved before")
    return tuple(dict.fromkeys(files))


def _require_different(frames: Sequence[Path], stems: Sequence[Path]) -> None:
    """Raise if two frames would write the same files."""
    from skylake.errors import UsageError

    first: dict[Path, Path] = {}
    for path, stem in zip(frames, stems, strict=True):
        if first.setdefault(stem, path) != path:
            raise UsageError(
                f"{first[stem]} and {path} would both be written to {stem}.wcs; solve them one by one, each with an "
                "--out of its own"
            )


def _solver(
    lake: Path, catalog: str | None, profile: Profile, solver: str, all_sky: bool, hints: dict[str, Any]
) -> Callable[[Path], SolvedFrame]:
    """Return the function that solves a frame in the chosen way."""
    from skylake.cli.arguments import open_lake
    from skylake.flow.astrometry import astrometry_net
    from skylake.flow.astrometry.solve_frames import known_sky, solve_frame
    from skylake.lake.cameras.stored_distortions import read_epochs

    snapshot = open_snapshot(lake, None)
    if all_sky:
        from skylake.flow.astrometry.solve_all_sky_frames import AllSkySolver

        return AllSkySolver(snapshot, _catalog(lake, catalog, profile), profile)
    params = _params(**hints)
    if solver == "skylake":
        sky = known_sky(snapshot, _catalog(lake, catalog, profile), True, show.complain)
    else:
        astrometry_net.require_program()
        name = catalog or profile.base.catalog.over(open_lake(lake).settings.catalog).solve
        sky = known_sky(snapshot, name or None, False, show.complain)
    sky = replace(sky, epochs=read_epochs(snapshot.layout, profile.name))
    return lambda path: solve_frame(path, profile, sky, params)


def _params(
    scale: tuple[float, float] | None,
    centre: tuple[float, float] | None,
    radius: float,
    rotation: tuple[float, float] | None,
    mirrored: bool | None,
    seconds: float,
) -> SolveParams:
    from skylake.errors import UsageError
    from skylake.image.solving.solve_parameters import SolveParams

    low, high = scale or (None, None)
    if low is not None and high is not None and low >= high:
        raise UsageError(f"--scale {low:g} {high:g}: give the smaller limit first")
    if centre is not None:
        centre = right_ascension(centre[0]), declination(centre[1])
    return SolveParams(
        scale_low=low,
        scale_high=high,
        centre=centre,
        radius_deg=radius,
        rotation_deg=rotation and rotation[0],
        rotation_tolerance_deg=rotation[1] if rotation else 180.0,
        parity=None if mirrored is None else (1 if mirrored else -1),
        seconds=seconds,
    )


def _catalog(lake: Path, name: str | None, profile: Profile) -> str:
    from skylake.cli.arguments import open_lake, require_catalog
    from skylake.errors import CatalogError

    opened = open_lake(lake)
    require_catalog(opened.snapshot(), name)
    catalog = name or profile.base.catalog.over(opened.settings.catalog).solve
    if not catalog and opened.snapshot().catalogs():
        raise CatalogError(
            f"{lake}: no catalog is chosen to solve with; name one with --catalog, or as solve below "
            f"[catalog] in {opened.layout.settings_file}"
        )
    if not catalog:
        raise CatalogError(f"{lake}: the lake has no catalog; bring one in with `skylake catalog import`")
    return catalog
