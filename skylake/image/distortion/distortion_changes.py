"""Detection of changes of the distortion of a camera, frame by frame in the order of time.

Each frame shows how far the common parameters of its lens are from those that were learned, and how well. The
information of frames adds up, so the last few of them are judged together: a generalised likelihood ratio over
windows that end with the newest frame (Willsky & Jones 1976, IEEE Trans. Autom. Control 21, 108). One frame that is
spoilt is no change of the camera: the others must show it too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from skylake.image.distortion.distortion_model import Distortion
from skylake.image.distortion.joint_fit import OWN, SHARED
from skylake.image.wcs.crossvalidation import inverse
from skylake.image.wcs.lens import NAMES, Lens
from skylake.image.wcs.lens_fit import StarPairs, fit_lens

Floats = npt.NDArray[np.float64]

#: Frames in a window; the longest is what has to be remembered.
_WINDOWS = (3, 5, 8, 12, 16)
MEMORY = _WINDOWS[-1]
#: The chance in one window of a change that there is not, and that whichever of its frames is left out. Five
#: windows for each frame, and most of their frames in common: one false alarm in some hundred thousand frames.
_FALSE_ALARM, _WITHOUT_ONE = 1e-6, 1e-5
#: A division of frames is judged once, not with each frame that comes: without any one of them more may be chance, if
#: no frame is less likely to agree with the others.
_WITHOUT_ONE_OF_SOME, _DISAGREEING = 1e-3, 1e-3
#: Starts whose sum of squares is less than that of the best by no more may be the right one: one frame in a thousand
#: adds as much by chance (chi-square of seven numbers). Pauses count that are so many times that before the best.
_NEARLY, _PAUSE = 25.0, 3.0
#: Frames on either side of a change among those that a distortion is first learned from.
_FEWEST_BESIDE = 2
#: How far a change must move stars to matter (pixels, root mean square over the image).
_LEAST_CHANGE_PX = 0.03
_GRID = 12


@dataclass(frozen=True, slots=True)
class Information:
    """Fisher information of frames on the common parameters, less those learned, in units of what is expected.

    Attributes
    ----------
    matrix : ndarray, shape (7, 7)
        Information, of the stars alone.
    gradient : ndarray, shape (7,)
        The same times the difference.
    """

    matrix: Floats
    gradient: Floats

    def __add__(self, other: Information) -> Information:
        return Information(self.matrix + other.matrix, self.gradient + other.gradient)

    def __sub__(self, other: Information) -> Information:
        return Information(self.matrix - other.matrix, self.gradient - other.gradient)


@dataclass(frozen=True, slots=True)
class DistortionChange:
    """A change of distortion.

    Attributes
    ----------
    start : int
        The first frame that has the new one, by its place in what was given.
    shift_px, corner_px : float
        How far stars are from where the old one puts them, after pointing and scale are fitted: root mean square
        over the image, and in the worst corner.
    chance : float
        Of a difference so large without a change.
    """

    start: int
    shift_px: float
    corner_px: float
    chance: float


def information_of(
    distortion: Distortion, lens: Lens, pairs: StarPairs, shape: tuple[int, int]
) -> Information:
    """Return what the stars of a frame say about the distortion of its camera.

    Parameters
    ----------
    distortion : Distortion
        As it was learned before.
    lens : Lens
        Of the frame, to some pixels.
    pairs : StarPairs
    shape : tuple of int
        Height and width of the image.
    """
    expected = distortion.expected(shape)
    held = fit_lens(distortion.applied(lens), pairs, OWN, expected)
    free = fit_lens(held.lens, pairs, np.arange(len(NAMES)), expected)
    units = expected.sigma[SHARED]
    away = (free.lens.parameters() - distortion.model.parameters())[SHARED] / units
    known = inverse(free.covariance[np.ix_(SHARED, SHARED)]) * np.outer(units, units)
    # The prior of any lens pulls the fit towards the learned values; here only the stars should count.
    return Information(known - np.eye(len(SHARED)), known @ away)


def spread_of(distortion: Distortion, frames: Sequence[Information], shape: tuple[int, int]) -> float:
    """Return how many times the variance that their stars explain the frames of an epoch differ by; at least 1."""
    return _spread_of([_judge(distortion, frame, shape)[:2] for frame in frames])


def _spread_of(judged: Sequence[tuple[float, int]]) -> float:
    """Return how many times its median, by chance, the sum of squares of so many numbers is; at least 1."""
    from scipy.special import gammaincinv

    ratios = [squares / (2.0 * float(gammaincinv(0.5 * number, 0.5))) for squares, number in judged if number]
    return max(1.0, float(np.median(ratios))) if ratios else 1.0


def find_change(
    distortion: Distortion, frames: Sequence[Information], times: Sequence[float], shape: tuple[int, int]
) -> DistortionChange | None:
    """Return whether the last frames want another distortion, and since when.

    Cameras are touched while they do not observe, so of starts that are nearly as good that after the longest pause
    is taken.

    Parameters
    ----------
    distortion : Distortion
    frames : sequence of Information
        That of the frames up to the newest, in the order of time; the last :data:`MEMORY` of them count.
    times : sequence of float
        Of the frames.
    shape : tuple of int
    """
    alarms = [shows_change(distortion, frames[-size:], shape) for size in _WINDOWS if size <= len(frames)]
    if not any(alarms):
        return None
    first = max(len(frames) - MEMORY, 0)
    starts = range(first, len(frames) - 1)
    judged = {n: _judge(distortion, reduce(add, frames[n:]), shape)[0] / distortion.spread for n in starts}
    start = _likeliest(judged, times)
    if len(frames) - start < _WINDOWS[0]:
        return None  # so few frames do not make an epoch: the next ones will show
    return change_at(distortion, frames, start, shape)


def change_at(
    distortion: Distortion, frames: Sequence[Information], start: int, shape: tuple[int, int]
) -> DistortionChange:
    """Return the change that frames show from one of them on.

    Parameters
    ----------
    distortion : Distortion
        As it was before.
    frames : sequence of Information
    start : int
        The first frame with the new one, by its place.
    shape : tuple of int
    """
    squares, number, away = _judge(distortion, reduce(add, frames[start:]), shape)
    shift = displacement(distortion.model, away, shape)
    return DistortionChange(start, *shift, _chance(squares / distortion.spread, number))


def _likeliest(judged: Mapping[int, float], times: Sequence[float]) -> int:
    """Return the start with the largest sum of squares, or of those nearly as good that after the longest pause."""
    best = max(judged.values())
    pauses = {n: times[n] - times[n - 1] if n else 0.0 for n in judged if judged[n] > best - _NEARLY}
    start = max(pauses, key=lambda n: judged[n])
    longest = max(pauses, key=lambda n: (pauses[n], judged[n]))
    return longest if pauses[longest] > _PAUSE * pauses[start] else start


def likely_division(
    distortion: Distortion, frames: Sequence[Information], times: Sequence[float], shape: tuple[int, int]
) -> int | None:
    """Return where frames that a distortion was learned from divide best into those before and after a change.

    Such a distortion lies between the old one and the new, so that neither side need contradict it: the two
    sides are compared with each other. Their information is linear about it, so it need not be right. At least two
    frames are on either side; one alone may be spoilt.

    Parameters
    ----------
    distortion : Distortion
        Learned from all of them.
    frames : sequence of Information
    times : sequence of float
        Of the frames.
    shape : tuple of int

    Returns
    -------
    int or None
        The first frame after the change, by its place; None where chance alone would divide them so. Whether it
        is a change is to be judged by :func:`shows_division`, against what is learned from one side.
    """
    starts = range(_FEWEST_BESIDE, len(frames) - _FEWEST_BESIDE + 1)
    if not starts:
        return None
    # Over a change the frames of all pairs of neighbours but one agree.
    neighbours = [
        _between(distortion, frames[n : n + 1], frames[n + 1 : n + 2], shape) for n in range(len(frames) - 1)
    ]
    spread = _spread_of(neighbours)
    differences = {n: _between(distortion, frames[:n], frames[n:], shape) for n in starts}
    start = _likeliest({n: squares / spread for n, (squares, _) in differences.items()}, times)
    squares, number = differences[start]
    return start if _chance(squares / spread, number) < _FALSE_ALARM else None


def _between(
    distortion: Distortion,
    before: Sequence[Information],
    after: Sequence[Information],
    shape: tuple[int, int],
) -> tuple[float, int]:
    """Return the sum of squares of the difference between two groups of frames, and of how many numbers."""
    units = distortion.expected(shape).sigma[SHARED]
    earlier, later = reduce(add, before), reduce(add, after)
    covariance = inverse(earlier.matrix + np.eye(len(SHARED)))
    known = replace(distortion, covariance=covariance * np.outer(units, units))
    beside = Information(later.matrix, later.gradient - later.matrix @ (covariance @ earlier.gradient))
    return _judge(known, beside, shape)[:2]


def shows_division(distortion: Distortion, beside: Sequence[Information], shape: tuple[int, int]) -> bool:
    """Return whether the frames on one side of a likely division want another distortion than those on the other.

    As :func:`shows_change`; in addition, frames that agree with each other need less evidence each: one that is spoilt
    would not agree with the others.

    Parameters
    ----------
    distortion : Distortion
        Learned from the other side.
    beside : sequence of Information
        At least two.
    shape : tuple of int
    """
    if shows_change(distortion, beside, shape):
        return True
    if not shows_change(distortion, beside, shape, _WITHOUT_ONE_OF_SOME):
        return False
    apart = (
        _between(distortion, [frame], [*beside[:n], *beside[n + 1 :]], shape)
        for n, frame in enumerate(beside)
    )
    return all(_chance(squares / distortion.spread, number) > _DISAGREEING for squares, number in apart)


def shows_change(
    distortion: Distortion,
    window: Sequence[Information],
    shape: tuple[int, int],
    without_one: float = _WITHOUT_ONE,
) -> bool:
    """Return whether frames want another distortion, and not one of them alone.

    Parameters
    ----------
    distortion : Distortion
        Learned from other frames.
    window : sequence of Information
        At least two.
    shape : tuple of int
    without_one : float
        The chance that is left of a change that there is not, whichever frame is left out.
    """
    whole = reduce(add, window)
    wanted = [(whole, _FALSE_ALARM), *((whole - frame, without_one) for frame in window)]
    for information, chance in wanted:
        squares, number, away = _judge(distortion, information, shape)
        if number == 0 or _chance(squares / distortion.spread, number) > chance:
            return False
    return displacement(distortion.model, away, shape)[0] >= _LEAST_CHANGE_PX


def _judge(
    distortion: Distortion, information: Information, shape: tuple[int, int]
) -> tuple[float, int, Floats]:
    """Return the sum of squares of a difference, of how many numbers, and the difference of the parameters.

    Directions of which the stars say less than is expected of any lens do not count.
    """
    units = distortion.expected(shape).sigma[SHARED]
    strength, ways = np.linalg.eigh(information.matrix)
    used = strength > 1.0
    if not used.any():
        return 0.0, 0, np.zeros(len(SHARED))
    ways, strength = ways[:, used], strength[used]
    away = (ways.T @ information.gradient) / strength
    learned = ways.T @ (distortion.covariance / np.outer(units, units)) @ ways
    variance = np.diag(1.0 / strength) + learned
    return float(away @ np.linalg.solve(variance, away)), int(used.sum()), (ways @ away) * units


def _chance(squares: float, number: int) -> float:
    from scipy.special import gammaincc

    return float(gammaincc(0.5 * number, 0.5 * squares)) if number else 1.0


def displacement(model: Lens, away: Floats, shape: tuple[int, int]) -> tuple[float, float]:
    """Return how far a difference of the common parameters moves stars once a frame is pointed anew.

    Parameters
    ----------
    model : Lens
    away : ndarray, shape (7,)
        Of the parameters :data:`SHARED`.
    shape : tuple of int

    Returns
    -------
    rms_px, most_px : float
        Over the image.
    """
    y, x = (
        axis.ravel()
        for axis in np.meshgrid(*(np.linspace(0.0, n - 1.0, _GRID) for n in shape), indexing="ij")
    )
    derivatives = np.nan_to_num(model.derivatives(model.to_vectors(x, y))[1])
    moved = np.tensordot(away, derivatives[SHARED], axes=1).ravel()
    own = derivatives[OWN].reshape(len(OWN), -1).T
    scale = np.maximum(np.linalg.norm(own, axis=0), np.finfo(float).tiny)
    left = moved - (own / scale) @ np.linalg.lstsq(own / scale, moved, rcond=None)[0]
    squares = np.sum(left.reshape(2, -1) ** 2, axis=0)
    return math.sqrt(float(squares.mean())), math.sqrt(float(squares.max()))
