"""The distortion of a camera: learnt from the stars of many frames, then held while each frame is pointed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.robust import biweight, intrinsic_scatter
from skylake.image.lens import NAMES, Lens
from skylake.image.lenschoice import BASIC
from skylake.image.lensfit import CUT, Expected, Pairs, differences, fit_lens, inverse, precision

Floats = npt.NDArray[np.float64]

#: What frames of a camera have in common; attitude and focal length (the temperature) are their own.
SHARED = tuple(range(len(BASIC), len(NAMES)))
_ITERATIONS = 20
#: A step that moves no star farther than this (pixels, root mean square) is the last.
_STILL_PX = 1e-5
#: The chance of a change that there is not, and how far a change must move stars to matter (pixels, root mean square).
_FALSE_ALARM = 1e-4
_LEAST_CHANGE_PX = 0.05
#: A frame needs so many stars to tell whether all parameters are what they were.
_LEAST_STARS = 20
_GRID = 12


@dataclass(frozen=True, slots=True)
class Distortion:
    """What the lenses of all frames of a camera have in common, over the time of its epoch.

    Attributes
    ----------
    model : Lens
        A lens with this distortion; its attitude is that of one of the frames, its focal length the median.
    covariance : ndarray, shape (9, 9)
        Of the shared parameters, from ``x0`` on in the order of :data:`~skylake.image.lens.NAMES`.
    scatter_px : float
        Of each coordinate about the lenses, beyond the stated errors.
    n_frames, n_stars : int
        What it was learnt from; a star counts once for each frame.
    """

    model: Lens
    covariance: Floats
    scatter_px: float
    n_frames: int
    n_stars: int

    def applied(self, lens: Lens) -> Lens:
        """Return a lens with the attitude and focal length of another, and this distortion.

        The other's axis is the place where it puts the centre of this one, so that a lens whose centre is elsewhere
        looks the same way.
        """
        model = self.model
        here = lens.to_vectors([model.x0, model.x0], [model.y0, model.y0 + 1.0])
        if not np.isfinite(here).all():
            here = np.array([lens.axis, lens.axis + 1e-3 * lens.matrix[1]])
        aimed = Lens.aimed(here[0], here[1] - here[0], lens.focal_px, (0.0, 0.0), mirrored=lens.mirrored)
        values = model.parameters()
        values[:4] = aimed.parameters()[:4]
        return Lens.from_parameters(values, model.projection, lens.mirrored)


@dataclass(frozen=True, slots=True)
class Change:
    """Whether a frame has the distortion that was learnt.

    Attributes
    ----------
    shift_px : float
        Root mean square distance over the image between the lens of the frame alone and that with the old distortion.
    chance : float
        Probability of a difference so large if there was no change.
    n_stars : int
    """

    shift_px: float
    chance: float
    n_stars: int

    @property
    def changed(self) -> bool:
        """Whether the difference is neither chance nor too small to matter."""
        return self.chance < _FALSE_ALARM and self.shift_px > _LEAST_CHANGE_PX


@dataclass(frozen=True, slots=True)
class _Frame:
    """The normal equations of one frame, divided between its own parameters and the shared ones."""

    own: Floats
    across: Floats
    gradient: Floats
    derivatives: Floats

    def own_step(self, shared_step: Floats) -> Floats:
        """Return the step of attitude and focal length that goes with one of the shared parameters."""
        return np.asarray(self.own @ (self.gradient - self.across @ shared_step))


def learn_distortion(
    lenses: Sequence[Lens], frames: Sequence[Pairs], shape: tuple[int, int], expected: Expected | None = None
) -> tuple[Distortion, list[Lens]]:
    """Fit one distortion, and an attitude and focal length for each frame, to the stars of all.

    Parameters
    ----------
    lenses : sequence of Lens
        One for each frame, as from :func:`~skylake.image.refine.refine`; of one projection and parity.
    frames : sequence of Pairs
        Their matched stars.
    shape : tuple of int
        Height and width of the images.
    expected : Expected, optional
        What is known of the distortion before.

    Returns
    -------
    distortion : Distortion
    lenses : list of Lens
        Those of the frames, all with this distortion.

    Raises
    ------
    ValueError
        If there is no frame, or if projections or parities differ.
    """
    if len({(lens.projection, lens.mirrored) for lens in lenses}) != 1:
        raise ValueError("a camera has one projection and one parity, and at least one frame")
    known = Expected.usual(lenses[0], shape) if expected is None else expected
    common = np.median([lens.parameters() for lens in lenses], axis=0)
    # Each is fitted to its own stars with the common start first, which moves the attitude with the centre.
    current = [
        fit_lens(_shared(lens, common), pairs, BASIC, known).lens
        for lens, pairs in zip(lenses, frames, strict=True)
    ]
    for _ in range(_ITERATIONS):
        scatter, normal, gradient, parts = _assembled(current, frames, known)
        covariance = inverse(normal)
        step = covariance @ gradient
        steps = [np.append(part.own_step(step), step) for part in parts]
        moved = [
            np.tensordot(all_steps, part.derivatives, axes=1)
            for all_steps, part in zip(steps, parts, strict=True)
        ]
        current = [lens.moved(all_steps) for lens, all_steps in zip(current, steps, strict=True)]
        if not math.sqrt(float(np.mean(np.concatenate(moved, axis=1) ** 2))) > _STILL_PX:
            break
    values = current[0].parameters()
    values[3] = float(np.median([lens.focal_px for lens in current]))
    model = Lens.from_parameters(values, current[0].projection, current[0].mirrored)
    n_stars = sum(len(pairs.x) for pairs in frames)
    return Distortion(model, covariance, scatter, len(frames), n_stars), current


def _shared(lens: Lens, common: Floats) -> Lens:
    values = common.copy()
    values[:4] = lens.parameters()[:4]
    return Lens.from_parameters(values, lens.projection, lens.mirrored)


def _assembled(
    lenses: Sequence[Lens], frames: Sequence[Pairs], known: Expected
) -> tuple[float, Floats, Floats, list[_Frame]]:
    """Return the scatter, and the normal equations of the shared parameters with those of the frames eliminated."""
    found = [differences(lens, pairs) for lens, pairs in zip(lenses, frames, strict=True)]
    every = np.concatenate([residuals for residuals, _ in found], axis=1)
    sigma = np.concatenate([pairs.sigma for pairs in frames])
    seen = np.isfinite(every).all(axis=0)
    lost = len(BASIC) * len(frames) + len(SHARED)
    scatter = intrinsic_scatter(every[:, seen].ravel(), np.tile(sigma[seen], 2), lost)
    prior = known.sigma[list(SHARED)] ** -2.0
    off = known.values[list(SHARED)] - lenses[0].parameters()[list(SHARED)]
    normal, gradient, parts = np.diag(prior), prior * off, []
    own, shared = slice(0, len(BASIC)), slice(len(BASIC), None)
    for (residuals, derivatives), pairs in zip(found, frames, strict=True):
        weights = precision(pairs, scatter)
        squares = np.nan_to_num(np.sum(residuals**2, axis=0), nan=np.inf) * weights
        weighted = derivatives * (weights * biweight(np.sqrt(squares), CUT))
        matrix = np.tensordot(weighted, derivatives, axes=([1, 2], [1, 2]))
        slope = np.tensordot(weighted, np.nan_to_num(residuals), axes=([1, 2], [0, 1]))
        part = _Frame(inverse(matrix[own, own]), matrix[own, shared], slope[own], derivatives)
        normal = normal + matrix[shared, shared] - part.across.T @ part.own @ part.across
        gradient = gradient + slope[shared] - part.across.T @ part.own @ part.gradient
        parts.append(part)
    return scatter, normal, gradient, parts


def compare_distortion(
    distortion: Distortion, lens: Lens, pairs: Pairs, shape: tuple[int, int]
) -> Change | None:
    """Tell whether the stars of a frame want another distortion than the one that was learnt.

    Parameters
    ----------
    distortion : Distortion
    lens : Lens
        Of the frame, to some pixels.
    pairs : Pairs
        Its matched stars: matched widely enough that a change has not lost them.
    shape : tuple of int
        Height and width of the image.

    Returns
    -------
    Change or None
        None with fewer than twenty stars. The test is Wald's: the difference of the shared parameters against
        the covariance of both.
    """
    from scipy.special import gammaincc

    if len(pairs.x) < _LEAST_STARS:
        return None
    usual = Expected.usual(distortion.model, shape)
    held = fit_lens(distortion.applied(lens), pairs, BASIC, usual)
    # What the stars do not tell stays what it was, and makes no difference.
    expected = Expected(distortion.model.parameters(), usual.sigma)
    free = fit_lens(held.lens, pairs, np.arange(len(NAMES)), expected)
    shared = list(SHARED)
    difference = (free.lens.parameters() - distortion.model.parameters())[shared]
    covariance = free.covariance[np.ix_(shared, shared)] + distortion.covariance
    squares = float(difference @ inverse(covariance) @ difference)
    y, x = (
        axis.ravel()
        for axis in np.meshgrid(*(np.linspace(0.0, n - 1.0, _GRID) for n in shape), indexing="ij")
    )
    there = held.lens.to_pixels(free.lens.to_vectors(x, y))
    shift = math.sqrt(float(np.nanmean((there[0] - x) ** 2 + (there[1] - y) ** 2)))
    return Change(shift, float(gammaincc(0.5 * len(shared), 0.5 * squares)), len(pairs.x))
