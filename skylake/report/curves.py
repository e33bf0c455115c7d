"""Light curves of single stars in all bands, from detections or forced photometry."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.unlisted_stars import DETECTIONS
from skylake.core.ids import text_id
from skylake.core.sphere import INDEX_ORDER, healpix_centre, separation_deg
from skylake.errors import LakeError, StarError, UnknownName
from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import Measured
from skylake.lake.access.matched_curves import matched_curves
from skylake.lake.access.relative_curves import relative_curves, why_no_curves
from skylake.report.curve_fluxes import FluxChoice, best_of_detections, in_flux
from skylake.report.stars.detection_curves import DetectedStar, detected_star, detection_curve
from skylake.report.stars.seen_objects import SeenObject, object_of, unlisted_near
from skylake.report.stars.stored_curves import (
    CURVE_TABLES,
    SAME_ARCSEC,
    Near,
    kinds,
    named,
    nearest_curve,
    rows_of_star,
)

#: A star is looked for within this distance of a position.
_REACH_ARCSEC = 60.0
#: An identifier that is a HEALPix index names a star that is there within this distance.
_AT_INDEX_ARCSEC = 1.0
#: How many times as far one looks for the nearest star, again and again, where there is none.
_WIDER = 8.0
_FARTHEST_DEG = 180.0
#: Values that are given once for a star, not for each band.
_OF_THE_STAR = ("object_id", "catalog", "version", "ra_deg", "dec_deg")


class NoCurve(UnknownName):
    """A lake with light curves has none of the star that is asked for."""


class FluxOfTargets(StarError):
    """Detections have no flux of the name that is asked for, and targets have."""


def curve_of_object(
    snapshot: Snapshot,
    object_id: int,
    catalog: str | None = None,
    measured: Measured | None = None,
    flux: FluxChoice = "calibrated",
    version: int | None = None,
) -> dict[str, Any]:
    """Return the light curve of a star in all bands by its identifier.

    Parameters
    ----------
    snapshot : Snapshot
    object_id : int
        In its catalog, of a target, or of an object of any camera; of a star that is in no catalog and no object, the
        HEALPix index of its position.
    catalog : str or None
        None takes the only one that has such a star.
    measured : {'forced', 'detected', 'relative'} or None
        Which measurements; None takes the forced ones of a star that has any, and the relative ones, on frames that no
        catalog places, of a star that has no others.
    flux : str
        One of :data:`skylake.report.curve_fluxes.FLUX_CHOICES`; of detections the apertures. Where it is another than
        that of the zeropoints, ``flux_used`` of the band names it.
    version : int or None
        Of the calibration; None takes the one in force.

    Returns
    -------
    dict
        object_id, catalog, version, ra_deg, dec_deg, ``measured``, ``bands``: for each band a dict of what the table
        says of the star in it (band, ref_mag, n_points, mag_median …), and ``points``: one dict per measurement,
        with its band, in the order of time. A target that no catalog has is of the catalog ``detections``, any other
        star that no catalog has of the catalog ``sources``.

    Raises
    ------
    LakeError
        If there is no light curve of that star, or no such version.
    StarError
        If several catalogs have a star of that number.
    """
    for in_all in (False, True):
        seen = object_of(snapshot, object_id, in_all) if catalog in (None, DETECTIONS) else None
        number, of_catalog = _star_of(seen, object_id, catalog)
        found = rows_of_star(snapshot, number, of_catalog, measured, in_all)
        if found is not None:
            kind, rows = found
            return _curve(snapshot, rows, rows.slice(0, 1), kind, flux, version)
        if seen is not None and seen.ref_id is None:
            break  # only targets among such objects have light curves in the tables
    of_detections = measured in (None, "detected")
    if of_detections and seen is not None:
        curve = curve_of_seen(snapshot, seen, flux, version, measured)
    elif of_detections and catalog in (None, DETECTIONS):
        curve = _curve_at_index(snapshot, object_id, flux, version, measured)
    else:
        curve = None
    if curve is None and catalog in (None, DETECTIONS):
        curve = _relative_curve(snapshot, measured, flux, version, object_id)
    if curve is not None:
        return curve
    require_curves(snapshot, measured)
    raise NoCurve(_no_curve_of(snapshot, str(object_id)))


def _star_of(seen: SeenObject | None, number: int, catalog: str | None) -> tuple[int, str | None]:
    """Return identifier and catalog of the star behind a number, which may be that of an object."""
    if seen is None:
        return number, catalog
    if seen.ref_id is None or catalog is not None:
        return seen.object_id, catalog
    return seen.ref_id, seen.catalog


def curve_of_seen(
    snapshot: Snapshot,
    seen: SeenObject,
    flux: FluxChoice = "calibrated",
    version: int | None = None,
    measured: Measured | None = None,
) -> dict[str, Any] | None:
    """Return the light curve of an object from its detections; None if no calibrated frame shows it.

    The parameters are those of :func:`curve_of_object`. Where its detections turn out to be of a star of a catalog,
    the curve is that of the star. If `measured` is None, detections of cameras that measure it as a target are left
    out, and if no others are left, the curve is that of the target.
    """
    star = detected_star(snapshot, seen.ra_deg, seen.dec_deg, seen.reach_arcsec)
    curve = _detected(snapshot, star, flux, version, measured)
    if curve is not None and curve["catalog"] == DETECTIONS:
        curve["object_id"] = seen.object_id
    return curve


def _curve_at_index(
    snapshot: Snapshot, number: int, flux: FluxChoice, version: int | None, measured: Measured | None
) -> dict[str, Any] | None:
    """Return the light curve of a star that no catalog has, by the HEALPix index of its position."""
    if not 0 <= number < 12 << (2 * INDEX_ORDER):
        return None
    ra, dec = (float(one[0]) for one in healpix_centre([number], INDEX_ORDER))
    star = detected_star(snapshot, ra, dec, _REACH_ARCSEC)
    is_there = star is not None and star.distance_arcsec <= _AT_INDEX_ARCSEC
    return _detected(snapshot, star, flux, version, measured) if is_there else None


def _relative_curve(
    snapshot: Snapshot, measured: Measured | None, flux: FluxChoice, version: int | None, number: int
) -> dict[str, Any] | None:
    """Return the relative light curve of a star by its identifier; None if there is none, or others are wanted."""
    if measured not in (None, "relative"):
        return None
    rows = relative_curves(snapshot)
    rows = rows.filter(pc.equal(rows["object_id"], number))
    if rows.num_rows == 0:
        return None
    if version is not None or flux not in ("best", "calibrated"):
        option = f"--flux {flux}" if version is None else f"--version {version}"
        raise StarError(
            f"the light curve of the star {number} is relative to the stars of its field, in one flux and without a "
            f"calibration; leave out {option}"
        )
    return _shaped(rows, "relative", [None] * rows.num_rows)


def _relative_curve_at(
    snapshot: Snapshot,
    ra_deg: float,
    dec_deg: float,
    reach_arcsec: float,
    measured: Measured | None,
    flux: FluxChoice,
    version: int | None,
) -> dict[str, Any] | None:
    """Return the relative light curve nearest to a position within reach; None if there is none."""
    rows = relative_curves(snapshot)
    distance = 3600.0 * separation_deg(
        ra_deg, dec_deg, *(rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    )
    near = np.flatnonzero(distance <= reach_arcsec)
    if not near.size:
        return None
    nearest = int(near[distance[near].argmin()])
    curve = _relative_curve(snapshot, measured, flux, version, rows["object_id"][nearest].as_py())
    n_stars = rows["object_id"].take(near).unique()
    found = {"separation_arcsec": float(distance[nearest]), "n_others": len(n_stars) - 1}
    return None if curve is None else curve | found


def _no_curve_of(snapshot: Snapshot, star: str) -> str:
    """Return that a star has no light curve, and how to name one that has."""
    catalogs = " or ".join(snapshot.catalogs())
    return (
        f"there is no light curve of the star {star}, as {catalogs or 'a catalog'} or the table objects call it; name "
        "it by its position, as in skylake lc LAKE 188.7362 -1.3958"
    )


def curve_named(
    snapshot: Snapshot,
    star: str,
    measured: Measured | None = None,
    flux: FluxChoice = "calibrated",
    version: int | None = None,
) -> dict[str, Any]:
    """Return the light curve of a star by its number, or by its name in the catalog; as :func:`curve_of_object` does.

    The name of the catalog may stand before it, as in ``apass:2``.

    Raises
    ------
    LakeError
        If there is no light curve of that star.
    StarError
        If several catalogs have a star of that number.
    """
    require_curves(snapshot, measured)
    catalog, _, name = star.rpartition(":")
    for some, own in [(catalog, name)] * bool(catalog) + [(None, star)]:
        try:
            return curve_of_object(snapshot, number_of(own), some, measured, flux, version)
        except (NoCurve, OverflowError):
            continue
    raise NoCurve(_no_curve_of(snapshot, star))


def number_of(identifier: str) -> int:
    """Return the number by which the lake knows a star, given that or its name in the catalog."""
    return int(identifier) if re.fullmatch(r"-?[0-9]{1,19}", identifier) else text_id(identifier)


def require_curves(snapshot: Snapshot, measured: Measured | None = None) -> None:
    """Refuse a lake without light curves of the wanted kind; the error names the command that makes them.

    Raises
    ------
    LakeError
        If there are none.
    """
    if any(snapshot.n_rows(CURVE_TABLES[kind].name) for kind in kinds(measured)):
        return
    if measured in (None, "relative") and relative_curves(snapshot).num_rows:
        return
    if why := why_no_curves(snapshot, measured):
        raise LakeError(f"{snapshot.layout.root}: {why}")
    which, advice = "light curves", "`skylake aggregate` makes them"
    if not snapshot.n_rows("zeropoints"):
        advice += ", after `skylake calibrate`"
    if measured == "forced":
        which = "light curves of targets"
        if not snapshot.n_rows("forced_sources"):
            advice = (
                f"`skylake ingest --redo` measures targets that `skylake targets` has chosen, then {advice}"
            )
    raise LakeError(f"{snapshot.layout.root}: the lake has no {which}; {advice}")


def curve_at(
    snapshot: Snapshot,
    ra_deg: float,
    dec_deg: float,
    reach_arcsec: float = _REACH_ARCSEC,
    measured: Measured | None = None,
    flux: FluxChoice = "calibrated",
    version: int | None = None,
) -> dict[str, Any]:
    """Return the light curve of the star nearest to a position in all bands, and its distance.

    A star that no catalog has has a light curve too, from its detections on calibrated frames. ``separation_arcsec``
    is the distance, and ``n_others`` how many other stars are within reach.

    Raises
    ------
    LakeError
        If there is none within reach, or no such version.
    """
    near = nearest_curve(snapshot, ra_deg, dec_deg, reach_arcsec, measured)
    if near is None or near.distance_arcsec > min(SAME_ARCSEC, reach_arcsec):
        of_detections = measured in (None, "detected")
        star = detected_star(snapshot, ra_deg, dec_deg, reach_arcsec) if of_detections else None
        is_nearer = near is None or (
            star is not None
            and star.listed is None
            and star.distance_arcsec < near.distance_arcsec
            and not _is_target(near, star)
        )
        curve = _named_as_object(snapshot, star, flux, version, measured) if is_nearer else None
        if star is not None and curve is not None:
            # Most stars have both a curve and detections.
            n_others = max(star.n_others, 0 if near is None else near.n_stars)
            return curve | {"separation_arcsec": star.distance_arcsec, "n_others": n_others}
    if near is not None:
        curve = _curve(snapshot, near.rows(snapshot), near.row, near.kind, flux, version)
        return curve | {"separation_arcsec": near.distance_arcsec, "n_others": near.n_stars - 1}
    curve = _relative_curve_at(snapshot, ra_deg, dec_deg, reach_arcsec, measured, flux, version)
    if curve is not None:
        return curve
    require_curves(snapshot, measured)
    raise NoCurve(
        f"there is no light curve within {reach_arcsec:g} arcsec of {round(ra_deg, 6)} {round(dec_deg, 6)}"
        f"{_nearest_in_words(snapshot, ra_deg, dec_deg, reach_arcsec, measured)}"
    )


def _nearest_in_words(
    snapshot: Snapshot, ra_deg: float, dec_deg: float, reach_arcsec: float, measured: Measured | None
) -> str:
    """Return which star with a light curve is nearest, however far away."""
    reach = max(reach_arcsec, 1.0)
    while reach < _FARTHEST_DEG * 3600.0:
        reach = min(_WIDER * reach, _FARTHEST_DEG * 3600.0)
        stars = []
        for kind in kinds(measured):
            table = CURVE_TABLES[kind]
            rows = snapshot.cone(
                table.name, ra_deg, dec_deg, reach / 3600.0, [*table.names, "ra_deg", "dec_deg"]
            )
            for row in rows.to_pylist():
                distance = float(separation_deg(ra_deg, dec_deg, row["ra_deg"], row["dec_deg"])) * 3600.0
                stars.append((distance, next(row[name] for name in table.names if row[name] is not None)))
        if stars:
            distance, number = min(stars)
            away = f"{distance:.1f} arcsec" if distance < 3600.0 else f"{distance / 3600.0:.2f} degrees"
            return f"; the nearest star that has one is {number}, {away} away"
    return ""


def _is_target(near: Near, star: DetectedStar) -> bool:
    """Return whether a forced curve is that of the star that detections show."""
    place = (near.row[name][0].as_py() for name in ("ra_deg", "dec_deg"))
    away = float(separation_deg(star.ra_deg, star.dec_deg, *place)) * 3600.0
    return near.kind == "forced" and away <= star.link_arcsec


def _named_as_object(
    snapshot: Snapshot,
    star: DetectedStar | None,
    flux: FluxChoice,
    version: int | None,
    measured: Measured | None,
) -> dict[str, Any] | None:
    """Return the curve of a star from its detections, the same as by the identifier that it has as an object."""
    if star is not None and star.listed is None:
        seen = unlisted_near(snapshot, star.ra_deg, star.dec_deg, star.link_arcsec)
        if seen is not None:
            return curve_of_seen(snapshot, seen, flux, version, measured)
    return _detected(snapshot, star, flux, version, measured)


def _detected(
    snapshot: Snapshot,
    star: DetectedStar | None,
    flux: FluxChoice,
    version: int | None,
    measured: Measured | None,
) -> dict[str, Any] | None:
    """Return the curve of a star from its detections; None if no calibrated frame shows it.

    A star of a catalog may be without a light curve as long as nobody has run `skylake aggregate`. If all cameras
    measure the star as a target, the curve is that of the target, unless detections are wanted.
    """
    if star is None or snapshot.n_rows("zeropoints") == 0:
        return None

    def remade(_: pa.Table, aperture: str | None) -> pa.Table:
        if star.listed is not None:
            return matched_curves(snapshot, star.listed, aperture, version)
        return detection_curve(snapshot, star, aperture, version, measured)

    rows = remade(star.listed, _aperture(flux))
    if rows.num_rows == 0 and measured is None:
        near = nearest_curve(snapshot, star.ra_deg, star.dec_deg, star.link_arcsec, "forced")
        return (
            None
            if near is None
            else _curve(snapshot, near.rows(snapshot), near.row, near.kind, flux, version)
        )
    return _of_detections(snapshot, rows, flux, remade) if rows.num_rows else None


def _curve(
    snapshot: Snapshot,
    rows: pa.Table,
    chosen: pa.Table,
    kind: Measured,
    flux: FluxChoice,
    version: int | None = None,
) -> dict[str, Any]:
    """Return all bands of the star of the chosen row."""
    known, one = (rows, chosen) if kind == "detected" else (named(rows), named(chosen))
    same = pc.and_(*(pc.equal(known[name], one[name][0]) for name in ("catalog", "object_id")))
    rows = rows.filter(same)
    if kind == "forced":
        rows, used = in_flux(snapshot, rows, flux, version)
        rows = named(rows)
        return _shaped(rows, kind, used)

    def remade(rows: pa.Table, aperture: str | None) -> pa.Table:
        return matched_curves(snapshot, rows, aperture, version)

    if version is not None or _aperture(flux) is not None:
        rows = remade(rows, _aperture(flux))
        if rows.num_rows == 0:
            raise LakeError(f"no frame has the flux {flux} of this star; `--flux calibrated` is always there")
    return _of_detections(snapshot, rows, flux, remade)


def _of_detections(
    snapshot: Snapshot, rows: pa.Table, flux: FluxChoice, remade: Callable[[pa.Table, str], pa.Table]
) -> dict[str, Any]:
    """Return the light curve of a star from rows in its flux, for `best` those in the calibrated one."""
    used: list[str | None] = [_aperture(flux)] * rows.num_rows
    if flux == "best":
        rows, used = best_of_detections(snapshot, rows, remade)
    return _shaped(rows, "detected", used)


def _aperture(flux: FluxChoice) -> str | None:
    """Return the aperture of detections that is asked for; None for the calibrated flux, or that which is best."""
    if flux in ("best", "calibrated"):
        return None
    if not flux.startswith("aper"):
        raise FluxOfTargets(
            f"the flux {flux} is measured of targets only, and there are no such measurements of this star; leave out "
            "--flux, or name aper1, aper2 or aper3 (`skylake targets` makes a target of it, which `skylake ingest "
            "--redo` measures)"
        )
    return flux


def require_flux_of_detections(flux: FluxChoice) -> None:
    """Refuse a flux that only targets have.

    Raises
    ------
    FluxOfTargets
        With what to do.
    """
    _aperture(flux)


def _shaped(rows: pa.Table, kind: Measured, used: list[str | None]) -> dict[str, Any]:
    """Return the rows of one star as a light curve."""
    pairs = zip(rows.to_pylist(), used, strict=True)
    bands = [row | ({} if name is None else {"flux_used": name}) for row, name in pairs]
    bands.sort(key=lambda row: str(row["band"]))
    points = [
        {"camera": row.get("camera")} | point | {"band": row["band"]}
        for row in bands
        # Older rows lack the parts of errors.
        for point in _unnest(row.pop("lightcurve") | (row.pop("lightcurve_errors") or {}))
    ]
    star = {name: bands[0][name] for name in _OF_THE_STAR} | {"measured": kind}
    others = (*_OF_THE_STAR, "_healpix_29", "lightcurve_noise")
    curves = [{name: row[name] for name in row if name not in others} for row in bands]
    points.sort(key=lambda point: (point["mjd_mid"], point["frame_id"]))
    return star | {"bands": curves, "points": points}


def _unnest(nested: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(nested, values, strict=True)) for values in zip(*nested.values(), strict=True)]
