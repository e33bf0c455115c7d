"""Zeropoints of frames against stars whose magnitudes are known, and what a solution says of a frame.

All frames are fitted at once: the normal matrix of each is a small block, and the blocks are solved together. Against
the magnitudes of a global solution this calibrates new nights at the price of reading them; against a catalog it is
where the global solution starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.calibration.global_kernels import (
    Layout,
    frame_sums,
    left_out_squares,
    normal_blocks,
    predict,
)
from skylake.calibration.global_noise import EFFICIENCY_LOSS, Noise
from skylake.calibration.global_observations import GlobalOptions, Observations, References, Sorted, sort
from skylake.calibration.global_system import inverse_factors
from skylake.core.group_medians import group_medians
from skylake.core.position_terms import degree_of, n_position_terms, offset_rms, term_mean_squares

Floats = npt.NDArray[np.float64]
Degrees = npt.NDArray[np.int64]

#: Cross-validation must gain so much chi-square for a higher degree, which chance brings to one frame in fifty, and so
#: much for each star: less is a gradient of a tenth of the noise, which may as well come from the extinction.
_GAIN, _GAIN_PER_STAR = 4.0, 0.01
#: A frame needs so many stars for each coefficient.
_STARS_PER_TERM = 4
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class CameraResponse:
    """What the frames of a camera and band share.

    Attributes
    ----------
    illumination, illumination_errors : ndarray, shape (n_terms,)
        Position terms, magnitudes.
    colour_term, colour_term_error : float
    photon_scale : float
        Factor on photon errors.
    floor : float
        Scatter of bright constant stars beyond photon noise, magnitudes.
    """

    illumination: Floats
    illumination_errors: Floats
    colour_term: float
    colour_term_error: float
    photon_scale: float
    floor: float


@dataclass(frozen=True)
class FrameSolution:
    """Zeropoints of frames; arrays of shape (n_frames,) if not said otherwise.

    Attributes
    ----------
    zeropoint, zeropoint_error : ndarray
        NaN for frames without a usable star. The errors are random: a shared error of all stars is not in them.
    error_at_stars : ndarray
        The error of what the frame's stars measure, the zeropoint at their mean airmass. That of the extinction, which
        all frames of a night share, is in `zeropoint_error` and not in this.
    terms : ndarray, shape (n_frames, k)
        The frame's own position terms; to be added to the illumination.
    degree : ndarray of int
        Of these terms; 0 for none.
    position_error : ndarray
        Root mean square over the frame of the error of illumination and own terms.
    scatter : ndarray
        Scatter of its stars beyond the noise model; 0 where there is none to be seen.
    n_observations, n_used : ndarray of int
        Observations, and those with weight.
    chi2 : ndarray
        Reduced chi-square of the observations with weight, the frame's own scatter not in their errors.
    extinction, extinction_error : ndarray, shape (n_nights,)
    weights : ndarray, shape (n,)
        Of the observations in the order given: their share of the weight that their errors would give them, 0 to 1.
    """

    zeropoint: Floats
    zeropoint_error: Floats
    error_at_stars: Floats
    terms: Floats
    degree: Degrees
    position_error: Floats
    scatter: Floats
    n_observations: npt.NDArray[np.int64]
    n_used: npt.NDArray[np.int64]
    chi2: Floats
    extinction: Floats
    extinction_error: Floats
    weights: Any


def solve_frames(
    observations: Observations, stars: References, camera: CameraResponse, options: GlobalOptions
) -> FrameSolution:
    """Calibrate frames against stars of known magnitude.

    Parameters
    ----------
    observations : Observations
    stars : References
        Magnitudes with their random errors, as of a global solution; stars without one are not used.
    camera : CameraResponse
    options : GlobalOptions

    Returns
    -------
    FrameSolution
    """
    known = np.isfinite(stars.magnitude) & np.isfinite(stars.error)
    given = sort(observations, len(stars.magnitude), known)
    layout = given.layout
    natural = stars.natural(camera.colour_term)
    n_frames, n_nights = len(layout.starts) - 1, int(layout.night_of_frame.max(initial=-1)) + 1
    extinction = np.full(n_nights, options.extinction[0] if options.has_extinction else 0.0)
    residuals = np.empty(len(given.error))
    nothing = np.zeros((n_frames, 1))
    predict(
        layout,
        natural,
        nothing,
        camera.illumination,
        extinction,
        degree_of(len(camera.illumination)),
        residuals,
    )
    # Zeropoints make stars brighter that the frame shows fainter: residuals are natural minus instrumental.
    residuals -= given.magnitude
    start = group_medians(residuals, layout.starts)
    coefficients = np.zeros((n_frames, 1 + n_position_terms(options.frame_degree)))
    coefficients[:, 0] = np.nan_to_num(start)
    noise = Noise(
        layout,
        given.error,
        np.zeros(n_frames),
        np.where(known, stars.error, 0.0) ** 2,
        camera.photon_scale**2,
        camera.floor**2,
    )
    fit = FrameFit(layout, residuals, noise, coefficients, extinction, options)
    fit.solve()
    errors = frame_errors(fit.left(), noise, given, fit.degrees, options)
    zeropoint = fit.coefficients[:, 0] + fit.extinction[layout.night_of_frame] * given.mean_airmass
    position = np.sqrt(errors.position**2 + offset_rms(camera.illumination_errors) ** 2)
    share = noise.weights / np.where(noise.precisions > 0.0, noise.precisions, 1.0)
    return FrameSolution(
        np.where(errors.n_used > 0, zeropoint, np.nan),
        errors.zeropoint,
        errors.level,
        fit.coefficients[:, 1:],
        fit.degrees,
        position,
        np.sqrt(noise.frame_variance),
        np.diff(layout.starts),
        errors.n_used,
        errors.chi2,
        fit.extinction,
        errors.extinction,
        given.in_given_order(share),
    )


class FrameFit:
    """Robust fits of all frames at once.

    Parameters
    ----------
    layout : Layout
    differences : ndarray, shape (n,)
        What zeropoint and terms of the frame are to explain, at the first extinction; NaN is not used.
    noise : Noise
    coefficients : ndarray, shape (n_frames, 1 + k)
        To start with; changed.
    extinction : ndarray, shape (n_nights,)
        To start with, also the mean of its prior; changed.
    options : GlobalOptions
    """

    def __init__(
        self,
        layout: Layout,
        differences: Floats,
        noise: Noise,
        coefficients: Floats,
        extinction: Floats,
        options: GlobalOptions,
    ) -> None:
        self.layout, self.differences, self.noise, self.options = layout, differences, noise, options
        self.coefficients, self.extinction = coefficients, extinction
        self.first_extinction = extinction.copy()
        self.degrees = np.zeros(len(coefficients), np.int64)

    def left(self) -> Floats:
        """Return the residuals, shape (n,)."""
        degree = degree_of(self.coefficients.shape[1] - 1)
        out = np.empty(len(self.differences))
        stars = np.zeros(int(self.layout.star.max(initial=-1)) + 1)
        more = self.extinction - self.first_extinction
        none = np.zeros(n_position_terms(degree))
        predict(self.layout, stars, self.coefficients, none, more, degree, out)
        return np.asarray(self.differences + out)

    def solve(self) -> None:
        """Iterate until zeropoints stand still."""
        for number in range(self.options.n_rounds):
            residuals = self.left()
            self.noise.update_frames(residuals, 1)
            self.noise.weigh(residuals)
            if number > 0:
                self.degrees = chosen_degrees(
                    self.layout, residuals, self.noise.weights, self.coefficients, self.options
                )
                size = self.coefficients.shape[1]
                self.coefficients[~np.isfinite(term_precisions(self.degrees, size, self.options))] = 0.0
                residuals = self.left()
            before = self.coefficients[:, 0].copy()
            self._step(residuals)
            if number > 1 and np.all(np.abs(self.coefficients[:, 0] - before) < _TOLERANCE):
                break
        residuals = self.left()
        self.noise.update_frames(residuals, 1)
        self.noise.weigh(residuals)

    def _step(self, residuals: Floats) -> None:
        """Correct zeropoints, terms and extinction for what is left."""
        size = self.coefficients.shape[1]
        degree, weights = degree_of(size - 1), self.noise.weights
        blocks = np.zeros((len(self.coefficients), size + 1, size + 1))
        normal_blocks(self.layout, weights, degree, 1, blocks)
        sums = np.zeros((len(blocks), size + 1))
        frame_sums(self.layout, weights * np.nan_to_num(residuals), degree, sums)
        precision = term_precisions(self.degrees, size, self.options)
        free = np.isfinite(precision)
        sums[:, :size] -= np.where(free, precision, 0.0) * self.coefficients
        factors = inverse_factors(blocks[:, :size, :size], precision)
        inverse = factors @ factors.transpose(0, 2, 1)
        with_airmass = blocks[:, :size, size]
        moved = np.einsum("fij,fj->fi", inverse, sums[:, :size])
        if self.options.has_extinction:
            by_airmass = np.einsum("fij,fj->fi", inverse, with_airmass)
            night, n = self.layout.night_of_frame, len(self.extinction)
            weight = np.bincount(night, blocks[:, size, size] - np.sum(with_airmass * by_airmass, axis=1), n)
            right = np.bincount(night, sums[:, size] - np.sum(with_airmass * moved, axis=1), n)
            mean, error = self.options.extinction
            step = (right + (mean - self.extinction) / error**2) / (weight + error**-2)
            self.extinction += step
            moved -= by_airmass * step[night][:, None]
        self.coefficients += moved


def term_precisions(degrees: Degrees, size: int, options: GlobalOptions) -> Floats:
    """Return prior precisions of the coefficients of frames, infinite for terms above the degree of a frame."""
    used = (
        1 + np.array([n_position_terms(int(degree)) for degree in range(options.frame_degree + 1)])[degrees]
    )
    precision = np.where(np.arange(size) < used[:, None], options.frame_error**-2, np.inf)
    precision[:, 0] = 0.0
    return precision


def chosen_degrees(
    layout: Layout, residuals: Any, weights: Any, coefficients: Floats, options: GlobalOptions
) -> Degrees:
    """Return the degree of each frame's own polynomial by leave-one-out cross-validation.

    Parameters
    ----------
    layout : Layout
    residuals : ndarray, shape (n,)
        From the present coefficients.
    weights : ndarray, shape (n,)
    coefficients : ndarray, shape (n_frames, 1 + k)
        The present ones.
    options : GlobalOptions

    Returns
    -------
    ndarray of int, shape (n_frames,)
    """
    n_frames, size = coefficients.shape
    best = np.zeros(n_frames, np.int64)
    if options.frame_degree == 0:
        return best
    degree = options.frame_degree
    # Added back, so that each degree fits all that the frame has.
    own = np.empty(len(residuals))
    stars = np.zeros(int(layout.star.max(initial=-1)) + 1)
    nights = np.zeros(int(layout.night_of_frame.max(initial=-1)) + 1)
    predict(layout, stars, coefficients, np.zeros(size - 1), nights, degree, own)
    whole = residuals - own
    blocks, sums = np.zeros((n_frames, size + 1, size + 1)), np.zeros((n_frames, size + 1))
    normal_blocks(layout, weights, degree, 1, blocks)
    frame_sums(layout, weights * np.nan_to_num(whole), degree, sums)
    n_used = np.add.reduceat(np.append(weights > 0.0, False), layout.starts[:-1]) * (
        np.diff(layout.starts) > 0
    )
    least = np.full(n_frames, np.inf)
    for trial in range(degree + 1):
        k = 1 + n_position_terms(trial)
        factors = inverse_factors(blocks[:, :k, :k], term_precisions(np.full(n_frames, trial), k, options))
        inverses = factors @ factors.transpose(0, 2, 1)
        fits = np.einsum("fij,fj->fi", inverses, sums[:, :k])
        squares = left_out_squares(layout, whole, weights, fits, inverses, trial)
        better = (squares < least - _GAIN - _GAIN_PER_STAR * n_used) & (n_used >= _STARS_PER_TERM * k)
        if trial == 0:
            better[:] = True
        best[better], least[better] = trial, squares[better]
    return best


@dataclass(frozen=True)
class FrameErrors:
    """Formal errors and quality of frames, against stars without errors of their own; shape (n_frames,).

    `level` is the error of the zeropoint at the frame's mean airmass. Those of the extinction have the shape
    (n_nights,), and are NaN where it is not fitted.
    """

    zeropoint: Floats
    level: Floats
    position: Floats
    chi2: Floats
    n_used: npt.NDArray[np.int64]
    extinction: Floats


def frame_errors(
    residuals: Any, noise: Noise, given: Sorted, degrees: Degrees, options: GlobalOptions
) -> FrameErrors:
    """Return formal errors and quality of frames from the precisions of their observations."""
    layout = given.layout
    n_frames, size = len(degrees), 1 + n_position_terms(options.frame_degree)
    blocks = np.zeros((n_frames, size + 1, size + 1))
    normal_blocks(layout, noise.precisions, options.frame_degree, 1, blocks)
    blocks /= EFFICIENCY_LOSS
    factors = inverse_factors(blocks[:, :size, :size], term_precisions(degrees, size, options))
    variances = np.einsum("fij,fij->fi", factors, factors)
    level = np.sqrt(variances[:, 0])
    extinction = np.full(int(layout.night_of_frame.max(initial=-1)) + 1, np.nan)
    if options.has_extinction:
        with_airmass = np.einsum("fij,fi->fj", factors, blocks[:, :size, size])
        alone = blocks[:, size, size] - np.sum(with_airmass**2, axis=1)
        by_night = np.bincount(layout.night_of_frame, alone, len(extinction)) + options.extinction[1] ** -2
        extinction = 1.0 / np.sqrt(by_night)
        # The block of a frame holds the extinction fixed, and its zeropoint is that at its mean airmass.
        by_extinction = -np.einsum("fij,fj->fi", factors, with_airmass)
        by_extinction[:, 0] += given.mean_airmass
        variances += (by_extinction * extinction[layout.night_of_frame][:, None]) ** 2
    frame = np.repeat(np.arange(n_frames, dtype=np.int32), np.diff(layout.starts))
    inside = noise.precisions > 0.0
    n_used = np.bincount(frame, inside, n_frames).astype(np.int64)
    squares = np.where(inside, residuals**2 / noise.variance(of_frames=False), 0.0)
    free = n_used - np.array([1 + n_position_terms(int(d)) for d in range(options.frame_degree + 1)])[degrees]
    chi2 = np.where(free > 0, np.bincount(frame, squares, n_frames) / np.maximum(free, 1), np.nan)
    zeropoint = np.where(n_used > 0, np.sqrt(variances[:, 0]), np.nan)
    position = np.sqrt(variances[:, 1:] @ term_mean_squares(options.frame_degree))
    return FrameErrors(zeropoint, level, position, chi2, n_used, extinction)
