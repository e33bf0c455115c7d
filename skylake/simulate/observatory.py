"""The camera of a scenario, with every gap of its profile filled by an estimate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from skylake.cameras import Profile, load
from skylake.core.bands import BANDS
from skylake.core.batch import night_span
from skylake.core.camera import Camera, FilterBand
from skylake.errors import ConfigurationError
from skylake.simulate.colours import SIMULATED_BANDS, colour_index, has_band, has_colour, magnitude
from skylake.simulate.scenario import Scenario
from skylake.simulate.stamps import Moffat

_DEFAULT_SIZE_PX = 1024
_DEFAULT_SCALE_ARCSEC = 5.0
_DEFAULT_DIAMETER_M = 0.1
#: Photons of a star of magnitude 0 per second and square metre within a broad band, and the part of
#: them that becomes electrons.
_PHOTONS_OF_MAG_ZERO = 8.8e9
_THROUGHPUT = 0.4
_DETECTION_SNR = 5.0
_LARGEST_UINT16 = 65535.0
#: A star in the middle of the colour distribution.
_TYPICAL_COLOUR = 0.7


@dataclass(frozen=True, slots=True)
class Observatory:
    """The camera, as it is simulated.

    Attributes
    ----------
    profile : Profile
        The camera through its life.
    filter_name, filter_band : str, FilterBand
        The filter of all frames.
    shape, stored_shape : tuple of int
        Height and width of the image, and of the array in the file: they differ where the profile trims.
    origin_px : tuple of int
        X and y, in the array, of the first pixel of the image.
    scale_arcsec : float
        Pixel scale.
    zeropoint_e : float
        Mag of 1 electron per second above the atmosphere, total flux, at the pivot colour.
    sky_e_per_s : float
        Dark sky per pixel.
    extinction : float
        Mag per airmass.
    detection_limit : float
        Magnitude in the band of a star of S/N 5 at airmass 1.
    """

    profile: Profile
    filter_name: str
    filter_band: FilterBand
    shape: tuple[int, int]
    stored_shape: tuple[int, int]
    origin_px: tuple[int, int]
    scale_arcsec: float
    zeropoint_e: float
    sky_e_per_s: float
    extinction: float
    detection_limit: float

    @property
    def lit(self) -> tuple[slice, slice]:
        """Rows and columns of the stored array that hold the image."""
        (height, width), (left, bottom) = self.shape, self.origin_px
        return slice(bottom, bottom + height), slice(left, left + width)

    @property
    def area_deg2(self) -> float:
        """Area of the image on the sky."""
        return self.shape[0] * self.shape[1] * (self.scale_arcsec / 3600.0) ** 2

    @property
    def half_diagonal_deg(self) -> float:
        """Angle from the centre of the image to its corners, without distortion."""
        return float(0.5 * np.hypot(*self.shape) * self.scale_arcsec / 3600.0)

    @property
    def v_limit(self) -> float:
        """The detection limit as a V magnitude, for a star of typical colour."""
        return float(self.detection_limit - magnitude(self.filter_band.band, 0.0, _TYPICAL_COLOUR))

    def zeropoint_adu(self, camera: Camera) -> float:
        """Return the zeropoint above the atmosphere for 1 ADU per second, in one period of the camera."""
        return float(self.zeropoint_e - 2.5 * np.log10(camera.detector.gain_e_per_adu))

    def colour_offset(self, b_minus_v: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return colour minus pivot colour of stars; 0 where the filter has no colour."""
        band = self.filter_band
        if band.colour is None:
            return np.zeros(np.shape(b_minus_v))
        return colour_index(band.colour, b_minus_v) - band.pivot_colour


def saturation_level(camera: Camera, scenario: Scenario) -> float:
    """Return the level, ADU, from which pixels count as saturated."""
    level = camera.detector.saturation_adu
    return scenario.detector.saturation_adu if level is None else level


