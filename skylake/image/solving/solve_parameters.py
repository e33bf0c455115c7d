"""The known parameters of a picture to solve, and the time that the search may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SolveParams:
    """The known parameters of a picture, and the time that its search may take.

    Attributes
    ----------
    scale_low, scale_high : float or None
        Limits of the scale at the centre, arcsec per pixel; None where pictures of 0.5 degrees (less, if the index is
        made for them) to 60 degrees are possible.
    centre : tuple of float or None
        Right ascension and declination, degrees, of a place near the centre.
    radius_deg : float
        Largest distance of the centre from there.
    rotation_deg : float or None
        Position angle of the y axis, east of north.
    rotation_tolerance_deg : float
    parity : int or None
        1 where x runs to the east if y runs to the north, as on a mirrored picture; -1 for x to the west.
    distortion : tuple of float
        Expected radial distortions k1 and k2; radii are in units of half the diagonal.
    sigma_px : float
        Error of the places of sources, pixels, with what the lens does beyond k1 and k2.
    log_odds : float
        Natural logarithm of the odds from which on a solution is accepted.
    seconds : float
        The search ends after so much time of the processor.
    """

    scale_low: float | None = None
    scale_high: float | None = None
    centre: tuple[float, float] | None = None
    radius_deg: float = 5.0
    rotation_deg: float | None = None
    rotation_tolerance_deg: float = 10.0
    parity: int | None = None
    distortion: tuple[float, float] = (0.0, 0.0)
    sigma_px: float = 1.0
    log_odds: float = 12.0
    seconds: float = 1.8
