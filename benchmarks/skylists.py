"""Lists of sources as a fisheye lens shows the whole sky, with the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.simulate.whole_sky import Fisheye, Twilight, false_lights

Floats = npt.NDArray[np.float64]

#: Extinction, magnitudes per airmass; airmasses below this altitude count as there.
_EXTINCTION, _LOWEST_SINE = 0.25, 0.05


@dataclass(frozen=True, slots=True)
class SkyListParams:
    """What a frame of the whole sky shows.

    Attributes
    ----------
    limit_mag : float
        Fainter stars are not detected.
    missing : float
        Share of the others that are not.
    n_spurious : int
        Hot pixels, planes, and other detections that are no star.
    noise_px, noise_mag : float
    cloud_mag : float
        What a cloud takes away over a quarter of the sky.
    n_trees : int
        Detections in crowds near the horizon.
    twilight : Twilight or None
        The light that the Sun and the Moon add; None is a dark night.
    """

    limit_mag: float = 6.0
    missing: float = 0.15
    n_spurious: int = 80
    noise_px: float = 0.25
    noise_mag: float = 0.3
    cloud_mag: float = 2.5
    n_trees: int = 0
    twilight: Twilight | None = None


def draw_twilight(random: np.random.Generator) -> Twilight:
    """Draw a sky with the Moon up in twilight."""
    azimuth, height = random.uniform(0.0, 360.0), np.radians(random.uniform(5.0, 70.0))
    turn = np.radians(random.uniform(0.0, 360.0))
    moon = np.cos(height) * np.sin(turn), np.cos(height) * np.cos(turn), np.sin(height)
    flares, lights = random.integers(10, 150, 2)
    return Twilight(
        azimuth,
        (float(moon[0]), float(moon[1]), float(moon[2])),
        random.uniform(1.0, 4.0),
        random.uniform(2.0, 6.0),
        int(flares),
        int(lights),
        int(random.integers(0, 4)),
        random.uniform(0.0, 0.3),
    )


def draw_real_lens(random: np.random.Generator, shape: tuple[int, int]) -> Fisheye:
    """Draw a lens that is none of the ideal ones, of 150 to 190 degrees, inscribed in the image or cropped by it."""
    kind = ("equidistant", "equisolid", "stereographic")[random.integers(3)]
    bend = random.uniform(-0.05, 0.03)
    field = random.uniform(150.0, 190.0)
    unit = Fisheye(kind, 1.0, (0.0, 0.0), field, bend=bend)
    focal = random.uniform(0.38, 0.68) * min(shape) / float(unit.radius(np.radians(0.5 * field)))
    x, y = random.uniform(-0.12, 0.12, 2) * min(shape)
    return replace(
        unit,
        focal_px=focal,
        centre=(0.5 * (shape[1] - 1) + x, 0.5 * (shape[0] - 1) + y),
        tilt_deg=random.uniform(0.0, 10.0),
        towards_deg=random.uniform(0.0, 360.0),
        turn_deg=random.uniform(0.0, 360.0),
        mirrored=bool(random.integers(2)),
        decentring=tuple(random.normal(0.0, 0.003, 2).tolist()),
    )


def draw_fisheye(random: np.random.Generator, shape: tuple[int, int], max_tilt_deg: float = 15.0) -> Fisheye:
    """Draw a lens with a field of 120 to 190 degrees that about fills the image."""
    kind = ("equidistant", "equisolid", "stereographic")[random.integers(3)]
    field = random.uniform(120.0, 190.0)
    unit = Fisheye(kind, 1.0, (0.0, 0.0), field)
    focal = random.uniform(0.45, 0.62) * min(shape) / float(unit.radius(np.radians(0.5 * field)))
    x, y = random.uniform(-0.08, 0.08, 2) * min(shape)
    return Fisheye(
        kind,
        focal,
        (0.5 * (shape[1] - 1) + x, 0.5 * (shape[0] - 1) + y),
        field,
        random.uniform(0.0, max_tilt_deg),
        random.uniform(0.0, 360.0),
        random.uniform(0.0, 360.0),
        bool(random.integers(2)),
        tuple(random.normal(0.0, 0.003, 2).tolist()),
    )


def draw_list(
    random: np.random.Generator,
    fisheye: Fisheye,
    shape: tuple[int, int],
    directions: Floats,
    mag: Floats,
    params: SkyListParams,
) -> tuple[Floats, Floats]:
    """Draw the sources of a frame.

    Parameters
    ----------
    random : Generator
    fisheye : Fisheye
    shape : tuple of int
        Height and width.
    directions, mag : ndarray, shapes (n, 3) and (n,)
        Stars as they appear: east, north, up.
    params : SkyListParams

    Returns
    -------
    places : ndarray, shape (m, 2)
        0-based pixels.
    flux : ndarray, shape (m,)
    """
    pixels, sine = fisheye.to_pixels(directions), np.clip(directions[:, 2], _LOWEST_SINE, 1.0)
    azimuth = np.arctan2(directions[:, 0], directions[:, 1])
    clouded = np.cos(azimuth - random.uniform(0.0, 2.0 * np.pi)) > np.sqrt(0.5)
    bright = params.twilight
    haze = 0.0 if bright is None else bright.haze_mag
    seen = (
        mag
        + (_EXTINCTION + haze) / sine
        + params.cloud_mag * clouded
        + random.normal(0.0, params.noise_mag, len(mag))
    )
    # The noise of a sky grows with the square root of its light.
    lost = 0.0 if bright is None else 0.5 * bright.brighter(directions)
    height, width = shape
    x, y = pixels.T
    shown = (directions[:, 2] > _LOWEST_SINE) & (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    shown &= (seen + lost < params.limit_mag) & (random.random(len(mag)) > params.missing)
    places = pixels[shown] + random.normal(0.0, params.noise_px, (int(shown.sum()), 2))
    flux = 10.0 ** (-0.4 * seen[shown])
    spurious = random.uniform(-0.5, 0.5, (params.n_spurious, 2)) + 0.5
    trees = _trees(random, fisheye, params.n_trees)
    added = np.concatenate([spurious * [width - 1, height - 1], trees])
    light = random.choice(flux, len(added))
    if bright is not None:
        false, glare = false_lights(random, fisheye, bright, flux)
        added, light = np.concatenate([added, false]), np.concatenate([light, glare])
    return np.concatenate([places, added]), np.concatenate([flux, light])


def _trees(random: np.random.Generator, fisheye: Fisheye, number: int) -> Floats:
    """Draw crowded detections along some of the horizon."""
    azimuth = random.choice(random.uniform(0.0, 2.0 * np.pi, 5), number) + random.normal(0.0, 0.1, number)
    sine = random.uniform(0.02, 0.15, number)
    across = np.sqrt(1.0 - sine**2)
    pixels = fisheye.to_pixels(np.stack([across * np.sin(azimuth), across * np.cos(azimuth), sine], axis=1))
    return np.asarray(pixels[np.isfinite(pixels).all(axis=1)])
