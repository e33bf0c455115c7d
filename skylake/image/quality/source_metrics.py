"""How good a frame is: metrics, and the verdict of the camera's gates on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np

from skylake.core.camera import Camera, Gate
from skylake.core.flags import UNCLEAN, FrameFlag, SourceFlag
from skylake.core.reasons import GATE_REASONS
from skylake.errors import FrameRejected
from skylake.image.photometry.measure_sources import Measurements

#: Shapes are judged on sources brighter than this, which are stars rather than noise.
_SHAPE_SNR = 20.0
#: What has no shape of its own. A trail is to be seen in the metrics, and has no centroid as a rule.
_UNSHAPED = UNCLEAN & ~(SourceFlag.STREAK | SourceFlag.CENTROID_FAILED)
#: Fewer of them make a median of all clean sources the better one.
_MIN_STARS = 10
#: Signal-to-noise ratio of a star at the limit of a frame.
LIMIT_SNR = 5.0
#: Points along each axis of a pixel by which the overlap of an aperture is found.
_SUBPIXELS = 10
#: The kurtosis of fewer orientations scatters too much to recognise a trailed frame.
_MIN_ORIENTATIONS = 60


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics of the sources of a frame, with the names that they have in ``frames``; NaN for none."""

    n_detected: int
    n_sources: int
    n_saturated: int
    fwhm_px: float
    elongation: float
    elongation_max: float
    mean_ellipticity: float
    theta_kurtosis: float
    flux_max: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of the gates.

    Attributes
    ----------
    failed : tuple of str
        Metrics that are outside their limits.
    rejection : FrameRejected or None
        Reason and sentence of the first gate that rejects, which stay together from here on.
    flags : FrameFlag
        GATE_WARNING where a gate warns.
    """

    failed: tuple[str, ...]
    rejection: FrameRejected | None
    flags: FrameFlag


def source_metrics(measured: Measurements) -> Metrics:
    """Return the metrics of measured sources.

    ``theta_kurtosis`` is the excess kurtosis of the orientations about their mean axis: -1.2 for
    orientations at random, and larger where all sources point one way, as in a trailed frame; NaN for
    fewer than 60 sources. ``mean_ellipticity`` takes both into account, how long stars are and whether they
    point one way: it is the length of the mean of (a^2 - b^2) / (a^2 + b^2) as a vector of twice the angle.
    ``fwhm_px`` takes twice the half-light radius of stars that are too wide to measure their profile.
    """
    clean, stars = (measured.flags & int(UNCLEAN)) == 0, judged_stars(measured)
    elongation = measured.a / np.maximum(measured.b, np.finfo(float).tiny)
    shaped = (measured.flags & int(_UNSHAPED)) == 0
    return Metrics(
        n_detected=len(measured),
        n_sources=int(np.count_nonzero(clean)),
        n_saturated=int(np.count_nonzero(measured.flags & SourceFlag.SATURATED)),
        fwhm_px=_median(star_widths(measured)[stars]),
        elongation=_median(elongation[stars]),
        elongation_max=float(elongation[shaped].max()) if shaped.any() else float("nan"),
        mean_ellipticity=_mean_ellipticity(measured.a[stars], measured.b[stars], measured.theta[stars]),
        theta_kurtosis=_excess_kurtosis(_about_mean_axis(measured.theta[clean])),
        flux_max=float(measured.flux_max[clean].max()) if clean.any() else float("nan"),
    )


def limiting_flux(rms_adu: float, radius_px: float, gain: float) -> float:
    """Return the flux in an aperture at which a star is five times its error, ADU.

    The variance is that of the background, the sum of f^2 rms^2 over pixels with the overlap f, and that of the
    photons of the star.

    Parameters
    ----------
    rms_adu : float
        Noise of the background per pixel.
    radius_px : float
        Of the aperture.
    gain : float
        Electrons per ADU.
    """
    photons = LIMIT_SNR**2 / gain
    sky = (LIMIT_SNR * rms_adu) ** 2 * _squared_overlap(radius_px)
    return float(0.5 * (photons + np.sqrt(photons**2 + 4.0 * sky)))


def frame_limit(
    camera: Camera, factor: Mapping[str, float], rms_adu: float, gain: float, exposure_s: float
) -> float:
    """Return the total flux of a star at five times its error in the aperture of calibrations, ADU per second.

    Where the Kron flux is calibrated it is the largest circle, since an ellipse follows its source.

    Parameters
    ----------
    camera : Camera
    factor : mapping of str to float
        From each flux to total flux.
    rms_adu, gain
        As for :func:`limiting_flux`.
    exposure_s : float
        Seconds.
    """
    radius = camera.apertures.calibrated_radius_px
    name = camera.apertures.calibrated_circle
    return limiting_flux(rms_adu, radius, gain) * factor[name] / exposure_s


@cache
def _squared_overlap(radius_px: float) -> float:
    """Return the sum of the squares of the overlaps of pixels with a circle in the middle of a pixel."""
    half = int(np.ceil(radius_px)) + 1
    side = 2 * half + 1
    grid = (np.arange(side * _SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5 * side
    inside = grid[:, None] ** 2 + grid[None, :] ** 2 <= radius_px**2
    overlap = inside.reshape(side, _SUBPIXELS, side, _SUBPIXELS).mean(axis=(1, 3))
    return float(np.sum(overlap**2))


def _median(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def judged_stars(measured: Measurements) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return on which sources shapes are judged: clean bright ones, or all clean ones where those are too few."""
    clean = (measured.flags & int(UNCLEAN)) == 0
    snr = measured.flux["aper1"] / np.maximum(measured.flux_err["aper1"], np.finfo(float).tiny)
    stars = clean & (snr > _SHAPE_SNR)
    return np.asarray(stars if np.count_nonzero(stars) >= _MIN_STARS else clean)


