"""Read and write the places of detectors in the focal plane: one row for each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from skylake.image.solving.expected_pointing import PlacedChip
from skylake.image.wcs.lens import Lens
from skylake.lake.cameras.camera_state import read_rows, replace_rows
from skylake.lake.layout import Layout

_SCHEMA = pa.schema(
    {
        "first_mjd": pa.float64(),
        "last_mjd": pa.float64(),
        "from_mjd": pa.float64(),
        "until_mjd": pa.float64(),
        "n_exposures": pa.int64(),
        "n_stars": pa.int64(),
        "sigma_x_arcsec": pa.float64(),
        "sigma_y_arcsec": pa.float64(),
        "sigma_angle_deg": pa.float64(),
        "scatter_arcsec": pa.float64(),
        "scatter_deg": pa.float64(),
        "height_px": pa.int64(),
        "width_px": pa.int64(),
        "projection": pa.string(),
        "mirrored": pa.bool_(),
        "parameters": pa.list_(pa.float64()),
    }
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
    return tuple(
        PlacedChip(
            Lens.from_parameters(row["parameters"], row["projection"], row["mirrored"]),
            (row["height_px"], row["width_px"]),
            row["first_mjd"],
            row["last_mjd"],
            (row["from_mjd"], row["until_mjd"]),
            row["n_exposures"],
            row["n_stars"],
            (row["sigma_x_arcsec"], row["sigma_y_arcsec"]),
            row["sigma_angle_deg"],
            row["scatter_arcsec"],
            row["scatter_deg"],
        )
        for row in rows
    )


def write_focal_plane(layout: Layout, camera: str, epochs: Sequence[PlacedChip]) -> None:
    """Write the places of a detector in place of the present ones.

    Raises
    ------
    LakeError
        If the lake cannot be written.
    """
    rows = [
        {
            "first_mjd": epoch.first_mjd,
            "last_mjd": epoch.last_mjd,
            "from_mjd": epoch.period_mjd[0],
            "until_mjd": epoch.period_mjd[1],
            "n_exposures": epoch.n_exposures,
            "n_stars": epoch.n_stars,
            "sigma_x_arcsec": epoch.sigma_arcsec[0],
            "sigma_y_arcsec": epoch.sigma_arcsec[1],
            "sigma_angle_deg": epoch.sigma_angle_deg,
            "scatter_arcsec": epoch.scatter_arcsec,
            "scatter_deg": epoch.scatter_deg,
            "height_px": epoch.shape[0],
            "width_px": epoch.shape[1],
            "projection": epoch.lens.projection,
            "mirrored": epoch.lens.mirrored,
            "parameters": epoch.lens.parameters().tolist(),
        }
        for epoch in epochs
    ]
    replace_rows(layout, focal_plane_file(layout, camera), pa.Table.from_pylist(rows, _SCHEMA))
