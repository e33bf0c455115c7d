"""Focal plane of a mosaic camera: where its detectors are, from exposures that they share.

Of each frame the attitude is known by its own stars. That of a detector is the attitude of the telescope, then
its place in the focal plane::

    A(exposure, chip) = exp(r(chip)) R(chip) exp(f(exposure)) F(exposure)

with small rotation vectors r and f, found by least squares over all frames, again and again until they are
nothing. The
exposures are eliminated first, so the work grows with their number only. A turn of all detectors together is a
turn of all exposures the other way; so the places are those whose mean is that of the start, the profile's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.robust import biweight, intrinsic_scatter
from skylake.core.rotations import rotation_matrix, rotation_vector

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_ROUNDS = 12
#: Frames that are off by so many standard deviations have no weight.
_CUT = 5.0
#: A step of less than 20 micro arcseconds, rad, is the last.
_STILL = 1e-10
#: Eigenvalues below this share of the largest are those of a turn of the whole plane.
_NULL = 1e-10


@dataclass(frozen=True, slots=True)
class Orientations:
    """Frames whose stars give their attitude.

    Attributes
    ----------
    exposure, chip : ndarray of int, shape (n,)
        Which they are, from 0.
    matrix : ndarray, shape (n, 3, 3)
        From ICRS to the image: its third axis is that of the central pixel, the second goes along y.
    sigma : ndarray, shape (n, 3)
        Standard errors of turns about these axes, rad.
    """

    exposure: Indices
    chip: Indices
    matrix: Floats
    sigma: Floats

    def taken(self, which: npt.NDArray[np.bool_] | Indices) -> Orientations:
        """Return some of the frames."""
        return Orientations(self.exposure[which], self.chip[which], self.matrix[which], self.sigma[which])


@dataclass(frozen=True, slots=True)
class FocalPlane:
    """The places of detectors, and the attitude of each exposure.

    Attributes
    ----------
    places : ndarray, shape (chips, 3, 3)
        From the focal plane to each image.
    covariance : ndarray, shape (chips, 3, 3)
        Of turns about the axes of each image, rad squared; NaN for a chip that no chain of exposures in common leads
        to from those that most are connected with: how groups of chips stand to each other is then unknown.
    attitudes : ndarray, shape (exposures, 3, 3)
        From ICRS to the focal plane.
    residuals : ndarray, shape (n, 3)
        Turns that are left of each frame, rad.
    scatter : tuple of float
        Of a direction and of the angle, rad, beyond the stated errors.
    weights : ndarray, shape (n,)
        Share of its weight that each frame kept.
    """

    places: Floats
    covariance: Floats
    attitudes: Floats
    residuals: Floats
    scatter: tuple[float, float]
    weights: Floats


def fit_focal_plane(frames: Orientations, start: Floats, n_exposures: int) -> FocalPlane:
    """Fit the places of detectors and the attitudes of exposures to frames.

    Parameters
    ----------
    frames : Orientations
    start : ndarray, shape (chips, 3, 3)
        Places by the profile, right to some degrees.
    n_exposures : int
    """
    places, attitudes = start.copy(), _first_attitudes(frames, start, n_exposures)
    scatter, weights = (0.0, 0.0), np.ones(len(frames.chip))
    normal = _FocalPlaneEquations.of(frames, places, attitudes, scatter, weights)
    for number in range(_ROUNDS):
        turns, shifts = normal.steps()
        places = np.array([rotation_matrix(turn) @ place for turn, place in zip(turns, places, strict=True)])
        attitudes = np.array(
            [rotation_matrix(shift) @ attitude for shift, attitude in zip(shifts, attitudes, strict=True)]
        )
        residuals = _residuals(frames, places, attitudes)
        # The first round brings a rough start near; only then do residuals show errors.
        if number:
            scatter = _scatter(frames, residuals)
            weights = _weights(frames, residuals, scatter)
        normal = _FocalPlaneEquations.of(frames, places, attitudes, scatter, weights)
        if number > 2 and max(np.abs(turns).max(), np.abs(shifts).max()) < _STILL:
            break
    # Residuals of a normal distribution lose hardly any information by the weights; those without weight gave nothing.
    normal = _FocalPlaneEquations.of(frames, places, attitudes, scatter, (weights > 0.0).astype(float))
    known = _connected(frames, weights, len(places))
    places, attitudes = _gauged(places, attitudes, start, known)
    return FocalPlane(places, normal.covariance(known), attitudes, normal.residuals, scatter, weights)


def _connected(frames: Orientations, weights: Floats, n_chips: int) -> npt.NDArray[np.bool_]:
    """Return which chips belong to the largest group that exposures in common connect, shape (chips,)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    used = weights > 0.0
    chip, exposure = frames.chip[used], frames.exposure[used] + n_chips
    size = n_chips + int(frames.exposure.max(initial=0)) + 1
    graph = coo_matrix((np.ones(len(chip)), (chip, exposure)), shape=(size, size))
    label = connected_components(graph, directed=False)[1]
    shown = np.isin(np.arange(n_chips), chip)
    chips = np.bincount(label[:n_chips][shown], minlength=size)
    rows = np.bincount(label[chip], minlength=size)
    # Of groups of as many chips, the one with more frames.
    largest = np.lexsort((rows, chips))[-1]
    known = shown & (label[:n_chips] == largest)
    return known if known.sum() > 1 else np.zeros(n_chips, bool)


