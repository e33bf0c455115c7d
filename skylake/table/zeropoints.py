"""The table ``zeropoints``: one night of one camera calibrated against one catalog.

The model of a match of star i on frame f, in one band, is

    m_ref,i = -2.5 log10(total flux_if / (1 + g_i - s b_i)) + zp_f + c (colour_i - pivot) - k (airmass_if - 1) + noise,

with one zeropoint per frame and one colour term per night. The extinction k, one per night too, is fitted where
altitudes differ within frames: those of a camera that sees the whole sky; elsewhere it is in the zeropoints.
Of other stars in the aperture, the catalog knows the light g that they bring, and the light b that the sky took off
again, both in units of the star's own. The scale s of the latter is about 1 and the same for a night.
The noise is that of the flux and of the catalog, plus an intrinsic scatter (flat-field errors, blends, unknown
variables, a colour term that is no straight line), which the night itself tells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.camera import Calibration
from skylake.core.robust import Fit, biweight, intrinsic_scatter, robust_fit, robust_mean
from skylake.schema import arrow_schema, conform, load
from skylake.schema.aperture_columns import aperture_value
from skylake.table.match_selection import Band, Cut, Matches, gather

Floats = npt.NDArray[np.float64]

#: Reasons that a catalog with other columns would mend.
NO_BAND, NO_COLOUR = "no_band", "no_colour"
UNKNOWN_FILTER = "unknown_filter"
TOO_FEW_STARS = "too_few_stars"

_ROUNDS = 8
#: So many stars must keep half of their weight: two or three of a few may agree by chance.
_FEWEST_USED = 5
#: Extinction per airmass before any star has told, magnitudes: that of dry and of hazy sites in all bands.
_EXTINCTION = (0.25, 0.25)
#: Scale of the light that the sky takes off, less 1, before any star has told: where it is taken off depends on what
#: was detected, and that on noise.
_SKY_LIGHT = (0.0, 0.15)
#: What neighbours bring as a whole is known up to this share of it, as simulated fields of all sorts tell.
_NEIGHBOURS_ERROR = 0.018
_MAG_PER_RELATIVE = 2.5 / np.log(10.0)


@dataclass(frozen=True, slots=True)
class ColourTerm:
    """The colour term of a night, with its error, and the intrinsic scatter of the night's stars.

    ``random`` is the part of that scatter by which the measurements of one star differ from frame to frame,
    ``extinction`` that per airmass, NaN where frames see degrees, and ``sky_light`` the scale of the light that the
    sky took off, less 1.
    """

    value: float
    error: float
    intrinsic: float
    random: float = 0.0
    extinction: float = float("nan")
    extinction_err: float = float("nan")
    sky_light: float = 0.0
    sky_light_err: float = 0.0

    def at_pivot(self, data: Matches, rows: npt.NDArray[np.intp]) -> Floats:
        """Return the differences that matches would have at the pivot colour and the zenith; shape as `rows`."""
        moved = data.difference[rows] - self.value * data.colour[rows]
        moved += np.nan_to_num(self.extinction) * data.airmass[rows]
        return np.asarray(moved + self.sky_light * data.sky_light[rows])


@dataclass(frozen=True, slots=True)
class FrameZeropoint:
    """Zeropoint of a frame; NaN where there is none, with the reason."""

    zp: float = float("nan")
    zp_fit_err: float = float("nan")
    zp_random_err: float = float("nan")
    zp_err: float = float("nan")
    mean_colour: float = float("nan")
    colour_spread: float = float("nan")
    mean_airmass: float = float("nan")
    n_matched: int = 0
    n_used: int = 0
    rms: float = float("nan")
    chi2: float = float("nan")
    reason: str | None = None
    message: str | None = None


def zeropoints_table(
    frames: pa.Table, matches: pa.Table, bands: dict[str, Band], catalog: str, version: int
) -> pa.Table:
    """Calibrate all frames of a night.

    Parameters
    ----------
    frames : pyarrow.Table
        Rows of ``frames`` with status ok.
    matches : pyarrow.Table
        Rows of ``matches`` of these frames and this catalog.
    bands : dict
        How to calibrate each band that occurs.
    catalog : str
    version : int

    Returns
    -------
    pyarrow.Table
        One row per frame; without a zeropoint where that is not possible, and then with the reason:
        ``unknown_filter``, ``no_matches``, ``no_band`` or ``no_colour`` (no star of the night has a
        magnitude in the band, or a colour), ``too_few_stars`` or ``no_aperture_correction``. Where stars are too few
        ``message`` says which cut took how many, and what the others give.
    """
    rows: list[dict[str, Any]] = []
    names = np.asarray(frames["band"].to_pylist(), object)
    for name in dict.fromkeys(names.tolist()):
        chosen = frames.filter(pa.array(names == name))
        if name is None or name not in bands:
            rows += [_uncalibrated(frame, catalog, version) for frame in chosen.to_pylist()]
        else:
            rows += _calibrate_band(chosen, matches, bands[name], catalog, version)
    schema = load("zeropoints")
    arrays = {
        item.name: pa.array([row.get(item.name) for row in rows], item.type, from_pandas=True)
        for item in arrow_schema(schema)
    }
    return conform(pa.table(arrays), schema)


def _calibrate_band(
    frames: pa.Table, matches: pa.Table, band: Band, catalog: str, version: int
) -> list[dict[str, Any]]:
    name = f"apcor_{band.flux}"
    correction = {
        frame["frame_id"]: (aperture_value(frame, name), aperture_value(frame, f"{name}_err"))
        for frame in frames.to_pylist()
    }
    data = gather(matches, correction, band)
    missing = _missing(data)
    term = fit_colour_term(data, band.calibration)
    rows_of = data.rows_of_frames()
    none = np.zeros(0, np.intp)
    rows = []
    for frame in frames.to_pylist():
        factor, factor_err = correction[frame["frame_id"]]
        mine = rows_of.get(frame["frame_id"], none)
        solved = fit_frame(data, mine, term, band.calibration.min_stars)
        if solved.reason == TOO_FEW_STARS:
            solved = _too_few(solved, data.cut[mine], frame, band, missing)
        if factor is None:
            solved = FrameZeropoint(n_matched=solved.n_matched, reason="no_aperture_correction")
        else:
            aperture = _MAG_PER_RELATIVE * (factor_err or 0.0) / factor
            solved = replace(solved, zp_err=float(np.hypot(solved.zp_err, aperture)))
        rows.append(_row(frame, band, catalog, version, term, solved))
    return rows


def _missing(data: Matches) -> str | None:
    """Return what the catalog does not have for any star of the night, as a reason."""
    if not np.isfinite(data.catalog_error).any():
        return NO_BAND
    return None if np.isfinite(data.colour).any() else NO_COLOUR


def _too_few(
    solved: FrameZeropoint, cut: npt.NDArray[np.int8], frame: dict[str, Any], band: Band, missing: str | None
) -> FrameZeropoint:
    """Return the zeropoint of a frame of too few stars without its value, with a sentence that says what there was."""
    took = "".join(
        f"; {words}: {count} of {cut.size}"
        for one, words in _cuts(frame, band).items()
        if (count := int(np.count_nonzero(cut == one)))
    )
    left = int(np.count_nonzero(cut == Cut.NONE))
    agree = f", {solved.n_used} of them agree" if solved.n_used < left else ""
    needed = f"{left} of {cut.size} matches can be used{agree}, min_stars is {band.calibration.min_stars}"
    gives = "" if np.isnan(solved.zp) else f"; zeropoint of these: {solved.zp:.3f} +- {solved.zp_err:.3f} mag"
    return FrameZeropoint(
        n_matched=solved.n_matched, reason=missing or TOO_FEW_STARS, message=f"{needed}{took}{gives}"
    )


def _cuts(frame: dict[str, Any], band: Band) -> dict[Cut, str]:
    """Return each cut in words; that of errors names the aperture, which may be too large for the images of stars."""
    limits = band.calibration
    radius = aperture_value(frame, f"{band.flux}_radius_px") if band.flux != "kron" else None
    where = "the Kron aperture" if radius is None else f"an aperture of {radius:.3g} px"
    fwhm = frame.get("fwhm_px")
    seeing = "" if fwhm is None else f" at FWHM {fwhm:.2g} px"
    return {
        Cut.MAGNITUDE: f"without magnitude in {band.band.band}",
        Cut.COLOUR: f"without colour {band.band.colour}",
        Cut.FLAGS: "flagged as saturated, at the edge or with bad pixels",
        Cut.FLUX: "without positive flux",
        Cut.NEIGHBOURS: f"more than {limits.max_crowding:.3g} of the light from neighbours",
        Cut.ERROR: f"S/N < {_MAG_PER_RELATIVE / limits.max_mag_err:.0f} in {where}{seeing}",
        Cut.MAG_RANGE: "outside mag_range",
        Cut.COLOUR_RANGE: "outside colour_range",
        Cut.HORIZON: "below the horizon",
        Cut.VARIABLE: "variable stars of the catalog",
    }


def fit_colour_term(data: Matches, calibration: Calibration) -> ColourTerm:
    """Fit the colour term and the extinction of a night, and the intrinsic scatter of its stars.

    The frames' zeropoints are eliminated by taking means within each frame, and the many measurements
    of one star are averaged before the fit: they share the star's error in the catalog, so a hundred
    frames of twenty stars know the colour term no better than twenty stars do.
    """
    rows = np.flatnonzero(data.usable)
    # A term that is nought for all stars is none: that of a band without colour, or of frames that see degrees.
    columns = np.array([data.colour, -data.airmass, -data.sky_light])
    wanted = np.array([np.any(column[np.isfinite(column)]) for column in columns])
    prior = calibration.colour_term_prior, calibration.colour_term_prior_err
    priors = np.array([prior, _EXTINCTION, _SKY_LIGHT]).T
    if rows.size < 3:
        wanted[0] = True
        return _night_term(priors[:, wanted], wanted, 0.0, 0.0)
    frame = np.unique(data.frame[rows], return_inverse=True)[1]
    star = np.unique(data.star[rows], return_inverse=True)[1]
    difference, error = data.difference[rows], data.error[rows]
    errors = (data.photon_error[rows], data.catalog_error[rows])
    wanted &= columns[:, rows].any(axis=1)
    terms, priors = columns[wanted][:, rows].T, priors[:, wanted]
    slopes, slope_errs, intrinsic = priors[0], priors[1], 0.0
    zero = _group_medians(difference - terms @ slopes, frame)
    for _ in range(_ROUNDS):
        residual = difference - terms @ slopes - zero[frame]
        intrinsic = intrinsic_scatter(residual, error, int(frame.max()) + 1 + len(slopes))
        if not len(slopes):
            break
        weight = _weights(residual, np.hypot(error, intrinsic))
        fit = _slopes(difference, terms, errors, weight, frame, star, intrinsic, priors)
        previous, slopes, slope_errs = slopes, fit.coefficients, fit.errors
        zero = _group_means(difference - terms @ slopes, weight, frame)
        if np.abs(slopes - previous).max() < 1e-5:
            break
    residual = difference - terms @ slopes - zero[frame]
    random = _random_scatter(residual, errors, intrinsic, frame, star)
    return _night_term(np.array([slopes, slope_errs]), wanted, intrinsic, random)


def _night_term(fitted: Floats, wanted: npt.NDArray[np.bool_], intrinsic: float, random: float) -> ColourTerm:
    """Return the terms of a night, of which those that are wanted are given with their errors, shape (2, terms)."""
    values = np.array([[0.0, np.nan, 0.0], [0.0, np.nan, 0.0]])
    values[:, wanted] = fitted
    (colour, extinction, sky_light), errors = values.tolist()[0], values.tolist()[1]
    return ColourTerm(colour, errors[0], intrinsic, random, extinction, errors[1], sky_light, errors[2])


def _random_scatter(
    residual: Floats,
    errors: tuple[Floats, Floats],
    intrinsic: float,
    frame: npt.NDArray[np.intp],
    star: npt.NDArray[np.intp],
) -> float:
    """Return by how much the measurements of a star differ from frame to frame beyond their photon errors.

    What else is in the intrinsic scatter, the star has on all frames. Stars that are outliers are left out, and so are
    those on one frame only; without any other nothing is known of it, and 0 is returned.
    """
    photon, catalog = errors
    photon = np.maximum(photon, 1e-6)
    share = biweight(residual / np.maximum(np.sqrt(photon**2 + catalog**2 + intrinsic**2), 1e-6))
    weight = share / photon**2
    # The mean of a star follows each measurement by as much as that weighs in it.
    own = weight / np.maximum(np.bincount(star, weight), 1e-300)[star]
    used = (share > 0.0) & (own < 1.0 - 1e-6)
    if not used.any():
        return 0.0
    deviation = (residual - _group_means(residual, weight, star)[star])[used] / np.sqrt(1.0 - own[used])
    return min(intrinsic_scatter(deviation, photon[used], len(np.unique(frame[used]))), intrinsic)


def _slopes(
    difference: Floats,
    terms: Floats,
    errors: tuple[Floats, Floats],
    weight: Floats,
    frame: npt.NDArray[np.intp],
    star: npt.NDArray[np.intp],
    intrinsic: float,
    priors: Floats,
) -> Fit:
    """Regress the stars' mean offsets on their mean colours and airmasses, all relative to their frames.

    Of shape (n, p) are `terms`; of (2, p) `priors`, means and standard deviations.
    """
    y = difference - _group_means(difference, weight, frame)[frame]
    kept = np.bincount(star, weight) > 0
    # The photon noise averages down over frames; what is the star's own does not.
    photon, catalog = errors
    averaged = 1.0 / np.maximum(np.bincount(star, 1.0 / np.maximum(photon, 1e-6) ** 2), 1e-12)
    spread = np.sqrt(averaged + _group_means(catalog, weight, star) ** 2 + intrinsic**2)
    columns = [one - _group_means(one, weight, frame)[frame] for one in terms.T]
    design = np.column_stack([_group_means(x, weight, star)[kept] for x in columns])
    values = _group_means(y, weight, star)[kept]
    return robust_fit(design, values, spread[kept], prior=(priors[0], priors[1]))


def _weights(residual: Floats, spread: Floats) -> Floats:
    """Return inverse variances, brought to zero for outliers."""
    spread = np.maximum(spread, 1e-6)
    return np.asarray(biweight(residual / spread) / spread**2)


def _group_means(values: Floats, weight: Floats, group: npt.NDArray[np.intp]) -> Floats:
    total = np.bincount(group, weight)
    return np.asarray(np.bincount(group, weight * values) / np.where(total > 0, total, 1.0))


def _group_medians(values: Floats, group: npt.NDArray[np.intp]) -> Floats:
    order = np.lexsort((values, group))
    starts = np.searchsorted(group[order], np.arange(group.max() + 2))
    low, high = starts[:-1] + (np.diff(starts) - 1) // 2, starts[:-1] + np.diff(starts) // 2
    ordered = values[order]
    return np.asarray(0.5 * (ordered[low] + ordered[high]))


def fit_frame(data: Matches, mine: npt.NDArray[np.intp], term: ColourTerm, min_stars: int) -> FrameZeropoint:
    """Fit the zeropoint of one frame, given its rows, under the night's colour term.

    From fewer stars than `min_stars`, or fewer than five that agree, it has the reason ``too_few_stars`` beside what
    they give.
    """
    n_matched = len(mine)
    rows = mine[data.usable[mine]]
    if n_matched == 0:
        return FrameZeropoint(reason="no_matches")
    if rows.size == 0:
        return FrameZeropoint(n_matched=n_matched, reason=TOO_FEW_STARS)
    values, error = term.at_pivot(data, rows), data.error[rows]
    fit = robust_mean(values, error, term.intrinsic)
    kept = fit.weights >= 0.5
    spread = np.maximum(np.hypot(error, term.intrinsic), 1e-9)
    # Stars that exclude each other have no weight, and the fit is its start: then all count.
    share = fit.weights if fit.weights.any() else np.ones(rows.size)
    mean_colour = float(np.average(data.colour[rows], weights=share / spread**2))
    mean_airmass = float(np.average(data.airmass[rows], weights=share / spread**2))
    of_terms = np.hypot(term.error * mean_colour, np.nan_to_num(term.extinction_err) * mean_airmass)
    sky_light, neighbours = (
        float(np.average(part[rows], weights=share / spread**2)) for part in (data.sky_light, data.neighbours)
    )
    # What is wrong with either moves the stars of all frames of the night, and so is none of the frame's own.
    of_blends = float(np.hypot(term.sky_light_err * sky_light, _NEIGHBOURS_ERROR * neighbours))
    fit_err = float(fit.errors[0])
    # What the stars have in the catalog they have on every frame of the field.
    own = np.hypot(data.photon_error[rows], term.random) / spread
    weight = share / spread
    random = np.sqrt(np.sum((weight * own) ** 2) / max(float(np.sum(weight**2)), np.finfo(float).tiny))
    n_used = int(np.count_nonzero(kept))
    chi2 = float(np.sum((fit.residuals[kept] / spread[kept]) ** 2) / max(n_used - 1, 1))
    coloured = kept if kept.any() else share > 0.0
    return FrameZeropoint(
        zp=float(fit.coefficients[0]),
        zp_fit_err=float(np.hypot(fit_err, of_blends)),
        zp_random_err=fit_err * min(float(random), 1.0),
        zp_err=float(np.sqrt(fit_err**2 + of_blends**2 + of_terms**2)),
        mean_colour=mean_colour,
        colour_spread=float(np.sqrt(np.mean((data.colour[rows][coloured] - mean_colour) ** 2))),
        mean_airmass=1.0 + mean_airmass if np.isfinite(term.extinction) else float("nan"),
        n_matched=n_matched,
        n_used=n_used,
        rms=float(np.std(fit.residuals[kept], ddof=1)) if n_used > 1 else float("nan"),
        chi2=chi2,
        reason=TOO_FEW_STARS if rows.size < min_stars or n_used < min(min_stars, _FEWEST_USED) else None,
    )


def _row(
    frame: dict[str, Any], band: Band, catalog: str, version: int, term: ColourTerm, solved: FrameZeropoint
) -> dict[str, Any]:
    coloured = band.band.colour is not None
    return {
        "frame_id": frame["frame_id"],
        "camera": frame["camera"],
        "night": frame["night"],
        "mjd_mid": frame["mjd_mid"],
        "band": band.band.band,
        "catalog": catalog,
        "version": version,
        "flux": band.flux,
        "zp": solved.zp,
        "zp_err": solved.zp_err,
        "zp_fit_err": solved.zp_fit_err,
        "zp_random_err": solved.zp_random_err,
        "mag_limit": _limit(frame["flux_limit"], solved.zp),
        "colour": band.band.colour,
        "pivot_colour": band.band.pivot_colour if coloured else None,
        "colour_term": term.value if coloured else None,
        "colour_term_err": term.error if coloured else None,
        "mean_colour": solved.mean_colour + band.band.pivot_colour if coloured else None,
        "colour_spread": solved.colour_spread if coloured else None,
        "n_matched": solved.n_matched,
        "n_used": solved.n_used,
        "rms": solved.rms,
        "chi2": solved.chi2,
        "intrinsic_mag": term.intrinsic,
        "extinction": term.extinction,
        "extinction_err": term.extinction_err,
        "mean_airmass": solved.mean_airmass,
        "sky_light_scale": 1.0 + term.sky_light,
        "sky_light_scale_err": term.sky_light_err,
        "reason": solved.reason,
        "message": solved.message,
        "transformation": band.transformation,
    }


def _limit(flux: float | None, zp: float) -> float:
    """Return the magnitude of a flux; NaN where it is unknown, as in frames that are older than it."""
    return float("nan") if flux is None else float(zp - 2.5 * np.log10(flux))


def _uncalibrated(frame: dict[str, Any], catalog: str, version: int) -> dict[str, Any]:
    row = dict.fromkeys(load("zeropoints").names)
    for name in ("frame_id", "camera", "night", "mjd_mid", "band"):
        row[name] = frame[name]
    return row | {
        "catalog": catalog,
        "version": version,
        "flux": "",
        "n_matched": 0,
        "n_used": 0,
        "reason": UNKNOWN_FILTER,
    }
