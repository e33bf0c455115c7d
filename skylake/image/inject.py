"""Completeness by injection: stars of known flux are put into a real frame, and it is seen which are found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera, Flux
from skylake.core.flags import UNCLEAN
from skylake.core.frame import Image, Pixels
from skylake.image.background import Background, estimate_background, refine_background
from skylake.image.detect import detect_sources
from skylake.image.measure import Measurements

Floats = npt.NDArray[np.float64]

#: Fluxes go from so much below to so much above that of a star of S/N 5.
_RANGE = (0.2, 10.0)
#: Stars that are put into the frame at a time stand so many full widths apart, and at least some pixels.
_APART_WIDTHS, _APART_PX = 8.0, 20.0
#: Half width of the stamp of a star, in full widths.
_STAMP_WIDTHS = 4.0
#: Stars whose mean is the stamp: at most, and at least; else it is a Moffat profile (Trujillo et al. 2001).
_MAX_STARS, _MIN_STARS, _BETA = 60, 5, 3.5
_STAMP_SNR = 50.0
#: A star is found if something is detected within half a full width, and one pixel, with a flux right to a factor.
_FOUND_WIDTHS, _FOUND_PX, _FOUND_FACTOR = 0.5, 1.0, 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """How stars are injected.

    Attributes
    ----------
    stars : int
        Stars in all.
    bins : int
        Different fluxes.
    seed : int
        Of their places and noise.
    """

    stars: int = 3000
    bins: int = 14
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Completeness:
    """Which share of stars is found, by flux; arrays of shape (n,), ascending in flux.

    Attributes
    ----------
    flux : ndarray
        Total flux, ADU per second.
    n_injected, n_found : ndarray of int
    fraction, low, high : ndarray
        Share that is found, and its 68 % interval (Wilson 1927, JASA 22, 209).
    limiting_flux : float
        Total flux of a star of S/N 5 in the aperture of calibrations, from the noise of the sky.
    """

    flux: Floats
    n_injected: npt.NDArray[np.int64]
    n_found: npt.NDArray[np.int64]
    fraction: Floats
    low: Floats
    high: Floats
    limiting_flux: float


@dataclass(frozen=True, slots=True)
class HalfLight:
    """Where completeness falls to half of what it is for bright stars.

    Attributes
    ----------
    flux, flux_err : float
        Total flux, ADU per second; NaN where the counts do not tell it.
    bright : float
        Share of bright stars that is found: what blends and bad pixels leave.
    width : float
        Standard deviation of the fall, in the decimal logarithm of flux.
    """

    flux: float
    flux_err: float
    bright: float
    width: float


def inject(
    image: Image,
    background: Background,
    measured: Measurements,
    camera: Camera,
    gain: float,
    exposure_s: float,
    correction: float,
    trial: Trial,
) -> Completeness:
    """Put stars into an image again and again, and count which are detected.

    Stars have the mean profile of bright stars of the image and the photon noise of their flux. They fall anywhere,
    on other stars too: what confusion hides counts as not found.

    Parameters
    ----------
    image : Image
    background : Background
    measured : Measurements
        Sources of the image.
    camera : Camera
    gain : float
        Electrons per ADU.
    exposure_s : float
        Seconds.
    correction : float
        Factor from the flux in the aperture of calibrations to total flux.
    trial : Trial

    Returns
    -------
    Completeness
    """
    radius = camera.apertures.calibrated_radius_px
    limit = 5.0 * float(np.sqrt(np.pi) * radius * background.median_rms) * correction
    fluxes = limit * np.geomspace(*_RANGE, trial.bins)
    fwhm = _full_width(measured)
    stamp = _stamp(image, background, measured, fwhm, camera.apertures.flux, exposure_s * correction)
    random = np.random.default_rng(trial.seed)
    injected, found = np.zeros(trial.bins, np.int64), np.zeros(trial.bins, np.int64)
    while injected.sum() < trial.stars:
        x, y = _places(image.pixels.shape, fwhm, random)
        which = random.integers(trial.bins, size=x.size)
        if x.size == 0:
            break
        pixels = image.pixels.copy()
        _add(pixels, stamp, x, y, fluxes[which], gain, random)
        seen = _seen(
            replace(image, pixels=pixels), camera, x, y,
            fluxes[which] / correction, max(_FOUND_PX, _FOUND_WIDTHS * fwhm),
        )  # fmt: skip
        injected += np.bincount(which, minlength=trial.bins)
        found += np.bincount(which[seen], minlength=trial.bins)
    low, high = wilson(found, injected)
    with np.errstate(invalid="ignore"):
        fraction = found / injected
    return Completeness(fluxes / exposure_s, injected, found, fraction, low, high, limit / exposure_s)


def wilson(found: npt.NDArray[np.int64], tried: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the 68 % interval of a share from counts (Wilson 1927, JASA 22, 209); 0 to 1 where nothing was tried."""
    tried = np.maximum(tried, 1e-12)
    share = found / tried
    centre = (share + 0.5 / tried) / (1.0 + 1.0 / tried)
    half = np.sqrt(share * (1.0 - share) / tried + 0.25 / tried**2) / (1.0 + 1.0 / tried)
    return np.clip(centre - half, 0.0, share), np.clip(centre + half, share, 1.0)


