"""A list that grows is stored as what it adds; each version can be read whole, whatever files hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.core.sphere import healpix_index
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.target_list import EXTENDS, TargetList, parts_of
from skylake.lake import Lake
from skylake.settings import Settings

CAMERAS = ("one", "two")


def stars(camera: str, version: int, base: int | None, numbers: range) -> pa.Table:
    ra = 10.0 + 0.01 * np.array(numbers)
    n = len(numbers)
    return pa.table(
        {
            "_healpix_29": healpix_index(ra, np.zeros(n)),
            "camera": [camera] * n,
            "version": [version] * n,
            "base_version": pa.array([base] * n, pa.int32()),
            "star_id": list(numbers),
            "ra_deg": ra,
            "dec_deg": [0.0] * n,
            "epoch": [2024.0] * n,
            "origin": ["detections"] * n,
            "n_seen": [3] * n,
            "n_frames": [5] * n,
        }
    )


@pytest.fixture
def grown(tmp_path: Path, put: Any) -> Lake:
    """Lists of two cameras: a full one of ten stars, and nine that add a star each; of one camera a full one after."""
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    for camera in CAMERAS:
        name = ""
        for version in range(1, 11):
            base = 1 if version > 1 else None
            numbers = range(10) if base is None else range(8 + version, 9 + version)
            inputs = {} if base is None else {EXTENDS: name}
            rows = stars(camera, version, base, numbers)
            put(lake, ("targets", f"{camera}-v{version}", rows), camera=camera, inputs=inputs)
            listed = TargetList.in_force(lake.snapshot(), camera)
            assert listed is not None
            name = listed.name
    put(lake, ("targets", "two-v11", stars("two", 11, None, range(5))), camera="two")
    return lake


def contents(lake: Lake) -> dict[tuple[str, int], tuple[str, list[int]]]:
    snapshot, found = lake.snapshot(), {}
    for camera in CAMERAS:
        for version in parts_of(snapshot, camera):
            listed = TargetList.of(snapshot, camera, version)
            rows = listed.rows(["star_id", "version"])
            assert set(rows["version"].to_pylist()) == {version}
            found[camera, version] = listed.name, sorted(rows["star_id"].to_pylist())
    return found


def test_a_version_has_the_stars_of_the_full_list_and_of_all_since(grown: Lake) -> None:
    expected = {(camera, v): list(range(9 + v)) for camera in CAMERAS for v in range(1, 11)}
    expected["two", 11] = list(range(5))
    found = contents(grown)
    assert {key: stars for key, (_, stars) in found.items()} == expected
    assert grown.snapshot().n_rows("targets") == 19 + 19 + 5, "no star is stored twice"
    assert len({name for name, _ in found.values()}) == 21
    with grown.snapshot().duckdb() as connection:
        rows = connection.execute(
            "SELECT camera, star_id FROM targets_in_force ORDER BY camera, star_id"
        ).fetchall()
    assert rows == [("one", star) for star in range(19)] + [("two", star) for star in range(5)]


def test_compaction_leaves_few_files_and_the_lists_as_they_are(grown: Lake) -> None:
    before = contents(grown)
    assert len(grown.snapshot().slices("targets")) == 21
    compact(grown, Inline())
    assert len(grown.snapshot().slices("targets")) == 1
    assert contents(grown) == before
    assert grown.snapshot().read("targets").num_rows == 43


def test_full_copies_that_earlier_versions_made_can_be_read(tmp_path: Path, put: Any) -> None:
    """They named the list that they extended as an input, and had all of its targets."""
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    put(lake, ("targets", "one-v1", stars("one", 1, None, range(3))), camera="one")
    copy = stars("one", 2, None, range(4)).drop_columns(["base_version"])
    held = lake.snapshot().parts("targets")["one-v1"]
    put(lake, ("targets", "one-v2", copy), camera="one", inputs={"targets": held.checksum})
    found = TargetList.in_force(lake.snapshot(), "one")
    assert found is not None and (found.version, found.base_version) == (2, 2)
    assert sorted(found.rows(["star_id"])["star_id"].to_pylist()) == list(range(4))
    assert found.checksum == lake.snapshot().parts("targets")["one-v2"].checksum
