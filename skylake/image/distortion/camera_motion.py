"""Motion of a camera between frames: its attitude at an instant, and the error of that.

A camera that follows the stars keeps its attitude against the sky, one that stands still keeps it against the ground;
a wrong axis, a wrong rate or the rotation of the field of an altazimuth mount turn it slowly. So attitudes are
rotations from the frame in which the camera moves least, and lie between two frames on the shortest turn from one to
the other (Shoemake 1985, SIGGRAPH 19, 245). How far from there a frame really is follows from the frames themselves:
each is predicted from every pair around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from skylake.core.ephemeris import earth_rotation
from skylake.core.robust import MAD_TO_SIGMA
from skylake.image.wcs.lens import Lens

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Ground = Literal["sky", "horizon"]

#: A camera that moves farther from one frame to the next has been turned to another field (degrees).
SLEW_DEG = 1.0
_GRID = 5
#: Minutes in a unit of the terms of the variance: what the unit is does not matter.
_UNIT_DAYS = 1.0 / 1440.0
_ROUNDS = 12
_LEAST_VARIANCE = 1e-6
#: The chance that neighbours of one field seem to disagree, and a disagreement that is no other field (pixels).
_FALSE_ALARM = 1e-3
_LEAST_STEP_PX = 1.0
#: So many frames have to be predicted by others before it can be said how well that goes.
_LEAST_PREDICTED = 2
#: The chance at which a frame is left alone where its field has too few frames to say about a step.
_DOUBT = 1e-2
#: Frames may be so many times farther apart than those of other fields over which others were predicted.
_LONGER = 2.0
#: Where two frames are all that is known, they may be no farther apart than this; and what is taken for the least way
#: that a camera moves, since two frames may agree by chance (pixels).
_SHORT_DAYS, _MOST_MOVED_PX, _CHANCE_PX = 10.0 / 1440.0, 20.0, 0.7


def to_ground(mjd: npt.ArrayLike, ground: Ground) -> Floats:
    """Return the matrices from ICRS to the sky or to the turning ground, shape (..., 3, 3)."""
    times = np.asarray(mjd, float)
    if ground == "horizon":
        return earth_rotation(times)
    return np.broadcast_to(np.eye(3), (*times.shape, 3, 3))


def stillest(mjd: Floats, axes: Floats) -> tuple[Ground, npt.NDArray[np.bool_]]:
    """Return in which frame a camera moves least from frame to frame, and after which frames it was slewed there.

    Parameters
    ----------
    mjd : ndarray, shape (n,)
        In the order of time.
    axes : ndarray, shape (n, 3)
        Where the centres of the images point, ICRS.

    Returns
    -------
    ground : str
        ``sky`` or ``horizon``.
    slewed : ndarray of bool, shape (n - 1,)
    """
    moved: dict[Ground, Floats] = {}
    for ground in ("sky", "horizon"):
        there = np.einsum("nij,nj->ni", to_ground(mjd, ground), axes)
        chords = np.linalg.norm(np.diff(there, axis=0), axis=1)
        moved[ground] = np.degrees(2.0 * np.arcsin(np.minimum(0.5 * chords, 1.0)))
    medians = {ground: float(np.median(angles)) if angles.size else 0.0 for ground, angles in moved.items()}
    best: Ground = "horizon" if medians["horizon"] < medians["sky"] else "sky"
    return best, moved[best] > SLEW_DEG


@dataclass(frozen=True, slots=True)
class InterpolatedLens:
    """Where a camera points between two frames.

    Attributes
    ----------
    lens : Lens
    err_px : float
        Root mean square distance, over the image, from where it really points; both coordinates together.
    """

    lens: Lens
    err_px: float


@dataclass(frozen=True, slots=True)
class Track:
    """Frames of one field, in the order of time, all seen through one lens.

    Attributes
    ----------
    mjd : ndarray, shape (n,)
    attitudes : ndarray, shape (n, 3, 3)
        From the ground to the camera.
    ground : str
    lens : Lens
        The lens that all share; its own attitude does not matter.
    metric : ndarray, shape (3, 3)
        Mean square, over the image, of the way (pixels) of a small turn about the axes of the camera (rad).
    misfit_px : float
        Root mean square distance of the lenses of the frames from the shared one, after turning them to it.
    """

    mjd: Floats
    attitudes: Floats
    ground: Ground
    lens: Lens
    metric: Floats
    misfit_px: float

    @classmethod
    def of(
        cls, mjd: Floats, lenses: list[Lens], shared: Lens, shape: tuple[int, int], ground: Ground
    ) -> Track:
        """Return the track of frames whose lenses are known; each is turned to where its pixels point."""
        upright = shared.turned(shared.matrix.T)
        rays, places = _grid(upright, shape)
        metric = turn_metric(upright, shape)
        matrices, misfit = [], 0.0
        for lens in lenses:
            seen = lens.to_vectors(*places)
            known = np.isfinite(seen).all(axis=1)
            matrices.append(_turn(rays[known], seen[known]))
            there = np.array(upright.turned(matrices[-1]).to_pixels(seen[known]))
            misfit += float(np.nanmean(np.sum((there - places[:, known]) ** 2, axis=0))) / len(lenses)
        to_sky = np.swapaxes(to_ground(mjd, ground), -1, -2)
        return cls(mjd, np.array(matrices) @ to_sky, ground, upright, metric, math.sqrt(misfit))

    def between(
        self, mjd: float, before: int, fit_px: float = 0.0, others: Sequence[Track] = ()
    ) -> InterpolatedLens | None:
        """Return where the camera points at an instant between the frames `before` and the next.

        Parameters
        ----------
        mjd : float
        before : int
        fit_px : float
            How well stars give the place of a frame: so much of what frames differ by is no motion.
        others : sequence of Track
            Other fields of the night. Where the frames of this one are too few to predict each other, those of others
            show how well that goes, and how far the camera moves between frames.

        Returns
        -------
        Between or None
            None if the frames show that the field may be another after the instant than before it, or are too far
            apart for what is known of the camera.
        """
        triples, others = _Triples.of(self, before), [track for track in others if len(track.mjd) > 2]
        if triples.n_predicted < _LEAST_PREDICTED:
            triples = _Triples.beside(others)
            if triples.n_predicted < _LEAST_PREDICTED:
                return self._between_two(mjd, before)
            if not self._moves_as(others, before):
                return None
        elif triples.parted():
            return None
        first, last = self.mjd[before], self.mjd[before + 1]
        terms = _terms(np.array([first]), np.array([mjd]), np.array([last]))
        # Few frames give their variance badly. Of Student's factor, n / (n - 1), less is left where they are more,
        # since terms of which none is below 0 come out too large then.
        n = triples.n_predicted
        parts = triples.variances(np.ones(triples.squares.size, bool))
        # The frame that was predicted had an error of its own, which belongs to none that is still to be placed.
        variance = (float(terms[0] @ parts) - min(fit_px**2, float(parts[0]))) * (1.0 + 2.0 / (n * (n - 1)))
        return InterpolatedLens(self._lens_at(mjd, before), math.sqrt(max(variance, 0.0) + self.misfit_px**2))

    def _lens_at(self, mjd: float, before: int) -> Lens:
        """Return the lens on the shortest turn from a frame to the next."""
        share = (mjd - self.mjd[before]) / (self.mjd[before + 1] - self.mjd[before])
        attitude = _moved(self.attitudes[[before]], self.attitudes[[before + 1]], np.array([share]))[0]
        return self.lens.turned(attitude @ to_ground(mjd, self.ground))

    def _between_two(self, mjd: float, before: int) -> InterpolatedLens | None:
        """Return the same where the two frames are all that is known of the camera, if they are near to each other.

        How far it has moved between them bounds the error. Wind that differs from frame to frame gives three quarters
        of the squared distance, a step anywhere between them or a random walk a quarter, a steady drift nothing.
        """
        gap = float(self.mjd[before + 1] - self.mjd[before])
        moved = gap * float(np.linalg.norm(self._rates()[before]))
        if gap > _SHORT_DAYS or moved > _MOST_MOVED_PX:
            return None
        variance = 0.75 * (moved**2 + _CHANCE_PX**2)
        return InterpolatedLens(self._lens_at(mjd, before), math.sqrt(variance + self.misfit_px**2))

    def _moves_as(self, others: Sequence[Track], before: int) -> bool:
        """Return whether the camera has moved between two frames as between those of other fields, and in such a time.

        A drift takes it along a little more or less in each field; a step, as to another place of a field, is known by
        being longer than the others by more than chance.
        """
        from scipy.special import fdtrc

        gap = float(self.mjd[before + 1] - self.mjd[before])
        if gap > _LONGER * max(float(np.max(track.mjd[2:] - track.mjd[:-2])) for track in others):
            return False
        rates = np.concatenate([track._rates(2) for track in others])
        middle = np.median(rates, axis=0)
        spread = float(np.sum((MAD_TO_SIGMA * np.median(np.abs(rates - middle), axis=0)) ** 2))
        away = float(np.sum((self._rates()[before] - middle) ** 2))
        if away * gap**2 <= _LEAST_STEP_PX**2:
            return True
        return bool(spread > 0.0 and fdtrc(2, 2 * len(rates), away / spread) >= _DOUBT)

    def _rates(self, apart: int = 1) -> Floats:
        """Return how the camera turned from frames to others `apart` later, pixels a day about three axes, (n, 3)."""
        from scipy.spatial.transform import Rotation

        length = self.mjd[apart:] - self.mjd[:-apart]
        later, earlier = self.attitudes[apart:], self.attitudes[:-apart]
        turns = Rotation.from_matrix(later @ np.swapaxes(earlier, -1, -2)).as_rotvec()
        moves = turns @ np.linalg.cholesky(self.metric) / np.where(length > 0.0, length, 1.0)[:, None]
        # Frames of one and the same time give no rate.
        return np.asarray(np.where(length[:, None] > 0.0, moves, 0.0))


def _grid(lens: Lens, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return directions all over an image, shape (n, 3), and their pixels, shape (2, n), where the lens shows any."""
    y, x = (
        axis.ravel()
        for axis in np.meshgrid(*(np.linspace(0.0, n - 1.0, _GRID) for n in shape), indexing="ij")
    )
    rays = lens.to_vectors(x, y)
    shown = np.isfinite(rays).all(axis=1)
    return rays[shown], np.array([x[shown], y[shown]])


