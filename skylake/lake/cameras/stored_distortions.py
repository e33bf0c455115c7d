"""Read and write the distortions of cameras: one row for each version of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.distortion.distortion_model import Distortion
from skylake.lake.cameras.camera_state import read_rows, replace_rows
from skylake.lake.cameras.stored_lens import LENS_COLUMNS, lens_in, lens_values
from skylake.lake.layout import Layout

_EPOCH = {
    "number": pa.int32(),
    "version": pa.int32(),
    "valid_from": pa.float64(),
    "valid_to": pa.float64(),
    "first_mjd": pa.float64(),
    "last_mjd": pa.float64(),
    "n_seen": pa.int64(),
    "rms_px": pa.float64(),
    "held_out_px": pa.float64(),
    "catalog": pa.string(),
    "frames_sha256": pa.string(),
    "software": pa.string(),
    "why": pa.string(),
}
_DISTORTION = {
    "n_frames": pa.int64(),
    "n_stars": pa.int64(),
    "scatter_px": pa.float64(),
    "spread": pa.float64(),
}
_SCHEMA = pa.schema(
    {
        "name": pa.string(),
        **_EPOCH,
        **_DISTORTION,
        **LENS_COLUMNS,
        "covariance": pa.list_(pa.float64()),
    }
)


def distortions_file(layout: Layout, camera: str) -> Path:
    """Return the file of the distortions of a camera."""
    return layout.profile(camera).with_suffix(".distortions.parquet")


def read_epochs(layout: Layout, camera: str) -> tuple[Epoch, ...]:
    """Return all versions of the epochs of a camera; none if its distortion was never learned.

    Raises
    ------
    LakeError
        If the file is there and cannot be read.
    """
    advice = "run `skylake camera learn` again"
    rows = read_rows(distortions_file(layout, camera), _SCHEMA, "the distortions", advice)
    return tuple(_epoch(row) for row in rows)


def _epoch(row: dict[str, Any]) -> Epoch:
    model, shape = lens_in(row)
    size = round(len(row["covariance"]) ** 0.5)
    covariance = np.array(row["covariance"]).reshape(size, size)
    distortion = Distortion(model=model, covariance=covariance, **{name: row[name] for name in _DISTORTION})
    numbers = {name: row[name] for name in _EPOCH}
    return Epoch(shape=shape, distortion=distortion, **numbers)


def write_epochs(layout: Layout, camera: str, epochs: Sequence[Epoch]) -> None:
    """Write the epochs of a camera in place of the present ones.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    rows = [
        {
            "name": epoch.name,
            "covariance": epoch.distortion.covariance.ravel().tolist(),
        }
        | lens_values(epoch.distortion.model, epoch.shape)
        | {name: getattr(epoch, name) for name in _EPOCH}
        | {name: getattr(epoch.distortion, name) for name in _DISTORTION}
        for epoch in sorted(epochs, key=lambda epoch: (epoch.number, epoch.version))
    ]
    replace_rows(layout, distortions_file(layout, camera), pa.Table.from_pylist(rows, _SCHEMA))
