"""Magnitudes of the simulated stars in several bands.

Simulated stars have a V magnitude and a colour B-V; every other band is a straight line in B-V. These
lines are the simulator's own definition, near the real relations of dwarfs (Jester et al. 2005, AJ 130,
873; Jordi, Grebel & Ammon 2006, A&A 460, 339) but linear without limits::

    B = V + (B-V)                    g = V + 0.60 (B-V) - 0.12
    R = V - 0.58 (B-V)               r = V - 0.42 (B-V) + 0.11
                                     i = V - 0.72 (B-V) + 0.24
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float64]

#: Slope in B-V and offset of band minus V.
_LINES: dict[str, tuple[float, float]] = {
    "B": (1.0, 0.0),
    "V": (0.0, 0.0),
    "R": (-0.58, 0.0),
    "g": (0.60, -0.12),
    "r": (-0.42, 0.11),
    "i": (-0.72, 0.24),
}

#: Bands that simulated stars have magnitudes in.
SIMULATED_BANDS = tuple(_LINES)


def has_band(band: str) -> bool:
    """Return whether simulated stars have a magnitude in a band."""
    return band in _LINES


def has_colour(colour: str) -> bool:
    """Return whether simulated stars have a colour such as ``g-r``."""
    parts = colour.split("-")
    return len(parts) == 2 and all(has_band(part) for part in parts)


def magnitude(band: str, v_mag: npt.ArrayLike, b_minus_v: npt.ArrayLike) -> _Array:
    """Return the magnitudes in a band of stars of given V and B-V."""
    slope, offset = _LINES[band]
    return np.asarray(v_mag, float) + slope * np.asarray(b_minus_v, float) + offset


def colour_index(colour: str, b_minus_v: npt.ArrayLike) -> _Array:
    """Return a colour such as ``g-r`` of stars of given B-V."""
    blue, red = colour.split("-")
    return magnitude(blue, 0.0, b_minus_v) - magnitude(red, 0.0, b_minus_v)
