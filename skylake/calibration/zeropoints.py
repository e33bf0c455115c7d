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

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.bright_limit import bright_limit
from skylake.calibration.few_stars import few_stars_messages
from skylake.calibration.frame_zeropoints import NO_MATCHES, TOO_FEW_STARS, FrameZeropoints, fit_frames
from skylake.calibration.match_selection import Band, Cut, Matches, gather, places_of
from skylake.calibration.night_floor import night_floor
from skylake.calibration.night_terms import ColourTerm, fit_colour_term, numbers_of
from skylake.core.camera import Calibration
from skylake.core.position_terms import field_coordinates
from skylake.schema import conform, empty_table, load
from skylake.schema.aperture_columns import aperture_floats

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Reasons that a catalog with other columns would mend.
NO_BAND, NO_COLOUR = "no_band", "no_colour"
UNKNOWN_FILTER = "unknown_filter"

_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
#: Without the brightest stars the zeropoints are others, and with them the residuals that tell which these are. So it
#: is with the offsets over frames and the scatter of stars. Limits that differ by less, mag, are the same, and so are
#: offsets whose rms difference is less: one frame among hundreds changes nothing for the night.
_ROUNDS, _SAME_LIMIT, _SAME_OFFSET = 4, 0.1, 3e-3


@dataclass(frozen=True, slots=True)
class _Solution:
    """Zeropoints of the frames of one band, with the terms of the night, and the matches as they were used.

    ``level`` is the magnitude of counts above which stars are cut, minus infinity for none; ``floor`` is what stars
    scatter from frame to frame beyond photons, NaN if that is not known.
    """

    data: Matches
    term: ColourTerm
    frames: FrameZeropoints
    level: float
    floor: float


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
        ``message`` says which cut took how many, and what the others give; else it says what is missing.
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
    message[few] = few_stars_messages(few, solution.data, solved, frames, band)
    reason = np.where(solved.reason == TOO_FEW_STARS, _missing(solution.data) or TOO_FEW_STARS, solved.reason)
    message[solved.reason == NO_MATCHES] = (
        f"no detection of the frame matches a star of the catalog {catalog}"
    )
    lacking = np.isnan(factor)
    reason[lacking], message[lacking] = "no_aperture_correction", _no_correction(band.flux)
    solved = solved.without((reason != None) | lacking)  # noqa: E711
    aperture = _MAG_PER_RELATIVE * np.nan_to_num(factor_err) / factor
    solved = replace(solved, zp_err=np.hypot(solved.zp_err, aperture), reason=reason)
    return _rows(frames, band, solution, solved, message, (catalog, version))


def _solve(data: Matches, frames: pa.Table, calibration: Calibration) -> _Solution:
    """Solve all frames of a band, without the stars that are too bright to be measured right.

    Offsets over frames, where there are any, are taken off before the terms of the night are fitted again.
    """
    frame_id, exposure = frames["frame_id"].to_numpy(), _exposures(frames)
    level, whole = -np.inf, data
    rows, starts = data.by_frame(frame_id)
    frame = np.repeat(np.arange(len(frame_id)), np.diff(starts))
    # The same star is another one on frames of another exposure.
    star = numbers_of(data.star[rows] * 64 + np.round(np.log2(exposure[frame])).astype(np.int64) % 64)
    place = _places_on_frames(data, frames)
    own, flat = np.zeros(len(rows)), data
    for _ in range(_ROUNDS):
        term = fit_colour_term(flat, calibration)
        solved = fit_frames(data, place, frame_id, term, calibration.min_stars)
        before, own = own, solved.gradients.offset(frame, place[0][rows], place[1][rows])
        # Magnitudes of the counts that the catalog predicts: a frame of another exposure saturates elsewhere.
        counts = whole.magnitude[rows] - solved.zp[frame] - own - 2.5 * np.log10(exposure[frame])
        of_star = np.sqrt(whole.catalog_variance(rows, term.value) + term.intrinsic**2)
        residual = term.at_pivot(whole, rows) - solved.zp[frame] - own
        known = np.isfinite(residual)
        errors = whole.photon_error[rows][known], of_star[known]
        found = bright_limit(star[known], counts[known], residual[known], errors)
        has_same_limit = found == level or abs(found - level) < _SAME_LIMIT
        if has_same_limit and np.sum((own - before) ** 2) <= len(own) * _SAME_OFFSET**2:
            break
        if not has_same_limit:
            level, cut = found, whole.cut.copy()
            cut[rows[counts < level]] = Cut.BRIGHT
            data = replace(whole, cut=cut)
        flat = _flattened(data, rows, own)
    measured = np.where(counts >= level, residual, np.nan)
    return _Solution(data, term, solved, level, night_floor(star, measured, whole.photon_error[rows]))


