"""The geometries of cameras that stand still, one row for each epoch, beside the profiles of the lake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from skylake.image.geometry import Geometry
from skylake.image.lens import Lens
from skylake.lake.besides import read_rows, replace_rows
from skylake.lake.layout import Layout

_SCHEMA = pa.schema(
    {
        "first_mjd": pa.float64(), "last_mjd": pa.float64(), "n_frames": pa.int64(), "n_stars": pa.int64(),
        "rms_px": pa.float64(), "held_out_px": pa.float64(), "height_px": pa.int64(), "width_px": pa.int64(),
        "projection": pa.string(), "mirrored": pa.bool_(), "parameters": pa.list_(pa.float64()),
    }
)  # fmt: skip


def geometries_file(layout: Layout, camera: str) -> Path:
    """Return the file of the geometries of a camera."""
    return layout.profile(camera).with_suffix(".geometries.parquet")


def read_geometries(layout: Layout, camera: str) -> tuple[Geometry, ...]:
    """Return the geometries of a camera in order of time; none if it has none.

    Raises
    ------
    LakeError
        If the file is there and cannot be read.
    """
    rows = read_rows(geometries_file(layout, camera), _SCHEMA, "the geometries", "solve a frame again")
    return tuple(
        Geometry(
            Lens.from_parameters(row["parameters"], row["projection"], row["mirrored"]),
            (row["height_px"], row["width_px"]),
            row["first_mjd"],
            row["last_mjd"],
            row["n_frames"],
            row["n_stars"],
            row["rms_px"],
            row["held_out_px"],
        )
        for row in rows
    )


def write_geometries(layout: Layout, camera: str, epochs: Sequence[Geometry]) -> None:
    """Write the geometries of a camera in place of those that are there.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    rows = [
        {
            "first_mjd": one.first_mjd, "last_mjd": one.last_mjd, "n_frames": one.n_frames, "n_stars": one.n_stars,
            "rms_px": one.rms_px, "held_out_px": one.held_out_px, "height_px": one.shape[0],
            "width_px": one.shape[1], "projection": one.lens.projection, "mirrored": one.lens.mirrored,
            "parameters": one.lens.parameters().tolist(),
        }
        for one in epochs
    ]  # fmt: skip
    replace_rows(layout, geometries_file(layout, camera), pa.Table.from_pylist(rows, _SCHEMA))
