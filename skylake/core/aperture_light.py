"""What neighbours bring into an aperture, given the profile of stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.aperture_light_kernels import N_SUMS, NEIGHBOURS, NUMBER, SLOPE, VARIANCE, neighbour_sums

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Exponents of profiles, from heavy wings to those of a Gaussian, and the one that is expected (Trujillo et al. 2001,
#: MNRAS 328, 977) with the standard deviation of its inverse.
_EXPONENTS = 1.0 / np.linspace(1.0 / 2.2, 1.0 / 40.0, 60)
_EXPECTED, _INVERSE_SPREAD = 3.5, 0.1
#: Growth curves are not known better than that, as a share of the light.
_GROWTH_ERROR = 0.01
#: Square of what a pixel adds to the full width of a Gaussian: once in the image, once more where circles cut pixels.
PIXEL_WIDTH_SQUARE = 0.46
#: Rings of equal light into which a star is divided, steps of the distance for each full width, and how many widths
#: beyond the aperture a neighbour counts.
_RINGS, _STEPS, _REACH_WIDTHS = 400, 24, 5.0


@dataclass(frozen=True, slots=True)
class StarProfile:
    """Moffat profile of the images of stars: I(r) proportional to (1 + (r / alpha)^2)^-beta (Moffat 1969).

    Attributes
    ----------
    fwhm : float
        Full width at half maximum, with what pixels and their division by circles add to it.
    beta : float
        Larger than 1; that of a Gaussian is infinite, and 40 is as good.
    """

    fwhm: float
    beta: float = _EXPECTED

    @classmethod
    def of_growth(cls, fwhm_px: float, growth: dict[float, tuple[float, float]]) -> StarProfile:
        """Return the profile of a width that agrees best with a growth curve.

        Parameters
        ----------
        fwhm_px : float
            Without what pixels add to it.
        growth : dict
            By the radius of apertures, pixels: the factor from the flux in each to total flux, and its error. Factors
            that are not finite do not count. Only their quotients do: of the light far out little is known where
            stars are crowded.
        """
        width = float(np.hypot(fwhm_px, np.sqrt(2.0 * PIXEL_WIDTH_SQUARE)))
        known = {r: pair for r, pair in sorted(growth.items()) if np.isfinite(pair).all() and pair[0] > 0}
        badness = ((1.0 / _EXPONENTS - 1.0 / _EXPECTED) / _INVERSE_SPREAD) ** 2
        steps = zip(list(known.items())[:-1], list(known.items())[1:], strict=True)
        for (inner, (factor, error)), (outer, (next_factor, next_error)) in steps:
            held = np.array(
                [cls(width, beta).within(inner) / cls(width, beta).within(outer) for beta in _EXPONENTS]
            )
            measured = next_factor / factor
            # Errors of the outer rings are common to both.
            spread = np.hypot(
                _GROWTH_ERROR,
                measured * np.sqrt(abs((error / factor) ** 2 - (next_error / next_factor) ** 2)),
            )
            badness += ((held - measured) / spread) ** 2
        return cls(width, float(_EXPONENTS[np.argmin(badness)]))

    @property
    def alpha(self) -> float:
        """Scale radius."""
        return float(0.5 * self.fwhm / np.sqrt(2.0 ** (1.0 / self.beta) - 1.0))

    def within(self, radius: npt.ArrayLike) -> Floats:
        """Return the share of the light within radii."""
        return np.asarray(1.0 - (1.0 + (np.asarray(radius, float) / self.alpha) ** 2) ** (1.0 - self.beta))

    def in_circle(self, radius: float, distance: Floats) -> Floats:
        """Return the share of its light that a star at some distances brings into a circle.

        A ring about the star lies inside the circle with a part of its angle that has a closed form; the star is the
        sum of rings, which are narrow in the core and hold little light in the wings.
        """
        outside = np.linspace(1.0, 0.0, _RINGS + 1) ** 3
        weight, middle = -np.diff(outside), 0.5 * (outside[1:] + outside[:-1])
        ring = self.alpha * np.sqrt(middle ** (1.0 / (1.0 - self.beta)) - 1.0)
        away = np.maximum(np.asarray(distance, float), 1e-9)[:, None]
        cosine = (ring**2 + away**2 - radius**2) / (2.0 * ring * away)
        return np.asarray((np.arccos(np.clip(cosine, -1.0, 1.0)) / np.pi) @ weight)

    def stamp(self, half: int, step: float = 1.0) -> npt.NDArray[np.float32]:
        """Return the image of a star of flux 1, shape (2 half + 1, 2 half + 1), in pixels of some size."""
        squares = (step * np.arange(-half, half + 1)) ** 2
        light = (1.0 + (squares[:, None] + squares) / self.alpha**2) ** -self.beta
        return np.asarray(light / light.sum(), np.float32)


@dataclass(frozen=True, slots=True)
class NeighbourLight:
    """Light of neighbours in the aperture of each wanted star; arrays of shape (m,).

    Attributes
    ----------
    share : ndarray
        Light of neighbours over the star's own in the aperture; NaN for a star without flux.
    error : ndarray
        Standard error of the share: of the fluxes of neighbours, and of the width of the profile.
    number : ndarray of int64
        Neighbours within the aperture.
    """

    share: Floats
    error: Floats
    number: npt.NDArray[np.int64]


def neighbour_light(
    places: Floats,
    flux: Floats,
    flux_err: Floats,
    wanted: Indices,
    radius: float,
    profile: StarProfile,
    width_error: float,
) -> NeighbourLight:
    """Return what all other stars bring into the apertures of some stars.

    Time grows with the number of pairs within reach, memory with the number of stars.

    Parameters
    ----------
    places : ndarray, shape (n, 2)
        Pixels; stars with NaN take no part.
    flux, flux_err : ndarray, shape (n,)
        In any unit; stars without a positive flux bring nothing.
    wanted : ndarray of int, shape (m,)
    radius : float
        Of the aperture, pixels.
    profile : StarProfile
    width_error : float
        Relative error of its width.
    """
    reach = radius + _REACH_WIDTHS * profile.fwhm
    distance = np.linspace(0.0, reach, int(np.ceil(_STEPS * reach / profile.fwhm)) + 1)
    held = profile.in_circle(radius, distance)
    wider = StarProfile(1.05 * profile.fwhm, profile.beta).in_circle(radius, distance)
    table = np.stack([held / held[0], (wider / wider[0] - held / held[0]) / 0.05])
    shining = np.flatnonzero(np.isfinite(places).all(axis=1) & (flux > 0))
    sums = np.zeros((len(wanted), N_SUMS))
    neighbour_sums(
        np.ascontiguousarray(places[shining]),
        np.stack([flux[shining], np.nan_to_num(flux_err[shining]) ** 2]),
        np.ascontiguousarray(places[wanted]),
        _numbers_among(shining, wanted, len(flux)),
        radius,
        reach,
        table,
        sums,
    )
    own = np.where(flux[wanted] > 0, flux[wanted], np.nan)
    error = np.sqrt(sums[:, VARIANCE] + (width_error * sums[:, SLOPE]) ** 2)
    return NeighbourLight(sums[:, NEIGHBOURS] / own, error / own, sums[:, NUMBER].astype(np.int64))


def _numbers_among(shining: Indices, wanted: Indices, n_stars: int) -> Indices:
    """Return the number of each wanted star among those that shine, -1 for one that does not."""
    numbers = np.full(n_stars, -1, np.intp)
    numbers[shining] = np.arange(len(shining))
    return np.asarray(numbers[wanted])
