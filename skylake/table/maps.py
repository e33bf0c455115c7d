"""The table ``maps``: sums per HEALPix pixel of one night, which add up over nights, bands and cameras."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import position_offsets
from skylake.calibration.match_selection import Band, gather
from skylake.core.camera import FLUXES, Calibration, FilterBand
from skylake.core.reasons import Status
from skylake.core.robust import biweight
from skylake.core.sphere import INDEX_ORDER, unit_vectors
from skylake.schema import conform, load
from skylake.schema.aperture_columns import MORE, aperture_floats
from skylake.table.aggregate import Aggregate, Given, Granularity, Input, merged_by
from skylake.table.map_cells import CELL_COLUMNS, PLACE_COLUMNS, cell_names, fainter_in_cells

Integers = npt.NDArray[np.int64]

#: Columns of ``frames`` and ``zeropoints`` that maps need.
FRAME_COLUMNS = (
    "frame_id",
    "band",
    "exposure_s",
    "s_region",
    "completeness",
    *(f"apcor_{name}" for name in FLUXES),
    MORE,
    *PLACE_COLUMNS,
    *CELL_COLUMNS,
    *(cell for name in CELL_COLUMNS for cell in cell_names(name)),
)
ZEROPOINT_COLUMNS = (
    "frame_id",
    "band",
    "flux",
    "colour",
    "pivot_colour",
    "colour_term",
    "zp",
    "zp_fit_err",
    "intrinsic_mag",
    "chi2",
    "mag_limit",
    "extinction",
    "sky_light_scale",
    "bright_limit",
    "position_terms",
)


_KEY = ("camera", "night", "band", "healpix_order", "healpix_pixel")
_SUMS = (
    "n_visits",
    "exposure_s",
    "n_matches",
    "weight_sum",
    "residual_sum",
    "residual_square_sum",
    "n_limits",
    "limit_sum",
    "n_completeness",
    "completeness_sum",
    "half_limit_sum",
)


def maps_table(
    camera: str,
    night: int,
    frames: pa.Table,
    matches: pa.Table,
    zeropoints: pa.Table,
    calibration: Calibration,
    order: int,
) -> pa.Table:
    """Sum one night of one camera onto HEALPix pixels.

    Residuals are those of matches that :func:`skylake.calibration.match_selection.gather` calls usable, with Tukey's
    biweight in their weights; where no star is off the sums are those of a weighted mean.

    Parameters
    ----------
    camera, night : str, int
    frames : pyarrow.Table
        Its frames with status ok: :data:`FRAME_COLUMNS`.
    matches : pyarrow.Table
        Its matches with one catalog.
    zeropoints : pyarrow.Table
        :data:`ZEROPOINT_COLUMNS` of these frames for that catalog, one row per frame at most.
    calibration : Calibration
        Limits of the matches that tell something.
    order : int
        Order of the pixels.
    """
    given = Given(camera, night, {"frames": frames, "matches": matches, "zeropoints": zeropoints})
    return finish(AGGREGATE.merge([_sums(given, calibration, order)]))


def partial(given: Given) -> pa.Table:
    """Return the sums of one night of one camera, several rows for a pixel."""
    return _sums(given, given.configured.calibration, given.settings["map_order"])


def _sums(given: Given, calibration: Calibration, order: int) -> pa.Table:
    frames, matches, zeropoints = given["frames"], given["matches"], given["zeropoints"]
    pieces = [
        _visits(frames, zeropoints, order),
        *_residuals(frames, matches, zeropoints, calibration, order),
    ]
    cells = pa.concat_tables(pieces, promote_options="default")
    columns = {
        "camera": pa.repeat(given.camera, cells.num_rows),
        "night": np.full(cells.num_rows, given.night, np.int32),
        "healpix_order": np.full(cells.num_rows, order, np.int16),
    }
    columns |= {name: cells[name] for name in ("band", "healpix_pixel")}
    nothing = pa.nulls(cells.num_rows, pa.float64())
    columns |= {name: cells[name] if name in cells.column_names else nothing for name in _SUMS}
    return pa.table(columns)


def finish(rows: pa.Table) -> pa.Table:
    """Return merged sums as rows of the table."""
    known = {name: pc.fill_null(rows[name], 0) for name in _SUMS}
    return conform(pa.table({name: rows[name] for name in _KEY} | known), load("maps"))


def _visits(frames: pa.Table, zeropoints: pa.Table, order: int) -> pa.Table:
    """Return, per frame, the pixels whose centre the frame's image holds, and how deep the frame is on each."""
    held = [
        pixels_of_region(region, order) if region else np.zeros(0, np.int64)
        for region in frames["s_region"].to_pylist()
    ]
    counts = np.array([len(pixels) for pixels in held], np.int64)
    columns = {"exposure_s": np.nan_to_num(_floats(frames, "exposure_s"))} | _depths(frames, zeropoints)
    columns = {name: np.repeat(values, counts) for name, values in columns.items()}
    for name, limit, number in zip(
        ("limit_sum", "half_limit_sum"), CELL_COLUMNS, ("n_limits", "n_completeness"), strict=True
    ):
        columns[name] = columns[name] + columns[number] * fainter_in_cells(frames, limit, held, order)
    bands = np.array([band or "" for band in frames["band"].to_pylist()], object)
    return pa.table(
        {
            "band": pa.array(np.repeat(bands, counts), pa.string()),
            "healpix_pixel": np.concatenate([*held, np.zeros(0, np.int64)]),
            "n_visits": np.ones(counts.sum(), np.int64),
        }
        | columns
    )


