"""Cameras: header dialect, detector, optics, site, filters and limits.

The classes here are plain values. Profiles are TOML files read by :mod:`skylake.cameras`; the fields below are
their keys, so this file is also the reference of the profile format.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from skylake.core.astrometry_settings import Astrometry
from skylake.core.bands import filter_called
from skylake.core.detector_place import DetectorPlace
from skylake.core.ids import config_sha256
from skylake.core.reduction_settings import BadPixels, CosmicRays, SkyFrames
from skylake.settings import Catalogs

Scale = Literal["utc", "tai", "tt"]
#: Steps of the reduction; those that need a master bear its kind.
Step = Literal[
    "trim",
    "overscan",
    "unlit",
    "reference",
    "bias",
    "dark",
    "linearity",
    "flat",
    "bayer",
    "bad_pixels",
    "cosmic_rays",
    "sky",
]

#: What photon transfers measure of a detector.
Measurable = Literal["gain", "read_noise", "linearity"]

#: The flux columns of ``sources``, in order: ``flux_aper1`` … ``flux_kron``. Further apertures are nested.
FLUXES = ("aper1", "aper2", "aper3", "kron")
#: So many apertures have columns of their own.
N_PLAIN_CIRCLES = 3


@dataclass(frozen=True, slots=True)
class Site:
    """Where the camera stands. Without a longitude nights run from noon to noon UTC."""

    name: str = ""
    longitude_deg: float | None = None
    """East positive."""
    latitude_deg: float | None = None
    height_m: float = 0.0
    pressure_hpa: float | None = None
    """Usual pressure of the air there, not reduced to the sea; that of the standard atmosphere if None."""
    temperature_c: float | None = None
    """Usual temperature of the air at night; that of the standard atmosphere if None."""

    @property
    def known(self) -> bool:
        """Whether altitudes above the horizon can be computed."""
        return self.longitude_deg is not None and self.latitude_deg is not None


@dataclass(frozen=True, slots=True)
class TimeCards:
    """One way in which headers give the time of a frame."""

    cards: tuple[str, ...]
    """One card, or a card of the date and one of the time, which are joined."""
    format: Literal["iso", "mjd", "jd", "unix"] = "iso"
    scale: Scale | None = None
    """None is that of the card TIMESYS, else UTC; a scale that TIMESYS contradicts fails the frame."""
    zone_hours: float = 0.0
    """Clock minus UTC: -7 for Mountain Standard Time."""
    refers_to: Literal["start", "mid", "end"] = "start"
    fallback: bool = False
    """Read only where no way before it gives a time: an end that may hold the readout."""


@dataclass(frozen=True, slots=True)
class ValueCards:
    """Cards that may hold a value, in order of preference."""

    cards: tuple[str, ...] = ()
    scale: float = 1.0
    """Factor from the header's unit to ours; 0.001 for milliseconds."""
    combine: Literal["first", "mean"] = "first"
    """What to do with several cards: the first that is there, or the mean of all (amplifiers)."""
    minimum: float | None = None
    maximum: float | None = None
    """A value outside is a placeholder of the header, and counts as missing; an exposure beyond the maximum
    fails the frame. None takes what no detector exceeds."""


@dataclass(frozen=True, slots=True)
class HeaderDialect:
    """How to read the headers of a camera."""

    time: tuple[TimeCards, ...] = ()
    """Every way that is present is read; if two disagree by more than the tolerance the frame fails."""
    time_scale: tuple[str, ...] = ("TIMESYS",)
    """Cards that name the time scale; none where they are known to be wrong."""
    time_tolerance_s: float = 2.0
    file_time: str | None = None
    """Regular expression over the file name with groups year, month, day, hour, minute, second."""
    file_time_zone_hours: float = 0.0
    exposure: ValueCards = field(default_factory=lambda: ValueCards(("EXPTIME", "EXPOSURE"), minimum=0.0))
    gain: ValueCards = field(default_factory=lambda: ValueCards(("GAIN",), minimum=0.001))
    read_noise: ValueCards = field(default_factory=lambda: ValueCards(("RDNOISE",), minimum=0.0))
    saturation: ValueCards = field(default_factory=ValueCards)
    temperature: ValueCards = field(default_factory=ValueCards)
    filter: tuple[str, ...] = ("FILTER",)
    object: tuple[str, ...] = ("OBJECT",)
    kind: tuple[str, ...] = ()
    """Cards that say what a frame is (OBSTYPE, IMAGETYP …)."""
    science_kinds: tuple[str, ...] = ()
    """Values of the kind card, in lower case, of frames of the sky; empty takes any but those of calibrations."""
    bias_kinds: tuple[str, ...] = ("bias", "zero")
    dark_kinds: tuple[str, ...] = ("dark",)
    flat_kinds: tuple[str, ...] = ("flat", "skyflat", "domeflat", "twilight")
    """Values of the kind card, in lower case, or words in it, of the frames that masters are made of."""
    binning: tuple[str, ...] = ("XBINNING", "YBINNING")
    """One card with both numbers, or one for each axis; a frame that has none of them is 1 x 1."""
    readout: tuple[str, ...] = ()
    """Cards that show how the detector was read out, as mode, speed and offset: masters fit frames alike in all."""
    wcs: Literal["header", "none"] = "header"
    """'none' where the header's WCS is known to be wrong."""
    extension: int | str | None = None
    """HDU of the image; None takes the first that holds one."""


