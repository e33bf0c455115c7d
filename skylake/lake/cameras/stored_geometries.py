"""Read and write the geometries of all-sky cameras: one row for each version of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from skylake.image.allsky.geometry_epochs import Geometry
from skylake.image.wcs.lens import NAMES
from skylake.lake.cameras.camera_state import read_rows, replace_rows
from skylake.lake.cameras.stored_lens import LENS_COLUMNS, lens_in, lens_values
from skylake.lake.layout import Layout

_FIT = {
    "first_mjd": pa.float64(),
    "last_mjd": pa.float64(),
    "n_frames": pa.int64(),
    "n_stars": pa.int64(),
    "rms_px": pa.float64(),
    "held_out_px": pa.float64(),
}
_EPOCH = {"number": pa.int32(), "version": pa.int32(), "retired": pa.bool_()}
_SCHEMA = pa.schema(
    _FIT | LENS_COLUMNS | {"name": pa.string()} | _EPOCH | {"covariance": pa.list_(pa.float64())}
)


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
    rows = read_rows(path, _SCHEMA, "the geometries", "run `skylake camera learn` again")
    return tuple(
        Geometry(
            *lens_in(row),
            covariance=np.array(row["covariance"]).reshape(len(NAMES), len(NAMES)),
            **{name: row[name] for name in (*_FIT, *_EPOCH)},
        )
        for row in rows
    )


def write_geometries(layout: Layout, camera: str, epochs: Sequence[Geometry]) -> None:
    """Write the geometries of a camera in place of the present ones.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    rows = [
        {"name": epoch.name, "covariance": epoch.covariance.ravel().tolist()}
        | lens_values(epoch.lens, epoch.shape)
        | {name: getattr(epoch, name) for name in (*_FIT, *_EPOCH)}
        for epoch in sorted(epochs, key=lambda epoch: (epoch.number, epoch.version))
    ]
    replace_rows(layout, geometries_file(layout, camera), pa.Table.from_pylist(rows, _SCHEMA))
