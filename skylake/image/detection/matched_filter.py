"""Source detection by a matched filter, peaks and a watershed: the engine 'skylake'."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Extraction
from skylake.core.flags import UNUSABLE_PIXEL, PixelFlag, SourceFlag
from skylake.core.frame import Pixels
from skylake.core.reasons import Reason
from skylake.errors import FrameRejected
from skylake.image.detection import footprint_kernels
from skylake.image.detection.detections import RAISE, Detections
from skylake.image.detection.footprint_kernels import sharpness, sum_footprints
from skylake.image.detection.matched_filter_kernels import Limit, Trust, list_significant, sample_filtered
from skylake.image.detection.variance_plane import agree, sampled
from skylake.image.detection.watershed_kernels import (
    Passes,
    Significant,
    join_basins,
    join_wings,
    list_passes,
    mark_touching,
    number_basins,
    summits,
)
from skylake.image.detection.width_kernels import star_curvatures

Plane = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
#: Footprints end where the filtered image falls below this share of the threshold.
_ISOPHOTE = 3.0 / 4.5
#: A peak must rise above the pass to a higher one by so many standard deviations of the sky …
_RISE_SIGMA = 1.0
#: … and by this share of its height, or so many standard deviations of its own light and the sky …
_RISE_SHARE = 0.06
_RISE_CLEAR = 3.0
#: … and by this share of its height in any case: images of stars are not that smooth.
_RISE_LEAST_SHARE = 0.02
#: A neighbour matters where the pass to it is above the threshold and this share of the height of the peak.
_TOUCH_SHARE = 0.02
#: Share of the light of the brightest pixel whose noise the filter sees.
_SEEN = 0.7
#: The filter reaches so many full widths to each side.
_REACH = 1.2
#: Widths of stars that are believed, pixels.
_WIDTHS = (1.0, 10.0)
#: Width that is taken where no star gives one, pixels.
_DEFAULT_WIDTH = 2.5
#: Stars that give the width have peaks of so many standard deviations; so many are enough, or the least.
_BRIGHT_SIGMA = 25.0
_ENOUGH_STARS = 60
_FEWEST_STARS = 5
#: Of wider stars, pixels farther from the peak are compared.
_WIDE_PX = 4.0
#: A peak with less light beside it, in units of a star's, is a hot pixel or the track of a particle.
_SHARP = 0.4
#: The sharpest of stars, pixels; and lines on which a star has less light beside its brightest pixel say nothing.
_SHARPEST = 1.25
_LEAST_BESIDE = 0.1
#: Most frames list less than one of so many of the pixels that may be listed.
_FEW = 8
_UNUSABLE = np.uint8(UNUSABLE_PIXEL)
_SATURATED = np.uint8(PixelFlag.SATURATED)
#: Rows of a frame in which the noise of the filtered image is looked at, and the fewest pixels that give it.
_SAMPLED_ROWS = 40
_FEWEST_SAMPLED = 300
#: Share of a Gaussian more than two standard deviations below its mean.
_FAR_BELOW = 0.02275
#: What chance adds to that noise is below this over the root of the number of pixels, most of which share some light.
_CHANCE = 4.0
_NO_PLANE = np.zeros((0, 0), np.float32)
_NO_STAR = np.uint8(UNUSABLE_PIXEL | PixelFlag.SATURATED | PixelFlag.NEAR_SATURATED)


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of an image.

    Attributes
    ----------
    rms : ndarray of float32, shape (height, width)
        That of the background.
    gain : float
        Electrons per ADU, for the photon noise of sources in the errors of their centroids.
    variance : ndarray of float32 or None
        Variance of each pixel with the photons of its light, as far as it is known, ADU^2.
    read_variance : float or None
        What read noise has of it, ADU^2; None where the gain is not known.
    """

    rms: Pixels
    gain: float = np.inf
    variance: Pixels | None = None
    read_variance: float | None = None

    @property
    def trust(self) -> Trust:
        """The variance plane, factor and summand that make it that of the background, and what light adds to it."""
        if self.variance is None:
            return Trust(_NO_PLANE, np.float32(1.0), np.float32(0.0), np.float32(0.0))
        # Most pixels are those of the sky unless stars cover half of the image.
        anywhere = np.ones(sampled(self.rms).shape, bool)
        agreement = agree(self.variance, self.rms, anywhere, self.read_variance)
        numbers = agreement.scale, agreement.median_excess(self.rms), 1.0 / self.gain
        scale, excess, photons = (np.float32(number) for number in numbers)
        return Trust(np.ascontiguousarray(self.variance), scale, excess, photons)


