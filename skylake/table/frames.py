"""The table ``frames``: rows of a frame's life as Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from skylake.schema import arrow_schema, conform, load
from skylake.schema.aperture_columns import nested_row


def frames_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return rows (column to value, missing columns null) as a table of the schema.

    Values of apertures beyond the third stand under their names, such as ``apcor_aper4``.
    """
    schema = load("frames")
    rows = [nested_row(row) for row in rows]
    columns = {
        field.name: pa.array([row.get(field.name) for row in rows], field.type, from_pandas=True)
        for field in arrow_schema(schema)
    }
    return conform(pa.table(columns), schema)


def with_calibrated_bands(frames: pa.Table, zeropoints: pa.Table) -> pa.Table:
    """Return frames of a night with the bands that they were calibrated in, where these are not those of ingest.

    The profile may have given a filter another band since. Frames without a zeropoint have the band of those
    of the same filter.

    Parameters
    ----------
    frames : pyarrow.Table
        With ``frame_id``, ``filter`` and ``band``.
    zeropoints : pyarrow.Table
        With ``frame_id`` and ``band``; may be empty.
    """
    band_of = dict(zip(zeropoints["frame_id"].to_pylist(), zeropoints["band"].to_pylist(), strict=True))
    keys = zip(*(frames[name].to_pylist() for name in ("frame_id", "filter", "band")), strict=True)
    rows = [(band_of.get(frame), (told, band)) for frame, told, band in keys]
    of_filter = {filter_: band for band, filter_ in rows if band is not None}
    bands = [band or of_filter.get(filter_, filter_[1]) for band, filter_ in rows]
    place = frames.schema.get_field_index("band")
    return frames.set_column(
        place, frames.schema.field(place), pa.array(bands, frames.schema.field(place).type)
    )