def half_light(curve: Completeness) -> HalfLight:
    """Fit the fall of completeness with an error function by maximum likelihood of the counts.

    ``fraction = bright / 2 (1 + erf(log10(flux / flux_half) / (sqrt(2) width)))``; the error of the flux is that of
    the inverse of the information matrix.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, ndtr

    known = curve.n_injected > 0
    place, n, k = np.log10(curve.flux[known]), curve.n_injected[known], curve.n_found[known]
    nothing = HalfLight(float("nan"), float("nan"), float("nan"), float("nan"))
    if not k.any() or place.size < 4 or k[-1] == 0:
        return nothing

    def share(values: Floats) -> Floats:
        bright, centre, width = expit(values[0]), values[1], np.exp(values[2])
        return np.asarray(np.clip(bright * ndtr((place - centre) / width), 1e-9, 1.0 - 1e-9))

    def cost(values: Floats) -> float:
        p = share(values)
        return float(-np.sum(k * np.log(p) + (n - k) * np.log1p(-p)))

    middle = float(place[np.argmin(np.abs(k / n - 0.5 * k[-1] / n[-1]))])
    best = minimize(
        cost, np.array([3.0, middle, np.log(0.15)]), method="Nelder-Mead", options={"maxiter": 4000}
    )
    slopes = np.array([(share(best.x + step) - share(best.x - step)) / 2e-4 for step in 1e-4 * np.eye(3)])
    p = share(best.x)
    information = (slopes * (n / (p * (1.0 - p)))) @ slopes.T
    with np.errstate(invalid="ignore"):
        error = float(np.sqrt(np.linalg.pinv(information)[1, 1]))
    if not place[0] < best.x[1] < place[-1]:
        return nothing
    flux = float(10.0 ** best.x[1])
    return HalfLight(flux, flux * np.log(10.0) * error, float(expit(best.x[0])), float(np.exp(best.x[2])))


def _full_width(measured: Measurements) -> float:
    clean = np.isfinite(measured.fwhm) & ((measured.flags & int(UNCLEAN)) == 0)
    widths = measured.fwhm[clean] if clean.any() else measured.fwhm[np.isfinite(measured.fwhm)]
    return float(np.median(widths)) if widths.size else 2.5


def _stamp(
    image: Image, background: Background, measured: Measurements, fwhm: float, name: Flux, to_total: float
) -> Pixels:
    """Return the median profile of bright clean stars, centred on the middle pixel, of total flux 1."""
    from scipy.ndimage import shift

    half = int(np.ceil(_STAMP_WIDTHS * fwhm))
    flux, error = measured.flux[name], measured.flux_err[name]
    good = ((measured.flags & int(UNCLEAN)) == 0) & (measured.crowding < 0.02) & (flux > _STAMP_SNR * error)
    good &= measured.edge_distance > half + 1
    chosen = np.flatnonzero(good)[np.argsort(-flux[good])][:_MAX_STARS]
    if chosen.size < _MIN_STARS:
        return _moffat(half, fwhm)
    signal = image.pixels - background.level
    stamps = []
    for star in chosen:
        column, row = round(measured.x[star]), round(measured.y[star])
        piece = signal[row - half : row + half + 1, column - half : column + half + 1]
        moved = shift(piece, (row - measured.y[star], column - measured.x[star]), order=3, mode="nearest")
        stamps.append(moved / (flux[star] * to_total))
    stamp = np.median(stamps, axis=0)
    # Noise may make the sum larger than the whole.
    return np.asarray(stamp / max(1.0, float(stamp.sum())), np.float32)


def _moffat(half: int, fwhm: float) -> Pixels:
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    alpha = 0.5 * fwhm / np.sqrt(2.0 ** (1.0 / _BETA) - 1.0)
    stamp = (1.0 + (x**2 + y**2) / alpha**2) ** -_BETA
    return np.asarray(stamp / stamp.sum(), np.float32)


def _places(shape: tuple[int, ...], fwhm: float, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return places anywhere in the image that are apart from each other: one in each cell of a shifted grid."""
    step = max(_APART_WIDTHS * fwhm, _APART_PX)
    edge = int(np.ceil(_STAMP_WIDTHS * fwhm)) + 2
    axes = [np.arange(edge + random.uniform(0.0, step), size - edge, step) for size in shape]
    y, x = (values.ravel() for values in np.meshgrid(*axes, indexing="ij"))
    shake = random.uniform(-0.25 * step, 0.25 * step, (2, x.size))
    x, y = x + shake[0], y + shake[1]
    inside = (x > edge) & (x < shape[1] - 1 - edge) & (y > edge) & (y < shape[0] - 1 - edge)
    return x[inside], y[inside]


