"""``skylake calib``: the calibration library of a lake."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    camera_option,
    cluster_options,
    lake_argument,
    moment,
    moment_text,
    open_lake,
    plot_option,
    readable_lake_argument,
    start_workers,
)
from skylake.cli.progress_bar import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skylake.cameras import Profile
    from skylake.flow.masters.build_masters import MasterBuildReport

#: Two measurements that are farther apart, in standard errors, are not the same.
_DIFFERENT_SIGMA = 3.0
_LISTED = [
    "name",
    "kind",
    "filter",
    "header_gain",
    "readout",
    "exposure_s",
    "n_frames",
    "level",
    "noise",
    "rejected_fraction",
    "flat_level_adu",
    "gain_e_per_adu",
    "gain_err",
    "read_noise_e",
    "linearity_c2",
    "n_bad_px",
    "mjd_mid",
    "valid_from_mjd",
    "valid_to_mjd",
]

_LIMITS = ("valid_from_mjd", "valid_to_mjd")
_BUILD_EXAMPLE = """\b
skylake calib build LAKE --camera raw.toml night/calibration
skylake calib build LAKE --camera fisheye.toml --form mask night/frames
"""
_SHOW_EXAMPLE = """\b
skylake calib list LAKE --kind flat
skylake calib show LAKE raw-flat-20240407-f977e04452a5 --plot flat.png
"""


@click.group()
def calib() -> None:
    """Make, list and show the masters with which frames are reduced."""


@calib.command(
    short_help="Make masters, masks of bad pixels and photon transfers of frames.", epilog=_BUILD_EXAMPLE
)
@lake_argument
@camera_option
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option(
    "--kind",
    type=click.Choice(["bias", "dark", "flat"]),
    help="What all of FILE… are; by their headers otherwise.",
)
@click.option(
    "--form",
    type=click.Choice(["plain", "difference", "super", "mask"]),
    default="plain",
    show_default=True,
    help="How flats are made. difference: of bright less faint ones, which takes away what adds to all alike. super: "
    "of frames of the sky, their sources left out (with --kind flat). mask: no flat, but a mask of bad pixels, of "
    "frames of the sky between which the stars move.",
)
@click.option(
    "--min-frames",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Fewer usable frames make no master.",
)
@click.option("--all-nights", is_flag=True, help="Make one master of all nights together, not one of each.")
@click.option(
    "--valid-from",
    type=moment,
    metavar="TIME",
    help="First instant for which the masters may be used, "
    "such as 2024-05-01 or 2024-05-01T12:00, UTC; by the profile otherwise.",
)
@click.option("--valid-to", type=moment, metavar="TIME", help="Instant from which on they may not be used.")
@cluster_options
@show.as_json
@click.pass_context
def build(
    ctx: click.Context,
    lake: Path,
    camera_name: str,
    files: tuple[Path, ...],
    kind: str | None,
    form: str,
    min_frames: int,
    all_nights: bool,
    valid_from: float | None,
    valid_to: float | None,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Make master bias, dark and flat, masks of bad pixels, and a photon transfer of FILE…, which may be folders.

    Frames are distinguished by their headers, and go into one master per night, chip, binning, gain, readout,
    temperature, exposure (darks) and filter (flats). What is of no use is named and left out; the exit status is 1
    then.
    """
    from skylake import cameras
    from skylake.flow.ingest.multi_detector import build_camera_masters
    from skylake.flow.masters.build_masters import BuildOptions

    if valid_from is not None and valid_to is not None and valid_from >= valid_to:
        raise click.UsageError("--valid-from is not before --valid-to; name the earlier time first")
    if form == "mask" and kind in ("bias", "dark"):
        raise click.UsageError(f"--form mask takes frames of the sky; leave --kind {kind} out")
    opened = open_lake(lake)
    chips = cameras.load_chips(camera_name)
    options = BuildOptions(kind, form, min_frames, not all_nights, valid_from, valid_to)  # type: ignore[arg-type]
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = build_camera_masters(opened, chips, files, pool, options, shown)
    show.result(dataclasses.asdict(report), as_json, lambda: _show_build(report, chips))
    ctx.exit(0 if report.all_well else 1)


