"""The table ``clusters``: what a camera detects at one place in one night, the rows that ``objects`` follow from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import (
    FRAME_COLUMNS,
    ZEROPOINT_COLUMNS,
    calibrate_matches,
    column_floats,
)
from skylake.core.camera import FLUXES
from skylake.core.flags import SPOILED, SPOILED_OR_BLENDED, SourceFlag
from skylake.core.reasons import Status
from skylake.core.sphere import healpix_index, ra_dec, tangent_basis, unit_vectors
from skylake.schema import empty_table, load
from skylake.schema.aperture_columns import MORE
from skylake.table.aggregate import Aggregate, Given, Granularity, Input
from skylake.table.band_statistics import bands_of, first_band, in_band, join_bands, with_bands
from skylake.table.cluster_magnitudes import good_magnitudes
from skylake.table.coverage import PLACE_COLUMNS, coverage_of
from skylake.table.detection_groups import NONE, Groups, count_switched, group_detections
from skylake.table.lightcurves import flags_of_matches

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_NAME = "clusters"
#: Detections at most this share of the width of stars apart are of one star, but never less than so many arcseconds.
_LINK_WIDTHS, _LEAST_LINK_ARCSEC = 0.5, 1.0
#: With fewer detections a straight line through their places has no error worth the name.
_LEAST_FOR_RATE = 5
_ARCSEC = 3600.0 * 180.0 / np.pi

_SOURCE_COLUMNS = (
    "frame_id",
    "source_no",
    "mjd_mid",
    "ra_deg",
    "dec_deg",
    "x_px",
    "y_px",
    *(
        f"{start}_{name}{end}"
        for name in FLUXES
        for start, end in (("flux", ""), ("flux", "_err"), ("apcor_rel", ""))
    ),
    "crowding",
    "fwhm_px",
    "a_px",
    "b_px",
    "flags",
    "altitude_deg",
    MORE,
)
#: What a match says of the star of a detection.
_STAR_COLUMNS = (
    "catalog",
    "ref_id",
    "moved_ra_deg",
    "moved_dec_deg",
    "ref_mag",
    "ref_colour",
    "ref_colour_err",
    "ref_crowding",
    "ref_crowding_err",
    "ref_sky_light",
)
_FRAME_COLUMNS = tuple(dict.fromkeys((*FRAME_COLUMNS, "band", "fwhm_px", "mjd_mid", *PLACE_COLUMNS)))
_COUNTED = {
    "n_saturated": SourceFlag.SATURATED | SourceFlag.NEAR_SATURATED,
    "n_edge": SourceFlag.EDGE,
    "n_streak": SourceFlag.STREAK,
    "n_blended": SourceFlag.BLENDED,
}


def link_arcsec(frames: pa.Table) -> float:
    """Return how far apart detections of one star may be: half of the median width of stars, arcseconds.

    Parameters
    ----------
    frames : pyarrow.Table
        ``fwhm_px`` and ``pixel_scale_arcsec`` of a night; NaN and null do not count.
    """
    width = column_floats(frames, "fwhm_px") * column_floats(frames, "pixel_scale_arcsec")
    width = width[np.isfinite(width)]
    return max(_LINK_WIDTHS * float(np.median(width)) if width.size else 0.0, _LEAST_LINK_ARCSEC)


def partial(given: Given) -> pa.Table:
    """Return the clusters of one night of one camera."""
    rows = with_stars(given["sources"], given["matches"])
    flux = given.configured.apertures.flux
    return clusters_table(rows, given["frames"], given["zeropoints"], flux)


def with_stars(sources: pa.Table, matches: pa.Table) -> pa.Table:
    """Return detections with the columns of ``matches`` that say of which star they are; null without a match."""
    frames, frame = np.unique(sources["frame_id"].to_numpy(), return_inverse=True)
    step = int(pc.max(sources["source_no"]).as_py() or 0) + 1
    key = frame * step + sources["source_no"].to_numpy()
    place = np.searchsorted(frames, matches["frame_id"].to_numpy())
    wanted = place * step + matches["source_no"].to_numpy()
    found = pc.index_in(pa.array(key, pa.int64()), pa.array(wanted, pa.int64()))
    for name in _STAR_COLUMNS:
        sources = sources.append_column(name, matches[name].combine_chunks().take(found))
    return sources


@dataclass(frozen=True, slots=True)
class _Detections:
    """Detections of a night and the groups that they are in; arrays of shape (n,), NaN for null."""

    groups: Groups
    vectors: Floats
    mjd: Floats
    frame: Integers
    ref_id: Integers
    is_clean: npt.NDArray[np.bool_]

    def counts(self, chosen: npt.NDArray[np.bool_] | None = None) -> Integers:
        """Return the number of detections of each group, or of those that are chosen."""
        number = self.groups.number if chosen is None else self.groups.number[chosen]
        return np.bincount(number, minlength=len(self.groups)).astype(np.int64)

    def means(self, values: Floats, chosen: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Return the mean of the finite values of each group; NaN without any."""
        known = np.isfinite(values) if chosen is None else np.isfinite(values) & chosen
        number = self.groups.number[known]
        total = np.bincount(number, values[known], len(self.groups))
        with np.errstate(invalid="ignore"):
            return np.asarray(total / np.bincount(number, minlength=len(self.groups)), float)


