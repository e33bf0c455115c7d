"""Read and write the places of detectors in the focal plane: one row for each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from skylake.image.solving.expected_pointing import PlacedChip
from skylake.lake.cameras.camera_state import read_rows, replace_rows
from skylake.lake.cameras.stored_lens import LENS_COLUMNS, lens_in, lens_values
from skylake.lake.layout import Layout

#: Columns that hold an attribute each.
_PLAIN = {
    "first_mjd": pa.float64(),
    "last_mjd": pa.float64(),
    "n_exposures": pa.int64(),
    "n_stars": pa.int64(),
    "sigma_angle_deg": pa.float64(),
    "scatter_arcsec": pa.float64(),
    "scatter_deg": pa.float64(),
}
#: Columns that hold an attribute of two values.
_PAIRS = {"period_mjd": ("from_mjd", "until_mjd"), "sigma_arcsec": ("sigma_x_arcsec", "sigma_y_arcsec")}
_SCHEMA = pa.schema(
    _PLAIN | {column: pa.float64() for pair in _PAIRS.values() for column in pair} | LENS_COLUMNS
)


def focal_plane_file(layout: Layout, camera: str) -> Path:
    """Return the file of the places of a detector."""
    return layout.profile(camera).with_suffix(".place.parquet")


def read_focal_plane(layout: Layout, camera: str) -> tuple[PlacedChip, ...]:
    """Return the places of a detector in order of time; none if nothing is known of it.

    Raises
    ------
    LakeError
        If the file is there and cannot be read.
    """
    advice = "run `skylake camera mosaic` again"
    rows = read_rows(focal_plane_file(layout, camera), _SCHEMA, "the place of the detector", advice)
    return tuple(map(_placed, rows))


def _placed(row: dict[str, Any]) -> PlacedChip:
    plain: dict[str, Any] = {name: row[name] for name in _PLAIN}
    pairs: dict[str, Any] = {name: (row[first], row[second]) for name, (first, second) in _PAIRS.items()}
    lens, shape = lens_in(row)
    return PlacedChip(lens=lens, shape=shape, **plain, **pairs)


def write_focal_plane(layout: Layout, camera: str, epochs: Sequence[PlacedChip]) -> None:
    """Write the places of a detector in place of the present ones.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    rows = [
        lens_values(epoch.lens, epoch.shape)
        | {name: getattr(epoch, name) for name in _PLAIN}
        | {
            column: value
            for name, pair in _PAIRS.items()
            for column, value in zip(pair, getattr(epoch, name), strict=True)
        }
        for epoch in epochs
    ]
    replace_rows(layout, focal_plane_file(layout, camera), pa.Table.from_pylist(rows, _SCHEMA))