def _places_on_frames(data: Matches, frames: pa.Table) -> tuple[Floats, Floats]:
    """Return where all matches lie on their frames, from -1 to 1; NaN where place or size are not known."""
    if not {"width_px", "height_px"} <= set(frames.column_names) or np.isnan(data.x_px).all():
        nowhere = np.full(len(data.frame), np.nan)
        return nowhere, nowhere
    frame = places_of(frames["frame_id"].to_numpy(), data.frame)
    width, height = (aperture_floats(frames, name)[frame] for name in ("width_px", "height_px"))
    return field_coordinates(data.x_px, data.y_px, width, height)


def _flattened(data: Matches, rows: Places, own: Floats) -> Matches:
    """Return matches without the offsets of some rows."""
    if not own.any():
        return data
    difference = data.difference.copy()
    difference[rows] -= own
    return replace(data, difference=difference)


def _exposures(frames: pa.Table) -> Floats:
    """Return exposures in seconds; 1 where none is known."""
    exposure = aperture_floats(frames, "exposure_s")
    return np.where(exposure > 0.0, exposure, 1.0)


def _missing(data: Matches) -> str | None:
    """Return what the catalog does not have for any star of the night, as a reason."""
    if not np.isfinite(data.catalog_error).any():
        return NO_BAND
    return None if np.isfinite(data.colour).any() else NO_COLOUR


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
        "floor_mag": _floors(frames, band, solution.floor, solved),
        "position_terms": _position_terms(solved),
        "position_err": np.where(np.isfinite(solved.zp), solved.gradients.error, np.nan),
        "position_random_err": np.where(np.isfinite(solved.zp), solved.gradients.error, np.nan),
        "reason": pa.array(solved.reason.tolist(), pa.string()),
        "message": pa.array(message.tolist(), pa.string()),
    }
    if coloured:
        columns |= {
            "mean_colour": solved.mean_colour + band.band.pivot_colour,
            "colour_spread": solved.colour_spread,
        }
    return conform(pa.table(columns), load("zeropoints"))


def _floors(frames: pa.Table, band: Band, floor: float, solved: FrameZeropoints) -> Floats:
    """Return the noise floor of frames: that of the night, or more where theory expects more scintillation."""
    noise = np.full(frames.num_rows, np.nan)
    if band.scintillation is not None:
        noise = band.scintillation.of_table(frames)
    return np.where(np.isfinite(solved.zp), np.fmax(noise, floor), np.nan)


def _position_terms(solved: FrameZeropoints) -> pa.Array:
    """Return the offset over each frame as the schema has it, null for none."""
    own, kind = solved.gradients, pa.struct([("coefficient", pa.list_(pa.float64()))])
    has_zp = np.isfinite(solved.zp)
    lists = [
        {"coefficient": own.terms[place, : n_terms - 1].tolist()} if has_zp[place] and n_terms > 1 else None
        for place, n_terms in enumerate(own.n_coefficients.tolist())
    ]
    return pa.array(lists, kind)


def _no_correction(flux: str) -> str:
    return (
        f"the frame has no factor from flux_{flux} to total flux; name another aperture in apertures.flux of the "
        "profile, or `skylake ingest --redo` its night if the profile has other apertures now"
    )


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
    message = pa.array([_no_band(name) for name in frames["filter"].to_pylist()], pa.string())
    return conform(pa.table(columns | {"message": message}), load("zeropoints"))


def _no_band(filter_name: str | None) -> str:
    """Return why a frame has no band, by the filter that its header, or else the profile, names."""
    if filter_name is None:
        return (
            "neither a card of the header nor the profile names a filter; give default_filter in the profile"
        )
    return (
        f"the profile gives the filter {filter_name!r} no band; name it in [filters] or among their aliases"
    )
