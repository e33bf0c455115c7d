"""Nights of frames of a simulated camera that sees the whole sky, with the truth of its lens and its stars."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from skylake.cameras import load
from skylake.cameras.clock_times import iso_of_mjd
from skylake.core.camera import Camera
from skylake.core.ephemeris import airmass
from skylake.core.horizon import Horizon
from skylake.core.refraction import Air
from skylake.core.sphere import ra_dec
from skylake.simulate.random_streams import generator
from skylake.simulate.whole_sky import Fisheye, Twilight, draw_stars, false_lights

Floats = npt.NDArray[np.float64]

#: Of the simulated camera, mag of 1 ADU/s above the atmosphere; and what a pixel of the sky gives, ADU.
ZEROPOINT, _SKY_ADU = 9.2, 300.0
#: Magnitudes per airmass; lower altitudes are behind hills.
EXTINCTION, _LOWEST_SINE = 0.15, 0.06
_FAINTEST, _FWHM_PX, _BIAS_ADU = 7.5, 2.2, 100.0
_STAMP = 6
#: Centres of nights: hours of UTC at which it is midnight at the site.
_MIDNIGHT_H, _MJD_ZERO = 4.7, date(1858, 11, 17)


@dataclass(frozen=True, slots=True)
class FisheyeNights:
    """What to simulate.

    Attributes
    ----------
    camera : str
        Profile; its site with its air, its detector and the band of its default filter are taken.
    nights, frames_per_night : int
    first_night : int
        Local evening of the first night, YYYYMMDD.
    exposure_s : float
    moved_after : int or None
        Nights after which somebody turns the camera by half a degree and leans it a little more.
    clouds_every : int or None
        Each frame of that number shows clouds alone.
    dusk : Twilight or None
        The sky of the first frames of each night, with its haze and its lights.
    dusk_frames : int
        How many these are.
    seed : int
    """

    camera: str = "sim-fisheye"
    nights: int = 2
    frames_per_night: int = 6
    first_night: int = 20240301
    exposure_s: float = 60.0
    moved_after: int | None = None
    clouds_every: int | None = None
    dusk: Twilight | None = None
    dusk_frames: int = 0
    seed: int = 1

    def lens(self, night: int) -> Fisheye:
        """Return the lens in a night, counted from 0."""
        plain = Fisheye("equidistant", 196.0, (322.3, 316.1), 182.0, 2.5, 130.0, 12.0, False, (0.002, -0.001))
        if self.moved_after is None or night < self.moved_after:
            return plain
        return replace(plain, turn_deg=plain.turn_deg + 0.5, tilt_deg=plain.tilt_deg + 0.3)


@dataclass(frozen=True, slots=True)
class FisheyeResult:
    """The result: the folder, frames in the order of time, the reference catalog, and its number of stars."""

    out: Path
    frames: tuple[Path, ...]
    catalog: Path
    n_catalog: int


def simulate_fisheye(wanted: FisheyeNights, out: str | Path) -> FisheyeResult:
    """Write frames, the catalog of their stars and the truth of the lens into a folder.

    ``truth/lens.json`` has the lens of each night, ``truth/frames.parquet`` what each frame shows.
    """
    folder, camera = Path(out), load(wanted.camera).base
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    vectors, mag = draw_stars(generator(wanted.seed, "catalog"), _FAINTEST)
    n_catalog = _write_catalog(folder / "catalog.parquet", vectors, mag, wanted.seed)
    lenses, rows, paths = [], [], []
    for night in range(wanted.nights):
        lens, day = wanted.lens(night), _day(wanted.first_night) + timedelta(days=night)
        lenses.append({"night": int(f"{day:%Y%m%d}")} | asdict(lens))
        target = folder / "frames" / f"{day:%Y%m%d}"
        target.mkdir(parents=True, exist_ok=True)
        for number, mjd in enumerate(_times(wanted, day)):
            clouded = wanted.clouds_every is not None and number % wanted.clouds_every == 1
            drawn = generator(wanted.seed, f"fisheye-{night}-{number}")
            bright = wanted.dusk if number < wanted.dusk_frames else None
            sky = _light(camera, lens, bright, clouded)
            pixels = _draw(camera, lens, wanted, mjd, (vectors, mag), sky, bright, clouded, drawn)
            paths.append(target / f"{number:04d}.fits")
            _write_frame(paths[-1], pixels, mjd, wanted.exposure_s)
            rows.append({"file": str(paths[-1].relative_to(folder)), "mjd_mid": mjd, "clouded": clouded})
    (folder / "truth" / "lens.json").write_text(json.dumps(lenses, indent=1), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), folder / "truth" / "frames.parquet", write_page_checksum=True)
    return FisheyeResult(folder, tuple(paths), folder / "catalog.parquet", n_catalog)


def _day(night: int) -> date:
    return date(night // 10000, night // 100 % 100, night % 100)


def _times(wanted: FisheyeNights, day: date) -> Floats:
    """Return the middles of exposures, spread over six hours about midnight."""
    midnight = (day - _MJD_ZERO).days + 1 + _MIDNIGHT_H / 24.0
    return np.asarray(midnight + np.linspace(-0.125, 0.125, wanted.frames_per_night))


def _write_catalog(path: Path, vectors: Floats, mag: Floats, seed: int) -> int:
    random = generator(seed, "fisheye-colours")
    ra, dec = ra_dec(vectors)
    colour = np.clip(random.normal(0.7, 0.4, len(mag)), -0.2, 1.8)
    none = np.zeros(len(mag))
    columns = {
        "id": np.arange(1, len(mag) + 1),
        "ra": ra,
        "dec": dec,
        "pmra": none,
        "pmdec": none,
        "V": mag,
        "V_err": none + 0.01,
        "B-V": colour,
    }
    pq.write_table(
        pa.table(columns).replace_schema_metadata({"epoch": "2000.0"}),
        path,
        compression="zstd",
        write_page_checksum=True,
    )
    return len(mag)


def _draw(
    camera: Camera,
    lens: Fisheye,
    wanted: FisheyeNights,
    mjd: float,
    stars: tuple[Floats, Floats],
    light: Floats,
    bright: Twilight | None,
    clouded: bool,
    random: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """Return the image of an exposure, of a sky of some light, ADU."""
    if not clouded:
        band = camera.filter_band(camera.default_filter)
        air = Air.above(camera.site, band.band if band else None)
        horizon = Horizon.of(mjd, camera.site, air)
        lost = EXTINCTION + (0.0 if bright is None else bright.haze_mag)
        altitude = np.degrees(np.arcsin(np.clip(stars[0] @ horizon.axes[2], -1.0, 1.0)))
        mag = stars[1] + lost * airmass(altitude)
        _add_stars(light, lens, horizon.to_horizon(stars[0]), mag, wanted.exposure_s)
    if bright is not None:
        _add_lights(light, lens, bright, random)
    noise = random.normal(0.0, camera.detector.read_noise_e or 8.0, light.shape)
    return np.clip(np.rint(_BIAS_ADU + random.poisson(light) + noise), 0, 65535).astype(np.uint16)


def _light(camera: Camera, lens: Fisheye, bright: Twilight | None, clouded: bool) -> Floats:
    """Return the light of the sky, ADU."""
    height, width = camera.detector.height_px or 640, camera.detector.width_px or 640
    y, x = np.mgrid[:height, :width]
    far = np.hypot(x - lens.centre[0], y - lens.centre[1])
    light = np.where(far < lens.focal_px * lens.radius(np.radians(0.5 * lens.field_deg)), _SKY_ADU, 0.0)
    if clouded:
        light *= 2.0
    if bright is not None:
        directions = lens.to_directions(x.ravel().astype(float), y.ravel().astype(float))
        light *= 10.0 ** (0.4 * bright.brighter(directions)).reshape(light.shape)
    return light


def _add_lights(light: Floats, lens: Fisheye, bright: Twilight, random: np.random.Generator) -> None:
    """Add bright objects other than stars: lamps and domes, pieces of the halo of the Moon, and planets."""
    places, strong = false_lights(random, lens, bright, np.array([2e3, 1e4]))
    _add_points(light, places, strong)


def _add_stars(light: Floats, lens: Fisheye, directions: Floats, mag: Floats, exposure_s: float) -> None:
    """Add the light of stars above the hills, of magnitudes as they are on the ground."""
    up = directions[:, 2] > _LOWEST_SINE
    places = lens.to_pixels(directions[up])
    flux = exposure_s * 10.0 ** (0.4 * (ZEROPOINT - mag[up]))
    _add_points(light, places, flux)


def _add_points(light: Floats, places: Floats, flux: Floats) -> None:
    """Add points of light, spread as a normal distribution over each pixel."""
    from scipy.special import erf

    height, width = light.shape
    shown = np.asarray(np.isfinite(places).all(axis=1))
    inner = np.where(shown[:, None], places, -99.0)
    shown &= (inner > _STAMP).all(axis=1) & (inner[:, 0] < width - _STAMP - 1)
    shown &= inner[:, 1] < height - _STAMP - 1
    sigma = _FWHM_PX / 2.3548
    steps = np.arange(-_STAMP, _STAMP + 2) - 0.5
    corner = np.rint(places[shown]).astype(int)
    off = places[shown] - corner
    shares = [
        np.diff(0.5 * erf((steps[None] - off[:, axis, None]) / (np.sqrt(2.0) * sigma)), axis=1)
        for axis in (0, 1)
    ]
    rows = corner[:, 1, None] + np.arange(-_STAMP, _STAMP + 1)
    columns = corner[:, 0, None] + np.arange(-_STAMP, _STAMP + 1)
    stamps = flux[shown, None, None] * shares[1][:, :, None] * shares[0][:, None, :]
    np.add.at(light, (rows[:, :, None], columns[:, None, :]), stamps)


def _write_frame(path: Path, pixels: npt.NDArray[np.uint16], mjd: float, exposure_s: float) -> None:
    image = fits.PrimaryHDU(pixels)
    image.header["OBSTYPE"] = "EXPOSE"
    image.header["DATE-OBS"] = iso_of_mjd(mjd - 0.5 * exposure_s / 86400.0)
    image.header["EXPTIME"] = exposure_s
    image.writeto(path, overwrite=True)
