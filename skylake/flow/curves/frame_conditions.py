"""What light curves may depend on, gathered from the frames and detections of a lake.

Widths, elongations and the sky are medians of the clean bright detections around the stars, frame by frame: those of
a star itself share the noise of its flux, which a fit would take for an effect. Airmass and hour angle are those of
each star, by its position and the site of the camera.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.camera import Site
from skylake.core.ephemeris import airmass, horizon_axes
from skylake.core.flags import SPOILED, SourceFlag
from skylake.core.group_medians import group_medians
from skylake.core.sphere import ra_dec, unit_vectors
from skylake.curves.gather_block import GatheredBlock
from skylake.flow.curves.field_blocks import FieldBlock
from skylake.lake import Snapshot
from skylake.lake.access.rows_in import stored_rows
from skylake.lake.cameras.camera_sites import sites_of
from skylake.sky.pixels import ranges_around

Floats = npt.NDArray[np.float64]
#: Columns of detections, what they become, and the columns of frames that stand in for them.
_SHAPES = {
    "fwhm_px": ("fwhm_px", "fwhm_px"),
    "shape_d": ("elongation_d", None),
    "shape_k": ("elongation_k", None),
    "sky_adu": ("background", "sky_adu"),
    "sky_rms_adu": ("background_err", "sky_rms_adu"),
}
_OF_FRAMES = ("frame_id", "fwhm_px", "sky_adu", "sky_rms_adu", "airmass", "ccd_temperature_c")
#: Detections of a frame that count: this bright against their errors, and so many of them.
_LEAST_SNR, _LEAST_DETECTIONS = 20.0, 5
#: Detections lie in cells of this order, which are about half a degree wide, with those beside them.
_CELL_ORDER, _MARGIN_ARCSEC = 7, 60.0


def with_conditions(snapshot: Snapshot, field: FieldBlock) -> FieldBlock:
    """Return the stars of a field with the external parameters of their measurements."""
    camera, block, mjd = field.camera, field.block, field.mjd
    place = field.rows["ra_deg"].to_numpy(), field.rows["dec_deg"].to_numpy()
    frames = _of_frames(snapshot, camera, block)
    detected = _of_detections(snapshot, camera, block, place)
    known: dict[str, Floats] = {}
    for column, (name, fallback) in _SHAPES.items():
        values = detected[column]
        spare = frames[fallback] if fallback is not None else np.full(len(mjd), np.nan)
        known[name] = np.where(np.isfinite(values), values, spare)
    known["temperature"] = frames["ccd_temperature_c"]
    site = sites_of(snapshot.layout, [camera])[camera]
    known |= _above(mjd, place, site) if site.known else {"airmass": frames["airmass"]}
    some: dict[str, Any] = {name: values for name, values in known.items() if np.isfinite(values).any()}
    return replace(field, block=replace(block, parameters=replace(block.parameters, **some)))


def _of_frames(snapshot: Snapshot, camera: str, block: GatheredBlock) -> dict[str, Floats]:
    """Return columns of the frames of a block."""
    seen = pc.field("frame_id").isin(pa.array(block.frame_id))
    rows = snapshot.read("frames", _OF_FRAMES, lambda part: part.camera == camera, seen)
    ids = rows["frame_id"].to_numpy()
    order = np.argsort(ids)
    at = order[np.searchsorted(ids, block.frame_id, sorter=order)]
    return {name: _floats(rows[name])[at] for name in _OF_FRAMES[1:]}


def _of_detections(
    snapshot: Snapshot, camera: str, block: GatheredBlock, place: tuple[Floats, Floats]
) -> dict[str, Floats]:
    """Return medians over the detections around the stars, NaN on frames with few."""
    ranges = ranges_around(*place, _MARGIN_ARCSEC, _CELL_ORDER)
    columns = ["frame_id", "camera", "flags", "flux_aper2", "flux_aper2_err", *_SHAPES]
    rows = stored_rows(snapshot, "sources", ranges, columns)
    ids = rows["frame_id"].to_numpy()
    order = np.argsort(block.frame_id)
    known = block.frame_id[order]
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    flux, error = (_floats(rows[name]) for name in ("flux_aper2", "flux_aper2_err"))
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (known[at] == ids) & (flux / error > _LEAST_SNR)
    # Frames of relative light curves were rejected for their place, which says nothing of the shapes of stars.
    good &= (rows["flags"].to_numpy().astype(np.int64) & int(SPOILED & ~SourceFlag.FRAME_REJECTED)) == 0
    good &= np.asarray(pc.equal(rows["camera"], camera).to_numpy(zero_copy_only=False), bool)
    return {name: _medians(_floats(rows[name]), order[at], good, len(known)) for name in _SHAPES}


def _medians(values: Floats, frame: npt.NDArray[np.intp], good: npt.NDArray[np.bool_], count: int) -> Floats:
    some = good & np.isfinite(values)
    counts = np.bincount(frame[some], minlength=count)
    order = np.argsort(frame[some], kind="stable")
    medians = group_medians(values[some][order], np.append(0, np.cumsum(counts)))
    return np.where(counts >= _LEAST_DETECTIONS, medians, np.nan)


def _above(mjd: Floats, place: tuple[Floats, Floats], site: Site) -> dict[str, Floats]:
    """Return airmass and hour angle (degrees) of each star on each frame, of shape (n_stars, n_frames)."""
    zenith = horizon_axes(mjd, site)[0]
    altitude = np.degrees(np.arcsin(np.clip(unit_vectors(*place) @ zenith.T, -1.0, 1.0)))
    sidereal, _ = ra_dec(zenith)
    hour = (sidereal[None, :] - np.asarray(place[0])[:, None] + 180.0) % 360.0 - 180.0
    return {"airmass": airmass(altitude), "hour_angle": hour}


def _floats(values: pa.ChunkedArray) -> Floats:
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), float)
