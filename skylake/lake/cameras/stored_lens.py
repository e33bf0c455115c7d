"""The columns of a lens and of the shape of its image, in the tables of cameras."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from skylake.image.wcs.lens import Lens

LENS_COLUMNS = {
    "height_px": pa.int64(),
    "width_px": pa.int64(),
    "projection": pa.string(),
    "mirrored": pa.bool_(),
    "parameters": pa.list_(pa.float64()),
}


def lens_values(lens: Lens, shape: tuple[int, int]) -> dict[str, Any]:
    """Return a lens, and the height and width of its image, as columns."""
    parameters = lens.parameters().tolist()
    return dict(zip(LENS_COLUMNS, (*shape, lens.projection, lens.mirrored, parameters), strict=True))


def lens_in(row: dict[str, Any]) -> tuple[Lens, tuple[int, int]]:
    """Return the lens of a row, and height and width of its image."""
    lens = Lens.from_parameters(row["parameters"], row["projection"], row["mirrored"])
    return lens, (row["height_px"], row["width_px"])