def find_peaks(signal: Pixels, noise: Noise, mask: Plane, parameters: Extraction) -> Detections:
    """Find the peaks of the image that is filtered with the shape of a star, and what belongs to each.

    For white noise the best linear filter of a star in sky noise is its own shape (Turin 1960, IRE Trans.
    Inf. Theory 6, 311); the filtered image over its noise is then the signal-to-noise ratio of a star there
    (Irwin 1985, MNRAS 214, 575). The shape is a Gaussian as wide as the stars of the frame. Noise that neighbouring
    pixels share, as frames have from which a sky made of others was taken, passes the filter better than white noise;
    so the noise of the filtered image is measured on itself.

    Parameters
    ----------
    signal : ndarray of float32, shape (height, width)
        Image minus background, ADU.
    noise : Noise
    mask : ndarray of uint8, shape (height, width)
        Bits of :class:`~skylake.core.flags.PixelFlag`.
    parameters : Extraction

    Raises
    ------
    FrameRejected
        ``detection_overflow`` if too many pixels exceed even the raised threshold, ``no_sources`` if
        nothing is found.
    """
    given, rms, gain = parameters.filter_fwhm_px, noise.rms, noise.gain
    width = star_width(signal, rms, mask) if given is None else given
    listed, threshold = _list(signal, noise, mask, gaussian(width or _DEFAULT_WIDTH), parameters)
    peak = number_basins(listed.uphill)
    height = listed.value[peak]
    own = np.sqrt(1.0 + _photons(listed.light[peak], rms.ravel()[listed.place[peak]], gain))
    joined, body, touching = _mountains(listed, peak, own, mask, threshold)
    top = summits(joined, body)
    stands = (top == np.arange(len(top))) & (height >= threshold)
    stands[stands] = _is_star(signal, rms, mask, listed.place[peak[stands]], width)
    if not stands.any():
        raise FrameRejected(
            Reason.NO_SOURCES,
            f"no source above {threshold:g} sigma; clouds, a closed dome or a dark frame",
        )
    number = np.where(stands, np.cumsum(stands) - 1, -1).astype(np.int32)
    limits = np.float32(threshold), np.float32(_TOUCH_SHARE)
    blended = mark_touching(touching, joined, body, number, height, *limits)[stands]
    segments, places = np.zeros(signal.shape, np.int32), listed.place[peak[stands]]
    sums = sum_footprints(listed, number[top], body, places, height[stands], segments)
    flags = np.where(blended > 0, np.int32(SourceFlag.BLENDED), np.int32(0))
    flags |= np.where(sums[:, footprint_kernels.ON_EDGE] > 0.0, np.int32(SourceFlag.EDGE), np.int32(0))
    return Detections(
        **_shapes(sums, places, rms, gain),
        n_pixels=sums[:, footprint_kernels.COUNT].astype(np.int32),
        flux=sums[:, footprint_kernels.FLUX],
        peak=sums[:, footprint_kernels.PEAK],
        segments=segments,
        flags=flags,
        threshold_sigma=threshold,
        raised=threshold != parameters.peak_sigma,
        star_fwhm=width,
    )


def _photons(light: Pixels, rms: Pixels, gain: float) -> Pixels:
    """Return the variance that the light of sources adds, in units of that of the sky."""
    sky = np.maximum(rms.astype(float) ** 2, np.finfo(float).tiny)
    return np.asarray(np.minimum(_SEEN * np.maximum(light, 0.0) / gain / sky, 1e12), np.float32)