def _show_build(report: MasterBuildReport, chips: Sequence[Profile]) -> None:
    for refusal in report.left_out:
        show.complain(f"{refusal['file']}: left out/{refusal['reason']}: {refusal['message']}")
    for sentence in report.warnings:
        show.complain(sentence)
    for row in report.masters:
        if row.get("gain_e_per_adu") is not None:
            click.echo(f"{row['name']}: {_transfer(row)}")
    # A profile that takes both from photon transfers already needs no such advice.
    if not all({"gain", "read_noise"} <= set(chip.base.reduction.measured) for chip in chips):
        for sentence in _two_read_noises(report.masters):
            click.echo(sentence)
    made = ", ".join(row["name"] for row in report.masters) or "nothing"
    click.echo(f"calib build: made {made}")


def _two_read_noises(masters: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence if a master bias and a photon transfer of one detector give different read noises.

    Of the photon transfers of several filters the first is named.
    """
    from skylake.image.masters.master_library import same_gain, same_readout

    sentences: dict[str, str] = {}
    noisy = [
        row
        for row in masters
        if row.get("read_noise_e") is not None and row.get("read_noise_err") is not None
    ]
    for bias, transfer in itertools.product(noisy, noisy):
        alike = all(bias[key] == transfer[key] for key in ("extension", "binning"))
        alike = alike and same_gain(bias.get("header_gain"), transfer.get("header_gain"))
        alike = alike and same_readout(bias.get("readout"), transfer.get("readout"))
        if not alike or (bias["kind"], transfer["kind"]) != ("bias", "transfer"):
            continue
        apart = abs(bias["read_noise_e"] - transfer["read_noise_e"])
        if apart > _DIFFERENT_SIGMA * math.hypot(bias["read_noise_err"], transfer["read_noise_err"]):
            sentences.setdefault(
                bias["name"],
                f"read noise: {bias['name']} gives {bias['read_noise_e']:.4g} electrons by the gain of header or "
                f"profile, {transfer['name']} {transfer['read_noise_e']:.4g} by the gain that it measured, "
                f"{transfer['gain_e_per_adu']:.4g}; if that is right, give it as detector.gain_e_per_adu, or take "
                'both by reduction.measured = ["gain", "read_noise"]',
            )
    return list(sentences.values())


def _transfer(row: dict[str, Any]) -> str:
    text = f"gain {row['gain_e_per_adu']:.4g} +- {row['gain_err']:.2g} electrons per ADU"
    if row.get("read_noise_e") is not None:
        text += f", read noise {row['read_noise_e']:.4g} +- {row['read_noise_err']:.2g} electrons"
    return text


@calib.command("list")
@readable_lake_argument
@click.option(
    "--camera",
    "-c",
    "camera_name",
    metavar="C",
    help="Masters of this camera alone.",
    shell_complete=completion.cameras,
)
@click.option(
    "--kind",
    type=click.Choice(["bias", "dark", "flat", "bad_pixels", "transfer"]),
    help="Masters of this kind alone.",
)
@show.as_json
def list_(lake: Path, camera_name: str | None, kind: str | None, as_json: bool) -> None:
    """List the masters of LAKE.

    Level and noise are in ADU, those of flats in parts of the median; columns that none of them has are left out.
    The last columns say when its frames were taken (the middle), and for which time each may be used, UTC.
    """
    from skylake.cli.camera_names import name_in_lake, require_camera

    snapshot = open_lake(lake).snapshot()
    rows = snapshot.read("masters", ["camera", *_LISTED]).to_pylist()
    if camera_name is not None:
        camera_name = name_in_lake(snapshot, camera_name)
        # Masters are built before there are frames.
        if camera_name not in {row["camera"] for row in rows}:
            require_camera(snapshot, camera_name)
    rows = [row for row in rows if camera_name in (None, row["camera"]) and kind in (None, row["kind"])]
    rows.sort(key=lambda row: (row["camera"], row["kind"], row["mjd_mid"] or 0.0, row["name"]))
    # The limits of the use of a master are given in words.
    worded = [key for key in _LISTED if key not in _LIMITS]
    shown = [key for key in worded if any(row[key] is not None for row in rows)] or worded
    lines = [[*(row[key] for key in shown), moment_text(row["mjd_mid"]), _validity(row)] for row in rows]
    show.result(rows, as_json, lambda: show.table(lines, [*shown, "taken", "valid"]))


def _validity(row: dict[str, Any]) -> str:
    """Return for which time a master may be used, in words."""
    first, last = (moment_text(row[key]) for key in _LIMITS)
    if not first and not last:
        return "always"  # neither validity_days, a dated block of the profile nor an option limits it
    return " ".join([*(["from", first] if first else []), *(["until", last] if last else [])])


@calib.command("show", epilog=_SHOW_EXAMPLE)
@readable_lake_argument
@click.argument("name", shell_complete=completion.masters)
@plot_option
@show.as_json
def show_(lake: Path, name: str, plot: Path | None, as_json: bool) -> None:
    """Show all that is known of the master NAME: quality, validity, and what it was made of.

    Of a flat, what it may have of a gradient by chance, as parts of the response from the middle to the edge.
    --plot draws its pixels, with circles around bad ones, and their histogram; of a mask the bad pixels by their
    kind; and of a photon transfer how noise and response go with the signal.
    """
    from skylake.errors import UsageError

    rows = open_lake(lake).snapshot().read("masters").to_pylist()
    masters = [row for row in rows if row["name"] == name]
    if not masters:
        raise UsageError(
            f"{lake}: there is no master {name!r}; `skylake calib list` names those that there are"
        )
    row = masters[0] | {"inputs": json.loads(masters[0]["inputs"])} | _gradient(lake, masters[0])
    shown = {key: value for key, value in row.items() if key != "inputs" and value is not None}

    def text() -> None:
        units = _units(row["kind"])
        lines = [[key, show.as_text(value, key), units.get(key)] for key, value in shown.items()]
        lines += [["taken", moment_text(row["mjd_mid"]), None], ["valid", _validity(row), None]]
        show.table(lines, ["column", "value", "unit"])
        click.echo("\nmade of")
        for file, sha256 in row["inputs"].items():
            click.echo(f"  {file}  {sha256[:12]}")

    show.result(row, as_json, text)
    if plot is not None:
        _draw(lake, row, plot)


def _gradient(lake: Path, row: dict[str, Any]) -> dict[str, float]:
    """Return what a flat may have of a gradient by chance, from the middle to the edge.

    Nothing if its file is missing or does not say.
    """
    from skylake.image.masters.master_file import load_master
    from skylake.image.masters.master_library import Master

    root = open_lake(lake).root
    if row["kind"] != "flat" or not row["file"] or not (root / row["file"]).is_file():
        return {}
    gradient = load_master(root, Master.from_row(row)).gradient
    if gradient is None:
        return {}
    x_err, y_err = gradient.xx**0.5, gradient.yy**0.5
    both = gradient.xy / (x_err * y_err) if x_err * y_err > 0.0 else 0.0
    return {"gradient_x_err": x_err, "gradient_y_err": y_err, "gradient_correlation": both}


def _draw(lake: Path, row: dict[str, Any], plot: Path) -> None:
    """Draw a master of a lake on disk."""
    import numpy as np

    from skylake.cli.output import writing
    from skylake.image.masters.master_file import load_bad, load_master
    from skylake.image.masters.master_library import Master
    from skylake.report.master_plot import mask_picture, master_picture
    from skylake.report.photon_transfer_plot import transfer_picture
    from skylake.report.style import save

    root, master = open_lake(lake).root, Master.from_row(row)
    content = load_master(root, master)
    title = f"{row['camera']}: {row['name']}"
    if row["kind"] == "transfer":
        figure = transfer_picture(row, content.tables, title)
    elif content.pixels is None:
        assert content.mask is not None
        figure = mask_picture(content.mask, title)
    else:
        # Flats are shown as the factor that frames are multiplied by.
        pixels = np.float32(1.0) / content.pixels if row["kind"] == "flat" else content.pixels
        label = "response" if row["kind"] == "flat" else f"{row['kind']} [ADU]"
        bad = load_bad(root, master)
        figure = master_picture(np.asarray(pixels, np.float32), content.error, label, title, bad)
    with writing(plot):
        save(figure, plot)
    click.echo(f"wrote {plot}", err=True)


def _units(kind: str) -> dict[str, str]:
    """Return the units of the columns of a master; those of its pixels follow from its kind."""
    from skylake.schema import load

    units = {column.name: column.unit for column in load("masters").columns if column.unit}
    return units if kind == "flat" else units | {"level": "adu", "noise": "adu"}
