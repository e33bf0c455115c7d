"""The table ``lightcurves``: the measurements of each star in each band, nested, in the order of time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.camera import Site
from skylake.core.ephemeris import barycentric_jd
from skylake.core.flags import SPOILED
from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.sphere import healpix_index
from skylake.schema import TableSchema, arrow_schema, conform, empty_table, load
from skylake.table.calibrated_matches import Photometry

Floats = npt.NDArray[np.float64]


def lightcurves_table(matches: pa.Table, photometry: Photometry, sites: dict[str, Site]) -> pa.Table:
    """Gather the matches of some part of the sky into light curves, one per star of a catalog and band.

    Measurements on frames without a zeropoint are left out; a flux that is not positive stays, without
    a magnitude.

    Parameters
    ----------
    matches : pyarrow.Table
        Rows of ``matches``, of one catalog for each camera.
    photometry : Photometry
        Of the same rows.
    sites : dict
        Site of each camera, for barycentric times.
    """
    schema = load("lightcurves")
    calibrated = np.isfinite(photometry.flux) & np.isfinite(photometry.flux_err)
    if not calibrated.any():
        return empty_table(schema)
    star, mjd = matches["ref_id"].to_numpy(), matches["mjd_mid"].to_numpy()
    bands, band = np.unique(
        pc.fill_null(matches["band"], "").to_numpy(zero_copy_only=False).astype(str), return_inverse=True
    )
    catalog = matches["catalog"].combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((matches["frame_id"].to_numpy(), mjd, catalog, band, star))
    order = order[calibrated[order]]
    fresh = (np.diff(star[order]) != 0) | (np.diff(band[order]) != 0) | (np.diff(catalog[order]) != 0)
    starts = np.flatnonzero(np.concatenate([[True], fresh]))
    ends = np.append(starts[1:], len(order))
    last = order[ends - 1]
    ra, dec = matches["ra_deg"].to_numpy(), matches["dec_deg"].to_numpy()
    median, scatter = _statistics(matches, photometry, order, starts)
    columns = {
        "_healpix_29": healpix_index(ra[last], dec[last]),
        "object_id": star[last],
        "catalog": matches["catalog"].take(pa.array(last)),
        "band": pa.array(bands[band[last]].tolist(), pa.string()),
        "version": photometry.version[last].astype(np.int32),
        "ra_deg": ra[last],
        "dec_deg": dec[last],
        "ref_mag": matches["ref_mag"].take(pa.array(last)),
        "ref_colour": matches["ref_colour"].take(pa.array(last)),
        "n_points": (ends - starts).astype(np.int32),
        "mjd_first": mjd[order[starts]],
        "mjd_last": mjd[last],
        "mag_median": pa.array(median, from_pandas=True),
        "mag_scatter": pa.array(scatter, from_pandas=True),
        "lightcurve": _nest(matches, photometry, sites, order, starts, schema),
        "lightcurve_errors": _nest_errors(photometry, order, starts, schema),
    }
    return conform(pa.table(columns), schema)


def _nest(
    matches: pa.Table,
    photometry: Photometry,
    sites: dict[str, Site],
    order: npt.NDArray[np.intp],
    starts: npt.NDArray[np.intp],
    schema: TableSchema,
) -> pa.StructArray:
    """Return the measurements as a struct of lists."""
    rows = matches.take(pa.array(order))
    computed = {
        "bjd_tdb": barycentric(rows, sites, ("moved_ra_deg", "moved_dec_deg")),
        "flux": photometry.flux[order],
        "flux_err": photometry.flux_err[order],
        "mag": photometry.mag[order],
        "mag_err": photometry.mag_err[order],
    }
    offsets = pa.array(np.append(starts, len(order)), pa.int32())
    kind = arrow_schema(schema).field("lightcurve").type
    lists = []
    for field in kind:
        inner = field.type.value_type
        if field.name in computed:
            values = pa.array(computed[field.name], pa.float64(), from_pandas=True).cast(inner)
        else:
            values = rows[field.name].combine_chunks().cast(inner)
        lists.append(pa.ListArray.from_arrays(offsets, values, type=field.type))
    return pa.StructArray.from_arrays(lists, fields=list(kind))


def _nest_errors(
    photometry: Photometry, order: npt.NDArray[np.intp], starts: npt.NDArray[np.intp], schema: TableSchema
) -> pa.StructArray:
    """Return the parts of the errors of the measurements as a struct of lists."""
    shared = photometry.zp_systematic_err[order]
    values = {
        "mag_random_err": np.sqrt(np.maximum(photometry.mag_err[order] ** 2 - shared**2, 0.0)),
        "mag_systematic_err": shared,
        "zp_random_err": photometry.zp_random_err[order],
    }
    return nest_floats(values, np.append(starts, len(order)), "lightcurve_errors", schema)


def nest_floats(
    values: dict[str, Floats], offsets: npt.NDArray[np.intp], column: str, schema: TableSchema
) -> pa.StructArray:
    """Return arrays of all measurements as a nested column, null for NaN; `offsets` tell where each curve starts."""
    kind = arrow_schema(schema).field(column).type
    lists = [
        pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()),
            pa.array(values[field.name], pa.float64(), from_pandas=True).cast(field.type.value_type),
            type=field.type,
        )
        for field in kind
    ]
    return pa.StructArray.from_arrays(lists, fields=list(kind))


def barycentric(rows: pa.Table, sites: dict[str, Site], position: tuple[str, str]) -> Floats:
    """Return barycentric times of measurements at positions in two columns, camera by camera."""
    mjd, ra, dec = (rows[name].to_numpy() for name in ("mjd_mid", *position))
    cameras = np.asarray(rows["camera"].to_pylist(), object)
    times = np.zeros(len(mjd))
    for name in set(cameras.tolist()):
        mine = np.flatnonzero(cameras == name)
        times[mine] = barycentric_jd(mjd[mine], ra[mine], dec[mine], sites.get(name))
    return times


def _statistics(
    matches: pa.Table, photometry: Photometry, order: npt.NDArray[np.intp], starts: npt.NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """Return median and robust scatter of the clean magnitudes of each curve, NaN where there are none."""
    n_curves = len(starts)
    group = np.zeros(len(order), np.intp)
    group[starts[1:]] = 1
    group = np.cumsum(group)
    mag = photometry.mag[order]
    clean = np.isfinite(mag) & ((matches["flags"].to_numpy()[order] & int(SPOILED)) == 0)
    median = group_median(mag[clean], group[clean], n_curves)
    deviation = group_median(np.abs(mag[clean] - median[group[clean]]), group[clean], n_curves)
    many = np.bincount(group[clean], minlength=n_curves) > 1
    return median, np.where(many, MAD_TO_SIGMA * deviation, np.nan)


def group_median(values: Floats, group: npt.NDArray[np.intp], n_groups: int) -> Floats:
    """Return the median of each group, NaN for one without values."""
    order = np.lexsort((values, group))
    counts = np.bincount(group, minlength=n_groups)
    starts = np.cumsum(counts) - counts
    median = np.full(n_groups, np.nan)
    some = np.flatnonzero(counts)
    low, high = starts[some] + (counts[some] - 1) // 2, starts[some] + counts[some] // 2
    median[some] = 0.5 * (values[order][low] + values[order][high])
    return median
