"""Stars for the point spread function: bright, clean and isolated ones of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.core.flags import UNCLEAN, UNUSABLE_PIXEL, PixelFlag, SourceFlag
from skylake.core.reasons import Status
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.psf_kernels import draw_stamps
from skylake.image.psf.psf_model import FramePsf, PsfModel, PsfSums, Shape, solve_psf, sum_stars

Floats = npt.NDArray[np.float64]

#: Stars per frame, at most.
_MAX_STARS = 150
#: With fewer the shape of a frame is not fitted.
_MIN_STARS = 5
_MIN_SNR = 40.0
#: Light that neighbours may bring into the aperture of calibrations; so many of the least crowded are taken in any
#: case, or a crowded field would have none.
_CROWDING = 0.01
_LONELIEST = 20
#: Pixels around the footprint of a neighbour that still belong to it.
_WIDEN_PX = 3
#: Half size of the stamps from which the shape of a frame is found, in full widths.
_SHAPE_WIDTHS = 1.6
#: A model is wrong by about this share of the light of a star in each pixel; it keeps the brightest star from
#: counting for all.
_MODEL_ERROR = 0.02
#: A star whose chi-square is so many times the usual one is no single star.
_ODD = 4.0
_ROUNDS = 6
_STEP = 0.01
_DONE = 1e-3
#: Fewer stars give the width of a frame alone, fainter ones too; so much do the logarithms of the widths of the frames
#: of a night differ.
_MIN_SNR_OF_FEW = 10.0
_NIGHT_SPREAD = 0.15
#: Width and elongation beyond these are not believed: the former as a factor to what detection saw.
_WIDTH_FACTOR = 2.0
_MAX_ELONGATION = 0.45


@dataclass(frozen=True, slots=True)
class PsfStars:
    """Stamps of stars.

    Attributes
    ----------
    x, y : ndarray, shape (n,)
        Windowed centroids.
    flux : ndarray, shape (n,)
        Total flux from the aperture of calibrations, ADU.
    half : int
        Half size of the stamps.
    values, good : ndarray, shape (n, m)
        Pixels of the signal, and whether they are those of the star alone.
    noise : ndarray, shape (n,)
        Noise of the sky per pixel.
    """

    x: Floats
    y: Floats
    flux: Floats
    half: int
    values: Floats
    good: npt.NDArray[np.bool_]
    noise: Floats

    @property
    def offsets(self) -> tuple[Floats, Floats]:
        """Offsets of the pixels from their star, shape (n, m) each."""
        grid = np.arange(-self.half, self.half + 1.0)
        dx = grid[None, None, :] - (self.x - np.rint(self.x))[:, None, None]
        dy = grid[None, :, None] - (self.y - np.rint(self.y))[:, None, None]
        dx, dy = np.broadcast_arrays(dx, dy)
        return dx.reshape(len(self.x), -1), dy.reshape(len(self.x), -1)

    def drawn(self, psf: FramePsf) -> Floats:
        """Return the stars as they are drawn with flux 1, shape (n, m)."""
        dx, dy = (values - np.rint(values) for values in (self.x, self.y))
        coefficients = psf.coefficients(self.x, self.y)
        stamps = draw_stamps(
            dx.astype(np.float32), dy.astype(np.float32), coefficients, psf.inverse, self.half
        )
        return np.asarray(stamps[:, : self.values.shape[1]], float)

    def cropped(self, half: int) -> PsfStars:
        """Return the stars with smaller stamps."""
        side, cut = 2 * self.half + 1, self.half - half
        middle = np.arange(side * side).reshape(side, side)[cut : side - cut, cut : side - cut].reshape(-1)
        values, good = self.values[:, middle], self.good[:, middle]
        return PsfStars(self.x, self.y, self.flux, half, values, good, self.noise)

    def take(self, which: npt.NDArray[np.bool_]) -> PsfStars:
        """Return some of the stars."""
        return PsfStars(
            self.x[which],
            self.y[which],
            self.flux[which],
            self.half,
            self.values[which],
            self.good[which],
            self.noise[which],
        )


def sums_of_frame(extracted: Extracted) -> PsfSums | None:
    """Return what the stars of a frame say of the form of the point spread function.

    None for a frame with too few stars, or one that was rejected.
    """
    if extracted.row["status"] != Status.OK:
        return None
    height, width = extracted.signal.shape
    radius = extracted.camera.apertures.total_radius_px
    stars = choose_stars(extracted, int(np.ceil(radius)))
    if len(stars.x) < _MIN_STARS:
        return None
    plain = PsfModel.moffat(_seen_width(extracted), (height, width))
    near = stars.cropped(min(_shape_half(extracted), stars.half))
    shape, fine = fit_shape(near, FramePsf(plain, plain.shape, radius), extracted.gain)
    if not fine.sum() >= _MIN_STARS:
        return None
    stars = stars.take(fine)
    psf = FramePsf(plain, shape, radius)
    dx, dy = stars.offsets
    light = stars.flux[:, None] * stars.drawn(psf)
    variance = stars.noise[:, None] ** 2 + light / extracted.gain + (_MODEL_ERROR * light) ** 2
    use = stars.good & (np.hypot(dx, dy) <= radius + 0.5)
    weights = np.where(use, stars.flux[:, None] ** 2 / variance, 0.0)
    return sum_stars(
        stars.values / stars.flux[:, None], weights, dx, dy, stars.x, stars.y, shape, (height, width)
    )


def psf_of_frame(model: PsfModel | None, extracted: Extracted) -> FramePsf:
    """Return the point spread function of a frame: the form of a night with the width of the frame.

    Without a form it has that of its own stars, the same all over the field: what takes off too much or too little of
    the wings of all stars makes their sky too low or too high. With too few stars it is a Moffat profile as wide as
    the detections. Of a form that is known few and faint stars give the width too.
    """
    height, width = extracted.signal.shape
    radius = extracted.camera.apertures.total_radius_px
    known = model is not None and model.size == (height, width)
    if model is None or not known:
        own = sums_of_frame(extracted)
        plain = PsfModel.moffat(_seen_width(extracted), (height, width))
        model = plain if own is None else solve_psf(own, most_order=0)
    start, half = FramePsf(model, model.shape, radius), _shape_half(extracted)
    stars = choose_stars(extracted, half)
    shape, fine = fit_shape(stars, start, extracted.gain)
    if fine.sum() >= _MIN_STARS:
        psf = FramePsf(model, shape, radius)
    elif known:
        psf = _with_width(start, choose_stars(extracted, half, _MIN_SNR_OF_FEW), extracted.gain)
    else:
        psf = start
    return psf if len(stars.x) < _MIN_STARS else replace(psf, chi2=_disagreement(stars, psf, extracted.gain))


def _disagreement(stars: PsfStars, psf: FramePsf, gain: float) -> float:
    """Return the reduced chi-square of the pixels of stars, the median over them: one may have a hidden companion."""
    drawn = stars.drawn(psf)
    flux, residual = _residuals(stars, drawn)
    light = np.maximum(flux, 0.0)[:, None] * drawn
    variance = stars.noise[:, None] ** 2 + np.maximum(light, 0.0) / gain + (_MODEL_ERROR * light) ** 2
    degrees = np.maximum(stars.good.sum(axis=1) - 1, 1)
    return float(np.median(np.sum(residual**2 / variance, axis=1) / degrees))


def _seen_width(extracted: Extracted) -> float:
    widths = extracted.measured.fwhm[np.isfinite(extracted.measured.fwhm)]
    return float(np.median(widths)) if widths.size else 0.5 * extracted.camera.apertures.radii_px[0]


def _shape_half(extracted: Extracted) -> int:
    return int(np.clip(np.ceil(_SHAPE_WIDTHS * _seen_width(extracted)), 3, 10))


def choose_stars(extracted: Extracted, half: int, least_snr: float = _MIN_SNR) -> PsfStars:
    """Return bright, clean, lonely stars with the pixels around them, without those of other detections."""
    from scipy.ndimage import maximum_filter

    measured, camera = extracted.measured, extracted.camera
    name = f"aper{camera.apertures.radii_px.index(camera.apertures.calibrated_radius_px) + 1}"
    flux = measured.flux[name] * extracted.exposure_s
    error = measured.flux_err[name] * extracted.exposure_s
    usable = (flux > least_snr * error) & ((measured.flags & int(UNCLEAN & ~SourceFlag.FRAME_REJECTED)) == 0)
    usable &= measured.edge_distance > half + 1
    candidates = np.flatnonzero(usable)
    crowding = np.nan_to_num(measured.crowding[candidates], nan=1.0)
    limit = _CROWDING
    if candidates.size > 0:
        limit = max(limit, float(np.sort(crowding)[min(_LONELIEST, candidates.size) - 1]))
    chosen = candidates[crowding <= limit]
    chosen = chosen[np.argsort(-flux[chosen], kind="stable")[:_MAX_STARS]]
    x, y = measured.x[chosen], measured.y[chosen]
    grid = np.arange(-half, half + 1)
    rows = np.rint(y).astype(np.intp)[:, None, None] + grid[None, :, None]
    columns = np.rint(x).astype(np.intp)[:, None, None] + grid[None, None, :]
    segments = extracted.detections.segments[rows, columns]
    own = (measured.number[chosen] + 1)[:, None, None]
    # The light of a neighbour does not end at its isophote.
    strangers = (segments != own) & (segments > 0)
    widened = maximum_filter(strangers, (1, 2 * _WIDEN_PX + 1, 2 * _WIDEN_PX + 1)) if len(x) else strangers
    bad = (extracted.image.mask[rows, columns] & np.uint8(UNUSABLE_PIXEL | PixelFlag.SATURATED)) != 0
    good = ~bad & ~(widened & (segments != own))
    shape = (len(x), grid.size**2)
    return PsfStars(
        x,
        y,
        flux[chosen] * extracted.corrections.factor[name],
        half,
        extracted.signal[rows, columns].reshape(shape).astype(float),
        good.reshape(shape),
        np.asarray(measured.sky_rms[chosen], float),
    )


def fit_shape(stars: PsfStars, start: FramePsf, gain: float) -> tuple[Shape, npt.NDArray[np.bool_]]:
    """Return width and elongation that fit the stars of a frame best, and which stars agree with them.

    Gauss-Newton on three numbers; the flux of each star is free, and eliminated.
    """
    first = start.shape
    values = np.array([0.0, first.plus, first.cross])
    fine = np.ones(len(stars.x), bool)
    if len(fine) < _MIN_STARS:
        return first, fine
    shape = first
    weights = _weights(stars, stars.drawn(start), gain)
    for turn in range(_ROUNDS):
        psf = FramePsf(start.model, shape, start.total_radius_px)
        drawn = stars.drawn(psf)
        flux, residual = _residuals(stars, drawn)
        chi2 = weights * np.sum(residual**2, axis=1) / np.maximum(stars.good.sum(axis=1) - 1, 1)
        if turn >= 1:
            fine = (flux > 0) & (chi2 <= _ODD * max(float(np.median(chi2)), 1.0))
        if fine.sum() < _MIN_STARS:
            return first, fine
        slopes = _slopes(stars, psf, drawn, flux, weights * fine, values, first.width)
        normal = slopes @ slopes.T
        right = slopes @ (np.sqrt(weights * fine)[:, None] * residual).reshape(-1)
        step = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(3), right)
        values = values + np.clip(step, -0.3, 0.3)
        shape = _shape(values, first.width)
        if turn >= 1 and np.abs(step).max() < _DONE:
            break
    if abs(values[0]) > np.log(_WIDTH_FACTOR) or np.hypot(values[1], values[2]) > _MAX_ELONGATION:
        return first, fine
    return shape, fine


def _shape(values: Floats, width: float) -> Shape:
    return Shape(float(width * np.exp(values[0])), float(values[1]), float(values[2]))


def _weights(stars: PsfStars, drawn: Floats, gain: float) -> Floats:
    """Return a weight for each star; all its pixels count alike, so that its wings do not outweigh its core."""
    light = stars.flux[:, None] * drawn
    share = np.sum(stars.good * drawn**2, axis=1)
    photons = np.sum(stars.good * drawn**2 * light, axis=1) / np.maximum(share, 1e-12) / gain
    wrong = np.sum(stars.good * drawn**2 * (_MODEL_ERROR * light) ** 2, axis=1) / np.maximum(share, 1e-12)
    return np.asarray(1.0 / (stars.noise**2 + photons + wrong))


def _residuals(stars: PsfStars, drawn: Floats) -> tuple[Floats, Floats]:
    """Return the flux of each star, and the residuals of its pixels; 0 where they are not its own."""
    use = stars.good.astype(float)
    flux = np.sum(use * drawn * stars.values, axis=1) / np.maximum(np.sum(use * drawn**2, axis=1), 1e-12)
    return flux, use * (stars.values - flux[:, None] * drawn)


def _slopes(
    stars: PsfStars,
    psf: FramePsf,
    drawn: Floats,
    flux: Floats,
    weights: Floats,
    values: Floats,
    width: float,
    numbers: Sequence[int] = (0, 1, 2),
) -> Floats:
    """Return by how much the weighted pixels of all stars change with some of the values, shape (numbers, pixels)."""
    slopes = []
    drawn = drawn * stars.good
    whole = np.maximum(np.sum(drawn**2, axis=1), 1e-30)
    scale = (flux * np.sqrt(weights))[:, None]
    for number in numbers:
        moved = values.copy()
        moved[number] += _STEP
        other = stars.drawn(FramePsf(psf.model, _shape(moved, width), psf.total_radius_px)) * stars.good
        slope = (other - drawn) / _STEP
        # What a change of flux could do as well is left out.
        slope = slope - drawn * (np.sum(drawn * slope, axis=1) / whole)[:, None]
        slopes.append((scale * slope).reshape(-1))
    return np.array(slopes)


def _with_width(start: FramePsf, stars: PsfStars, gain: float) -> FramePsf:
    """Return the point spread function of a night with the width that a few stars of a frame give, and its error.

    The widths of a night scatter by some share, which keeps noise from being taken for a width; without stars that is
    the error.
    """
    first = start.shape
    values, prior = np.array([0.0, first.plus, first.cross]), _NIGHT_SPREAD**-2
    psf, error = start, _NIGHT_SPREAD
    for _ in range(_ROUNDS if len(stars.x) else 0):
        drawn = stars.drawn(psf)
        flux, residual = _residuals(stars, drawn)
        weights = _weights(stars, drawn, gain)
        degrees = np.maximum(stars.good.sum(axis=1) - 1, 1)
        chi2 = weights * np.sum(residual**2, axis=1) / degrees
        fine = (flux > 0) & (chi2 <= _ODD * max(float(np.median(chi2)), 1.0))
        slope = _slopes(stars, psf, drawn, flux, weights * fine, values, first.width, (0,))[0]
        normal = float(slope @ slope) + prior
        right = float(slope @ (np.sqrt(weights * fine)[:, None] * residual).reshape(-1)) - prior * values[0]
        step = float(np.clip(right / normal, -0.3, 0.3))
        values[0] += step
        psf, error = FramePsf(start.model, _shape(values, first.width), start.total_radius_px), normal**-0.5
        if abs(step) < _DONE:
            break
    if abs(values[0]) > np.log(_WIDTH_FACTOR):
        return replace(start, width_err=_NIGHT_SPREAD)
    return replace(psf, width_err=error)
