"""Calibrated magnitudes of matches: detections are joined with their frame's calibration when read."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.camera import FLUXES
from skylake.core.ephemeris import airmass
from skylake.core.position_terms import field_coordinates, position_offset
from skylake.schema.aperture_columns import MORE, aperture_floats

Floats = npt.NDArray[np.float64]
_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
#: Matches that are calibrated at a time.
_PIECE = 1 << 15

#: Columns of ``frames`` and ``zeropoints`` that a calibration needs.
FRAME_COLUMNS = ("frame_id", *(f"apcor_{name}" for name in FLUXES), MORE, "width_px", "height_px")
ZEROPOINT_COLUMNS = (
    "frame_id",
    "flux",
    "zp",
    "zp_err",
    "zp_fit_err",
    "zp_random_err",
    "colour_term",
    "colour_term_err",
    "pivot_colour",
    "mean_colour",
    "colour_spread",
    "n_used",
    "version",
    "extinction",
    "extinction_err",
    "mean_airmass",
    "sky_light_scale",
    "sky_light_scale_err",
    "position_terms",
    "position_err",
    "position_random_err",
    "floor_mag",
    "photon_scale",
    "shares",
)

#: Distance of the colours of field stars from a pivot, root mean square: of stars of V = 8 to 11 in fields of 2 to 10
#: degrees 0.47 to 0.48 in B-V, of fainter ones less. From field to field, catalog to catalog and colour to colour its
#: square differs by about itself, which is as if so many stars told it (a scaled inverse chi-square).
_USUAL_OFFSET, _USUAL_STARS = 0.45, 4.0


@dataclass(frozen=True, slots=True)
class Photometry:
    """Photometry of matches; arrays of shape (n,), NaN where a frame has no calibration.

    ``flux`` is total flux without the light of neighbours that the catalog knows, ADU/s, and ``flux_err`` its error
    as repeated measurements show it; ``residual`` is the catalog magnitude minus the calibrated one.
    ``zp_random_err`` and ``zp_systematic_err`` are the parts of the error of the zeropoint at the star: its frame's
    own, with the scatter that bright stars have from frame to frame, and that which frames share, with that of the
    light of neighbours. ``mag_err`` has both.
    """

    flux: Floats
    flux_err: Floats
    mag: Floats
    mag_err: Floats
    residual: Floats
    version: npt.NDArray[np.int64]
    zp_random_err: Floats
    zp_systematic_err: Floats


def calibrate_matches(
    matches: pa.Table, frames: pa.Table, zeropoints: pa.Table, circle: str | None = None
) -> Photometry:
    """Return the photometry of matches.

    A star of unknown colour is taken for one of the pivot colour, and its error says how far off that may
    be: as far as the colours of the frame's stars are from the pivot, where they are few also those of usual fields.

    Parameters
    ----------
    matches : pyarrow.Table
        Rows of ``matches``.
    frames : pyarrow.Table
        :data:`FRAME_COLUMNS` of at least their frames.
    zeropoints : pyarrow.Table
        :data:`ZEROPOINT_COLUMNS`, one row per frame at most.
    circle : str or None
        Another flux than the calibrated one, as ``aper1`` or ``kron``. Its errors have those of aperture corrections,
        and the light of neighbours stays in it where the aperture is not the calibrated one.
    """
    found = find_calibration(matches, frames, zeropoints)
    share = shares_of(zeropoints, found.zero, matches["ref_id"].to_numpy())
    # Piece by piece, so that what is computed of a row stays in the cache of the processor.
    pieces = [
        _calibrated(
            matches.slice(start, _PIECE),
            frames,
            zeropoints,
            found.of(slice(start, start + _PIECE)),
            share[start : start + _PIECE],
            circle,
        )
        for start in range(0, max(matches.num_rows, 1), _PIECE)
    ]
    names = [one.name for one in fields(Photometry)]
    return Photometry(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names})


def _calibrated(
    matches: pa.Table, frames: pa.Table, zeropoints: pa.Table, found: Found, share: Floats, circle: str | None
) -> Photometry:
    """Return the photometry of matches whose calibration and shares are known."""
    flux, flux_err = np.full(matches.num_rows, np.nan), np.full(matches.num_rows, np.nan)
    for name in [circle] if circle is not None else found.names:
        rows = found.known if circle is not None else found.known & found.has_flux(name)
        factor = total_factor(matches, frames, found, name)
        flux[rows] = (column_floats(matches, f"flux_{name}") * factor)[rows]
        flux_err[rows] = (column_floats(matches, f"flux_{name}_err") * factor)[rows]
    flux_err *= photon_scale(zeropoints, found)
    colour, altitude, colour_err = (
        column_floats(matches, name) for name in ("ref_colour", "altitude_deg", "ref_colour_err")
    )
    stars = Stars(colour, altitude, colour_err, share, photon_errors(flux, flux_err))
    offset = position_offsets(zeropoints["position_terms"], found.zero, matches, frames, found.frame)
    another = np.zeros(len(flux), bool) if circle is None else found.known & ~found.has_flux(circle)
    zero = zeropoints_at(zeropoints, found, stars, offset, another)
    neighbours, neighbours_err = neighbour_flux(matches, zeropoints, found, zero.zp)
    flux -= np.where(another, 0.0, neighbours)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_neighbours = np.where(flux > 0, _MAG_PER_RELATIVE * neighbours_err / flux, 0.0)
    mag, mag_err = magnitudes(flux, flux_err, zero.zp, np.hypot(zero.error, of_neighbours))
    version = zeropoints["version"].to_numpy() if zeropoints.num_rows else np.zeros(1, np.int64)
    residual = column_floats(matches, "ref_mag") - mag
    systematic = np.hypot(zero.systematic, of_neighbours)
    return Photometry(flux, flux_err, mag, mag_err, residual, version[found.zero], zero.random, systematic)


def neighbour_flux(
    matches: pa.Table, zeropoints: pa.Table, found: Found, zp: Floats
) -> tuple[Floats, Floats]:
    """Return the flux that other stars of the catalog add to that of each match, and its error.

    It is that of stars which are as bright as the catalog says, so that a star that varies keeps its amplitude, and 0
    for matches that were made before it was known what the sky takes off.

    Parameters
    ----------
    matches : pyarrow.Table
    zeropoints : pyarrow.Table
        :data:`ZEROPOINT_COLUMNS`.
    found : Found
        The zeropoint of each match.
    zp : ndarray, shape (n,)
        Magnitude of a total flux of 1 ADU/s.
    """
    names = ("ref_mag", "ref_crowding", "ref_crowding_err", "ref_sky_light")
    mag, crowding, error, sky = (column_floats(matches, name) for name in names)
    if np.isnan(sky).all():
        return np.zeros(len(mag)), np.zeros(len(mag))
    scale = np.nan_to_num(column_floats(zeropoints, "sky_light_scale"), nan=1.0)[found.zero]
    scale_err = np.nan_to_num(column_floats(zeropoints, "sky_light_scale_err"))[found.zero]
    own = 10.0 ** (0.4 * (zp - mag))
    values = own * (crowding - scale * sky), own * np.hypot(error, scale_err * sky)
    return np.nan_to_num(values[0]), np.nan_to_num(values[1])


@dataclass(frozen=True, slots=True)
class Found:
    """Which rows of ``frames`` and ``zeropoints`` go with measurements; arrays of shape (n,).

    ``known`` is true where a measurement has both, with a zeropoint. ``fluxes`` are the names of the calibrated
    fluxes, and ``number`` is the place of each measurement's flux among them.
    """

    frame: npt.NDArray[np.intp]
    zero: npt.NDArray[np.intp]
    known: npt.NDArray[np.bool_]
    fluxes: tuple[str, ...]
    number: npt.NDArray[np.intp]

    @property
    def flux(self) -> npt.NDArray[np.object_]:
        """The name of the flux that was calibrated."""
        return np.asarray(self.fluxes, object)[self.number]

    @property
    def names(self) -> list[str]:
        """The fluxes that were calibrated of known measurements."""
        counts = np.bincount(self.number[self.known], minlength=len(self.fluxes))
        return [name for name, count in zip(self.fluxes, counts.tolist(), strict=True) if count]

    def has_flux(self, name: str) -> npt.NDArray[np.bool_]:
        """Return where a flux was calibrated."""
        return np.array([one == name for one in self.fluxes])[self.number]

    def of(self, rows: slice) -> Found:
        """Return the same of some measurements."""
        return Found(self.frame[rows], self.zero[rows], self.known[rows], self.fluxes, self.number[rows])


def find_calibration(rows: pa.Table, frames: pa.Table, zeropoints: pa.Table) -> Found:
    """Return which frame and zeropoint goes with each measurement, by its ``frame_id``."""
    # Many measurements share a frame, which is looked up once.
    encoded = rows["frame_id"].combine_chunks().dictionary_encode()
    frame_id, place = encoded.dictionary.to_numpy(), encoded.indices.to_numpy()
    frame, has_frame = _lookup(frames["frame_id"].to_numpy(), frame_id)
    zero, has_zero = _lookup(zeropoints["frame_id"].to_numpy(), frame_id)
    # A row without a zeropoint says that its frame could not be calibrated, and why.
    known = has_frame & has_zero & np.isfinite(column_floats(zeropoints, "zp")[zero])
    names = zeropoints["flux"].to_pylist() or [""]
    fluxes = sorted(set(names), key=str)
    number = np.array([fluxes.index(name) for name in names], np.intp)[zero]
    return Found(frame[place], zero[place], known[place], tuple(fluxes), number[place])


def total_factor(rows: pa.Table, frames: pa.Table, found: Found, name: str) -> Floats:
    """Return the factor from the flux of an aperture to total flux."""
    relative = column_floats(rows, f"apcor_rel_{name}")
    return column_floats(frames, f"apcor_{name}")[found.frame] * np.where(np.isnan(relative), 1.0, relative)


def photon_scale(zeropoints: pa.Table, found: Found) -> Floats:
    """Return the factor on the error of each flux that repeated measurements show; 1 where they do not tell."""
    return np.nan_to_num(column_floats(zeropoints, "photon_scale"), nan=1.0)[found.zero]


def position_offsets(
    terms: pa.ChunkedArray,
    zero: npt.NDArray[np.intp],
    rows: pa.Table,
    frames: pa.Table,
    frame: npt.NDArray[np.intp],
) -> Floats:
    """Return the offset of the zeropoint at the place of each measurement on its frame.

    Parameters
    ----------
    terms : pyarrow.ChunkedArray
        ``position_terms`` of the zeropoints; null for none.
    zero : ndarray of int, shape (n,)
        The zeropoint of each measurement.
    rows : pyarrow.Table
        ``x_px`` and ``y_px`` of the measurements.
    frames : pyarrow.Table
        ``width_px`` and ``height_px``.
    frame : ndarray of int, shape (n,)
        The frame of each measurement.

    Returns
    -------
    ndarray, shape (n,)
        Magnitudes; 0 without terms.
    """
    offset = np.zeros(rows.num_rows)
    coefficients = _coefficients(terms)
    if coefficients.shape[1] == 0:
        return offset
    has_terms = np.asarray(coefficients.any(axis=1))
    some = np.flatnonzero(has_terms[zero])
    width, height = (column_floats(frames, name)[frame[some]] for name in ("width_px", "height_px"))
    x, y = (rows[name].to_numpy()[some] for name in ("x_px", "y_px"))
    u, v = field_coordinates(x, y, width, height)
    offset[some] = position_offset(coefficients[zero[some]], u, v)
    return offset


def _coefficients(terms: pa.ChunkedArray) -> Floats:
    """Return position terms as rows of one length, filled up with zeros: terms of higher degrees come last."""
    lists = pa.chunked_array(pc.struct_field(terms, "coefficient")).combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    width = int(lengths.max(initial=0))
    coefficients = np.zeros((max(len(lengths), 1), width))
    flat = lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    coefficients[: len(lengths)][np.arange(width) < lengths[:, None]] = np.nan_to_num(flat)
    return coefficients


@dataclass(frozen=True, slots=True)
class Stars:
    """What of stars counts for their zeropoints; arrays of shape (n,).

    Attributes
    ----------
    colour : ndarray
        NaN where it is not known.
    altitude_deg : ndarray
        It counts where the zeropoint has an extinction, and is NaN for measurements of other cameras.
    colour_err : ndarray or None
        Error of each colour, which all measurements of the star share; NaN, or None for all, where it is not known.
    share : ndarray or None
        Weight of the star in the zeropoint of its frame; None for 0.
    photon_err : ndarray or None
        Error of its flux, magnitudes; needed with `share`.
    """

    colour: Floats
    altitude_deg: Floats
    colour_err: Floats | None = None
    share: Floats | None = None
    photon_err: Floats | None = None


@dataclass(frozen=True, slots=True)
class StarZeropoints:
    """Magnitudes of stars of some colour with a total flux of 1 ADU/s; arrays of shape (n,), NaN where unknown.

    An error of the aperture correction is no part of theirs: the flux has it as well, and the magnitude is the same.

    Attributes
    ----------
    zp, error : ndarray
        The magnitude, and its standard error.
    random : ndarray
        The part of the error that differs from frame to frame, so that a mean over frames makes it smaller.
    """

    zp: Floats
    error: Floats
    random: Floats

    @property
    def systematic(self) -> Floats:
        """The part that frames of the star share: stars of the catalog, colour term, and an unknown colour."""
        return np.asarray(np.sqrt(np.maximum(self.error**2 - self.random**2, 0.0)))


def zeropoints_at(
    zeropoints: pa.Table,
    found: Found,
    stars: Stars,
    offset: Floats,
    another_flux: npt.NDArray[np.bool_] | None = None,
) -> StarZeropoints:
    """Return the magnitude of a star of each colour and altitude with a total flux of 1 ADU/s, and its error.

    Where a calibration does not tell which part of its error is the frame's own, as those made before it was known,
    all counts as shared: a mean is then never better than it says. The scatter that bright stars have from frame to
    frame is random, and so is the error of the frame's own position terms; that of the illumination is shared.

    Parameters
    ----------
    zeropoints : pyarrow.Table
        :data:`ZEROPOINT_COLUMNS`.
    found : Found
    stars : Stars
        One for each measurement.
    offset : ndarray, shape (n,)
        From :func:`position_offsets`.
    another_flux : ndarray of bool, shape (n,), or None
        Measurements in another aperture than the calibrated one: the errors of aperture corrections do not cancel
        there, and that of the calibrated flux counts.
    """
    zero, colour = found.zero, stars.colour
    zp = np.where(found.known, column_floats(zeropoints, "zp")[zero], np.nan)
    term, pivot = (
        np.nan_to_num(column_floats(zeropoints, name))[zero] for name in ("colour_term", "pivot_colour")
    )
    shift = np.where(term != 0.0, term * (np.where(np.isfinite(colour), colour, pivot) - pivot), 0.0)
    extinction = column_floats(zeropoints, "extinction")
    shift = shift + offset
    beyond: Floats | float = np.nan
    if np.isfinite(stars.altitude_deg).any():
        beyond = airmass(stars.altitude_deg) - 1.0
    if np.isfinite(extinction).any():
        shift -= np.where(np.isfinite(extinction)[zero], extinction[zero] * beyond, 0.0)
    error = np.where(found.known, _errors_at(zeropoints, zero, colour, beyond), np.nan)
    if stars.colour_err is not None:
        error = np.hypot(error, np.where(np.isfinite(colour), np.nan_to_num(term * stars.colour_err), 0.0))
    random = np.nan_to_num(column_floats(zeropoints, "zp_random_err"))[zero]
    if another_flux is not None and another_flux.any():
        aperture = np.where(another_flux, _aperture_variance(zeropoints)[zero], 0.0)
        error, random = np.sqrt(error**2 + aperture), np.sqrt(random**2 + aperture)
    floor, place, own_place = (
        np.nan_to_num(column_floats(zeropoints, name))[zero]
        for name in ("floor_mag", "position_err", "position_random_err")
    )
    variance = np.minimum(random, error) ** 2 + floor**2 + own_place**2
    variance = np.where(found.known, variance, np.nan)
    cancelled = np.zeros(len(zp))
    if stars.share is not None and stars.photon_err is not None:
        # A star that is too bright by chance makes the zeropoint fainter by its share of that.
        own = np.nan_to_num(stars.photon_err) ** 2 + floor**2
        cancelled = np.minimum(2.0 * stars.share * own, np.nan_to_num(variance))
    return StarZeropoints(
        zp + shift,
        np.sqrt(error**2 + floor**2 + place**2 - cancelled),
        np.sqrt(variance - cancelled),
    )


def photon_errors(flux: Floats, flux_err: Floats) -> Floats:
    """Return the errors of fluxes in magnitudes, shape (n,); 0 for a flux that is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flux > 0.0, _MAG_PER_RELATIVE * flux_err / flux, 0.0)


