"""Kernels of medians of five, seven or nine pixels in a line.

Each is a few comparisons in a fixed order, which a processor does for many pixels at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Values = npt.NDArray[np.float32]


@kernel
def _low(a: Any, b: Any) -> Any:
    return a if a < b else b


@kernel
def _high(a: Any, b: Any) -> Any:
    return b if a < b else a


@kernel
def _of_three(a: Any, b: Any, c: Any) -> Any:
    return _high(_low(a, b), _low(_high(a, b), c))


@kernel
def _of_five(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    # The least and the greatest of four values are not the median.
    return _of_three(_high(_low(a, b), _low(c, d)), _low(_high(a, b), _high(c, d)), e)


@kernel
def _of_seven(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any) -> Any:
    # Neither are the least and the greatest of six: one of the lower and one of the higher of three pairs.
    low, high = _low(_low(a, b), _low(c, d)), _high(_high(a, b), _high(c, d))
    lower = _high(_low(a, b), _low(c, d)), _high(low, _low(e, f))
    higher = _low(_high(a, b), _high(c, d)), _low(high, _high(e, f))
    return _of_five(lower[0], lower[1], higher[0], higher[1], g)


@kernel
def _of_nine(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any) -> Any:
    # Of three triples: the greatest of the least, the median of the medians, the least of the greatest.
    least = _high(_high(_low(_low(a, b), c), _low(_low(d, e), f)), _low(_low(g, h), i))
    middle = _of_three(_of_three(a, b, c), _of_three(d, e, f), _of_three(g, h, i))
    greatest = _low(_low(_high(_high(a, b), c), _high(_high(d, e), f)), _high(_high(g, h), i))
    return _of_three(least, middle, greatest)


@kernel
def medians_of_five(values: Values, step: int, medians: Values) -> None:
    """Take the median of five values, each so many places after the last, about each value.

    Parameters
    ----------
    values : ndarray of float32, shape (n,)
        Finite.
    step : int
        One along the rows of an image that lie one after the other, their length along its columns.
    medians : ndarray of float32, shape (n,)
        Gets the medians, except at places too near to either end.
    """
    for k in range(2 * step, values.size - 2 * step):
        medians[k] = _of_five(
            values[k - 2 * step], values[k - step], values[k], values[k + step], values[k + 2 * step]
        )


@kernel
def medians_of_seven(values: Values, step: int, medians: Values) -> None:
    """Take the median of seven values, as :func:`medians_of_five` does of five."""
    for k in range(3 * step, values.size - 3 * step):
        medians[k] = _of_seven(
            values[k - 3 * step],
            values[k - 2 * step],
            values[k - step],
            values[k],
            values[k + step],
            values[k + 2 * step],
            values[k + 3 * step],
        )


@kernel
def medians_of_nine(values: Values, step: int, medians: Values) -> None:
    """Take the median of nine values, as :func:`medians_of_five` does of five."""
    for k in range(4 * step, values.size - 4 * step):
        medians[k] = _of_nine(
            values[k - 4 * step],
            values[k - 3 * step],
            values[k - 2 * step],
            values[k - step],
            values[k],
            values[k + step],
            values[k + 2 * step],
            values[k + 3 * step],
            values[k + 4 * step],
        )
