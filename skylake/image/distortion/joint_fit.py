"""Joint fit of the lenses of many frames: some parameters for each frame, the others shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.robust import biweight, intrinsic_scatter
from skylake.image.wcs.crossvalidation import FOLDS, LinearProblem, inverse
from skylake.image.wcs.lens import NAMES, Lens
from skylake.image.wcs.lens_fit import CUT, LensPrior, StarPairs, differences, fit_lens, known_or, precision
from skylake.image.wcs.lens_order import GROUPS, POWERS, indices

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: What each frame has of its own: attitude, focal length (the temperature), and the stretch, which refraction changes
#: with the altitude. Without it 0.16 px would be left at an altitude of 30 degrees, whatever the field.
OWN = indices(["stretch"])
#: What all frames of a camera have in common.
SHARED = [number for number in range(len(NAMES)) if number not in OWN]
_ITERATIONS = 20
#: A step that moves no star farther than this (pixels, root mean square) is the last.
_STILL_PX = 1e-4
#: Places nearer than this in each coordinate (rad) are those of one star.
_CELL = 5e-5
#: So many frames give which parameters are needed.
_MOST_FRAMES = 25


@dataclass(frozen=True, slots=True)
class JointFit:
    """The lenses of all frames with what they share; the covariance is that of :data:`SHARED`, 0 where not fitted."""

    lenses: list[Lens]
    covariance: Floats
    scatter_px: float


@dataclass(frozen=True, slots=True)
class _FrameEquations:
    """The normal equations of one frame: its own inverse, across to what is shared, and its own gradient."""

    own: Floats
    across: Floats
    gradient: Floats
    derivatives: Floats

    def step(self, shared_step: Floats) -> Floats:
        """Return the step of all parameters that goes with one of the shared ones, both of shape (13,)."""
        step = shared_step.copy()
        step[OWN] = self.own @ (self.gradient - self.across @ shared_step)
        return step


def fit_jointly(
    lenses: Sequence[Lens],
    frames: Sequence[StarPairs],
    known: LensPrior,
    groups: Sequence[str],
    shares: Sequence[Floats] | None = None,
) -> JointFit:
    """Fit groups of shared parameters to the stars of all frames; the others keep their expected values.

    With `shares` each star has that share of its weight; how far off a star may be is not changed by that.
    The parameters of the frames are eliminated, so the work grows with the number of frames only.
    """
    free = sorted(number for group in groups for number in GROUPS[group])
    common = np.median([lens.parameters() for lens in lenses], axis=0)
    held = [number for number in SHARED if number not in free]
    common[held] = known.values[held]
    # Each is fitted to its own stars with the common start first, which moves the attitude with the centre.
    current = [
        fit_lens(_shared(lens, common), pairs, OWN, known).lens
        for lens, pairs in zip(lenses, frames, strict=True)
    ]
    covariance = np.zeros((len(NAMES), len(NAMES)))
    for _ in range(_ITERATIONS):
        scatter, normal, gradient, parts = _assembled(current, frames, known, shares)
        covariance[np.ix_(free, free)] = inverse(normal[np.ix_(free, free)])
        shared_step = covariance @ gradient
        steps = [part.step(shared_step) for part in parts]
        squares = [
            np.mean(np.tensordot(step, part.derivatives, axes=1) ** 2)
            for step, part in zip(steps, parts, strict=True)
        ]
        current = [lens.moved(step) for lens, step in zip(current, steps, strict=True)]
        if not math.sqrt(float(np.mean(squares))) > _STILL_PX:
            break
    return JointFit(current, covariance[np.ix_(SHARED, SHARED)], scatter)


def _shared(lens: Lens, common: Floats) -> Lens:
    values = common.copy()
    values[:4] = lens.parameters()[:4]
    return Lens.from_parameters(values, lens.projection, lens.mirrored)


def _assembled(
    lenses: Sequence[Lens], frames: Sequence[StarPairs], known: LensPrior, shares: Sequence[Floats] | None
) -> tuple[float, Floats, Floats, list[_FrameEquations]]:
    """Return the scatter, and the normal equations of all parameters after those of the frames are eliminated."""
    steps = [differences(lens, pairs) for lens, pairs in zip(lenses, frames, strict=True)]
    every = np.concatenate([residuals for residuals, _ in steps], axis=1)
    sigma = np.concatenate([pairs.sigma for pairs in frames])
    seen = np.isfinite(every).all(axis=0)
    lost = len(OWN) * len(frames) + len(SHARED)
    scatter = intrinsic_scatter(every[:, seen].ravel(), np.tile(sigma[seen], 2), lost)
    prior = known.sigma**-2.0
    off = np.where(prior > 0.0, known.values - lenses[0].parameters(), 0.0)
    normal, gradient, parts = np.diag(prior), prior * off, []
    counted = [np.ones(len(pairs.x)) for pairs in frames] if shares is None else shares
    for (residuals, derivatives), pairs, share in zip(steps, frames, counted, strict=True):
        weighted = derivatives * _weights(residuals, pairs, scatter) * share
        matrix = np.tensordot(weighted, derivatives, axes=([1, 2], [1, 2]))
        slope = np.tensordot(weighted, known_or(0.0, residuals), axes=([1, 2], [0, 1]))
        own = inverse(matrix[np.ix_(OWN, OWN)] + np.diag(prior[OWN]))
        part = _FrameEquations(own, matrix[OWN], slope[OWN], derivatives)
        normal = normal + matrix - part.across.T @ own @ part.across
        gradient = gradient + slope - part.across.T @ own @ part.gradient
        parts.append(part)
    return scatter, normal, gradient, parts


def _weights(residuals: Floats, pairs: StarPairs, scatter: float) -> Floats:
    precise = precision(pairs, scatter)
    squares = known_or(np.inf, np.sum(residuals**2, axis=0)) * precise
    return np.asarray(precise * biweight(np.sqrt(squares), CUT))


def identities(frames: Sequence[StarPairs]) -> list[Indices]:
    """Return numbers for the stars of each frame, from 0 on; a star has the same in all of them."""
    cells = np.floor(np.concatenate([pairs.vectors for pairs in frames]) / _CELL).astype(np.int64)
    number = np.asarray(np.unique(cells, axis=0, return_inverse=True)[1]).reshape(-1)
    return np.split(number, np.cumsum([len(pairs.x) for pairs in frames])[:-1])


def needed_groups(
    joint: JointFit,
    frames: Sequence[StarPairs],
    known: LensPrior,
    groups: Sequence[str],
    shares: Sequence[Floats],
) -> list[str]:
    """Return the groups without which stars are predicted worse that the fit has seen in no frame.

    A star that is seen again and again is left out of all frames at once: what is wrong with its place is so in all.
    """
    stars = identities(frames)
    part = np.random.default_rng(len(frames)).permutation(1 + max(int(star.max()) for star in stars)) % FOLDS
    taken = range(0, len(frames), -(-len(frames) // _MOST_FRAMES))
    columns, residuals, weights = [], [], []
    for place, number in enumerate(taken):
        left, derivatives = differences(joint.lenses[number], frames[number])
        own = np.zeros((len(OWN) * len(taken), *left.shape))
        own[place * len(OWN) : (place + 1) * len(OWN)] = derivatives[OWN]
        columns.append(np.concatenate([derivatives[SHARED], own]))
        residuals.append(known_or(0.0, left))
        weights.append(_weights(left, frames[number], joint.scatter_px) * shares[number])
    prior = np.append(known.sigma[SHARED] ** -2.0, np.tile(known.sigma[OWN] ** -2.0, len(taken)))
    off = np.zeros(len(prior))
    off[: len(SHARED)] = (known.values - joint.lenses[0].parameters())[SHARED]
    problem = LinearProblem(
        np.concatenate(columns, axis=2),
        np.concatenate(residuals, axis=1),
        np.concatenate(weights),
        np.asarray(
            np.unique(np.concatenate([part[stars[number]] for number in taken]), return_inverse=True)[1]
        ),
        prior,
        off,
    )
    shared = {group: [SHARED.index(number) for number in GROUPS[group]] for group in groups}
    return problem.chosen(range(len(SHARED), len(prior)), shared, POWERS)[0]
