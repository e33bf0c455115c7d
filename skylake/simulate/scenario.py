"""The scenario of a simulation: one frozen value that determines every byte of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from skylake.errors import UsageError

FileForm = Literal["fits", "fits.gz", "fits.fz"]
PixelForm = Literal["uint16", "scaled16", "int32", "float32"]
WcsKind = Literal["good", "wrong", "absent"]


@dataclass(frozen=True, slots=True)
class StarParams:
    """The stars of the sky. Their number grows with magnitude m as 10^(slope m)."""

    per_frame: float = 2000.0
    """Detectable stars (S/N of 5 or more, good weather) that a frame holds, about."""
    density_per_deg2: float | None = None
    """Stars per square degree brighter than `density_mag` in V; overrides `per_frame`."""
    density_mag: float = 12.0
    slope: float = 0.38
    brightest_mag: float = 4.0
    """There are no stars brighter than this."""
    depth_mag: float = 1.5
    """Stars go this far below the detection limit."""
    variable_fraction: float = 0.01
    """Fraction of the stars that vary sinusoidally."""


@dataclass(frozen=True, slots=True)
class SpecialParams:
    """Known variable stars and the new star of the target field."""

    variables: bool = True
    """Whether an eclipsing binary, an RR Lyrae star and a star with a transit stand in the target field."""
    transit_depth_mag: float = 0.03
    transient: bool = True
    peak_fraction: float = 0.2
    """Brightest pixel of the special stars in units of the saturation level."""


@dataclass(frozen=True, slots=True)
class OpticsParams:
    """Point spread function and distortion. Field radii are in units of the half diagonal."""

    fwhm_px: float = 2.5
    """At the centre of the image, median over the frames."""
    fwhm_rms: float = 0.06
    """Relative variation of the FWHM from frame to frame."""
    beta: float = 3.5
    """Exponent of the Moffat profile."""
    fwhm_edge: float = 0.15
    """Relative growth of the FWHM from the centre to the corners, quadratic in radius."""
    fwhm_tilt: float = 0.03
    """Relative growth of the FWHM from the centre to one edge."""
    ellipticity_edge: float = 0.12
    """Radial elongation in the corners, quadratic in radius."""
    ellipticity_tilt: float = 0.02
    """Elongation that is the same everywhere."""
    distortion: float = 0.002
    """Relative growth of radii by the cubic term, seen from pixel to sky, in the corners."""
    mirrored: bool = False
    """Whether east is to the right where north is up."""
    vignetting: float = 0.25
    """Loss of light in the corners, quadratic in radius."""


@dataclass(frozen=True, slots=True)
class DetectorParams:
    """Properties of the detector that the profile does not have."""

    dark_e_per_s: float = 0.05
    hot_fraction: float = 2e-4
    hot_e_per_s: float = 40.0
    """Median dark current of hot pixels."""
    pixel_response_rms: float = 0.005
    """Differences between pixels; only in raw frames."""
    bias_adu: float = 300.0
    """Only in raw frames."""
    pedestal_adu: float = 100.0
    """Constant left in reduced frames, so that unsigned pixels hold negative noise."""
    flat_error: float = 0.003
    """Smooth error, rms, of the flat field that reduced frames were divided by."""
    saturation_adu: float = 60000.0
    """Used where the profile gives none."""


@dataclass(frozen=True, slots=True)
class AtmosphereParams:
    """Transparency, sky and seeing."""

    zeropoint: float | None = None
    """Above the atmosphere, mag of 1 ADU/s, total flux; None estimates it from aperture and gain. In later
    dated blocks of the profile it follows the gain."""
    colour_term: float = 0.12
    extinction: float | None = None
    """Mag per airmass; None takes that of the band."""
    differential: bool = True
    """Whether extinction follows the airmass of each star instead of that of the centre."""
    night_rms_mag: float = 0.02
    drift_mag: float = 0.01
    """Amplitude of slow drifts of the zeropoint within a night."""
    scintillation: float | None = None
    """Relative noise of every star in every frame; None takes Young's formula."""
    cloudy_fraction: float = 0.0
    """Fraction of the frames that are behind clouds."""
    cloud_mag: float = 0.6
    """Typical extinction by clouds."""
    cloud_gradient: float = 0.25
    """Change of the cloud's extinction from the centre to the corners, relative to its mean."""
    sky_mag_arcsec2: float = 21.0
    sky_adu_per_s: float | None = None
    """Dark sky per pixel; None follows from `sky_mag_arcsec2`."""
    sky_gradient: float = 0.04
    """Relative change of the sky from the centre to the corners."""
    moonlight: bool = True


@dataclass(frozen=True, slots=True)
class HeaderParams:
    """Which headers have a WCS, and which of these are wrong."""

    wrong_wcs_fraction: float = 0.0
    absent_wcs_fraction: float = 0.0
    wrong_offset_arcmin: float = 40.0
    """Largest offset of a wrong WCS; the smallest is half of it."""


@dataclass(frozen=True, slots=True)
class CatalogParams:
    """Errors of the reference catalog."""

    limit_mag: float | None = None
    """In V; None takes 1 mag below the detection limit."""
    mag_error: float = 0.02
    """Of bright stars; it doubles about 2 mag above the limit."""
    position_error_mas: float = 30.0
    motion_error_mas_yr: float = 2.0
    outlier_fraction: float = 0.01
    outlier_mag: float = 0.5
    """Largest error of outliers."""
    epoch: float = 2000.0