def clusters_table(rows: pa.Table, frames: pa.Table, zeropoints: pa.Table, flux: str) -> pa.Table:
    """Return the clusters of a night.

    Parameters
    ----------
    rows : pyarrow.Table
        Detections on good frames, with the stars of their matches as :func:`with_stars` adds them.
    frames, zeropoints : pyarrow.Table
        Of the night; zeropoints may have no rows.
    flux : str
        Name of the flux where no frame is calibrated, such as ``aper2``.

    Returns
    -------
    pyarrow.Table
        Rows of ``clusters`` without camera and night, in the order of their places.
    """
    if rows.num_rows == 0:
        return empty_table(load(_NAME)).drop_columns(["camera", "night"])
    link = link_arcsec(frames)
    found = _grouped(rows, link)
    columns, vectors = _places(found)
    ra, dec = ra_dec(vectors)
    index = healpix_index(ra, dec)
    covered = coverage_of(frames).frames_at(index)
    pairs = np.unique(found.groups.number * (int(found.frame.max()) + 1) + found.frame)
    n_frames = np.bincount(pairs // (int(found.frame.max()) + 1), minlength=len(index))
    columns |= {
        "_healpix_29": index,
        "ra_deg": ra,
        "dec_deg": dec,
        "n_detections": found.counts(),
        "n_frames": n_frames,
        # Cells at the edge of an image are covered or not as a whole.
        "n_frames_covered": np.maximum(covered, n_frames),
        "n_switched": count_switched(found.groups, found.vectors, found.ref_id, link),
    }
    columns |= _star_of(rows, found)
    flags = flags_of_matches(rows)
    columns |= _shapes(rows, frames, found, flags)
    columns |= _bands(rows, frames, zeropoints, found, (flags & int(SPOILED_OR_BLENDED)) == 0, flux)
    order = np.lexsort((columns["mjd_first"], index))
    table = pa.table({name: _nullable(values).take(pa.array(order)) for name, values in columns.items()})
    return table.append_column("cluster_no", pa.array(np.arange(len(order)), pa.int32()))


def _nullable(values: Any) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)


def _grouped(rows: pa.Table, link: float) -> _Detections:
    ra, dec = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    _, frame = np.unique(rows["frame_id"].to_numpy(), return_inverse=True)
    vectors = unit_vectors(ra, dec)
    ref_id = pc.fill_null(rows["ref_id"], NONE).to_numpy()
    groups = group_detections(frame, vectors, (ra, dec), ref_id, link)
    is_clean = (rows["flags"].to_numpy() & int(SPOILED)) == 0
    return _Detections(groups, vectors, rows["mjd_mid"].to_numpy(), frame, ref_id, is_clean)


