"""PSF photometry: one least-squares fit of all stars of a frame at once, at fixed positions.

The unknowns are the fluxes alone, so the problem is linear, and since a star overlaps few others, sparse: the normal
matrix has a row per star and an element per pair of neighbours. Pixels are weighted alike, which is right where the
sky gives the noise, and leaves the flux of a bright star free of bias where the model is not exact.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from skylake.core.frame import Pixels
from skylake.image.detection.variance_plane import Agreement
from skylake.image.photometry.annulus import LocalSky, common_parts, local_sky
from skylake.image.psf import pair_kernels
from skylake.image.psf import stamp_kernels as stamps
from skylake.image.psf.circle_tables import Circles
from skylake.image.psf.covariance_kernels import (
    SKY_STEP,
    Inversion,
    SkyErrors,
    local_variance,
    noise_overlaps,
)
from skylake.image.psf.forced_aperture_kernels import Subtracted, sum_pixels
from skylake.image.psf.pair_kernels import PairMatrix
from skylake.image.psf.psf_model import FramePsf
from skylake.image.psf.residual_sky import block_sky
from skylake.image.psf.stamp_kernels import PlacedStars, Stamps, SubtractedImage

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

#: Half size of the stamps that are fitted, in full widths, and its limits in pixels.
_CORE_WIDTHS = 1.5
_CORE_LIMITS = (4, 12)
LARGEST_HALF = _CORE_LIMITS[1]
#: Side of the cells by which stars are sorted, pixels. Of small ones, the part of the image below a row of them stays
#: near the processor.
_CELL_PX = 9
#: Empty cells at each edge: stars may lie a stamp beyond that of the image, and overlap others a stamp farther.
_EDGE_CELLS = -(-2 * (2 * LARGEST_HALF + 1) // _CELL_PX)
#: The light of a star beyond its stamp is taken off where it exceeds this share of the noise of a pixel.
_WING_SIGMA = 0.25
#: Wings are drawn in squares of some sizes, each this much larger than the one before.
_WING_STEP = 1.5
#: A change of a wing by less than this share of the noise of a pixel is not drawn anew.
_WING_CHANGE = 0.01
#: What is wrong with the solution, all stars together, in units of its errors.
_TOLERANCE = 0.01
#: Single precision of the pixels knows no better than that.
_PRECISION = 1e-7
_MOST_STEPS = 200
#: Two stars at one place would have no fluxes of their own without this share of the diagonal.
_RIDGE = 1e-4
#: How often the system is solved at least. Each time after the first, what the ridge kept back is given back: only
#: of stars that cannot be separated is anything kept.
_TURNS = 2
#: Neighbours that overlap less than this share count for nothing in the error of a star.
_OVERLAP = 0.02
#: Stars whose covariance is computed together.
_TOGETHER = 8
_NO_PLANE, _NOTHING = np.empty((0, 0), np.float32), np.empty(0)


@dataclass(frozen=True, slots=True)
class StarFit:
    """Fluxes of the stars of a frame, and what is left of it. Arrays have the shape (n,) and the order of the stars.

    Attributes
    ----------
    flux, variance : ndarray
        ADU and ADU^2; NaN for a star without good pixels. The variance holds the noise of the sky, of the
        photons of all stars, and what is not known of the neighbours; it is positive.
    taken : ndarray
        Flux with which the star was subtracted; it differs a little from the final flux.
    increase : ndarray
        Factor by which neighbours increase the variance from the sky; large where two stars cannot be separated.
    chi2 : ndarray
        Reduced chi-square of the pixels of the star; NaN with fewer than two.
    share : ndarray
        Part of the weight of the star's stamp that lies on good pixels.
    sky, sky_err : ndarray
        Level of the residual sky, ADU per pixel, and its error, which is 0 where blocks give the level.
    sky_known : ndarray of bool
        Whether the annulus that was asked for has enough good pixels; blocks give the level where not.
    left : ndarray of float32, shape (height, width)
        The signal without the stars.
    columns, rows : ndarray of int
        The pixel in which the star is.
    sums : ndarray, shape (n, circles, 7)
        Of each circle, ADU: sum of the signal; of what is left; variance of its good pixels; part of the star as it
        was subtracted that such a circle holds wherever in a pixel it is; of the main circle, the part that this one
        holds; the part in pixels that are not good; covariance of the good ones with the fitted flux.
    bad : ndarray of int
        Pixels in the main circle that are not good.
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
    sky_err: Floats
    sky_known: npt.NDArray[np.bool_]
    left: Single
    columns: Places
    rows: Places
    sums: Floats
    bad: Places
    steps: int


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Stars sorted by place, with their stamps and what the image has below them."""

    order: Places | None
    stars: PlacedStars
    stamps: Stamps
    products: Floats
    squares: Floats
    sums: Floats
    counts: Places

    def places(self) -> tuple[Floats, Floats]:
        """Return x and y of the stars."""
        stars = self.stars
        return stars.columns + stars.dx.astype(float), stars.rows + stars.dy.astype(float)


@dataclass(frozen=True, slots=True)
class _System:
    """The normal matrix: what of its diagonal is a ridge, and a triangular factor."""

    matrix: PairMatrix
    ridge: Floats
    pivots: Floats
    factor: Floats
    enough: float

    def again(self, right: Floats, before: Floats) -> tuple[Floats, int]:
        """Return the solution for a right-hand side, with what the ridge kept back from one before."""
        return self.solve(right + self.ridge * before, before)

    def solve(self, right: Floats, start: Floats) -> tuple[Floats, int]:
        """Return the solution for a right-hand side."""
        enough = max(self.enough, _PRECISION**2 * float(np.sum(right * right / self.matrix.diagonal)))
        solution, steps = pair_kernels.conjugate_gradients(
            self.matrix, self.pivots, self.factor, right, start, enough, _MOST_STEPS
        )
        return solution, steps


@dataclass(frozen=True, slots=True)
class Variances:
    """Variances of the pixels of a frame with the photons of its stars, ADU^2, and what makes them the sky's."""

    plane: Pixels
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class FitImage:
    """An image to which stars are fitted.

    Attributes
    ----------
    signal : ndarray of float32, shape (height, width)
        Image minus background, ADU.
    good : ndarray of uint8, shape (height, width)
        1 for pixels that take part.
    rms : ndarray of float32, shape (height, width)
        Noise of the sky per pixel.
    gain : float
        Electrons per ADU.
    variances : Variances or None
        Of each pixel with the photons of the stars; None takes that of the sky and of what is subtracted.
    """

    signal: Pixels
    good: npt.NDArray[np.uint8]
    rms: Pixels
    gain: float
    variances: Variances | None = None

    def without_stars(self, left: Single, clean: bool) -> SubtractedImage:
        """Return the image with what is left of it, as kernels read it; `clean` says that all pixels are good."""
        variances = self.variances or Variances(_NO_PLANE, Agreement())
        plane, scale = variances.plane, variances.agreement.scale
        return SubtractedImage(self.signal, left, self.good, clean, self.gain, plane, scale)

    def rms_below(self, stars: PlacedStars) -> Single:
        """Return the noise of the sky at each star."""
        height, width = self.rms.shape
        return self.rms[_inside(stars.rows, height), _inside(stars.columns, width)]

    def excess(self, stars: PlacedStars, rms: Single) -> Single:
        """Return what is added to the variances of pixels at each star, where the noise of the sky is `rms`."""
        agreement = Agreement() if self.variances is None else self.variances.agreement
        return agreement.excess(stars.columns, stars.rows, rms).astype(np.float32)


