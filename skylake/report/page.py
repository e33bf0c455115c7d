"""One HTML page with the state of a lake and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.transparency import RELATIVE_PER_MAG, frame_transparency
from skylake.durable import replace_text
from skylake.errors import LakeError, reason_of
from skylake.lake import Lake, Snapshot
from skylake.lake.access.open_table import OpenTable
from skylake.report import cell_plots, collect, forced_plots, plots
from skylake.report.curves import curve_of_object
from skylake.report.pictures import PagePicture, draw
from skylake.report.stars.star_picture import curve_figure
from skylake.report.zeropoint_plots import transparency_over_time
from skylake.revision import VERSION
from skylake.table.combine_maps import MAPS, combine

if TYPE_CHECKING:
    pass

_TEMPLATES = Path(__file__).parent / "templates"
#: Frames that are listed by name, and alerts.
_MAX_CONCERNS = 50
_MAX_ALERTS = 50
_MAX_STARS = 3
#: Residuals over the field are those of stars measured better than this, apart from what all stars share.
_BRIGHT_MAG_ERR = 0.03
#: And of stars with no larger share of light from neighbours.
_MAX_CROWDING = 0.05


def write_report(lake: Lake, out: Path, as_of: str | None = None) -> list[Path]:
    """Write ``index.html`` and its pictures into a folder.

    Parameters
    ----------
    lake : Lake
    out : Path
        Made if it is not there. A picture in it that would show the same is left alone.
    as_of : str or None
        Number of a snapshot, or a time: the lake as it was. None means as it is.

    Returns
    -------
    list of Path
        The page, then the pictures.

    Raises
    ------
    LakeError
        If the folder cannot be written, or there is no such snapshot.
    """
    snapshot = lake.snapshot(as_of)
    try:
        out.mkdir(parents=True, exist_ok=True)
        pictures = [*_camera_pictures(lake, snapshot, out), *_star_pictures(lake, snapshot, out)]
        page = out / "index.html"
        replace_text(page, _render(lake, snapshot, pictures))
        replace_text(out / "style.css", (_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    except OSError as error:
        raise LakeError(f"{out}: the report cannot be written ({reason_of(error)})") from error
    return [page, *(out / picture.file for picture in pictures)]


def _render(lake: Lake, snapshot: Snapshot, pictures: list[PagePicture]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    catalogs = {camera: lake.calibrating_catalog(camera) for camera in collect.cameras(snapshot)}
    nights = collect.nights(snapshot)
    return environment.get_template("index.html").render(
        name=lake.root.name,
        snapshot=snapshot.number,
        version=VERSION,
        tables=[(name, len(OpenTable(snapshot, name))) for name in _counted(snapshot)],
        catalog=", ".join(sorted(set(catalogs.values()) - {""})),
        status=collect.counts_of_status(snapshot),
        undated=collect.undated_frames(snapshot),
        nights=nights,
        alerts=collect.newest_alerts(snapshot, _MAX_ALERTS),
        n_alerts=_MAX_ALERTS,
        epochs=collect.epochs_of_cameras(snapshot),
        concerns=collect.frames_of_concern(snapshot, catalogs, _MAX_CONCERNS),
        n_concerns=_MAX_CONCERNS,
        committed=f"{lake.entry(snapshot.number).time_utc:%Y-%m-%d %H:%M} UTC",
        pictures=pictures,
    )


def _counted(snapshot: Snapshot) -> list[str]:
    """Return the tables whose rows are counted: those of targets where there are some."""
    names = ["frames", "sources", "matches", "zeropoints", "lightcurves"]
    return names + [name for name in ("forced_sources", "forced_lightcurves") if snapshot.n_rows(name)]


def _camera_pictures(lake: Lake, snapshot: Snapshot, out: Path) -> list[PagePicture]:
    pictures = []
    for camera in collect.cameras(snapshot):
        catalog = lake.calibrating_catalog(camera)
        zeropoints = collect.zeropoints_in_force(snapshot, catalog)
        mine = zeropoints.filter(pc.equal(zeropoints["camera"], camera))
        band = np.asarray(pc.fill_null(mine["band"], "no band").to_pylist(), object)
        mjd, zp, zp_err = (collect.floats(mine, name) for name in ("mjd_mid", "zp", "zp_err"))
        caption = f"Zeropoint of every calibrated frame of {camera}."
        shown: tuple[Any, ...] = (mjd, zp, zp_err, band, camera)
        pictures.append(draw(out, f"zeropoint-{camera}.png", caption, plots.zeropoint_against_time, *shown))
        pictures += _transparency_pictures(snapshot, mine, camera, out)
        pictures += _match_pictures(snapshot, catalog, camera, out)
        frames = collect.frames_of(
            snapshot, camera, ["mjd_mid", "sky_adu", "exposure_s", "fwhm_px", "status"]
        )
        good = frames.filter(pc.equal(frames["status"], "ok"))
        sky = collect.floats(good, "sky_adu") / collect.floats(good, "exposure_s")
        caption = f"Sky background and width of stars, {camera}."
        shown = (collect.floats(good, "mjd_mid"), sky, collect.floats(good, "fwhm_px"), camera)
        pictures.append(draw(out, f"sky-{camera}.png", caption, plots.sky_and_seeing, *shown))
        pictures += _cell_pictures(snapshot, camera, out)
        pictures += _forced_pictures(snapshot, camera, out)
    return pictures + _map_pictures(snapshot, out)


def _transparency_pictures(
    snapshot: Snapshot, zeropoints: pa.Table, camera: str, out: Path
) -> list[PagePicture]:
    """Draw how transparent the sky was, if the level of clear nights is known."""
    nights = snapshot.read("photometric_nights", where=lambda part: part.camera == camera)
    frames = collect.frames_of(snapshot, camera, ["frame_id", "airmass"])
    found = frame_transparency(zeropoints, frames, nights)
    if not np.isfinite(found.value).any():
        return []
    random = found.value * RELATIVE_PER_MAG * collect.floats(zeropoints, "zp_random_err")
    level_err = RELATIVE_PER_MAG * float(np.nanmedian(collect.floats(nights, "zp_clear_err")))
    title = f"{camera}: transparency"
    shown = (collect.floats(zeropoints, "mjd_mid"), found.value, random, found.is_cloudy, level_err, title)
    caption = f"Transparency of every calibrated frame of {camera}, relative to clear nights around."
    return [draw(out, f"transparency-{camera}.png", caption, transparency_over_time, *shown)]


def _map_pictures(snapshot: Snapshot, out: Path) -> list[PagePicture]:
    pictures = []
    rows = snapshot.read("maps")
    for name in ("visits", "residual", "limit", "completeness"):
        made = combine(rows, name)
        if name in ("limit", "completeness") and made.pixels.size == 0:
            continue
        caption = f"Map of {MAPS[name].label}."
        shown = (made.pixels, made.values, made.order, MAPS[name].label, f"All cameras: {name}")
        pictures.append(draw(out, f"map-{name}.png", caption, plots.sky_map, *shown))
    return pictures


def _cell_pictures(snapshot: Snapshot, camera: str, out: Path) -> list[PagePicture]:
    """Draw how images of stars differ over the field, if a frame shows it."""
    names = [*cell_plots.FWHM_COLUMNS, *cell_plots.ELLIPTICITY_COLUMNS]
    frames = collect.frames_of(snapshot, camera, ["mjd_mid", "n_uneven_cells", *names])
    frames = frames.filter(pc.is_valid(frames["n_uneven_cells"]))
    if frames.num_rows == 0:
        return []
    fwhm, ellipticity = (
        np.column_stack([collect.floats(frames, name) for name in some])
        for some in (cell_plots.FWHM_COLUMNS, cell_plots.ELLIPTICITY_COLUMNS)
    )
    mjd, uneven = collect.floats(frames, "mjd_mid"), collect.floats(frames, "n_uneven_cells")
    shown = (mjd, fwhm, ellipticity, uneven, camera)
    caption = f"Width and ellipticity of stars in 3 x 3 parts of the image of {camera}; grey: too few stars."
    return [draw(out, f"cells-{camera}.png", caption, cell_plots.cells_over_time, *shown)]


def _forced_pictures(snapshot: Snapshot, camera: str, out: Path) -> list[PagePicture]:
    """Draw how well targets repeat, if enough have light curves to say so."""
    columns = ["mag_mean", "mag_mean_random_err", "mag_scatter", "n_clean"]
    rows = snapshot.merged("forced_lightcurves", columns, of=pc.field("camera") == camera)
    if rows.num_rows < forced_plots.LEAST_CURVES:
        return []
    shown = (*(collect.floats(rows, name) for name in columns), camera)
    caption = f"How well forced photometry of {camera} repeats; the line is what random errors let expect."
    return [draw(out, f"forced-{camera}.png", caption, forced_plots.scatter_against_magnitude, *shown)]


def _match_pictures(snapshot: Snapshot, catalog: str, camera: str, out: Path) -> list[PagePicture]:
    calibrated = collect.calibrated_matches(snapshot, catalog, camera)
    residual = np.where(calibrated.clean, calibrated.photometry.residual, np.nan)
    # Faint stars are detected where noise makes them brighter, and neighbours add to the light of others: a picture of
    # the field is one of bright lonely stars.
    crowding = np.fmax(
        collect.floats(calibrated.matches, "crowding"), collect.floats(calibrated.matches, "ref_crowding")
    )
    lonely = np.nan_to_num(crowding) <= _MAX_CROWDING
    bright = np.where((calibrated.random_err <= _BRIGHT_MAG_ERR) & lonely, residual, np.nan)
    size = collect.frames_of(snapshot, camera, ["width_px", "height_px"])
    width, height = (pc.max(size[name]).as_py() or 1 for name in ("width_px", "height_px"))
    x, y = collect.floats(calibrated.matches, "x_px"), collect.floats(calibrated.matches, "y_px")
    mag = collect.floats(calibrated.matches, "ref_mag")
    over_field = (x, y, bright, width, height, camera)
    against_mag = (mag, residual, catalog or "none")
    where = f"Where on the detector of {camera} stars come out too bright or faint."
    how_well = f"How well {camera} reproduces catalog magnitudes."
    return [
        draw(out, f"field-{camera}.png", where, plots.residuals_over_field, *over_field),
        draw(out, f"residuals-{camera}.png", how_well, plots.residuals_against_magnitude, *against_mag),
    ]


def _star_pictures(lake: Lake, snapshot: Snapshot, out: Path) -> list[PagePicture]:
    pictures = []
    for number, star in enumerate(collect.most_variable(lake, snapshot, _MAX_STARS), start=1):
        curve = curve_of_object(snapshot, star["object_id"], star["catalog"])
        how = f"scatters {star['excess']:.1f} times as much as expected"
        caption = f"Star {star['object_id']} of {star['catalog']}, number {number}: {how}."
        pictures.append(draw(out, f"star-{number}.png", caption, curve_figure, curve))
    return pictures
