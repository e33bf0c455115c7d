"""Frames that come as tables of detections: rows of ``frames`` and ``sources`` without pixels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.cameras import HeaderReading, Profile, read_header
from skylake.core.camera import Camera
from skylake.core.doubts import doubted
from skylake.core.flags import FrameFlag
from skylake.core.frame import Image
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import RowPart, Step, joined
from skylake.core.ids import frame_id
from skylake.core.reasons import Reason
from skylake.core.sphere import ra_dec, separation_deg, unit_vectors
from skylake.errors import FrameError, FrameFailed, UsageError
from skylake.flow.execution.task_guard import guard
from skylake.flow.ingest.chunk_rows import Chunk, write_rows
from skylake.flow.ingest.frame_tasks import Reduction, as_text, bare_rows
from skylake.flow.ingest.table_rows import TableColumns, TableFrame, file_header, read_frames
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.quality.frame_verdicts import apply_gates
from skylake.image.reduction.frame_record import FrameRecord, ReducedFrame, failed_frame, new_row
from skylake.image.reduction.frame_stages import header_row
from skylake.image.solving.locate_frame import locate, point
from skylake.image.solving.located_frame import Located, Reference, pointing_row, require_right, sky_row
from skylake.image.wcs.header_wcs import Pointing, describe_pointing
from skylake.table.frames import frames_table
from skylake.table.sources import sources_table, whole_sky_site

Floats = npt.NDArray[np.float64]

_SECONDS_PER_DAY = 86_400.0
#: Error of a position in pixels where a frame is solved: tables seldom give any.
_PLACE_ERR_PX = 0.3
#: Wider fields have pixels of equal angles rather than tangents.
_WIDE_DEG = 60.0
#: Pixels beyond the outermost detection.
_BORDER_PX = 1.0
#: Detections that a WCS can be fitted to.
_LEAST_FIT = 4
#: What wcs_source says of positions that the table gives.
FROM_TABLE = "table"


@dataclass(frozen=True, slots=True)
class TableChunks:
    """What became of one file.

    Attributes
    ----------
    chunks : dict
        Frames by night.
    n_known : int
        Frames that the lake holds already.
    n_left_out : int
        Rows that lack a position, flux or error.
    """

    chunks: dict[int, Chunk]
    n_known: int
    n_left_out: int


def reduce_table(
    path: Path, columns: TableColumns, reduction: Reduction, held: Mapping[str, int], out: Path
) -> TableChunks:
    """Return the frames of a table as rows; runs on a worker.

    Parameters
    ----------
    path : Path
    columns : TableColumns
    reduction : Reduction
        Camera and catalog.
    held : mapping
        Frames of the file that the lake holds and that need not be done again, file to frame_id.
    out : Path
        Folder for the rows of ``sources``, a file for each night.

    Raises
    ------
    CatalogError
        If the file cannot be read.
    UsageError
        If the profile lacks what positions need.
    """
    given, n_left_out = read_frames(path, columns)
    header, profile = file_header(path), reduction.profile
    reference = reduction.params(None, None).reference
    by_night: dict[int, list[ReducedFrame]] = {}
    n_known = 0
    for frame in given:
        row = _new_row(profile, path, frame)
        if held.get(row["file"]) == row["frame_id"]:
            n_known += 1
            continue
        reduced = guard(partial(_reduced, row, frame, columns, header, reduction, reference))
        if isinstance(reduced, FrameError):
            reduced = failed_frame(row, reduced)
        by_night.setdefault(reduced.row["night"], []).append(reduced)
    chunks = {
        night: _written(frames, profile, out / f"{night}.arrow") for night, frames in sorted(by_night.items())
    }
    return TableChunks(chunks, n_known, n_left_out)


def _new_row(profile: Profile, path: Path, frame: TableFrame) -> FrameRow:
    file = as_text(f"{path}#{frame.name}" if frame.name else str(path))
    status = path.stat()
    row = new_row(profile, file)
    row["frame_id"] = frame_id(profile.name, "table", frame.content)
    row["file_bytes"], row["file_modified_ns"] = status.st_size, status.st_mtime_ns
    return row


def _written(frames: list[ReducedFrame], profile: Profile, out: Path) -> Chunk:
    """Write the detections of some frames of a night."""
    tables = []
    for one in frames:
        if one.sources is not None and one.ra_deg is not None and one.dec_deg is not None:
            site = whole_sky_site(profile.at(one.row.get("mjd_mid")))
            tables.append(sources_table(one.row, one.sources, one.ra_deg, one.dec_deg, site))
    rows = bare_rows(frames_table([one.row for one in frames]))
    return Chunk(rows, write_rows(tables, "sources", out))


def _reduced(
    row: FrameRow,
    frame: TableFrame,
    columns: TableColumns,
    header: Any,
    reduction: Reduction,
    reference: Reference | None,
) -> ReducedFrame:
    """Return one frame as an ingest of its pixels would."""
    record = FrameRecord(row)
    try:
        places = _reduce(record, frame, columns, header, reduction, reference)
    except FrameError as error:
        record.refuse(error)
        places = None
    reduced = record.reduced()
    if places is None or reduced.ra_deg is None:
        return reduced
    return replace(reduced, ra_deg=places[0], dec_deg=places[1])


def _reduce(
    record: FrameRecord,
    frame: TableFrame,
    columns: TableColumns,
    header: Any,
    reduction: Reduction,
    reference: Reference | None,
) -> tuple[Floats, Floats] | None:
    """Add all that is known of a frame to its record; return the positions that the table gives."""
    reading = _reading(frame, columns, header, reduction.profile, record.row["file"])
    record.add(joined(RowPart(header_row(reading)), doubted(reading.doubts)))
    if reading.problem is not None:
        raise FrameFailed(*reading.problem)
    camera = reading.camera
    pointing = None if frame.ra_deg is None or frame.dec_deg is None else _pointing_of(frame, camera)
    x, y, shape = _pixels(frame, camera, pointing)
    order = np.lexsort((x, y))
    measured = _measurements(frame, columns, reading, (x, y), shape, order)
    name = camera.apertures.flux
    known: dict[str, Any] = {
        "width_px": shape[1],
        "height_px": shape[0],
        f"apcor_{name}": 1.0,
        f"apcor_{name}_err": 0.0,
        "n_detected": len(order),
        "n_sources": len(order),
    }
    radii = zip(camera.apertures.circles, camera.apertures.radii_px, strict=True)
    known |= {f"{circle}_radius_px": radius for circle, radius in radii}
    record.add(RowPart(known))  # type: ignore[arg-type]
    located = _located(record, frame, reading, header, measured, shape, pointing, reference)
    record.add(apply_gates(record.row, camera, located.found))
    record.keep_sources(measured)
    record.place_sources(require_right(located, record.row, camera))
    if frame.ra_deg is None or frame.dec_deg is None:
        return None
    return frame.ra_deg[order], frame.dec_deg[order]


def _reading(
    frame: TableFrame, columns: TableColumns, header: Any, profile: Profile, file: str
) -> HeaderReading:
    """Return what header and table say of a frame; what the table says goes before."""
    reading = read_header(header, profile, Path(file.removesuffix(f"#{frame.name}")).name)
    if frame.exposure_s is not None:
        reading.exposure_s = frame.exposure_s
        reading.flags &= ~FrameFlag.EXPOSURE_ASSUMED
    if frame.mjd is not None:
        # A camera may be another one at that time.
        reading = replace(reading, camera=profile.at(frame.mjd))
        days = reading.exposure_s / _SECONDS_PER_DAY if _has_exposure(frame, reading) else 0.0
        reading.mjd_start = frame.mjd - {"start": 0.0, "mid": 0.5, "end": 1.0}[columns.time_of] * days
        reading.mjd_mid, reading.mjd_end = reading.mjd_start + 0.5 * days, reading.mjd_start + days
        reading.time_source = f"column {columns.time}"[:64] if isinstance(columns.time, str) else "--time"
        if reading.problem is not None and reading.problem[0] in (Reason.NO_TIME, Reason.BAD_HEADER):
            reading.problem = None
    if frame.filter is not None:
        band = reading.camera.filter_band(frame.filter)
        reading.filter, reading.band = frame.filter, None if band is None else band.band
        reading.flags &= ~(FrameFlag.FILTER_ASSUMED | FrameFlag.FILTER_UNKNOWN)
        reading.flags |= FrameFlag.FILTER_UNKNOWN if band is None else FrameFlag(0)
    stated = {"exposure_s": frame.exposure_s, "mjd_start": frame.mjd}
    reading.doubts = [doubt for doubt in reading.doubts if stated.get(doubt.quantity) is None]
    if reading.problem is not None and reading.problem[0] == Reason.NO_TIME:
        reading.problem = (Reason.NO_TIME, f"{reading.problem[1]}; or give --time with a column or a time")
    return reading


def _has_exposure(frame: TableFrame, reading: HeaderReading) -> bool:
    return frame.exposure_s is not None or not reading.flags & FrameFlag.EXPOSURE_ASSUMED


def _pointing_of(frame: TableFrame, camera: Camera) -> Pointing:
    """Return the pointing of a frame whose detections have positions on the sky.

    Where they have pixels too it is fitted to both. Else north is up in an image of the scale of the camera.
    """
    assert frame.ra_deg is not None and frame.dec_deg is not None
    if frame.x is not None and frame.y is not None and len(frame.x) >= _LEAST_FIT:
        shape = _shape(frame.x, frame.y, camera)
        return describe_pointing(_fitted_wcs(frame, shape), *shape)
    wcs, shape = _north_up(frame.ra_deg, frame.dec_deg, camera)
    return describe_pointing(wcs, *shape)


def _fitted_wcs(frame: TableFrame, shape: tuple[int, int]) -> Any:
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import fit_wcs_from_points

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sky = SkyCoord(frame.ra_deg, frame.dec_deg, unit="deg")
        return fit_wcs_from_points((frame.x, frame.y), sky, proj_point="center", projection="TAN")


def _north_up(ra_deg: Floats, dec_deg: Floats, camera: Camera) -> tuple[Any, tuple[int, int]]:
    """Return a WCS with north up about the middle of some positions, and the image that holds them."""
    from astropy.wcs import WCS

    scale = camera.optics.pixel_scale_arcsec
    if scale is None:
        raise UsageError(
            f"the profile of {camera.name} has no optics.pixel_scale_arcsec, which says how near detections and stars "
            "are to each other; add it"
        )
    middle_ra, middle_dec = (float(one) for one in ra_dec(unit_vectors(ra_deg, dec_deg).mean(axis=0)))
    widest = float(np.max(separation_deg(middle_ra, middle_dec, ra_deg, dec_deg), initial=0.0))
    kind = "ARC" if widest > 0.5 * _WIDE_DEG else "TAN"
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{kind}", f"DEC--{kind}"]
    wcs.wcs.crval = [middle_ra, middle_dec]
    wcs.wcs.cdelt = [-scale / 3600.0, scale / 3600.0]
    x, y = wcs.all_world2pix(ra_deg, dec_deg, 0)
    known = camera.image_shape or (1, 1)
    reach = [2.0 * (float(np.max(np.abs(one + 1.0), initial=0.0)) + _BORDER_PX) for one in (y, x)]
    height, width = (max(known[axis], int(np.ceil(reach[axis]))) for axis in (0, 1))
    wcs.wcs.crpix = [0.5 * (width + 1), 0.5 * (height + 1)]
    return wcs, (height, width)


def _shape(x: Floats, y: Floats, camera: Camera) -> tuple[int, int]:
    """Return height and width of the image: those of the profile, or as large as the detections need it."""
    known = camera.image_shape or (1, 1)
    needed = [int(np.ceil(float(np.max(one, initial=0.0)) + _BORDER_PX)) for one in (y, x)]
    return max(known[0], needed[0]), max(known[1], needed[1])


def _pixels(
    frame: TableFrame, camera: Camera, pointing: Pointing | None
) -> tuple[Floats, Floats, tuple[int, int]]:
    """Return the pixels of detections, given or those of their positions, and the shape of the image."""
    if frame.x is not None and frame.y is not None:
        return frame.x, frame.y, _shape(frame.x, frame.y, camera)
    assert pointing is not None
    x, y = pointing.wcs.all_world2pix(frame.ra_deg, frame.dec_deg, 0)
    height, width = (round(2.0 * centre - 1.0) for centre in reversed(pointing.wcs.wcs.crpix))
    return np.asarray(x), np.asarray(y), (height, width)


def _measurements(
    frame: TableFrame,
    columns: TableColumns,
    reading: HeaderReading,
    places: tuple[Floats, Floats],
    shape: tuple[int, int],
    order: npt.NDArray[np.intp],
) -> Measurements:
    """Return detections as measurements: the flux of calibrations, and NaN for all that a table does not say."""
    x, y, name = places[0][order], places[1][order], reading.camera.apertures.flux
    scale = 1.0 / reading.exposure_s if columns.per_exposure else 1.0
    nothing, zeros = np.full(len(x), np.nan), np.zeros(len(x), np.int32)
    height, width = shape
    values = {"flux": frame.flux[order] * scale, "flux_err": frame.flux_err[order] * scale}
    values["apcor"] = np.ones(len(x))
    by_flux = {
        column: {one: value if one == name else nothing for one in reading.camera.apertures.fluxes}
        for column, value in values.items()
    }
    return Measurements(
        x=x,
        y=y,
        x_err=nothing,
        y_err=nothing,
        edge_distance=np.min([x + 0.5, y + 0.5, width - 0.5 - x, height - 0.5 - y], axis=0),
        crowding=nothing,
        kron_radius=nothing,
        flux_max=nothing,
        sky=nothing,
        sky_rms=nothing,
        n_pixels=zeros,
        fwhm=nothing,
        half_light=nothing,
        a=nothing,
        b=nothing,
        theta=nothing,
        flags=zeros,
        number=np.arange(len(x), dtype=np.int32),
        **by_flux,
    )


def _located(
    record: FrameRecord,
    frame: TableFrame,
    reading: HeaderReading,
    header: Any,
    measured: Measurements,
    shape: tuple[int, int],
    pointing: Pointing | None,
    reference: Reference | None,
) -> Located:
    """Return where a frame points: as its positions say, else by its header, else by the pattern of its stars."""
    if pointing is not None:
        columns: FrameRow = {"wcs_source": FROM_TABLE, "flags": FrameFlag.WCS_UNCHECKED}
        record.add(RowPart(columns | pointing_row(pointing) | sky_row(reading, pointing)))
        return Located(pointing)
    blank = Image(
        np.broadcast_to(np.float32(0.0), shape), np.broadcast_to(np.uint8(0), shape), offset=(0.0, 0.0)
    )
    given = record.take(point(header, reading, blank))
    flux = measured.flux[reading.camera.apertures.flux]
    errors = np.full(len(flux), _PLACE_ERR_PX)
    # Stars are ranked by their light in the first aperture.
    stars = replace(measured, flux=measured.flux | {"aper1": flux}, x_err=errors, y_err=errors)
    step: Step[Located] = locate(record.row, reading, header, blank, given, stars, reference)
    return record.take(step)