def _places(found: _Detections) -> tuple[dict[str, Any], Floats]:
    """Return the columns of places, scatter and motion, and the places as unit vectors."""
    number, n = found.groups.number, len(found.groups)
    used = found.is_clean | (found.counts(found.is_clean) == 0)[number]
    count = found.counts(used)
    vectors = np.column_stack([found.means(found.vectors[:, axis], used) for axis in range(3)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    east, north = tangent_basis(*ra_dec(vectors))
    off = (found.vectors - vectors[number])[used]
    mine = number[used]
    along = [_ARCSEC * np.einsum("ij,ij->i", off, axis[mine]) for axis in (east, north)]
    time = found.mjd[used] - found.means(found.mjd, used)[mine]
    spread = np.bincount(mine, time**2, n)
    squares = sum(np.bincount(mine, one**2, n) for one in along)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = [np.bincount(mine, time * one, n) / spread for one in along]
        left = np.maximum(squares - sum(rate**2 for rate in rates) * spread, 0.0)
        error = np.sqrt(left / (2.0 * (count - 2)) / spread)
        scatter = np.where(count > 1, np.sqrt(squares / (2.0 * (count - 1))), np.nan)
    has = (count >= _LEAST_FOR_RATE) & (error > 0)
    columns = {
        "n_place": count,
        "scatter_arcsec": scatter,
        "rate_ra_arcsec_d": np.where(has, rates[0], np.nan),
        "rate_dec_arcsec_d": np.where(has, rates[1], np.nan),
        "rate_err_arcsec_d": np.where(has, error, np.nan),
    }
    return columns, vectors


def _star_of(rows: pa.Table, found: _Detections) -> dict[str, Any]:
    """Return the columns of times, and of the catalog star."""
    n, number = len(found.groups), found.groups.number
    first, last = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(first, number, found.mjd)
    np.maximum.at(last, number, found.mjd)
    matched = found.ref_id != NONE
    is_star = found.groups.ref_id != NONE
    names = rows["catalog"].drop_null().unique().to_pylist()
    catalog = pa.array(np.where(is_star, names[0] if names else "", ""), pa.string(), mask=~is_star)
    moved = unit_vectors(column_floats(rows, "moved_ra_deg"), column_floats(rows, "moved_dec_deg"))
    place = ra_dec(np.column_stack([found.means(moved[:, axis]) for axis in range(3)]))
    return {
        "mjd_first": first,
        "mjd_last": last,
        "mjd_mean": found.means(found.mjd, matched | ~is_star[number]),
        "catalog": catalog,
        "ref_id": pa.array(found.groups.ref_id, pa.int64(), mask=~is_star),
        "ref_ra_deg": np.where(is_star, place[0], np.nan),
        "ref_dec_deg": np.where(is_star, place[1], np.nan),
        "n_matched": found.counts(matched),
    }


def _shapes(rows: pa.Table, frames: pa.Table, found: _Detections, flags: Integers) -> dict[str, Any]:
    """Return counts of flagged detections, and mean widths and elongations."""
    width, long, short = (column_floats(rows, name) for name in ("fwhm_px", "a_px", "b_px"))
    place = pc.index_in(rows["frame_id"], frames["frame_id"].combine_chunks())
    of_stars = column_floats(frames.select(["fwhm_px"]).take(place), "fwhm_px")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, elongation = width / of_stars, long / short
    columns = {name: found.counts((flags & int(bits)) != 0) for name, bits in _COUNTED.items()}
    values = {"fwhm_px": width, "width_ratio": ratio, "elongation": elongation}
    return columns | {name: found.means(one) for name, one in values.items()}


def _bands(
    rows: pa.Table,
    frames: pa.Table,
    zeropoints: pa.Table,
    found: _Detections,
    is_clean: npt.NDArray[np.bool_],
    flux: str,
) -> dict[str, Any]:
    """Return the columns of fluxes and magnitudes of all bands."""
    place = pc.index_in(rows["frame_id"], frames["frame_id"].combine_chunks())
    band_of = np.array([*(band or "" for band in frames["band"].to_pylist()), ""], object)
    of_row = band_of[pc.fill_null(place, frames.num_rows).to_numpy()]
    calibrated = Counter(one for one in zeropoints["band"].to_pylist() if one is not None)
    preferred = sorted(calibrated, key=lambda name: (-calibrated[name], name))
    columns = with_bands(
        {"band": np.zeros(len(found.groups), object)}, sorted({*of_row.tolist(), *preferred})
    )
    for band in bands_of(columns):
        of_band = zeropoints.filter(pc.equal(zeropoints["band"], band))
        mine = np.flatnonzero(of_row == band)
        some = rows if mine.size == len(of_row) else rows.take(pa.array(mine))
        names = Counter(of_band["flux"].to_pylist()) or Counter(zeropoints["flux"].to_pylist())
        circle = names.most_common(1)[0][0] if names else flux
        made = _fluxes(column_floats(some, f"flux_{circle}"), found.groups.number[mine], len(found.groups))
        if of_band.num_rows:
            stars = some.set_column(
                some.schema.get_field_index("ref_id"), "ref_id", pa.array(found.ref_id[mine], pa.int64())
            )
            photometry = calibrate_matches(stars, frames, of_band)
            made |= good_magnitudes(
                photometry, is_clean[mine], found.mjd[mine], found.groups.number[mine], len(found.groups)
            )
        columns |= {in_band(name, band): values for name, values in made.items()}
    columns["band"] = first_band(columns, preferred)
    names = Counter(zeropoints["flux"].to_pylist())
    circle = names.most_common(1)[0][0] if names else flux
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = column_floats(rows, f"flux_{circle}") / column_floats(rows, f"flux_{circle}_err")
    return join_bands(columns, _NAME) | {"snr": found.means(ratio)}


def _fluxes(value: Floats, number: Integers, n: int) -> dict[str, Any]:
    """Return count, mean and scatter of the fluxes of each group in a band."""
    known = np.isfinite(value)
    value, number = value[known], number[known]
    count = np.bincount(number, minlength=n)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(number, value, n) / count
        squares = np.bincount(number, (value - mean[number]) ** 2, n)
        scatter = np.sqrt(squares / (count - 1))
    return {
        "n_flux": count,
        "flux_adu_per_s": mean,
        "flux_scatter": np.where(count > 1, scatter, np.nan),
    }


def finish(rows: pa.Table) -> pa.Table:
    """Return the rows; the engine adds camera and night."""
    return rows


_REJECTED = pc.bit_wise_and(pc.field("flags"), pa.scalar(int(SourceFlag.FRAME_REJECTED), pa.int32()))
AGGREGATE = Aggregate(
    name=_NAME,
    inputs=(
        Input("sources", _SOURCE_COLUMNS, pa.scalar(0, pa.int32()) == _REJECTED, is_needed=True),
        Input("frames", _FRAME_COLUMNS, pc.field("status") == Status.OK.value),
        Input("matches", ("frame_id", "source_no", *_STAR_COLUMNS)),
        Input("zeropoints", (*ZEROPOINT_COLUMNS, "band"), pc.field("zp").is_valid()),
    ),
    key=("camera", "night", "cluster_no"),
    granularity=Granularity.BATCH,
    partial=partial,
    merge=pa.concat_tables,
    finish=finish,
    profile=("calibration",),
    # What is near saturation counts since the second.
    version="2",
)
