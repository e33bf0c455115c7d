"""Zeropoints of a night against the camera's own star magnitudes, where there are any, else against a catalog.

The magnitudes of a global solution repeat to millimagnitudes where those of a catalog are off by percents, so frames
whose fields have different stars agree with each other. A frame with too few stars of the solution, as in a new field,
is calibrated against the catalog, with the illumination and the noise of the camera that the solution knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.frame_solution import FrameSolution, solve_frames
from skylake.calibration.global_noise import EFFICIENCY_LOSS
from skylake.calibration.global_observations import GlobalOptions, Observations, References
from skylake.calibration.match_selection import Band
from skylake.calibration.star_observations import (
    NightlyTerm,
    StarObservations,
    nightly_term,
    star_observations,
)
from skylake.calibration.star_reference import StarReference
from skylake.calibration.zeropoints import zeropoints_table
from skylake.core.position_terms import (
    degree_of,
    field_coordinates,
    offset_rms,
    position_offset,
    sum_of_terms,
)
from skylake.core.robust import MEAN_SHARE, SHARED_VARIANCE
from skylake.schema import arrow_schema, conform, load
from skylake.schema.aperture_columns import aperture_floats

Floats = npt.NDArray[np.float64]

#: Fewer stars of the solution give a frame no zeropoint of their own.
_FEWEST_STARS = 5
#: How well it is known how much light of stars the sky takes off.
_SKY_LIGHT_ERROR = 0.15
_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
#: Stars with a smaller share in a zeropoint have errors that it makes wrong by no more than that.
_LEAST_SHARE = 0.01


def calibrated_frames(
    frames: pa.Table,
    matches: pa.Table,
    bands: Mapping[str, Band],
    references: Mapping[str, StarReference],
    catalog: str,
    version: int,
) -> pa.Table:
    """Calibrate all frames of a night.

    Parameters
    ----------
    frames : pyarrow.Table
        Rows of ``frames`` with status ok.
    matches : pyarrow.Table
        Rows of ``matches`` of these frames and this catalog.
    bands : mapping
        How to calibrate each band that occurs.
    references : mapping
        Star magnitudes of those bands for which the camera has some.
    catalog : str
    version : int

    Returns
    -------
    pyarrow.Table
        Rows of ``zeropoints``, one for each frame, of method ``global`` or ``frame``.
    """
    pieces = []
    left = np.ones(frames.num_rows, bool)
    names = np.asarray(frames["band"].to_pylist(), object)
    for name, reference in references.items():
        mine = names == name
        if name not in bands or not mine.any():
            continue
        chosen = frames.filter(pa.array(mine))
        solved = global_zeropoints(chosen, matches, bands[name], reference, catalog, version)
        others = pc.invert(pc.is_in(chosen["frame_id"], solved["frame_id"].combine_chunks()))
        rest = chosen.filter(others)
        flat = without_illumination(matches, rest, reference.camera.illumination)
        plain = zeropoints_table(rest, flat, dict(bands), catalog, version)
        pieces += [solved, with_camera(plain, reference)]
        left &= ~mine
    plain = zeropoints_table(frames.filter(pa.array(left)), matches, dict(bands), catalog, version)
    return pa.concat_tables([*pieces, with_camera(plain, None)])


def without_illumination(matches: pa.Table, frames: pa.Table, illumination: Floats) -> pa.Table:
    """Return the matches of some frames with catalog magnitudes moved to what a flat field would show.

    A zeropoint fitted to these is that of the whole frame, as one to which the illumination is added again.
    """
    if len(illumination) == 0:
        return matches
    frame_id = frames["frame_id"].to_numpy()
    matches = matches.filter(pa.array(np.isin(matches["frame_id"].to_numpy(), frame_id)))
    order = np.argsort(frame_id)
    place = order[np.searchsorted(frame_id, matches["frame_id"].to_numpy(), sorter=order)]
    width, height = (aperture_floats(frames, name)[place] for name in ("width_px", "height_px"))
    u, v = field_coordinates(matches["x_px"].to_numpy(), matches["y_px"].to_numpy(), width, height)
    moved = aperture_floats(matches, "ref_mag") - np.nan_to_num(position_offset(illumination, u, v))
    column = matches.schema.get_field_index("ref_mag")
    field = matches.schema.field(column)
    return matches.set_column(column, field, pa.array(moved, from_pandas=True).cast(field.type))


def with_camera(rows: pa.Table, reference: StarReference | None) -> pa.Table:
    """Return zeropoints of method ``frame``, with illumination and noise of the camera where they are known."""
    values: dict[str, list[Any]] = {"method": ["frame"] * rows.num_rows}
    if reference is not None:
        camera = reference.camera
        own = [terms["coefficient"] if terms else [] for terms in rows["position_terms"].to_pylist()]
        sums = [sum_of_terms(camera.illumination, terms).tolist() for terms in own]
        errors = np.hypot(
            np.nan_to_num(aperture_floats(rows, "position_err")), offset_rms(camera.illumination_errors)
        )
        values |= {
            "position_terms": [{"coefficient": terms} if terms else None for terms in sums],
            "position_err": errors.tolist(),
            "floor_mag": [camera.floor] * rows.num_rows,
            "photon_scale": [camera.photon_scale] * rows.num_rows,
        }
    known = pc.is_valid(rows["zp"]).to_pylist()
    for name, given in values.items():
        column = rows.schema.get_field_index(name)
        kind = rows.schema.field(column)
        array = pa.array([value if one else None for value, one in zip(given, known, strict=True)], kind.type)
        rows = rows.set_column(column, kind, array)
    return rows


def global_zeropoints(
    frames: pa.Table, matches: pa.Table, band: Band, reference: StarReference, catalog: str, version: int
) -> pa.Table:
    """Return the zeropoints of those frames of a band that have enough stars of a reference.

    Parameters
    ----------
    frames, matches : pyarrow.Table
        Of one night; matches of other frames are passed over.
    band : Band
    reference : StarReference
    catalog : str
    version : int

    Returns
    -------
    pyarrow.Table
        Rows of ``zeropoints``.
    """
    seen = star_observations(frames, matches, band)
    # Only frames that have a star are numbered.
    ids, frame = np.unique(seen.frame, return_inverse=True)
    nightly = nightly_term(seen, band)
    solved = _solve(seen, frame, reference, nightly)
    stars = _FrameStars(seen, frame, len(ids), reference, solved, nightly)
    enough = solved.n_used >= max(band.calibration.min_stars, _FEWEST_STARS)
    enough &= stars.n_used >= max(band.calibration.min_stars, _FEWEST_STARS)
    enough &= np.isfinite(solved.zeropoint) & np.isfinite(solved.zeropoint_error)
    chosen = np.flatnonzero(enough)
    place = pc.index_in(pa.array(ids[chosen]), frames["frame_id"].combine_chunks()).to_numpy()
    of_frames = frames.take(pa.array(place))
    values = _values(of_frames, band, reference, solved, stars, chosen)
    matched = dict(zip(*np.unique(matches["frame_id"].to_numpy(), return_counts=True), strict=True))
    values["n_matched"] = np.array([matched[one] for one in ids[chosen].tolist()], np.int32)
    columns: dict[str, Any] = {
        name: of_frames[name] for name in ("frame_id", "camera", "night", "mjd_mid", "band")
    }
    of_all = {
        "catalog": catalog,
        "version": version,
        "flux": band.flux,
        "colour": band.band.colour,
        "transformation": band.transformation,
        "method": "global",
        "reference_version": reference.version,
    }
    columns |= {name: [value] * len(chosen) for name, value in of_all.items()}
    columns |= {name: pa.array(array, from_pandas=True) for name, array in values.items()}
    columns["position_terms"] = [
        {"coefficient": terms.tolist()} if len(terms) else None
        for terms in (sum_of_terms(reference.camera.illumination, solved.terms[one]) for one in chosen)
    ]
    columns["shares"] = stars.shares(seen, solved, reference, chosen)
    schema = load("zeropoints")
    arrays = {
        field.name: pa.array(columns[field.name], field.type)
        if isinstance(columns.get(field.name), list)
        else columns.get(field.name, pa.nulls(len(chosen), field.type))
        for field in arrow_schema(schema)
    }
    return conform(pa.table(arrays), schema)


def _solve(
    seen: StarObservations, frame: npt.NDArray[np.intp], reference: StarReference, nightly: NightlyTerm
) -> FrameSolution:
    """Fit all frames against the stars of a reference."""
    ids, first, star = np.unique(seen.star, return_index=True, return_inverse=True)
    place = reference.places(ids)
    mag, mag_err = (
        np.where(place >= 0, one[place], np.nan) if len(one) else np.full(len(ids), np.nan)
        for one in (reference.mag, reference.mag_err)
    )
    observations = Observations(
        frame,
        star,
        np.zeros(len(frame), np.int32),
        seen.magnitude,
        seen.error,
        seen.u,
        seen.v,
        nightly.values,
    )
    references = References(mag, mag_err, np.asarray(seen.colour[first], float), np.zeros(len(ids)))
    degree = degree_of(len(reference.camera.illumination))
    options = GlobalOptions(
        illumination_degree=degree,
        frame_degree=min(reference.frame_degree, degree),
        has_extinction=nightly.kind is not None,
        extinction=nightly.prior,
    )
    return solve_frames(observations, references, reference.camera, options)


class _FrameStars:
    """The stars that tell the zeropoint of each frame; arrays of shape (n_frames,), NaN for a frame without any."""

    def __init__(
        self,
        seen: StarObservations,
        frame: npt.NDArray[np.intp],
        n_frames: int,
        reference: StarReference,
        solved: FrameSolution,
        nightly: NightlyTerm,
    ) -> None:
        self.frame, self.n_frames, self.nightly = frame, n_frames, nightly.kind
        place = reference.places(seen.star)
        used = (np.asarray(solved.weights) >= 0.5) & (place >= 0)
        self.used, self.n_used = used, np.bincount(frame[used], minlength=n_frames)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(used, solved.weights / np.hypot(seen.error, reference.camera.floor) ** 2, 0.0)
            self.mean_colour = self._mean(seen.colour, weight)
            self.colour_spread = np.sqrt(self._mean((seen.colour - self.mean_colour[frame]) ** 2, used))
            self.mean_airmass = self._mean(seen.airmass, weight)
            residual = self._residuals(seen, place, reference, solved, nightly)
            # As of frames that are fitted alone: each star counts with the share of its weight that it kept.
            share = np.where(place >= 0, solved.weights, 0.0)
            kept = np.bincount(frame, share, n_frames)
            number = kept / MEAN_SHARE
            free = np.where(number > 1.0, number - 1.0, np.nan)
            squares = np.bincount(frame, share * residual**2, n_frames)
            self.rms = np.sqrt(number / free * squares / (SHARED_VARIANCE * kept))
        # What ties the stars to the catalog they share; what their colours add is in the error of the colour term.
        shared = np.full(n_frames, np.inf)
        if used.any():
            np.minimum.at(shared, frame[used], np.nan_to_num(reference.mag_systematic_err)[place[used]])
        self.tie_err = np.where(np.isfinite(shared), shared, 0.0)

    def shares(
        self,
        seen: StarObservations,
        solved: FrameSolution,
        reference: StarReference,
        chosen: npt.NDArray[np.intp],
    ) -> list[dict[str, Any] | None]:
        """Return the stars that have a large weight in the zeropoint of each chosen frame, with their weights."""
        camera, place = reference.camera, np.maximum(reference.places(seen.star), 0)
        variance = (camera.photon_scale * seen.error) ** 2 + camera.floor**2 + solved.scatter[self.frame] ** 2
        variance += np.nan_to_num(reference.mag_err)[place] ** 2 if len(reference.mag) else 0.0
        variance_of_zeropoint = np.nan_to_num(solved.zeropoint_error[self.frame]) ** 2 / EFFICIENCY_LOSS
        share = np.where(self.used, np.asarray(solved.weights) * variance_of_zeropoint / variance, 0.0)
        rows = np.flatnonzero(share >= _LEAST_SHARE)
        rows = rows[np.argsort(self.frame[rows], kind="stable")]
        ends = np.searchsorted(self.frame[rows], np.arange(self.n_frames + 1))
        found: list[dict[str, Any] | None] = []
        for one in chosen.tolist():
            mine = rows[ends[one] : ends[one + 1]]
            found.append(
                {"ref_id": seen.star[mine].tolist(), "share": share[mine].tolist()} if len(mine) else None
            )
        return found

    def _mean(self, values: Any, weight: Any) -> Floats:
        """Return the weighted mean of each frame."""
        total = np.bincount(self.frame, weight, self.n_frames)
        return np.asarray(np.bincount(self.frame, weight * np.nan_to_num(values), self.n_frames) / total)

    def _residuals(
        self,
        seen: StarObservations,
        place: npt.NDArray[np.intp],
        reference: StarReference,
        solved: FrameSolution,
        nightly: NightlyTerm,
    ) -> Floats:
        """Return the star's magnitude minus the calibrated one; anything for stars that are not of the reference."""
        terms = np.array([sum_of_terms(reference.camera.illumination, one) for one in solved.terms])
        offset = position_offset(terms[self.frame], seen.u, seen.v) if terms.size else 0.0
        shown = seen.magnitude + solved.zeropoint[self.frame] + offset
        shown = shown + reference.camera.colour_term * np.nan_to_num(seen.colour)
        shown = shown - (solved.extinction[0] if len(solved.extinction) else 0.0) * nightly.values
        return np.nan_to_num(reference.mag[place] - shown) if len(reference.mag) else np.zeros(len(place))


