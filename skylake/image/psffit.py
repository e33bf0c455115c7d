"""One least-squares fit of all stars of a frame at once, at fixed positions.

The unknowns are the fluxes alone, so the problem is linear, and since a star overlaps few others, sparse: the normal
matrix has a row per star and an element per pair of neighbours. Pixels are weighted alike, which is right where the
sky gives the noise, and leaves the flux of a bright star free of bias where the model is not exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.frame import Pixels
from skylake.image.kernels import normal_equations as kernels
from skylake.image.kernels.covariances import local_variance
from skylake.image.kernels.shapes import draw_stamps
from skylake.image.psf import FramePsf

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

#: Half size of the stamps that are fitted, in full widths, and its limits in pixels.
_CORE_WIDTHS = 2.0
_CORE_LIMITS = (4, 12)
#: The light of a star beyond its stamp is taken off where it exceeds this share of the noise of a pixel.
_WING_SIGMA = 0.25
_TOLERANCE = 1e-6
_MOST_STEPS = 200
#: Two stars at one place would have no fluxes of their own without this.
_RIDGE = 1e-4
#: Neighbours that overlap less than this share count for nothing in the error of a star.
_OVERLAP = 0.02
#: Stars whose covariance is computed together.
_TOGETHER = 8
#: Side of the blocks in which the sky is made even, pixels, and every how many are taken for their mean: every third
#: alone would scatter the fluxes of large apertures by half of their error.
_BLOCK_PX = 64
_BLOCK_STEP = 2
_BLOCK_CLIP = 3.0
#: A block needs this share of its pixels.
_BLOCK_MIN = 0.2


@dataclass(frozen=True, slots=True)
class StarFit:
    """Fluxes of the stars of a frame, and what is left of it. Arrays have the shape (n,) and the order of the stars.

    Attributes
    ----------
    flux, variance : ndarray
        ADU and ADU^2; NaN for a star of which no good pixel is there. The variance holds the noise of the sky, of the
        photons of all stars, and what is not known of the neighbours.
    taken : ndarray
        Flux with which the star was subtracted; it differs a little from the last word.
    increase : ndarray
        Factor by which neighbours increase the variance from the sky; large where two stars cannot be told apart.
    chi2 : ndarray
        Reduced chi-square of the pixels of the star; NaN with fewer than two.
    share : ndarray
        Part of the weight of the star's stamp that lies on good pixels.
    sky : ndarray
        Level of the residual sky, ADU per pixel.
    reach : ndarray of int
        Half size of the square in which the star was subtracted.
    left : ndarray of float32, shape (height, width)
        The signal without the stars.
    columns, rows, dx, dy, coefficients, stamps, core
        Where the stars are drawn, from what, and their stamps and half size; see :mod:`skylake.image.kernels.shapes`.
    clean : bool
        Whether all pixels were good.
    steps : int
        Steps of the last solution.
    """

    flux: Floats
    taken: Floats
    variance: Floats
    increase: Floats
    chi2: Floats
    share: Floats
    sky: Floats
    reach: Places
    left: Single
    columns: Places
    rows: Places
    dx: Single
    dy: Single
    coefficients: Single
    stamps: Single
    core: int
    clean: bool
    steps: int


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Stars sorted by place, with their stamps."""

    order: Places
    columns: Places
    rows: Places
    dx: Single
    dy: Single
    coefficients: Single
    half: int
    stamps: Single


@dataclass(frozen=True, slots=True)
class _System:
    """The normal matrix: its diagonal, and the elements of pairs."""

    diagonal: Floats
    first: Places
    second: Places
    values: Floats

    def solve(self, right: Floats, start: Floats) -> tuple[Floats, int]:
        """Return the solution for a right-hand side."""
        diagonal = self.diagonal * (1.0 + _RIDGE)
        solution, steps = kernels.conjugate_gradients(
            diagonal, self.first, self.second, self.values, right, start, _TOLERANCE, _MOST_STEPS
        )
        return solution, steps


