"""Distortion of a camera, learned from the stars of many frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.image.distortion.joint_fit import OWN, SHARED, fit_jointly, identities, needed_groups
from skylake.image.wcs.crossvalidation import inverse
from skylake.image.wcs.lens import NAMES, Lens
from skylake.image.wcs.lens_fit import LensPrior, StarPairs, fit_lens
from skylake.image.wcs.lens_order import GROUPS, affordable

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: The chance of a change that there is not, and how far a change must move stars to matter (pixels, root mean square).
_FALSE_ALARM = 1e-4
_LEAST_CHANGE_PX = 0.05
#: A frame needs so many stars to show whether all parameters are what they were.
_LEAST_STARS = 20
_GRID = 12


@dataclass(frozen=True, slots=True)
class Distortion:
    """The parameters that the lenses of all frames of a camera share during an epoch.

    Attributes
    ----------
    model : Lens
        A lens with this distortion; its attitude is that of one of the frames, focal length and stretch are medians.
    covariance : ndarray, shape (7, 7)
        Of the parameters :data:`SHARED`, those among them that stars did not ask for.
    scatter_px : float
        Of each coordinate about the lenses, beyond the stated errors.
    n_frames, n_stars : int
        What it was learned from; a star that was seen in many frames counts once.
    spread : float
        How many times the variance that stars explain the frames differ by among themselves; at least 1.
    """

    model: Lens
    covariance: Floats
    scatter_px: float
    n_frames: int
    n_stars: int
    spread: float = 1.0

    def expected(self, shape: tuple[int, int]) -> LensPrior:
        """Return what is expected of a frame of the camera: this distortion, and a stretch near the usual one."""
        return LensPrior(self.model.parameters(), LensPrior.default(self.model, shape).sigma)

    def expected_with_errors(self, shape: tuple[int, int]) -> LensPrior:
        """Return the same with the errors of the distortion, which are then part of those of a lens with it."""
        covariance = np.zeros((len(NAMES), len(NAMES)))
        covariance[np.ix_(SHARED, SHARED)] = self.spread * self.covariance
        return replace(self.expected(shape), covariance=covariance)

    def applied(self, lens: Lens) -> Lens:
        """Return a lens with the focal length of another and this distortion.

        Its axis is where the other sees the centre of this one, so that both look the same way though their centres
        differ.
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
class DistortionCheck:
    """Whether a frame has the distortion that was learned.

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


def learn_distortion(
    lenses: Sequence[Lens],
    frames: Sequence[StarPairs],
    shape: tuple[int, int],
    expected: LensPrior | None = None,
    groups: Sequence[str] | None = None,
) -> tuple[Distortion, list[Lens]]:
    """Fit one distortion, and an attitude and focal length for each frame, to the stars of all.

    Parameters
    ----------
    lenses : sequence of Lens
        One for each frame, as from :func:`~skylake.image.wcs.refine_lens.refine`; of one projection and parity.
    frames : sequence of StarPairs
        Their matched stars.
    shape : tuple of int
        Height and width of the images.
    expected : LensPrior, optional
        What is known of the distortion before.
    groups : sequence of str, optional
        The parameters to fit; by default those that unseen stars ask for.

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
    known = LensPrior.default(lenses[0], shape) if expected is None else expected
    stars = identities(frames)
    # The error of the place of a star is the same in all frames, so only other stars add information.
    n_stars = 1 + max(int(star.max()) for star in stars)
    able = [group for group in affordable(n_stars) if not set(GROUPS[group]) & set(OWN)]
    joint = fit_jointly(lenses, frames, known, able)
    scatter = joint.scatter_px
    shares = counted_once(frames, stars, scatter)
    full = fit_jointly(joint.lenses, frames, known, able, shares)
    chosen = needed_groups(full, frames, known, able, shares) if groups is None else list(groups)
    joint = full if chosen == able else fit_jointly(full.lenses, frames, known, chosen, shares)
    covariance = _with_unknown(full.covariance, known)
    return Distortion(_model_of(joint.lenses), covariance, scatter, len(frames), n_stars), joint.lenses


def _model_of(lenses: Sequence[Lens]) -> Lens:
    """Return the lens that stands for lenses of one distortion: medians, and the attitude of the first."""
    values = np.median([lens.parameters() for lens in lenses], axis=0)
    values[:3] = lenses[0].rotation
    return Lens.from_parameters(values, lenses[0].projection, lenses[0].mirrored)


def fitted_groups(model: Lens, shape: tuple[int, int]) -> list[str]:
    """Return the groups of parameters of a distortion that are not what is expected of any lens."""
    away = model.parameters() != LensPrior.default(model, shape).values
    return [name for name, group in GROUPS.items() if not set(group) & set(OWN) and away[list(group)].any()]


def counted_once(frames: Sequence[StarPairs], stars: Sequence[Indices], scatter_px: float) -> list[Floats]:
    """Return the shares of their weight with which a scatter that is the same in all frames is not averaged over them.

    The error of the mean of m places of a star is then that of their noise, with the whole scatter of its own:
    ``(s^2 + S^2) / (s^2 + m S^2)``. To make their errors larger instead would give outliers the weight of stars.
    """
    times = np.bincount(np.concatenate(stars))
    scatter = scatter_px**2
    return [
        (pairs.sigma**2 + scatter) / np.maximum(pairs.sigma**2 + times[star] * scatter, np.finfo(float).tiny)
        for pairs, star in zip(frames, stars, strict=True)
    ]


def _with_unknown(covariance: Floats, known: LensPrior) -> Floats:
    """Return a covariance in which parameters that were not fitted have the variance that is expected of them."""
    fixed = np.flatnonzero(np.diag(covariance) == 0.0)
    filled = covariance.copy()
    filled[fixed, fixed] = known.sigma[SHARED][fixed] ** 2
    return filled


def compare_distortion(
    distortion: Distortion, lens: Lens, pairs: StarPairs, shape: tuple[int, int]
) -> DistortionCheck | None:
    """Return whether the stars of a frame want another distortion than the one that was learned.

    Parameters
    ----------
    distortion : Distortion
    lens : Lens
        Of the frame, to some pixels.
    pairs : StarPairs
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
    expected = distortion.expected(shape)
    held = fit_lens(distortion.applied(lens), pairs, OWN, expected)
    # Parameters that the stars do not constrain keep their values, and make no difference.
    free = fit_lens(held.lens, pairs, np.arange(len(NAMES)), expected)
    difference = (free.lens.parameters() - distortion.model.parameters())[SHARED]
    covariance = free.covariance[np.ix_(SHARED, SHARED)] + distortion.covariance
    squares = float(difference @ inverse(covariance) @ difference) / distortion.spread
    y, x = (
        axis.ravel()
        for axis in np.meshgrid(*(np.linspace(0.0, n - 1.0, _GRID) for n in shape), indexing="ij")
    )
    there = held.lens.to_pixels(free.lens.to_vectors(x, y))
    shift = math.sqrt(float(np.nanmean((there[0] - x) ** 2 + (there[1] - y) ** 2)))
    return DistortionCheck(shift, float(gammaincc(0.5 * len(SHARED), 0.5 * squares)), len(pairs.x))
