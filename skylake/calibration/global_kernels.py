"""Sums over observations for the global solution, compiled.

Observations are sorted by frame, so what belongs to a frame is summed in registers. The terms of the position are
computed anew for each observation: a matrix of them would be many times as large as the observations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skylake.core.excess_scatter import refined_variance
from skylake.core.jit import kernel

#: Observations whose terms are computed together.
_AT_ONCE = 64
#: What the compiler may do to sums: it may neither ignore NaN nor infinite values.
_SUMS_IN_ANY_ORDER = {"reassoc", "contract"}
#: Relative accuracy of robust variances; their errors by chance are hundred times as large.
_VARIANCE_TOLERANCE = 1e-4


class Layout(NamedTuple):
    """Observations sorted by frame, and within it by star.

    Attributes
    ----------
    starts : ndarray of int64, shape (n_frames + 1,)
        First observation of each frame.
    star, u, v, airmass : ndarray of int32 and float32, shape (n,)
        The airmass without the mean of the frame.
    night_of_frame : ndarray of int32, shape (n_frames,)
    """

    starts: Any
    star: Any
    u: Any
    v: Any
    airmass: Any
    night_of_frame: Any


@kernel
def grouped(keys: Any, n_groups: int) -> Any:
    """Return where each group starts, shape (n_groups + 1,), and the stable order that sorts by group."""
    starts = np.zeros(n_groups + 1, np.int64)
    for key in keys:
        starts[key + 1] += 1
    for group in range(n_groups):
        starts[group + 1] += starts[group]
    place, order = starts[:-1].copy(), np.empty(len(keys), np.int32)
    for i in range(len(keys)):
        order[place[keys[i]]] = i
        place[keys[i]] += 1
    return starts, order


@kernel
def connected(starts: Any, star: Any, n_stars: int) -> Any:
    """Return the number of the first star that each star is connected with through common frames, shape (n_stars,)."""
    root = np.arange(n_stars)
    for frame in range(len(starts) - 1):
        for i in range(starts[frame] + 1, starts[frame + 1]):
            a, b = star[i - 1], star[i]
            while root[a] != a:
                root[a] = root[root[a]]
                a = root[a]
            while root[b] != b:
                root[b] = root[root[b]]
                b = root[b]
            root[max(a, b)] = min(a, b)
    for a in range(n_stars):
        root[a] = root[root[a]]
    return root


@kernel(error_model="numpy")
def _fill_basis(layout: Any, first: int, n: int, degree: int, scratch: Any, basis: Any) -> None:
    """Write 1 and the position terms at `n` places, as :mod:`skylake.core.position_terms` orders them.

    One row for each term, so that the processor does several places at a time.
    """
    in_u, in_v = scratch[0], scratch[1]
    for i in range(n):
        basis[0, i], in_u[0, i], in_v[0, i] = 1.0, 1.0, 1.0
    if degree == 0:
        return
    for i in range(n):
        in_u[1, i] = min(max(layout.u[first + i], -1.0), 1.0)
        in_v[1, i] = min(max(layout.v[first + i], -1.0), 1.0)
    for m in range(1, degree):
        a, b = (2.0 * m + 1.0) / (m + 1.0), m / (m + 1.0)
        for i in range(n):
            in_u[m + 1, i] = a * in_u[1, i] * in_u[m, i] - b * in_u[m - 1, i]
            in_v[m + 1, i] = a * in_v[1, i] * in_v[m, i] - b * in_v[m - 1, i]
    term = 1
    for total in range(1, degree + 1):
        for j in range(total + 1):
            for i in range(n):
                basis[term, i] = in_u[total - j, i] * in_v[j, i]
            term += 1


@kernel(error_model="numpy", fastmath=_SUMS_IN_ANY_ORDER)
def predict(
    layout: Any, star: Any, frame: Any, illumination: Any, extinction: Any, degree: int, out: Any
) -> None:
    """Write the instrumental magnitude that the parameters predict for each observation.

    Parameters
    ----------
    layout : Layout
    star : ndarray, shape (n_stars,)
        Magnitudes in the system of the camera.
    frame : ndarray, shape (n_frames, 1 + k)
        Zeropoint and position terms of each frame.
    illumination : ndarray, shape (n_terms,)
    extinction : ndarray, shape (n_nights,)
    degree : int
        Of the illumination, at least that of the frames.
    out : ndarray, shape (n,)
    """
    n_terms, own = 1 + len(illumination), frame.shape[1]
    scratch, basis = np.empty((2, degree + 1, _AT_ONCE)), np.empty((n_terms, _AT_ONCE))
    values = np.empty(_AT_ONCE)
    for f in range(len(layout.starts) - 1):
        k = extinction[layout.night_of_frame[f]]
        for first in range(layout.starts[f], layout.starts[f + 1], _AT_ONCE):
            n = min(_AT_ONCE, layout.starts[f + 1] - first)
            _fill_basis(layout, first, n, degree, scratch, basis)
            values[:] = frame[f, 0]
            for t in range(1, n_terms):
                term = illumination[t - 1] + (frame[f, t] if t < own else 0.0)
                for i in range(n):
                    values[i] += term * basis[t, i]
            for i in range(n):
                out[first + i] = star[layout.star[first + i]] + k * layout.airmass[first + i] - values[i]


@kernel(error_model="numpy", fastmath=_SUMS_IN_ANY_ORDER)
def gather_back(
    layout: Any, values: Any, degree: int, star: Any, frame: Any, illumination: Any, extinction: Any
) -> None:
    """Add the transpose of :func:`predict` times values, shape (n,), to sums that have the shapes of parameters."""
    n_terms, own = 1 + len(illumination), frame.shape[1]
    scratch, basis = np.empty((2, degree + 1, _AT_ONCE)), np.empty((n_terms, _AT_ONCE))
    for f in range(len(layout.starts) - 1):
        for first in range(layout.starts[f], layout.starts[f + 1], _AT_ONCE):
            n = min(_AT_ONCE, layout.starts[f + 1] - first)
            _fill_basis(layout, first, n, degree, scratch, basis)
            by_airmass = 0.0
            for i in range(n):
                star[layout.star[first + i]] += values[first + i]
                by_airmass += values[first + i] * layout.airmass[first + i]
            extinction[layout.night_of_frame[f]] += by_airmass
            for t in range(n_terms):
                total = 0.0
                for i in range(n):
                    total += values[first + i] * basis[t, i]
                if t < own:
                    frame[f, t] -= total
                if t > 0:
                    illumination[t - 1] -= total


@kernel(error_model="numpy", fastmath=_SUMS_IN_ANY_ORDER)
def normal_blocks(layout: Any, weights: Any, degree: int, step: int, blocks: Any) -> None:
    """Add sums of weight times products of terms, and of airmass, to the block of each frame.

    Parameters
    ----------
    layout : Layout
    weights : ndarray, shape (n,)
    degree : int
        Of the position terms.
    step : int
        Takes every `step`-th frame.
    blocks : ndarray, shape (n_frames or 1, m, m)
        For 1 and the position terms and, as last one, minus the airmass. A single block takes the sum over all frames.
    """
    size = blocks.shape[1]
    scratch, basis = np.empty((2, degree + 1, _AT_ONCE)), np.empty((size, _AT_ONCE))
    weighted = np.empty(_AT_ONCE)
    for f in range(0, len(layout.starts) - 1, step):
        block = blocks[f if len(blocks) > 1 else 0]
        for first in range(layout.starts[f], layout.starts[f + 1], _AT_ONCE):
            n = min(_AT_ONCE, layout.starts[f + 1] - first)
            _fill_basis(layout, first, n, degree, scratch, basis)
            for i in range(n):
                basis[size - 1, i] = -layout.airmass[first + i]
            for a in range(size):
                for i in range(n):
                    weighted[i] = weights[first + i] * basis[a, i]
                for b in range(a + 1):
                    total = 0.0
                    for i in range(n):
                        total += weighted[i] * basis[b, i]
                    block[a, b] += total
    for block in blocks:
        for a in range(size):
            for b in range(a):
                block[b, a] = block[a, b]


@kernel(error_model="numpy", fastmath=_SUMS_IN_ANY_ORDER)
def frame_sums(layout: Any, values: Any, degree: int, sums: Any) -> None:
    """Add sums of values times 1, position terms and minus the airmass to `sums`, shape (n_frames, m)."""
    size = sums.shape[1]
    scratch, basis = np.empty((2, degree + 1, _AT_ONCE)), np.empty((size, _AT_ONCE))
    for f in range(len(layout.starts) - 1):
        for first in range(layout.starts[f], layout.starts[f + 1], _AT_ONCE):
            n = min(_AT_ONCE, layout.starts[f + 1] - first)
            _fill_basis(layout, first, n, degree, scratch, basis)
            for i in range(n):
                basis[size - 1, i] = -layout.airmass[first + i]
            for a in range(size):
                total = 0.0
                for i in range(n):
                    total += values[first + i] * basis[a, i]
                sums[f, a] += total


@kernel(error_model="numpy")
def left_out_squares(layout: Any, residuals: Any, weights: Any, fits: Any, inverses: Any, degree: int) -> Any:
    """Return the weighted sum of squares of each frame when each star is predicted from the others.

    Parameters
    ----------
    layout : Layout
    residuals, weights : ndarray, shape (n,)
    fits : ndarray, shape (n_frames, m)
        Coefficients of 1 and the position terms that fit the residuals.
    inverses : ndarray, shape (n_frames, m, m)
        Inverse normal matrices of these fits.
    degree : int

    Returns
    -------
    ndarray, shape (n_frames,)
    """
    size, found = fits.shape[1], np.zeros(len(fits))
    scratch, basis = np.empty((2, degree + 1, _AT_ONCE)), np.empty((size, _AT_ONCE))
    for f in range(len(fits)):
        for first in range(layout.starts[f], layout.starts[f + 1], _AT_ONCE):
            n = min(_AT_ONCE, layout.starts[f + 1] - first)
            _fill_basis(layout, first, n, degree, scratch, basis)
            for i in range(n):
                weight = weights[first + i]
                if weight == 0.0:
                    continue
                left, leverage = residuals[first + i] * 1.0, 0.0
                for a in range(size):
                    left -= fits[f, a] * basis[a, i]
                    for b in range(size):
                        leverage += basis[a, i] * inverses[f, a, b] * basis[b, i]
                found[f] += weight * (left / max(1.0 - weight * leverage, 1e-3)) ** 2
    return found


@kernel(error_model="numpy")
def weigh(
    layout: Any,
    residuals: Any,
    errors: Any,
    noise: Any,
    frame_variance: Any,
    star_variance: Any,
    cut: float,
    weights: Any,
    precisions: Any,
) -> None:
    """Write the weight of each observation: the biweight's share of its inverse variance.

    Parameters
    ----------
    layout : Layout
    residuals, errors : ndarray, shape (n,)
        A residual that is NaN gives no weight.
    noise : (float, float)
        Square of the factor on the errors, and variance of the floor.
    frame_variance, star_variance : ndarray, shape (n_frames,), (n_stars,)
        Further variance of the observations of each.
    cut : float
        Standard deviations at which the weight is zero.
    weights : ndarray, shape (n,)
    precisions : ndarray, shape (n,)
        Inverse variances of what is within the cut, else 0.
    """
    for f in range(len(layout.starts) - 1):
        for i in range(layout.starts[f], layout.starts[f + 1]):
            variance = (
                noise[0] * errors[i] ** 2 + noise[1] + frame_variance[f] + star_variance[layout.star[i]]
            )
            square = residuals[i] ** 2 / (variance * cut**2)
            inside = square < 1.0
            weights[i] = (1.0 - square) ** 2 / variance if inside else 0.0
            precisions[i] = 1.0 / variance if inside else 0.0


@kernel(error_model="numpy")
def excess_variances(
    starts: Any, order: Any, residuals: Any, sigmas: Any, lost: int, cut: float, expected: float
) -> Any:
    """Return the robust variance of each group beyond its errors, and what it explains.

    Parameters
    ----------
    starts : ndarray, shape (n_groups + 1,)
    order : ndarray, shape (n,)
        Observations in the order of their groups.
    residuals, sigmas : ndarray, shape (n,)
    lost : int
        Degrees of freedom that the fit took from each group.
    cut, expected : float
        As for :func:`skylake.core.excess_scatter.refined_variance`.

    Returns
    -------
    excess, gain : ndarray, shape (n_groups,)
        The gain is twice that in log likelihood over no excess. NaN for groups of `lost` + 2 values or fewer.
    """
    n_groups = len(starts) - 1
    excess, gains = np.full(n_groups, np.nan), np.full(n_groups, np.nan)
    for group in range(n_groups):
        rows = order[starts[group] : starts[group + 1]]
        if len(rows) <= lost + 2:
            continue
        values, errors = np.empty(len(rows)), np.empty(len(rows))
        for i in range(len(rows)):
            values[i], errors[i] = residuals[rows[i]], sigmas[rows[i]]
        start = max((1.4826 * np.median(np.abs(values))) ** 2, 1e-12)
        extra = refined_variance(values, errors, start, lost, cut, expected, _VARIANCE_TOLERANCE)
        gain = 0.0
        if extra > 0.0:
            for i in range(len(rows)):
                square, variance = values[i] ** 2, errors[i] ** 2
                if square < cut**2 * (variance + extra) and variance > 0.0:
                    gain += square / variance - square / (variance + extra) - np.log1p(extra / variance)
        excess[group], gains[group] = extra, gain
    return excess, gains
