"""Extend the first epoch of a camera to older frames that arrive later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from skylake.flow.astrometry.frame_stars import DistortionFrame
from skylake.image.distortion.distortion_changes import MEMORY
from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.distortion.follow_camera import Follower, MatchedFrame, Origin

#: Nights whose stars are in memory together.
_NIGHTS = 16


def followed_back(
    first: Epoch,
    frames: Sequence[DistortionFrame],
    read: Callable[[Sequence[DistortionFrame]], list[MatchedFrame]],
    origin: Origin,
) -> tuple[Epoch, int]:
    """Return the first epoch of a camera, extended to older frames that have its distortion.

    They are taken from the newest to the oldest, and judged like frames that come in the order of time. The first
    frame with another distortion ends this, since only all nights together show to which epoch older frames belong.

    Parameters
    ----------
    first : Epoch
    frames : sequence of DistortionFrame
        All frames of its size.
    read : callable
        Returns the matched stars of frames, in the order of time.
    origin : Origin

    Returns
    -------
    epoch : Epoch
        With an earlier first frame and more frames, if there are any; else the same.
    n_frames : int
        That were looked at.
    """
    older = [frame for frame in frames if frame.mjd < first.first_mjd]
    if not older:
        return first, 0
    # Time runs backwards here, so that what follows is what came before.
    follower = Follower(origin, replace(first, first_mjd=-first.last_mjd, last_mjd=-first.first_mjd))
    near = sorted(
        (frame for frame in frames if first.first_mjd <= frame.mjd <= first.last_mjd),
        key=lambda frame: frame.mjd,
    )
    for frame in _backwards(read(near[:MEMORY]), first.mirrored):
        follower.remember(frame)
    nights, n_frames = sorted({frame.night for frame in older}, reverse=True), 0
    for begin in range(0, len(nights), _NIGHTS):
        some = set(nights[begin : begin + _NIGHTS])
        seen = read([frame for frame in older if frame.night in some])
        n_frames += len(seen)
        for frame in _backwards(seen, first.mirrored):
            if follower.take(frame) is not None:
                return _reached(first, follower.epochs[0]), n_frames
    return _reached(first, follower.epochs[0]), n_frames


def _reached(first: Epoch, followed: Epoch) -> Epoch:
    # A change takes frames back that were counted before they were seen to differ.
    return replace(
        first, first_mjd=min(first.first_mjd, -followed.last_mjd), n_seen=max(first.n_seen, followed.n_seen)
    )


def _backwards(seen: Sequence[MatchedFrame], mirrored: bool) -> list[MatchedFrame]:
    return [replace(frame, mjd=-frame.mjd) for frame in reversed(seen) if frame.lens.mirrored == mirrored]
