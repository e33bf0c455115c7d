"""Which pairs of detections and catalog stars are matches.

A detection lies as far from its star as the errors of the frame's WCS, of its centroid and of the star allow. Within
that, the partner is the nearest one that the magnitudes do not contradict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.camera import FLUXES, Camera, FilterBand
from skylake.core.flags import NO_STANDARD
from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.sphere import FloatArray, julian_epoch
from skylake.sky.match import PairChoice, choose_pairs, rows_of_groups
from skylake.table.matches import numbers, reference_values

Mask = npt.NDArray[np.bool_]
Ranks = npt.NDArray[np.int8]

#: Columns of ``sources`` that say how well a place is known.
_CENTROID = ("x_err_px", "y_err_px")

#: Radius of the match in standard errors, both coordinates together: of 10 million matches one is farther.
_RADIUS_SIGMA = 4.0
#: It is never less than a pixel, as blends and the shapes of stars move centroids by more than their error, and never
#: more than three.
_RADIUS_PX = (1.0, 3.0)
#: Error of catalog positions, that of photometric surveys such as APASS, and what a star without proper motion moves:
#: arcseconds, and arcseconds a year.
_STAR_ARCSEC, _DRIFT_ARCSEC = 0.2, 0.02
#: The root mean square of distances in a plane, in their medians (Rayleigh's distribution).
_MEDIAN_TO_RMS = 1.2011
#: Another pair is about as likely if the odds are below 20 to 1.
_LOG_ODDS = 3.0
#: A magnitude differs if it is off those of its frame by so many standard deviations, and by so much: colours, clouds
#: and blends make less.
_OFF_SIGMA, _OFF_MAG = 5.0, 1.0
#: Fewer matches do not tell what the stars of a frame have in common.
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What is known of each pair; arrays of shape (n,), and the row of its frame.

    ``error`` is the standard error of the separation, both coordinates together, and ``limit`` the largest separation
    of a match; arcseconds.
    """

    of_frame: npt.NDArray[np.intp]
    separation: FloatArray
    error: FloatArray
    limit: FloatArray


def match_radius_arcsec(frames: pa.Table, camera: Camera) -> float:
    """Return the largest radius of a match: the profile's, or three pixels."""
    given = camera.calibration.match_radius_arcsec
    return given if given is not None else _RADIUS_PX[1] * float(pc.max(frames["pixel_scale_arcsec"]).as_py())


def judging_columns(camera: Camera) -> tuple[str, ...]:
    """Return the columns of ``sources`` that a choice needs, beside those of every join."""
    return (*_CENTROID, "flags", *_flux_columns(camera))


def _flux_columns(camera: Camera) -> tuple[str, str]:
    flux = camera.apertures.flux if camera.apertures.flux in FLUXES else FLUXES[0]
    return f"flux_{flux}", f"flux_{flux}_err"


def choose_matches(
    pairs: pa.Table,
    frames: pa.Table,
    epoch: float,
    filters: Mapping[str, FilterBand],
    camera: Camera,
    survey: str = "",
) -> pa.Table:
    """Return the matches among all pairs within the radius: mutual nearest, one to one in each frame.

    A pair whose magnitudes differ by more than noise and the other stars of the frame explain loses against one whose
    magnitudes agree. Without such a rival it is a match all the same, as stars vary, and is marked.

    Parameters
    ----------
    pairs : pyarrow.Table
        As :func:`skylake.sky.join.join_catalog` gives them, with the columns of :func:`judging_columns`.
    frames : pyarrow.Table
    epoch : float
        Julian epoch of the positions of the catalog.
    filters : mapping
        Band of each filter that occurs.
    camera : Camera
    survey : str
        The survey in whose system the catalog is; empty if unknown.

    Returns
    -------
    pyarrow.Table
        The chosen pairs, with the columns ``filter``, ``n_candidates`` and :data:`skylake.table.matches.JUDGED`.
    """
    of_frame = pc.index_in(pairs["frame_id"], frames["frame_id"].combine_chunks())
    if of_frame.null_count:
        pairs, of_frame = pairs.filter(of_frame.is_valid()), of_frame.drop_null()
    # Detections carry the name that was in force when they were ingested.
    pairs = pairs.append_column("filter", frames["filter"].take(of_frame))
    known = _evidence(pairs, of_frame.to_numpy(), frames, camera, epoch)
    frame, source, star = (pairs[name].to_numpy() for name in ("frame_id", "source_no", "ref_id"))
    rank = np.where(known.separation <= known.limit, 0, 2).astype(np.int8)
    nearest = choose_pairs(frame, source, star, known.separation, rank)
    reference_mag = reference_values(pairs, filters, camera.calibration.catalog_mag_err, survey).mag
    differs = _differing(pairs, known.of_frame, nearest.chosen, reference_mag, camera)
    choice = nearest
    if differs.any():
        rank = np.maximum(rank, differs.astype(np.int8))
        choice = choose_pairs(frame, source, star, known.separation, rank)
    chosen = pairs.filter(pa.array(choice.chosen))
    for name, values in _columns_of(choice, known, differs).items():
        chosen = chosen.append_column(name, values)
    return chosen


