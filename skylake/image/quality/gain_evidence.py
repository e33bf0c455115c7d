"""Whether the noise of a frame is that of its gain: stars repeat their own shape only as well as their photons allow.

The ring between the first two apertures holds the same share of the light of each star, but for the photons in it, and
for whatever else makes stars differ. They can differ more than photons do, but not less: if they do, a photon is
fewer ADU than the gain says. The level of the sky says the same, unless an unknown zero level is in it, so it
convinces only together with stars.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.cameras import HeaderReading
from skylake.core.doubts import Doubt, doubted
from skylake.core.flags import UNCLEAN
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import RowPart, joined
from skylake.core.robust import robust_fit, sigma_mad
from skylake.image.photometry.measure_sources import Measurements

Floats = npt.NDArray[np.float64]

#: Fewer stars do not show how much they scatter.
_FEWEST_STARS = 20
#: Stars that scatter by less than this part of what their photons would do contradict the gain alone;
_SCATTER_ALONE = 0.3
#: together with a sky whose photons alone would have this many times its variance, they need only scatter by less,
_SKY_VARIANCE, _SCATTER_WITH_SKY = 4.0, 0.7
#: and by so many standard errors of what stars of that number show.
_CERTAIN = 3.5
#: Standard error of a robust scatter of Gaussian values, relative to it, times the square root of their number.
_SCATTER_OF_SCATTER = 1.17
#: Stars with a larger share of light of neighbours differ for that.
_CROWDED = 0.003
#: Where they scatter by more than this part with one shape for all, none of many shapes makes them scatter too little.
_HOPELESS = 1.6
#: Where stars and sky set no limit, photons of the brightest star add this part to the variance of its sky.
_NO_PHOTONS = 0.1


@dataclass(frozen=True, slots=True)
class StarScatter:
    """How the light of stars in a ring departs from the share that all have, and the parts of its variance.

    Attributes
    ----------
    residual : ndarray, shape (n,)
        ADU.
    photons : ndarray
        Photons in the ring and in the first aperture that count, as ADU: divided by the gain they are a variance.
    sky : ndarray
        Variance by the noise of the background, ADU squared.
    """

    residual: Floats
    photons: Floats
    sky: Floats

    def at(self, gain: float, chosen: npt.NDArray[np.bool_] | slice = slice(None)) -> float:
        """Return the scatter of some stars in units of that expected for a gain, electrons per ADU."""
        expected = np.sqrt(self.sky[chosen] + self.photons[chosen] / gain)
        return sigma_mad(self.residual[chosen] / expected)


@dataclass(frozen=True, slots=True)
class ShownGain:
    """The gain of a raw pixel that the noise shows, electrons per ADU, and the doubt about the stated one."""

    gain: float
    doubt: Doubt

    def taken(self, reading: HeaderReading) -> RowPart:
        """Put the gain and the doubt into the reading of a frame; return what they add to its row."""
        reading.gain = self.gain
        reading.doubt(self.doubt)
        return joined(RowPart({"gain_e_per_adu": reading.image_gain}), doubted([self.doubt]))


def contradicted_gain(reading: HeaderReading, measured: Measurements, row: FrameRow) -> ShownGain | None:
    """Return the gain that the noise of a frame shows, if that contradicts the stated one; else None.

    Parameters
    ----------
    reading : HeaderReading
        A gain that a photon transfer has measured is not judged.
    measured : Measurements
    row : FrameRow
        With the level of the sky, in which the zero level is if no step has taken that off, and its noise in a pixel.
    """
    level, rms = row.get("sky_adu") or 0.0, row.get("sky_rms_adu") or 0.0
    if "gain" in reading.camera.reduction.measured or not rms > 0.0:
        return None
    gain = reading.image_gain
    stars = star_scatter(measured, reading.camera.apertures.radii_px, rms, reading.exposure_s, gain)
    bright = stars.photons / gain > stars.sky
    number = int(np.count_nonzero(bright))
    if number < _FEWEST_STARS:
        return None
    scatter = stars.at(gain, bright)
    certain = scatter * (1.0 + _uncertain(number)) < 1.0
    with_sky = level / gain > _SKY_VARIANCE * rms**2 and scatter < _SCATTER_WITH_SKY
    if not certain or not (with_sky or scatter < _SCATTER_ALONE):
        return None
    shown = _shown_gain(stars, gain, level / rms**2) / reading.n_averaged
    return ShownGain(shown, _doubt(reading, shown, stars))


def star_scatter(
    measured: Measurements, radii_px: tuple[float, ...], sky_rms_adu: float, exposure_s: float, gain: float
) -> StarScatter:
    """Return how clean stars differ in the ring between the first two apertures; none for too few or one aperture."""
    none = StarScatter(np.zeros(0), np.zeros(0), np.zeros(0))
    if len(radii_px) < 2:
        return none
    inner, outer = (measured.flux[name] * exposure_s for name in ("aper1", "aper2"))
    clean = (measured.flags & int(UNCLEAN)) == 0
    clean &= measured.crowding < _CROWDED
    chosen = clean & np.isfinite(inner) & np.isfinite(outer) & (inner > 0.0) & (outer > inner)
    inner, ring = inner[chosen], (outer - inner)[chosen]
    if inner.size < _FEWEST_STARS:
        return none
    first, second = (math.pi * radius**2 for radius in radii_px[:2])
    usual = float(np.median(ring / inner))
    sky = np.full(inner.size, ((second - first) + usual**2 * first) * sky_rms_adu**2)
    photons = (usual + usual**2) * inner
    plain = StarScatter(ring - usual * inner, photons, sky)
    bright = photons / gain > sky
    if np.count_nonzero(bright) < _FEWEST_STARS or plain.at(gain, bright) > _HOPELESS:
        return none
    errors = np.sqrt(sky + photons / gain) / inner
    design = _shapes(measured.x[chosen], measured.y[chosen])
    share = robust_fit(design, ring / inner, errors).residuals * inner
    lost = math.sqrt(inner.size / (inner.size - design.shape[1]))
    return StarScatter(share * lost, photons, sky)


def _shapes(x: Floats, y: Floats) -> Floats:
    """Return what the share of a ring depends on: place in the image, and the place of the centre in its pixel."""
    along, up = (2.0 * place / max(float(place.max()), 1.0) - 1.0 for place in (x, y))
    phases = (np.cos(2.0 * np.pi * place) for place in (x, y))
    return np.column_stack([np.ones(len(x)), along, up, along**2 + up**2, *phases])


def _uncertain(number: int) -> float:
    """Return by which part a scatter of so many stars may be another by chance."""
    return _CERTAIN * _SCATTER_OF_SCATTER / math.sqrt(2.0 * number)


def _shown_gain(stars: StarScatter, gain: float, of_sky: float) -> float:
    """Return the largest gain that neither stars nor sky contradict: errors are then rather too large."""
    most = float(np.max(stars.photons / (_NO_PHOTONS * stars.sky)))
    if of_sky > gain:
        most = min(most, of_sky)
    low, high = math.log(gain), math.log(max(most, gain))
    expected = 1.0 + _uncertain(len(stars.residual))
    if stars.at(math.exp(high)) <= expected:
        return math.exp(high)
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if stars.at(math.exp(middle)) < expected else (low, middle)
    return math.exp(low)


def _doubt(reading: HeaderReading, shown: float, stars: StarScatter) -> Doubt:
    stated = next(one for one in reading.readings if one.quantity == "gain")
    gain, card = float(str(stated.value)), stated.source
    bright = stars.photons / (gain * reading.n_averaged) > stars.sky
    scatter = stars.at(gain * reading.n_averaged, bright)
    who, fix = card, "correct it, or give header.gain.cards = [] and detector.gain_e_per_adu in the profile"
    if card == "profile":
        who, fix = "detector.gain_e_per_adu of the profile", "correct it there, or in a [[period]]"
    sentence = (
        f"{who} = {gain:g} electrons per ADU contradicts the noise: {np.count_nonzero(bright)} stars scatter by "
        f"{scatter:.2g} of what their photons would, and pixels show {shown:.3g}, which is used; {fix}"
    )
    return Doubt("gain", ((card, f"{gain:g}"), ("pixels", f"{shown:.3g}")), "pixels", sentence)
