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

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.bright_limit import bright_limit
from skylake.calibration.match_selection import Band, Cut, Matches, gather, places_of
from skylake.calibration.night_terms import ColourTerm, fit_colour_term, numbers_of
from skylake.calibration.star_lists import unshared_variance
from skylake.core.camera import Calibration
from skylake.core.group_means import group_means, group_sums
from skylake.core.robust import MEAN_SHARE, SHARED_VARIANCE
from skylake.schema import conform, empty_table, load
from skylake.schema.aperture_columns import MORE, aperture_floats, aperture_value

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Reasons that a catalog with other columns would mend.
NO_BAND, NO_COLOUR = "no_band", "no_colour"
UNKNOWN_FILTER = "unknown_filter"
TOO_FEW_STARS = "too_few_stars"

#: So many stars must keep half of their weight: two or three of a few may agree by chance.
_FEWEST_USED = 5
#: What neighbours bring as a whole is known up to this share of it, as simulated fields of all sorts tell.
_NEIGHBOURS_ERROR = 0.018
_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
#: Without the brightest stars the zeropoints are others, and with them the residuals that tell which these are.
_BRIGHT_ROUNDS, _SAME_LIMIT = 4, 0.1


@dataclass(frozen=True, slots=True)
class FrameZeropoints:
    """Zeropoints of frames; arrays of shape (n_frames,), NaN where there is none, and the reason (else None)."""

    zp: Floats
    zp_fit_err: Floats
    zp_random_err: Floats
    zp_err: Floats
    mean_colour: Floats
    colour_spread: Floats
    mean_airmass: Floats
    n_matched: npt.NDArray[np.int64]
    n_used: npt.NDArray[np.int64]
    rms: Floats
    chi2: Floats
    reason: npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class _Solution:
    """Zeropoints of the frames of one band, with the terms of the night, and the matches as they were used.

    ``level`` is the magnitude of counts above which stars are cut, minus infinity for none.
    """

    data: Matches
    term: ColourTerm
    frames: FrameZeropoints
    level: float


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
    pieces = [empty_table(load("zeropoints"))]
    names = np.asarray(frames["band"].to_pylist(), object)
    for name in dict.fromkeys(names.tolist()):
        chosen = frames.filter(pa.array(names == name))
        if name is None or name not in bands:
            pieces.append(_uncalibrated(chosen, catalog, version))
        else:
            pieces.append(_calibrate_band(chosen, matches, bands[name], catalog, version))
    return pa.concat_tables(pieces)


def _calibrate_band(frames: pa.Table, matches: pa.Table, band: Band, catalog: str, version: int) -> pa.Table:
    frame_id = frames["frame_id"].to_numpy()
    factor, factor_err = (aperture_floats(frames, f"apcor_{band.flux}{end}") for end in ("", "_err"))
    given = zip(frame_id.tolist(), factor.tolist(), factor_err.tolist(), strict=True)
    correction = {key: (None if np.isnan(value) else value, error) for key, value, error in given}
    solution = _solve(gather(matches, correction, band), frames, band.calibration)
    solved = solution.frames
    few = np.flatnonzero(solved.reason == TOO_FEW_STARS)
    message = np.full(len(frame_id), None, object)
    message[few] = _messages(few, solution, frames, band)
    reason = np.where(solved.reason == TOO_FEW_STARS, _missing(solution.data) or TOO_FEW_STARS, solved.reason)
    lacking = np.isnan(factor)
    reason[lacking], message[lacking] = "no_aperture_correction", None
    solved = _without(solved, np.flatnonzero((reason != None) | lacking))  # noqa: E711
    aperture = _MAG_PER_RELATIVE * np.nan_to_num(factor_err) / factor
    solved = replace(solved, zp_err=np.hypot(solved.zp_err, aperture), reason=reason)
    return _rows(frames, band, solution, solved, message, (catalog, version))


def _solve(data: Matches, frames: pa.Table, calibration: Calibration) -> _Solution:
    """Solve all frames of a band, without the stars that are too bright to be measured right."""
    frame_id, exposure = frames["frame_id"].to_numpy(), _exposures(frames)
    level, whole = -np.inf, data
    rows, starts = data.by_frame(frame_id)
    frame = np.repeat(np.arange(len(frame_id)), np.diff(starts))
    # The same star is another one on frames of another exposure.
    star = numbers_of(data.star[rows] * 64 + np.round(np.log2(exposure[frame])).astype(np.int64) % 64)
    for _ in range(_BRIGHT_ROUNDS):
        term = fit_colour_term(data, calibration)
        solved = fit_frames(data, frame_id, term, calibration.min_stars)
        # Magnitudes of the counts that the catalog predicts: a frame of another exposure saturates elsewhere.
        counts = whole.magnitude[rows] - solved.zp[frame] - 2.5 * np.log10(exposure[frame])
        own = np.sqrt(whole.catalog_variance(rows, term.value) + term.intrinsic**2)
        residual = term.at_pivot(whole, rows) - solved.zp[frame]
        known = np.isfinite(residual)
        errors = whole.photon_error[rows][known], own[known]
        found = bright_limit(star[known], counts[known], residual[known], errors)
        if found == level or abs(found - level) < _SAME_LIMIT:
            break
        level, cut = found, whole.cut.copy()
        cut[rows[counts < level]] = Cut.BRIGHT
        data = replace(whole, cut=cut)
    return _Solution(data, term, solved, level)