def turn_metric(lens: Lens, shape: tuple[int, int]) -> Floats:
    """Return the mean square, over an image, of the way (pixels) of small turns (rad) about the axes of its camera.

    Returns
    -------
    ndarray, shape (3, 3)
        To be multiplied with a turn from both sides; the trace of its product with a covariance is a mean variance.
    """
    rays, _ = _grid(lens, shape)
    derivatives = lens.derivatives(rays)[1][:3]
    return np.asarray(np.einsum("icn,jcn->ij", derivatives, derivatives) / len(rays))


def _turn(camera: Floats, sky: Floats) -> Floats:
    """Return the rotation from the sky to the camera that leads directions there best (Kabsch 1976)."""
    left, _, right = np.linalg.svd(camera.T @ sky)
    handed = np.diag([1.0, 1.0, np.linalg.det(left @ right)])
    return np.asarray(left @ handed @ right)


def _moved(first: Floats, last: Floats, share: Floats) -> Floats:
    """Return the attitudes at a share of the turns from the first to the last; shape (n, 3, 3)."""
    from scipy.spatial.transform import Rotation

    start = Rotation.from_matrix(first)
    turns = (Rotation.from_matrix(last) * start.inv()).as_rotvec()
    return np.asarray((Rotation.from_rotvec(share[:, None] * turns) * start).as_matrix())