def _add(
    pixels: Pixels,
    stamp: Pixels,
    x: Floats,
    y: Floats,
    flux: Floats,
    gain: float,
    random: np.random.Generator,
) -> None:
    """Add stars to pixels, with the photon noise of their own light."""
    from scipy.ndimage import shift

    half = stamp.shape[0] // 2
    for place in range(x.size):
        column, row = round(x[place]), round(y[place])
        star = flux[place] * shift(stamp, (y[place] - row, x[place] - column), order=3, mode="nearest")
        star += random.normal(0.0, 1.0, star.shape) * np.sqrt(np.maximum(star, 0.0) / gain)
        pixels[row - half : row + half + 1, column - half : column + half + 1] += star.astype(np.float32)


def _seen(
    image: Image, camera: Camera, x: Floats, y: Floats, flux: Floats, reach: float
) -> npt.NDArray[np.bool_]:
    """Tell which stars are among what is detected, with about their flux in the aperture of calibrations (ADU)."""
    import sep
    from scipy.spatial import cKDTree

    background = estimate_background(image, camera.extraction)
    masked = image.masked
    found = detect_sources(image.pixels - background.level, background.rms, masked, camera.extraction)
    background = refine_background(image, background, found, camera.extraction)
    distance, nearest = cKDTree(np.column_stack([found.x, found.y])).query(np.column_stack([x, y]))
    held, _, _ = sep.sum_circle(
        image.pixels - background.level, found.x[nearest], found.y[nearest],
        camera.apertures.calibrated_radius_px, mask=masked, subpix=0,
    )  # fmt: skip
    return np.asarray((distance <= reach) & (held > flux / _FOUND_FACTOR) & (held < flux * _FOUND_FACTOR))
