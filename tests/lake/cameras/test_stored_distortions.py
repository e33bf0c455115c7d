"""The distortions of cameras come back from a lake, and from where it is published."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from skylake.errors import LakeError
from skylake.image.allsky.geometry_epochs import Geometry
from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.distortion.distortion_model import Distortion
from skylake.image.wcs.lens import Lens
from skylake.lake import Lake, publish_snapshot
from skylake.lake.cameras.stored_distortions import distortions_file, read_epochs, write_epochs
from skylake.lake.cameras.stored_geometries import geometries_file, write_geometries
from skylake.lake.layout import Layout
from skylake.lake.published_layout import PublishedLayout
from skylake.places import place

LENS = Lens.from_parameters(np.arange(13) / 7.0 + 0.1, "equisolid", True)
EPOCH = Epoch(
    1, 1, -np.inf, 60010.0, 60001.0, 60009.0, 40, (1040, 1392),
    Distortion(LENS, np.arange(49.0).reshape(7, 7), 0.05, 12, 900, 1.5), 0.2, np.nan, "tycho2", "ab" * 32, "0.1",
    "the first",
)  # fmt: skip


def same(one: Epoch, other: Epoch) -> bool:
    """Whether two epochs are one, covariance and missing numbers too."""
    plain = [replace(each, distortion=None, held_out_px=0.0) for each in (one, other)]
    first, second = one.distortion, other.distortion
    return (
        plain[0] == plain[1]
        and replace(first, covariance=None) == replace(second, covariance=None)
        and np.array_equal(first.covariance, second.covariance)
        and np.array_equal(one.held_out_px, other.held_out_px, equal_nan=True)
    )


def test_epochs_come_back_as_they_were_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert read_epochs(layout, "wide") == ()
    epochs = [EPOCH, replace(EPOCH, number=2, valid_from=60010.0, valid_to=np.inf)]
    write_epochs(layout, "wide", epochs)
    back = read_epochs(layout, "wide")
    assert len(back) == 2 and all(same(one, other) for one, other in zip(back, epochs, strict=True))
    assert [one.name for one in back] == [one.name for one in epochs]
    assert not same(back[0], back[1])
    assert [path.name for path in (tmp_path / "_cameras").iterdir()] == ["wide.distortions.parquet"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_epochs(layout, "wide", [EPOCH])
    distortions_file(layout, "wide").write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"wide\.distortions\.parquet.*camera learn"):
        read_epochs(layout, "wide")


def test_what_was_learned_of_cameras_is_published(lake: Lake) -> None:
    write_epochs(lake.layout, "wide", [EPOCH])
    write_geometries(lake.layout, "fisheye", [Geometry(LENS, (10, 10), 1.0, 2.0, 3, 4, 0.1, 0.1)])
    url = f"memory://{uuid.uuid4().hex}"
    publish_snapshot(lake.snapshot(), url)
    there = PublishedLayout(place(url))
    (back,) = read_epochs(there, "wide")
    assert same(back, EPOCH)
    assert (
        geometries_file(there, "fisheye").read_bytes() == geometries_file(lake.layout, "fisheye").read_bytes()
    )
    fsspec.filesystem("memory").rm(url, recursive=True)
