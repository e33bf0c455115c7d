"""``skylake reduce``: single frames, without a lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.arguments import camera_option, open_snapshot

if TYPE_CHECKING:
    from skylake.cameras import Profile
    from skylake.flow.single import SingleFrame

_EXAMPLE = """\b
skylake reduce night/frame-0042.fits --camera sim --out products --plots
"""


@click.command(short_help="Reduce single frames to catalogs and pictures, without a lake.", epilog=_EXAMPLE)
@camera_option
@click.argument(
    "frames", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FRAME…"
)  # fmt: skip
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where products go."
)
@click.option(
    "--format", "form", type=click.Choice(["fits", "ecsv", "votable", "csv", "parquet"]), default="fits",
    show_default=True, help="Format of the tables.",
)  # fmt: skip
@click.option(
    "--lake", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="LAKE",
    help="Lake whose calibration library has the masters that the camera needs.",
)  # fmt: skip
@click.option("--plots", is_flag=True, help="Draw the frame with its sources, and its background.")
@click.option(
    "--inject", is_flag=True, help="Measure completeness by putting stars of known flux into the frame."
)
@click.option(
    "--stars", type=click.IntRange(min=100), default=3000, show_default=True, metavar="N",
    help="Stars that --inject puts in.",
)  # fmt: skip
@show.as_json
@click.pass_context
def reduce(
    ctx: click.Context,
    camera_name: str,
    frames: tuple[Path, ...],
    out: Path,
    form: str,
    lake: Path | None,
    plots: bool,
    inject: bool,
    stars: int,
    as_json: bool,
) -> None:
    """Reduce each FRAME by itself, as ingest would, and write what it gives into DIR.

    For a frame NAME.fits that is NAME.sources.fits (its sources), NAME.frame.json (its row in the table of frames),
    with --plots NAME.frame.png and NAME.background.png, and with --inject NAME.completeness.ecsv and .png. Nothing
    is written to a lake. The exit status is 1 if a frame failed or was rejected.
    """
    from skylake import cameras
    from skylake.errors import FrameError
    from skylake.flow.masters import library_of
    from skylake.flow.single import reduce_single

    profile = cameras.load(camera_name)
    library = None if lake is None else library_of(open_snapshot(lake, None), profile.name)
    rows: list[dict[str, Any]] = []
    for path in frames:
        stem = path.name.partition(".fit")[0]
        try:
            frame = reduce_single(path, profile, library)
        except FrameError as error:
            rows.append(
                {"file": str(path), "status": error.status, "reason": error.reason, "message": str(error)}
            )
            continue
        row = frame.frame.to_pylist()[0]
        rows.append(
            {name: row[name] for name in ("file", "status", "reason", "message", "n_sources", "fwhm_px")}
        )
        rows[-1]["products"] = [str(one) for one in _write(frame, out / stem, form)]
        if plots:
            rows[-1]["products"] += [str(one) for one in _draw(frame, out / stem)]
        if inject:
            rows[-1] |= _inject(frame, profile, out / stem, stars)

    def text() -> None:
        names = ["file", "status", "reason", "n_sources", "fwhm_px"] + (
            ["mag_half", "mag_half_err"] if inject else []
        )
        show.table([[Path(row["file"]).name, *(row.get(name) for name in names[1:])] for row in rows], names)

    show.result(rows, as_json, text)
    for row in rows:
        if row["status"] in ("failed", "rejected"):
            show.complain(f"{row['file']}: {row['message']}")
    ctx.exit(1 if any(row["status"] in ("failed", "rejected") for row in rows) else 0)


def _write(frame: SingleFrame, stem: Path, form: str) -> list[Path]:
    """Write the row of a frame and its sources."""
    from skylake.cli.output import write_table, writing

    row = stem.with_name(f"{stem.name}.frame.json")
    with writing(row):
        row.write_text(show.json_text(frame.frame.to_pylist()[0]) + "\n", encoding="utf-8")
    if frame.sources is None:
        return [row]
    sources = stem.with_name(f"{stem.name}.sources.{'vot' if form == 'votable' else form}")
    write_table(frame.sources, sources, form)
    return [row, sources]


def _draw(frame: SingleFrame, stem: Path) -> list[Path]:
    """Draw a frame that could be opened."""
    import numpy as np

    from skylake.cli.output import writing
    from skylake.report.checkplot import annotated_frame, background_maps
    from skylake.report.style import save

    if frame.image is None or frame.background is None:
        return []
    row, measured, level = frame.reduced.row, frame.reduced.sources, frame.background.level
    title = f"{stem.name}: {row['camera']}, {row['status']}"
    empty = np.zeros(0)
    x, y, flags = empty, empty, empty.astype(np.int32)
    if measured is not None:
        x, y, flags = measured.x, measured.y, measured.flags
    signal, radius = frame.image.pixels - level, row.get("aper2_radius_px") or 6.0
    figures = {
        "frame": annotated_frame(signal, frame.background.median_rms, x, y, flags, radius, title),
        "background": background_maps(level, frame.background.rms, f"{title}: background"),
    }
    paths = []
    for name, figure in figures.items():
        path = stem.with_name(f"{stem.name}.{name}.png")
        with writing(path):
            save(figure, path)
        paths.append(path)
    return paths


def _inject(frame: SingleFrame, profile: Profile, stem: Path, stars: int) -> dict[str, Any]:
    """Measure completeness, write its curve, and return where it falls to half, as an instrumental magnitude."""
    import numpy as np
    import pyarrow as pa

    from skylake.cli.output import write_table, writing
    from skylake.flow.single import completeness_of
    from skylake.image.inject import Trial, half_light
    from skylake.report.checkplot import completeness_curve
    from skylake.report.style import save

    curve = completeness_of(frame, profile, Trial(stars))
    if curve is None:
        return {}
    half = half_light(curve)
    columns = ("flux", "n_injected", "n_found", "fraction", "low", "high")
    table = pa.table({name: getattr(curve, name) for name in columns}).append_column(
        "mag_inst", pa.array(-2.5 * np.log10(curve.flux))
    )
    write_table(table, stem.with_name(f"{stem.name}.completeness.ecsv"), "ecsv")
    limits = {
        "half of the bright stars' share": (half.flux, half.flux_err),
        "S/N of 5 from the noise of the sky": (curve.limiting_flux, float("nan")),
    }
    title = f"{stem.name}: completeness of {curve.n_injected.sum()} stars"
    figure = completeness_curve(curve.flux, curve.fraction, curve.low, curve.high, limits, title)
    path = stem.with_name(f"{stem.name}.completeness.png")
    with writing(path):
        save(figure, path)
    if not np.isfinite(half.flux):
        return {"mag_half": None, "mag_half_err": None}
    return {
        "mag_half": -2.5 * float(np.log10(half.flux)),
        "mag_half_err": 1.0857362 * half.flux_err / half.flux,
    }