def fit_stars(
    signal: Pixels, good: npt.NDArray[np.uint8], rms: Pixels, x: Floats, y: Floats, psf: FramePsf, gain: float,
    level_sky: bool = True,
) -> StarFit:  # fmt: skip
    """Fit the fluxes of all stars at once.

    Parameters
    ----------
    signal : ndarray of float32, shape (height, width)
        Image minus background, ADU.
    good : ndarray of uint8, shape (height, width)
        1 for pixels that take part.
    rms : ndarray of float32, shape (height, width)
        Noise of the sky per pixel.
    x, y : ndarray, shape (n,)
        Positions on the image, 0-based pixels.
    psf : FramePsf
    gain : float
        Electrons per ADU.
    level_sky : bool
        Whether the mean of what is left is taken off in blocks: stars too faint to be in the list, or light that the
        background map holds and the models as well.
    """
    drawn = _draw(x, y, psf)
    clean = bool(good.all())
    places = drawn.columns, drawn.rows
    products, squares, sums, counts = kernels.project(drawn.stamps, drawn.half, *places, signal, good, clean)
    system = _system(drawn, squares, good)
    seen = squares > 0.0
    flux, _ = system.solve(products, products / system.diagonal)
    left = signal.copy()
    reach = _wings(drawn, psf, flux, _usual(rms))
    _subtract_wings(left, drawn, psf, reach, flux)
    wing_flux = flux
    products = kernels.project(drawn.stamps, drawn.half, *places, left, good, clean)[0]
    flux, steps = system.solve(products, flux)
    kernels.subtract(left, drawn.stamps, drawn.half, *places, flux.astype(np.float32))
    _subtract_wings(left, drawn, psf, reach, flux - wing_flux)
    taken, sky = flux, np.zeros(len(x))
    if level_sky:
        sky = _level(left, good, _usual(rms), places)
        flux, steps = system.solve(products - sky * sums, flux)
    back = slice(None) if np.all(np.diff(drawn.order) == 1) else np.argsort(drawn.order)
    errors = _errors(signal, left, good, clean, rms, drawn, system, sky, gain, counts)
    return StarFit(
        flux=np.where(seen, flux, np.nan)[back],
        taken=taken[back],
        variance=np.where(seen, errors.variance, np.nan)[back],
        increase=np.where(seen, errors.increase, np.inf)[back],
        chi2=errors.chi2[back],
        share=_share(drawn, squares, counts)[back],
        sky=sky[back],
        reach=reach[back],
        left=left,
        columns=drawn.columns[back],
        rows=drawn.rows[back],
        dx=drawn.dx[back],
        dy=drawn.dy[back],
        coefficients=drawn.coefficients[back],
        stamps=drawn.stamps[back],
        core=drawn.half,
        clean=clean,
        steps=steps,
    )


@dataclass(frozen=True, slots=True)
class _Errors:
    """Variances of fluxes, their increase by neighbours, and reduced chi-squares."""

    variance: Floats
    increase: Floats
    chi2: Floats


def _errors(
    signal: Pixels, left: Single, good: npt.NDArray[np.uint8], clean: bool, rms: Pixels, drawn: _Drawn,
    system: _System, sky: Floats, gain: float, counts: Places,
) -> _Errors:  # fmt: skip
    noise = rms[_inside(drawn.rows, signal.shape[0]), _inside(drawn.columns, signal.shape[1])]
    photons, chi2 = kernels.spread(
        drawn.stamps, drawn.half, drawn.columns, drawn.rows, signal, left, good, clean, noise, sky.astype(np.float32),
        gain,
    )  # fmt: skip
    variance, increase = _variance(system, photons, noise)
    return _Errors(variance, increase, np.where(counts > 1, chi2 / np.maximum(counts - 1, 1), np.nan))


def _share(drawn: _Drawn, squares: Floats, counts: Places) -> Floats:
    """Return the part of the weight of each stamp that lies on good pixels."""
    whole = squares.copy()
    hidden = np.flatnonzero(counts < (2 * drawn.half + 1) ** 2)
    whole[hidden] = np.sum(drawn.stamps[hidden].astype(float) ** 2, axis=1)
    return squares / whole


def by_place(x: Floats, y: Floats, half: int) -> Places:
    """Return the order of stars cell by cell; stars that come in it are fitted without being moved about."""
    side = 2 * half + 1
    columns, rows = np.rint(x).astype(np.int64) // side, np.rint(y).astype(np.int64) // side
    return np.lexsort((columns, rows)).astype(np.int64)


def core_half_size(fwhm_px: float) -> int:
    """Return the half size of the stamps that are fitted."""
    return int(np.clip(np.ceil(_CORE_WIDTHS * fwhm_px), *_CORE_LIMITS))


def _usual(rms: Pixels) -> float:
    return float(np.median(rms[::16, ::16]))


def _inside(position: Places, size: int) -> Places:
    return np.clip(position, 0, size - 1)


