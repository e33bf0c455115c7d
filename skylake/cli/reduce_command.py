"""``skylake reduce``: single frames, without a lake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.arguments import camera_option, open_lake

if TYPE_CHECKING:
    import pyarrow as pa

    from skylake.flow.ingest.single_frames import Bench, SingleFrame
    from skylake.image.quality.completeness import Completeness

#: Columns of a curve of completeness: unit and meaning.
_CURVE = {
    "flux": ("adu/s", "Total flux, middle of the bin in magnitudes"),
    "n_injected": ("", "Stars that were put into the frame"),
    "n_found": ("", "Those that were found"),
    "n_chance": ("", "Those that fell on a source that was there before; they do not count"),
    "fraction": ("", "Share that is found, without chance"),
    "low": ("", "Lower end of its 68 % interval"),
    "high": ("", "Upper end of its 68 % interval"),
    "mag_inst": ("mag", "Instrumental magnitude, -2.5 log10 of the total flux"),
    "mag": ("mag", "Magnitude of a star of the pivot colour by the zeropoint of the frame"),
}
_EPILOG = """\b
What there is of a frame NAME.fits:
  NAME.sources.fits       its sources
  NAME.frame.json         its row in the table of frames
  NAME.forced.fits        its targets, with a --lake that has some
  NAME.frame.png          with --plots: its pixels and sources
  NAME.background.png     with --plots
  NAME.histogram.png      with --plots: its pixels beside the noise of the sky
  NAME.sky.fits, .png     with --plots: the sky that was taken off in the near
                          infrared, which reduction.sky.file of a profile takes
  NAME.completeness.ecsv, .png
                          with --inject

