"""The light curve of a star, however it is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from skylake.core.sky_positions import position_of
from skylake.errors import SkylakeError
from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import Measured
from skylake.report.curve_fluxes import FluxChoice
from skylake.report.curves import FluxOfTargets, NoCurve, curve_at, curve_named
from skylake.report.stars.star_names import place_by_sesame, place_in_catalogs
from skylake.report.stars.which_star import which_star


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
    return _explained(choice, lambda wanted: _curve_at(snapshot, ra_deg, dec_deg, wanted))


def _curve_at(snapshot: Snapshot, ra_deg: float, dec_deg: float, choice: CurveChoice) -> dict[str, Any]:
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
    return _explained(choice or CurveChoice(), lambda wanted: _curve_of(snapshot, star, wanted))


def _curve_of(snapshot: Snapshot, star: str, choice: CurveChoice) -> dict[str, Any]:
    place = position_of(star)
    if place is not None:
        return _curve_at(snapshot, *place, choice)
    try:
        return curve_named(snapshot, star.strip(), choice.measured, choice.flux, choice.version)
    except NoCurve:
        listed = place_in_catalogs(snapshot, star)
        if listed is None and not choice.sesame:
            raise
    place, source = listed or (place_by_sesame(star), "Sesame")
    try:
        return _curve_at(snapshot, *place, choice)
    except NoCurve as error:
        raise NoCurve(f"{star} is at {place[0]:.5f} {place[1]:+.5f} by {source}, but {error}") from error


def _explained(choice: CurveChoice, find: Callable[[CurveChoice], dict[str, Any]]) -> dict[str, Any]:
    """Return a light curve; where only the kind of measurements stands in the way, the error says so."""
    try:
        return find(choice)
    except (NoCurve, FluxOfTargets) as error:
        if choice.measured is None:
            raise
        # A star that is no target has a curve in the usual flux.
        flux = choice.flux if choice.measured == "detected" else "calibrated"
        try:
            other = find(replace(choice, measured=None, flux=flux))
        except SkylakeError:
            raise error from None
        if other["measured"] == choice.measured:
            raise
        raise type(error)(_without_measured(choice, other, error)) from error


def _without_measured(choice: CurveChoice, other: dict[str, Any], error: SkylakeError) -> str:
    """Return why a choice of measurements leaves nothing of a star that has others."""
    star = which_star(other)
    if isinstance(error, FluxOfTargets):
        return (
            f"the flux {choice.flux} of {star} is that of its forced measurements, and detections have none; leave "
            "out --measured detected, or name aper1, aper2 or aper3"
        )
    if choice.measured == "detected":
        return f"no calibrated frame shows a detection of {star}, which is a target; leave out --measured detected"
    flux = (
        ""
        if choice.flux in ("best", "calibrated") or choice.flux.startswith("aper")
        else f" and --flux {choice.flux}"
    )
    return (
        f"{star} has no forced light curve, only one of its detections; leave out --measured forced{flux}, or make it "
        "a target by `skylake targets`, then `skylake ingest --redo` and `skylake aggregate`"
    )