def _mountains(
    listed: Significant, peak: Places, noise: Pixels, mask: Plane, threshold: float
) -> tuple[Places, Plane, Passes]:
    """Return the basin with which each is joined, whether they are of one body, and where basins touch."""
    touching = list_passes(listed, mask, _SATURATED)
    order = np.argsort(-touching.height, kind="stable")
    parts = (listed, peak, mask.shape)
    height = listed.value[peak]
    clear = np.maximum(
        np.minimum(_RISE_SHARE * height, _RISE_CLEAR * noise),
        np.maximum(_RISE_SIGMA, _RISE_LEAST_SHARE * height),
    )
    joined, body, rival, highest = join_basins(
        touching, order, *parts, np.float32(_RISE_SIGMA), clear.astype(np.float32)
    )
    for rivals in (rival, highest):
        join_wings(joined, body, rivals, *parts, np.float32(threshold))
    return joined, body, touching


def star_width(signal: Pixels, rms: Pixels, mask: Plane) -> float | None:
    """Return the full width at half maximum of the stars, pixels; None if too few are bright enough.

    It is that of Gaussians through the peaks of stars, the median over stars.

    Parameters
    ----------
    signal, rms, mask
        As for :func:`find_peaks`.
    """
    width = _median_width(signal, rms, mask, 1)
    if width is not None and width > _WIDE_PX:
        return _median_width(signal, rms, mask, round(0.4 * width)) or width
    return width


def _median_width(signal: Pixels, rms: Pixels, mask: Plane, step: int) -> float | None:
    for every in (8, 2, 1):
        squares, alone = star_curvatures(signal, rms, mask, _NO_STAR, np.float32(_BRIGHT_SIGMA), step, every)
        if np.count_nonzero(alone) >= _ENOUGH_STARS:
            break
    # The noise on a trail has many peaks, and they say nothing about stars; in a crowd, no star may stand alone.
    if np.count_nonzero(alone) >= _FEWEST_STARS:
        squares = squares[alone]
    if len(squares) < _FEWEST_STARS:
        return None
    return float(np.clip(_FWHM * np.sqrt(np.median(squares)), *_WIDTHS))


def gaussian(fwhm: float) -> Pixels:
    """Return the middle and one side of a Gaussian of sum 1."""
    side = np.arange(max(1, round(_REACH * fwhm)) + 1)
    weights = np.exp(-0.5 * (side * _FWHM / fwhm) ** 2)
    return np.asarray(weights / (2.0 * weights.sum() - weights[0]), np.float32)


