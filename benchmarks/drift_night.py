"""A night of a small telescope whose field drifts, drawn through pixels without skylake: GalSim and own noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import galsim
import numpy as np
from astropy.io import fits
from astropy.time import Time
from scipy.ndimage import map_coordinates, spline_filter
from scipy.spatial import cKDTree

SIZE, SCALE_ARCSEC, EXPOSURE_S = 600, 2.0, 30.0
GAIN, READ_NOISE_E, PEDESTAL, SATURATION, SKY_E = 4.0, 8.0, 300.0, 60000.0, 400.0
PROFILE = f"""
name = "drift"
like = "sim"
description = "A small telescope whose field drifts: 20 arcmin, 2 arcsec/px"
[detector]
width_px = {SIZE}
height_px = {SIZE}
gain_e_per_adu = {GAIN}
read_noise_e = {READ_NOISE_E}
saturation_adu = {SATURATION}
linearity_adu = {SATURATION}
[optics]
pixel_scale_arcsec = {SCALE_ARCSEC}
diameter_m = 0.2
[calibration]
match_radius_arcsec = 5.0
min_stars = 8
[gates.n_sources]
min = 15
"""
#: The field moves by this share of its width in the night.
DRIFT = 0.33
#: Magnitudes of the stars of the catalog, and of those that it lacks; magnitude of a total flux of 1 ADU in a frame.
LISTED, UNLISTED, ZEROPOINT = (9.3, 13.3), (13.3, 15.6), 22.0
N_LISTED, N_UNLISTED = 58, 170
CATALOG_SCATTER, COLOUR_TERM, EXTINCTION = 0.12, 0.08, 0.15
#: Noise of single stars on single frames beside photons, as scintillation is: the floor of what can be measured.
FLOOR_MAG = 0.0015
#: How much fainter stars are at a corner than in the middle: flat fields are wrong by so much.
ILLUMINATION_MAG = 0.01
FWHM_PX = (1.3, 3.0)
DEPTH_MAG = 0.028
TRAILED = 0.08
_BETA, _HALF, _OVERSAMPLING = 3.0, 20, 10
START_MJD, _HOURS, DEC_DEG = 60408.10, 5.6, -20.0
SIDEREAL_DAY = 0.99726957
_APART_PX, _MARGIN_PX = 7.0, 12.0


@dataclass(frozen=True, slots=True)
class Night:
    """Frames with what is true of them.

    Attributes
    ----------
    folder, catalog, profile : Path
    mjd : ndarray, shape (frames,)
    fwhm_px : ndarray, shape (frames,)
        Of the light that reaches the pixels.
    trail_px : ndarray, shape (frames,)
    ra_deg, dec_deg, magnitude : ndarray, shape (stars,)
    is_listed : ndarray of bool, shape (stars,)
        Stars of the catalog; their identifiers are their numbers + 1.
    dip : ndarray, shape (frames, stars)
        Share of its transit's depth that a star has, 0 to 1.
    """

    folder: Path
    catalog: Path
    profile: Path
    mjd: np.ndarray
    fwhm_px: np.ndarray
    trail_px: np.ndarray
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    magnitude: np.ndarray
    is_listed: np.ndarray
    dip: np.ndarray


def draw_night(root: Path, n_frames: int, seed: int, n_nights: int = 1) -> Night:
    """Draw the frames of a night, or of several of the same field, and write them with a catalog and a profile."""
    random = np.random.default_rng(seed)
    one_night = np.linspace(0.0, 1.0, n_frames)
    time, which = np.tile(one_night, n_nights), np.repeat(np.arange(n_nights), n_frames)
    since = (time - 0.5) * _HOURS / 24.0
    mjd = START_MJD + 0.5 * _HOURS / 24.0 + which * SIDEREAL_DAY + since
    # The meridian in the middle of the night.
    ra = float(Time(mjd[:n_frames].mean(), format="mjd").sidereal_time("mean", -70.4).deg)
    x, y, magnitude = _stars(random)
    is_listed = np.arange(x.size) < N_LISTED
    dip = _transits(time, x, magnitude)
    fwhm, trail = np.hstack([_widths(random, one_night) for _ in range(n_nights)])
    clouds = np.concatenate([_clouds(random, one_night) for _ in range(n_nights)])
    dim = EXTINCTION * _airmass(np.deg2rad(since * 360.9856)) + clouds
    colour = random.normal(0.75, 0.3, x.size)
    folder = root / "frames"
    folder.mkdir(parents=True)
    for number in range(mjd.size):
        shift = np.array([DRIFT * SIZE, 20.0]) * (time[number] - 0.5) + random.normal(0.0, 0.7, 2)
        px, py = x - shift[0], y - shift[1]
        u, v = (2.0 * (place + 0.5) / SIZE - 1.0 for place in (px, py))
        faint = dim[number] + DEPTH_MAG * dip[number] + random.normal(0.0, FLOOR_MAG, x.size)
        faint += 0.5 * ILLUMINATION_MAG * (u * u + v * v) + COLOUR_TERM * (colour - 0.7)
        flux = 10.0 ** (0.4 * (ZEROPOINT - magnitude - faint))
        light = image_of(px, py, flux, light_of_star(fwhm[number], trail[number], random.uniform(0.0, 180.0)))
        pixels = exposed(light, random, SKY_E * (1.0 + 0.3 * np.sin(5.0 * time[number])))
        cards = header_of(mjd[number], ra, shift + random.normal(0.0, 0.1, 2))
        fits.PrimaryHDU(pixels, cards).writeto(folder / f"drift{number:04d}.fits")
    # Away from the centre of the tangent plane, as the headers have it.
    sky = sky_of(ra, x, y)
    catalog = write_catalog(root / "catalog.csv", random, sky[:, :N_LISTED], magnitude, colour)
    profile = root / "drift.toml"
    profile.write_text(PROFILE, encoding="utf-8")
    return Night(folder, catalog, profile, mjd, fwhm, trail, *sky, magnitude, is_listed, dip)


def _stars(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places on the middle frame, none too near to another, and magnitudes; those of the catalog first."""
    reach = 0.5 * DRIFT * SIZE
    low, high = np.array([-reach - _MARGIN_PX, -_MARGIN_PX - 10.0]), np.array([SIZE + reach, SIZE + 10.0])
    # The three stars that are to have transits are on all frames.
    places = np.array([[0.36, 0.45], [0.5, 0.7], [0.62, 0.3]]) * SIZE
    while len(places) < N_LISTED + N_UNLISTED:
        one = random.uniform(low, high + _MARGIN_PX)
        if cKDTree(places).query(one)[0] > _APART_PX:
            places = np.vstack([places, one])
    listed = _magnitudes(random, LISTED, N_LISTED)
    listed[:3] = LISTED[0] + 0.1, LISTED[0] + 0.2, LISTED[0] + 0.3
    return places[:, 0], places[:, 1], np.append(listed, _magnitudes(random, UNLISTED, N_UNLISTED))