def _depths(frames: pa.Table, zeropoints: pa.Table) -> dict[str, npt.NDArray[Any]]:
    """Return what each frame adds to the sums of limits and of completeness; 0 where they are not known."""
    place = pc.index_in(frames["frame_id"], zeropoints["frame_id"].combine_chunks())
    calibration = zeropoints.take(place)
    limit, half = _floats(calibration, "mag_limit"), _floats(frames, "flux_limit_injected")
    with np.errstate(divide="ignore", invalid="ignore"):
        half = _floats(calibration, "zp") - 2.5 * np.log10(half)
    share = _floats(frames, "completeness")
    known = np.isfinite(half) & np.isfinite(share)
    return {
        "n_limits": np.isfinite(limit).astype(np.int64),
        "limit_sum": np.nan_to_num(limit, posinf=0.0, neginf=0.0),
        "n_completeness": known.astype(np.int64),
        "completeness_sum": np.where(known, share, 0.0),
        "half_limit_sum": np.where(known, half, 0.0),
    }


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """Return a column as floats, NaN for null."""
    return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)


def pixels_of_region(s_region: str, order: int) -> Integers:
    """Return the NESTED pixels whose centres lie in a polygon as ``frames.s_region`` gives it.

    The polygon may be as wide as a hemisphere and need not be convex.
    """
    import healpy

    corners, centre = _polygon(s_region)
    nside = 2**order
    reach = float(np.arccos(np.clip((corners @ centre).min(), -1.0, 1.0)))
    candidates = np.asarray(healpy.query_disc(nside, centre, reach, nest=True), np.int64)
    points = np.column_stack(healpy.pix2vec(nside, candidates, nest=True))
    return candidates[_inside(points, corners, centre)]


