"""``skylake simulate``: nights of frames with known truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion, show
from skylake.cli.arguments import Number, night
from skylake.cli.progress_bar import progress
from skylake.core.counted import counted

if TYPE_CHECKING:
    from skylake.simulate import Scenario

_EXAMPLE = """\b
skylake simulate archive --camera sim --nights 1 --frames 12 --seed 5
skylake simulate raw-night --camera raw.toml --raw --nights 1 --frames 2
skylake simulate fisheye --all-sky --nights 1
"""


#: Keys of a scenario for options of another name.
_KEYS = {
    "frames": "frames_per_night",
    "exposure": "exposure_s",
    "form": "file_form",
    "stars": "stars.per_frame",
    "fields": "schedule.fields",
    "target_fraction": "schedule.target_fraction",
    "clouds": "atmosphere.cloudy_fraction",
    "wrong_wcs": "header.wrong_wcs_fraction",
    "no_wcs": "header.absent_wcs_fraction",
}


@click.command(epilog=_EXAMPLE)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--camera",
    "-c",
    "camera",
    metavar="C",
    help="Camera profile, or a .toml file; sim by default.",
    shell_complete=completion.profiles,
)
@click.option("--nights", type=click.IntRange(min=1), metavar="N", help="Nights; 2 by default.")
@click.option("--first-night", type=night, metavar="YYYYMMDD", help="Local evening of the first night.")
@click.option("--frames", type=click.IntRange(min=1), metavar="N", help="Frames per night; 60 by default.")
@click.option(
    "--exposure",
    type=Number(0, 1e5, min_open=True),
    metavar="SECONDS",
    help="Exposure time; 30 s by default.",
)
@click.option("--filter", metavar="NAME", help="Filter of the profile.")
@click.option(
    "--stars", type=Number(1, 1e7), metavar="N", help="Detectable stars per frame, about; 2000 by default."
)
@click.option(
    "--fields",
    type=click.IntRange(min=0),
    metavar="N",
    help="Survey fields beside the target field; none by default.",
)
@click.option(
    "--target-fraction",
    type=Number(0, 1),
    metavar="X",
    help="Fraction of the frames on the target field; half by default, all without --fields.",
)
@click.option(
    "--clouds",
    type=Number(0, 1),
    metavar="X",
    help="Fraction of the frames behind clouds; 0 by default.",
)
@click.option(
    "--wrong-wcs",
    type=Number(0, 1),
    metavar="X",
    help="Fraction of the frames whose WCS is wrong; 0 by default.",
)
@click.option(
    "--no-wcs",
    type=Number(0, 1),
    metavar="X",
    help="Fraction of the frames without a WCS; 0 by default.",
)
@click.option(
    "--raw",
    is_flag=True,
    default=None,
    help="Leave bias, dark and vignetting in, and make calibration frames.",
)
@click.option(
    "--form", type=click.Choice(["fits", "fits.gz", "fits.fz"]), help="Form of the files; fits by default."
)
@click.option(
    "--all-sky",
    is_flag=True,
    help="Frames of a fisheye that stands still and sees the whole sky; its camera is sim-fisheye by default.",
)
@click.option("--seed", type=int, help="Another seed, another sky; 1 by default.")
@click.option(
    "--scenario",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="All other settings of a simulation; the options above override it.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes; one per core by default."
)
@show.as_json
def simulate(
    out: Path, all_sky: bool, scenario: Path | None, workers: int | None, as_json: bool, **given: Any
) -> None:
    """Simulate nights of frames for any camera, with known truth, into the folder OUT.

    OUT gets frames/, truth/ (frames, stars, detections and transients as Parquet) and catalog.parquet, a
    reference catalog with errors. The same scenario gives the same bytes.

    With --all-sky the frames are those of a fisheye without any WCS, six a night; truth/lens.json has its lens.
    Of the other options it takes --camera, --nights, --first-night, --frames, --exposure and --seed.
    """
    options = {_KEYS.get(name, name): value for name, value in given.items()}
    if all_sky:
        made, summary = _fisheye(options | {"--scenario": scenario}, out)
    else:
        made = make(scenario_from(scenario, options), out, workers)
        summary = f"{counted(made['frames'], 'frame')}, {counted(made['catalog_stars'], 'catalog star')}"
    show.result(made, as_json, lambda: click.echo(f"simulate: {summary} in {out}"))


def _fisheye(options: dict[str, Any], out: Path) -> tuple[dict[str, Any], str]:
    """Simulate a camera of the whole sky; return what was made, and that in words."""
    made = make_fisheye(options, out)
    return (
        made,
        f"{counted(made['frames'], 'frame')} of the whole sky, {counted(made['catalog_stars'], 'catalog star')}",
    )


#: Options that frames of the whole sky know.
_ALL_SKY = ("camera", "nights", "frames_per_night", "first_night", "exposure_s", "seed")


def make_fisheye(options: dict[str, Any], out: Path) -> dict[str, Any]:
    """Simulate a camera of the whole sky and return what was made."""
    from skylake.errors import SkylakeError, UsageError, reason_of
    from skylake.simulate.fisheye_nights import FisheyeNights, simulate_fisheye

    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in _ALL_SKY:
            option = name.rpartition(".")[2].lstrip("-").replace("_", " ")
            raise UsageError(f"{option} says nothing of frames of the whole sky; leave it out with --all-sky")
    try:
        made = simulate_fisheye(FisheyeNights(**given), out)
    except OSError as error:
        raise SkylakeError(f"{out}: the simulation cannot be written ({reason_of(error)})") from error
    return {
        "out": str(made.out),
        "frames": len(made.frames),
        "catalog": str(made.catalog),
        "catalog_stars": made.n_catalog,
    }


def scenario_from(path: Path | None, options: dict[str, Any]) -> Scenario:
    """Return the scenario of a file, changed by options that are given."""
    from skylake.declared import build, read_toml
    from skylake.simulate import Scenario

    data: dict[str, Any] = {} if path is None else read_toml(path)
    for key, value in options.items():
        if value is not None:
            place, name = _place(data, key)
            place[name] = value
    return build(Scenario, data, str(path or "the options"))


def _place(data: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the table of a dotted key, and the name in it."""
    *tables, name = key.split(".")
    for table in tables:
        data = data.setdefault(table, {})
    return data, name


def make(scenario: Scenario, out: Path, workers: int | None) -> dict[str, Any]:
    """Simulate a scenario, with progress, and return what was made."""
    from skylake.errors import SkylakeError, reason_of
    from skylake.simulate import simulate_camera as run_simulation

    count = workers or len(os.sched_getaffinity(0))
    try:
        with progress() as shown:
            shown.begin("simulated frames", scenario.nights * scenario.frames_per_night)
            result = run_simulation(scenario, out, count, lambda done, total: shown.advance())
            shown.end()
    except OSError as error:
        raise SkylakeError(f"{out}: the simulation cannot be written ({reason_of(error)})") from error
    return {
        "out": str(result.out),
        "frames": len(result.frames),
        "calibration_frames": len(result.calibrations),
        "catalog": str(result.catalog),
        "catalog_stars": result.n_catalog,
        "detections": result.n_detections,
    }