def fit_stars(
    image: FitImage,
    x: Floats,
    y: Floats,
    psf: FramePsf,
    level_sky: bool = True,
    circles: Circles | None = None,
    annulus: tuple[float, float] | None = None,
) -> StarFit:
    """Fit the fluxes of all stars at once.

    Parameters
    ----------
    image : FitImage
    x, y : ndarray, shape (n,)
        Positions on the image, 0-based pixels.
    psf : FramePsf
    level_sky : bool
        Whether the mean of what is left is taken off in blocks: stars too faint to be in the list, or light that the
        background map holds and the models as well.
    circles : Circles or None
        In which pixels are summed as well.
    annulus : tuple of float or None
        Radii, pixels, between which what is left gives the sky of each star; None takes that of the blocks.
    """
    clean, noise = bool(image.good.all()), _median_noise(image.rms)
    drawn, left = _draw(x, y, psf, image.signal, image.good, clean)
    system = _system(drawn, image.good, clean, noise)
    flux, _ = system.solve(drawn.products, drawn.products / system.matrix.diagonal)
    wings = _Wings.of(drawn, psf, flux, noise)
    wings.subtract(left, drawn, flux)
    products = stamps.project(drawn.stamps, left, image.good, clean)
    taken, steps = system.again(products, flux)
    stamps.subtract(left, drawn.stamps, taken.astype(np.float32))
    wings.subtract(left, drawn, taken - flux)
    exposure = image.without_stars(left, clean)
    flux, sky = taken, LocalSky.of_blocks(np.zeros(len(x)))
    if level_sky:
        sky = _sky(exposure, noise, drawn, annulus)
        flux, steps = system.again(products - sky.level * drawn.sums, taken)
    rms = image.rms_below(drawn.stars)
    excess = image.excess(drawn.stars, rms)
    subtracted = Subtracted(wings.reach, taken.astype(np.float32), sky.level.astype(np.float32))
    tables = (circles or Circles.none()).with_light(psf)
    sums, bad, beyond, chi2 = sum_pixels(drawn.stars, drawn.stamps, subtracted, tables, exposure, rms, excess)
    shared = noise_overlaps(system.matrix, _OVERLAP, drawn.stamps, exposure, excess - rms * rms)
    variance, increase = local_variance(
        system.matrix,
        Inversion(_OVERLAP, _TURNS, _TOGETHER),
        beyond,
        shared,
        rms,
        taken,
        system.ridge,
        _sky_errors(sky, drawn, annulus),
    )
    fit = StarFit(
        flux=flux,
        taken=taken,
        variance=variance,
        increase=increase,
        chi2=chi2,
        share=_share(drawn),
        sky=sky.level,
        sky_err=sky.error,
        sky_known=sky.known,
        left=left,
        columns=drawn.stars.columns,
        rows=drawn.stars.rows,
        sums=sums,
        bad=bad,
        steps=steps,
    )
    return _in_order(drawn, fit)


