"""The table ``forced_lightcurves``: the forced measurements of each target in each band, in the order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_forced import (
    DETECTED_SNR,
    FORCED_FRAME_COLUMNS,
    ForcedPhotometry,
    calibrate_forced,
)
from skylake.calibration.calibrated_matches import ZEROPOINT_COLUMNS, column_floats
from skylake.core.camera import Site
from skylake.core.flags import SPOILED
from skylake.core.group_medians import group_medians
from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.sphere import INDEX_ORDER, healpix_centre, healpix_index
from skylake.schema import TableSchema, arrow_schema, conform, empty_table, load
from skylake.table.aggregate import REFERENCE, Aggregate, Given, Granularity, Input, merged_by_schema
from skylake.table.curve_points import CurvePoints, curve_points
from skylake.table.lightcurves import (
    barycentric,
    curve_numbers,
    nested_values,
    starts_of,
    with_columns,
)

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Columns of ``targets`` that tell what a target is.
TARGET_COLUMNS = ["camera", "version", "star_id", "origin", "ref_id"]
_LEAF_BITS = 2 * (INDEX_ORDER - 12)
_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
_READ_BY_FINISH = {
    "lightcurve": ("flags", "flux", "flux_err", "zp"),
    "lightcurve_errors": ("zp_random_err", "mag_systematic_err"),
    "lightcurve_noise": ("sky_err",),
}
_CARRIED = ("frame_id", "mjd_mid", "flux_psf", "contamination", "x_px", "y_px", "flags")


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What is known of the target of each forced measurement; arrays of shape (n,).

    Attributes
    ----------
    origin : ndarray of object
        Name of its catalog, ``detections``, or None.
    ref_id : ndarray of int64
        In that catalog; -1 where it is from none.
    mag, colour, colour_err : ndarray
        Of that catalog in the band of the frame, and the colour that its colour term refers to, with its error; NaN
        where unknown.
    band, catalog : ndarray of object
        Band and catalog of the zeropoint of the frame; None without one.
    """

    origin: npt.NDArray[np.object_]
    ref_id: npt.NDArray[np.int64]
    mag: Floats
    colour: Floats
    colour_err: Floats
    band: npt.NDArray[np.object_]
    catalog: npt.NDArray[np.object_]


def forced_lightcurves_table(
    forced: pa.Table, photometry: ForcedPhotometry, facts: TargetFacts, sites: dict[str, Site]
) -> pa.Table:
    """Gather forced measurements of some part of the sky into light curves, one per camera, target and band.

    Measurements on frames without a zeropoint are left out; a flux that is not positive stays, without a magnitude.

    Parameters
    ----------
    forced : pyarrow.Table
        Rows of ``forced_sources``.
    photometry : ForcedPhotometry
        Of the same rows.
    facts : TargetFacts
        Of the same rows.
    sites : dict
        Site of each camera, for barycentric times.
    """
    schema = load("forced_lightcurves")
    calibrated = np.isfinite(photometry.flux) & np.isfinite(photometry.flux_err) & np.isfinite(photometry.zp)
    if not calibrated.any():
        return empty_table(schema)
    points = curve_points(
        forced, "star_id", [forced["camera"], pa.array(facts.band, pa.string())], calibrated
    )
    last, mjd = points.last, forced["mjd_mid"].to_numpy()
    ra, dec = (forced[name].to_numpy()[last] for name in ("ra_deg", "dec_deg"))
    ref_id = facts.ref_id[last]
    columns = {
        "_healpix_29": healpix_index(ra, dec),
        "star_id": forced["star_id"].to_numpy()[last],
        "camera": forced["camera"].take(pa.array(last)),
        "band": pa.array(facts.band[last], pa.string()),
        "catalog": pa.array(facts.catalog[last], pa.string()),
        "version": photometry.version[last].astype(np.int32),
        "ra_deg": ra,
        "dec_deg": dec,
        "origin": pa.array(facts.origin[last], pa.string()),
        "ref_id": pa.array(ref_id, mask=ref_id < 0),
        "ref_mag": pa.array(facts.mag[last], from_pandas=True),
        "ref_colour": pa.array(facts.colour[last], from_pandas=True),
        "ref_colour_err": pa.array(facts.colour_err[last], from_pandas=True),
        "n_points": points.counts.astype(np.int32),
        "mjd_first": mjd[points.first],
        "mjd_last": mjd[last],
        **_nested(forced, photometry, sites, points, schema),
        "n_clean": np.zeros(len(last), np.int32),
        "n_detected": np.zeros(len(last), np.int32),
    }
    return finish(conform(pa.table(columns), schema))