\b
skylake reduce night/frame-0042.fits --camera sim --out products --plots
skylake reduce night/frame-0042.fits --camera sim --lake LAKE --out products --inject
"""


@click.command(short_help="Reduce single frames to catalogs and pictures, without a lake.", epilog=_EPILOG)
@camera_option
@click.argument(
    "frames",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FRAME…",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where products go."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["fits", "ecsv", "votable", "csv", "parquet"]),
    default="fits",
    show_default=True,
    help="Format of the tables.",
)
@click.option(
    "--lake",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="LAKE",
    help="Lake whose catalog, masters and targets the frames are reduced with, and whose zeropoints --inject takes.",
)
@click.option(
    "--plots",
    is_flag=True,
    help="Draw the frame with its sources, its background, and the histogram of its pixels.",
)
@click.option(
    "--inject", is_flag=True, help="Measure completeness by putting stars of known flux into the frame."
)
@click.option(
    "--stars",
    type=click.IntRange(min=100),
    default=3000,
    show_default=True,
    metavar="N",
    help="Stars that --inject puts in.",
)
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
    """Reduce each FRAME by itself, as ingest would, and write what it gives, as listed below, into DIR.

    What needs other frames of the night, as such a sky, takes those in the same folder, and those of the lake. A
    frame that does not say where it points is placed by the frames of its night that the lake holds, as ingest
    would; without --lake no neighbours are asked. Nothing is written to a lake. Two frames of one NAME are refused
    before any is reduced. The exit status is 1 if a frame failed or was rejected.
    """
    from skylake import cameras
    from skylake.cli.run_commands import unchecked, unexposed
    from skylake.flow.ingest.single_frames import bench_for

    _refuse_namesakes(frames)
    profile = cameras.load(camera_name)
    products = _Products(out, form, plots, stars if inject else 0)
    opened = None if lake is None else open_lake(lake)
    with bench_for(frames, profile, opened) as bench:
        rows = [products.of(path, bench) for path in frames]

    def text() -> None:
        names = ["file", "status", "reason", "n_sources", "fwhm_px"] + (
            ["mag_half", "mag_half_err", "magnitudes"] if inject else []
        )
        show.table([[Path(row["file"]).name, *(row.get(name) for name in names[1:])] for row in rows], names)

    show.result(rows, as_json, text)
    for row in rows:
        if row["status"] in ("failed", "rejected"):
            show.complain(f"{row['file']}: {row['message']}")
            continue
        if row["wcs_unchecked"] and opened is not None:
            show.complain(unchecked([row["file"]], opened.root, row))
        if row["exposure_assumed"]:
            show.complain(unexposed([row["file"]]))
    ctx.exit(1 if any(row["status"] in ("failed", "rejected") for row in rows) else 0)


def _stem(path: Path) -> str:
    """Return how the names of the products of a frame begin."""
    return path.name.partition(".fit")[0]


def _refuse_namesakes(frames: Sequence[Path]) -> None:
    """Raise if the products of one frame would take the place of those of another."""
    from skylake.errors import UsageError

    known: dict[str, Path] = {}
    for path in frames:
        other = known.setdefault(_stem(path), path)
        if other is not path:
            raise UsageError(
                f"{other} and {path} would both give {_stem(path)}.frame.json; reduce them one by one, each with an "
                "--out of its own"
            )


@dataclass(frozen=True, slots=True)
class _Products:
    """The products of each frame: their folder and format, whether to draw pictures, and the stars to inject."""

    out: Path
    form: str
    plots: bool
    stars: int

    def of(self, path: Path, bench: Bench) -> dict[str, Any]:
        """Reduce a frame, write its products, and return its report."""
        from skylake.cli.run_commands import PLACE
        from skylake.errors import FrameError
        from skylake.flow.ingest.ingest_report import unchecked_files, unexposed_files

        stem = self.out / _stem(path)
        try:
            frame = bench.reduce(path)
        except FrameError as error:
            return {"file": str(path), "status": error.status, "reason": error.reason, "message": str(error)}
        row = frame.frame.to_pylist()[0]
        result = {
            name: row[name]
            for name in ("file", "status", "reason", "message", "n_sources", "fwhm_px", *PLACE)
        }
        result["wcs_unchecked"] = bool(unchecked_files(frame.frame))
        result["exposure_assumed"] = bool(unexposed_files(frame.frame, bench.reduction.profile.base))
        result["products"] = [str(one) for one in _write(frame, stem, self.form)]
        if self.plots:
            result["products"] += [
                str(one) for one in (*_draw(frame, stem), *_draw_sky(frame, bench, path, stem))
            ]
        if self.stars:
            result |= _inject(frame, stem, self.stars, bench.zeropoint(frame))
        return result


def _write(frame: SingleFrame, stem: Path, form: str) -> list[Path]:
    """Write the row of a frame, its sources and its targets."""
    from skylake.cli.output import write_table, writing
    from skylake.schema.aperture_columns import spread_apertures

    row = stem.with_name(f"{stem.name}.frame.json")
    with writing(row):
        row.write_text(show.json_text(frame.frame.to_pylist()[0]) + "\n", encoding="utf-8")
    paths = [row]
    for name, table in (("sources", frame.sources), ("forced", frame.forced)):
        if table is not None:
            paths.append(stem.with_name(f"{stem.name}.{name}.{'vot' if form == 'votable' else form}"))
            write_table(spread_apertures(table), paths[-1], form)
    return paths


def _draw(frame: SingleFrame, stem: Path) -> list[Path]:
    """Draw a frame that could be opened."""
    import numpy as np

    from skylake.cli.output import writing
    from skylake.report.checkplot import annotated_frame, background_maps
    from skylake.report.master_plot import pixel_histogram
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
    trails = [] if frame.extracted is None else [trail.ends for trail in frame.extracted.trails]
    figures = {
        "frame": annotated_frame(signal, frame.background.median_rms, x, y, flags, radius, title, trails),
        "background": background_maps(level, frame.background.rms, f"{title}: background"),
        "histogram": pixel_histogram(signal, frame.background.median_rms, f"{title}: pixels"),
    }
    paths = []
    for name, figure in figures.items():
        path = stem.with_name(f"{stem.name}.{name}.png")
        with writing(path):
            save(figure, path)
        paths.append(path)
    return paths


def _draw_sky(frame: SingleFrame, bench: Bench, path: Path, stem: Path) -> list[Path]:
    """Write and draw the sky that was subtracted from a frame, if its camera has that step."""
    from skylake.cli.output import writing
    from skylake.flow.sky.sky_files import write_sky
    from skylake.report.master_plot import master_picture
    from skylake.report.style import save

    sky = None if frame.image is None else bench.sky_of(path)
    if sky is None:
        return []
    sky_file, picture = (stem.with_name(f"{stem.name}.sky.{suffix}") for suffix in ("fits", "png"))
    with writing(sky_file):
        write_sky(sky_file, sky)
    with writing(picture):
        save(
            master_picture(sky.pixels, sky.error, "sky [ADU]", f"{stem.name}: sky that was taken off"),
            picture,
        )
    return [sky_file, picture]


def _inject(frame: SingleFrame, stem: Path, stars: int, zeropoint: float | None) -> dict[str, Any]:
    """Measure completeness, write its curve, and return where it falls to half, as magnitudes.

    Those are calibrated if the frame has a zeropoint, else instrumental.
    """
    import numpy as np

    from skylake.cli.output import write_table, writing
    from skylake.flow.ingest.single_frames import completeness_of
    from skylake.image.quality.completeness import half_light, half_light_in_cells
    from skylake.image.quality.star_injection import InjectionTrial
    from skylake.report.checkplot import completeness_curve
    from skylake.report.style import save

    curve = completeness_of(frame, InjectionTrial(stars))
    if curve is None:
        row = frame.reduced.row
        if row["status"] != "failed":
            show.complain(f"{row['file']}: no stars were injected, as the frame has no measured sources")
        return {"mag_half": None, "mag_half_err": None}
    half = half_light(curve)
    write_table(_curve_table(curve, zeropoint), stem.with_name(f"{stem.name}.completeness.ecsv"), "ecsv")
    limits = {
        "half of the bright stars' share": (half.flux, half.flux_err),
        "S/N of 5 over the noise of the sky": (curve.limiting_flux, float("nan")),
    }
    title = f"{stem.name}: completeness of {curve.n_injected.sum()} stars"
    figure = completeness_curve(curve.flux, curve.fraction, curve.low, curve.high, limits, title, zeropoint)
    path = stem.with_name(f"{stem.name}.completeness.png")
    with writing(path):
        save(figure, path)
    kind = "instrumental" if zeropoint is None else "calibrated"
    result: dict[str, Any] = {"zeropoint": zeropoint, "magnitudes": kind}
    result["mag_sky"] = _magnitude(curve.limiting_flux, zeropoint)
    result["mag_half_cells"] = [
        _magnitude(flux, zeropoint) for flux in half_light_in_cells(curve, half).tolist()
    ]
    if not np.isfinite(half.flux):
        return result | {"mag_half": None, "mag_half_err": None}
    error = 1.0857362 * half.flux_err / half.flux
    return result | {"mag_half": _magnitude(half.flux, zeropoint), "mag_half_err": error}


def _curve_table(curve: Completeness, zeropoint: float | None) -> pa.Table:
    """Return a curve of completeness as a table whose columns have their units and meanings."""
    import numpy as np
    import pyarrow as pa

    values = {name: getattr(curve, name) for name in _CURVE if not name.startswith("mag")}
    values["mag_inst"] = -2.5 * np.log10(curve.flux)
    if zeropoint is not None:
        values["mag"] = values["mag_inst"] + zeropoint
    arrays = {name: pa.array(array) for name, array in values.items()}
    fields = [
        pa.field(name, array.type, metadata=dict(zip(("unit", "description"), _CURVE[name], strict=True)))
        for name, array in arrays.items()
    ]
    return pa.Table.from_arrays(list(arrays.values()), schema=pa.schema(fields))


def _magnitude(flux: float, zeropoint: float | None) -> float:
    return -2.5 * math.log10(flux) + (zeropoint or 0.0)
