"""Distortion of a camera through its frames in the order of time: learned anew when it changes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skylake.image.distortion.distortion_changes import (
    MEMORY,
    DistortionChange,
    Information,
    change_at,
    find_change,
    information_of,
    likely_division,
    shows_division,
    spread_of,
)
from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.distortion.distortion_model import Distortion, fitted_groups, learn_distortion
from skylake.image.distortion.joint_fit import OWN
from skylake.image.wcs.lens import NAMES, Lens
from skylake.image.wcs.lens_fit import LensPrior, StarPairs, fit_lens
from skylake.image.wcs.lens_order import with_projection

#: Frames from which a distortion is first learned, and the fewest of them; with fewer stars altogether it is not.
_FIRST_FRAMES, _FEWEST_FRAMES, _FEWEST_STARS = 12, 3, 100
#: Frames from which the distortion before a change is learned: if there are only two, they agree with each other.
_FEWEST_AGAIN = 2


@dataclass(frozen=True, slots=True)
class MatchedFrame:
    """A frame with its stars.

    Attributes
    ----------
    frame_id : int
    mjd : float
        Middle of the exposure, UTC.
    lens : Lens
        Right to some pixels.
    pairs : StarPairs
        Matched so widely that stars are not lost if the distortion has changed.
    """

    frame_id: int
    mjd: float
    lens: Lens
    pairs: StarPairs


@dataclass(frozen=True, slots=True)
class Origin:
    """What epochs are made with: the camera's image, the catalog of the stars, and the software."""

    shape: tuple[int, int]
    catalog: str
    software: str

    def learn(
        self, frames: Sequence[MatchedFrame], like: Epoch | None = None, why: str = "the first"
    ) -> Epoch:
        """Learn a distortion from frames, as the next version of an epoch if one is given, else as the first."""
        lenses = _of_one_projection(frames, self.shape)
        pairs = [frame.pairs for frame in frames]
        distortion, placed = learn_distortion(lenses, pairs, self.shape)
        information = [
            information_of(distortion, lens, some, self.shape)
            for lens, some in zip(placed, pairs, strict=True)
        ]
        distortion = replace(distortion, spread=spread_of(distortion, information, self.shape))
        times = [frame.mjd for frame in frames]
        made = Epoch(
            1,
            1,
            -math.inf,
            math.inf,
            min(times),
            max(times),
            len(frames),
            self.shape,
            distortion,
            _rms_px(placed, pairs),
            self._held_out_px(distortion, lenses, pairs),
            self.catalog,
            _sha256(frames),
            self.software,
            why,
        )
        if like is None:
            return made
        return replace(
            made,
            number=like.number,
            version=like.version,
            valid_from=like.valid_from,
            valid_to=like.valid_to,
            first_mjd=min(like.first_mjd, made.first_mjd),
            last_mjd=max(like.last_mjd, made.last_mjd),
            n_seen=max(like.n_seen, made.n_seen),
            why=like.why,
        )

    def _held_out_px(self, whole: Distortion, lenses: Sequence[Lens], pairs: Sequence[StarPairs]) -> float:
        """Return how far stars of every other frame are from where the distortion of the others puts them."""
        if len(lenses) < 2 * _FEWEST_FRAMES:
            return math.nan
        groups = fitted_groups(whole.model, self.shape)
        distortion, _ = learn_distortion(lenses[::2], pairs[::2], self.shape, groups=groups)
        known = distortion.expected(self.shape)
        held = [
            fit_lens(distortion.applied(lens), some, OWN, known).lens
            for lens, some in zip(lenses[1::2], pairs[1::2], strict=True)
        ]
        return _rms_px(held, pairs[1::2])


