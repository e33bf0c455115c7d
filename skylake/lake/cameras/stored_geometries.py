"""Read and write the geometries of all-sky cameras: one row for each version of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skylake.image.allsky.geometry_epochs import Geometry
from skylake.image.wcs.lens import NAMES, Lens
from skylake.lake.cameras.camera_state import read_rows, replace_rows
from skylake.lake.layout import Layout

_SCHEMA = pa.schema(
    {
        "first_mjd": pa.float64(),
        "last_mjd": pa.float64(),
        "n_frames": pa.int64(),
        "n_stars": pa.int64(),
        "rms_px": pa.float64(),
        "held_out_px": pa.float64(),
        "height_px": pa.int64(),
        "width_px": pa.int64(),
        "projection": pa.string(),
        "mirrored": pa.bool_(),
        "parameters": pa.list_(pa.float64()),
        "name": pa.string(),
        "number": pa.int32(),
        "version": pa.int32(),
        "retired": pa.bool_(),
        "covariance": pa.list_(pa.float64()),
    }
)
_NUMBERS = (
    "first_mjd",
    "last_mjd",
    "n_frames",
    "n_stars",
    "rms_px",
    "held_out_px",
    "number",
    "version",
    "retired",
)

#: Columns that files of older programs do not have.
_LATER = "name", "number", "version", "retired", "covariance"
_SIZE = len(NAMES) ** 2


def geometries_file(layout: Layout, camera: str) -> Path:
    """Return the file of the geometries of a camera."""
    return layout.profile(camera).with_suffix(".geometries.parquet")


def read_geometries(layout: Layout, camera: str) -> tuple[Geometry, ...]:
    """Return all versions of the geometries of a camera in order of their numbers; none if it has none.

    Raises
    ------
    LakeError
        If the file is there and cannot be read.
    """
    path = geometries_file(layout, camera)
    rows = read_rows(path, _SCHEMA, "the geometries", "run `skylake camera learn` again", _LATER)
    return tuple(
        Geometry(
            lens=Lens.from_parameters(row["parameters"], row["projection"], row["mirrored"]),
            shape=(row["height_px"], row["width_px"]),
            covariance=np.array(row["covariance"] or np.zeros(_SIZE)).reshape(len(NAMES), len(NAMES)),
            **{name: row[name] for name in _NUMBERS} | _older(row, place),
        )
        for place, row in enumerate(rows, start=1)
    )


def _older(row: dict[str, Any], place: int) -> dict[str, Any]:
    """Return the columns that files of older versions lack, in which each row was an epoch."""
    return {} if row["number"] is not None else {"number": place, "version": 1, "retired": False}


def write_geometries(layout: Layout, camera: str, epochs: Sequence[Geometry]) -> None:
    """Write the geometries of a camera in place of the present ones.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    rows = [
        {
            "name": epoch.name,
            "height_px": epoch.shape[0],
            "width_px": epoch.shape[1],
            "projection": epoch.lens.projection,
            "mirrored": epoch.lens.mirrored,
            "parameters": epoch.lens.parameters().tolist(),
            "covariance": epoch.covariance.ravel().tolist(),
        }
        | {name: getattr(epoch, name) for name in _NUMBERS}
        for epoch in sorted(epochs, key=lambda epoch: (epoch.number, epoch.version))
    ]
    replace_rows(layout, geometries_file(layout, camera), pa.Table.from_pylist(rows, _SCHEMA))
