"""Which share of stars is found, by flux, and where it falls to half."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from skylake.image.quality.field_cells import SIDE

Floats = npt.NDArray[np.float64]

#: Stars of a cell that show where its completeness falls, and fluxes at which that may be.
_FEWEST_IN_CELL, _CENTRES = 15, 401
#: The steepest fall that noise lets be, in the decimal logarithm of flux: that of stars that are found from S/N 29 on.
#: Were it nearer to falls that occur, only wider ones would be likely for these, and their errors too large.
_LEAST_WIDTH = 0.015
#: A fall narrower than this share of the distance between two fluxes is a step wherever it lies; no counts show how
#: narrow it is.
_STEP = 0.2
#: Points of the grid over height, place and width of the fall, how often it closes in on what is likely, and which
#: logarithm below the largest is not.
_GRID, _ZOOMS, _UNLIKELY = (17, 41, 17), 4, 12.0
#: So sure must be that the fall is where fluxes are.
_SURE = 0.95


@dataclass(frozen=True, slots=True)
class Completeness:
    """Which share of stars is found, by flux; arrays of shape (n,), ascending in flux.

    Attributes
    ----------
    flux : ndarray
        Total flux in the middle of a bin, ADU per second.
    n_injected, n_found : ndarray of int
    n_chance : ndarray of int
        Stars that fell where the frame has a source like them anyway. Whether they are found is unknown, so they
        do not count.
    fraction, low, high : ndarray
        Share that is found, and its 68 % interval (Wilson 1927, JASA 22, 209).
    limiting_flux : float
        Total flux of a star of S/N 5 in the aperture of calibrations, as ``frames.flux_limit``.
    fine_flux : ndarray, shape (m,)
        The fluxes that stars were given, some in each bin; empty where those of the bins are all that is known.
    cells : ndarray of int, shape (2, 9, m)
        Injected and found stars of these in each of 3 x 3 cells of the image; empty where that is not known.
    """

    flux: Floats
    n_injected: npt.NDArray[np.int64]
    n_found: npt.NDArray[np.int64]
    fraction: Floats
    low: Floats
    high: Floats
    limiting_flux: float
    n_chance: npt.NDArray[np.int64]
    fine_flux: Floats = field(default_factory=lambda: np.zeros(0))
    cells: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 0, 0), np.int64))

    def counts(self) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return fluxes, and how many stars of each were injected and found, as finely as that is known."""
        if self.fine_flux.size == 0:
            return self.flux, self.n_injected, self.n_found
        injected, found = self.cells.sum(axis=1)
        return self.fine_flux, injected, found


@dataclass(frozen=True, slots=True)
class HalfLight:
    """Where completeness falls to half of what it is for bright stars.

    Attributes
    ----------
    flux, flux_err : float
        Total flux, ADU per second; NaN where the counts do not determine it.
    bright : float
        Share of bright stars that is found: what blends and bad pixels leave.
    width : float
        Standard deviation of the fall, in the decimal logarithm of flux.
    """

    flux: float
    flux_err: float
    bright: float
    width: float


