"""Light curves of single stars, from the table ``lightcurves``."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from skylake.core.sphere import separation_deg
from skylake.errors import LakeError
from skylake.lake import Snapshot

#: A star is looked for within this distance of a position.
_REACH_ARCSEC = 60.0


def curve_of_object(snapshot: Snapshot, object_id: int, catalog: str | None = None) -> dict[str, Any]:
    """Return the light curve of a star by its identifier.

    Returns
    -------
    dict
        object_id, catalog, version, ra_deg, dec_deg, ref_mag, ref_colour and ``points``: one dict per
        measurement.

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
        raise LakeError(
            f"there is no light curve of the star {object_id}; `skylake cone` finds stars by position"
        )
    return _unnest(rows.slice(0, 1).to_pylist()[0])


def curve_at(
    snapshot: Snapshot, ra_deg: float, dec_deg: float, reach_arcsec: float = _REACH_ARCSEC
) -> dict[str, Any]:
    """Return the light curve of the star nearest to a position, and its distance.

    Raises
    ------
    LakeError
        If there is none within reach.
    """
    rows = snapshot.cone("lightcurves", ra_deg, dec_deg, reach_arcsec / 3600.0)
    if rows.num_rows == 0:
        raise LakeError(f"there is no light curve within {reach_arcsec:g} arcsec of {ra_deg} {dec_deg}")
    distance = separation_deg(ra_deg, dec_deg, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
    nearest = int(distance.argmin())
    curve = _unnest(rows.slice(nearest, 1).to_pylist()[0])
    return curve | {"separation_arcsec": float(distance[nearest] * 3600.0)}


def _unnest(row: dict[str, Any]) -> dict[str, Any]:
    nested = row.pop("lightcurve")
    row.pop("_healpix_29")
    names = list(nested)
    return row | {
        "points": [dict(zip(names, values, strict=True)) for values in zip(*nested.values(), strict=True)]
    }
