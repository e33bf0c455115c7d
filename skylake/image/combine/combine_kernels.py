"""Kernels that combine the values of each pixel robustly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Floats = npt.NDArray[np.float64]

_MAD_TO_SIGMA = 1.482602218505602
_PASSES = 4


@kernel
def _half_sample_mode(values: Floats, n: int) -> Any:
    """Return the half-sample mode of sorted values (Bickel & Fruehwirth 2006, Comp. Stat. Data Anal. 50, 3500)."""
    first, count = 0, n
    while count > 3:
        half = (count + 1) // 2
        best, where = np.inf, first
        for i in range(first, first + count - half + 1):
            width = values[i + half - 1] - values[i]
            if width < best:
                best, where = width, i
        first, count = where, half
    if count == 3:
        if values[first + 1] - values[first] < values[first + 2] - values[first + 1]:
            return 0.5 * (values[first] + values[first + 1])
        if values[first + 1] - values[first] > values[first + 2] - values[first + 1]:
            return 0.5 * (values[first + 1] + values[first + 2])
        return float(values[first + 1])
    return 0.5 * (values[first] + values[first + count - 1])


@kernel
def _median(values: Floats, n: int) -> Any:
    return 0.5 * (values[(n - 1) // 2] + values[n // 2])


@kernel
def _median_deviation(values: Floats, n: int, centre: float) -> Any:
    """Return the median absolute deviation of sorted values from a centre, by merging from the centre outwards."""
    right = 0
    while right < n and values[right] < centre:
        right += 1
    left = right - 1
    middle, last = 0.0, 0.0
    for _ in range(n // 2 + 1):
        last = middle
        take_left = left >= 0 and (right >= n or centre - values[left] <= values[right] - centre)
        if take_left:
            middle = centre - values[left]
            left -= 1
        else:
            middle = values[right] - centre
            right += 1
    return middle if n % 2 else 0.5 * (last + middle)


@kernel
def _deviation_below(values: Floats, n: int, centre: float) -> Any:
    """Return the median deviation from a centre of the sorted values that are not above it."""
    count = 0
    while count < n and values[count] <= centre:
        count += 1
    return centre - 0.5 * (values[(count - 1) // 2] + values[count // 2]) if count > 1 else 0.0


@kernel
def _insert(values: Floats, roots: Floats, count: int, value: float, root: float) -> None:
    """Put a value, with the root of its weight, where it belongs among ascending ones; there are tens of them."""
    place = count
    while place > 0 and values[place - 1] > value:
        values[place], roots[place] = values[place - 1], roots[place - 1]
        place -= 1
    values[place], roots[place] = value, root


@kernel
def _sorted_values(
    stack: npt.NDArray[np.float32], y: int, x: int, weights: Floats, values: Floats, roots: Floats
) -> int:
    """Write the values that frames have of a pixel, in ascending order; return how many there are."""
    count = 0
    for i in range(stack.shape[0]):
        value = np.float64(stack[i, y, x])
        if value == value:
            _insert(values, roots, count, value, np.sqrt(weights[i]))
            count += 1
    return count


@kernel
def _of_unit_weight(
    values: Floats, roots: Floats, count: int, centre: float, scaled: Floats, unused: Floats
) -> None:
    """Write values, in ascending order, as far from the centre as they would be if they had unit weight."""
    for i in range(count):
        _insert(scaled, unused, i, centre + roots[i] * (values[i] - centre), 1.0)


@kernel
def _clip(values: Floats, roots: Floats, count: int, centre: float, limit: float) -> Any:
    """Return the mean of the values within a limit of it, their number, their weight, and their sum of squares."""
    n_used, total, weight = 0, 0.0, 0.0
    for _ in range(_PASSES):
        previous, n_used, total, weight = n_used, 0, 0.0, 0.0
        for i in range(count):
            if roots[i] * abs(values[i] - centre) <= limit:
                n_used += 1
                weight += roots[i] ** 2
                total += roots[i] ** 2 * values[i]
        if n_used == 0:
            break
        centre = total / weight
        if n_used == previous:
            break
    sum_square, n_kept, weight = 0.0, 0, 0.0
    for i in range(count):
        if roots[i] * abs(values[i] - centre) <= limit:
            sum_square += (roots[i] * (values[i] - centre)) ** 2
            n_kept += 1
            weight += roots[i] ** 2
    return centre, n_kept, weight, sum_square


@kernel
def _combine_pixel(values: Floats, roots: Floats, work: Any, rules: Any, expected: float) -> Any:
    """Return the planes of :func:`combine_stack` for a pixel in their order, and how many values were used."""
    threshold, by_mode, alike = rules
    count = values.size
    if count == 0:
        return np.nan, np.nan, np.nan, np.nan, 0.0, 0
    centre = _half_sample_mode(values, count) if by_mode else _median(values, count)
    scaled, unused = work
    if alike:
        scaled = values
    else:
        _of_unit_weight(values, roots, count, centre, scaled, unused)
    aside = max(1, count // 8)
    inner = scaled[count - 1 - aside] - scaled[aside] if count > 2 * aside else 0.0
    # Where outliers add, only what is below the mode shows how far values scatter.
    below = _deviation_below(scaled, count, centre) if by_mode else _median_deviation(scaled, count, centre)
    deviation = _MAD_TO_SIGMA * below
    if count == 2:
        apart = threshold * np.sqrt(1.0 / roots[0] ** 2 + 1.0 / roots[1] ** 2) * expected
        if values[1] - values[0] > apart:
            # Of two that differ the lower one is right: cosmic rays and stars only add.
            return values[0], np.nan, deviation, inner, roots[0] ** 2, 1
    limit = np.inf if threshold == np.inf else threshold * max(deviation if count > 2 else 0.0, expected)
    centre, n_used, weight, sum_square = _clip(values, roots, count, centre, limit)
    return centre, sum_square / (n_used - 1) if n_used > 1 else np.nan, deviation, inner, weight, n_used


@kernel
def combine_stack(
    stack: npt.NDArray[np.float32],
    weights: Floats,
    threshold: float,
    by_mode: bool,
    noise: npt.NDArray[np.float32],
    planes: Any,
    counts: Any,
) -> None:
    """Combine the values of each pixel into a clipped mean.

    Parameters
    ----------
    stack : ndarray of float32, shape (n, rows, columns)
        NaN where a frame has no value.
    weights : ndarray of float64, shape (n,)
        Weight of each frame: one over its variance in units of that of `noise`.
    threshold : float
        Values farther from the centre are left out, in standard deviations; infinite keeps all.
    by_mode : bool
        Whether to start from the half-sample mode, and not from the median.
    noise : ndarray of float32, shape (rows, columns)
        Standard deviation that is expected of a value of unit weight; the scatter of a pixel's own values counts if
        larger.
    planes : tuple of ndarray of float32, shape (rows, columns)
        Get the clipped mean, the sample variance of the values that were kept (NaN of fewer than two), and 1.4826
        times the median absolute deviation of all, or of those below the mode; the range that is left when the eighth
        of the values that are lowest and the eighth that are highest, at least one each, are put aside, these three
        for values of unit weight; and the sum of the weights that were kept.
    counts : tuple of ndarray of uint16, shape (rows, columns)
        Get how many values were kept, and how many there were.
    """
    mean, square, scatter, inner, weight = planes
    used, present = counts
    n, rows, columns = stack.shape
    values, roots = np.empty(n), np.empty(n)
    work = np.empty(n), np.empty(n)
    rules = threshold, by_mode, weights.min() == 1.0 and weights.max() == 1.0
    for y in range(rows):
        for x in range(columns):
            count = _sorted_values(stack, y, x, weights, values, roots)
            present[y, x] = count
            pixel = _combine_pixel(values[:count], roots, work, rules, np.float64(noise[y, x]))
            mean[y, x], square[y, x], scatter[y, x], inner[y, x], weight[y, x], used[y, x] = pixel