def _sky_errors(sky: LocalSky, drawn: _Drawn, annulus: tuple[float, float] | None) -> SkyErrors:
    """Return the errors of the local skies, with what those of neighbours have in common."""
    common = _NOTHING if annulus is None else common_parts(*annulus, SKY_STEP)
    return SkyErrors(sky.error * drawn.sums, *drawn.places(), common)


def _in_order(drawn: _Drawn, fit: StarFit) -> StarFit:
    """Return a fit in the order in which the stars were given, without what follows from no pixel."""
    seen, counts = drawn.squares > 0.0, drawn.counts
    known = replace(
        fit,
        flux=np.where(seen, fit.flux, np.nan),
        variance=np.where(seen, fit.variance, np.nan),
        increase=np.where(seen, fit.increase, np.inf),
        chi2=np.where(counts > 1, fit.chi2 / np.maximum(counts - 1, 1), np.nan),
    )
    if drawn.order is None:
        return known
    back = np.argsort(drawn.order)
    moved = {
        item.name: getattr(known, item.name) for item in fields(known) if item.name not in ("left", "steps")
    }
    return replace(known, **{name: values[back] for name, values in moved.items()})


def _share(drawn: _Drawn) -> Floats:
    """Return the part of the weight of each stamp that lies on good pixels."""
    whole = drawn.squares.copy()
    partial = np.flatnonzero(drawn.counts < (2 * drawn.stamps.half + 1) ** 2)
    whole[partial] = np.sum(drawn.stamps.values[partial].astype(float) ** 2, axis=1)
    return drawn.squares / whole


def by_place(x: Floats, y: Floats) -> Places:
    """Return the order of stars cell by cell; stars that come in it are fitted without being moved about."""
    return np.argsort(_cells(np.rint(x).astype(np.int64), np.rint(y).astype(np.int64))[0], kind="stable")


