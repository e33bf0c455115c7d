"""Where a frame points whose own stars do not show it, from the frames before and after."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skylake.image.distortion.camera_motion import Ground, InterpolatedLens, Track, stillest, to_ground
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import lens_text

#: Frames on either side, at most, and how long before or after they may be.
EACH_SIDE = 5
_LONGEST_DAYS = 1.0 / 24.0
#: So many frames of a field show how well they predict each other; where there are fewer, so many other fields do.
_ENOUGH, _FIELDS = 4, 8
#: A frame lies within so many errors, and no nearer or farther than this, of where its neighbours put it (pixels).
_SIGMAS = 4.0
_NEAR_PX, _FAR_PX = 3.0, 20.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A frame whose stars show where it points.

    Attributes
    ----------
    frame_id : int
    mjd : float
        Of the middle of the exposure.
    lens : Lens
    n_stars : int
        Behind the lens.
    fit_px : float
        Error of places by the lens, root mean square over the image, both coordinates together.
    bias_px : float
        What may be wrong with all lenses in the same way, as those of headers.
    """

    frame_id: int
    mjd: float
    lens: Lens
    n_stars: int
    fit_px: float = 0.0
    bias_px: float = 0.0


@dataclass(frozen=True, slots=True)
class Prior:
    """Where a frame may point.

    Attributes
    ----------
    hints : tuple of (Lens, float)
        Lenses that may be that of the frame, the likeliest first, and how far off (pixels).
    between : InterpolatedLens or None
        Its place by interpolation; None if neighbours do not enclose it or are of different fields.
    text : str
        The frames before and after, by frame_id, and a digest of what follows from them.
    """

    hints: tuple[tuple[Lens, float], ...]
    between: InterpolatedLens | None
    text: str


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The frames of a night and one size whose pointing is known, in the order of time."""

    frames: tuple[Neighbour, ...]
    shape: tuple[int, int]
    ground: Ground
    slewed: tuple[bool, ...]

    @classmethod
    def of(cls, frames: Sequence[Neighbour], shape: tuple[int, int]) -> Neighbours:
        """Return them, and find out where the camera was slewed."""
        ordered = tuple(sorted(frames, key=lambda one: (one.mjd, one.frame_id)))
        centre = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
        axes = np.array([one.lens.to_vectors(*centre) for one in ordered]).reshape(-1, 3)
        ground, slewed = stillest(np.array([one.mjd for one in ordered]), axes)
        return cls(ordered, shape, ground, tuple(slewed.tolist()))

    def prior(self, mjd: float) -> Prior | None:
        """Return where a frame of some time may point; None if no other frame is near in time."""
        times = [one.mjd for one in self.frames]
        place = int(np.searchsorted(times, mjd))
        before = [one for one in self._before(place) if mjd - one.mjd <= _LONGEST_DAYS]
        after = [one for one in self._after(place) if one.mjd - mjd <= _LONGEST_DAYS]
        if not before and not after:
            return None
        same = bool(before and after) and not self.slewed[place - 1]
        between = self._between(before, after, mjd) if same else None
        hints = []
        if between is not None:
            hints.append((between.lens, min(max(_SIGMAS * between.err_px, _NEAR_PX), _FAR_PX)))
        else:
            sides = [one for one in (before[:1], after[:1]) if one]
            # The nearer in time first.
            sides.sort(key=lambda one: abs(one[0].mjd - mjd))
            hints += [(self._carried(one[0], mjd), _FAR_PX) for one in sides]
        nearest = " ".join(str(one[0].frame_id) if one else "-" for one in (before, after))
        return Prior(tuple(hints), between, f"{nearest} {_digest(hints, between)}")

    def _before(self, place: int) -> list[Neighbour]:
        """Return the frames of the same field before a place, the nearest first."""
        found: list[Neighbour] = []
        for number in range(place - 1, max(place - 1 - EACH_SIDE, -1), -1):
            if found and self.slewed[number]:
                break
            found.append(self.frames[number])
        return found

    def _after(self, place: int) -> list[Neighbour]:
        """Return the frames of the same field after a place, the nearest first."""
        found: list[Neighbour] = []
        for number in range(place, min(place + EACH_SIDE, len(self.frames))):
            if found and self.slewed[number - 1]:
                break
            found.append(self.frames[number])
        return found

    def _between(
        self, before: list[Neighbour], after: list[Neighbour], mjd: float
    ) -> InterpolatedLens | None:
        frames = [*reversed(before), *after]
        # At one and the same time there is nothing in between.
        if not before[0].mjd < mjd < after[0].mjd:
            return None
        track = self._track(frames)
        fit_px, bias_px = (
            float(np.sqrt(np.mean(np.square(values))))
            for values in ([one.fit_px for one in frames], [one.bias_px for one in frames])
        )
        # Four frames show by themselves how well they predict each other.
        others = self._elsewhere(before[0], after[0]) if len(frames) < _ENOUGH else []
        found = track.between(mjd, len(before) - 1, fit_px, others)
        return None if found is None else replace(found, err_px=math.hypot(found.err_px, bias_px))

    def _elsewhere(self, before: Neighbour, after: Neighbour) -> list[Track]:
        """Return the tracks of other fields of the night, of those nearest in time."""
        cuts = [0, *(number + 1 for number, slewed in enumerate(self.slewed) if slewed), len(self.frames)]
        runs = [self.frames[start:end] for start, end in itertools.pairwise(cuts)]
        middle = 0.5 * (before.mjd + after.mjd)
        # Frames before and after a long pause predict none between them.
        others = [run for run in runs if before not in run and len(run) > 2]
        others = [run for run in others if run[-1].mjd - run[0].mjd <= _LONGEST_DAYS]
        others.sort(key=lambda run: abs(0.5 * (run[0].mjd + run[-1].mjd) - middle))
        return [self._track(run) for run in others[:_FIELDS]]

    def _track(self, frames: Sequence[Neighbour]) -> Track:
        """Return frames of one field, all seen through the lens of that with the most stars."""
        shared = max(frames, key=lambda one: one.n_stars).lens
        times, lenses = np.array([one.mjd for one in frames]), [one.lens for one in frames]
        return Track.of(times, lenses, shared, self.shape, self.ground)

    def _carried(self, frame: Neighbour, mjd: float) -> Lens:
        """Return the lens of a frame at another time, if the camera has not moved against its ground."""
        then, now = to_ground(frame.mjd, self.ground), to_ground(mjd, self.ground)
        return frame.lens.turned(then.T @ now)


def _digest(hints: Sequence[tuple[Lens, float]], between: InterpolatedLens | None) -> str:
    lenses = [(lens_text(lens), radius) for lens, radius in hints]
    content = repr([lenses, None if between is None else between.err_px])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
