"""What is known of where a frame points before it is solved: by its profile, its cards and a WCS that may be wrong."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera
from skylake.core.equinoxes import equator, equinox_of
from skylake.core.sphere import ra_dec, unit_vectors
from skylake.image.astrometry import Pointing
from skylake.image.solve import SolveParams

#: The scale of a profile is right to this factor.
SCALE_FACTOR = 1.2
#: This share of the time belongs to the attempt near a hint, which may be wrong.
_NEAR_SHARE = 0.3
#: Hours, minutes and seconds, or degrees, with blanks or colons between them.
_SEXAGESIMAL = re.compile(r"([+-]?)\s*(\d+)[:\s]\s*(\d+)(?:[:\s]\s*(\d+\.?\d*))?\Z")


def attempts(
    header: Any, camera: Camera, raw_step: int = 1, pointing: Pointing | None = None, mjd: float | None = None
) -> list[SolveParams]:
    """Return how to solve a frame: first near the hints, if there are any, then anywhere.

    Parameters
    ----------
    header : astropy.io.fits.Header
    camera : Camera
    raw_step : int
        Raw pixels from one pixel to the next.
    pointing : Pointing or None
        What the header tells, and the catalog does not confirm.
    mjd : float or None
        Of the exposure, UTC, for cards that refer to the equinox of the date.
    """
    known = camera.astrometry
    scale = camera.optics.pixel_scale_arcsec
    anywhere = SolveParams(
        **_around(None if scale is None else scale * raw_step),
        parity=None if known.mirrored is None else (1 if known.mirrored else -1),
        seconds=known.seconds,
    )
    centre = hinted_centre(header, camera, mjd)
    if centre is None and pointing is not None:
        centre = pointing.ra_deg, pointing.dec_deg
    if centre is None:
        return [anywhere]
    near = replace(anywhere, centre=centre, radius_deg=known.radius_deg, seconds=_NEAR_SHARE * known.seconds)
    if scale is None and pointing is not None:
        # The stars contradict this header: the second attempt believes none of it.
        near = replace(near, **_around(pointing.pixel_scale_arcsec))
    return [near, replace(anywhere, seconds=(1.0 - _NEAR_SHARE) * known.seconds)]


def _around(scale: float | None) -> dict[str, Any]:
    """Return the limits of a scale in arcsec/px that may be wrong by a fifth."""
    if scale is None:
        return {"scale_low": None, "scale_high": None}
    return {"scale_low": scale / SCALE_FACTOR, "scale_high": scale * SCALE_FACTOR}


def hinted_centre(header: Any, camera: Camera, mjd: float | None = None) -> tuple[float, float] | None:
    """Return right ascension and declination (degrees, ICRS) that cards of a header tell; None if they tell none.

    Numbers are degrees; text such as ``05 35 17.3`` is hours for a right ascension.
    """
    told = centre_of_cards(header, camera)
    turn = card_equator(header, camera, mjd)
    if told is None or np.array_equal(turn, np.eye(3)):
        return told
    ra, dec = ra_dec(turn.T @ unit_vectors(*told))
    return float(ra), float(dec)


def centre_of_cards(header: Any, camera: Camera) -> tuple[float, float] | None:
    """Return what the cards tell, degrees of their own equinox."""
    for ra_card, dec_card in zip(camera.astrometry.ra, camera.astrometry.dec, strict=False):
        ra, dec = angle_of(header.get(ra_card), 15.0), angle_of(header.get(dec_card), 1.0)
        if ra is not None and dec is not None and -360.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0:
            return ra % 360.0, dec
    return None


def card_equator(header: Any, camera: Camera, mjd: float | None) -> npt.NDArray[np.float64]:
    """Return the rotation from the ICRS to what the cards of the telescope refer to, shape (3, 3)."""
    known = camera.astrometry.equinox
    return equator(equinox_of(header) if known == "cards" else known, mjd)


def angle_of(value: Any, degrees_per_unit: float, degrees_per_number: float = 1.0) -> float | None:
    """Return an angle in degrees; None if a card tells none.

    Parameters
    ----------
    value : object
    degrees_per_unit : float
        Degrees in the unit of text such as ``05:35:17``.
    degrees_per_number : float
        Degrees in that of numbers.
    """
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        parts = _SEXAGESIMAL.match(str(value).strip())
        if parts is None:
            return None
        sign, whole, minutes, seconds = parts.groups()
        number = int(whole) + int(minutes) / 60.0 + float(seconds or 0.0) / 3600.0
        return (-number if sign == "-" else number) * degrees_per_unit
    return number * degrees_per_number if math.isfinite(number) else None
