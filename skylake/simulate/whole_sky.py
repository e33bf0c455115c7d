"""The whole sky: fisheye lenses that show it, its stars, and what twilight adds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STARS_PER_MAG = 10.0**0.5
_N_BRIGHTER_THAN_6 = 5000.0


@dataclass(frozen=True, slots=True)
class Fisheye:
    """A fisheye lens that looks up from the ground.

    Attributes
    ----------
    kind : str
        ``equidistant``, ``equisolid`` or ``stereographic``.
    focal_px : float
    centre : tuple of float
        Pixel of the axis, 0-based.
    field_deg : float
        Full angle that it shows.
    tilt_deg, towards_deg : float
        How far the axis is from the zenith, and the azimuth it leans to.
    turn_deg : float
        Azimuth that is up in the image.
    mirrored : bool
    decentring : tuple of float
        Brown's coefficients, for radii in focal lengths.
    bend : float
        Relative growth of the radius with the square of the angle from the axis (rad), against the ideal lens.
    """

    kind: str
    focal_px: float
    centre: tuple[float, float]
    field_deg: float
    tilt_deg: float = 0.0
    towards_deg: float = 0.0
    turn_deg: float = 0.0
    mirrored: bool = False
    decentring: tuple[float, float] = (0.0, 0.0)
    bend: float = 0.0

    def radius(self, angle: npt.ArrayLike) -> Floats:
        """Return the radius of angles from the axis (rad), focal lengths."""
        theta = np.asarray(angle, float)
        ideal = theta
        if self.kind == "equisolid":
            ideal = 2.0 * np.sin(0.5 * theta)
        elif self.kind == "stereographic":
            ideal = 2.0 * np.tan(0.5 * theta)
        return np.asarray(ideal * (1.0 + self.bend * theta**2))

    def _axes(self) -> tuple[Floats, Floats, Floats]:
        """Return the directions to the right and upward in the image, and that of the optical axis."""
        tilt, towards, turn = np.radians([self.tilt_deg, self.towards_deg, self.turn_deg])
        axis = np.array([np.sin(tilt) * np.sin(towards), np.sin(tilt) * np.cos(towards), np.cos(tilt)])
        right = np.cross([np.sin(turn), np.cos(turn), 0.0], axis)
        right /= np.linalg.norm(right)
        return right, np.cross(axis, right), axis

    def to_directions(self, x: Floats, y: Floats) -> Floats:
        """Return directions, shape (n, 3), of pixels, without the decentring; beyond the field that of its edge."""
        right, upward, axis = self._axes()
        angles = np.linspace(0.0, np.radians(0.5 * self.field_deg), 400)
        side = 1.0 if self.mirrored else -1.0
        u, v = side * (x - self.centre[0]) / self.focal_px, (y - self.centre[1]) / self.focal_px
        angle, turn = np.interp(np.hypot(u, v), self.radius(angles), angles), np.arctan2(v, u)
        parts = np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)
        return np.asarray(np.stack(parts, axis=1) @ np.stack([right, upward, axis]))

    def to_pixels(self, directions: Floats) -> Floats:
        """Return pixels, shape (n, 2), of directions (east, north, up); NaN outside the field."""
        right, above, axis = self._axes()
        across, upward, depth = directions @ right, directions @ above, directions @ axis
        sine = np.hypot(across, upward)
        angle = np.arctan2(sine, depth)
        shown = angle <= np.radians(0.5 * self.field_deg)
        ratio = np.where(shown, self.radius(angle), np.nan) / np.where(sine > 0.0, sine, 1.0)
        side, (first, second) = (1.0 if self.mirrored else -1.0), self.decentring
        u, v = side * across * ratio, upward * ratio
        square, cross = u * u + v * v, 2.0 * u * v
        u, v = (
            u + first * (square + 2.0 * u * u) + second * cross,
            v + first * cross + second * (square + 2.0 * v * v),
        )
        return np.stack([self.centre[0] + self.focal_px * u, self.centre[1] + self.focal_px * v], axis=1)


@dataclass(frozen=True, slots=True)
class Twilight:
    """A bright sky: of the Sun below the horizon, of the Moon, and what passes for stars in their light.

    Attributes
    ----------
    sun_azimuth_deg : float
    moon : tuple of float
        East, north and up.
    sun_mag, moon_mag : float
        How much brighter than the zenith the sky is on the horizon above the Sun, and beside the Moon; half of it is
        lost to the faintest stars.
    n_flares : int
        Pieces of the halo about the Moon and its reflections in the lens, as bright as bright stars.
    n_lights : int
        Lamps, domes and branches near the horizon, as bright as bright stars.
    n_planets : int
        Brighter than all stars.
    haze_mag : float
        What haze takes from stars, magnitudes per airmass.
    """

    sun_azimuth_deg: float
    moon: tuple[float, float, float]
    sun_mag: float = 3.0
    moon_mag: float = 4.0
    n_flares: int = 60
    n_lights: int = 60
    n_planets: int = 2
    haze_mag: float = 0.0

    def brighter(self, directions: Floats) -> Floats:
        """Return how many magnitudes per area the sky is brighter than where neither Sun nor Moon light it."""
        sun = np.radians(self.sun_azimuth_deg)
        azimuth = np.arctan2(directions[:, 0], directions[:, 1])
        low = np.exp(-np.arcsin(np.clip(directions[:, 2], 0.0, 1.0)) / np.radians(20.0))
        dusk = self.sun_mag * low * 0.5 * (1.0 + np.cos(azimuth - sun))
        away = np.degrees(np.arccos(np.clip(directions @ np.array(self.moon), -1.0, 1.0)))
        glow = self.moon_mag * np.exp(-away / 15.0)
        return np.asarray(2.5 * np.log10(10.0 ** (0.4 * dusk) + 10.0 ** (0.4 * glow) - 1.0))


def false_lights(
    random: np.random.Generator, fisheye: Fisheye, bright: Twilight, flux: Floats
) -> tuple[Floats, Floats]:
    """Draw what is bright and no star: about the Moon, along the horizon, and planets."""
    flares = np.array(bright.moon) + random.normal(0.0, 0.25, (bright.n_flares, 3))
    azimuth = random.choice(random.uniform(0.0, 2.0 * np.pi, 4), bright.n_lights)
    azimuth = azimuth + random.normal(0.0, 0.25, bright.n_lights)
    sine = random.uniform(-0.05, 0.2, bright.n_lights)
    across = np.sqrt(1.0 - sine**2)
    lights = np.stack([across * np.sin(azimuth), across * np.cos(azimuth), sine], axis=1)
    planets = random.normal(size=(bright.n_planets, 3))
    planets[:, 2] = np.abs(planets[:, 2]) + 0.3
    directions = np.concatenate([flares, lights, planets])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    places = fisheye.to_pixels(directions)
    strong = np.quantile(flux, random.uniform(0.5, 1.0, len(places))) * random.uniform(0.5, 3.0, len(places))
    if bright.n_planets:
        strong[-bright.n_planets :] = flux.max() * random.uniform(1.0, 10.0, bright.n_planets)
    shown = np.isfinite(places).all(axis=1)
    return np.asarray(places[shown]), np.asarray(strong[shown])


def draw_stars(random: np.random.Generator, limit_mag: float = 6.5) -> tuple[Floats, Floats]:
    """Draw ICRS unit vectors and magnitudes of a sky with as many stars of each brightness as the real one."""
    number = round(_N_BRIGHTER_THAN_6 * _STARS_PER_MAG ** (limit_mag - 6.0))
    vectors = random.normal(size=(number, 3))
    mag = limit_mag + np.log10(random.random(number)) / np.log10(_STARS_PER_MAG)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), mag