def _exposures(frames: pa.Table) -> Floats:
    """Return exposures in seconds; 1 where none is known."""
    exposure = aperture_floats(frames, "exposure_s")
    return np.where(exposure > 0.0, exposure, 1.0)


def _without(solved: FrameZeropoints, lacking: Places) -> FrameZeropoints:
    """Return zeropoints without the values of some frames, of which the number of matches is left."""
    changed = {}
    for name in (
        "zp",
        "zp_fit_err",
        "zp_random_err",
        "zp_err",
        "mean_colour",
        "colour_spread",
        "mean_airmass",
    ):
        changed[name] = getattr(solved, name).copy()
        changed[name][lacking] = np.nan
    for name, nothing in (("rms", np.nan), ("chi2", np.nan), ("n_used", 0)):
        changed[name] = getattr(solved, name).copy()
        changed[name][lacking] = nothing
    return replace(solved, **changed)


def _missing(data: Matches) -> str | None:
    """Return what the catalog does not have for any star of the night, as a reason."""
    if not np.isfinite(data.catalog_error).any():
        return NO_BAND
    return None if np.isfinite(data.colour).any() else NO_COLOUR


def _messages(few: Places, solution: _Solution, frames: pa.Table, band: Band) -> list[str]:
    """Return for each frame of too few stars a sentence that says what there was."""
    if len(few) == 0:
        return []
    data, solved, said = solution.data, solution.frames, []
    columns = ["frame_id", f"{band.flux}_radius_px", "fwhm_px", MORE]
    order = np.argsort(data.frame, kind="stable")
    ordered = data.frame[order]
    for place, frame in zip(
        few.tolist(),
        frames.select([name for name in columns if name in frames.column_names])
        .take(pa.array(few))
        .to_pylist(),
        strict=True,
    ):
        low, high = np.searchsorted(ordered, [frame["frame_id"], frame["frame_id"] + 1])
        cut = data.cut[order[low:high]]
        took = "".join(
            f"; {words}: {count} of {cut.size}"
            for one, words in _cuts(frame, band).items()
            if (count := int(np.count_nonzero(cut == one)))
        )
        left, n_used = int(np.count_nonzero(cut == Cut.NONE)), solved.n_used[place]
        agree = f", {n_used} of them agree" if n_used < left else ""
        needed = f"{left} of {cut.size} matches can be used{agree}, min_stars is {band.calibration.min_stars}"
        zp, error = solved.zp[place], solved.zp_err[place]
        gives = "" if np.isnan(zp) else f"; zeropoint of these: {zp:.3f} +- {error:.3f} mag"
        said.append(f"{needed}{took}{gives}")
    return said


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
        Cut.BRIGHT: "so bright that fluxes depart from the catalog",
    }


