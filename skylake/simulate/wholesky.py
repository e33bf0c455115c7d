"""Lists of sources as a fisheye lens shows the whole sky, with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Extinction, magnitudes per airmass; airmasses below this altitude count as there.
_EXTINCTION, _LOWEST_SINE = 0.25, 0.05
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

    def radius(self, angle: npt.ArrayLike) -> Floats:
        """Return the radius of angles from the axis (rad), focal lengths."""
        theta = np.asarray(angle, float)
        if self.kind == "equidistant":
            return theta
        if self.kind == "equisolid":
            return np.asarray(2.0 * np.sin(0.5 * theta))
        return np.asarray(2.0 * np.tan(0.5 * theta))

    def to_pixels(self, directions: Floats) -> Floats:
        """Return pixels, shape (n, 2), of directions (east, north, up); NaN outside the field."""
        tilt, towards, turn = np.radians([self.tilt_deg, self.towards_deg, self.turn_deg])
        axis = np.array([np.sin(tilt) * np.sin(towards), np.sin(tilt) * np.cos(towards), np.cos(tilt)])
        right = np.cross([np.sin(turn), np.cos(turn), 0.0], axis)
        right /= np.linalg.norm(right)
        across, upward, depth = directions @ right, directions @ np.cross(axis, right), directions @ axis
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
    """

    limit_mag: float = 6.0
    missing: float = 0.15
    n_spurious: int = 80
    noise_px: float = 0.25
    noise_mag: float = 0.3
    cloud_mag: float = 2.5
    n_trees: int = 0


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
    seen = (
        mag + _EXTINCTION / sine + params.cloud_mag * clouded + random.normal(0.0, params.noise_mag, len(mag))
    )
    height, width = shape
    x, y = pixels.T
    shown = (directions[:, 2] > _LOWEST_SINE) & (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    shown &= (seen < params.limit_mag) & (random.random(len(mag)) > params.missing)
    places = pixels[shown] + random.normal(0.0, params.noise_px, (int(shown.sum()), 2))
    flux = 10.0 ** (-0.4 * seen[shown])
    spurious = random.uniform(-0.5, 0.5, (params.n_spurious, 2)) + 0.5
    trees = _trees(random, fisheye, params.n_trees)
    added = np.concatenate([spurious * [width - 1, height - 1], trees])
    return np.concatenate([places, added]), np.concatenate([flux, random.choice(flux, len(added))])


def _trees(random: np.random.Generator, fisheye: Fisheye, number: int) -> Floats:
    """Draw crowded detections along some of the horizon."""
    azimuth = random.choice(random.uniform(0.0, 2.0 * np.pi, 5), number) + random.normal(0.0, 0.1, number)
    sine = random.uniform(0.02, 0.15, number)
    across = np.sqrt(1.0 - sine**2)
    pixels = fisheye.to_pixels(np.stack([across * np.sin(azimuth), across * np.cos(azimuth), sine], axis=1))
    return np.asarray(pixels[np.isfinite(pixels).all(axis=1)])


def draw_stars(random: np.random.Generator, limit_mag: float = 6.5) -> tuple[Floats, Floats]:
    """Draw ICRS unit vectors and magnitudes of a sky with as many stars of each brightness as the real one."""
    number = round(_N_BRIGHTER_THAN_6 * _STARS_PER_MAG ** (limit_mag - 6.0))
    vectors = random.normal(size=(number, 3))
    mag = limit_mag + np.log10(random.random(number)) / np.log10(_STARS_PER_MAG)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), mag