def _magnitudes(random: np.random.Generator, span: tuple[float, float], n: int) -> np.ndarray:
    """Return magnitudes whose number grows by 10**0.25 each magnitude."""
    low, high = 10.0 ** (0.25 * np.array(span))
    return 4.0 * np.log10(random.uniform(low, high, n))


def _transits(time: np.ndarray, x: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Return the share of its depth that each star has on each frame: three stars, one after the other."""
    dip = np.zeros((time.size, x.size))
    for star, middle in enumerate((0.3, 0.5, 0.7)):
        dip[:, star] = np.clip((0.17 - np.abs(time - middle)) / 0.03, 0.0, 1.0)
    return dip


def _widths(random: np.random.Generator, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return widths that wander over their whole range, and by how much each frame is trailed."""
    wander = np.sin(2.0 * np.pi * (1.3 * time + random.uniform())) + 0.3 * random.normal(size=time.size)
    share = np.clip(0.5 + 0.42 * wander, 0.0, 1.0)
    trail = np.where(random.uniform(size=time.size) < TRAILED, random.uniform(1.0, 2.5, time.size), 0.0)
    return FWHM_PX[0] + (FWHM_PX[1] - FWHM_PX[0]) * share, trail


def _clouds(random: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Return what thin clouds take, magnitudes."""
    wave = np.sin(2.0 * np.pi * (2.1 * time + random.uniform())) + np.sin(2.0 * np.pi * 5.3 * time)
    return np.asarray(0.12 * np.clip(wave, 0.0, None) + np.abs(random.normal(0.0, 0.01, time.size)))


def _airmass(hour_angle: np.ndarray) -> np.ndarray:
    site, star = np.deg2rad(-24.6), np.deg2rad(DEC_DEG)
    return np.asarray(1.0 / (np.sin(site) * np.sin(star) + np.cos(site) * np.cos(star) * np.cos(hour_angle)))


def light_of_star(fwhm_px: float, trail_px: float, angle_deg: float) -> np.ndarray:
    """Return the light of a star of flux 1 within a pixel at each offset, on a grid finer than pixels."""
    profile: Any = galsim.Moffat(beta=_BETA, fwhm=fwhm_px)
    parts = [profile, galsim.Pixel(1.0)]
    if trail_px:
        parts.append(galsim.Box(trail_px, 0.05).rotate(angle_deg * galsim.degrees))
    n = 2 * (_HALF + 2) * _OVERSAMPLING + 1
    image = galsim.Convolve(parts).drawImage(nx=n, ny=n, scale=1.0 / _OVERSAMPLING, method="no_pixel")
    return np.asarray(spline_filter(image.array.astype(float) * _OVERSAMPLING**2))


def image_of(x: np.ndarray, y: np.ndarray, flux: np.ndarray, star: np.ndarray) -> np.ndarray:
    """Return the light of stars in the pixels of a frame."""
    wide = np.zeros((SIZE + 4 * _HALF, SIZE + 4 * _HALF))
    grid = np.arange(-_HALF, _HALF + 1)
    middle = 0.5 * (len(star) - 1)
    reach = 0.5 * SIZE + _HALF - 2.0
    near = (np.abs(x - 0.5 * SIZE) < reach) & (np.abs(y - 0.5 * SIZE) < reach)
    for px, py, light in zip(x[near], y[near], flux[near], strict=True):
        column, row = round(px), round(py)
        across, down = (middle + _OVERSAMPLING * (grid - off) for off in (px - column, py - row))
        stamp = map_coordinates(star, np.meshgrid(down, across, indexing="ij"), order=3, prefilter=False)
        place = slice(row + _HALF, row + 3 * _HALF + 1), slice(column + _HALF, column + 3 * _HALF + 1)
        wide[place] += light * stamp
    return wide[2 * _HALF : -2 * _HALF, 2 * _HALF : -2 * _HALF]


def exposed(light: np.ndarray, random: np.random.Generator, sky_e: float) -> np.ndarray:
    """Return what is read out: noise of photons and of reading, whole numbers."""
    row, column = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    electrons = random.poisson(np.maximum(light, 0.0) * GAIN + sky_e * (1.0 + 0.1 * column + 0.05 * row))
    stored = (electrons + random.normal(0.0, READ_NOISE_E, light.shape)) / GAIN + PEDESTAL
    return np.clip(np.rint(stored), 0, 65535).astype(np.uint16)


def header_of(mjd: float, ra_deg: float, shift: np.ndarray) -> fits.Header:
    """Return a header with a position that is right to a tenth of a pixel."""
    start = Time(mjd - 0.5 * EXPOSURE_S / 86400.0, format="mjd").isot
    middle, scale = 0.5 * (SIZE - 1) + 1.0, SCALE_ARCSEC / 3600.0
    cards = {
        "DATE-OBS": start,
        "EXPTIME": EXPOSURE_S,
        "GAIN": GAIN,
        "RDNOISE": READ_NOISE_E,
        "FILTER": "V",
        "OBSTYPE": "expose",
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": ra_deg,
        "CRVAL2": DEC_DEG,
        "CRPIX1": middle - shift[0],
        "CRPIX2": middle - shift[1],
        "CD1_1": -scale,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": scale,
    }
    return fits.Header(cards)


def sky_of(ra_deg: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return right ascensions and declinations of places on the middle frame, by the tangent plane."""
    scale, middle = np.deg2rad(SCALE_ARCSEC / 3600.0), 0.5 * (SIZE - 1)
    xi, eta, dec = -(x - middle) * scale, (y - middle) * scale, np.deg2rad(DEC_DEG)
    depth = np.cos(dec) - eta * np.sin(dec)
    ra = ra_deg + np.rad2deg(np.arctan2(xi, depth))
    return np.array(
        [ra % 360.0, np.rad2deg(np.arctan2(np.sin(dec) + eta * np.cos(dec), np.hypot(xi, depth)))]
    )


def write_catalog(
    path: Path,
    random: np.random.Generator,
    sky: np.ndarray,
    magnitude: np.ndarray,
    colour: np.ndarray,
    scatter: float = CATALOG_SCATTER,
    place_arcsec: float = 0.1,
) -> Path:
    """Write a catalog whose magnitudes have the scatter that they say."""
    n = sky.shape[1]
    given = magnitude[:n] + random.normal(0.0, scatter, n)
    off = random.normal(0.0, place_arcsec / 3600.0, (2, n))
    rows = ["id,ra,dec,V,V_err,B-V"]
    for number in range(n):
        ra, dec = sky[0, number] + off[0, number], sky[1, number] + off[1, number]
        tint = colour[number] + random.normal(0.0, 0.02)
        rows.append(f"{number + 1},{ra:.7f},{dec:.7f},{given[number]:.4f},{scatter},{tint:.4f}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