def _cells(columns: Places, rows: Places) -> tuple[Places, int, int]:
    """Return the cell of each star, and how many there are across and down with empty ones at each edge."""
    across = int(columns.max(initial=0)) // _CELL_PX + 2 * _EDGE_CELLS
    down = int(rows.max(initial=0)) // _CELL_PX + 2 * _EDGE_CELLS
    return (rows // _CELL_PX + _EDGE_CELLS) * across + columns // _CELL_PX + _EDGE_CELLS, across, down


def core_half_size(fwhm_px: float) -> int:
    """Return the half size of the stamps that are fitted."""
    return int(np.clip(np.ceil(_CORE_WIDTHS * fwhm_px), *_CORE_LIMITS))


def _median_noise(rms: Pixels) -> float:
    return float(np.median(rms[::16, ::16]))


def _inside(position: Places, size: int) -> Places:
    return np.clip(position, 0, size - 1)


def _draw(
    x: Floats, y: Floats, psf: FramePsf, signal: Pixels, good: npt.NDArray[np.uint8], clean: bool
) -> tuple[_Drawn, Single]:
    """Draw the stars cell by cell, so that neighbours on the image are so in memory; return a copy of the image."""
    half = core_half_size(psf.fwhm_px)
    columns, rows = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    order: Places | None = None
    if np.any(np.diff(_cells(columns, rows)[0]) < 0):
        order = by_place(x, y)
        columns, rows, x, y = columns[order], rows[order], x[order], y[order]
    dx, dy = (x - columns).astype(np.float32), (y - rows).astype(np.float32)
    stars = PlacedStars(columns, rows, dx, dy, psf.coefficients(x, y), psf.inverse)
    left = np.empty(signal.shape, np.float32)
    values, *sums = stamps.draw_and_project(stars, half, signal, good, clean, left)
    return _Drawn(order, stars, Stamps(columns, rows, values, half), *sums), left


def _system(drawn: _Drawn, good: npt.NDArray[np.uint8], clean: bool, noise: float) -> _System:
    """Return the normal matrix; a star without a good pixel gets an equation of its own."""
    columns, rows, _, half = drawn.stamps
    cells, across, down = _cells(columns, rows)
    reach, far = 2 * half, -(-2 * half // _CELL_PX)
    starts, partners = pair_kernels.list_pairs(columns, rows, cells, across, across * down, reach, far)
    values = pair_kernels.overlaps(starts, partners, drawn.stamps, good, clean)
    diagonal = np.where(drawn.squares > 0.0, drawn.squares, 1.0)
    ridge = _RIDGE * diagonal
    matrix = PairMatrix(diagonal + ridge, starts, partners, values)
    pivots, factor = pair_kernels.incomplete_cholesky(matrix)
    return _System(matrix, ridge, pivots, factor, (_TOLERANCE * noise) ** 2)


@dataclass(frozen=True, slots=True)
class _Wings:
    """How far each star is subtracted: beyond its stamp only where it is bright.

    Attributes
    ----------
    reach : ndarray of int, shape (n,)
        Half sizes of squares.
    least : ndarray, shape (n,)
        The flux below which the wing of a star does not show.
    """

    reach: Places
    least: Floats

    @classmethod
    def of(cls, drawn: _Drawn, psf: FramePsf, flux: Floats, noise: float) -> _Wings:
        """Return the wings of stars of some fluxes."""
        half, coefficients = drawn.stamps.half, drawn.stars.coefficients
        outer = max(int(np.ceil(psf.total_radius_px)), half)
        edge = np.abs(drawn.stamps.values[:, half * (2 * half + 1)])
        reach = np.full(len(flux), half, np.int64)
        bright = np.flatnonzero(flux * edge > _WING_SIGMA * noise)
        if bright.size:
            sizes = [half]
            while sizes[-1] < outer:
                sizes.append(min(int(np.ceil(_WING_STEP * sizes[-1])), outer))
            profile = np.abs(
                psf.values(coefficients[bright[:1]], np.array(sizes, float), np.zeros(len(sizes)))
            )
            # As bright as that at its edge, in units of what it is at the edge of the stamp.
            fall = np.maximum.accumulate((profile / max(profile[0], 1e-30))[::-1])[::-1]
            light = (flux * edge)[bright, None] * fall
            reach[bright] = np.array(sizes)[np.argmax(light <= _WING_SIGMA * noise, axis=1)]
            reach[bright[(light > _WING_SIGMA * noise).all(axis=1)]] = outer
        return cls(reach, _WING_CHANGE * noise / np.maximum(edge, 1e-30))

    def subtract(self, image: Single, drawn: _Drawn, flux: Floats) -> None:
        """Subtract wings from an image, where they show."""
        core, stars = drawn.stamps.half, drawn.stars
        chosen = (self.reach > core) & (np.abs(flux) > self.least)
        for half in np.unique(self.reach[chosen]):
            some = np.flatnonzero(chosen & (self.reach == half))
            winged = stars.taken(some)
            stamps.subtract_wings(image, int(half), core, winged, flux[some].astype(np.float32))


def _sky(
    exposure: SubtractedImage, noise: float, drawn: _Drawn, annulus: tuple[float, float] | None
) -> LocalSky:
    """Return what is left of the sky at the stars: in an annulus, where one is asked for, else between blocks."""
    level = block_sky(exposure.left, exposure.good, exposure.clean, noise, drawn.stamps[:2])
    if annulus is None:
        return LocalSky.of_blocks(level)
    # The stars are taken off, so that neighbours leave the annulus as it is.
    return local_sky(exposure.left, exposure.good.view(np.bool_), *drawn.places(), annulus, level)
