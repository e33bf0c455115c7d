"""Completeness by injection: stars of known flux are put into a real frame, and those that are found are counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera
from skylake.core.flags import UNCLEAN, SourceFlag
from skylake.core.frame import Image, Pixels
from skylake.errors import FrameRejected
from skylake.image.detection.background import Background, estimate_background, refine_background
from skylake.image.detection.detect_sources import detect_sources
from skylake.image.photometry.measure_sources import Measurements, measure_sources
from skylake.image.quality.completeness import Completeness, wilson
from skylake.image.quality.field_cells import SIDE, cell_of
from skylake.image.quality.source_metrics import frame_limit

Floats = npt.NDArray[np.float64]

#: Stars that are put into the frame at a time stand so many full widths apart, and at least some pixels.
_APART_WIDTHS, _APART_PX = 8.0, 20.0
#: As many pixels of the image have one of them at most, or background and noise would rise and dim the image; that is
#: how many there are on any image, however small.
_AREA_PX, _FEWEST = 64**2, 8
#: More stars than are missing are tried, as some do not count.
_SPARE = 1.1
#: Stars of a bin have so many fluxes within it: where they are found from one flux on, only those near it show which.
_STEPS = 5
#: Half width of the stamp of a star, in full widths.
_STAMP_WIDTHS = 4.0
#: Stars whose mean is the stamp: at most, and at least; else it is a Moffat profile (Trujillo et al. 2001).
_MAX_STARS, _MIN_STARS, _BETA = 60, 5, 3.5
_STAMP_SNR = 50.0
#: A rejected frame has stars like any other.
_UNCLEAN = int(UNCLEAN & ~SourceFlag.FRAME_REJECTED)
#: A star is found if something is detected within half a full width, and one pixel, with a flux right to a factor.
_FOUND_WIDTHS, _FOUND_PX, _FOUND_FACTOR = 0.5, 1.0, 2.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as its reduction left it.

    Attributes
    ----------
    image : Image
        With its mask and, where there is one, its variance plane.
    background : Background
    measured : Measurements
        Its sources.
    camera : Camera
    gain : float
        Electrons per ADU.
    exposure_s : float
        Seconds.
    factor : mapping of str to float
        From each flux to total flux.
    """

    image: Image
    background: Background
    measured: Measurements
    camera: Camera
    gain: float
    exposure_s: float
    factor: Mapping[str, float]

    def total(self, measured: Measurements) -> Floats:
        """Return total fluxes of sources, ADU per second, from the flux that is calibrated."""
        name = self.camera.apertures.flux
        return measured.flux[name] * self.factor[name]

    @property
    def limit(self) -> float:
        """Total flux of a star of S/N 5, ADU per second."""
        return frame_limit(self.camera, self.factor, self.background.median_rms, self.gain, self.exposure_s)


@dataclass(frozen=True, slots=True)
class InjectionTrial:
    """How stars are injected.

    Attributes
    ----------
    stars : int
        Stars in all.
    bins : int
        Bins of flux in which they are counted.
    range : tuple of float
        The middles of the bins go from so much to so much of the flux of a star of S/N 5.
    seed : int
        Of their places and noise.
    """

    stars: int = 3000
    bins: int = 14
    range: tuple[float, float] = (0.2, 10.0)
    seed: int = 1


