"""By how much zeropoints of frames differ because their stars are not the same.

The zeropoint of a frame is off by the weighted mean of the errors that its stars have in the catalog. Frames of the
same stars are all off by the same, which no light curve notices. Where a field drifts, or faint and blended stars come
and go, frames average over other stars, and the difference is noise from frame to frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray

Places = npt.NDArray[np.intp]

#: So many frames stand for all that share stars with one.
_FRAMES_COMPARED = 32
#: Successive multiples of it, without their integer part, fill the range from 0 to 1 evenly.
_GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)


def unshared_variance(
    star: npt.NDArray[np.int64], starts: Places, weight: FloatArray, variance: FloatArray
) -> FloatArray:
    """Return the variance of the mean of each frame that is not common to the frames of its stars.

    With weights w of stars s in the mean of frame f it is the sum of (w_fs - m_fs)^2 times the variance of the star,
    where m_fs is the mean weight of the star in the other frames of the stars of f. This mean is over a sample of
    them, drawn in proportion to the weight of the stars of f that they share.

    Parameters
    ----------
    star : ndarray of int, shape (n,)
        Number of the star of each measurement, from 0, frame by frame.
    starts : ndarray of int, shape (n_frames + 1,)
        Where each frame begins, and where the last ends.
    weight : ndarray, shape (n,)
        Weights in the mean of the frame, which add up to 1 there.
    variance : ndarray, shape (n,)
        Variance of the star that is the same on all frames, such as that of its magnitude in the catalog.

    Returns
    -------
    ndarray, shape (n_frames,)
        0 for a frame without measurements, and one that shares none of its stars.
    """
    n_frames = len(starts) - 1
    if len(star) == 0:
        return np.zeros(n_frames)
    by_star = np.argsort(star, kind="stable")
    count = np.bincount(star)
    of_star = np.bincount(star, variance) / np.maximum(count, 1)
    frame = np.repeat(np.arange(n_frames), np.diff(starts))
    first = np.concatenate([[0], np.cumsum(count)])
    found = np.zeros(n_frames)
    _fill(star.astype(np.int64), starts, np.asarray(weight), of_star, frame[by_star], first, found)
    return found


@kernel(error_model="numpy")
def _fill(
    star: npt.NDArray[np.int64],
    starts: Places,
    weight: FloatArray,
    variance: FloatArray,
    frames_by_star: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    found: FloatArray,
) -> None:
    mean = np.zeros(len(variance))
    compared, drawn = np.zeros(_FRAMES_COMPARED, np.int64), np.zeros(len(starts) - 1)
    for frame in range(len(starts) - 1):
        low, high = starts[frame], starts[frame + 1]
        chance = 0.0
        for i in range(low, high):
            chance += weight[i] * (first[star[i] + 1] - first[star[i]])
        if chance <= 0.0:
            continue
        n_others, at, passed = 0, low - 1, 0.0
        for draw in range(_FRAMES_COMPARED):
            while passed * _FRAMES_COMPARED < (draw + 0.5) * chance and at < high - 1:
                at += 1
                passed += weight[at] * (first[star[at] + 1] - first[star[at]])
            place = (draw * _GOLDEN) % 1.0 * (first[star[at] + 1] - first[star[at]])
            other = frames_by_star[first[star[at]] + int(place)]
            if other != frame:
                compared[n_others] = other
                drawn[other] += 1.0
                n_others += 1
        if n_others == 0:
            continue
        squares = 0.0
        for other in compared[:n_others]:
            squares += drawn[other]
            for i in range(starts[other], starts[other + 1]):
                mean[star[i]] += weight[i] / n_others
        total = 0.0
        for i in range(low, high):
            total += (weight[i] - mean[star[i]]) ** 2 * variance[star[i]]
            mean[star[i]] = 0.0
        for other in compared[:n_others]:
            drawn[other] = 0.0
            for i in range(starts[other], starts[other + 1]):
                total += mean[star[i]] ** 2 * variance[star[i]]
                mean[star[i]] = 0.0
        # The mean over so many other frames differs from frame to frame itself.
        n_distinct = n_others**2 / squares
        found[frame] = total * n_distinct / (n_distinct + 1.0)
