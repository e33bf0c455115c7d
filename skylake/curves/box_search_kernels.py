"""Boxes of one duration put together to those of a period, compiled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.core.sphere import FloatArray, IntArray


@kernel(error_model="numpy")
def best_cycle(
    since: FloatArray, depth_sum: FloatArray, weight_sum: FloatArray, frequency: FloatArray, n_bins: IntArray
) -> tuple[FloatArray, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the best sum of boxes of the same phase, of two boxes at least.

    Parameters
    ----------
    since : ndarray, shape (n_boxes,)
        Time of the middle of each box, days.
    depth_sum, weight_sum : ndarray, shape (n_stars, n_boxes)
        Depth times weight of each box, and its weight; 0 for boxes that count for nothing.
    frequency : ndarray, shape (n_frequencies,)
        Cycles per day.
    n_bins : ndarray of int, shape (n_frequencies,)
        Bins of the phase at each frequency; boxes in a bin are one another's repeats.

    Returns
    -------
    snr : ndarray, shape (n_stars,)
        Depth over its error; minus infinity for a star without two boxes of a phase.
    which : ndarray of int, shape (n_stars,)
        The frequency.
    box : ndarray of int, shape (n_stars,)
        The clearest box among those of the phase.
    """
    n_stars, n_boxes = depth_sum.shape
    snr, which, box = np.full(n_stars, -np.inf), np.zeros(n_stars, np.intp), np.zeros(n_stars, np.intp)
    phase = np.empty(n_boxes, np.int64)
    most = n_bins.max()
    deep, heavy, seen = np.zeros(most), np.zeros(most), np.zeros(most, np.int64)
    at = np.zeros(n_stars, np.int64)
    for one in range(len(frequency)):
        for number in range(n_boxes):
            turns = since[number] * frequency[one]
            phase[number] = min(int((turns - np.floor(turns)) * n_bins[one]), n_bins[one] - 1)
        for star in range(n_stars):
            deep[: n_bins[one]], heavy[: n_bins[one]], seen[: n_bins[one]] = 0.0, 0.0, 0
            for number in range(n_boxes):
                if weight_sum[star, number] > 0.0:
                    deep[phase[number]] += depth_sum[star, number]
                    heavy[phase[number]] += weight_sum[star, number]
                    seen[phase[number]] += 1
            for number in range(n_bins[one]):
                if seen[number] > 1 and deep[number] > 0.0:
                    height = deep[number] / np.sqrt(heavy[number])
                    if height > snr[star]:
                        snr[star], which[star], at[star] = height, one, number
    for star in range(n_stars):
        clearest = -np.inf
        for number in range(n_boxes):
            turns = since[number] * frequency[which[star]]
            phase_of = min(int((turns - np.floor(turns)) * n_bins[which[star]]), n_bins[which[star]] - 1)
            if phase_of == at[star] and weight_sum[star, number] > 0.0:
                height = depth_sum[star, number] / np.sqrt(weight_sum[star, number])
                if height > clearest:
                    clearest, box[star] = height, number
    return snr, which, box
