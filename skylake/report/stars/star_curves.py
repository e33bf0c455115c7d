"""The light curve of a star, however it is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skylake.core.sky_positions import position_of
from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import Measured
from skylake.report.curve_fluxes import FluxChoice
from skylake.report.curves import NoCurve, curve_at, curve_named
from skylake.report.stars.star_names import place_by_sesame, place_in_catalogs


@dataclass(frozen=True, slots=True)
class CurveChoice:
    """What of a star is wanted.

    Attributes
    ----------
    measured : {'forced', 'detected'} or None
        At the place of the star, detected or not, or its detections; None takes the forced ones of a star that has
        any.
    flux : str
        One of :data:`skylake.report.curve_fluxes.FLUX_CHOICES`.
    version : int or None
        Of the calibration; None takes the one in force.
    reach_arcsec : float
        How far from a position the star may be.
    sesame : bool
        Whether names that the lake does not know are looked up in the network.
    """

    measured: Measured | None = None
    flux: FluxChoice = "best"
    version: int | None = None
    reach_arcsec: float = 60.0
    sesame: bool = False


def curve_near(snapshot: Snapshot, ra_deg: float, dec_deg: float, choice: CurveChoice) -> dict[str, Any]:
    """Return the light curve of the star nearest to a position, as :func:`skylake.report.curves.curve_at` does."""
    reach = choice.reach_arcsec
    return curve_at(snapshot, ra_deg, dec_deg, reach, choice.measured, choice.flux, choice.version)


def star_curve(snapshot: Snapshot, star: str, choice: CurveChoice | None = None) -> dict[str, Any]:
    """Return the light curve of a star in all bands, as :func:`skylake.report.curves.curve_of_object` does.

    Parameters
    ----------
    snapshot : Snapshot
    star : str
        A position (see :func:`skylake.core.sky_positions.position_of`); the identifier of a star or its name in the
        reference catalog, where several catalogs have it with the name of one, as ``apass:2``; the identifier of a
        target, or of an object of a camera; or its name in a catalog of variable stars of the lake, such as VSX.
    choice : CurveChoice or None
        None takes the defaults.

    Raises
    ------
    LakeError
        If the lake has no light curve of it, or no such version; the sentence names the nearest star that has one.
    StarError
        If a position is none of the sky, or several catalogs have a star of that number.
    """
    choice = choice or CurveChoice()
    place = position_of(star)
    if place is not None:
        return curve_near(snapshot, *place, choice)
    try:
        return curve_named(snapshot, star.strip(), choice.measured, choice.flux, choice.version)
    except NoCurve:
        listed = place_in_catalogs(snapshot, star)
        if listed is None and not choice.sesame:
            raise
    place, source = listed or (place_by_sesame(star), "Sesame")
    try:
        return curve_near(snapshot, *place, choice)
    except NoCurve as error:
        raise NoCurve(f"{star} is at {place[0]:.5f} {place[1]:+.5f} by {source}, but {error}") from error
