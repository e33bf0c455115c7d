"""The tables ``star_magnitudes`` and ``global_solutions``: a camera's own magnitudes of stars in one band.

They come from all frames together (:mod:`skylake.calibration.global_solution`), and frames of method ``global`` are
calibrated with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.bright_limit import bright_limit
from skylake.calibration.global_observations import GlobalOptions, Observations, References
from skylake.calibration.global_solution import GlobalSolution, solve_globally
from skylake.calibration.match_selection import Band
from skylake.calibration.star_observations import NightlyTerm, StarObservations, nightly_term
from skylake.core.position_terms import n_position_terms, position_offset, sum_of_terms
from skylake.core.sphere import healpix_index
from skylake.schema import arrow_schema, conform, load

Floats = npt.NDArray[np.float64]

#: So many stars on so many frames each make a solution. The mean of fifteen measurements knows a star four times
#: better than one frame does, so that zeropoints against it are as good as against the truth; and twenty stars let two
#: or three of them vary without moving the others. Where there are hundreds, fewer frames suffice.
REPEATED_STARS, REPEATS = 20, 15
MANY_STARS, FEW_REPEATS = 300, 8
#: A star on fewer frames, or a frame with fewer stars, takes no part.
_LEAST_FRAMES, LEAST_STARS = 3, 5
#: The polynomial of the illumination has at most so high a degree, and so many stars for each of its coefficients:
#: part of it, as a gradient under a field that only drifts, rests on the magnitudes of the catalog.
_HIGHEST_DEGREE, _STARS_PER_TERM = 4, 10
#: Flat fields leave some hundredths of a magnitude, wide lenses without one some tenths.
_ILLUMINATION_ERROR = 0.3
#: Without the brightest stars the solution is another one, and with it the stars that are too bright; limits that
#: differ by less are the same.
_BRIGHT_ROUNDS, _SAME_LIMIT = 3, 0.05


@dataclass(frozen=True, slots=True)
class SolutionKey:
    """What a solution is of."""

    camera: str
    band: str
    catalog: str
    version: int

    @property
    def name(self) -> str:
        """Name of its parts of both tables."""
        return f"{self.camera}-{self.band}-{self.catalog}-v{self.version}"


@dataclass(frozen=True, slots=True)
class Season:
    """Observations of a camera in one band that are solved together.

    ``frame`` and ``star`` number those of `frames` and `stars`, shape (n,); ``frames`` and ``stars`` are sorted
    identifiers.
    """

    observations: StarObservations
    frames: npt.NDArray[np.int64]
    stars: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int32]
    star: npt.NDArray[np.int32]

    @classmethod
    def of(cls, observations: StarObservations) -> Season:
        """Return the observations without rare stars and poor frames."""
        while True:
            frames, frame = np.unique(observations.frame, return_inverse=True)
            stars, star = np.unique(observations.star, return_inverse=True)
            keep = (np.bincount(star) >= _LEAST_FRAMES)[star] & (np.bincount(frame) >= LEAST_STARS)[frame]
            if keep.all():
                return cls(observations, frames, stars, frame.astype(np.int32), star.astype(np.int32))
            observations = observations.take(keep)

    def first(self) -> npt.NDArray[np.intp]:
        """Return the first observation of each star."""
        return np.asarray(np.unique(self.star, return_index=True)[1])

    def measured(self, nights: Mapping[int, int], nightly: NightlyTerm) -> Observations:
        """Return the observations as they are solved, given the night of each frame by ``frame_id``."""
        seen, of_frame = self.observations, np.array([nights[one] for one in self.frames.tolist()])
        night = np.unique(of_frame, return_inverse=True)[1].astype(np.int32)[self.frame]
        return Observations(
            self.frame, self.star, night, seen.magnitude, seen.error, seen.u, seen.v, nightly.values
        )

    def references(self) -> References:
        """Return what the catalog says of each star."""
        seen, first = self.observations, self.first()
        values = (seen.ref_mag, seen.ref_mag_err, seen.colour, seen.colour_err)
        return References(*(np.asarray(one[first], float) for one in values))


def has_repeats(frame: npt.NDArray[np.int64], star: npt.NDArray[np.int64]) -> bool:
    """Tell whether enough stars were measured often enough for a solution.

    Parameters
    ----------
    frame, star : ndarray of int, shape (n,)
        Of each measurement; a star is on a frame once.
    """
    if len(frame) < REPEATED_STARS * REPEATS:
        return False
    return enough_repeats(np.unique(star, return_counts=True)[1])


def enough_repeats(counts: npt.NDArray[np.int64]) -> bool:
    """Tell whether enough stars were measured often enough for a solution, from the number of frames of each."""
    enough = ((REPEATED_STARS, REPEATS), (MANY_STARS, FEW_REPEATS))
    return any(np.count_nonzero(counts >= repeats) >= stars for stars, repeats in enough)


def solve_season(season: Season, nights: Mapping[int, int], band: Band) -> GlobalSolution:
    """Solve for the magnitudes of all stars, and the response of the camera.

    Measurements that are too bright to be right, as their stars depart from the catalog, have no weight. A star of
    which no others are left has no magnitude.

    Parameters
    ----------
    season : Season
    nights : mapping of int to int
        Night of each frame, by ``frame_id``.
    band : Band
    """
    nightly = nightly_term(season.observations, band)
    return solve_below_limit(
        season,
        season.measured(nights, nightly),
        partial(solve_globally, references=season.references(), options=_options(season, band, nightly)),
    )


def solve_below_limit(
    season: Season, observations: Observations, solve: Callable[[Observations], GlobalSolution]
) -> GlobalSolution:
    """Solve, again without measurements that are too bright to be right where there are any.

    Parameters
    ----------
    season : Season
    observations : Observations
        Of this season.
    solve : callable
        Solves them.
    """
    seen, solution, limit = season.observations, solve(observations), -np.inf
    for _ in range(_BRIGHT_ROUNDS):
        # Magnitudes of the counts that the catalog predicts: a frame of another exposure saturates elsewhere.
        level = seen.ref_mag - solution.frames.zeropoint[season.frame] - 2.5 * np.log10(seen.exposure)
        found = _bright_limit(season, solution, observations, level)
        if found <= limit + _SAME_LIMIT:
            break
        limit = found
        usable = np.where(level < limit, np.nan, seen.magnitude)
        solution = solve(replace(observations, magnitude=usable))
    return solution


def _bright_limit(season: Season, solution: GlobalSolution, observations: Observations, level: Any) -> float:
    """Return the level above which measurements depart from the catalog; minus infinity if none do."""
    seen, frames, camera = season.observations, solution.frames, solution.camera
    shown = seen.magnitude + frames.zeropoint[season.frame] + camera.colour_term * np.nan_to_num(seen.colour)
    if len(camera.illumination):
        terms = np.array([sum_of_terms(camera.illumination, one) for one in frames.terms])
        shown += position_offset(terms[season.frame], seen.u, seen.v)
    if len(frames.extinction):
        shown -= frames.extinction[observations.night] * observations.airmass
    known = np.flatnonzero(np.isfinite(shown) & np.isfinite(level))
    # The same star is another one on frames of another exposure.
    star = season.star[known].astype(np.int64) * 64
    star += np.round(np.log2(seen.exposure[known])).astype(np.int64) % 64
    measured = np.hypot(camera.photon_scale * seen.error, camera.floor)
    own = np.sqrt(
        seen.ref_mag_err**2 + (camera.colour_term * seen.colour_err) ** 2 + solution.catalog_scatter**2
    )
    return bright_limit(
        np.unique(star, return_inverse=True)[1],
        np.asarray(level, float)[known],
        np.asarray(seen.ref_mag - shown, float)[known],
        (measured.astype(float)[known], own.astype(float)[known]),
    )


def _options(season: Season, band: Band, nightly: NightlyTerm) -> GlobalOptions:
    """Return how to solve: with as many terms as the stars can tell."""
    degree = max(
        one
        for one in range(_HIGHEST_DEGREE + 1)
        if n_position_terms(one) * _STARS_PER_TERM <= len(season.stars)
    )
    if not np.any(season.observations.u):
        degree = 0
    limits = band.calibration
    prior = (limits.colour_term_prior, limits.colour_term_prior_err) if band.band.colour else (0.0, 0.0)
    return GlobalOptions(
        illumination_degree=degree,
        frame_degree=min(1, degree),
        has_extinction=nightly.kind is not None,
        extinction=nightly.prior,
        colour_term=prior,
        illumination_error=_ILLUMINATION_ERROR,
    )


def star_magnitudes_table(
    season: Season, solution: GlobalSolution, nights: Mapping[int, int], key: SolutionKey, pivot: float
) -> pa.Table:
    """Return the rows of ``star_magnitudes`` of a solution.

    Parameters
    ----------
    season : Season
    solution : GlobalSolution
        Of this season.
    nights : mapping of int to int
        Night of each frame, by ``frame_id``.
    key : SolutionKey
    pivot : float
        Colour from which those of observations count; NaN for a band without colour.
    """
    seen, first, stars = season.observations, season.first(), solution.stars
    error = repeat_errors(season, solution)
    # What an error has beside that of repeats, as of a gradient of the illumination, stars of one place share.
    shared = np.sqrt(np.maximum(stars.error**2 - error**2, 0.0) + stars.systematic_error**2)
    known = np.flatnonzero(np.isfinite(stars.magnitude) & np.isfinite(stars.error) & np.isfinite(error))
    count = np.bincount(season.star, minlength=len(season.stars))
    night = np.array([nights[one] for one in season.frames.tolist()])[season.frame]
    by_night = np.unique(np.stack([season.star, night]), axis=1)[0]
    begin, end = np.full(len(count), np.inf), np.full(len(count), -np.inf)
    np.minimum.at(begin, season.star, seen.mjd)
    np.maximum.at(end, season.star, seen.mjd)
    ra, dec = seen.ra_deg[first], seen.dec_deg[first]
    values: dict[str, npt.NDArray[Any]] = {
        "_healpix_29": healpix_index(ra, dec),
        "ref_id": season.stars,
        "ra_deg": ra,
        "dec_deg": dec,
        "mag": stars.magnitude,
        "mag_err": error,
        "mag_systematic_err": shared,
        "colour": seen.colour[first] + pivot,
        "n_observations": count,
        "n_frames": count,
        "n_nights": np.bincount(by_night, minlength=len(count)),
        "scatter": stars.scatter,
        "chi2": stars.chi2,
        "ref_mag": seen.ref_mag[first],
        "ref_mag_err": seen.ref_mag_err[first],
        "mjd_first": begin,
        "mjd_last": end,
        "is_variable": stars.is_variable,
    }
    columns = {name: pa.array(array[known], from_pandas=True) for name, array in values.items()}
    of_all = {"camera": key.camera, "band": key.band, "catalog": key.catalog, "version": key.version}
    columns |= {name: pa.repeat(value, len(known)) for name, value in of_all.items()}
    return conform(pa.table(columns), load("star_magnitudes"))


def repeat_errors(season: Season, solution: GlobalSolution) -> Floats:
    """Return the error of the mean of each star's measurements, shape (n_stars,); NaN for a star without weight.

    It is what noise of the star, its offsets from night to night, and noise of the zeropoints of its frames leave.
    What the catalog has to tell, as a gradient over a field that only drifts, is no part of it: it is the same on all
    frames.
    """
    seen, camera, frames = season.observations, solution.camera, solution.frames
    variance = (camera.photon_scale * seen.error) ** 2 + camera.floor**2 + frames.scatter[season.frame] ** 2
    weight = np.asarray(frames.weights) / variance
    by_star, by_frame = (
        np.bincount(keys, weight, minlength=size)
        for keys, size in ((season.star, len(season.stars)), (season.frame, len(season.frames)))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        of_frames = np.bincount(
            season.star, np.nan_to_num(weight**2 / by_frame[season.frame]), len(season.stars)
        )
        return np.asarray(np.sqrt((1.0 + of_frames / by_star) / by_star + solution.stars.night_error**2))


def global_solutions_table(
    season: Season,
    solution: GlobalSolution,
    key: SolutionKey,
    band: Band,
    nights: list[dict[str, Any]],
    base_version: int | None = None,
    scintillation: float = float("nan"),
) -> pa.Table:
    """Return the row of ``global_solutions`` of a solution.

    Parameters
    ----------
    season : Season
    solution : GlobalSolution
    key : SolutionKey
    band : Band
    nights : list of dict
        ``night``, ``n_frames`` and ``checksum`` of the nights, whether all their frames are in the season or not.
    base_version : int or None
        Version of the solution that this one extends; None for a full one.
    scintillation : float
        Rms of its frames, magnitudes; NaN where it is not known.
    """
    camera, stars, seen = solution.camera, solution.stars, season.observations
    tied = np.isfinite(solution.tie_error)
    coloured = band.band.colour is not None
    row: dict[str, Any] = {
        "camera": key.camera,
        "band": key.band,
        "catalog": key.catalog,
        "version": key.version,
        "base_version": base_version,
        "flux": band.flux,
        "colour": band.band.colour,
        "pivot_colour": band.band.pivot_colour if coloured else None,
        "colour_term": camera.colour_term if coloured else None,
        "colour_term_err": camera.colour_term_error if coloured else None,
        "illumination": {
            "coefficient": camera.illumination.tolist(),
            "coefficient_err": camera.illumination_errors.tolist(),
        },
        "frame_degree": int(solution.frames.degree.max(initial=0)),
        "tie_err": float(np.median(solution.tie_error[tied])) if tied.any() else None,
        "catalog_scatter": solution.catalog_scatter,
        "floor_mag": camera.floor,
        "photon_scale": camera.photon_scale,
        "scintillation_mag": None if np.isnan(scintillation) else scintillation,
        "night_scatter_mag": stars.night_scatter,
        "n_observations": len(seen),
        "n_stars": int(np.count_nonzero(np.isfinite(stars.magnitude))),
        "n_variable": int(np.count_nonzero(stars.is_variable)),
        "n_frames": sum(one["n_frames"] for one in nights),
        "n_frames_used": len(season.frames),
        "mjd_first": float(seen.mjd.min()),
        "mjd_last": float(seen.mjd.max()),
        "nights": {name: [one[name] for one in nights] for name in ("night", "n_frames", "checksum")},
    }
    schema = load("global_solutions")
    arrays = {field.name: pa.array([row[field.name]], field.type) for field in arrow_schema(schema)}
    return conform(pa.table(arrays), schema)