@dataclass(frozen=True, slots=True)
class Detector:
    """The detector, in raw pixels; ranges are 0-based and half open."""

    width_px: int | None = None
    height_px: int | None = None
    gain_e_per_adu: float = 1.0
    """Used, and flagged GAIN_ASSUMED, where the header gives none."""
    read_noise_e: float = 10.0
    saturation_adu: float | None = None
    """Raw level, after BSCALE and BZERO, from which a pixel counts as saturated."""
    linearity_adu: float | None = None
    """Raw level from which the response is no longer linear."""
    trim_x: tuple[int, int] | None = None
    trim_y: tuple[int, int] | None = None
    overscan_x: tuple[int, int] | None = None
    overscan_y: tuple[int, int] | None = None
    unlit: tuple[tuple[int, int, int, int], ...] = ()
    """Areas that see no light, as the corners around the image of a fisheye lens: x from and to, y from and to."""
    reference_border_px: int = 0
    """Width of the border of reference pixels, which see no light, of a near-infrared array."""
    reference_channels: int = 1
    """Readout channels side by side, each corrected by its own reference pixels."""
    linearity: tuple[float, ...] = ()
    """c2, c3 … of the linear signal x + c2 x^2 + c3 x^3 … from the measured one, in ADU above bias and dark."""
    bayer_pattern: Literal["RGGB", "BGGR", "GRBG", "GBRG"] | None = None
    """Colours of the first two rows of raw pixels of a colour camera."""


@dataclass(frozen=True, slots=True)
class Optics:
    """The optics, as far as a reader of headers needs to know them."""

    pixel_scale_arcsec: float | None = None
    projection: str = "TAN"
    plate_scale_arcsec_mm: float | None = None
    """Angle on the sky of a millimetre in the focal plane; turns the lengths of [place] to angles."""
    diameter_m: float | None = None
    """Of the entrance pupil; sets the scintillation."""