def _values(
    frames: pa.Table,
    band: Band,
    reference: StarReference,
    solved: FrameSolution,
    stars: _FrameStars,
    chosen: npt.NDArray[np.intp],
) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of numbers of the chosen frames, NaN for null."""
    camera, n = reference.camera, len(chosen)
    zp, random = solved.zeropoint[chosen], solved.error_at_stars[chosen]
    coloured, moving = band.band.colour is not None, stars.nightly == "extinction"
    none = np.full(n, np.nan)
    colour_term, colour_term_error = camera.colour_term, camera.colour_term_error
    if stars.nightly == "colour" and n:
        colour_term += solved.extinction[0]
        colour_term_error = float(np.hypot(colour_term_error, solved.extinction_error[0]))
    mean_colour, mean_airmass = stars.mean_colour[chosen], stars.mean_airmass[chosen]
    extinction_err = np.full(n, solved.extinction_error[0]) if moving and n else none
    fit = np.hypot(random, stars.tie_err[chosen])
    of_illumination = offset_rms(camera.illumination_errors)
    of_colour = colour_term_error * mean_colour if coloured else np.zeros(n)
    of_air = extinction_err * mean_airmass if moving else np.zeros(n)
    apcor, apcor_err = (aperture_floats(frames, f"apcor_{band.flux}{suffix}") for suffix in ("", "_err"))
    of_aperture = _MAG_PER_RELATIVE * np.nan_to_num(apcor_err) / apcor
    return {
        "zp": zp,
        "zp_random_err": random,
        "zp_fit_err": fit,
        "zp_err": np.sqrt(fit**2 + of_colour**2 + np.nan_to_num(of_air) ** 2 + of_aperture**2),
        "mag_limit": zp - 2.5 * np.log10(aperture_floats(frames, "flux_limit")),
        "colour_term": np.full(n, colour_term) if coloured else none,
        "colour_term_err": np.full(n, colour_term_error) if coloured else none,
        "pivot_colour": np.full(n, band.band.pivot_colour) if coloured else none,
        "mean_colour": mean_colour + band.band.pivot_colour if coloured else none,
        "colour_spread": stars.colour_spread[chosen] if coloured else none,
        "n_used": stars.n_used[chosen].astype(np.int32),
        "rms": stars.rms[chosen],
        "chi2": solved.chi2[chosen],
        "intrinsic_mag": np.full(n, reference.catalog_scatter),
        "extinction": np.full(n, solved.extinction[0]) if moving and n else none,
        "extinction_err": extinction_err,
        "mean_airmass": 1.0 + mean_airmass if moving else none,
        "sky_light_scale": np.ones(n),
        "sky_light_scale_err": np.full(n, _SKY_LIGHT_ERROR),
        "position_err": solved.position_error[chosen],
        "position_random_err": np.sqrt(
            np.maximum(solved.position_error[chosen] ** 2 - of_illumination**2, 0.0)
        ),
        "floor_mag": _floors(frames, band, reference, solved.scatter[chosen]),
        "photon_scale": np.full(n, camera.photon_scale),
    }


def _floors(frames: pa.Table, band: Band, reference: StarReference, scatter: Floats) -> Floats:
    """Return the noise floor of frames: that of their scintillation, or what their stars show beyond the camera's.

    So what stars of a frame scatter behind clouds is in their errors.
    """
    noise = np.full(frames.num_rows, np.nan)
    if band.scintillation is not None:
        noise = band.scintillation.of_table(frames)
    shown = np.hypot(reference.camera.floor, scatter)
    expected = reference.floors(noise)
    return np.where(scatter > 0.0, np.maximum(expected, shown), expected)