def shares_of(zeropoints: pa.Table, zero: npt.NDArray[np.intp], star: npt.NDArray[np.int64]) -> Floats:
    """Return the weight that the star of each measurement has in the zeropoint of its frame.

    Parameters
    ----------
    zeropoints : pyarrow.Table
        With ``shares``, or without for those that know none.
    zero : ndarray of int, shape (n,)
        The zeropoint of each measurement.
    star : ndarray of int64, shape (n,)
        ``ref_id`` in the catalog of the zeropoints.

    Returns
    -------
    ndarray, shape (n,)
        0 for stars of small shares, and of none.
    """
    nothing = np.zeros(len(star))
    if "shares" not in zeropoints.column_names or zeropoints["shares"].null_count == zeropoints.num_rows:
        return nothing
    column = zeropoints["shares"].combine_chunks()
    ids, shares = (pc.struct_field(column, name) for name in ("ref_id", "share"))
    lengths = pc.fill_null(pc.list_value_length(ids), 0).to_numpy(zero_copy_only=False)
    known, number = np.unique(ids.flatten().to_numpy(zero_copy_only=False), return_inverse=True)
    if len(known) == 0:
        return nothing
    keys = np.repeat(np.arange(len(lengths)), lengths) * len(known) + number
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(known, star), len(known) - 1)
    wanted = zero * len(known) + place
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    found = (known[place] == star) & (keys[at] == wanted)
    return np.where(found, shares.flatten().to_numpy(zero_copy_only=False)[at], 0.0)