def partial(given: Given) -> pa.Table:
    """Return the light curves of one night of one camera."""
    forced = _where_they_stay(given["forced_sources"])
    zeropoints = given["zeropoints"]
    facts = target_facts(forced, zeropoints, given["targets"], given[REFERENCE])
    ref_id = np.where(facts.origin == facts.catalog, facts.ref_id, -1)
    photometry = calibrate_forced(
        forced, facts.colour, given["frames"], zeropoints, colour_err=facts.colour_err, ref_id=ref_id
    )
    return forced_lightcurves_table(forced, photometry, facts, {given.camera: given.base.site})


def _where_they_stay(forced: pa.Table) -> pa.Table:
    """Return measurements whose targets lie where their first list has put them, should a later one be far from there.

    The blocks of a target are merged within a pixel, and none is finer than those of order 12. Its number is the
    index of where it came in.
    """
    star = forced["star_id"].to_numpy()
    ra, dec = (forced[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    away = healpix_index(ra, dec) >> _LEAF_BITS != star >> _LEAF_BITS
    if not away.any():
        return forced
    first = healpix_centre(star, INDEX_ORDER)
    for name, now, before in zip(("ra_deg", "dec_deg"), (ra, dec), first, strict=True):
        place = forced.schema.get_field_index(name)
        forced = forced.set_column(place, forced.schema.field(place), pa.array(np.where(away, before, now)))
    return forced


def target_facts(
    forced: pa.Table, zeropoints: pa.Table, listed: pa.Table, reference: pa.Table
) -> TargetFacts:
    """Return what lists, catalogs and zeropoints say of the target and band of each measurement.

    Parameters
    ----------
    forced : pyarrow.Table
        Rows of ``forced_sources``.
    zeropoints : pyarrow.Table
        One row per frame at most.
    listed : pyarrow.Table
        Rows of ``targets``: :data:`TARGET_COLUMNS`.
    reference : pyarrow.Table
        ``origin``, ``ref_id``, ``band``, ``colour``, ``mag``, ``colour_value`` and ``colour_err`` of stars of
        catalogs in the bands of the frames.
    """
    keys = ["camera", "targets_version", "star_id"]
    listed = listed.select(TARGET_COLUMNS).rename_columns({"version": "targets_version"})
    place = pa.array(np.arange(forced.num_rows))
    joined = forced.select([*keys, "frame_id"]).append_column("place", place)
    joined = joined.join(listed, keys, join_type="left outer")
    zeros = zeropoints.select(["frame_id", "band", "catalog"])
    zeros = zeros.append_column("colour", pc.fill_null(zeropoints["colour"], ""))
    joined = joined.join(zeros, "frame_id", join_type="left outer")
    joined = joined.join(reference, ["origin", "ref_id", "band", "colour"], join_type="left outer").sort_by(
        "place"
    )
    origin, band, catalog = (
        np.asarray(joined[name].to_pylist(), object) for name in ("origin", "band", "catalog")
    )
    ref_id = pc.fill_null(joined["ref_id"], -1).to_numpy()
    mag, colour, colour_err = (
        np.asarray(joined[name].to_numpy(zero_copy_only=False), float)
        for name in ("mag", "colour_value", "colour_err")
    )
    return TargetFacts(origin, ref_id, mag, colour, colour_err, band, catalog)


def finish(rows: pa.Table) -> pa.Table:
    """Return light curves with mean, median and scatter of their clean measurements."""
    points = _clean_points(rows)
    group, n = points.group, rows.num_rows
    # Fluxes of frames that differ in transparency, as shares of that of a star of magnitude 0.
    unit = 10.0 ** (-0.4 * points.zp)
    flux = points.flux * unit
    # What the zeropoint is wrong by is a share of the flux. What all frames share says nothing of their differences.
    own = points.flux * points.zp_random_err / _MAG_PER_RELATIVE
    error = unit * np.hypot(points.flux_err, own)
    weight = 1.0 / np.where(points.sky_err > 0, points.sky_err * unit, error) ** 2
    values = _means(flux, error, weight, group, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = np.bincount(group, weight * points.zp_systematic_err, n) / np.bincount(group, weight, n)
    random = values["mag_mean_random_err"]
    values["mag_mean_systematic_err"] = np.where(np.isfinite(random), shared, np.nan)
    values["mag_mean_err"] = np.hypot(random, shared)
    starts = starts_of(group, n)
    median = group_medians(flux, starts)
    spread = MAD_TO_SIGMA * group_medians(np.abs(flux - median[group]), starts)
    count = np.diff(starts)
    detected = points.flux >= DETECTED_SNR * points.flux_err
    values |= {
        "mag_median": _magnitude(median),
        "mag_scatter": np.where(count > 1, _relative(spread, median), np.nan),
    }
    counts = {"n_clean": count, "n_detected": np.bincount(group, detected, n).astype(np.int64)}
    return with_columns(rows, values | counts)


@dataclass(frozen=True, slots=True)
class _Points:
    """Clean measurements, and the number of the light curve of each; arrays of shape (n,)."""

    group: Places
    flux: Floats
    flux_err: Floats
    zp: Floats
    zp_random_err: Floats
    zp_systematic_err: Floats
    sky_err: Floats


def _clean_points(rows: pa.Table) -> _Points:
    (flags, *plain), errors, noise = (nested_values(rows, *one) for one in _READ_BY_FINISH.items())
    clean = (flags.astype(np.int64) & int(SPOILED)) == 0
    return _Points(curve_numbers(rows)[clean], *(one[clean] for one in (*plain, *errors, *noise)))


def _means(flux: Floats, error: Floats, weight: Floats, group: Places, n: int) -> dict[str, Floats]:
    """Return what the mean flux of each curve tells, with errors that are those of the frames alone.

    Fluxes, of which noise may make some negative, are weighted by the noise of their sky: weights that follow their
    own errors would prefer those that noise has made fainter. The sum of squares about such a mean is larger than that
    about the one weighted by errors, which the degrees of freedom make good.
    """
    count = np.bincount(group, minlength=n)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.bincount(group, weight, n)
        mean = np.bincount(group, weight * flux, n) / total
        mean_err = np.sqrt(np.bincount(group, (weight * error) ** 2, n)) / total
        free = count - 2.0 + mean_err**2 * np.bincount(group, error**-2, n)
        chi2 = np.bincount(group, ((flux - mean[group]) / error) ** 2, n) / free
    return {
        "mag_mean": _magnitude(mean),
        "mag_mean_random_err": _relative(mean_err, mean),
        "snr_mean": mean / mean_err,
        "mag_mean_limit": _magnitude(DETECTED_SNR * mean_err),
        "chi2": np.where(count > 1, chi2, np.nan),
    }


def _relative(error: Floats, flux: Floats) -> Floats:
    """Return an error of a flux in magnitudes; NaN for a flux that is not positive."""
    return np.asarray(_MAG_PER_RELATIVE * error / np.where(flux > 0, flux, np.nan))


def _magnitude(flux: Floats) -> Floats:
    return np.asarray(-2.5 * np.log10(np.where(flux > 0, flux, np.nan)))


def _nested(
    forced: pa.Table,
    photometry: ForcedPhotometry,
    sites: dict[str, Site],
    points: CurvePoints,
    schema: TableSchema,
) -> dict[str, pa.StructArray]:
    """Return the nested columns: measurements, the parts of their errors, and the noise of their sky."""
    values = {name: forced[name] for name in _CARRIED}
    values |= {
        name: getattr(photometry, name)
        for name in ("flux", "flux_err", "zp", "zp_err", "mag", "mag_err", "mag_limit", "mag_random_err")
    }
    values |= {
        "flux_psf_err": column_floats(forced, "flux_psf_err") * photometry.photon_scale,
        "bjd_tdb": barycentric(forced, sites, ("ra_deg", "dec_deg")),
        "mag_systematic_err": photometry.zp_systematic_err,
        "zp_random_err": photometry.zp_random_err,
        "sky_err": photometry.sky_err,
    }
    form = arrow_schema(schema)
    return {name: points.nested(values, form.field(name).type) for name in _READ_BY_FINISH}


AGGREGATE = Aggregate(
    name="forced_lightcurves",
    inputs=(
        Input("forced_sources", is_needed=True),
        # Zeropoints change with whatever is read of frames.
        Input("frames", FORCED_FRAME_COLUMNS, is_followed=False),
        Input("zeropoints", (*ZEROPOINT_COLUMNS, "band", "catalog", "colour"), pc.field("zp").is_valid()),
        Input("targets", tuple(TARGET_COLUMNS)),
        Input(REFERENCE),
    ),
    key=("camera", "star_id", "band"),
    granularity=Granularity.OBJECT,
    partial=partial,
    merge=merged_by_schema("forced_lightcurves"),
    finish=finish,
    finish_reads=_READ_BY_FINISH,
    profile=("site",),
    # What is near saturation counts since the second.
    version="2",
)
