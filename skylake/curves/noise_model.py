"""What noise theory expects of a measurement: photons of star and sky, read noise, scintillation, and a floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_MAG_PER_RELATIVE = 2.5 / np.log(10.0)


@dataclass(frozen=True, slots=True)
class NoiseParts:
    """Standard deviations of a measurement by their cause, magnitudes; arrays of one shape.

    Attributes
    ----------
    star, sky, read, scintillation, floor : ndarray
    """

    star: Floats
    sky: Floats
    read: Floats
    scintillation: Floats
    floor: Floats

    @property
    def total(self) -> Floats:
        """All of them in quadrature."""
        parts = (self.star, self.sky, self.read, self.scintillation, self.floor)
        return np.asarray(np.sqrt(sum(one**2 for one in parts)))


def predicted_noise(
    electrons: Floats,
    n_pixels: float,
    sky_electrons: npt.ArrayLike,
    read_noise: npt.ArrayLike,
    scintillation: npt.ArrayLike = 0.0,
    floor: npt.ArrayLike = 0.0,
) -> NoiseParts:
    """Return the noise that a star is expected to have.

    Parameters
    ----------
    electrons : ndarray
        Of the star in the aperture; NaN where not positive.
    n_pixels : float
        In the aperture.
    sky_electrons, read_noise : array_like
        Electrons for each pixel.
    scintillation, floor : array_like
        Magnitudes; the floor is what bright stars were found to scatter by beyond all else.
    """
    electrons = np.asarray(electrons, float)
    share = _MAG_PER_RELATIVE / np.where(electrons > 0, electrons, np.nan)
    shape = electrons.shape
    return NoiseParts(
        share * np.sqrt(np.maximum(electrons, 0.0)),
        share * np.sqrt(n_pixels * np.asarray(sky_electrons, float)),
        share * np.sqrt(n_pixels) * np.asarray(read_noise, float),
        np.broadcast_to(np.asarray(scintillation, float), shape),
        np.broadcast_to(np.asarray(floor, float), shape),
    )