def magnitudes(flux: Floats, flux_err: Floats, zp: Floats, zp_err: Floats) -> tuple[Floats, Floats]:
    """Return magnitudes and their errors; NaN for a flux that is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        positive = np.where(flux > 0, flux, np.nan)
        return -2.5 * np.log10(positive) + zp, np.hypot(_MAG_PER_RELATIVE * flux_err / positive, zp_err)


def _errors_at(
    zeropoints: pa.Table, zero: npt.NDArray[np.intp], colour: Floats, beyond: Floats | float
) -> Floats:
    """Return the error of zp + c (colour - pivot) - k (airmass - 1), for the rows `zero` of the zeropoints.

    The fit knows the magnitude of a star of the mean colour of its stars, with an error that has nothing to
    do with that of the colour term c. zp is what follows at the pivot, so the variance of zp holds
    (err(c) (mean - pivot))**2; at another colour (err(c) (colour - mean))**2 stands in its place. So it is with the
    extinction k, whose pivot is the zenith.
    """
    names = ("colour_term", "colour_term_err", "pivot_colour", "mean_colour")
    term, term_err, pivot, mean = (column_floats(zeropoints, name) for name in names)
    has_term = np.isfinite(term_err) & np.isfinite(mean) & np.isfinite(pivot)
    offset = np.where(has_term, mean - pivot, 0.0)
    term_err, term = np.where(has_term, term_err, 0.0), np.where(has_term, np.nan_to_num(term), 0.0)
    fit_err = column_floats(zeropoints, "zp_fit_err")
    # Where the part of the fit is not told, it may be all but that of the colour term and the extinction.
    fit = np.where(np.isnan(fit_err), _beside_terms(zeropoints), fit_err**2)[zero]
    fit += _airmass_variance(zeropoints, zero, beyond)
    of_known = fit + (term_err[zero] * (colour - np.where(has_term, mean, 0.0)[zero])) ** 2
    own, spread = (term_err * offset) ** 2, term**2 * _unknown_offsets(zeropoints, offset)
    of_unknown = fit + own[zero] + spread[zero]
    return np.asarray(np.sqrt(np.where(np.isfinite(colour), of_known, of_unknown)))


def _unknown_offsets(zeropoints: pa.Table, offset: Floats) -> Floats:
    """Return the mean square distance of unknown colours from the pivot, given that of the mean of the known ones.

    Few stars tell it now too small, now too large, and where it is too small deviations exceed their errors by more
    than they fall short elsewhere. So what usual fields have counts as some stars more. The view
    ``zeropoints_of_stars`` of ``sql/duckdb`` has the same.
    """
    spread = np.nan_to_num(column_floats(zeropoints, "colour_spread"))
    n_used = np.nan_to_num(column_floats(zeropoints, "n_used"))
    told = n_used * (spread**2 + offset**2)
    return np.asarray((_USUAL_STARS * _USUAL_OFFSET**2 + told) / (_USUAL_STARS + n_used))


def _airmass_variance(
    zeropoints: pa.Table, zero: npt.NDArray[np.intp] | slice, beyond: Floats | float = 0.0
) -> Floats | float:
    """Return the variance that the extinction brings at airmasses, less that of the zenith; 0 where there is none."""
    error, mean = (column_floats(zeropoints, name) for name in ("extinction_err", "mean_airmass"))
    has = np.isfinite(error) & np.isfinite(mean)
    if not has.any():
        return 0.0
    return np.where(has[zero], (error[zero] * (beyond - (mean - 1.0)[zero])) ** 2, 0.0)


def _beside_terms(zeropoints: pa.Table) -> Floats:
    """Return the variance of zp without that of colour term and extinction: of the fit and the aperture correction."""
    names = ("zp_err", "colour_term_err", "pivot_colour", "mean_colour")
    zp_err, term_err, pivot, mean = (column_floats(zeropoints, name) for name in names)
    of_terms = np.nan_to_num(term_err * (mean - pivot)) ** 2 + _airmass_variance(zeropoints, slice(None))
    return np.asarray(np.maximum(zp_err**2 - of_terms, 0.0))


def _aperture_variance(zeropoints: pa.Table) -> Floats:
    """Return the variance of zp that is the aperture correction's; 0 where the part of the fit is not told."""
    fit = column_floats(zeropoints, "zp_fit_err") ** 2
    beside = _beside_terms(zeropoints)
    return np.maximum(beside - np.where(np.isnan(fit), beside, fit), 0.0)


def _lookup(
    keys: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Return where each wanted key stands among unique keys (0 if nowhere), and whether it does."""
    if len(keys) == 0:
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), bool)
    order = np.argsort(keys)
    place = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return place, np.asarray(keys[place] == wanted)


def column_floats(table: pa.Table, name: str) -> Floats:
    """Return a column as floats, NaN for null; one NaN for a table without rows, so that it can be indexed."""
    values = aperture_floats(table, name)
    return values if len(values) else np.full(1, np.nan)