@dataclass(frozen=True, slots=True)
class FilterBand:
    """The catalog band that a filter is calibrated to."""

    band: str
    colour: str | None = None
    """Colour of the linear term, such as 'B-V'; None fits none."""
    pivot_colour: float = 0.0
    """Colour at which the zeropoint is quoted."""
    aliases: tuple[str, ...] = ()
    """Other names of the filter in headers."""
    clear_zeropoint: float | None = None
    """Zeropoint under a clear sky, for ADU per second: how many stars of the catalog a clear frame shows follows."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """Background and detection."""

    engine: Literal["skylake", "sep"] = "skylake"
    """'skylake' finds peaks in the image filtered with the shape of a star; 'sep' finds connected pixels, as
    SExtractor does."""
    background_mesh_px: int = 64
    background_filter: int = 3
    """Tiles of the mesh, along x and along y, of which the median is taken."""
    peak_sigma: float = 4.5
    """Engine 'skylake': the smallest peak of a source, in standard deviations of the filtered image; about the
    signal-to-noise ratio of the source."""
    filter_fwhm_px: float | None = None
    """Engine 'skylake': full width at half maximum of the filter; None takes that of the stars of each frame.
    Peaks that are much sharper are no sources."""
    threshold_sigma: float = 1.5
    """Engine 'sep', as all keys from here to clean_parameter: threshold in standard deviations of a pixel. The
    defaults are those of two decades of SExtractor practice."""
    min_area_px: int = 5
    kernel: Literal["pyramid", "none"] = "pyramid"
    """'pyramid' smooths with the 3 x 3 kernel 1 2 1 / 2 4 2 / 1 2 1 before detection."""
    deblend_levels: int = 32
    deblend_contrast: float = 0.005
    clean: bool = True
    clean_parameter: float = 1.0
    max_pixels: int = 3_000_000
    """Pixels above the threshold that detection may hold; when full, the threshold is raised once."""
    edge_margin_px: float = 10.0
    """Detections nearer to the edge are flagged EDGE."""

    @property
    def threshold(self) -> float:
        """The threshold of the engine."""
        return self.threshold_sigma if self.engine == "sep" else self.peak_sigma


@dataclass(frozen=True, slots=True)
class Apertures:
    """Where flux is summed."""

    radii_px: tuple[float, ...] = (3.0, 5.0, 8.0)
    """Any number of radii: aper1, aper2, …"""
    sky_annulus_px: tuple[float, float] | None = None
    """Inner and outer radius of a local sky; None trusts the background map."""
    kron_factor: float = 2.5
    kron_minimum: float = 3.5
    """Smallest Kron aperture; like the Kron radius in units of a and b."""
    total_radius_px: float = 12.0
    """Radius that counts as the whole star; aperture corrections lead up to it."""
    flux: str = "aper2"
    """The flux that calibrations use."""

    @property
    def calibrated_radius_px(self) -> float:
        """Radius of the aperture of calibrations; for the Kron flux that of the largest circle."""
        return self.radii_px[self.circles.index(self.calibrated_circle)]

    @property
    def calibrated_circle(self) -> str:
        """Name of the aperture of calibrations; for the Kron flux that of the largest circle."""
        return self.circles[-1] if self.flux == "kron" else self.flux

    @property
    def circles(self) -> tuple[str, ...]:
        """Names of the apertures: aper1, aper2 and so on."""
        return tuple(f"aper{number}" for number in range(1, len(self.radii_px) + 1))

    @property
    def fluxes(self) -> tuple[str, ...]:
        """Names of the fluxes of a detection: all of :data:`FLUXES`, with further apertures before the last."""
        return (*FLUXES[:N_PLAIN_CIRCLES], *self.circles[N_PLAIN_CIRCLES:], "kron")


@dataclass(frozen=True, slots=True)
class ReductionSteps:
    """The way from raw pixels to an image."""

    steps: tuple[Step, ...] = ("overscan", "trim")
    """The steps, in order. A step that needs a master takes it from the calibration library of the lake."""
    measured: tuple[Measurable, ...] = ()
    """Values taken from the photon transfers of the calibration library instead of headers and profile."""
    colour: Literal["R", "G", "G1", "G2", "B"] = "G"
    """Plane that the step bayer takes; G is the mean of the two green pixels of each cell."""
    temperature_tolerance_c: float = 3.0
    """Masters of a detector that was warmer or colder by more do not fit; unknown temperatures do."""
    flat_temperature_tolerance_c: float | None = None
    """The same for flats; None takes them at any temperature, for what a pixel makes of light hardly depends on it."""
    exposure_tolerance: float = 0.01
    """Part of an exposure up to which two count as the same."""
    use: dict[Step, tuple[str, ...]] = field(default_factory=dict)
    """Masters of the library to choose among by name, for each step that takes one, whenever they are valid."""
    validity_days: float | None = None
    """For how long before and after its frames a new master is valid; None is as long as the period lasts."""
    bad_pixels: BadPixels = field(default_factory=BadPixels)
    cosmic_rays: CosmicRays = field(default_factory=CosmicRays)
    sky: SkyFrames = field(default_factory=SkyFrames)


@dataclass(frozen=True, slots=True)
class Gate:
    """A limit on a metric of the frame."""

    min: float | None = None
    max: float | None = None
    action: Literal["reject", "warn"] = "reject"

    def passes(self, value: float | None) -> bool:
        """Return whether a value is within the limits; an unknown value passes."""
        if value is None or value != value:
            return True
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


@dataclass(frozen=True, slots=True)
class ClearSky:
    """Which catalog stars a clear frame shows; what is missing of them shows clouds."""

    stars: int = 100
    """So many of the brightest stars in the image are expected, where the catalog has them."""
    mag_range: tuple[float, float] = (-30.0, 40.0)
    """Catalog magnitudes of these stars: none that saturates beyond recognition, none near the limit."""


@dataclass(frozen=True, slots=True)
class Injection:
    """How completeness is measured."""

    stars: int = 0
    """Stars of known flux that are put into every frame, to see which are found; 300 give the limit to some percent.
    It takes about as long as the rest of the reduction; 0 does without."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How frames are matched with a catalog and calibrated."""

    match_radius_arcsec: float | None = None
    """None takes four standard errors of the distance, at least one pixel and at most three."""
    min_stars: int = 5
    """Fewer good matches give no zeropoint, nor do fewer than five that agree. Where one star of ten is an outlier,
    three or four stars give zeropoints that are off by ten or twenty times their error in the worst of 400 frames;
    the error of five is as honest as that of many."""
    max_mag_err: float = 0.05
    """Matches with a larger error of the instrumental magnitude take no part; S/N of 20 and more."""
    max_crowding: float = 0.05
    """Matches whose neighbours bring a larger share of flux into the aperture, beyond what the sky took off, take no
    part."""
    colour_range: tuple[float, float] = (-0.5, 2.0)
    """Stars outside take no part in the fit."""
    mag_range: tuple[float, float] = (-5.0, 30.0)
    """Catalog magnitudes that take part; chosen by catalog, never by measured flux."""
    colour_term_prior: float = 0.0
    colour_term_prior_err: float = 0.5
    """Prior of the night's colour term, for nights with few stars."""
    catalog_mag_err: float = 0.05
    """Error of catalog magnitudes where the catalog gives none."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera in one period of its life."""

    name: str
    description: str = ""
    site: Site = field(default_factory=Site)
    header: HeaderDialect = field(default_factory=HeaderDialect)
    detector: Detector = field(default_factory=Detector)
    optics: Optics = field(default_factory=Optics)
    filters: dict[str, FilterBand] = field(default_factory=dict)
    default_filter: str | None = None
    """Filter of frames whose header names none."""
    reduction: ReductionSteps = field(default_factory=ReductionSteps)
    extraction: Extraction = field(default_factory=Extraction)
    apertures: Apertures = field(default_factory=Apertures)
    gates: dict[str, Gate] = field(default_factory=dict)
    """Limits by the name of the metric in ``frames``."""
    clear_sky: ClearSky = field(default_factory=ClearSky)
    astrometry: Astrometry = field(default_factory=Astrometry)
    place: DetectorPlace = field(default_factory=DetectorPlace)
    injection: Injection = field(default_factory=Injection)
    calibration: Calibration = field(default_factory=Calibration)
    catalog: Catalogs = field(default_factory=Catalogs)
    """Catalogs that solve and calibrate this camera, in place of those of the lake."""

    def filter_key(self, name: str | None) -> str | None:
        """Return what a filter is called in the profile, whatever name or alias a header has; None if unknown."""
        return filter_called(name, {key: (key, *band.aliases) for key, band in self.filters.items()})

    def called_filter(self, name: str | None) -> str | None:
        """Return the name of a filter in the profile for any name of it; an unknown name is returned unchanged."""
        return self.filter_key(name) or name

    def filter_band(self, name: str | None) -> FilterBand | None:
        """Return the band of a filter by its name or an alias; None if unknown."""
        return self.filters.get(self.filter_key(name) or "")

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width of raw frames, if the profile knows them."""
        if self.detector.width_px is None or self.detector.height_px is None:
            return None
        return self.detector.height_px, self.detector.width_px

    @property
    def place_arcsec(self) -> tuple[float, float]:
        """X and y of the centre of the image in the focal plane, seconds of arc."""
        place, plate = self.place, self.optics.plate_scale_arcsec_mm
        x = place.x_arcsec if place.x_mm is None or plate is None else place.x_mm * plate
        y = place.y_arcsec if place.y_mm is None or plate is None else place.y_mm * plate
        return x, y

    @property
    def configuration(self) -> dict[str, Any]:
        """Everything in the profile that can change a result."""
        values: dict[str, Any] = asdict(self)
        del values["description"], values["site"]["name"]
        # Keys that are not set change no result, so earlier frames keep the same configuration.
        if self.catalog == Catalogs():
            del values["catalog"]
        bands = ((band, "clear_zeropoint") for band in values["filters"].values())
        for part, key in ((values["header"], "readout"), *bands):
            if part.get(key) in (None, ()):
                part.pop(key, None)
        return values

    @property
    def sha256(self) -> str:
        """SHA-256 of :attr:`configuration`."""
        return config_sha256(self.configuration)
