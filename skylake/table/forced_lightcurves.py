"""The table ``forced_lightcurves``: the forced measurements of each target in each band, in the order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.camera import Site
from skylake.core.flags import SPOILED, SourceFlag
from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.sphere import healpix_index
from skylake.schema import TableSchema, arrow_schema, conform, empty_table, load
from skylake.table.calibrated_forced import DETECTED_SNR, ForcedPhotometry
from skylake.table.lightcurves import barycentric, group_median, nest_floats

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
_SPOILED = int(SPOILED | SourceFlag.FIT_FAILED)
_CARRIED = ("frame_id", "mjd_mid", "flux_psf", "flux_psf_err", "contamination", "x_px", "y_px", "flags")


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What is known of the target of each forced measurement; arrays of shape (n,).

    Attributes
    ----------
    origin : ndarray of object
        Name of its catalog, ``detections``, or None.
    ref_id : ndarray of int64
        In that catalog; -1 where it is from none.
    mag, colour : ndarray
        Of that catalog in the band of the frame, and the colour that its colour term refers to; NaN where unknown.
    band, catalog : ndarray of object
        Band and catalog of the zeropoint of the frame; None without one.
    """

    origin: npt.NDArray[np.object_]
    ref_id: npt.NDArray[np.int64]
    mag: Floats
    colour: Floats
    band: npt.NDArray[np.object_]
    catalog: npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class _Curves:
    """Which rows are whose: the rows in order, where each curve starts and ends, and the curve of each row."""

    order: Places
    starts: Places
    ends: Places
    number: Places

    @property
    def last(self) -> Places:
        """The last row of each curve."""
        return np.asarray(self.order[self.ends - 1])


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
    curves = _divide(forced, facts, calibrated)
    last, order, starts = curves.last, curves.order, curves.starts
    mjd = forced["mjd_mid"].to_numpy()
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
        "n_points": (curves.ends - starts).astype(np.int32),
        "mjd_first": mjd[order[starts]],
        "mjd_last": mjd[last],
        "lightcurve": _nest(forced, photometry, sites, curves, schema),
        "lightcurve_errors": _nest_errors(photometry, curves, schema),
    }
    clean = (forced["flags"].to_numpy()[order] & _SPOILED) == 0
    columns |= _summary(photometry, curves, clean)
    return conform(pa.table(columns), schema)


def _divide(forced: pa.Table, facts: TargetFacts, calibrated: npt.NDArray[np.bool_]) -> _Curves:
    """Return the calibrated rows by target, camera and band, in the order of time."""
    star, mjd = forced["star_id"].to_numpy(), forced["mjd_mid"].to_numpy()
    cameras = np.asarray(forced["camera"].to_pylist()).astype(str)
    band, camera = (np.unique(names, return_inverse=True)[1] for names in (facts.band.astype(str), cameras))
    order = np.lexsort((forced["frame_id"].to_numpy(), mjd, band, camera, star))
    order = order[calibrated[order]]
    fresh = np.concatenate(
        [[True], *[np.any([np.diff(key[order]) != 0 for key in (star, camera, band)], axis=0)]]
    )
    starts = np.flatnonzero(fresh)
    return _Curves(order, starts, np.append(starts[1:], len(order)), np.cumsum(fresh) - 1)


def _summary(
    photometry: ForcedPhotometry, curves: _Curves, clean: npt.NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """Return mean, median and scatter of each curve, from its clean rows."""
    rows, group, n = curves.order[clean], curves.number[clean], len(curves.starts)
    # Fluxes of frames that differ in transparency, as shares of that of a star of magnitude 0.
    unit = 10.0 ** (-0.4 * photometry.zp[rows])
    flux = photometry.flux[rows] * unit
    # What the zeropoint is wrong by is a share of the flux. What all frames share says nothing of their differences.
    own = photometry.flux[rows] * photometry.zp_random_err[rows] / _MAG_PER_RELATIVE
    error = unit * np.hypot(photometry.flux_err[rows], own)
    weight = 1.0 / np.where(photometry.sky_err[rows] > 0, photometry.sky_err[rows] * unit, error) ** 2
    values = _means(flux, error, weight, group, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = np.bincount(group, weight * photometry.zp_systematic_err[rows], n) / np.bincount(
            group, weight, n
        )
    random = values["mag_mean_random_err"]
    values["mag_mean_systematic_err"] = np.where(np.isfinite(random), shared, np.nan)
    values["mag_mean_err"] = np.hypot(random, shared)
    median = group_median(flux, group, n)
    spread = MAD_TO_SIGMA * group_median(np.abs(flux - median[group]), group, n)
    count = np.bincount(group, minlength=n)
    values |= {
        "mag_median": _magnitude(median),
        "mag_scatter": np.where(count > 1, _relative(spread, median), np.nan),
    }
    detected = photometry.flux[rows] >= DETECTED_SNR * photometry.flux_err[rows]
    counts = {"n_clean": count, "n_detected": np.bincount(group, detected, n)}
    return {name: pa.array(value, from_pandas=True) for name, value in values.items()} | {
        name: pa.array(value.astype(np.int32)) for name, value in counts.items()
    }


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


def _nest_errors(photometry: ForcedPhotometry, curves: _Curves, schema: TableSchema) -> pa.StructArray:
    """Return the parts of the errors of the measurements as a struct of lists."""
    values = {
        "mag_random_err": photometry.mag_random_err,
        "mag_systematic_err": photometry.zp_systematic_err,
        "zp_random_err": photometry.zp_random_err,
    }
    offsets = np.append(curves.starts, len(curves.order))
    return nest_floats(
        {name: one[curves.order] for name, one in values.items()}, offsets, "lightcurve_errors", schema
    )


def _relative(error: Floats, flux: Floats) -> Floats:
    """Return an error of a flux in magnitudes; NaN for a flux that is not positive."""
    return np.asarray(_MAG_PER_RELATIVE * error / np.where(flux > 0, flux, np.nan))


def _magnitude(flux: Floats) -> Floats:
    return np.asarray(-2.5 * np.log10(np.where(flux > 0, flux, np.nan)))


def _nest(
    forced: pa.Table,
    photometry: ForcedPhotometry,
    sites: dict[str, Site],
    curves: _Curves,
    schema: TableSchema,
) -> pa.StructArray:
    """Return the measurements as a struct of lists."""
    rows = forced.take(pa.array(curves.order))
    values = {name: rows[name].combine_chunks() for name in _CARRIED}
    computed = {
        name: getattr(photometry, name)[curves.order]
        for name in ("flux", "flux_err", "zp", "zp_err", "mag", "mag_err", "mag_limit")
    }
    computed["bjd_tdb"] = barycentric(rows, sites, ("ra_deg", "dec_deg"))
    values |= {name: pa.array(array, pa.float64(), from_pandas=True) for name, array in computed.items()}
    offsets = pa.array(np.append(curves.starts, len(curves.order)), pa.int32())
    kind = arrow_schema(schema).field("lightcurve").type
    lists = [
        pa.ListArray.from_arrays(offsets, values[field.name].cast(field.type.value_type), type=field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(lists, fields=list(kind))
