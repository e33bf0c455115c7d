"""What reference catalogs say of the targets of a night, as one of the inputs of an aggregate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.camera import FilterBand
from skylake.core.sphere import INDEX_ORDER, ra_dec, separation_deg, unit_vectors
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.matches import catalog_values, reference_columns

Floats = npt.NDArray[np.float64]

#: A catalog star is no farther than this from its target, whose position is that of the star when it was seen.
_REACH_DEG = 60.0 / 3600.0
#: Stars in one pixel of this order, about seven degrees wide, are looked up together.
_CONE_BITS = 2 * (INDEX_ORDER - 3)
_SCHEMA = pa.schema(
    {
        "origin": pa.string(),
        "ref_id": pa.int64(),
        "band": pa.string(),
        "colour": pa.string(),
        "mag": pa.float64(),
        "colour_value": pa.float64(),
        "colour_err": pa.float64(),
    }
)


def reference_table(
    measured: pa.Table, zeropoints: pa.Table, listed: pa.Table, catalogs: Mapping[str, ReferenceCatalog]
) -> pa.Table:
    """Return magnitudes and colours of the catalog stars among targets, in each band of the zeropoints.

    Parameters
    ----------
    measured : pyarrow.Table
        Rows of ``forced_sources``, which have the positions of the targets.
    zeropoints : pyarrow.Table
        With ``band`` and ``colour``.
    listed : pyarrow.Table
        Rows of ``targets``.
    catalogs : mapping
        The catalogs that targets come from, if the lake still has them.

    Returns
    -------
    pyarrow.Table
        ``origin``, ``ref_id``, ``band``, ``colour`` (empty for none), ``mag``, ``colour_value`` and ``colour_err``,
        NaN where the catalog has no value.
    """
    places = _distinct(measured, ["star_id", "ra_deg", "dec_deg"], "star_id")
    stars = listed.filter(pc.is_valid(listed["ref_id"])).select(["star_id", "origin", "ref_id"])
    stars = stars.join(places, "star_id", join_type="inner")
    pairs = zip(zeropoints["band"].to_pylist(), zeropoints["colour"].to_pylist(), strict=True)
    wanted = [FilterBand(band, colour) for band, colour in dict.fromkeys(pairs) if band is not None]
    pieces = [_SCHEMA.empty_table()]
    for name in sorted(set(stars["origin"].to_pylist()) & catalogs.keys()):
        own = _distinct(stars.filter(pc.equal(stars["origin"], name)), stars.column_names, "ref_id")
        cell = own["star_id"].to_numpy() >> _CONE_BITS
        for one in np.unique(cell).tolist():
            pieces += _looked_up(catalogs[name], name, own.filter(pa.array(cell == one)), wanted)
    return pa.concat_tables(pieces)


def _distinct(rows: pa.Table, names: list[str], key: str) -> pa.Table:
    """Return some columns of the first row of each number in one."""
    _, first = np.unique(rows[key].to_numpy(), return_index=True)
    return rows.select(names).take(pa.array(first))


def _looked_up(
    reference: ReferenceCatalog, name: str, stars: pa.Table, bands: list[FilterBand]
) -> list[pa.Table]:
    """Return what a catalog says of stars that are near each other, band by band."""
    ra, dec, ref_id = (stars[column].to_numpy() for column in ("ra_deg", "dec_deg", "ref_id"))
    ra0, dec0 = (float(value) for value in ra_dec(unit_vectors(ra, dec).mean(axis=0)))
    radius = min(float(separation_deg(ra0, dec0, ra, dec).max()) + _REACH_DEG, 180.0)
    columns = reference_columns(bands, reference.columns, reference.survey)
    found = reference.cone(ra0, dec0, radius, columns, pc.field("ref_id").isin(pa.array(ref_id)))
    pieces = []
    for one in bands:
        mag, colour, colour_err = catalog_values(found, ref_id, one.band, one.colour, reference.survey)
        texts = {"origin": name, "band": one.band, "colour": one.colour or ""}
        values = {column: pa.repeat(text, len(ref_id)) for column, text in texts.items()}
        values |= {"ref_id": stars["ref_id"], "mag": mag, "colour_value": colour, "colour_err": colour_err}
        pieces.append(pa.table({column: values[column] for column in _SCHEMA.names}, schema=_SCHEMA))
    return pieces
