"""``skylake camera learn`` and ``geometry``: the distortion of a camera, by epochs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.arguments import (
    camera_of_lake_option,
    cluster_options,
    lake_argument,
    open_lake,
    readable_lake_argument,
    start_workers,
)
from skylake.cli.progress_bar import progress

if TYPE_CHECKING:
    from skylake.image.allsky.geometry_epochs import Geometry
    from skylake.image.distortion.distortion_epochs import Epoch

_COLUMNS = ["name", "from", "to", "last", "n_frames", "n_stars", "n_seen", "rms_px", "held_out_px", "why"]


_SKY_COLUMNS = [
    "name",
    "from",
    "last",
    "n_frames",
    "n_stars",
    "rms_px",
    "held_out_px",
    "err_px",
    "projection",
    "focal_px",
    "tilt_deg",
]


_EXAMPLE = """\b
skylake camera geometry LAKE --camera sim --plot geometry
"""


@click.command(short_help="Learn the distortion of a camera from the frames of a lake.")
@lake_argument
@camera_of_lake_option
@click.option("--anew", is_flag=True, help="Forget what was learned, and go through all nights.")
@cluster_options
@show.as_json
def learn(
    lake: Path, camera_name: str, anew: bool, cluster: str | None, workers: int | None, as_json: bool
) -> None:
    """Learn the distortion of the camera C from the frames of LAKE that came since the last time.

    It uses frames with 20 stars that have a lens of their own or were placed with the distortion of the camera. The
    distortion is in force for frames that are ingested later: they need only four to six parameters, and few stars.
    Where the stars of frames want another distortion, another epoch begins. `skylake run nightly` does this too.
    Of a camera that sees the whole sky the geometry is learned, from all good frames; `skylake ingest` does that too.
    """
    import dataclasses

    from skylake.cli.camera_names import require_camera
    from skylake.flow.astrometry.learn_distortion import learn as run_learn

    opened = open_lake(lake)
    camera_name = require_camera(opened.snapshot(), camera_name)
    opened.profile(camera_name)  # a profile that is lost is reported now
    with start_workers(opened, cluster, workers) as pool, progress() as shown:
        report = run_learn(opened, camera_name, pool, anew, shown)
    show.result(dataclasses.asdict(report), as_json, lambda: click.echo(report.line))
    for sentence in report.sentences:
        show.complain(sentence)


@click.command(short_help="Show the distortion of a camera, epoch by epoch.", epilog=_EXAMPLE)
@readable_lake_argument
@camera_of_lake_option
@click.option("--versions", is_flag=True, help="Show all versions of each epoch, not the newest alone.")
@click.option(
    "--plot",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Draw each epoch: distortion, and what is left of the stars of its frames.",
)
@show.as_json
def geometry(lake: Path, camera_name: str, versions: bool, plot: Path | None, as_json: bool) -> None:
    """Show the epochs of the distortion of the camera C: what it was learned from, and how well stars fit.

    Of a camera that sees the whole sky they are those of its geometry.
    """
    from skylake.cli.arguments import open_snapshot
    from skylake.cli.camera_names import require_camera
    from skylake.image.allsky.geometry_epochs import newest
    from skylake.image.distortion.distortion_epochs import in_force
    from skylake.lake.cameras.stored_distortions import read_epochs
    from skylake.lake.cameras.stored_geometries import read_geometries

    snapshot = open_snapshot(lake, None)
    camera_name = require_camera(snapshot, camera_name)
    sky = read_geometries(snapshot.layout, camera_name)
    if sky:
        sky = sky if versions else newest(sky)
        rows = [_sky_row(one) for one in sky]
        if plot is not None:
            from skylake.cli.camera_pictures import draw_sky_geometry

            for row, geometry in zip(rows, sky, strict=True):
                row["pictures"] = draw_sky_geometry(snapshot, geometry, camera_name, plot)
        show.result(
            rows,
            as_json,
            lambda: show.table([[row[name] for name in _SKY_COLUMNS] for row in rows], _SKY_COLUMNS),
        )
        return
    known = read_epochs(snapshot.layout, camera_name)
    epochs = known if versions else in_force(known)
    rows = [_row(epoch) for epoch in epochs]
    if plot is not None:
        from skylake.cli.camera_pictures import draw_epoch

        for row, one in zip(rows, epochs, strict=True):
            row["pictures"] = draw_epoch(open_lake(lake), camera_name, one, plot)
    show.result(
        rows, as_json, lambda: show.table([[row[name] for name in _COLUMNS] for row in rows], _COLUMNS)
    )
    if not rows:
        show.complain(
            f"nothing is known of the distortion of {camera_name}; `skylake camera learn {lake} --camera "
            f"{camera_name}` "
            'learns it from frames that have a lens of their own (refine = "always") in the lake'
        )


def _row(epoch: Epoch) -> dict[str, Any]:
    import math

    from skylake.cameras.clock_times import iso_of_mjd

    def date(mjd: float) -> str | None:
        return iso_of_mjd(mjd)[:16] if math.isfinite(mjd) else None

    learned = epoch.distortion
    return {
        "name": epoch.name,
        "from": date(epoch.valid_from),
        "to": date(epoch.valid_to),
        "first": date(epoch.first_mjd),
        "last": date(epoch.last_mjd),
        "n_frames": learned.n_frames,
        "n_stars": learned.n_stars,
        "n_seen": epoch.n_seen,
        "rms_px": epoch.rms_px,
        "held_out_px": epoch.held_out_px,
        "scatter_px": learned.scatter_px,
        "spread": learned.spread,
        "height_px": epoch.shape[0],
        "width_px": epoch.shape[1],
        "projection": learned.model.projection,
        "mirrored": epoch.mirrored,
        "parameters": learned.model.parameters().tolist(),
        "catalog": epoch.catalog,
        "frames_sha256": epoch.frames_sha256,
        "software": epoch.software,
        "why": epoch.why,
    }


def _sky_row(geometry: Geometry) -> dict[str, Any]:
    from skylake.cameras.clock_times import iso_of_mjd
    from skylake.image.allsky.horizon_search import tilt_deg

    lens = geometry.lens
    return {
        "name": geometry.name,
        "from": iso_of_mjd(geometry.first_mjd)[:16],
        "last": iso_of_mjd(geometry.last_mjd)[:16],
        "n_frames": geometry.n_frames,
        "n_stars": geometry.n_stars,
        "rms_px": geometry.rms_px,
        "held_out_px": geometry.held_out_px,
        "err_px": geometry.err_px,
        "in_force": not geometry.retired,
        "height_px": geometry.shape[0],
        "width_px": geometry.shape[1],
        "projection": lens.projection,
        "mirrored": lens.mirrored,
        "focal_px": lens.focal_px,
        "x0": lens.x0,
        "y0": lens.y0,
        "tilt_deg": tilt_deg(lens),
        "parameters": lens.parameters().tolist(),
    }
