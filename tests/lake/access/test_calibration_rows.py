"""Each camera is calibrated by the catalog that is in force for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from overlap_rows import EAST, NIGHT, WEST, zeropoint_rows

from skylake.errors import UnknownName
from skylake.lake import Lake
from skylake.lake.access.calibration_rows import calibration_rows
from skylake.settings import Settings


@pytest.fixture
def lake(tmp_path: Path, frame_rows: Callable[..., pa.Table], put: Callable[..., Any]) -> Lake:
    """East is calibrated by gaia too, as its settings say, and twice by apass; west by refcat2 alone."""
    made = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=3))
    for camera, others in ((EAST, {"gaia": 1, "apass": 2}), (WEST, {})):
        frames = frame_rows(
            len(camera.frame_id), frame_id=camera.frame_id.tolist(), mjd_mid=camera.mjd.tolist(),
            camera=camera.name, night=NIGHT,
        )  # fmt: skip
        parts = [("frames", camera.name, frames), ("zeropoints", f"{camera.name}-1", zeropoint_rows(camera))]
        for catalog, version in others.items():
            rows = zeropoint_rows(camera, catalog=catalog, version=version)
            parts.append(("zeropoints", f"{camera.name}-{catalog}-{version}", rows))
        put(made, *parts, camera=camera.name, night=NIGHT)
    return made


def found(lake: Lake, **choice: Any) -> set[tuple[str, str, int]]:
    snapshot = lake.snapshot()
    measured = snapshot.read("frames", ["frame_id", "camera", "night"])
    frames, zeropoints = calibration_rows(snapshot, measured, ["frame_id"], **choice)
    assert frames.num_rows == measured.num_rows
    assert len(set(zeropoints["frame_id"].to_pylist())) == zeropoints.num_rows
    return {tuple(row.values()) for row in zeropoints.select(["camera", "catalog", "version"]).to_pylist()}  # type: ignore[misc]


def test_each_camera_has_the_catalog_in_force_for_it(lake: Lake) -> None:
    assert found(lake) == {("east", "apass", 2), ("west", "refcat2", 1)}
    lake.set("catalog.calibrate", "gaia")
    assert found(lake) == {("east", "gaia", 1), ("west", "refcat2", 1)}
    assert found(lake, catalog="apass") == {("east", "apass", 2)}
    assert found(lake, version=2) == {("east", "apass", 2)}
    with pytest.raises(UnknownName, match=r"no calibration of version 3 .* they have 1, 2"):
        found(lake, version=3)
