"""Trend filtering (TFA; Kovács, Bakos & Noyes 2005, MNRAS 356, 557): curves of other stars as templates of trends.

Such a fit takes a part of real signals too, so its magnitudes stand beside others and never replace them. All stars
share one factorisation of the templates. The star itself and its neighbours are left out of its templates by an update
of that factorisation, and gaps are filled by the fit until they lie on it, which is least squares over what was
measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.curves.curve_block import CurveBlock, outlier_weights, row_medians, star_chunks
from skylake.curves.scatter_excess import scatter_excess

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Rounds in which gaps are filled, and outliers lose their weight.
_FILLINGS = 12
#: Rounds in which variables among the templates are replaced.
_SELECTIONS = 2
#: A template has this share of the frames at least.
_LEAST_COVERAGE = 0.8
#: Variables among templates: the chance that a constant star is taken for one.
_FALSE_ALARM = 1e-3
#: Templates are singular to this relative precision where two of them are alike.
_RIDGE = 1e-9


@dataclass(frozen=True, slots=True)
class Templates:
    """Stars whose curves show the trends.

    Attributes
    ----------
    star : ndarray of int64, shape (n_templates,)
        Rows of the curves that they were chosen from.
    shape : ndarray, shape (n_templates, n_frames)
        Their magnitudes about their medians, 0 in gaps.
    """

    star: Integers
    shape: Floats


@dataclass(frozen=True, slots=True)
class Filtered:
    """Light curves without trends.

    Attributes
    ----------
    mag : ndarray, shape (n_stars, n_frames)
        NaN where there was no measurement, and for stars with fewer than two measurements for each template.
    n_templates : ndarray of int64, shape (n_stars,)
        That each star was fitted with.
    """

    mag: Floats
    n_templates: Integers


def choose_templates(
    curves: CurveBlock,
    x: Floats,
    y: Floats,
    count: int,
    seed: int,
    exclusion: float = 0.0,
    judged: CurveBlock | None = None,
) -> Templates:
    """Choose templates that are bright, constant and spread evenly over the field.

    Stars are drawn from cells of the field by turns, the same for the same seed. In a second round those that vary
    beyond the noise of stars of their magnitude, once the other templates have taken off the trends, are replaced.

    Parameters
    ----------
    curves : CurveBlock
    x, y : ndarray, shape (n_stars,)
        Mean positions.
    count : int
        How many to choose; fewer where there are not so many good stars. Never more than one for 20 frames.
    seed : int
    exclusion : float
        Distance within which a star has no template, in the unit of positions.
    judged : CurveBlock
        Curves of the same stars by which they are constant, such as decorrelated ones, where variables show best.
    """
    n_frames = curves.mag.shape[1]
    count = min(count, n_frames // 20)
    suitable = _suitable(curves if judged is None else judged)
    order = _spread_out(x, y, suitable, np.random.default_rng(seed))
    for _ in range(_SELECTIONS):
        chosen = order[:count]
        if chosen.size < 3:
            break
        templates = _templates(curves, chosen)
        filtered = filter_trends(curves.of(chosen), templates, x[chosen], y[chosen], (x, y), exclusion)
        varies = _varies(CurveBlock(curves.time, filtered.mag, curves.mag_err[chosen]))
        order = order[~np.isin(order, chosen[varies])]
    return _templates(curves, order[:count])


def filter_trends(
    curves: CurveBlock,
    templates: Templates,
    x: Floats,
    y: Floats,
    field: tuple[Floats, Floats],
    exclusion: float = 0.0,
) -> Filtered:
    """Return light curves without the trends of templates.

    Parameters
    ----------
    curves : CurveBlock
    templates : Templates
    x, y : ndarray, shape (n_stars,)
        Mean positions of the stars.
    field : tuple of ndarray
        Positions of the stars that the templates were chosen from, to which ``templates.star`` refers.
    exclusion : float
        Templates that are no farther away are left out; 0 leaves out the star itself.
    """
    shape = templates.shape
    n_templates = len(shape)
    x_of, y_of = (one[templates.star] for one in field)
    gram = shape @ shape.T
    gram += _RIDGE * max(float(np.trace(gram)) / max(n_templates, 1), 1e-300) * np.eye(n_templates)
    inverse = np.asarray(np.linalg.inv(gram), float)
    mag, counts = np.full_like(curves.mag, np.nan), np.zeros(len(curves.mag), np.int64)
    for stars in star_chunks(len(mag), 8 * 8 * mag.shape[1]):
        near = np.hypot(x[stars, None] - x_of, y[stars, None] - y_of) <= exclusion
        mag[stars], counts[stars] = _filter(curves.of(stars), shape, inverse, near)
    return Filtered(mag, counts)


def _filter(
    curves: CurveBlock, shape: Floats, inverse: Floats, near: npt.NDArray[np.bool_]
) -> tuple[Floats, Integers]:
    """Filter so many stars as fit into memory; `near` says which templates each has not."""
    good = curves.is_good
    values = np.where(good, curves.mag, np.nan)
    level = row_medians(values)[:, None]
    values = values - level
    errors = np.where(good, curves.mag_err, np.nan)
    left_out = _left_out(inverse, near)
    model, shift = np.zeros_like(values), np.zeros((len(values), 1))
    for _ in range(_FILLINGS):
        # What has little weight is moved towards the fit, until it pulls no more than its weight.
        kept = outlier_weights(values - model - shift, errors)
        filled = np.where(good, kept * (values - shift) + (1.0 - kept) * model, model)
        model = left_out(filled @ shape.T) @ shape
        share = np.maximum(kept.sum(axis=1), 1e-300)
        shift = (np.nansum(kept * (values - model), axis=1) / share)[:, None]
    counts = (~near).sum(axis=1)
    enough = (good.sum(axis=1) >= 2 * counts)[:, None]
    return np.where(enough, curves.mag - model, np.nan), counts.astype(np.int64)


def _left_out(inverse: Floats, near: npt.NDArray[np.bool_]) -> Callable[[Floats], Floats]:
    """Return the function that solves for coefficients, of which those of left-out templates are 0."""
    most = int(near.sum(axis=1).max(initial=0))
    order = np.argsort(~near, axis=1, kind="stable")[:, :most]
    is_real = np.take_along_axis(near, order, axis=1)
    columns = inverse[:, order].transpose(1, 0, 2) * is_real[:, None, :]
    block = inverse[order[:, :, None], order[:, None, :]]
    both = is_real[:, :, None] & is_real[:, None, :]
    block = np.where(both, block, np.eye(most))

    def solve(right: Floats) -> Floats:
        free = right @ inverse
        if most == 0:
            return np.asarray(free)
        at = np.take_along_axis(free, order, axis=1) * is_real
        return np.asarray(free - (columns @ np.linalg.solve(block, at[:, :, None]))[:, :, 0])

    return solve


def _suitable(curves: CurveBlock) -> npt.NDArray[np.bool_]:
    """Return which stars can be templates: on most frames, in the brighter half, and not variable."""
    good = curves.is_good
    covered = good.mean(axis=1) >= _LEAST_COVERAGE
    level = row_medians(np.where(good, curves.mag, np.nan))
    if not covered.any():
        return np.asarray(covered, bool)
    bright = level <= np.nanmedian(level[covered])
    return np.asarray(covered & bright & ~_varies(curves), bool)


def _varies(curves: CurveBlock) -> npt.NDArray[np.bool_]:
    """Return which stars scatter more than others of their magnitude by more than chance."""
    good = curves.is_good
    mag = np.where(good, curves.mag, np.nan)
    level = row_medians(mag)
    errors = np.where(good, curves.mag_err, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Outliers are no variability, but a dip that fills a tenth of the curve is.
        off = np.clip((mag - level[:, None]) / errors, -10.0, 10.0) * errors
        count = good.sum(axis=1)
        # Not a number for a star without measurements.
        scatter = np.sqrt(np.nansum(off**2, axis=1) / count)
    found = scatter_excess(level, scatter, count)
    return np.asarray(found.false_alarm < _FALSE_ALARM, bool)


def _spread_out(
    x: Floats, y: Floats, suitable: npt.NDArray[np.bool_], random: np.random.Generator
) -> Integers:
    """Return suitable stars in an order in which any first part covers the field evenly."""
    stars = random.permutation(np.flatnonzero(suitable))
    if stars.size == 0:
        return stars.astype(np.int64)
    side = max(int(np.sqrt(stars.size / 4.0)), 1)
    cells = [
        np.clip(
            (side * (one[stars] - one[stars].min()) / max(np.ptp(one[stars]), 1e-9)).astype(int), 0, side - 1
        )
        for one in (x, y)
    ]
    cell = cells[0] * side + cells[1]
    by_cell = np.argsort(cell, kind="stable")
    counts = np.bincount(cell, minlength=side * side)
    turn = np.empty(stars.size, np.int64)
    turn[by_cell] = np.arange(stars.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return stars[np.lexsort((random.random(stars.size), turn))].astype(np.int64)


def _templates(curves: CurveBlock, star: Integers) -> Templates:
    mag = np.where(curves.is_good[star], curves.mag[star], np.nan)
    off = mag - row_medians(mag)[:, None]
    errors = np.where(np.isfinite(off), curves.mag_err[star], np.nan)
    # A spoiled measurement of a template would be a dip in all other stars.
    return Templates(star, np.where(outlier_weights(off, errors, cut=8.0) > 0, np.nan_to_num(off), 0.0))
