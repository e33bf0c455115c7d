"""The light curve of a star, however it is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.sky_positions import position_of
from skylake.core.sphere import separation_deg
from skylake.errors import SkylakeError, StarError, UnknownName
from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import Measured
from skylake.report.curve_fluxes import FluxChoice
from skylake.report.curves import FluxOfTargets, NoCurve, curve_at, curve_named, curve_of_object, number_of
from skylake.report.stars.star_list import ListedStar
from skylake.report.stars.star_names import place_by_sesame, place_in_catalogs
from skylake.report.stars.stored_curves import CURVE_TABLES, SAME_ARCSEC, kinds
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
    camera : str or None
        Whose points are wanted: where the star is a target of others only, its detections are taken.
    """

    measured: Measured | None = None
    flux: FluxChoice = "best"
    version: int | None = None
    reach_arcsec: float = 60.0
    sesame: bool = False
    camera: str | None = None


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


@dataclass(frozen=True, slots=True)
class KnownStar:
    """A star that the lake knows by an identifier.

    Attributes
    ----------
    number : int
    catalog : str or None
        None for an object of a camera, and for a target that no catalog has.
    ra_deg, dec_deg : float
        Where its light curve is: of a star of a catalog, its place there.
    """

    number: int
    catalog: str | None
    ra_deg: float
    dec_deg: float


def known_star(
    snapshot: Snapshot, listed: ListedStar, reach_arcsec: float, measured: Measured | None = None
) -> KnownStar | None:
    """Return the star of a list by the identifier that it has beside its position.

    The same number may be that of another star elsewhere, or of another system. So it counts only near the position.

    Parameters
    ----------
    snapshot : Snapshot
    listed : ListedStar
    reach_arcsec : float
        How far from the position the star may be.
    measured : {'forced', 'detected'} or None
        Which light curves are looked at.

    Returns
    -------
    KnownStar or None
        None if the list has no identifier, or the lake has no such star there.
    """
    place = position_of(listed.star)
    if not listed.object_id or place is None:
        return None
    catalog, _, name = listed.object_id.rpartition(":")
    number, cone = number_of(name), (*place, reach_arcsec / 3600.0)
    own, of_star = ("ra_deg", "dec_deg"), ("ref_ra_deg", "ref_dec_deg")
    objects = snapshot.cone("objects", *cone, ["object_id", *own, *of_star])
    objects = objects.filter(pc.equal(objects["object_id"], number)).sort_by("ref_ra_deg")
    if objects.num_rows and not catalog:
        row = objects.to_pylist()[0]
        ra, dec = of_star if row["ref_ra_deg"] is not None else own
        return KnownStar(number, None, row[ra], row[dec])
    for kind in kinds(measured):
        table = CURVE_TABLES[kind]
        rows = snapshot.cone(table.name, *cone, [*table.names, table.catalog, *own])
        rows = _nearest_first(rows.filter(_has_number(rows, table.names, number)), *place)
        for row in rows.to_pylist():
            if catalog in ("", row[table.catalog]):
                return KnownStar(number, row[table.catalog], row["ra_deg"], row["dec_deg"])
    return None


def listed_curve(
    snapshot: Snapshot, listed: ListedStar, choice: CurveChoice | None = None
) -> tuple[dict[str, Any], str]:
    """Return the light curve of a star of a list, and by what it was found: its identifier, or as the list has it.

    Where :func:`known_star` knows the identifier beside a position that counts, for a mean place may be nearer to
    another star. The errors are those of :func:`star_curve`.
    """
    choice = choice or CurveChoice()
    known = known_star(snapshot, listed, choice.reach_arcsec, choice.measured)
    if known is None:
        return star_curve(snapshot, listed.star, choice), listed.star

    def find(wanted: CurveChoice) -> dict[str, Any]:
        which = wanted.measured, wanted.flux, wanted.version
        return curve_of_object(snapshot, known.number, known.catalog, *which)

    return _explained(choice, find), listed.object_id


def _has_number(rows: pa.Table, names: tuple[str, ...], number: int) -> pa.Array:
    some = [pc.fill_null(pc.equal(rows[name], number), False) for name in names]
    return some[0] if len(some) == 1 else pc.or_(*some)


def _nearest_first(rows: pa.Table, ra_deg: float, dec_deg: float) -> pa.Table:
    away = separation_deg(ra_deg, dec_deg, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    return rows.take(pa.array(np.argsort(away, kind="stable")))


def _explained(choice: CurveChoice, find: Callable[[CurveChoice], dict[str, Any]]) -> dict[str, Any]:
    """Return a light curve; where only the kind of measurements stands in the way, the error says so."""
    try:
        curve = find(choice)
        return (
            curve
            if choice.camera is None or choice.camera in _cameras(curve)
            else _detected(choice, curve, find)
        )
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


def _cameras(curve: dict[str, Any]) -> Counter[str]:
    """Return how many points each camera has."""
    return Counter(point["camera"] for point in curve["points"])


def _detected(
    choice: CurveChoice, curve: dict[str, Any], find: Callable[[CurveChoice], dict[str, Any]]
) -> dict[str, Any]:
    """Return the detections of a target by a camera that does not measure it; the curve as it is if there are none."""
    if choice.measured is not None or curve["measured"] != "forced":
        return curve
    try:
        other = find(replace(choice, measured="detected"))
    except (NoCurve, FluxOfTargets):
        return curve
    return other if choice.camera in _cameras(other) and _is_same(curve, other) else curve


def _is_same(curve: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two light curves are of one star: a target may be too faint for detections, and a star near."""
    if (curve["catalog"], curve["object_id"]) == (other["catalog"], other["object_id"]):
        return True
    away = separation_deg(curve["ra_deg"], curve["dec_deg"], other["ra_deg"], other["dec_deg"])
    return float(away) * 3600.0 <= SAME_ARCSEC


def detected_elsewhere(
    snapshot: Snapshot, listed: ListedStar, choice: CurveChoice, curve: dict[str, Any]
) -> Counter[str]:
    """Return how many detections a target has by each camera that its light curve has no points of.

    Parameters
    ----------
    snapshot : Snapshot
    listed : ListedStar
    choice : CurveChoice
    curve : dict
        That of :func:`listed_curve` for the same star and choice.
    """
    if choice.measured is not None or choice.camera is not None or curve["measured"] != "forced":
        return Counter()
    try:
        other, _ = listed_curve(snapshot, listed, replace(choice, measured="detected", flux="calibrated"))
    except (StarError, UnknownName):
        # Of most targets the other cameras have no detections, or none that can be told from those of another star.
        return Counter()
    if not _is_same(curve, other):
        return Counter()
    known = _cameras(curve)
    return Counter({camera: count for camera, count in _cameras(other).items() if camera not in known})


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
