"""Epochs of the distortion of a camera, and which one holds at an instant."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skylake.image.distortion.distortion_model import Distortion, compare_distortion
from skylake.image.distortion.joint_fit import SHARED
from skylake.image.wcs.lens import NAMES
from skylake.image.wcs.refine_lens import Refinement

#: Places are the same if the parameters of the lens have so many digits in common.
_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Epoch:
    """A distortion, when it holds, what it was learned from, and how well stars fit.

    Attributes
    ----------
    number : int
        Of the epochs of a camera, from 1 on in the order in which they were found.
    version : int
        An epoch is learned anew when there are many more frames of it.
    valid_from, valid_to : float
        MJD, UTC; infinite where nothing is known before or after.
    first_mjd, last_mjd : float
        Middle of the first and last frame that was found to have it.
    n_seen : int
        Such frames.
    shape : tuple of int
        Height and width of the images.
    distortion : Distortion
    rms_px, held_out_px : float
        Root mean square distance of stars from their lenses, and of stars of frames that took no part, where only
        pointing, scale and stretch were fitted; both coordinates together.
    catalog : str
        The stars were those of this one.
    frames_sha256 : str
        Over the identifiers of the frames that it was learned from.
    software : str
    why : str
        Why it was made, a sentence.
    """

    number: int
    version: int
    valid_from: float
    valid_to: float
    first_mjd: float
    last_mjd: float
    n_seen: int
    shape: tuple[int, int]
    distortion: Distortion
    rms_px: float
    held_out_px: float
    catalog: str
    frames_sha256: str
    software: str
    why: str

    @property
    def name(self) -> str:
        """Number, version and a checksum: what a frame names that was placed with it."""
        model = self.distortion.model
        # The attitude is that of some frame, and means nothing.
        numbers = [f"{value:.{_DIGITS}e}" for value in model.parameters()[3:]]
        content = " ".join([model.projection, str(model.mirrored), *map(str, self.shape), *numbers])
        return f"{self.number}.{self.version}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    @property
    def mirrored(self) -> bool:
        """Whether its images are."""
        return self.distortion.model.mirrored

    def holds(self, mjd: float) -> bool:
        """Return whether it holds at an instant."""
        return self.valid_from <= mjd < self.valid_to

    def fits(self, shape: tuple[int, int], mirrored: bool) -> bool:
        """Return whether it is of images of a size and parity."""
        return self.shape == shape and self.mirrored == mirrored

    def contradicted(self, refinement: Refinement) -> bool:
        """Return whether the stars of a frame that was placed with it want another distortion."""
        change = compare_distortion(self.distortion, refinement.lens, refinement.pairs, self.shape)
        return change is not None and change.changed

    def in_file(self, offset: tuple[float, float], step: int, shape: tuple[int, int]) -> Epoch:
        """Return the epoch for pixels of a file, of which the image is a part that may be binned.

        Parameters
        ----------
        offset : tuple of int
            Where the image begins in the file, x and y.
        step : int
            Pixels of the file from one pixel of the image to the next.
        shape : tuple of int
            Height and width in the file.
        """
        held, model = self.distortion, self.distortion.model
        placed = replace(
            model,
            focal_px=model.focal_px * step,
            x0=model.x0 * step + offset[0],
            y0=model.y0 * step + offset[1],
        )
        units = np.where(np.isin(SHARED, (NAMES.index("x0"), NAMES.index("y0"))), float(step), 1.0)
        covariance, scatter = held.covariance * np.outer(units, units), held.scatter_px * step
        moved = replace(held, model=placed, covariance=covariance, scatter_px=scatter)
        return replace(self, shape=shape, distortion=moved)

    def radial(self, shape: tuple[int, int]) -> tuple[float, float]:
        """Return k1 and k2 of :class:`~skylake.image.solving.solve_stars.SolveParams` for images of a size.

        There the tangent of the angle to the axis, times the focal length, is moved by even powers of it in units of
        half the diagonal; least squares over the image.
        """
        model, half = self.distortion.model, 0.5 * math.hypot(*shape)
        angle = np.linspace(0.05, 1.0, 40) * half
        directions = (
            0.5 * (shape[1] - 1) + angle / math.sqrt(2.0),
            0.5 * (shape[0] - 1) + angle / math.sqrt(2.0),
        )
        seen = model.to_vectors(*directions)
        middle = model.to_vectors([0.5 * (shape[1] - 1)], [0.5 * (shape[0] - 1)])[0]
        cosine = seen @ middle
        usable = np.isfinite(cosine) & (cosine > 0.1)
        tangent = model.focal_px / half * np.sqrt(1.0 - cosine[usable] ** 2) / cosine[usable]
        if usable.sum() < 10:
            return 0.0, 0.0
        terms = np.column_stack([tangent**power for power in (1, 3, 5)])
        scale, k1, k2 = np.linalg.lstsq(terms, angle[usable] / half, rcond=None)[0]
        return float(k1 / scale**3), float(k2 / scale**5)


def epoch_at(epochs: Sequence[Epoch], mjd: float, shape: tuple[int, int]) -> Epoch | None:
    """Return the newest version of the epoch that holds at an instant for images of a size; None without one."""
    fitting = [epoch for epoch in epochs if epoch.shape == shape and epoch.holds(mjd)]
    return max(fitting, key=lambda epoch: (epoch.number, epoch.version), default=None)


def in_force(epochs: Sequence[Epoch]) -> tuple[Epoch, ...]:
    """Return the newest version of each epoch, in the order of their numbers.

    When all is learned anew, the first epoch that then comes takes the place of all that were before.
    """
    newest = {epoch.number: epoch for epoch in sorted(epochs, key=lambda epoch: epoch.version)}
    first = {epoch.shape: number for number, epoch in sorted(newest.items()) if math.isinf(epoch.valid_from)}
    return tuple(newest[number] for number in sorted(newest) if number >= first.get(newest[number].shape, 0))