def _columns_of(choice: PairChoice, known: _Evidence, differs: Mask) -> dict[str, pa.Array]:
    """Return the columns of the chosen pairs that their two rows do not have."""
    rows = np.flatnonzero(choice.chosen)
    excess = choice.rival[rows] ** 2 - known.separation[rows] ** 2
    return {
        "n_candidates": pa.array(choice.n_candidates[rows]),
        "second_separation_arcsec": pa.array(choice.second[rows], from_pandas=True),
        "is_ambiguous": pa.array(excess < _LOG_ODDS * known.error[rows] ** 2),
        "is_discrepant": pa.array(differs[rows]),
    }


def _evidence(
    pairs: pa.Table, of_frame: npt.NDArray[np.intp], frames: pa.Table, camera: Camera, epoch: float
) -> _Evidence:
    """Return how far the members of pairs may be from each other."""
    scale = numbers(frames, "pixel_scale_arcsec")[of_frame]
    low, high = (limit * scale for limit in _RADIUS_PX)
    centroid = scale * np.hypot(*(np.nan_to_num(numbers(pairs, name)) for name in _CENTROID))
    years = np.abs(julian_epoch(numbers(pairs, "mjd_mid")) - epoch)
    is_still = np.isnan(numbers(pairs, "pm_ra_mas_yr"))
    star = np.hypot(_STAR_ARCSEC, np.where(is_still, _DRIFT_ARCSEC * years, 0.0))
    error = np.sqrt(frame_errors_arcsec(frames)[of_frame] ** 2 + centroid**2 + star**2)
    limit = np.where(np.isnan(error), high, np.clip(_RADIUS_SIGMA * error, low, high))
    given = camera.calibration.match_radius_arcsec
    error = np.fmax(error, low / _RADIUS_SIGMA)
    separation = numbers(pairs, "separation_arcsec")
    return _Evidence(of_frame, separation, error, limit if given is None else np.full(len(limit), given))


def frame_errors_arcsec(frames: pa.Table) -> FloatArray:
    """Return the error of positions by the WCS of each frame, both coordinates together; NaN where none is known.

    It is the rms distance of stars from the lens where that is worst over the image, else what the check against the
    catalog has found; the error of the lens itself comes on top.
    """
    scale = numbers(frames, "pixel_scale_arcsec")
    rings = [numbers(frames, f"astrom_rms_ring{ring}_px") for ring in range(1, 5)]
    fitted = scale * np.fmax.reduce([numbers(frames, "astrom_rms_px"), *rings])
    checked = _MEDIAN_TO_RMS * numbers(frames, "wcs_offset_arcsec")
    lens = scale * numbers(frames, "wcs_err_px")
    scatter = np.where(np.isnan(fitted), checked, fitted)
    return np.where(np.isnan(scatter), lens, np.hypot(scatter, np.nan_to_num(lens)))


def _differing(
    pairs: pa.Table,
    of_frame: npt.NDArray[np.intp],
    nearest: Mask,
    mag: FloatArray,
    camera: Camera,
) -> Mask:
    """Return which pairs have magnitudes that do not fit each other, given what the nearest ones have in common.

    ``mag`` is the magnitude of the catalog in the band of the detection.

    Nothing is known, and so nothing differs, where the catalog has no magnitude or the detection is spoiled, and on
    frames with few matches.
    """
    counts, error = (numbers(pairs, name) for name in _flux_columns(camera))
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = np.where(counts > 0.0, counts, np.nan)
        difference = mag + 2.5 * np.log10(counts)
        noise = 2.5 / np.log(10.0) * error / counts
    is_clean = (pairs["flags"].to_numpy() & int(NO_STANDARD)) == 0
    rows = np.flatnonzero(is_clean & np.isfinite(difference) & np.isfinite(noise))
    differs = np.zeros(len(difference), bool)
    for mine in rows_of_groups(rows, of_frame[rows]):
        matched = mine[nearest[mine]]
        if matched.size >= _FEWEST:
            common = _median(difference[matched], noise[matched])
            spread = MAD_TO_SIGMA * _median(np.abs(difference[matched] - common), noise[matched])
            allowed = np.maximum(_OFF_MAG, _OFF_SIGMA * np.hypot(spread, noise[mine]))
            differs[mine] = np.abs(difference[mine] - common) > allowed
    return differs


def _median(values: FloatArray, noise: FloatArray) -> float:
    """Return the median of values, of which those that are noisier than 0.1 mag count less."""
    order = np.argsort(values)
    weight = np.cumsum(1.0 / (1.0 + (noise[order] / 0.1) ** 2))
    return float(values[order[int(np.searchsorted(weight, 0.5 * weight[-1]))]])