def fit_frames(
    data: Matches, frame_id: npt.NDArray[np.int64], term: ColourTerm, min_stars: int
) -> FrameZeropoints:
    """Fit the zeropoints of frames, all at once, under the night's colour term.

    From fewer stars than `min_stars`, or fewer than five that agree, a zeropoint has the reason ``too_few_stars``
    beside what they give.

    Parameters
    ----------
    data : Matches
    frame_id : ndarray of int64, shape (n_frames,)
        All frames that have matches, and others, each once.
    term : ColourTerm
    min_stars : int
    """
    n = len(frame_id)
    rows, starts = data.by_frame(frame_id)
    frame, size = np.repeat(np.arange(n), np.diff(starts)), np.diff(starts)
    values, photon = term.at_pivot(data, rows), data.photon_error[rows]
    catalog = data.catalog_variance(rows, term.value)
    spread = np.maximum(np.sqrt(photon**2 + catalog + term.intrinsic**2), 1e-9)
    fit = group_means(values, spread, starts)
    residual = values - fit.means[frame]

    def sums(values: Floats | npt.NDArray[np.bool_]) -> Floats:
        return group_sums(values, starts)

    agreeing = sums(fit.weights) > 0.0
    # Stars that exclude each other have no weight, and the fit is its start: then all count.
    share = np.where(agreeing[frame], fit.weights, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = share / spread**2
        weight /= sums(weight)[frame]
        mean_colour, beyond, sky_light, neighbours = (
            np.where(size > 0, sums(weight * part[rows]), np.nan)
            for part in (data.colour, data.airmass, data.sky_light, data.neighbours)
        )
        rms, chi2 = _scatter(residual, spread, fit.weights, sums)
        kept = fit.weights >= 0.5
        n_used = sums(kept).astype(np.int64)
        coloured = np.where((n_used > 0)[frame], kept, share > 0.0)
        colour_spread = np.sqrt(
            sums(coloured * (data.colour[rows] - mean_colour[frame]) ** 2) / sums(coloured)
        )
    of_terms = np.hypot(term.error * mean_colour, np.nan_to_num(term.extinction_err) * beyond)
    # What is wrong with either moves the stars of all frames of the night, and so is none of the frame's own.
    of_blends = np.hypot(term.sky_light_err * sky_light, _NEIGHBOURS_ERROR * neighbours)
    own = photon**2 + term.random**2
    shared = catalog + max(term.intrinsic**2 - term.random**2, 0.0)
    # What the stars have in the catalog, frames of the same stars have in common.
    random = sums(weight**2 * own)
    random += unshared_variance(numbers_of(data.star[rows]), starts, weight, shared)
    stated = np.maximum(sums(weight**2 * spread**2), np.finfo(float).tiny)
    n_matched = np.bincount(places_of(frame_id, data.frame), minlength=n)
    reason = np.full(n, None, object)
    reason[(size < max(min_stars, 1)) | (n_used < min(min_stars, _FEWEST_USED))] = TOO_FEW_STARS
    reason[n_matched == 0] = "no_matches"
    return FrameZeropoints(
        zp=fit.means,
        zp_fit_err=np.hypot(fit.errors, of_blends),
        zp_random_err=fit.errors * np.sqrt(np.minimum(random / stated, 1.0)),
        zp_err=np.sqrt(fit.errors**2 + of_blends**2 + of_terms**2),
        mean_colour=mean_colour,
        colour_spread=colour_spread,
        mean_airmass=1.0 + beyond if np.isfinite(term.extinction) else np.full(n, np.nan),
        n_matched=n_matched,
        n_used=n_used,
        rms=rms,
        chi2=chi2,
        reason=reason,
    )


def _scatter(
    residual: Floats, spread: Floats, share: Floats, sums: Callable[[Floats], Floats]
) -> tuple[Floats, Floats]:
    """Return the scatter of the stars of each frame about its zeropoint, and its square over that of their errors.

    All stars count, with the share of their weight that they kept, so that nothing jumps when one gains or loses some;
    of a Gaussian that share leaves a known part.
    """
    kept = sums(share)
    number = kept / MEAN_SHARE
    scale = number / np.where(number > 1.0, number - 1.0, np.nan) / (SHARED_VARIANCE * kept)
    return np.sqrt(scale * sums(share * residual**2)), scale * sums(share * (residual / spread) ** 2)


def _rows(
    frames: pa.Table,
    band: Band,
    solution: _Solution,
    solved: FrameZeropoints,
    message: npt.NDArray[np.object_],
    of: tuple[str, int],
) -> pa.Table:
    """Return rows of ``zeropoints``; `of` names catalog and version."""
    n, term = frames.num_rows, solution.term
    coloured = band.band.colour is not None
    limit = np.where(
        np.isinf(solution.level), np.nan, solution.level + solved.zp + 2.5 * np.log10(_exposures(frames))
    )
    constant = {
        "band": band.band.band,
        "catalog": of[0],
        "version": of[1],
        "flux": band.flux,
        "intrinsic_mag": term.intrinsic,
        "extinction": term.extinction,
        "extinction_err": term.extinction_err,
        "sky_light_scale": 1.0 + term.sky_light,
        "sky_light_scale_err": term.sky_light_err,
        "transformation": band.transformation,
    }
    if coloured:
        constant |= {
            "colour": band.band.colour,
            "pivot_colour": band.band.pivot_colour,
            "colour_term": term.value,
            "colour_term_err": term.error,
        }
    columns = {name: frames[name] for name in ("frame_id", "camera", "night", "mjd_mid")}
    columns |= {name: pa.repeat(value, n) for name, value in constant.items() if value is not None}
    columns |= {
        "zp": solved.zp,
        "zp_err": solved.zp_err,
        "zp_fit_err": solved.zp_fit_err,
        "zp_random_err": solved.zp_random_err,
        "mag_limit": solved.zp - 2.5 * np.log10(aperture_floats(frames, "flux_limit")),
        "n_matched": solved.n_matched,
        "n_used": solved.n_used,
        "rms": solved.rms,
        "chi2": solved.chi2,
        "mean_airmass": solved.mean_airmass,
        "bright_limit": limit,
        "reason": pa.array(solved.reason.tolist(), pa.string()),
        "message": pa.array(message.tolist(), pa.string()),
    }
    if coloured:
        columns |= {
            "mean_colour": solved.mean_colour + band.band.pivot_colour,
            "colour_spread": solved.colour_spread,
        }
    return conform(pa.table(columns), load("zeropoints"))


def _uncalibrated(frames: pa.Table, catalog: str, version: int) -> pa.Table:
    constant = {
        "catalog": catalog,
        "version": version,
        "flux": "",
        "n_matched": 0,
        "n_used": 0,
        "reason": UNKNOWN_FILTER,
    }
    columns = {name: frames[name] for name in ("frame_id", "camera", "night", "mjd_mid", "band")}
    columns |= {name: pa.repeat(value, frames.num_rows) for name, value in constant.items()}
    return conform(pa.table(columns), load("zeropoints"))
