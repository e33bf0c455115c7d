"""``skylake targets``: the positions that every frame is measured at."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    Number,
    camera_of_lake_option,
    cluster_options,
    lake_argument,
    open_lake,
    require_catalog,
    start_workers,
)
from skylake.cli.progress_bar import progress

_EXAMPLE = """\b
skylake targets LAKE --camera sim --faint 15
"""


@click.command(short_help="Choose the stars that every frame is measured at.", epilog=_EXAMPLE)
@lake_argument
@camera_of_lake_option
@click.option(
    "--catalog",
    metavar="NAME",
    help="Reference catalog; the one that calibrates the camera otherwise.",
    shell_complete=completion.catalogs,
)
@click.option("--no-catalog", is_flag=True, help="Take no stars from a catalog.")
@click.option(
    "--faint", type=Number(-30, 40), metavar="MAG", help="Magnitude of the faintest stars; all otherwise."
)
@click.option("--band", metavar="BAND", help="Band of --faint; that of the camera's filter otherwise.")
@click.option(
    "--seen",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Take what no catalog has if it was detected on N frames; 0 takes none of it.",
)
@click.option(
    "--share",
    type=Number(0.0, 1.0),
    default=0.1,
    show_default=True,
    metavar="S",
    help="… and on this share of the frames that show its place.",
)
@cluster_options
@show.as_json
def targets(
    lake: Path,
    camera_name: str,
    catalog: str | None,
    no_catalog: bool,
    faint: float | None,
    band: str | None,
    seen: int,
    share: float,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Make a list of targets for camera C from its frames in LAKE: the next version, if it differs from the last.

    The targets are the stars of a catalog in the fields of the camera, and what was detected again and again.
    `ingest` measures all of them on each frame that it reduces from then on, detected or not, into the table
    `forced_sources`; `ingest --redo` does so for frames that were reduced before.
    """
    from skylake.cli.camera_names import require_camera
    from skylake.flow.forced.make_targets import TargetOptions, make_targets

    if catalog is not None and no_catalog:
        raise click.UsageError("--catalog and --no-catalog contradict each other; give one of them")
    opened = open_lake(lake)
    snapshot = opened.snapshot()
    camera = require_camera(snapshot, camera_name)
    require_catalog(snapshot, catalog)
    name = None if no_catalog else catalog or opened.calibrating_catalog(camera) or None
    options = TargetOptions(name, band, faint, seen, share)
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = make_targets(opened, camera, options, pool, shown)
    show.result(dataclasses.asdict(report), as_json, lambda: click.echo(report.line))


@click.command(short_help="Measure new targets on earlier frames.")
@lake_argument
@click.option(
    "--camera",
    "-c",
    "camera_name",
    metavar="C",
    help="Camera of LAKE; all that have targets otherwise.",
    shell_complete=completion.cameras,
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N nights of a camera.")
@cluster_options
@show.as_json
@click.pass_context
def backfill(
    ctx: click.Context,
    lake: Path,
    camera_name: str | None,
    limit: int | None,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Measure the targets of a camera on the frames in LAKE that cover some they were not measured at.

    Only these frames are reduced again, a night at a time: what is done stays done if you interrupt it. --limit takes
    nights measured with the oldest list first. `skylake calibrate` and `skylake aggregate` then renew what follows
    from them.
    """
    from skylake.cli.camera_names import require_camera
    from skylake.flow.ingest.backfill import backfill as run_backfill

    opened = open_lake(lake)
    snapshot = opened.snapshot()
    listed = sorted({part.camera for part in snapshot.parts("targets").values() if part.camera is not None})
    chosen = listed if camera_name is None else [require_camera(snapshot, camera_name)]
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        reports = [run_backfill(opened, one, pool, shown, limit) for one in chosen]
    lines = [one.line for one in reports] or ["backfill: no camera has targets"]
    if any(one.n_frames for one in reports):
        lines.append(
            "next: `skylake calibrate`, then `skylake aggregate`, make light curves of these measurements"
        )
    show.result([dataclasses.asdict(one) for one in reports], as_json, lambda: click.echo("\n".join(lines)))
    advice = [one.advice for one in reports if one.advice is not None]
    for sentence in advice:
        show.complain(sentence)
    ctx.exit(1 if advice else 0)
