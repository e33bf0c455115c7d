"""Hints on where a frame points before it is solved: from its profile, its cards and a WCS that may be wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera
from skylake.core.equinoxes import equator, equinox_of
from skylake.core.reasons import Reason
from skylake.core.sphere import ra_dec, separation_deg, unit_vectors
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, Unsolved
from skylake.image.wcs.header_wcs import Pointing

#: The scale of a profile is right to this factor.
SCALE_FACTOR = 1.2
#: This share of the time belongs to the attempt near a hint, which may be wrong.
_NEAR_SHARE = 0.3
#: And this share of the rest to the attempt that believes nothing; it gets what the others leave as well.
_LOST_SHARE = 0.2
_WHOLE_SKY = "one of the whole sky needs site, time and --all-sky (astrometry.all_sky in a profile)"
#: Hours, minutes and seconds, or degrees, with blanks or colons between them.
_SEXAGESIMAL = re.compile(r"([+-]?)\s*(\d+)[:\s]\s*(\d+)(?:[:\s]\s*(\d+\.?\d*))?\Z")


def attempts(
    header: Any, camera: Camera, raw_step: int = 1, pointing: Pointing | None = None, mjd: float | None = None
) -> list[SolveParams]:
    """Return how to solve a frame: near the hints, if there are any, then anywhere, then as if nothing were known.

    Parameters
    ----------
    header : astropy.io.fits.Header
    camera : Camera
    raw_step : int
        Raw pixels from one pixel to the next.
    pointing : Pointing or None
        The pointing of the header that the catalog does not confirm.
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
        return with_nothing_known(anywhere)
    near = replace(anywhere, centre=centre, radius_deg=known.radius_deg, seconds=_NEAR_SHARE * known.seconds)
    if scale is None and pointing is not None:
        # The stars contradict this header: the second attempt believes none of it.
        near = replace(near, **_around(pointing.pixel_scale_arcsec))
    return [near, *with_nothing_known(replace(anywhere, seconds=(1.0 - _NEAR_SHARE) * known.seconds))]


def with_nothing_known(params: SolveParams) -> list[SolveParams]:
    """Return an attempt and, if it has hints, another that believes none of them."""
    nothing = replace(
        params,
        scale_low=None,
        scale_high=None,
        centre=None,
        rotation_deg=None,
        parity=None,
        seconds=_LOST_SHARE * params.seconds,
    )
    if _hints(params) == _hints(nothing):
        return [params]
    return [replace(params, seconds=(1.0 - _LOST_SHARE) * params.seconds), nothing]


def of_profile(tries: Iterable[SolveParams]) -> SolveParams:
    """Return what attempts take from the profile alone: where it points is not part of it, and may differ."""
    first = next((one for one in tries if one.centre is None), SolveParams())
    return replace(first, rotation_deg=None)


def _hints(params: SolveParams) -> tuple[Any, ...]:
    return params.scale_low, params.scale_high, params.centre, params.rotation_deg, params.parity


def in_turn(
    tries: Iterable[SolveParams], attempt: Callable[[SolveParams], Solution | Unsolved]
) -> Iterator[tuple[SolveParams, Solution | Unsolved]]:
    """Yield attempts and their answers; what one leaves of its time the next may take."""
    spare = 0.0
    for params in tries:
        lent = replace(params, seconds=params.seconds + spare)
        answer = attempt(lent)
        yield params, answer
        spare = max(lent.seconds - answer.seconds, 0.0)


def why_unsolved(answers: Iterable[Solution | Unsolved], hints: SolveParams) -> str:
    """Return why a frame is not solved.

    That is the reason of a search for which there were no patterns, or else of the one with the most guesses. If the
    width of the picture was not given, it may show the whole sky.
    """
    unsolved = [one for one in answers if isinstance(one, Unsolved)]
    why = max(unsolved, key=lambda one: (one.without_patterns, one.n_guesses))
    if why.reason == Reason.TOO_FEW_SOURCES:
        return why.message
    words = [why.message]
    if len(unsolved) > 1 and not why.without_index:
        words.append("nor does one fit with scale, centre and parity left open, as if none was given")
    if hints.scale_high is None:
        words.append(_WHOLE_SKY)
    return "; ".join(words)


def contradicted(hints: SolveParams, found: Solution) -> str | None:
    """Return how a solution contradicts the hints, in words with figures; None if it does not."""
    words = []
    low, high = hints.scale_low or 0.0, hints.scale_high or math.inf
    if not low <= found.scale_arcsec <= high:
        words.append(
            f"the scale is {found.scale_arcsec:.4g} arcsec per pixel, and {low:.4g} to {high:.4g} was given"
        )
    if hints.parity is not None and found.parity != hints.parity:
        is_, was = ("is", "not mirrored") if found.parity > 0 else ("is not", "mirrored")
        words.append(f"the image {is_} mirrored, and was given as {was}")
    if hints.centre is not None:
        reach = hints.radius_deg + 0.5 * math.hypot(*found.shape) * found.scale_arcsec / 3600.0
        away = float(separation_deg(*hints.centre, *found.centre))
        if away > reach:
            words.append(f"the centre is {away:.3g} degrees from the one that was given")
    if hints.rotation_deg is not None:
        turn = (found.rotation_deg - hints.rotation_deg + 180.0) % 360.0 - 180.0
        if abs(turn) > hints.rotation_tolerance_deg:
            words.append(
                f"the rotation is {found.rotation_deg:.4g} degrees, and {hints.rotation_deg:g} was given"
            )
    return "; ".join(words) or None


def _around(scale: float | None) -> dict[str, Any]:
    """Return the limits of a scale in arcsec/px that may be wrong by a fifth."""
    if scale is None:
        return {"scale_low": None, "scale_high": None}
    return {"scale_low": scale / SCALE_FACTOR, "scale_high": scale * SCALE_FACTOR}


def hinted_centre(header: Any, camera: Camera, mjd: float | None = None) -> tuple[float, float] | None:
    """Return right ascension and declination (degrees, ICRS) of the cards of a header; None if there are none.

    Numbers are degrees; text such as ``05 35 17.3`` is hours for a right ascension.
    """
    centre = centre_of_cards(header, camera)
    turn = card_equator(header, camera, mjd)
    if centre is None or np.array_equal(turn, np.eye(3)):
        return centre
    ra, dec = ra_dec(turn.T @ unit_vectors(*centre))
    return float(ra), float(dec)


def centre_of_cards(header: Any, camera: Camera) -> tuple[float, float] | None:
    """Return the centre of the cards, degrees of their own equinox; None if there is none."""
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
    """Return the angle of a card in degrees; None if it has none.

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
