"""Epochs of the geometry of a camera that stands still."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from skylake.image.allsky.geometry_errors import covariance_of, mean_square_matrix
from skylake.image.allsky.horizon_search import SkyStars
from skylake.image.allsky.refine_geometry import DetectedPlaces, refine
from skylake.image.wcs.lens import Lens

Floats = npt.NDArray[np.float64]

#: Directions above this altitude show whether a camera was moved, and how many there are.
_JUDGED_DEG, _DIRECTIONS = 15.0, 400
#: A geometry that is off by more is another one, pixels (root mean square), if it is by so many standard deviations.
CHANGED_PX = 0.3
_SURE = 3.0
#: An epoch gets another version when there are so many times as many stars.
_MANY_MORE = 2


@dataclass(frozen=True, slots=True)
class Geometry:
    """A lens of horizontal directions, how well it is known, and when it was so.

    Attributes
    ----------
    lens : Lens
    shape : tuple of int
        Height and width of the image.
    first_mjd, last_mjd : float
        Middle of the first and last frame that showed it, UTC; the same for all versions of an epoch.
    n_frames, n_stars : int
        What it was fitted to; a star counts once for each frame.
    rms_px, held_out_px : float
        Root mean square distance of stars in the fit, and of those held out of it.
    covariance : ndarray, shape (13, 13)
        Of a step of the lens (:meth:`~skylake.image.wcs.lens.Lens.moved`).
    number, version : int
        Number of the epoch among those of the camera, in the order in which they were found, and of the fit to it.
    retired : bool
        Whether all geometries were learned anew since. It is kept because frames name it; new frames do not use it.
    """

    lens: Lens
    shape: tuple[int, int]
    first_mjd: float
    last_mjd: float
    n_frames: int
    n_stars: int
    rms_px: float
    held_out_px: float
    covariance: Floats = field(default_factory=lambda: np.zeros((13, 13)), compare=False, repr=False)
    number: int = 1
    version: int = 1
    retired: bool = False

    @property
    def name(self) -> str:
        """Number, version and a checksum: what a frame names that was placed with it. It never changes."""
        numbers = [f"{value:.9e}" for value in self.lens.parameters()]
        content = " ".join([self.lens.projection, str(self.lens.mirrored), *map(str, self.shape), *numbers])
        return f"{self.number}.{self.version}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    @property
    def err_px(self) -> float:
        """How far it may show the sky from where the camera does, root mean square over the image, pixels."""
        return float(np.sqrt(max(np.trace(self._squares() @ self.covariance), 0.0)))

    def moved(self, other: Geometry) -> bool:
        """Return whether another one is off by more than :data:`CHANGED_PX`, and not by the errors of both.

        The squared distance is compared with what it is of a camera moved by just so much: a quadratic form of normal
        errors, of which mean and variance are known (Mathai and Provost 1992, Quadratic Forms in Random Variables).
        """
        squares = self._squares()
        spread = squares @ (self.covariance + other.covariance)
        # No move of that length is less certain than one along the worst known direction.
        worst = float(np.linalg.eigvals(spread).real.max())
        variance = 2.0 * float(np.trace(spread @ spread)) + 4.0 * CHANGED_PX**2 * worst
        expected = CHANGED_PX**2 + float(np.trace(spread))
        return self.distance_px(other.lens) ** 2 > expected + _SURE * float(np.sqrt(max(variance, 0.0)))

    def _squares(self) -> Floats:
        return mean_square_matrix(self.lens, self._shown())

    def _shown(self) -> Floats:
        """Return directions that the image shows, shape (n, 3)."""
        directions = _directions()
        x, y = self.lens.to_pixels(directions)
        height, width = self.shape
        return directions[(x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)]

    def overlaps(self, other: Geometry) -> bool:
        """Return whether the times of both have an instant in common."""
        return self.first_mjd <= other.last_mjd and other.first_mjd <= self.last_mjd

    def distance_px(self, lens: Lens) -> float:
        """Return how far another lens shows the sky from where this one does, root mean square over the image."""
        directions = self._shown()
        off = np.hypot(*(np.array(lens.to_pixels(directions)) - np.array(self.lens.to_pixels(directions))))
        return float(np.sqrt(np.mean(off**2))) if np.isfinite(off).all() else float("inf")


def _directions() -> Floats:
    """Return directions all over the sky above some altitude, evenly (Fibonacci's spiral)."""
    low = np.sin(np.radians(_JUDGED_DEG))
    number = np.arange(_DIRECTIONS) + 0.5
    up = 1.0 - (1.0 - low) * number / _DIRECTIONS
    angle = np.pi * (1.0 + 5.0**0.5) * number
    across = np.sqrt(1.0 - up * up)
    return np.stack([across * np.cos(angle), across * np.sin(angle), up], axis=1)


def night_geometry(
    lens: Lens,
    frames: Sequence[tuple[float, DetectedPlaces, SkyStars]],
    shape: tuple[int, int],
    fwhm_px: float,
) -> Geometry | None:
    """Fit one lens to the stars of all frames of a night; None if hardly any star is found.

    Parameters
    ----------
    lens : Lens
        Right to some pixels, such as that of one of the frames.
    frames : sequence of (float, DetectedPlaces, SkyStars)
        Middle of the exposure (MJD, UTC), what the frame shows, and the stars above the horizon then.
    shape : tuple of int
    fwhm_px : float
    """
    refined = refine(lens, [(seen, stars) for _, seen, stars in frames], shape, fwhm_px)
    if refined is None:
        return None
    times = [mjd for mjd, _, _ in frames]
    squares = np.concatenate([np.sum(frame.residuals**2, axis=1) for frame in refined])
    return Geometry(
        refined[0].lens,
        shape,
        min(times),
        max(times),
        len(refined),
        len(squares),
        float(np.sqrt(np.mean(squares))),
        refined[0].held_out_px,
        covariance_of([(frame, seen) for frame, (_, seen, _) in zip(refined, frames, strict=True)]),
    )


def recorded(versions: Sequence[Geometry], new: Geometry) -> tuple[Geometry, ...]:
    """Return the geometries of a camera with a new one among them; those that are there stay, since frames name them.

    It belongs to the epoch around, before or after it if no version of that was moved to it: many small steps are not
    taken for none. Then it is another version if it has many more stars, else it shows how long the epoch was. Of a
    camera that was moved it begins another epoch.
    """
    for epoch in _neighbours([version for version in newest(versions) if version.shape == new.shape], new):
        if any(version.number == epoch.number and version.moved(new) for version in versions):
            continue
        span = min(epoch.first_mjd, new.first_mjd), max(epoch.last_mjd, new.last_mjd)
        updated = [
            replace(version, first_mjd=span[0], last_mjd=span[1])
            if version.number == epoch.number
            else version
            for version in versions
        ]
        if new.n_stars >= _MANY_MORE * epoch.n_stars:
            updated.append(
                replace(
                    new, number=epoch.number, version=epoch.version + 1, first_mjd=span[0], last_mjd=span[1]
                )
            )
        return tuple(updated)
    number = 1 + max((version.number for version in versions), default=0)
    return (*versions, replace(new, number=number, version=1))


def _neighbours(epochs: Sequence[Geometry], new: Geometry) -> list[Geometry]:
    """Return the epochs that a geometry may belong to: between it and them there is no other one."""
    around = [version for version in epochs if version.overlaps(new)]
    before = sorted(
        (version for version in epochs if version.last_mjd < new.first_mjd),
        key=lambda version: version.last_mjd,
    )
    after = [version for version in epochs if version.first_mjd > new.last_mjd]
    # An epoch before or after one within another would reach over that.
    beside = [] if around else [*before[-1:], *after[:1]]
    return [*around, *beside]


def newest(versions: Sequence[Geometry]) -> tuple[Geometry, ...]:
    """Return the newest version of each epoch in the order of time, without those that were learned anew since."""
    last_versions = {
        version.number: version
        for version in sorted(versions, key=lambda version: version.version)
        if not version.retired
    }
    return tuple(sorted(last_versions.values(), key=lambda version: version.first_mjd))


def in_force(versions: Sequence[Geometry], mjd: float) -> Geometry | None:
    """Return the geometry of an instant: of the epoch that holds it, else of the nearest one; None without any.

    Of epochs one within the other the shorter one holds.
    """
    known = newest(versions)
    if not known:
        return None
    return min(
        known,
        key=lambda version: (
            max(version.first_mjd - mjd, mjd - version.last_mjd, 0.0),
            version.last_mjd - version.first_mjd,
        ),
    )