def _draw(x: Floats, y: Floats, psf: FramePsf) -> _Drawn:
    """Draw the stars cell by cell, so that neighbours on the image are neighbours in memory."""
    half = core_half_size(psf.fwhm_px)
    columns, rows = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    order = by_place(x, y, half)
    columns, rows, x, y = columns[order], rows[order], x[order], y[order]
    dx, dy = (x - columns).astype(np.float32), (y - rows).astype(np.float32)
    coefficients = psf.coefficients(x, y)
    stamps = draw_stamps(dx, dy, coefficients, psf.inverse, half)
    return _Drawn(order, columns, rows, dx, dy, coefficients, half, stamps)


def _system(drawn: _Drawn, squares: Floats, good: npt.NDArray[np.uint8]) -> _System:
    """Return the normal matrix; a star without a good pixel gets an equation that says nothing of the others."""
    side = 2 * drawn.half + 1
    across = int(drawn.columns.max(initial=0)) // side + 3
    cells = (drawn.rows // side + 1) * across + drawn.columns // side + 1
    down = int(drawn.rows.max(initial=0)) // side + 3
    starts = np.searchsorted(cells, np.arange(across * down + 1)).astype(np.int64)
    reach = 2 * drawn.half
    count = kernels.count_pairs(drawn.columns, drawn.rows, starts, across, cells, reach)
    first, second = kernels.list_pairs(drawn.columns, drawn.rows, starts, across, cells, reach, count)
    values = kernels.overlaps(first, second, drawn.stamps, drawn.half, drawn.columns, drawn.rows, good)
    return _System(np.where(squares > 0.0, squares, 1.0), first, second, values)


def _wings(drawn: _Drawn, psf: FramePsf, flux: Floats, noise: float) -> Places:
    """Return how far each star is subtracted: beyond its stamp only where it is bright."""
    edge = np.abs(drawn.stamps[:, drawn.half * (2 * drawn.half + 1)])
    outer = max(int(np.ceil(psf.total_radius_px)), drawn.half)
    return np.where(flux * edge > _WING_SIGMA * noise, outer, drawn.half).astype(np.int64)


def _subtract_wings(image: Single, drawn: _Drawn, psf: FramePsf, reach: Places, flux: Floats) -> None:
    for half in np.unique(reach[reach > drawn.half]):
        some = np.flatnonzero(reach == half)
        kernels.subtract_wings(
            image,
            int(half),
            drawn.half,
            drawn.columns[some],
            drawn.rows[some],
            drawn.dx[some],
            drawn.dy[some],
            psf.inverse,
            drawn.coefficients[some],
            flux[some].astype(np.float32),
        )


def _level(left: Single, good: npt.NDArray[np.uint8], noise: float, places: tuple[Places, Places]) -> Floats:
    """Return the mean of what is left at the places of the stars, between the centres of blocks."""
    means, counts = kernels.block_means(left, good, _BLOCK_PX, _BLOCK_STEP, noise, _BLOCK_CLIP)
    height, width = left.shape
    needed = _BLOCK_MIN * (height / means.shape[0]) * (width / means.shape[1]) / _BLOCK_STEP**2
    known = counts >= needed
    means = np.where(known, means, np.median(means[known]) if known.any() else 0.0)
    column = (places[0] + 0.5) * means.shape[1] / width - 0.5
    row = (places[1] + 0.5) * means.shape[0] / height - 0.5
    column, row = np.clip(column, 0, means.shape[1] - 1), np.clip(row, 0, means.shape[0] - 1)
    j, i = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    right, lower = np.minimum(j + 1, means.shape[1] - 1), np.minimum(i + 1, means.shape[0] - 1)
    s, t = column - j, row - i
    upper = means[i, j] * (1.0 - s) + means[i, right] * s
    return np.asarray(upper * (1.0 - t) + (means[lower, j] * (1.0 - s) + means[lower, right] * s) * t)


def _variance(system: _System, photons: Floats, rms: Single) -> tuple[Floats, Floats]:
    """Return the variances of fluxes and their increase by neighbours."""
    star = np.concatenate([system.first, system.second])
    partner = np.concatenate([system.second, system.first])
    value = np.concatenate([system.values, system.values])
    diagonal = system.diagonal * (1.0 + _RIDGE)
    strength = np.abs(value) / np.sqrt(diagonal[star] * diagonal[partner])
    some = np.flatnonzero(strength > _OVERLAP)
    some = some[np.lexsort((-strength[some], star[some]))]
    starts = np.searchsorted(star[some], np.arange(len(diagonal) + 1)).astype(np.int64)
    variance, increase = local_variance(diagonal, starts, partner[some], value[some], photons, rms, _TOGETHER)
    return variance, increase