def star_widths(measured: Measurements) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return full widths at half maximum; those of Gaussians of the half-light radius where there are none."""
    return np.asarray(np.where(np.isfinite(measured.fwhm), measured.fwhm, 2.0 * measured.half_light))


def _mean_ellipticity(
    a: np.ndarray[tuple[int], np.dtype[np.float64]],
    b: np.ndarray[tuple[int], np.dtype[np.float64]],
    theta_deg: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> float:
    """Return the length of the mean ellipticity vector; the median of each component, as satellites are longer."""
    if a.size < _MIN_STARS:
        return float("nan")
    along, across = ellipticity_vectors(a, b, theta_deg)
    return float(np.hypot(np.median(along), np.median(across)))


def ellipticity_vectors(
    a: np.ndarray[tuple[int], np.dtype[np.float64]],
    b: np.ndarray[tuple[int], np.dtype[np.float64]],
    theta_deg: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return (a^2 - b^2) / (a^2 + b^2) as vectors of twice the angle."""
    size = (a**2 - b**2) / np.maximum(a**2 + b**2, np.finfo(float).tiny)
    angle = 2.0 * np.radians(theta_deg)
    return size * np.cos(angle), size * np.sin(angle)


def _about_mean_axis(
    theta_deg: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return angles from the mean axis, -90 to 90; 89 and -89 degrees are nearly one direction."""
    doubled = np.exp(2j * np.radians(theta_deg))
    mean = 0.5 * np.degrees(np.angle(doubled.sum()))
    return np.asarray((theta_deg - mean + 90.0) % 180.0 - 90.0)


def _excess_kurtosis(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    if values.size < _MIN_ORIENTATIONS:
        return float("nan")
    centred = values - values.mean()
    variance = float(np.mean(centred**2))
    return float(np.mean(centred**4) / variance**2 - 3.0) if variance > 0 else float("nan")


def judge(metrics: Mapping[str, object], gates: Mapping[str, Gate]) -> Verdict:
    """Hold metrics against the gates of a camera."""
    failed: list[str] = []
    rejection: FrameRejected | None = None
    flags = FrameFlag(0)
    for name, gate in gates.items():
        value = cast("float | None", metrics.get(name))
        if gate.passes(value):
            continue
        failed.append(name)
        if gate.action == "warn":
            flags |= FrameFlag.GATE_WARNING
        elif rejection is None:
            rejection = FrameRejected(GATE_REASONS[name], _sentence(name, value, gate))
    return Verdict(tuple(failed), rejection, flags)


def _sentence(name: str, value: float | None, gate: Gate) -> str:
    value = float("nan") if value is None else value
    if gate.min is not None and value < gate.min:
        return f"{name} is {value:g}, below the limit {gate.min:g} of gates.{name} in the profile"
    return f"{name} is {value:g}, above the limit {gate.max:g} of gates.{name} in the profile"