def wilson(found: npt.NDArray[np.int64], tried: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the 68 % interval of a share from counts (Wilson 1927, JASA 22, 209); 0 to 1 where nothing was tried."""
    tried = np.maximum(tried, 1e-12)
    share = found / tried
    centre = (share + 0.5 / tried) / (1.0 + 1.0 / tried)
    half = np.sqrt(share * (1.0 - share) / tried + 0.25 / tried**2) / (1.0 + 1.0 / tried)
    return np.clip(centre - half, 0.0, share), np.clip(centre + half, share, 1.0)


def half_light(curve: Completeness) -> HalfLight:
    """Fit the fall of completeness with an error function to the counts.

    ``fraction = bright / 2 (1 + erf(log10(flux / flux_half) / (sqrt(2) width)))``. Values are means of the likelihood
    of the counts over all bright, log flux_half and log width that may be, and the error is its standard deviation:
    where the fall is steeper than the fluxes are dense, it is that of a place anywhere between two of them. Of bright
    the angle is taken whose squared sine it is (Jeffreys 1946, Proc. R. Soc. A 186, 453), or few stars would make it
    too small. Where fewer than some tens of stars are within the fall, the error holds what its width leaves open.
    All are NaN where the fall is not surely among the fluxes.
    """
    flux, n, k = curve.counts()
    known = n > 0
    place, n, k = np.log10(flux[known]), n[known], k[known]
    nothing = HalfLight(float("nan"), float("nan"), float("nan"), float("nan"))
    if not k.any() or place.size < 4 or k[-1] == 0:
        return nothing
    reach = place[-1] - place[0]
    beyond = reach / (place.size - 1)
    low = np.array([0.0, place[0] - beyond, np.log(max(_LEAST_WIDTH, _STEP * beyond))])
    high = np.array([0.5 * np.pi, place[-1] + beyond, np.log(reach)])
    for _ in range(_ZOOMS):
        axes = [np.linspace(start, end, size) for start, end, size in zip(low, high, _GRID, strict=True)]
        likelihood = _log_likelihood(axes, place, n, k)
        near = np.nonzero(likelihood > likelihood.max() - _UNLIKELY)
        low = np.array([axis[max(0, one.min() - 1)] for axis, one in zip(axes, near, strict=True)])
        high = np.array(
            [axis[min(len(axis) - 1, one.max() + 1)] for axis, one in zip(axes, near, strict=True)]
        )
    weight = np.exp(likelihood - likelihood.max())
    weight /= weight.sum()
    bright, centres, widths = (weight.sum(axis=others) for others in ((1, 2), (0, 2), (0, 1)))
    if centres[(axes[1] > place[0]) & (axes[1] < place[-1])].sum() < _SURE:
        return nothing
    centre = float(centres @ axes[1])
    error = float(np.sqrt(centres @ (axes[1] - centre) ** 2))
    half = float(10.0**centre)
    return HalfLight(
        half,
        half * np.log(10.0) * error,
        float(bright @ np.sin(axes[0]) ** 2),
        float(np.exp(widths @ axes[2])),
    )


def _log_likelihood(
    axes: list[Floats], place: Floats, n: npt.NDArray[np.int64], k: npt.NDArray[np.int64]
) -> Floats:
    """Return the log likelihood of counts for each bright (its angle), centre and log width of a grid."""
    from scipy.special import ndtr

    angle, centre, log_width = axes
    bright = np.sin(angle) ** 2
    fall = np.maximum(ndtr((place - centre[:, None, None]) / np.exp(log_width)[:, None]), 1e-9)
    height, missing = np.maximum(bright, 1e-9)[:, None, None], n > k
    found = k.sum() * np.log(height) + np.log(fall) @ k
    # The share of the missing is no product, so that it takes most of the time.
    share = np.minimum(height[..., None] * fall[..., missing], 1.0 - 1e-9)
    return np.asarray(found + np.log1p(-share) @ (n - k)[missing])


def half_light_in_cells(curve: Completeness, half: HalfLight) -> Floats:
    """Return the total flux at which completeness falls to half in each of 3 x 3 cells, ADU per second.

    The fall has the width and the height of that of the whole image, and its place is that of the largest likelihood;
    it is NaN for cells of few stars, or where the counts do not determine it.
    """
    from scipy.special import ndtr

    flux = np.full(SIDE**2, np.nan)
    if curve.cells.size == 0 or not np.isfinite(half.flux):
        return flux
    places = np.log10(curve.counts()[0])
    centres = np.linspace(places[0], places[-1], _CENTRES)
    share = half.bright * ndtr((places - centres[:, None]) / half.width)
    share = np.clip(share, 1e-6, 1.0 - 1e-6)
    for number, (n, k) in enumerate(zip(*curve.cells, strict=True)):
        likelihood = np.log(share) @ k + np.log1p(-share) @ (n - k)
        best = int(np.argmax(likelihood))
        if n.sum() >= _FEWEST_IN_CELL and 0 < best < _CENTRES - 1:
            flux[number] = 10.0 ** centres[best]
    return flux
