"""The table ``maps``: sums per HEALPix pixel of one night, which add up over nights, bands and cameras."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.flags import SPOILED
from skylake.core.sphere import INDEX_ORDER, unit_vectors
from skylake.schema import conform, load
from skylake.table.photometry import Photometry

Integers = npt.NDArray[np.int64]


def maps_table(
    camera: str, night: int, frames: pa.Table, matches: pa.Table, photometry: Photometry, order: int
) -> pa.Table:
    """Sum one night of one camera onto HEALPix pixels.

    Parameters
    ----------
    camera, night : str, int
    frames : pyarrow.Table
        Its frames with status ok: ``band``, ``exposure_s`` and ``s_region``.
    matches : pyarrow.Table
        Its matches with one catalog.
    photometry : Photometry
        Of these matches.
    order : int
        Order of the pixels.
    """
    pieces = [_visits(frames, order), _residuals(matches, photometry, order)]
    cells = pa.concat_tables(pieces, promote_options="default")
    sums = [name for name in cells.column_names if name not in ("band", "healpix_pixel")]
    total = cells.group_by(["band", "healpix_pixel"]).aggregate([(name, "sum") for name in sums])
    columns = {
        "camera": pa.repeat(camera, total.num_rows),
        "night": np.full(total.num_rows, night, np.int32),
        "band": total["band"],
        "healpix_order": np.full(total.num_rows, order, np.int16),
        "healpix_pixel": total["healpix_pixel"],
    }
    columns |= {name: pc.fill_null(total[f"{name}_sum"], 0) for name in sums}
    return conform(pa.table(columns), load("maps"))


def _visits(frames: pa.Table, order: int) -> pa.Table:
    """Return, per frame, the pixels whose centre the frame's image holds."""
    pixels, bands, exposures = [], [], []
    for region, band, exposure in zip(
        frames["s_region"].to_pylist(),
        frames["band"].to_pylist(),
        frames["exposure_s"].to_pylist(),
        strict=True,
    ):
        held = pixels_of_region(region, order) if region else np.zeros(0, np.int64)
        pixels.append(held)
        bands += [band or ""] * len(held)
        exposures.append(np.full(len(held), exposure or 0.0))
    n = len(bands)
    return pa.table(
        {
            "band": pa.array(bands, pa.string()),
            "healpix_pixel": np.concatenate(pixels) if pixels else np.zeros(0, np.int64),
            "n_visits": np.ones(n, np.int64),
            "exposure_s": np.concatenate(exposures) if exposures else np.zeros(0),
        }
    )


def pixels_of_region(s_region: str, order: int) -> Integers:
    """Return the NESTED pixels whose centres lie in a polygon as ``frames.s_region`` gives it.

    The polygon may be as wide as a hemisphere and need not be convex.
    """
    import healpy

    numbers = np.array(s_region.split()[2:], float)
    corners = unit_vectors(numbers[0::2], numbers[1::2])
    centre = corners.mean(axis=0)
    centre /= np.linalg.norm(centre)
    nside = 2**order
    reach = float(np.arccos(np.clip((corners @ centre).min(), -1.0, 1.0)))
    candidates = np.asarray(healpy.query_disc(nside, centre, reach, nest=True), np.int64)
    points = np.column_stack(healpy.pix2vec(nside, candidates, nest=True))
    return candidates[_inside(points, corners, centre)]


def _inside(
    points: npt.NDArray[np.float64], corners: npt.NDArray[np.float64], centre: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Count crossings of edges in the gnomonic plane about the centre, where great circles are straight."""
    north = np.array([0.0, 0.0, 1.0]) if abs(centre[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    east = np.cross(north, centre)
    east /= np.linalg.norm(east)
    up = np.cross(centre, east)

    def plane(vectors: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        depth = np.maximum(vectors @ centre, 1e-9)
        return vectors @ east / depth, vectors @ up / depth

    x, y = plane(points)
    cx, cy = plane(corners)
    odd = np.zeros(len(points), bool)
    for x0, y0, x1, y1 in zip(cx, cy, np.roll(cx, -1), np.roll(cy, -1), strict=True):
        spans = (y0 > y) != (y1 > y)
        odd ^= spans & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0 if y1 != y0 else 1.0))
    return odd


def _residuals(matches: pa.Table, photometry: Photometry, order: int) -> pa.Table:
    """Return weights and weighted residuals of clean calibrated matches per row."""
    clean = np.isfinite(photometry.residual) & (photometry.mag_err > 0)
    clean &= (matches["flags"].to_numpy() & int(SPOILED)) == 0
    ref_err = np.nan_to_num(matches["ref_mag_err"].to_numpy(zero_copy_only=False))[clean]
    residual = photometry.residual[clean]
    weight = 1.0 / (photometry.mag_err[clean] ** 2 + ref_err**2)
    pixel = matches["_healpix_29"].to_numpy()[clean] >> (2 * (INDEX_ORDER - order))
    return pa.table(
        {
            "band": pc.fill_null(matches["band"].filter(pa.array(clean)), ""),
            "healpix_pixel": pixel,
            "n_matches": np.ones(len(pixel), np.int64),
            "weight_sum": weight,
            "residual_sum": weight * residual,
            "residual_square_sum": weight * residual**2,
        }
    )