@lru_cache(maxsize=8)
def observatory(scenario: Scenario) -> Observatory:
    """Return the camera of a scenario.

    Raises
    ------
    ConfigurationError
        If there is no such profile, it has no such filter, or its band or colour cannot be simulated.
    """
    profile = load(scenario.camera)
    camera = profile.at(night_span(scenario.first_night, profile.base.site.longitude_deg)[0] + 0.5)
    name, band = _filter(scenario, profile)
    if scenario.pixel_form == "uint16" and saturation_level(camera, scenario) > _LARGEST_UINT16:
        raise ConfigurationError(
            f"{profile.source}: detector.saturation_adu does not fit into 16 bits; take the pixel form int32"
        )
    scale = camera.optics.pixel_scale_arcsec or _DEFAULT_SCALE_ARCSEC
    gain = camera.detector.gain_e_per_adu
    zeropoint = _zeropoint_e(scenario, camera)
    sky = scenario.atmosphere.sky_adu_per_s
    sky_e = sky * gain if sky is not None else _sky_e(scenario, zeropoint, scale)
    extinction = scenario.atmosphere.extinction
    if extinction is None:
        extinction = BANDS[band.band].extinction
    stored = camera.image_shape or (_DEFAULT_SIZE_PX, _DEFAULT_SIZE_PX)
    shape, origin = _image_area(camera, stored)
    limit = _detection_limit(scenario, camera, zeropoint, sky_e) - extinction
    return Observatory(profile, name, band, shape, stored, origin, scale, zeropoint, sky_e, extinction, limit)


def _filter(scenario: Scenario, profile: Profile) -> tuple[str, FilterBand]:
    camera = profile.base
    name = scenario.filter or camera.default_filter or next(iter(camera.filters), None)
    band = camera.filter_band(name)
    if name is None or band is None:
        known = ", ".join(camera.filters) or "none"
        raise ConfigurationError(
            f"{profile.source}: there is no filter {name!r} to simulate; known are {known}"
        )
    if not has_band(band.band) or (band.colour is not None and not has_colour(band.colour)):
        raise ConfigurationError(
            f"{profile.source}: filters.{name}: band {band.band!r} with colour {band.colour!r} cannot be "
            f"simulated; stars have the bands {', '.join(SIMULATED_BANDS)}"
        )
    return name, band


def _image_area(camera: Camera, stored: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shape of the image and where it begins in the stored array."""
    left, right = camera.detector.trim_x or (0, stored[1])
    bottom, top = camera.detector.trim_y or (0, stored[0])
    return (top - bottom, right - left), (left, bottom)


def _zeropoint_e(scenario: Scenario, camera: Camera) -> float:
    gain = camera.detector.gain_e_per_adu
    if scenario.atmosphere.zeropoint is not None:
        return float(scenario.atmosphere.zeropoint + 2.5 * np.log10(gain))
    radius = 0.5 * (camera.optics.diameter_m or _DEFAULT_DIAMETER_M)
    return float(2.5 * np.log10(_PHOTONS_OF_MAG_ZERO * _THROUGHPUT * np.pi * radius**2))


def _sky_e(scenario: Scenario, zeropoint_e: float, scale: float) -> float:
    return float(10.0 ** (-0.4 * (scenario.atmosphere.sky_mag_arcsec2 - zeropoint_e)) * scale**2)


def _detection_limit(scenario: Scenario, camera: Camera, zeropoint_e: float, sky_e: float) -> float:
    """Return the magnitude of S/N 5, above the atmosphere, from F / sqrt(F + n sigma^2) = 5."""
    exposure = scenario.exposure_s
    pixel_variance = (sky_e + scenario.detector.dark_e_per_s) * exposure + camera.detector.read_noise_e**2
    noise_pixels = float(Moffat(scenario.optics.fwhm_px, beta=scenario.optics.beta).noise_pixels)
    half = 0.5 * _DETECTION_SNR**2
    flux = half + np.sqrt(half**2 + _DETECTION_SNR**2 * noise_pixels * pixel_variance)
    return float(zeropoint_e - 2.5 * np.log10(flux / exposure))
