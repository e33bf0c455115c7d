"""Star magnitudes of new fields, in the system of a camera that a solution of other fields has fixed.

Illumination, colour term and noise of the camera are known then. Only new stars and the frames that show them are
solved; stars of the solution that are among them are references in place of the catalog. So the cost is that of the
new fields, and what was calibrated before keeps its stars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from skylake.calibration.global_observations import GlobalOptions, Observations, References
from skylake.calibration.global_solution import GlobalSolution, solve_globally
from skylake.calibration.match_selection import Band
from skylake.calibration.star_magnitudes import Season, repeat_errors, solve_below_limit
from skylake.calibration.star_observations import nightly_term
from skylake.calibration.star_reference import StarReference
from skylake.core.group_medians import medians_of
from skylake.core.position_terms import degree_of


def solve_extension(
    season: Season,
    nights: Mapping[int, int],
    band: Band,
    known: StarReference,
    solved: npt.NDArray[np.int64],
) -> GlobalSolution:
    """Solve for the magnitudes of new stars, with the response of the camera and other stars known.

    A connected group of fields with five known stars is tied to these, any other to the catalog.

    Parameters
    ----------
    season : Season
        Frames that show the new stars.
    nights : mapping of int to int
        Night of each frame, by ``frame_id``.
    band : Band
    known : StarReference
        The stars that there are, and the response of the camera.
    solved : ndarray of int64
        ``ref_id`` of all stars that have a magnitude, variable ones too.

    Returns
    -------
    GlobalSolution
        Stars that have a magnitude already are NaN in it, and none of them is variable.
    """
    nightly = nightly_term(season.observations, band)
    references = _references(season, known)
    degree = degree_of(len(known.camera.illumination))
    options = GlobalOptions(
        illumination_degree=degree,
        frame_degree=min(1, degree),
        has_extinction=nightly.kind is not None,
        extinction=nightly.prior,
    )

    def solve(observations: Observations) -> GlobalSolution:
        solution = solve_globally(observations, references, options, known.camera)
        return replace(solution, catalog_scatter=known.catalog_scatter)

    solution = solve_below_limit(season, season.measured(nights, nightly), solve)
    solution = _with_shared_errors(season, solution, references, known)
    is_new, stars = ~np.isin(season.stars, solved), solution.stars
    magnitude = np.where(is_new, stars.magnitude, np.nan)
    return replace(
        solution, stars=replace(stars, magnitude=magnitude, is_variable=stars.is_variable & is_new)
    )


def _references(season: Season, known: StarReference) -> References:
    """Return known magnitudes where there are any, else those of the catalog with its scatter in their errors."""
    catalog, place = season.references(), known.places(season.stars)
    is_own = place >= 0
    if not is_own.any():
        return replace(catalog, error=np.hypot(catalog.error, known.catalog_scatter))
    return replace(
        catalog,
        magnitude=np.where(is_own, known.mag[place], catalog.magnitude),
        error=np.where(is_own, known.mag_err[place], np.hypot(catalog.error, known.catalog_scatter)),
        is_own=is_own,
    )


def _with_shared_errors(
    season: Season, solution: GlobalSolution, references: References, known: StarReference
) -> GlobalSolution:
    """Return a solution with the errors that known stars share, in those of the groups that they tie."""
    n_groups, group, place = len(solution.tie_error), solution.stars.group, known.places(season.stars)
    own = references.is_own & (group >= 0)
    errors = np.nan_to_num(known.mag_systematic_err)
    of_own = medians_of(errors[place[own]], group[own], n_groups)
    shared = np.where(references.own_groups(group, n_groups), np.nan_to_num(of_own), 0.0)
    # An error of the illumination grows with the distance from the fields that are solved: what known stars have of it
    # beyond the tie that all share, new stars have too, and more of the same.
    at_place = np.append(shared, 0.0)[group]
    of_known = np.sqrt(np.maximum(at_place**2 - errors.min(initial=np.inf) ** 2, 0.0))
    stars = solution.stars
    grown = np.sqrt(np.maximum(stars.error**2 - repeat_errors(season, solution) ** 2, 0.0))
    error = np.sqrt(stars.systematic_error**2 + at_place**2 + 2.0 * of_known * grown)
    return replace(
        solution, tie_error=np.hypot(solution.tie_error, shared), stars=replace(stars, systematic_error=error)
    )
