"""Pulls of forced fluxes of lonely stars in a crowded field, in spans of S/N down to one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np
import sep
from claims import Claim

from skylake.core.flags import SourceFlag
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import ForcedMeasurements
from skylake.simulate import Moffat, render

#: Edges of the spans of S/N in which pulls are judged, and how many stars tell them.
SPANS, FEWEST = (1.0, 2.0, 4.0, 8.0, 16.0, 50.0, 1e9), 800
#: Error of the median of many normal values of width 1, times the root of their number.
MEDIAN_ERROR = 1.2533
#: Places within a pixel, along each axis, over which the light in a circle is averaged.
_PLACES = 8


class Field(Protocol):
    """What is true of a simulated frame."""

    @property
    def flux(self) -> np.ndarray: ...  # noqa: D102
    @property
    def total(self) -> np.ndarray: ...  # noqa: D102
    def neighbours(self, radius: float) -> np.ndarray: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Profile:
    """A Moffat profile, and the radii of apertures, pixels."""

    fwhm: float
    beta: float
    radii: tuple[float, ...]

    def held(self, radius: float) -> float:
        """Return the share of a star's light in a circle, the mean over its places within a pixel.

        Stars are drawn without noise: a formula for the light in a circle does not know of pixels, and its expansion
        in their size is wrong by 0.07 % where the radius is not much larger than the star.
        """
        return _held(self, radius)


@cache
def _held(profile: Profile, radius: float) -> float:
    size = 2 * int(np.ceil(radius + profile.fwhm)) + 1
    shifts = (np.arange(_PLACES) + 0.5) / _PLACES - 0.5
    x, y = (size // 2 + one.reshape(-1) for one in np.meshgrid(shifts, shifts))
    star, shares = Moffat(profile.fwhm, beta=profile.beta), []
    for place in zip(x, y, strict=True):
        column, row = np.array(place)[:, None]
        drawn = np.ascontiguousarray(render((size, size), column, row, np.ones(1), star, noise_adu=1e-9))
        shares.append(sep.sum_circle(drawn, column, row, radius, subpix=0)[0])
    return float(np.mean(shares))


def pulls_of(
    extracted: Extracted, field: Field, found: ForcedMeasurements, profile: Profile
) -> dict[str, np.ndarray]:
    """Return pulls of lonely stars, NaN for others.

    Apertures are held against the light that falls into them, the fit, which is tied to the growth curve, against all
    light: the error of that curve, common to the stars of a frame, is then part of the error.
    """
    inside = (found.edge_distance > 15.0) & ((found.flags & int(SourceFlag.FIT_FAILED)) == 0)
    lonely = inside & (field.neighbours(15.0) < 0.02)
    factor, common = (one["aper1"] for one in (extracted.corrections.factor, extracted.corrections.error))
    error = np.hypot(found.flux_err["psf"], found.flux["psf"] * common / factor)
    pulls = {"psf": (found.flux["psf"] - field.total) / error}
    for number, radius in enumerate(profile.radii, 1):
        name = f"hybrid{number}"
        pulls[name] = (found.flux[name] - field.flux * profile.held(radius)) / found.flux_err[name]
    return {name: np.where(lonely, values, np.nan) for name, values in pulls.items()}


def pull_claims(snr: np.ndarray, pulls: dict[str, np.ndarray]) -> list[Claim]:
    """Tell the pulls of lonely stars in spans of S/N, and claim them for the worst span.

    A span needs so many stars that chance alone does not bring it near a tenth, hence the many frames; what chance
    does bring, two standard errors of a median, is allowed for.
    """
    claims = []
    for name, values in pulls.items():
        spans = [values[np.isfinite(values) & (snr >= a) & (snr < b)] for a, b in pairwise(SPANS)]
        told = [
            f"{low:g}: {np.median(one):+.2f} {width(one):.2f} ({one.size})"
            for low, one in zip(SPANS, spans, strict=False)
        ]
        print(f"{name:9s} pulls of lonely stars from S/N {', '.join(told)}")
        usual = values[np.isfinite(values) & (snr >= 3.0) & (snr < 100.0)]
        claims += [
            Claim(f"{name}: median pull of lonely stars of S/N 3 to 100", abs(float(np.median(usual))), None, 0.15),
            Claim(f"{name}: width of the pulls of lonely stars of S/N 3 to 100, distance from 1",
                  abs(width(usual) - 1.0), None, 0.1),
        ]  # fmt: skip
        middle = [
            max(0.0, abs(float(np.median(one))) - 2.0 * MEDIAN_ERROR / np.sqrt(one.size))
            for one in spans
            if one.size >= FEWEST
        ]
        wide = [abs(width(one) - 1.0) for one in spans if one.size >= FEWEST]
        claims.append(
            Claim(
                f"{name}: median pull of lonely stars of any S/N, distance from 0 beyond chance",
                max(middle),
                None,
                0.1,
            )
        )
        claims.append(
            Claim(
                f"{name}: width of the pulls of lonely stars of any S/N, distance from 1",
                max(wide),
                None,
                0.1,
            )
        )
    return claims


def width(values: np.ndarray) -> float:
    """Return half the distance between the 16th and 84th percentile."""
    low, high = np.percentile(values, [15.865, 84.135])
    return float(0.5 * (high - low))
