"""Normalisation of PSF fluxes to the growth curve of a frame, and the error of the point spread function."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from skylake.core.flags import SourceFlag
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_aperture_kernels import aperture_table
from skylake.image.psf.psf_fit import StarFit, core_half_size
from skylake.image.psf.psf_model import FramePsf

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

#: Stars that tie the fitted flux to the growth curve: S/N, contamination, and how many are needed.
_MIN_SNR = 50.0
_CONTAMINATION = 0.02
_MIN_STARS = 8
#: The model is nowhere wrong by less than this share of the flux, and by the second where it cannot be determined.
_ERRORS = (0.0003, 0.01)
#: Share of deviations that are to be within their errors.
_WITHIN = 0.6827
_HALVINGS = 12
#: Places within a pixel, along each axis, over which noise is averaged.
_PLACES = 3


class GrowthSums(Protocol):
    """Fluxes of apertures in ADU, without neighbours, and their contamination."""

    @property
    def flux(self) -> dict[str, Floats]: ...  # noqa: D102
    @property
    def flux_err(self) -> dict[str, Floats]: ...  # noqa: D102
    @property
    def contamination(self) -> Floats: ...  # noqa: D102


def growth_normalisation(
    extracted: Extracted,
    psf: FramePsf,
    fit: StarFit,
    sums: GrowthSums,
    flags: Integers,
    relative: dict[str, Floats],
) -> tuple[float, float]:
    """Return the factor that ties the fitted flux to the growth curve, and the relative error of the model.

    Both follow from bright lonely stars: the ratio of their aperture flux, brought to total flux at their place, to
    the fitted one. That of the largest aperture gives the error of the model, as hardly anything is to be added to it.

    Parameters
    ----------
    extracted : Extracted
    psf : FramePsf
    fit : StarFit
    sums : GrowthSums
    flags : ndarray of int32, shape (n,)
    relative : dict of ndarray
        Factors of the aperture corrections at the stars on top of those of the frame; NaN for 1.
    """
    apertures = extracted.camera.apertures
    number = apertures.radii_px.index(apertures.calibrated_radius_px) + 1
    whole, error = _brought_to_total(extracted, sums, relative, number)
    bright = (fit.flux > 0) & (whole > _MIN_SNR * error)
    bright &= (flags & ~np.int32(SourceFlag.FRAME_REJECTED)) == 0
    bright &= np.abs(sums.contamination) < _CONTAMINATION
    if bright.sum() < _MIN_STARS:
        # A fit to the core takes a star for brighter in proportion to its width.
        return 1.0, float(np.hypot(_ERRORS[1], psf.width_err))
    to_total = float(np.median(whole[bright] / fit.flux[bright]))
    outermost = len(apertures.radii_px)
    whole, error = (values[bright] for values in _brought_to_total(extracted, sums, relative, outermost))
    ratio = whole / fit.flux[bright]
    rms = extracted.background.rms
    rows = np.clip(fit.rows[bright], 0, rms.shape[0] - 1)
    columns = np.clip(fit.columns[bright], 0, rms.shape[1] - 1)
    sky = rms[rows, columns].astype(float) ** 2
    factor = extracted.corrections.factor[f"aper{outermost}"]
    noise = _ratio_noise(_weights(psf, apertures.radii_px[-1]), whole, error / factor, sky)
    return to_total, _model_error(ratio / np.median(ratio) - 1.0, noise)


def _brought_to_total(
    extracted: Extracted, sums: GrowthSums, relative: dict[str, Floats], number: int
) -> tuple[Floats, Floats]:
    """Return total fluxes and errors from an aperture without neighbours."""
    here = relative[f"aper{number}"]
    factor = extracted.corrections.factor[f"aper{number}"] * np.where(np.isnan(here), 1.0, here)
    return sums.flux[f"hybrid{number}"] * factor, sums.flux_err[f"hybrid{number}"] * factor


class _Weights(NamedTuple):
    """Sums over the pixels of a star of flux 1.

    The squares of the overlap with a circle, alone and times the star; and the squares of the difference between the
    weights with which a pixel enters the flux of the circle and that of the fit, alone and times the star.
    """

    area: float
    held: float
    sky: float
    photons: float


def _weights(psf: FramePsf, radius: float) -> _Weights:
    """Return what the noise of aperture, fit and their ratio follows from, in the middle of the field."""
    height, width = psf.model.size
    middle = psf.coefficients(np.array([0.5 * (width - 1)]), np.array([0.5 * (height - 1)]))
    half, core = int(np.ceil(radius + 0.5)), core_half_size(psf.fwhm_px)
    table = aperture_table(radius, half, _PLACES)[:, :, : (2 * half + 1) ** 2].astype(float)
    grid = np.arange(-half, half + 1.0)
    y, x = (square.reshape(-1) for square in np.meshgrid(grid, grid, indexing="ij"))
    inside = np.maximum(np.abs(x), np.abs(y)) <= core
    shifts = (np.arange(_PLACES) + 0.5) / _PLACES - 0.5
    sums = []
    for down, dy in enumerate(shifts):
        for across, dx in enumerate(shifts):
            star, overlap = psf.values(middle, dx - x, dy - y), table[down, across]
            own = np.where(inside, star, 0.0)
            difference = overlap / np.sum(overlap * star) - own / np.sum(own**2)
            squares = overlap**2, difference**2
            sums.append([total for square in squares for total in (np.sum(square), np.sum(square * star))])
    return _Weights(*np.mean(sums, axis=0).tolist())


def _ratio_noise(weights: _Weights, flux: Floats, error: Floats, sky: Floats) -> Floats:
    """Return the variances of ratios of aperture to fitted flux.

    Both are sums over the same pixels, so much of their noise is common. The photons of a star are those that the
    error of its aperture has beyond the noise of the sky.
    """
    photons = np.maximum(error**2 - weights.area * sky, 0.0) / weights.held
    return np.asarray((weights.sky * sky + weights.photons * photons) / flux**2)


def _model_error(deviation: Floats, variance: Floats) -> float:
    """Return the relative error of the model that explains deviations beyond their variances, from the best stars."""
    best = np.argsort(variance)[: max(_MIN_STARS, len(variance) // 2)]
    squares, variances = deviation[best] ** 2, variance[best]
    low, high = _ERRORS
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        too_small = np.quantile(squares / (variances + middle**2), _WITHIN) > 1.0
        low, high = (middle, high) if too_small else (low, middle)
    return 0.5 * (low + high)
