"""Light curves of single stars in all bands, from detections or forced photometry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.ids import text_id
from skylake.core.sphere import separation_deg
from skylake.errors import LakeError, UnknownName, UsageError
from skylake.lake import Snapshot
from skylake.report.curve_fluxes import FluxChoice, in_flux

#: A star is looked for within this distance of a position.
_REACH_ARCSEC = 60.0
_MORE_ARCSEC = 5.0
#: Which measurements of a star: those at its place, detected or not, or its detections.
Measured = Literal["forced", "detected"]
#: Values that are given once for a star, not for each band.
_OF_THE_STAR = ("object_id", "catalog", "version", "ra_deg", "dec_deg")


@dataclass(frozen=True, slots=True)
class _CurveTable:
    """A table of light curves, and its columns of the identifier and catalog of a star."""

    name: str
    number: str
    catalog: str


_TABLES: dict[Measured, _CurveTable] = {
    "forced": _CurveTable("forced_lightcurves", "ref_id", "origin"),
    "detected": _CurveTable("lightcurves", "object_id", "catalog"),
}


def curve_of_object(
    snapshot: Snapshot,
    object_id: int,
    catalog: str | None = None,
    measured: Measured | None = None,
    flux: FluxChoice = "calibrated",
) -> dict[str, Any]:
    """Return the light curve of a star in all bands by its identifier.

    Parameters
    ----------
    snapshot : Snapshot
    object_id : int
        In its catalog, or of a target.
    catalog : str or None
        None takes any.
    measured : {'forced', 'detected'} or None
        Which measurements; None takes the forced ones of a star that has any.
    flux : str
        Of forced measurements, one of :data:`skylake.report.curve_fluxes.FLUX_CHOICES`. Where it is another than that
        of the zeropoints, ``flux_used`` of the band names it.

    Returns
    -------
    dict
        object_id, catalog, version, ra_deg, dec_deg, ``measured``, ``bands``: for each band a dict of what the table
        says of the star in it (band, ref_mag, n_points, mag_median …), and ``points``: one dict per measurement,
        with its band, in the order of time. A target that no catalog has is of the catalog ``detections``.

    Raises
    ------
    LakeError
        If there is no light curve of that star.
    """
    for kind in _kinds(measured):
        chosen = pc.field(_TABLES[kind].number) == object_id
        if kind == "forced":
            chosen |= pc.field("star_id") == object_id
        if catalog is not None:
            chosen &= pc.field(_TABLES[kind].catalog) == catalog
        rows = snapshot.merged(_TABLES[kind].name, of=chosen)
        if rows.num_rows:
            return _curve(snapshot, rows, rows.slice(0, 1), kind, flux)
    require_curves(snapshot, measured)
    raise UnknownName(
        f"there is no light curve of the star {object_id}; `skylake cone` finds stars by position"
    )


def curve_named(
    snapshot: Snapshot, star: str, measured: Measured | None = None, flux: FluxChoice = "calibrated"
) -> dict[str, Any]:
    """Return the light curve of a star by its number, or by its name in the catalog; as :func:`curve_of_object` does.

    Raises
    ------
    LakeError
        If there is no light curve of that star.
    """
    require_curves(snapshot, measured)
    number = int(star) if re.fullmatch(r"-?[0-9]{1,19}", star) else text_id(star)
    try:
        return curve_of_object(snapshot, number, measured=measured, flux=flux)
    except (LakeError, OverflowError) as error:
        raise UnknownName(
            f"there is no light curve of the star {star}; `skylake cone` finds stars by position"
        ) from error


def _kinds(measured: Measured | None) -> tuple[Measured, ...]:
    return ("forced", "detected") if measured is None else (measured,)


def require_curves(snapshot: Snapshot, measured: Measured | None = None) -> None:
    """Refuse a lake without light curves of the wanted kind; the error names the command that makes them.

    Raises
    ------
    LakeError
        If there are none.
    """
    if any(snapshot.n_rows(_TABLES[kind].name) for kind in _kinds(measured)):
        return
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
) -> dict[str, Any]:
    """Return the light curve of the star nearest to a position in all bands, and its distance.

    Raises
    ------
    LakeError
        If there is none within reach.
    """
    for kind in _kinds(measured):
        # With a margin, as the blocks of a target may have positions from different lists.
        rows = snapshot.cone(_TABLES[kind].name, ra_deg, dec_deg, (reach_arcsec + _MORE_ARCSEC) / 3600.0)
        distance = separation_deg(ra_deg, dec_deg, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
        nearest = int(distance.argmin()) if len(distance) else 0
        if len(distance) and distance[nearest] * 3600.0 <= reach_arcsec:
            curve = _curve(snapshot, rows, rows.slice(nearest, 1), kind, flux)
            return curve | {"separation_arcsec": float(distance[nearest] * 3600.0)}
    require_curves(snapshot, measured)
    raise UnknownName(f"there is no light curve within {reach_arcsec:g} arcsec of {ra_deg} {dec_deg}")


def _curve(
    snapshot: Snapshot, rows: pa.Table, chosen: pa.Table, kind: Measured, flux: FluxChoice
) -> dict[str, Any]:
    """Return all bands of the star of the chosen row."""
    known, one = (rows, chosen) if kind == "detected" else (_named(rows), _named(chosen))
    same = pc.and_(*(pc.equal(known[name], one[name][0]) for name in ("catalog", "object_id")))
    rows = rows.filter(same)
    used: list[str | None] = [None] * rows.num_rows
    if kind == "detected" and flux not in ("best", "calibrated"):
        raise UsageError(
            f"the flux {flux} is measured of targets, and this star is none; leave out --flux, or make it one with "
            "`skylake targets`"
        )
    if kind == "forced":
        rows, used = in_flux(snapshot, rows, flux)
        rows = _named(rows)
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


def _named(rows: pa.Table) -> pa.Table:
    """Return light curves of targets with the names that stars have in catalogs: a target of none has its own."""
    rows = rows.drop_columns("catalog").rename_columns({"origin": "catalog"})
    return rows.append_column("object_id", pc.coalesce(rows["ref_id"], rows["star_id"]))


def _unnest(nested: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(nested, values, strict=True)) for values in zip(*nested.values(), strict=True)]
