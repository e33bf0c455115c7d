"""Light curves of single stars in all bands, from the table ``lightcurves``."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.sphere import separation_deg
from skylake.errors import LakeError
from skylake.lake import Snapshot

#: A star is looked for within this distance of a position.
_REACH_ARCSEC = 60.0
#: What is told of a star once, not for each band.
_OF_THE_STAR = ("object_id", "catalog", "version", "ra_deg", "dec_deg")


def curve_of_object(snapshot: Snapshot, object_id: int, catalog: str | None = None) -> dict[str, Any]:
    """Return the light curve of a star in all bands by its identifier.

    Returns
    -------
    dict
        object_id, catalog, version, ra_deg, dec_deg, ``bands``: for each band a dict of what the table says
        of the star in it (band, ref_mag, n_points, mag_median …), and ``points``: one dict per measurement,
        with its band, in the order of time.

    Raises
    ------
    LakeError
        If there is no light curve of that star.
    """
    chosen = pc.field("object_id") == object_id
    if catalog is not None:
        chosen &= pc.field("catalog") == catalog
    rows = snapshot.read("lightcurves", filter=chosen)
    if rows.num_rows == 0:
        _require_any(snapshot)
        raise LakeError(
            f"there is no light curve of the star {object_id}; `skylake cone` finds stars by position"
        )
    return _curve(rows, rows.slice(0, 1))


def _require_any(snapshot: Snapshot) -> None:
    """Refuse a lake that has no light curves at all."""
    if snapshot.n_rows("lightcurves") == 0:
        raise LakeError(
            f"{snapshot.layout.root}: the lake has no light curves; `skylake aggregate` makes them"
        )


def curve_at(
    snapshot: Snapshot, ra_deg: float, dec_deg: float, reach_arcsec: float = _REACH_ARCSEC
) -> dict[str, Any]:
    """Return the light curve of the star nearest to a position in all bands, and its distance.

    Raises
    ------
    LakeError
        If there is none within reach.
    """
    rows = snapshot.cone("lightcurves", ra_deg, dec_deg, reach_arcsec / 3600.0)
    if rows.num_rows == 0:
        _require_any(snapshot)
        raise LakeError(f"there is no light curve within {reach_arcsec:g} arcsec of {ra_deg} {dec_deg}")
    distance = separation_deg(ra_deg, dec_deg, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    nearest = int(distance.argmin())
    return _curve(rows, rows.slice(nearest, 1)) | {"separation_arcsec": float(distance[nearest] * 3600.0)}


def _curve(rows: pa.Table, chosen: pa.Table) -> dict[str, Any]:
    """Return all bands of the star of the chosen row."""
    same = [pc.equal(rows[name], chosen[name][0]) for name in ("catalog", "object_id")]
    bands = sorted(rows.filter(pc.and_(*same)).to_pylist(), key=lambda row: row["band"])
    points = [point | {"band": row["band"]} for row in bands for point in _unnest(row.pop("lightcurve"))]
    star = {name: bands[0][name] for name in _OF_THE_STAR}
    told = [{name: row[name] for name in row if name not in (*_OF_THE_STAR, "_healpix_29")} for row in bands]
    points.sort(key=lambda point: (point["mjd_mid"], point["frame_id"]))
    return star | {"bands": told, "points": points}


def _unnest(nested: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(nested, values, strict=True)) for values in zip(*nested.values(), strict=True)]
