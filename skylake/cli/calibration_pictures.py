"""``skylake calibrate --diff`` and ``skylake plot``: calibrations as tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    as_of_option,
    camera_of_lake_option,
    night,
    open_snapshot,
    readable_lake_argument,
)
from skylake.core.counted import counted

if TYPE_CHECKING:
    from skylake.flow.zeropoints.calibrate_nights import Choice
    from skylake.lake import Lake

#: Pictures of a calibration, by their names.
PICTURES = (
    "magnitude",
    "colour",
    "position",
    "airmass",
    "time",
    "transparency",
    "map",
    "repeatability",
    "noise",
)
_EXAMPLE = """\b
skylake plot LAKE --camera sim -o pictures
skylake plot LAKE time airmass --camera sim --night 20240407 --version 2 -o pictures
"""


def show_differences(
    lake: Lake, choice: Choice, versions: tuple[int, int], out: Path | None, plot: Path | None, as_json: bool
) -> None:
    """Show how the zeropoints of two versions differ, night by night; write the table and a picture where asked."""
    import pyarrow as pa

    from skylake.calibration.version_differences import DIFFERENCE_COLUMNS, changed_bands, summed_up
    from skylake.cli.output import write_table, writing
    from skylake.flow.zeropoints.calibration_outcome import compared_versions
    from skylake.report.style import save
    from skylake.report.zeropoint_plots import version_differences

    found, catalogs = compared_versions(lake, choice, *versions)
    rows = summed_up(found)
    if out is not None:
        columns = {name: [row[name] for row in rows] for name in DIFFERENCE_COLUMNS}
        write_table(pa.table(columns), out)
    if plot is not None:
        which = ", ".join(sorted(set(found.camera.tolist())))
        title = (
            f"{which}: zeropoints of version {versions[1]} - version {versions[0]}, {' and '.join(catalogs)}"
        )
        only = (
            int((found.has_first & ~found.has_second).sum()),
            int((found.has_second & ~found.has_first).sum()),
        )
        with writing(plot):
            save(version_differences(found.mjd, found.zp, found.band, only, title), plot)
        click.echo(f"wrote {plot}", err=True)

    def text() -> None:
        show.table([[row[name] for name in DIFFERENCE_COLUMNS] for row in rows], DIFFERENCE_COLUMNS)
        for (camera, first, second), count in sorted(changed_bands(found).items()):
            frames = counted(count, "frame")
            click.echo(f"{camera}: {frames} of {first} in {second} now, without a difference")

    if as_json or out is None:
        show.result(rows, as_json, text)


@click.command(short_help="Draw a calibration: zeropoints, residuals, repeatability.", epilog=_EXAMPLE)
@readable_lake_argument
@click.argument("names", nargs=-1, type=click.Choice(PICTURES), metavar="[NAME…]")
@camera_of_lake_option
@click.option(
    "-o",
    "out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    required=True,
    help="Folder of the pictures, CAMERA-BAND-NAME.png.",
)
@click.option("--night", type=night, metavar="YYYYMMDD", help="Of one night; of all otherwise.")
@click.option("--band", metavar="B", help="Of one band; each has pictures of its own otherwise.")
@click.option(
    "--catalog",
    metavar="NAME",
    help="Reference catalog; the one that calibrates the camera otherwise.",
    shell_complete=completion.catalogs,
)
@click.option(
    "--version", type=click.IntRange(min=1), metavar="V", help="Version; the one in force otherwise."
)
@as_of_option
@show.as_json
def plot(
    lake: Path,
    names: tuple[str, ...],
    camera_name: str,
    out: Path,
    as_of: str | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Draw the calibration of the camera C, all pictures or those of each NAME.

    magnitude, colour and position show the zeropoint of each star less that of its frame; airmass and time the
    zeropoints of frames with the extinction and the level of clear nights; transparency how much light came through,
    relative to clear nights; map the residuals over the field; repeatability how far stars scatter from frame to
    frame, beside what their errors let expect; noise how far they do within a night, in each flux, beside photons,
    scintillation and floor. Error bars are random; the error that all share is in the title.
    """
    from skylake.cli.camera_names import require_camera
    from skylake.cli.output import writing
    from skylake.report.calibration_pictures import CalibrationChoice, calibration_pictures
    from skylake.report.style import save

    snapshot = open_snapshot(lake, as_of)
    camera = require_camera(snapshot, camera_name)
    written = []
    for name, figure in calibration_pictures(
        snapshot, CalibrationChoice(camera, **chosen), names or PICTURES
    ):
        path = out / f"{camera}-{name}.png"
        with writing(path):
            save(figure, path)
        written.append(str(path))
    show.result(written, as_json, lambda: click.echo("\n".join(written)))