def inject(frame: Frame, trial: InjectionTrial) -> Completeness:
    """Put stars into a frame again and again, detect and measure all anew, and count which are found.

    Stars have the mean profile of bright stars of the frame and the photon noise of their flux, which is added to the
    variance plane. They fall anywhere, on other stars too: what confusion hides counts as not found. Those that a
    source of the frame would be taken for without them are left out.
    """
    fluxes = frame.limit * np.geomspace(*trial.range, trial.bins)
    fine, bin_of = _fine_fluxes(fluxes)
    fwhm = _full_width(frame.measured)
    stamp, reach = _stamp(frame, fwhm), max(_FOUND_PX, _FOUND_WIDTHS * fwhm)
    random = np.random.default_rng(trial.seed)
    chance, cells = np.zeros(trial.bins, np.int64), np.zeros((2, SIDE**2, fine.size), np.int64)
    # No more light than is needed is added to the field at a time.
    most = max(_FEWEST, frame.image.pixels.size // _AREA_PX)
    while (done := int(cells[0].sum())) < trial.stars:
        x, y = _places(frame.image.pixels.shape, fwhm, random)
        if x.size == 0:
            break
        some = random.permutation(x.size)[: min(most, int(_SPARE * (trial.stars - done)) + 1)]
        x, y = x[some], y[some]
        which = random.integers(fine.size, size=x.size)
        there = _among(frame, frame.measured, x, y, fine[which], reach)
        # No more of those that count than are missing.
        wanted = np.cumsum(~there) <= trial.stars - done
        x, y, which, there = x[wanted], y[wanted], which[wanted], there[wanted]
        measured = _measured_anew(frame, _with_stars(frame, stamp, x, y, fine[which], random))
        seen = (
            np.zeros(x.size, bool) if measured is None else _among(frame, measured, x, y, fine[which], reach)
        )
        chance += np.bincount(bin_of[which[there]], minlength=trial.bins)
        place = cell_of(x, y, frame.image.pixels.shape)
        np.add.at(cells[0], (place[~there], which[~there]), 1)
        np.add.at(cells[1], (place[seen & ~there], which[seen & ~there]), 1)
    injected, found = cells.sum(axis=1).reshape(2, trial.bins, -1).sum(axis=2)
    low, high = wilson(found, injected)
    with np.errstate(invalid="ignore"):
        fraction = found / injected
    return Completeness(fluxes, injected, found, fraction, low, high, frame.limit, chance, fine, cells)


def _fine_fluxes(fluxes: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return some fluxes within each bin, at even distances over all of them, and the bin of each."""
    step = np.log(fluxes[-1] / fluxes[0]) / max(len(fluxes) - 1, 1)
    within = (np.arange(_STEPS) + 0.5) / _STEPS - 0.5
    return (fluxes[:, None] * np.exp(step * within)).ravel(), np.repeat(np.arange(len(fluxes)), _STEPS)


def _full_width(measured: Measurements) -> float:
    clean = np.isfinite(measured.fwhm) & ((measured.flags & _UNCLEAN) == 0)
    widths = measured.fwhm[clean] if clean.any() else measured.fwhm[np.isfinite(measured.fwhm)]
    return float(np.median(widths)) if widths.size else 2.5


def _stamp(frame: Frame, fwhm: float) -> Pixels:
    """Return the median profile of bright clean stars, centred on the middle pixel, of total flux 1."""
    from scipy.ndimage import shift

    half, measured = int(np.ceil(_STAMP_WIDTHS * fwhm)), frame.measured
    name = frame.camera.apertures.flux
    total = frame.total(measured) * frame.exposure_s
    good = ((measured.flags & _UNCLEAN) == 0) & (measured.crowding < 0.02)
    good &= (measured.flux[name] > _STAMP_SNR * measured.flux_err[name]) & (measured.edge_distance > half + 1)
    chosen = np.flatnonzero(good)[np.argsort(-total[good])][:_MAX_STARS]
    if chosen.size < _MIN_STARS:
        return _moffat(half, fwhm)
    pixels, level = frame.image.pixels, frame.background.level
    stamps = []
    for star in chosen:
        column, row = round(measured.x[star]), round(measured.y[star])
        window = slice(row - half, row + half + 1), slice(column - half, column + half + 1)
        moved = shift(
            pixels[window] - level[window],
            (row - measured.y[star], column - measured.x[star]),
            order=3,
            mode="nearest",
        )
        stamps.append(moved / total[star])
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


def _with_stars(
    frame: Frame, stamp: Pixels, x: Floats, y: Floats, flux: Floats, random: np.random.Generator
) -> Image:
    """Return the image with stars of total fluxes in ADU per second, the noise of their photons among that."""
    from scipy.ndimage import shift

    image, half = frame.image, stamp.shape[0] // 2
    pixels = image.pixels.copy()
    variance = None if image.variance is None else image.variance.copy()
    for place, light in enumerate(flux * frame.exposure_s):
        column, row = round(x[place]), round(y[place])
        window = slice(row - half, row + half + 1), slice(column - half, column + half + 1)
        star = light * shift(stamp, (y[place] - row, x[place] - column), order=3, mode="nearest")
        photons = np.maximum(star, 0.0) / frame.gain
        pixels[window] += (star + random.normal(0.0, 1.0, star.shape) * np.sqrt(photons)).astype(np.float32)
        if variance is not None:
            variance[window] += photons.astype(np.float32)
    return replace(image, pixels=pixels, variance=variance)


def _measured_anew(frame: Frame, image: Image) -> Measurements | None:
    """Return the sources of an image, found and measured as those of the frame were; None where there is none."""
    camera = frame.camera
    background = estimate_background(image, camera.extraction)
    signal = image.pixels - background.level
    try:
        found = detect_sources(
            signal,
            background.rms,
            image.mask,
            camera.extraction,
            frame.gain,
            image.variance,
            image.read_variance,
        )
    except FrameRejected:
        return None
    background = refine_background(image, background, found, camera.extraction, signal)
    return measure_sources(image, background, signal, found, camera, frame.gain, frame.exposure_s)


def _among(
    frame: Frame, measured: Measurements, x: Floats, y: Floats, flux: Floats, reach: float
) -> npt.NDArray[np.bool_]:
    """Return which stars are among sources: one lies within reach, with their total flux (ADU/s) up to a factor."""
    from scipy.spatial import cKDTree

    if len(measured.x) == 0:
        return np.zeros(len(x), bool)
    distance, nearest = cKDTree(np.column_stack([measured.x, measured.y])).query(np.column_stack([x, y]))
    total = frame.total(measured)[nearest]
    return np.asarray((distance <= reach) & (total > flux / _FOUND_FACTOR) & (total < flux * _FOUND_FACTOR))