def region_holds(
    s_region: str, ra_deg: npt.NDArray[np.float64], dec_deg: npt.NDArray[np.float64], inset: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Return which positions lie in a polygon as ``frames.s_region`` gives it.

    Parameters
    ----------
    s_region : str
    ra_deg, dec_deg : ndarray, shape (n,)
    inset : float
        By which part of their distance from its centre the corners are first moved towards that.
    """
    corners, centre = _polygon(s_region)
    corners = (1.0 - inset) * corners + inset * (corners @ centre)[:, None] * centre
    points = unit_vectors(ra_deg, dec_deg)
    # The plane about the centre has both sides of the sphere.
    return np.asarray((points @ centre > 0.0) & _inside(points, corners, centre))


def _polygon(s_region: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the corners of a polygon, shape (n, 3), and their middle, as unit vectors."""
    numbers = np.array(s_region.split()[2:], float)
    corners = unit_vectors(numbers[0::2], numbers[1::2])
    centre = corners.mean(axis=0)
    return corners, centre / np.linalg.norm(centre)


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


def _residuals(
    frames: pa.Table, matches: pa.Table, zeropoints: pa.Table, calibration: Calibration, order: int
) -> Iterator[pa.Table]:
    """Yield weights and weighted residuals per match, for those matches that a zeropoint may be fitted to.

    All others would bring a bias along: faint stars are detected where noise makes them brighter.
    """
    zeropoints = zeropoints.filter(pc.is_valid(zeropoints["zp"]))
    keys = list(
        zip(
            *(zeropoints[name].to_pylist() for name in ("band", "flux", "colour", "pivot_colour")),
            strict=True,
        )
    )
    for key in dict.fromkeys(keys):
        chosen = zeropoints.filter(pa.array([one == key for one in keys]))
        name, flux, colour, pivot = key
        band = Band(FilterBand(name, colour, pivot or 0.0), flux, calibration)
        yield _residuals_of_band(frames, matches, chosen, band, order)


def _residuals_of_band(
    frames: pa.Table, matches: pa.Table, zeropoints: pa.Table, band: Band, order: int
) -> pa.Table:
    ids = frames["frame_id"].to_pylist()
    factors = [
        None if np.isnan(one) else one for one in aperture_floats(frames, f"apcor_{band.flux}").tolist()
    ]
    calibrated = set(zeropoints["frame_id"].to_pylist())
    correction: dict[int, tuple[float | None, float | None]] = {
        one: (factor, None)
        for one, factor in zip(ids, factors, strict=True)
        if factor is not None and one in calibrated
    }
    known = pc.is_in(matches["frame_id"], pa.array(sorted(correction), pa.int64()))
    matches = matches.filter(known)
    data = gather(matches, correction, band)
    by_id = zeropoints.sort_by("frame_id")
    frame = np.searchsorted(by_id["frame_id"].to_numpy(), data.frame)
    zp, zp_err, term, extinction, intrinsic, chi2, scale, bright = (
        by_id[name].cast(pa.float64()).to_numpy(zero_copy_only=False)[frame]
        for name in (
            "zp",
            "zp_fit_err",
            "colour_term",
            "extinction",
            "intrinsic_mag",
            "chi2",
            "sky_light_scale",
            "bright_limit",
        )
    )
    rows = np.arange(len(frame))
    residual = data.difference - zp - np.nan_to_num(term) * np.nan_to_num(data.colour)
    residual += np.nan_to_num(extinction) * data.airmass
    place = pc.index_in(pa.array(data.frame), frames["frame_id"].combine_chunks()).to_numpy()
    residual -= position_offsets(by_id["position_terms"], frame, matches, frames, place)
    residual += np.nan_to_num(scale - 1.0) * data.sky_light
    error = np.sqrt(data.photon_error**2 + data.catalog_variance(rows, np.nan_to_num(term)))
    # Where a frame's stars scatter more than their errors and the night say, as through clouds, they count less.
    scatter = np.nan_to_num(np.maximum(chi2, 1.0), nan=1.0) * (error**2 + np.nan_to_num(intrinsic) ** 2)
    variance = scatter + np.nan_to_num(zp_err) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = biweight(residual / np.sqrt(variance)) / variance
    used = data.usable & np.isfinite(weight) & (weight > 0) & ~(data.magnitude < bright)
    residual, weight = residual[used], weight[used]
    return pa.table(
        {
            "band": pa.repeat(band.band.band, len(weight)),
            "healpix_pixel": matches["_healpix_29"].to_numpy()[used] >> (2 * (INDEX_ORDER - order)),
            "n_matches": np.ones(len(weight), np.int64),
            "weight_sum": weight,
            "residual_sum": weight * residual,
            "residual_square_sum": weight * residual**2,
        }
    )


AGGREGATE = Aggregate(
    name="maps",
    inputs=(
        Input("frames", (*FRAME_COLUMNS, "filter", "mjd_mid"), pc.field("status") == Status.OK.value),
        Input("matches"),
        Input("zeropoints", ZEROPOINT_COLUMNS),
    ),
    key=_KEY,
    granularity=Granularity.BATCH,
    partial=partial,
    merge=merged_by(_KEY, dict.fromkeys(_SUMS, "sum")),
    finish=finish,
    profile=("calibration",),
    settings=("map_order",),
)
