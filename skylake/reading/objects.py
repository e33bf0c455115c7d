"""The objects of a lake: what its cameras see, in a catalog or not, with the statistics of all nights."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.errors import UsageError
from skylake.lake import Snapshot
from skylake.schema import arrow_schema, load
from skylake.sky.sky_region import SkyRegion
from skylake.table.band_statistics import MORE_BANDS, bands_of, in_band, join_bands, split_bands

NAME, QUALIFIED = "objects", "qualified"
#: Columns of the table that say nothing of objects in force.
_UNUSED = ("_healpix_29", "status", "joined_to")


class ObjectOptions(TypedDict, total=False):
    """The options of ``lake.objects``."""

    moc: str | os.PathLike[str] | None
    camera: str | None
    band: str | None
    matched: bool | None
    mag: tuple[float | None, float | None]
    least_detections: int


@dataclass(frozen=True, slots=True)
class ObjectChoice:
    """Which objects are wanted.

    Attributes
    ----------
    cone : (float, float, float) or None
        Right ascension, declination and radius, degrees.
    moc : Path or None
        File with a coverage map.
    camera, band : str or None
    matched : bool or None
        Whether they have a star of the catalog; None takes both.
    mag : (float or None, float or None)
        Limits of the mean magnitude, included.
    least_detections : int
    """

    cone: tuple[float, float, float] | None = None
    moc: Path | None = None
    camera: str | None = None
    band: str | None = None
    matched: bool | None = None
    mag: tuple[float | None, float | None] = (None, None)
    least_detections: int = 1


def objects_in_force(snapshot: Snapshot, choice: ObjectChoice) -> pa.Table:
    """Return objects, a row for each camera and object, the brightest first.

    Returns
    -------
    pyarrow.Table
        Columns of ``objects`` without status. Fluxes and magnitudes are those of the band that was chosen; without one
        those of the first band of each object, and ``more_bands`` has the others.

    Raises
    ------
    UsageError
        If no object has a camera or band of that name, the limits of magnitudes are none, or a coverage map cannot be
        read.
    """
    low, high = _limits(choice.mag)
    _require(snapshot, choice)
    wanted = (pc.field("status") == QUALIFIED) & (pc.field("n_detections") >= choice.least_detections)
    if choice.matched is not None:
        wanted &= pc.field("ref_id").is_valid() if choice.matched else pc.field("ref_id").is_null()
    if choice.camera is not None:
        wanted &= pc.field("camera") == choice.camera
    if choice.cone is not None:
        rows = snapshot.cone(NAME, *choice.cone, None, wanted)
    else:
        rows = snapshot.read(NAME, None, lambda part: choice.camera in (None, part.camera), wanted)
    if choice.moc is not None:
        region = SkyRegion.of_moc(choice.moc)
        rows = rows.filter(pa.array(region.holds(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())))
    if choice.band is not None:
        rows = _of_band(rows, choice.band)
    for limit, holds in ((low, pc.greater_equal), (high, pc.less_equal)):
        rows = rows if limit is None else rows.filter(pc.fill_null(holds(rows["mag_mean"], limit), False))
    order = [("mag_mean", "ascending"), ("camera", "ascending"), ("object_id", "ascending")]
    return rows.drop_columns(list(_UNUSED)).sort_by(order)


def _limits(mag: object) -> tuple[float | None, float | None]:
    """Return the limits of magnitudes as numbers, whatever pair they are; refuse what is none."""
    try:
        low, high = (None if one is None else float(one) for one in mag)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if any(one is not None and math.isnan(one) for one in (low, high)) or (
        low is not None and high is not None and low > high
    ):
        raise UsageError(f"mag is (brightest, faintest), as in (9, 12) or (None, 12), and not {mag!r}")
    return low, high


def _require(snapshot: Snapshot, choice: ObjectChoice) -> None:
    """Refuse a camera that has no objects."""
    cameras = sorted(part.camera for part in snapshot.parts(NAME).values() if part.camera)
    if choice.camera is not None and choice.camera not in cameras:
        has = f"those of {', '.join(cameras)}" if cameras else "none; `skylake aggregate` makes them"
        raise UsageError(f"the lake has no objects of the camera {choice.camera!r}; it has {has}")


def _of_band(rows: pa.Table, band: str) -> pa.Table:
    """Return objects that were seen in a band, with the statistics of this band in the plain columns."""
    columns = split_bands(rows)
    if rows.num_rows == 0:
        return rows.drop_columns([MORE_BANDS])
    if band not in bands_of(columns):
        known = ", ".join(one for one in bands_of(columns) if one) or "none"
        raise UsageError(f"no object that you ask for was seen in the band {band!r}; their bands are {known}")
    made = join_bands(columns | {"band": np.full(rows.num_rows, band, object)}, NAME)
    form = arrow_schema(load(NAME))
    for name, values in made.items():
        rows = rows.set_column(
            rows.schema.get_field_index(name), form.field(name), values.cast(form.field(name).type)
        )
    seen = (columns[in_band("n_flux", band)] > 0) | (columns[in_band("n_good", band)] > 0)
    return rows.filter(pa.array(seen)).drop_columns([MORE_BANDS])