def _terms(first: Floats, middle: Floats, last: Floats) -> Floats:
    """Return how the variance of a prediction grows with what moves a camera, shape (n, 3).

    What differs from frame to frame, as wind; a random walk; and a turn whose speed changes steadily.
    """
    length = (last - first) / _UNIT_DAYS
    share = (middle - first) / (last - first)
    rest = share * (1.0 - share)
    return np.column_stack([1.0 + share**2 + (1.0 - share) ** 2, length * rest, (length**2 * rest) ** 2])


@dataclass(frozen=True, slots=True)
class _Triples:
    """Frames predicted from pairs around them.

    Attributes
    ----------
    squares : ndarray, shape (n,)
        Squared distance from the prediction, pixels.
    terms : ndarray, shape (n, 3)
    middle : ndarray of int, shape (n,)
        Which frame was predicted.
    across : ndarray of bool, shape (n,)
        Whether the instant in question lies between the three.
    """

    squares: Floats
    terms: Floats
    middle: Indices
    across: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, track: Track, before: int) -> _Triples:
        """Predict each frame of a track from each pair around it."""
        i, j, k = (axis.ravel() for axis in np.meshgrid(*[np.arange(len(track.mjd))] * 3, indexing="ij"))
        return cls._predicted(track, i, j, k, before)

    @classmethod
    def beside(cls, tracks: Sequence[Track]) -> _Triples:
        """Predict each frame of other fields from the one before and the one after it."""
        triples = []
        for track in tracks:
            j = np.arange(1, len(track.mjd) - 1)
            triples.append(cls._predicted(track, j - 1, j, j + 1, -1))
        squares = np.concatenate([np.zeros(0), *(triple.squares for triple in triples)])
        terms = np.concatenate([np.zeros((0, 3)), *(triple.terms for triple in triples)])
        return cls(squares, terms, np.arange(squares.size), np.zeros(squares.size, bool))

    @classmethod
    def _predicted(cls, track: Track, i: Indices, j: Indices, k: Indices, before: int) -> _Triples:
        """Predict frames `j` from pairs of frames `i` and `k`, where they lie between them in time."""
        from scipy.spatial.transform import Rotation

        mjd = track.mjd
        some = (mjd[i] < mjd[j]) & (mjd[j] < mjd[k])
        i, j, k = i[some], j[some], k[some]
        terms = _terms(mjd[i], mjd[j], mjd[k]) if i.size else np.zeros((0, 3))
        if i.size == 0:
            return cls(np.zeros(0), terms, j, np.zeros(0, bool))
        predicted = _moved(track.attitudes[i], track.attitudes[k], (mjd[j] - mjd[i]) / (mjd[k] - mjd[i]))
        off = track.attitudes[j] @ np.swapaxes(predicted, -1, -2)
        turns = Rotation.from_matrix(off).as_rotvec()
        squares = np.einsum("ni,ij,nj->n", turns, track.metric, turns)
        return cls(squares, terms, j, (i <= before) & (k > before))

    @property
    def n_predicted(self) -> int:
        """How many frames were predicted."""
        return np.unique(self.middle).size

    def variances(self, some: npt.NDArray[np.bool_]) -> Floats:
        """Return the variance that belongs to each term, none below 0, fitted under its own weights; shape (3,)."""
        from scipy.optimize import nnls

        terms, squares = self.terms[some], self.squares[some]
        expected = np.full(squares.size, max(float(squares.mean()), _LEAST_VARIANCE))
        solution: Any = np.zeros(3)
        for _ in range(_ROUNDS):
            solution, _ = nnls(terms / expected[:, None], squares / expected)
            expected = np.maximum(terms @ solution, _LEAST_VARIANCE)
        return np.asarray(solution)

    def parted(self) -> bool:
        """Return whether frames before and after an instant disagree by more than those of one side among themselves.

        The ratio of variances follows the distribution of F, two coordinates to each frame.
        """
        from scipy.special import fdtrc

        beside = ~self.across
        if not beside.any() or beside.all():
            return False
        expected = np.maximum(self.terms @ self.variances(beside), _LEAST_VARIANCE)
        freedom = 2 * np.unique(self.middle[beside]).size
        chance = fdtrc(2, freedom, self.squares[self.across] / expected[self.across])
        return bool(((chance < _FALSE_ALARM) & (self.squares[self.across] > _LEAST_STEP_PX**2)).any())
