"""Noise by scintillation: what turbulent air does to the light of a star, however bright it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.camera import Camera

Floats = npt.NDArray[np.float64]

_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
#: Scale height of the turbulence, m, and the median of the empirical coefficients of sites (Osborn et al. 2015).
_TURBULENCE_M, _SITE_COEFFICIENT = 8000.0, 1.5


def scintillation_mag(
    diameter_m: float, airmass: npt.ArrayLike, exposure_s: npt.ArrayLike, height_m: float
) -> Floats:
    """Return the noise by scintillation of one exposure, magnitudes.

    Young's formula with the coefficient that sites have in the median, 1.5 times his (Osborn et al. 2015, MNRAS 452,
    1707, eq. 7). It holds for exposures that are long against the time in which a turbulent layer passes, some tenths
    of a second for a lens.

    Parameters
    ----------
    diameter_m : float
        Of the entrance pupil.
    airmass, exposure_s : array_like
    height_m : float
        Of the site above the sea.
    """
    height = np.exp(-height_m / _TURBULENCE_M)
    share = np.sqrt(1e-5) * _SITE_COEFFICIENT * diameter_m ** (-2.0 / 3.0) * height
    return np.asarray(
        _MAG_PER_RELATIVE * share * np.asarray(airmass, float) ** 1.5 / np.sqrt(np.asarray(exposure_s, float))
    )


@dataclass(frozen=True, slots=True)
class Scintillation:
    """The scintillation of a telescope."""

    diameter_m: float
    height_m: float

    @classmethod
    def of(cls, camera: Camera) -> Scintillation | None:
        """Return that of a camera; None if its aperture or its site are not known."""
        diameter, site = camera.optics.diameter_m, camera.site
        return None if diameter is None or site is None else cls(diameter, site.height_m)

    def of_table(self, frames: pa.Table) -> Floats:
        """Return the noise of rows of ``frames``, by their columns airmass and exposure_s."""
        return self.of_frames(*(np.asarray(frames[name], float) for name in ("airmass", "exposure_s")))

    def of_frames(self, airmass: npt.ArrayLike, exposure_s: npt.ArrayLike) -> Floats:
        """Return the noise of frames, magnitudes; NaN without an airmass above 0 or an exposure."""
        air, exposure = np.asarray(airmass, float), np.asarray(exposure_s, float)
        good = (air > 0.0) & (exposure > 0.0)
        noise = scintillation_mag(
            self.diameter_m, np.where(good, air, 1.0), np.where(good, exposure, 1.0), self.height_m
        )
        return np.where(good, noise, np.nan)
