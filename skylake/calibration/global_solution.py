"""The global solution: all frames of a camera in one band, and all their stars, calibrated together.

The model of the instrumental magnitude of star s on frame f of night n, at (u, v) on the frame, is

    m = M_s - zp_f - I(u, v) - P_f(u, v) + k_n X,        M_s + c colour_s = catalog magnitude of s,

with a zeropoint and, where cross-validation finds that it pays, a low-order polynomial P of each frame, an
illumination I that all frames share, extinction k of each night, the magnitude M of each star in the system of the
camera, and the colour term c. It is solved by sparse least squares with robust reweighting (Padmanabhan et al. 2008,
ApJ 674, 1217, for the principle). A star repeats to millimagnitudes while a catalog knows it to percents, so repeats
fix all differences, and the catalog what is common to them: the mean magnitude of each connected group of fields, the
colour term, and whatever the repeats leave open, as an illumination over which no star has ever moved.

The colour term appears in the equations of the catalog alone: repeats of one camera cannot see it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.calibration.frame_solution import (
    CameraResponse,
    FrameErrors,
    FrameSolution,
    chosen_degrees,
    frame_errors,
    term_precisions,
)
from skylake.calibration.global_kernels import connected, grouped
from skylake.calibration.global_noise import CUT, EFFICIENCY_LOSS, Noise
from skylake.calibration.global_observations import GlobalOptions, Observations, References, Sorted, sort
from skylake.calibration.global_stars import StarSolution, star_solution
from skylake.calibration.global_system import Parameters, System, Tie, Weak, size_of_terms, weak_combinations
from skylake.core.group_medians import group_medians
from skylake.core.position_terms import n_position_terms
from skylake.core.robust import biweight, intrinsic_scatter

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]

#: Rounds before the change from one to the next counts.
_LEAST_ROUNDS = 4
#: Accuracy of LSMR while weights still change, and for what stars make good of the illumination.
_EARLY_ACCURACY, _PATTERN_ACCURACY = 5e-3, 3e-3
#: Passes of medians that find where to start; each reaches frames one step further from the catalog.
_PASSES = 100

#: The error in magnitudes of a star of the catalog that claims to have none.
_LEAST_TIE_ERROR = 1e-4


@dataclass(frozen=True)
class GlobalSolution:
    """The global solution of a camera in one band.

    Attributes
    ----------
    frames : FrameSolution
    stars : StarSolution
    camera : CameraResponse
    group_of_frame : ndarray of int, shape (n_frames,)
        Connected group of fields; -1 without a usable observation.
    tie_error : ndarray, shape (n_groups,)
        Error of the tie of each group to its references, shared by all its stars and frames. NaN for a group without
        any: its zeropoints have a mean of 0.
    catalog_scatter : float
        Scatter of catalog magnitudes beyond their errors; with a known response that of the camera's own.
    n_rounds, n_iterations : int
        Rounds of reweighting, and iterations of LSMR in all of them.
    """

    frames: FrameSolution
    stars: StarSolution
    camera: CameraResponse
    group_of_frame: Groups
    tie_error: Floats
    catalog_scatter: float
    n_rounds: int
    n_iterations: int


def solve_globally(
    observations: Observations,
    references: References,
    options: GlobalOptions | None = None,
    camera: CameraResponse | None = None,
) -> GlobalSolution:
    """Solve for all frames, stars and the response of the camera together.

    A connected group with five references of the camera's own is tied to these alone, any other to the catalog alone:
    the few of one kind would count as outliers among the others.

    Parameters
    ----------
    observations : Observations
    references : References
        One for each star; stars without a magnitude take part through their repeats.
    options : GlobalOptions or None
        None for the defaults.
    camera : CameraResponse or None
        The response of the camera where it is known: it is held, and its errors go into those of stars. The degree of
        the options is that of its illumination. None solves for it.

    Raises
    ------
    ValueError
        If an observation names a star that `references` lacks.
    """
    return _Solver(observations, references, options or GlobalOptions(), camera).solve()


class _Solver:
    """The state of a solution between rounds."""

    def __init__(
        self,
        observations: Observations,
        references: References,
        options: GlobalOptions,
        known: CameraResponse | None,
    ) -> None:
        if known is not None:
            options = replace(options, colour_term=(known.colour_term, 0.0))
        self.options, self.references, self.known = options, references, known
        n_stars = len(references.magnitude)
        self.given: Sorted = sort(observations, n_stars)
        self.layout = self.given.layout
        n_frames = len(self.layout.starts) - 1
        n_nights = int(self.layout.night_of_frame.max(initial=-1)) + 1
        self.frame_of = np.repeat(np.arange(n_frames, dtype=np.int32), np.diff(self.layout.starts))
        self.by_star = grouped(self.layout.star, n_stars)
        self.weak = self._groups()
        self.star_group, self.frame_group = self.weak.star_group, self.weak.frame_group
        own = 1 + n_position_terms(options.frame_degree)
        terms = n_position_terms(options.illumination_degree)
        self.at = Parameters.zeros(n_stars, n_frames, own, terms, n_nights)
        self.mean = self.at.like(np.zeros_like(self.at.vector))
        self.at.colour[:] = self.mean.colour[:] = options.colour_term[0]
        if options.has_extinction:
            self.at.extinction[:] = self.mean.extinction[:] = options.extinction[0]
        self.degrees = np.zeros(n_frames, np.int64)
        self.noise = Noise(self.layout, self.given.error, np.zeros(n_frames), np.zeros(n_stars))
        if known is not None:
            self.at.illumination[:] = self.mean.illumination[:] = known.illumination
            self.noise.scale_square, self.noise.floor_square = known.photon_scale**2, known.floor**2
        self.catalog_scatter = 0.0
        self.illumination_error = options.illumination_error
        self.tied = references.tying(self.star_group, self.weak.n_groups)

    def _groups(self) -> Weak:
        """Return the connected group of each star and frame."""
        n_stars = len(self.references.magnitude)
        seen = np.diff(self.by_star[0]) > 0
        roots = connected(self.layout.starts, self.layout.star, n_stars)
        first, number = np.unique(roots[seen], return_inverse=True)
        star_group = np.full(n_stars, -1)
        star_group[seen] = number
        full = np.diff(self.layout.starts) > 0
        frame_group = np.full(len(full), -1)
        frame_group[full] = star_group[self.layout.star[self.layout.starts[:-1][full]]]
        terms = n_position_terms(self.options.illumination_degree)
        size = n_stars + len(full) * (1 + n_position_terms(self.options.frame_degree)) + terms
        size += int(self.layout.night_of_frame.max(initial=-1)) + 2
        return Weak(star_group, frame_group, len(first), np.zeros((0, size)), np.zeros((0, 0)))

    def solve(self) -> GlobalSolution:
        """Start from medians, and reweight until nothing moves."""
        self._start()
        options = self.options
        number = iterations = 0
        change = np.inf
        while number < options.n_rounds and (number < _LEAST_ROUNDS or change > options.tolerance):
            self._reweigh(number)
            system = System(self.layout, self.noise.weights, self.tie, self._prior(), self.weak)
            if number == _LEAST_ROUNDS - 1 and options.illumination_degree > 0 and self.known is None:
                self.weak, spent = weak_combinations(system, _PATTERN_ACCURACY, options.max_iterations)
                iterations += spent
            if len(self.weak.patterns):
                system = self._with_size(system)
            vector, spent = system.solve(
                system.right_hand(self.left, self.at, self.mean),
                _EARLY_ACCURACY if number < _LEAST_ROUNDS - 1 else options.accuracy,
                options.max_iterations,
            )
            change = self._apply(system, vector)
            number, iterations = number + 1, iterations + spent
        self._reweigh(options.n_rounds)
        if self.known is not None and options.illumination_degree > 0:
            # What stars and frames would make good of an error of the illumination.
            prior = self._prior()
            prior.illumination[:] = 0.0
            system = System(self.layout, self.noise.weights, self.tie, prior, self.weak)
            self.weak, spent = weak_combinations(system, _PATTERN_ACCURACY, options.max_iterations)
            iterations += spent
        return self._solution(number, iterations)

    def _with_size(self, system: System) -> System:
        """Give the illumination a prior of the size that its terms show, and return the system with it.

        Where repeats know a term badly, the catalog would make it as large as its own errors are.
        """
        weak, terms = self.weak, self.at.illumination
        downhill = system.gradient(system.right_hand(self.left, self.at, self.mean))
        right = weak.patterns @ downhill.vector + system.prior.illumination * terms + weak.measured @ terms
        self.illumination_error = size_of_terms(weak.measured, right, self.options.illumination_error)
        self.weak = replace(weak, precision=self.illumination_error**-2)
        return System(self.layout, self.noise.weights, self.tie, self._prior(), self.weak)

    def _residuals(self) -> None:
        self.left = np.empty(len(self.given.error), np.float32)
        self.at.predicted(self.layout, self.left)
        np.subtract(self.given.magnitude, self.left, out=self.left)

    def _start(self) -> None:
        """Find zeropoints from medians against the catalog, and carry them on through common stars."""
        stars, frames = self.at.star, self.at.frame[:, 0]
        self._residuals()
        stars[:] = np.nan
        stars[self.tied] = self.references.natural(self.at.colour[0])[self.tied]
        untied = ~np.isin(self.frame_group, self.star_group[self.tied])
        seen = self.star_group >= 0
        instrumental = self.left.copy()
        frames[:] = np.where(untied, 0.0, np.nan)
        for _ in range(_PASSES):
            reached = np.isfinite(frames)
            by_frame = group_medians(stars[self.layout.star] - instrumental, self.layout.starts)
            frames[:] = np.where(np.isfinite(by_frame), by_frame, frames)
            stars[:] = group_medians(instrumental + frames[self.frame_of], *self.by_star)
            if np.all(np.isfinite(stars[seen])) and np.array_equal(reached, np.isfinite(frames)):
                break
        np.nan_to_num(stars, copy=False)
        np.nan_to_num(frames, copy=False)

    def _reweigh(self, number: int) -> None:
        """Renew residuals, noise model, weights, degrees of frames and the tie."""
        self._residuals()
        noise = self.noise
        free = 1 + np.array([n_position_terms(d) for d in range(self.options.frame_degree + 1)])[self.degrees]
        noise.update_frames(self.left, 1)
        noise.update_stars(self.left, self.by_star)
        noise.weigh(self.left)
        if number > 0 and self.known is None:
            noise.update_model(self.left, free)
            noise.weigh(self.left)
        if 2 <= number < self.options.n_rounds - 2:
            self.degrees = chosen_degrees(self.layout, self.left, noise.weights, self.at.frame, self.options)
            ended = ~np.isfinite(term_precisions(self.degrees, self.at.sizes[2], self.options))
            if np.any(self.at.frame[ended]):
                self.at.frame[ended] = 0.0
                self._residuals()
        self.tie = self._tie()

    def _prior(self) -> Parameters:
        """Return the precisions of priors; infinite for what is not fitted."""
        options = self.options
        prior = self.at.like(np.zeros_like(self.at.vector))
        prior.frame[:] = term_precisions(self.degrees, prior.sizes[2], options)
        prior.illumination[:] = self.illumination_error**-2 if self.known is None else np.inf
        prior.extinction[:] = options.extinction[1] ** -2 if options.has_extinction else np.inf
        prior.colour[:] = options.colour_term[1] ** -2 if options.colour_term[1] > 0.0 else np.inf
        return prior

    def _tie(self) -> Tie:
        """Return the equations of the catalog, with robust weights and the scatter that it shows."""
        known, rows = self.references, self.tied
        colour = np.asarray(known.colour, float)[rows]
        colour_error = known.spread_of_colour(self.options.colour_spread)[rows]
        error = np.hypot(np.asarray(known.error, float)[rows], self.at.colour[0] * colour_error)
        magnitude = np.asarray(known.magnitude, float)[rows]
        tie = Tie(rows, self.star_group[rows], magnitude, np.nan_to_num(colour), np.ones(len(rows)))
        residuals = tie.residuals(self.at)
        # The mean of a group is the most that repeats leave open: what differs within groups is the catalog's scatter.
        groups = grouped(tie.group, self.weak.n_groups)
        residuals -= group_medians(residuals, *groups)[tie.group]
        scatters = known.is_own[rows] if self.known is not None else np.ones(len(rows), bool)
        lost = len(np.unique(tie.group[scatters]))
        self.catalog_scatter = intrinsic_scatter(residuals[scatters], error[scatters], lost)
        sigma = np.maximum(np.hypot(error, np.where(scatters, self.catalog_scatter, 0.0)), _LEAST_TIE_ERROR)
        self.tie_precision = np.where(np.abs(residuals) < CUT * sigma, sigma**-2, 0.0)
        return replace(tie, weight=biweight(residuals / sigma) / sigma**2)

    def _apply(self, system: System, vector: Floats) -> float:
        """Correct the parameters, and return the rms change in units of errors."""
        self.at.vector[:] += vector
        scale = system.scale[: len(self.at.star)]
        used = scale > 0.0
        change = self.at.like(vector).star[used] / scale[used]
        return float(np.sqrt(np.mean(change**2))) if used.any() else 0.0

    def _solution(self, number: int, iterations: int) -> GlobalSolution:
        self._centre_untied()
        at, noise, layout = self.at, self.noise, self.layout
        formal = frame_errors(self.left, noise, self.given, self.degrees, self.options)
        frame_error, position, star_error, illumination = self._errors(formal)
        tie, colour_error, star_tie = self._tie_errors()
        share = noise.weights / np.where(noise.precisions > 0.0, noise.precisions, 1.0)
        camera = CameraResponse(
            at.illumination.copy(),
            illumination,
            float(at.colour[0]),
            colour_error,
            float(np.sqrt(noise.scale_square)),
            float(np.sqrt(noise.floor_square)),
        )
        frames = FrameSolution(
            np.where(formal.n_used > 0, self._zeropoints(at), np.nan),
            frame_error,
            formal.level,
            at.frame[:, 1:].copy(),
            self.degrees,
            position,
            np.sqrt(noise.frame_variance),
            np.diff(layout.starts),
            formal.n_used,
            formal.chi2,
            at.extinction.copy(),
            formal.extinction,
            self.given.in_given_order(share),
        )
        magnitude = at.star + at.colour[0] * np.nan_to_num(np.asarray(self.references.colour, float))
        stars = star_solution(
            noise, self.left, self.by_star, magnitude, (star_error, star_tie), self.star_group
        )
        return GlobalSolution(
            frames, stars, camera, self.frame_group, tie, self.catalog_scatter, number, iterations
        )

    def _zeropoints(self, at: Parameters) -> Floats:
        """Return zeropoints at the airmass of reference; those in the equations are at the frame's mean."""
        return np.asarray(
            at.frame[:, 0] + at.extinction[self.layout.night_of_frame] * self.given.mean_airmass
        )

    def _centre_untied(self) -> None:
        """Give groups without a star of the catalog a mean zeropoint of 0."""
        tied = np.unique(self.star_group[self.tied])
        full, seen = self.frame_group >= 0, self.star_group >= 0
        n_groups = self.weak.n_groups
        count = np.bincount(self.frame_group[full], minlength=n_groups)
        mean = np.bincount(self.frame_group[full], self._zeropoints(self.at)[full], n_groups) / np.maximum(
            count, 1
        )
        mean[tied] = 0.0
        self.at.frame[full, 0] -= mean[self.frame_group[full]]
        self.at.star[seen] -= mean[self.star_group[seen]]

    def _errors(self, formal: FrameErrors) -> tuple[Floats, Floats, Floats, Floats]:
        """Return errors of zeropoints, of their position terms over the frame, of stars, and of the illumination.

        An error is that against all others held fixed, plus what the errors of the others bring: those of frames to
        stars and back, as if they were independent.
        """
        layout, n_stars = self.layout, len(self.at.star)
        omega = self.noise.precisions / np.float32(EFFICIENCY_LOSS)
        by_star = np.bincount(layout.star, omega, n_stars)
        by_star += np.bincount(self.tie.star, self.tie_precision, n_stars)
        by_frame = np.bincount(self.frame_of, omega, len(formal.zeropoint))
        with np.errstate(divide="ignore", invalid="ignore"):
            star = own = np.where(by_star > 0.0, 1.0 / by_star, np.nan)
            frame, grown = formal.level**2, np.ones(len(by_frame))
            for _ in range(3):
                at_place = np.nan_to_num(frame + grown * formal.position**2)
                star = own * (
                    1.0 + own * np.bincount(layout.star, omega**2 * at_place[self.frame_of], n_stars)
                )
                moved = np.bincount(self.frame_of, omega**2 * np.nan_to_num(star)[layout.star], len(by_frame))
                grown = 1.0 + moved / by_frame
                frame = formal.level**2 * grown
            frame = formal.zeropoint**2 + formal.level**2 * (grown - 1.0)
        position = np.sqrt(grown) * formal.position
        if len(self.weak.patterns) == 0:
            return np.sqrt(frame), position, np.sqrt(star), np.zeros(0)
        # The illumination's error, and what stars and zeropoints have of it.
        known, patterns = self.known, self.weak.patterns
        covariance = self.weak.covariance if known is None else np.diag(known.illumination_errors**2)
        of_star = patterns[:, :n_stars]
        of_frame = np.array([self._zeropoints(self.at.like(pattern)) for pattern in patterns])
        frame += np.sum(of_frame * (covariance @ of_frame), axis=0)
        star += np.sum(of_star * (covariance @ of_star), axis=0)
        return np.sqrt(frame), position, np.sqrt(star), np.sqrt(np.diag(covariance))

    def _tie_errors(self) -> tuple[Floats, float, Floats]:
        """Return the error of each group's tie, of the colour term, and what both bring to each star."""
        n_groups, group, colour = self.weak.n_groups, self.tie.group, self.tie.colour
        precision = self.tie_precision / EFFICIENCY_LOSS
        total = np.bincount(group, precision, n_groups)
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(total > 0.0, 1.0 / total, np.nan)
            mean = np.bincount(group, precision * colour, n_groups) * own
        of_colour = precision @ (colour - mean[group]) ** 2 if len(group) else 0.0
        error = float(self.options.colour_term[1])
        variance = 1.0 / (of_colour + error**-2) if error > 0.0 else 0.0
        if self.known is not None:
            variance = self.known.colour_term_error**2
        known = self.references
        colours = np.nan_to_num(np.asarray(known.colour, float))
        spread = known.spread_of_colour(self.options.colour_spread)
        of_star = self.star_group
        # The group -1 takes the last value.
        tied, middle = np.append(own, np.nan)[of_star], np.append(mean, np.nan)[of_star]
        star = tied + variance * (colours - middle) ** 2 + (self.at.colour[0] * spread) ** 2
        return np.sqrt(own + variance * mean**2), float(np.sqrt(variance)), np.sqrt(star)
