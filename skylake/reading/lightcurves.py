"""The light curve of a star that was read from a lake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skylake.reading.rows import Rows
from skylake.schema import arrow_schema, load

if TYPE_CHECKING:
    from skylake.report.stars.chosen_points import PointChoice

#: Table and columns of the measurements, detected or forced.
_TABLES = {"detected": "lightcurves", "forced": "forced_lightcurves", "relative": "lightcurves"}
_NESTED = ("lightcurve", "lightcurve_errors")


class LightCurve(Rows):
    """The measurements of one star in all bands, in the order of time, with what is known of the star.

    Parameters
    ----------
    curve : dict
        As of :func:`skylake.report.curves.curve_of_object`.
    points : PointChoice or None
        Whether points are folded and in bins; None leaves them as they are.

    Examples
    --------
    >>> curve = lake.lightcurve(2)
    >>> points = curve.pandas()
    >>> points.plot.scatter("bjd_tdb", "mag", yerr="mag_err").invert_yaxis()
    """

    def __init__(self, curve: dict[str, Any], points: PointChoice | None = None) -> None:
        table = points_table(curve)
        super().__init__(table if points is None else points.table(table))
        self._curve = curve

    @property
    def object_id(self) -> int:
        """Identifier of the star in its catalog, or as a target."""
        return int(self._curve["object_id"])

    @property
    def catalog(self) -> str:
        """Catalog of the star; ``detections`` of a target that no catalog has, ``sources`` of any other such star."""
        return str(self._curve["catalog"])

    @property
    def ra_deg(self) -> float:
        """Right ascension of the star, degrees, ICRS."""
        return float(self._curve["ra_deg"])

    @property
    def dec_deg(self) -> float:
        """Declination of the star, degrees, ICRS."""
        return float(self._curve["dec_deg"])

    @property
    def separation_arcsec(self) -> float | None:
        """Distance from the position that was asked for, arcseconds; None for a star that was named."""
        found = self._curve.get("separation_arcsec")
        return None if found is None else float(found)

    @property
    def measured(self) -> str:
        """``forced`` (at the place of the star, seen or not), ``detected``, or ``relative`` to the stars around."""
        return str(self._curve["measured"])

    @property
    def bands(self) -> list[dict[str, Any]]:
        """What is known of the star in each band: its band, catalog magnitude, number of points, median, scatter."""
        return [dict(band) for band in self._curve["bands"]]

    @property
    def detrended(self) -> list[dict[str, Any]]:
        """How the curve of each camera and band was detrended, and the signal of the method joint; empty if not."""
        return [dict(band) for band in self._curve.get("detrended", ())]

    def __repr__(self) -> str:
        bands = ", ".join(str(band["band"]) for band in self._curve["bands"])
        place = f"{self.ra_deg:.6f} {self.dec_deg:+.6f}"
        return (
            f"<LightCurve of star {self.object_id} of {self.catalog} at {place} deg: {len(self)} points "
            f"({self.measured}) in {bands}>"
        )


def points_table(curve: dict[str, Any]) -> pa.Table:
    """Return the measurements with the types, units and texts that their nested columns declare."""
    table = arrow_schema(load(_TABLES[curve["measured"]]))
    fields = {"camera": pa.field("camera", pa.string()), "band": table.field("band").with_nullable(True)}
    for name in _NESTED:
        nested = table.field(name)
        metadata = json.loads(nested.metadata[b"columns"])
        fields |= {
            inner.name: pa.field(inner.name, inner.type.value_type, metadata=metadata[inner.name])
            for inner in nested.type
        }
    raw = {b"description": b"Magnitude before it was detrended", b"unit": b"mag"}
    fields["mag_raw"] = pa.field("mag_raw", pa.float64(), metadata=raw)
    points = curve["points"]
    names = list(points[0]) if points else [name for name in fields if name != "mag_raw"]
    return pa.Table.from_pylist(points, schema=pa.schema([fields[name] for name in names]))