def _of_one_projection(frames: Sequence[MatchedFrame], shape: tuple[int, int]) -> list[Lens]:
    """Return the lenses of frames, all with the projection that most of them have."""
    names = [frame.lens.projection for frame in frames]
    projection = max(sorted(set(names)), key=names.count)
    lenses = []
    for frame in frames:
        lens = frame.lens
        if lens.projection != projection:
            start = with_projection(lens, projection)
            lens = fit_lens(start, frame.pairs, np.arange(len(NAMES)), LensPrior.default(start, shape)).lens
        lenses.append(lens)
    return lenses


def residuals_of(lens: Lens, pairs: StarPairs) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return measured minus predicted places, pixels, shape (2, n)."""
    return np.array([pairs.x, pairs.y]) - np.array(lens.to_pixels(pairs.vectors))


def _rms_px(lenses: Sequence[Lens], pairs: Sequence[StarPairs]) -> float:
    """Return the root mean square distance of stars from their lenses, without the one in a hundred farthest off."""
    squares = np.concatenate(
        [np.sum(residuals_of(lens, some) ** 2, axis=0) for lens, some in zip(lenses, pairs, strict=True)]
    )
    squares = np.sort(squares[np.isfinite(squares)])[: max(1, math.ceil(0.99 * squares.size))]
    return math.sqrt(float(squares.mean())) if squares.size else math.nan


def _sha256(frames: Sequence[MatchedFrame]) -> str:
    content = "\n".join(str(number) for number in sorted(frame.frame_id for frame in frames))
    return hashlib.sha256(content.encode()).hexdigest()


def divided(frames: Sequence[MatchedFrame], origin: Origin) -> list[list[MatchedFrame]]:
    """Return frames in the order of time, those of one distortion together.

    The longer part of the likeliest division is learned, and the other one must contradict it: as a
    whole, and whichever of its frames is left out. Then each part is looked at by itself.

    Parameters
    ----------
    frames : sequence of MatchedFrame
        Of one parity.
    origin : Origin

    Returns
    -------
    list of list of MatchedFrame
        One list if nothing has changed.
    """
    return [some for some, _ in _learned_parts(frames, origin)]


def _learned_parts(
    frames: Sequence[MatchedFrame], origin: Origin, learned: Epoch | None = None
) -> list[tuple[list[MatchedFrame], Epoch]]:
    """Return the parts of :func:`divided` with the epoch learned from each; `learned` is that of all, if known."""
    whole = origin.learn(frames) if learned is None else learned
    distortion, shape = whole.distortion, origin.shape
    information = [information_of(distortion, frame.lens, frame.pairs, shape) for frame in frames]
    start = likely_division(distortion, information, [frame.mjd for frame in frames], shape)
    if start is None:
        return [(list(frames), whole)]
    sides = [frames[:start], frames[start:]]
    shorter, longer = sorted(sides, key=len)
    other = origin.learn(longer)
    known = other.distortion
    if not shows_division(
        known, [information_of(known, frame.lens, frame.pairs, shape) for frame in shorter], shape
    ):
        return [(list(frames), whole)]
    return [
        part for side in sides for part in _learned_parts(side, origin, other if side is longer else None)
    ]


class Follower:
    """Takes frames in the order of time; an epoch begins when they want another distortion than before.

    Parameters
    ----------
    origin : Origin
    epoch : Epoch or None
        The last one that is known.
    number : int
        Of the first epoch if none is known.

    Attributes
    ----------
    epochs : list of Epoch
        The one that was known, as it is now, and those that began.
    """

    def __init__(self, origin: Origin, epoch: Epoch | None = None, number: int = 1) -> None:
        self._origin, self._number = origin, number
        self.epochs = [] if epoch is None else [epoch]
        self._waiting: list[MatchedFrame] = []
        #: Those that the last epoch was learned from, if it began here.
        self._learned: list[MatchedFrame] = []
        self._last: list[tuple[MatchedFrame, Information]] = []
        self._before = -math.inf if epoch is None else epoch.first_mjd

    def remember(self, frame: MatchedFrame) -> None:
        """Take a frame that was taken before: it is compared with those to come, and not judged."""
        self._note(frame)

    def take(self, frame: MatchedFrame) -> DistortionChange | None:
        """Take the next frame; return the change that it reveals, if it does."""
        if not self.epochs:
            self._waiting.append(frame)
            if len(self._waiting) >= _FIRST_FRAMES:
                self._begin()
            return None
        self._note(frame)
        epoch = self.epochs[-1]
        information, times = [seen for _, seen in self._last], [seen.mjd for seen, _ in self._last]
        change = find_change(epoch.distortion, information, times, self._origin.shape)
        if change is None:
            self.epochs[-1] = replace(epoch, last_mjd=frame.mjd, n_seen=epoch.n_seen + 1)
        else:
            self._change(epoch, change)
        return change

    def finish(self) -> None:
        """Learn from the frames that there are, if they suffice."""
        if not self.epochs and self._waiting:
            self._begin()

    def _note(self, frame: MatchedFrame) -> None:
        information = information_of(self.epochs[-1].distortion, frame.lens, frame.pairs, self._origin.shape)
        self._last.append((frame, information))
        if len(self._last) > MEMORY:
            self._before = self._last.pop(0)[0].mjd

    def _begin(self) -> None:
        """Learn the first epoch, and those after it if something changes among its frames."""
        frames, self._waiting = self._waiting, []
        stars = sum(len(frame.pairs.x) for frame in frames)
        if len(frames) < _FEWEST_FRAMES or stars < _FEWEST_STARS:
            self._waiting = frames
            return
        (first, learned), *others = _learned_parts(frames, self._origin)
        self.epochs = [replace(learned, number=self._number)]
        self._before, self._learned = first[0].mjd, first
        for frame in first:
            self._note(frame)
        for some, _ in others:
            if len(some) < _FEWEST_FRAMES:
                for frame in some:
                    self.take(frame)
                continue
            change = self._found_by(some)
            for frame in some:
                self._note(frame)
            self._change(self.epochs[-1], change)

    def _found_by(self, frames: Sequence[MatchedFrame]) -> DistortionChange:
        """Return the change that frames show, which follow those that were taken."""
        epoch, shape = self.epochs[-1], self._origin.shape
        information = [information_of(epoch.distortion, frame.lens, frame.pairs, shape) for frame in frames]
        return change_at(
            epoch.distortion, [*(frame for _, frame in self._last), *information], len(self._last), shape
        )

    def _change(self, epoch: Epoch, change: DistortionChange) -> None:
        """Begin an epoch with the frames that have a new distortion."""
        new = [frame for frame, _ in self._last[change.start :]]
        before = self._last[change.start - 1][0].mjd if change.start else self._before
        since = 0.5 * (before + new[0].mjd)
        epoch = self._without(epoch, before)
        n_seen = max(epoch.n_seen - (len(new) - 1), epoch.distortion.n_frames)
        self.epochs[-1] = replace(epoch, valid_to=since, last_mjd=before, n_seen=n_seen)
        why = (
            f"stars are {change.corner_px:.2f} px from where epoch {epoch.number} puts them in the worst corner, "
            f"{change.shift_px:.2f} px root mean square, though frames are pointed anew"
        )
        learned = self._origin.learn(new, why=why)
        self.epochs.append(
            replace(learned, number=epoch.number + 1, valid_from=since, valid_to=epoch.valid_to)
        )
        self._last, self._before, self._learned = [], before, new
        for frame in new:
            self._note(frame)

    def _without(self, epoch: Epoch, last_mjd: float) -> Epoch:
        """Return an epoch learned without the last of its frames, where these turn out to have another distortion."""
        mine = [frame for frame in self._learned if frame.mjd <= last_mjd]
        if len(mine) == len(self._learned) or len(mine) < _FEWEST_AGAIN:
            return epoch
        again = self._origin.learn(mine, why=epoch.why)
        return replace(again, number=epoch.number, valid_from=epoch.valid_from, n_seen=epoch.n_seen)