def _gauged(
    places: Floats, attitudes: Floats, start: Floats, known: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Turn all places together so that their mean is that of the start, and the exposures the other way."""
    if not known.any():
        return places, attitudes
    for _ in range(_ROUNDS):
        moved = [
            rotation_vector(first.T @ place) for first, place in zip(start[known], places[known], strict=True)
        ]
        common = np.mean(moved, axis=0)
        back = rotation_matrix(-common)
        places, attitudes = places @ back, back.T @ attitudes
        if np.abs(common).max() < _STILL:
            break
    return places, attitudes


def attitude_from(
    frames: Orientations, places: Floats, place_sigma: Floats, scatter: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Return the attitude of one exposure by some of its frames, shape (3, 3), and its covariance.

    Parameters
    ----------
    frames : Orientations
        Of one exposure, number 0.
    places : ndarray, shape (chips, 3, 3)
    place_sigma : ndarray, shape (chips, 3)
        Standard errors of the places: they count as errors of the frames.
    scatter : tuple of float
    """
    orientations = Orientations(
        np.zeros(len(frames.chip), np.intp),
        frames.chip,
        frames.matrix,
        np.hypot(frames.sigma, place_sigma[frames.chip]),
    )
    attitude = _first_attitudes(orientations, places, 1)
    for _ in range(_ROUNDS):
        normal = _FocalPlaneEquations.of(
            orientations, places, attitude, scatter, np.ones(len(orientations.chip))
        )
        shift = normal.inverse[0] @ normal.gradient[0]
        attitude = np.array([rotation_matrix(shift) @ attitude[0]])
        if np.abs(shift).max() < _STILL:
            break
    return attitude[0], normal.inverse[0]


def _first_attitudes(frames: Orientations, places: Floats, n_exposures: int) -> Floats:
    """Return the attitude of each exposure by the best of its frames."""
    attitudes = np.tile(np.eye(3), (n_exposures, 1, 1))
    # The best comes last, and stands.
    for row in np.argsort(-frames.sigma.max(axis=1), kind="stable"):
        attitudes[frames.exposure[row]] = places[frames.chip[row]].T @ frames.matrix[row]
    return attitudes


def _residuals(frames: Orientations, places: Floats, attitudes: Floats) -> Floats:
    expected = places[frames.chip] @ attitudes[frames.exposure]
    left = frames.matrix @ np.swapaxes(expected, 1, 2)
    across = left - np.swapaxes(left, 1, 2)
    sine = 0.5 * np.stack([across[:, 2, 1], across[:, 0, 2], across[:, 1, 0]], axis=1)
    length = np.linalg.norm(sine, axis=1)
    angle = np.arctan2(length, 0.5 * (np.trace(left, axis1=1, axis2=2) - 1.0))
    return np.asarray(sine * np.where(length > 0.0, angle / np.maximum(length, 1e-300), 1.0)[:, None])


def _scatter(frames: Orientations, residuals: Floats) -> tuple[float, float]:
    """Return the scatter of directions and angles beyond the stated errors."""
    # The part of the scatter that the places and attitudes have absorbed.
    taken = len(np.unique(frames.chip)) - 1 + len(np.unique(frames.exposure))
    direction = intrinsic_scatter(residuals[:, :2].ravel(), frames.sigma[:, :2].ravel(), 2 * taken)
    return direction, intrinsic_scatter(residuals[:, 2], frames.sigma[:, 2], taken)


def _weights(frames: Orientations, residuals: Floats, scatter: tuple[float, float]) -> Floats:
    spread = np.hypot(frames.sigma, [scatter[0], scatter[0], scatter[1]])
    return biweight(np.abs(residuals / spread).max(axis=1), _CUT)


@dataclass(frozen=True, slots=True)
class _FocalPlaneEquations:
    """The normal equations: of each exposure its inverse and gradient, and those of the places that are left.

    The inverse is 0 where no frame constrains an exposure.
    """

    inverse: Floats
    gradient: Floats
    across: Floats
    matrix: Floats
    right: Floats
    residuals: Floats
    places: Floats

    @classmethod
    def of(
        cls,
        frames: Orientations,
        places: Floats,
        attitudes: Floats,
        scatter: tuple[float, float],
        weights: Floats,
    ) -> _FocalPlaneEquations:
        residuals = _residuals(frames, places, attitudes)
        precision = weights[:, None] / (frames.sigma**2 + np.array([scatter[0], scatter[0], scatter[1]]) ** 2)
        own, gradient = np.zeros_like(attitudes), np.zeros((len(attitudes), 3))
        matrix = np.zeros((len(places), 3, len(places), 3))
        right = np.zeros((len(places), 3))
        # Precision times place: how the equations of a chip hang on the attitude of an exposure.
        leads = precision[:, :, None] * places[frames.chip]
        np.add.at(own, frames.exposure, np.swapaxes(places[frames.chip], 1, 2) @ leads)
        np.add.at(gradient, frames.exposure, np.einsum("nij,ni->nj", leads, residuals))
        np.add.at(right, frames.chip, precision * residuals)
        for chip in range(len(places)):
            matrix[chip, :, chip] = np.diag(precision[frames.chip == chip].sum(axis=0))
        inverse = np.array([_inverse(block) for block in own])
        across = np.zeros((len(attitudes), len(places), 3, 3))
        across[frames.exposure, frames.chip] = leads
        back = across @ inverse[:, None]
        right -= np.einsum("ecij,ej->ci", back, gradient)
        matrix -= np.einsum("ecij,edkj->cidk", back, across)
        return cls(inverse, gradient, across, matrix, right, residuals, places)

    def steps(self) -> tuple[Floats, Floats]:
        """Return the turns of places and of attitudes, shapes (chips, 3) and (exposures, 3)."""
        side = self.right.size
        turns = (_pseudo_inverse(self.matrix.reshape(side, side)) @ self.right.ravel()).reshape(-1, 3)
        rest = self.gradient - np.einsum("ecij,ci->ej", self.across, turns)
        return turns, np.einsum("eij,ej->ei", self.inverse, rest)

    def covariance(self, known: npt.NDArray[np.bool_]) -> Floats:
        """Return the covariance of each place, shape (chips, 3, 3), the mean of the known ones held."""
        side, chips = self.right.size, len(self.right)
        whole = _pseudo_inverse(self.matrix.reshape(side, side))
        shares = np.where(known, 1.0 / max(int(known.sum()), 1), 0.0)
        mean = np.einsum("cij,d,dkj->cidk", self.places, shares, self.places).reshape(side, side)
        held = np.eye(side) - mean
        each = (held @ whole @ held.T).reshape(chips, 3, chips, 3)
        return np.array([each[c, :, c] if known[c] else np.full((3, 3), math.nan) for c in range(chips)])


def _inverse(matrix: Floats) -> Floats:
    if not np.trace(matrix) > 0.0:
        return np.zeros((3, 3))
    return np.asarray(np.linalg.inv(matrix))


def _pseudo_inverse(matrix: Floats) -> Floats:
    """Return the inverse without the turns of the whole plane, which the frames do not constrain."""
    # In units in which every turn is known equally well, so that small is small for angles and directions alike.
    scale = 1.0 / np.sqrt(np.where(np.diag(matrix) > 0.0, np.diag(matrix), np.inf))
    values, vectors = np.linalg.eigh(matrix * np.outer(scale, scale))
    used = values > _NULL * max(float(values.max(initial=0.0)), 1e-300)
    inner = (vectors[:, used] / values[used]) @ vectors[:, used].T
    return np.asarray(inner * np.outer(scale, scale))


def exposures_of(mjd: Sequence[float], chip: Sequence[int], apart_s: float = 1.0) -> Indices:
    """Return the exposure of each frame: frames of different chips that began together.

    Parameters
    ----------
    mjd : sequence of float
        Middle of each exposure.
    chip : sequence of int
    apart_s : float
        Frames that are farther apart in time are of two exposures.
    """
    order = np.lexsort((chip, mjd))
    number, seen, last = -1, set[int](), -math.inf
    exposures = np.zeros(len(order), np.intp)
    for row in order:
        if mjd[row] - last > apart_s / 86400.0 or chip[row] in seen:
            number, seen = number + 1, set()
        last = mjd[row]
        seen.add(int(chip[row]))
        exposures[row] = number
    return exposures