@dataclass(frozen=True, slots=True)
class ScheduleParams:
    """When and where the camera looks."""

    target: tuple[float, float] | None = None
    """RA and declination, degrees, of the target field; None takes one that culminates in the first night."""
    fields: int = 0
    """Survey fields in addition to the target field."""
    target_fraction: float | None = None
    """Fraction of the frames on the target field; None takes all without survey fields, else half."""
    cadence_s: float | None = None
    """Seconds from one start of exposure to the next; None spreads the frames over the night."""
    minimum_altitude_deg: float = 35.0
    sun_altitude_deg: float = -15.0
    dither_px: float = 3.0
    rotation: Literal["fixed", "random", "parallactic"] = "fixed"
    """'parallactic' is the rotation of a camera on an alt-azimuth mount."""
    rotation_deg: float = 0.0
    """Position angle of +y, east of north; with 'parallactic' its offset from the direction of the zenith."""


@dataclass(frozen=True, slots=True)
class MosaicParams:
    """How far detectors and telescope are from where profile and cards say; for cameras whose profiles have them."""

    offset_arcsec: float = 5.0
    """Of the centre of a detector in the focal plane, rms along each axis."""
    angle_deg: float = 0.1
    """Of its angle, rms."""
    pointing_arcsec: float = 20.0
    """Of the telescope, rms along each axis."""
    rotation_deg: float = 0.1
    """Of its rotation, rms."""
    wrong_rotation_fraction: float = 0.0
    """Exposures whose rotation card is wrong by 20 degrees or more."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A simulation.

    Attributes
    ----------
    camera : str
        Name of a shipped profile or path of a TOML file.
    nights, first_night : int
        Number of nights, and the first as YYYYMMDD of the local evening.
    filter : str, optional
        Name of a filter of the profile; None takes the default or first one.
    raw : bool
        Whether frames still hold bias, dark current and vignetting. If so, `calibration_frames` bias,
        dark and twilight-flat frames a night are made as well.
    seed : int
        The same scenario gives the same bytes, another seed another sky.
    """

    camera: str = "sim"
    nights: int = 2
    first_night: int = 20240407
    frames_per_night: int = 60
    exposure_s: float = 30.0
    filter: str | None = None
    raw: bool = False
    calibration_frames: int = 5
    file_form: FileForm = "fits"
    pixel_form: PixelForm = "uint16"
    streak_fraction: float = 0.03
    """Fraction of the frames with the trail of a satellite."""
    seed: int = 1
    stars: StarParams = field(default_factory=StarParams)
    specials: SpecialParams = field(default_factory=SpecialParams)
    optics: OpticsParams = field(default_factory=OpticsParams)
    detector: DetectorParams = field(default_factory=DetectorParams)
    atmosphere: AtmosphereParams = field(default_factory=AtmosphereParams)
    header: HeaderParams = field(default_factory=HeaderParams)
    catalog: CatalogParams = field(default_factory=CatalogParams)
    schedule: ScheduleParams = field(default_factory=ScheduleParams)
    mosaic: MosaicParams = field(default_factory=MosaicParams)

    def __post_init__(self) -> None:
        for key, value in _fractions(self).items():
            if not 0.0 <= value <= 1.0:
                raise UsageError(f"the simulation cannot be made: {key} lies between 0 and 1")
        problems = [
            (self.nights < 1, "nights is 1 or more"),
            (not 1 <= self.frames_per_night <= 9999, "frames_per_night lies between 1 and 9999"),
            (self.exposure_s <= 0.0, "exposure_s is positive"),
            (self.schedule.fields < 0, "schedule.fields is not negative"),
            (self.optics.beta <= 1.0, "optics.beta is larger than 1"),
            (self.optics.fwhm_px < 1.0, "optics.fwhm_px is 1 or more"),
            (self.stars.slope <= 0.0, "stars.slope is positive"),
            (
                self.pixel_form == "scaled16" and self.file_form == "fits.fz",
                "file_form fits.fz takes another pixel_form than scaled16",
            ),
        ]
        for wrong, rule in problems:
            if wrong:
                raise UsageError(f"the simulation cannot be made: {rule}")


def _fractions(scenario: Scenario) -> dict[str, float]:
    header = scenario.header
    return {
        "streak_fraction": scenario.streak_fraction,
        "stars.variable_fraction": scenario.stars.variable_fraction,
        "atmosphere.cloudy_fraction": scenario.atmosphere.cloudy_fraction,
        "header.wrong_wcs_fraction": header.wrong_wcs_fraction,
        "header.absent_wcs_fraction": header.absent_wcs_fraction,
        "the sum of both WCS fractions": header.wrong_wcs_fraction + header.absent_wcs_fraction,
        "catalog.outlier_fraction": scenario.catalog.outlier_fraction,
        "schedule.target_fraction": scenario.schedule.target_fraction or 0.0,
        "mosaic.wrong_rotation_fraction": scenario.mosaic.wrong_rotation_fraction,
    }
