"""Where a detector should point: by the cards of the telescope and its place in the focal plane, or by its siblings.

The focal plane is a frame of directions. Its third axis is that of the telescope, its second is the y axis of the
plane, and at a position angle of 0 its first points to the east. A detector is a lens in this frame; turned by the
attitude of the telescope it is a lens on the sky.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.attitudes import attitude_of, matrix_of_place
from skylake.core.camera import Camera
from skylake.core.sphere import ARCSEC_PER_RADIAN
from skylake.image.allsky.geometry_epochs import Geometry
from skylake.image.solving.pointing_hints import angle_of, card_equator, centre_of_cards
from skylake.image.wcs.lens import Lens

Floats = npt.NDArray[np.float64]

_DEGREES = {"deg": 1.0, "arcmin": 1.0 / 60.0, "arcsec": 1.0 / 3600.0, "rad": math.degrees(1.0), "hour": 15.0}
#: Siblings give a place to some pixels at worst; matches are looked for no nearer and no farther than this.
_LEAST_RADIUS_PX, _MOST_RADIUS_PX = 4.0, 60.0
#: Standard deviations of a place that its siblings give.
_SIGMAS = 5.0


@dataclass(frozen=True, slots=True)
class Seed:
    """Where a frame should point.

    Attributes
    ----------
    lens : Lens
        From ICRS to pixels of the image after trimming.
    radius_px, turn_deg : float
        How far from there its stars may be, and turned by how much.
    source : str
        What ``wcs_source`` says of a frame that it places: ``seeded`` or ``mosaic``.
    trusted : bool
        Whether it is good enough to stand where stars do not contradict it.
    """

    lens: Lens
    radius_px: float
    turn_deg: float
    source: str
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class PlacedChip:
    """A detector in the focal plane, from some time on to another, measured from many exposures.

    Attributes
    ----------
    lens : Lens
        From directions in the focal plane to pixels of the image after trimming.
    shape : tuple of int
        Height and width of the image.
    first_mjd, last_mjd : float
        Of the exposures.
    period_mjd : tuple of float
        The dated block of the profile that it holds for.
    n_exposures, n_stars : int
    sigma_arcsec : tuple of float
        Standard errors of the place of the centre along x and y of the image.
    sigma_angle_deg : float
        Of the angle.
    scatter_arcsec, scatter_deg : float
        Of one exposure, beyond what its stars explain: the focal plane bends.
    """

    lens: Lens
    shape: tuple[int, int]
    first_mjd: float
    last_mjd: float
    period_mjd: tuple[float, float]
    n_exposures: int
    n_stars: int
    sigma_arcsec: tuple[float, float]
    sigma_angle_deg: float
    scatter_arcsec: float
    scatter_deg: float

    def holds_at(self, mjd: float) -> bool:
        """Return whether it is of that time."""
        return self.period_mjd[0] <= mjd < self.period_mjd[1]


@dataclass(frozen=True, slots=True)
class Attitude:
    """How the telescope pointed in an exposure, from the detectors whose stars were found.

    Attributes
    ----------
    matrix : ndarray, shape (3, 3)
        From ICRS to the focal plane.
    sigma_arcsec, sigma_deg : float
        Standard errors of a direction and of the position angle.
    """

    matrix: Floats
    sigma_arcsec: float
    sigma_deg: float


@dataclass(frozen=True, slots=True)
class Guide:
    """What is known of where the frames of a camera point, apart from their headers.

    Attributes
    ----------
    chips : tuple of PlacedChip
        Where the detector is in the focal plane, epoch by epoch; without one it is the place in the profile.
    attitudes : dict
        File to the attitude of the telescope, of frames whose siblings are placed already.
    geometries : tuple of Geometry
        Of a camera that sees the whole sky, epoch by epoch.
    """

    chips: Sequence[PlacedChip] = ()
    attitudes: Mapping[str, Attitude] = field(default_factory=dict)
    geometries: Sequence[Geometry] = ()

    def seeds(
        self, header: Any, camera: Camera, shape: tuple[int, int], raw_step: int, mjd: float, file: str
    ) -> list[Seed]:
        """Return where a frame should point, the best first; nothing where nothing is known."""
        placed = next((one for one in self.chips if one.holds_at(mjd) and one.shape == shape), None)
        lens = placed_lens(camera, shape, raw_step) if placed is None else placed.lens
        if lens is None:
            return []
        found = []
        attitude = self.attitudes.get(file)
        if attitude is not None and placed is not None:
            found.append(_by_siblings(placed, attitude))
        rotation = telescope_attitude(header, camera, mjd)
        if rotation is not None:
            known = camera.astrometry
            radius = known.pointing_arcsec * lens.focal_px / ARCSEC_PER_RADIAN
            found.append(Seed(lens.turned(rotation), radius, known.rotation_error_deg, "seeded"))
        return found


def _by_siblings(chip: PlacedChip, attitude: Attitude) -> Seed:
    """Return the seed of a detector whose siblings show how the telescope points."""
    pixel = ARCSEC_PER_RADIAN / chip.lens.focal_px
    off = math.hypot(*chip.sigma_arcsec, attitude.sigma_arcsec, chip.scatter_arcsec)
    turn = math.hypot(chip.sigma_angle_deg, attitude.sigma_deg, chip.scatter_deg)
    radius = min(max(_SIGMAS * off / pixel, _LEAST_RADIUS_PX), _MOST_RADIUS_PX)
    return Seed(chip.lens.turned(attitude.matrix), radius, _SIGMAS * turn, "mosaic", trusted=True)


def placed_lens(camera: Camera, shape: tuple[int, int], raw_step: int = 1) -> Lens | None:
    """Return a detector in the focal plane as the profile has it; None if the profile does not know its scale.

    Parameters
    ----------
    camera : Camera
    shape : tuple of int
        Height and width of the image after trimming.
    raw_step : int
        Raw pixels from one pixel to the next.
    """
    scale = camera.optics.pixel_scale_arcsec
    if scale is None:
        return None
    matrix = matrix_of_place(*camera.place_arcsec, camera.place.angle_deg)
    centre = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
    focal = ARCSEC_PER_RADIAN / (scale * raw_step)
    return Lens.of_matrix(matrix, focal, centre, mirrored=bool(camera.astrometry.mirrored))


def telescope_attitude(header: Any, camera: Camera, mjd: float | None) -> Floats | None:
    """Return the rotation from ICRS to the focal plane by the cards, shape (3, 3); None if they have none.

    Position angles count from the north of the equinox that the cards refer to, as directions do.
    """
    centre, angle = centre_of_cards(header, camera), position_angle_deg(header, camera)
    if centre is None or angle is None:
        return None
    return np.asarray(attitude_of(*centre, angle) @ card_equator(header, camera, mjd))


def position_angle_deg(header: Any, camera: Camera) -> float | None:
    """Return the position angle of the focal plane's y axis, east of north; None if it is not known."""
    known = camera.astrometry
    if known.rotation_deg is not None:
        return known.rotation_deg % 360.0
    unit = _DEGREES[known.rotation_unit]
    for card in known.rotation:
        # Text such as 48:00:00 is in degrees, or in hours, whatever the unit of numbers.
        value = angle_of(header.get(card), 15.0 if known.rotation_unit == "hour" else 1.0, unit)
        if value is not None:
            return (known.rotation_zero_deg + known.rotation_sign * value) % 360.0
    return None


def frame_matrix(lens: Lens, shape: tuple[int, int]) -> Floats:
    """Return the rotation from the directions of a lens to the centre of its image, shape (3, 3).

    Its third axis is where the central pixel looks and its second goes along y there, whatever the lens takes for its
    axis.
    """
    x, y = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
    forward, above, below = lens.to_vectors([x, x, x], [y, y + 0.5, y - 0.5])
    upward = above - below
    upward = upward - forward * (upward @ forward)
    upward /= np.linalg.norm(upward)
    return np.array([np.cross(upward, forward), upward, forward])


def moved_to(lens: Lens, shape: tuple[int, int], matrix: Floats) -> Lens:
    """Return a lens turned so that :func:`frame_matrix` gives a matrix."""
    return replace(lens, rotation=lens.turned(frame_matrix(lens, shape).T @ matrix).rotation)
