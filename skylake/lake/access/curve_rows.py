"""Light curves of the stars in a part of the sky: pieces in which to read them, rows and measurements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.sphere import INDEX_ORDER, IntArray
from skylake.lake.access.rows_in import rows_in, stored_rows
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.storage.parts import Part
from skylake.sky.cone import touched_pixels
from skylake.sky.pixels import Pixel, pixel_range
from skylake.sky.sky_region import SkyRegion

#: Which measurements of a star: those at its place, detected or not, its detections, or detections on frames that no
#: catalog places, relative to the stars of the field.
Measured = Literal["forced", "detected", "relative"]
#: Table of light curves or of what they are made of, and the columns of the identifier and catalog of a star.
TABLES: dict[Measured, tuple[str, str, str]] = {
    "forced": ("forced_lightcurves", "ref_id", "origin"),
    "detected": ("lightcurves", "object_id", "catalog"),
    "relative": ("sources", "object_id", "catalog"),
}
#: Relative light curves have no files, and are divided from here.
_WHOLE_SKY = [(0, number) for number in range(12)]
_NESTED = ("lightcurve", "lightcurve_errors")


def curve_pieces(
    snapshot: Snapshot, table: str, region: SkyRegion, most_points: int
) -> Iterator[tuple[Pixel, int]]:
    """Yield pixels that hold the light curves of a region, each with the number of its measurements.

    The files of the table are divided until no pixel has more measurements than wanted, if it has several stars. With
    ``lightcurves`` the detections of objects that no catalog has count.
    """
    # It calibrates, with compiled code that opening a lake does not need.
    from skylake.lake.access.unlisted_curves import unlisted_objects

    is_relative = table == TABLES["relative"][0]
    leaves = _WHOLE_SKY if is_relative else sorted(snapshot.version(table).leaves)
    for pixel in touched_pixels(leaves, region.ranges):
        rows = (
            curve_rows(snapshot, "relative", region.inside(pixel), region)
            if is_relative
            else stored_rows(snapshot, table, region.inside(pixel), ["n_points"])
        )
        index, counts = (rows[name].to_numpy() for name in ("_healpix_29", "n_points"))
        if table == TABLES["detected"][0]:
            more = unlisted_objects(snapshot, region.inside(pixel))
            index = np.append(index, more["_healpix_29"].to_numpy())
            counts = np.append(counts, more["n_detections"].to_numpy())
        order = np.argsort(index, kind="stable")
        total = np.append(0, np.cumsum(counts[order].astype(np.int64)))
        yield from _divided(pixel, index[order], total, most_points)


def _divided(pixel: Pixel, index: IntArray, total: IntArray, most: int) -> Iterator[tuple[Pixel, int]]:
    order, number = pixel
    first, last = np.searchsorted(index, pixel_range(order, number))
    count = int(total[last] - total[first])
    if count == 0:
        return
    if count <= most or index[first] == index[last - 1] or order == INDEX_ORDER:
        yield pixel, count
        return
    for child in range(4 * number, 4 * number + 4):
        yield from _divided((order + 1, child), index, total, most)


def curve_rows(snapshot: Snapshot, kind: Measured, ranges: IntArray, region: SkyRegion) -> pa.Table:
    """Return the light curves of a region whose index is in ranges, merged, by object_id and band.

    ``object_id`` and ``catalog`` are those of the stars: a target that no catalog has is its own.
    """
    # It calibrates, with compiled code that opening a lake does not need.
    from skylake.lake.access.relative_curves import relative_curves

    table, number, catalog = TABLES[kind]
    rows = relative_curves(snapshot) if kind == "relative" else rows_in(snapshot, table, ranges)
    for part in (SkyRegion(ranges), region) if kind == "relative" else (region,):
        rows = rows.filter(pa.array(part.holds(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())))
    if kind == "forced":
        rows = rows.append_column("object_id", pc.coalesce(rows[number], rows["star_id"]))
        rows = rows.rename_columns({"catalog": "zp_catalog"}).rename_columns({catalog: "catalog"})
    return rows.sort_by([("object_id", "ascending"), ("band", "ascending")])


def points_of(rows: pa.Table) -> dict[str, pa.Array]:
    """Return the inner columns of light curves, one value for each measurement, curve after curve.

    ``camera`` is among them, ``curve`` is the number of the row.
    """
    counts = rows["n_points"].to_numpy()
    found: dict[str, pa.Array] = {"curve": pa.array(np.repeat(np.arange(rows.num_rows), counts))}
    for name in _NESTED:
        nested = rows[name].combine_chunks()
        # Older rows lack the parts of errors.
        if nested.null_count:
            continue
        for field in nested.type:
            flat = pc.struct_field(nested, field.name).flatten()
            if len(flat) == len(found["curve"]):
                found[field.name] = flat
    if "camera" not in found:
        found["camera"] = rows["camera"].combine_chunks().take(found["curve"])
    return found


def frames_of_nights(snapshot: Snapshot, first: int | None, last: int | None) -> pa.Array | None:
    """Return the identifiers of the frames of nights, both included; None if neither is given."""
    if first is None and last is None:
        return None

    def chosen(part: Part) -> bool:
        return part.night is not None and (first or part.night) <= part.night <= (last or part.night)

    return snapshot.read("frames", ["frame_id"], chosen)["frame_id"].combine_chunks()