def filtered_noise(signal: Pixels, rms: Pixels, mask: Plane, kernel: Pixels) -> float:
    """Return the standard deviation of the filtered image in units of that for white noise, 1 or more.

    It is given by the pixels far below the background, of which stars have none; where stars are everywhere, the
    median is no background, and nothing is.
    """
    every = max(1, signal.shape[0] // _SAMPLED_ROWS)
    values = sample_filtered(signal, rms, mask, _UNUSABLE, kernel, every)
    if len(values) < _FEWEST_SAMPLED:
        return 1.0
    far, middle = (round(part * len(values)) for part in (_FAR_BELOW, 0.5))
    values.partition((far, middle))
    chance = _CHANCE / np.sqrt(len(values))
    return float(max(1.0, 0.5 * (min(values[middle], 0.0) - values[far]) - chance))


def _list(
    signal: Pixels, noise: Noise, mask: Plane, kernel: Pixels, parameters: Extraction
) -> tuple[Significant, float]:
    """Return the significant pixels and the threshold under which there are not too many of them."""
    most = min(parameters.max_pixels, signal.size)
    filtered = np.float32(filtered_noise(signal, noise.rms, mask, kernel))
    given, trust = (signal, noise.rms, mask, _UNUSABLE, kernel), noise.trust
    # Room for all that may be listed is as large as some images; few frames need it.
    for factor, size in ((1.0, most // _FEW), (1.0, most), (RAISE, most)):
        threshold = parameters.peak_sigma * factor
        least = np.float32(_ISOPHOTE * threshold)
        place, uphill = np.empty(size, np.int32), np.empty(size, np.int32)
        value, light = np.empty(size, np.float32), np.empty(size, np.float32)
        room = Significant(place, value, light, uphill)
        n = list_significant(*given, Limit(least, filtered), trust, room)
        if n >= 0:
            return Significant(place[:n], value[:n], light[:n], uphill[:n]), threshold
    raise FrameRejected(
        Reason.DETECTION_OVERFLOW,
        f"more than {most} pixels exceed {least:g} sigma; the background is wrong (bright twilight, clouds by "
        "moonlight) or extraction.max_pixels of the profile is too small",
    )


def _is_star(
    signal: Pixels, rms: Pixels, mask: Plane, peak: Places, width: float | None
) -> npt.NDArray[np.bool_]:
    """Return which peaks are not sharper than a star can be; saturated ones are not judged."""
    beside = np.exp(-0.5 * (_FWHM / (width or _SHARPEST)) ** 2)
    along, across = (share if share >= _LEAST_BESIDE else 0.0 for share in (beside, beside**2))
    light = sharpness(signal, rms, peak, along, across)
    return np.asarray((light >= _SHARP) | ((mask.ravel()[peak] & _SATURATED) != 0))


def _shapes(sums: Floats, peak: Places, rms: Pixels, gain: float) -> dict[str, Floats]:
    """Return centroids, their errors and ellipses from the sums over footprints.

    The centroid is weighted with the upper part of the filtered image, which is where the light of the star
    is; bumps that were joined with the source are left out.
    """
    y, x = np.divmod(peak, rms.shape[1])
    reach = np.sqrt(sums[:, footprint_kernels.BODY] / np.pi) + 1.0

    def mean(column: int, of: int) -> Floats:
        # A footprint of a few pixels of noise may hold no light at all; its peak is then all that is known.
        total = sums[:, of]
        return np.asarray(sums[:, column] / np.where(total > 0.0, total, np.inf))

    dx, dy = (
        mean(footprint_kernels.X, footprint_kernels.BODY_FLUX),
        mean(footprint_kernels.Y, footprint_kernels.BODY_FLUX),
    )
    xx = mean(footprint_kernels.XX, footprint_kernels.BODY_FLUX) - dx**2
    yy = mean(footprint_kernels.YY, footprint_kernels.BODY_FLUX) - dy**2
    xy = mean(footprint_kernels.XY, footprint_kernels.BODY_FLUX) - dx * dy
    a, b, theta = _ellipse(xx, yy, xy)
    dx, dy = (
        np.clip(mean(n, footprint_kernels.WEIGHT), -reach, reach)
        for n in (footprint_kernels.WX, footprint_kernels.WY)
    )
    # Noise moves the weight too: three quarters as far as the light if the filter is as wide as the star.
    variance = rms[y, x].astype(float) ** 2
    errors = []
    for sky, light in (
        (footprint_kernels.NOISE_X, footprint_kernels.PHOTONS_X),
        (footprint_kernels.NOISE_Y, footprint_kernels.PHOTONS_Y),
    ):
        noise = 1.75 * np.sqrt(variance * sums[:, sky] + sums[:, light] / gain)
        # Nothing is known where there is no light, but that the source lies in its footprint.
        least = np.maximum(noise / reach, np.finfo(float).tiny)
        errors.append(noise / np.maximum(sums[:, footprint_kernels.WEIGHT], least))
    x_err, y_err = errors
    return {"x": x + dx, "y": y + dy, "x_err": x_err, "y_err": y_err, "a": a, "b": b, "theta": theta}


def _ellipse(xx: Floats, yy: Floats, xy: Floats) -> tuple[Floats, Floats, Floats]:
    """Return half axes and angle from second moments; no narrower than a pixel."""
    xx, yy = np.maximum(xx, 1.0 / 12.0), np.maximum(yy, 1.0 / 12.0)
    limit = np.sqrt(xx * yy)
    xy = np.clip(xy, -limit, limit)
    half = 0.5 * (xx + yy)
    root = np.hypot(0.5 * (xx - yy), xy)
    a = np.sqrt(half + root)
    b = np.sqrt(np.maximum(half - root, 1.0 / 12.0))
    return a, b, 0.5 * np.arctan2(2.0 * xy, xx - yy)
