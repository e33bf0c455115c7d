"""Margins from commit to commit are those of all rows, whatever is read for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.core.sphere import healpix_index
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.lake import Commit, Lake
from skylake.lake.commits.margins import build_margin
from skylake.schema.digest import rows_digest
from skylake.sky.hats import find_pixels, leaf_files, read_properties
from skylake.sky.pixels import Pixel

pytestmark = pytest.mark.full

#: Borders of pixels of order 1 are there.
RA_DEG = (0.0, 45.0, 90.0, 135.0, 180.0)


def margin(lake: Lake) -> Path:
    return lake.layout.margin("sources", lake.snapshot().folder("sources").name) / "sources_margin"


def contents(root: Path) -> dict[Pixel, str]:
    """Digest of the rows of each pixel."""
    rows: dict[Pixel, list[pa.Table]] = {}
    for pixel, path in leaf_files(root, find_pixels(root)):
        rows.setdefault(pixel, []).append(pq.read_table(path, partitioning=None))
    assert int(read_properties(root)["hats_nrows"]) == sum(t.num_rows for some in rows.values() for t in some)
    return {pixel: rows_digest(pa.concat_tables(tables)) for pixel, tables in rows.items()}


def inodes(root: Path) -> set[int]:
    return {path.stat().st_ino for _, path in leaf_files(root, find_pixels(root))}


@pytest.fixture
def night_rows(make_rows: Any) -> Callable[..., pa.Table]:
    def make(night: int, places: tuple[float, ...], seed: int = 0) -> pa.Table:
        count = 60
        random = np.random.default_rng([night, seed])
        ra = (random.choice(places, count) + random.normal(0, 0.01, count)) % 360.0
        dec = random.normal(0, 0.01, count)
        where = {"ra_deg": ra, "dec_deg": dec, "_healpix_29": healpix_index(ra, dec)}
        return make_rows("sources", count, night, camera=["c"] * count, night=[night] * count, **where)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("held_rows", [10, 1_000_000])
@pytest.mark.parametrize("places", [None, RA_DEG[1:2], RA_DEG[1:3], (60.0,)])
def test_a_night_of_a_bundle_is_replaced(
    held_rows: int,
    places: tuple[float, ...] | None,
    lake: Lake,
    night_rows: Any,
    put: Any,
    copy_lake: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    night = 5 if held_rows == 10 else 1
    monkeypatch.setattr("skylake.sky.catalog_build.MAX_LEAF_ROWS", held_rows)
    nights = {number: RA_DEG[number : number + 1] for number in range(5)} | {5: RA_DEG[1:3]}
    put(lake, *(("sources", f"c-{number}", night_rows(number, where)) for number, where in nights.items()))
    compact(lake, Inline(), everything=True)
    before = inodes(margin(lake))
    if places is None:
        commit = Commit("forget", "-")
        commit.remove("sources", f"c-{night}")
        lake.commit(commit)
    else:
        put(lake, ("sources", f"c-{night}", night_rows(night, places, 1)))
    (bundle,) = lake.snapshot().version("sources").bundles.values()
    assert f"c-{night}" not in bundle.names
    assert not list(lake.root.glob("_margins/*/*/_dealt"))
    # Around the other places no file of the margin is made anew.
    assert len(before & inodes(margin(lake))) >= 2
    other = Lake(copy_lake(lake.root, tmp_path / "copy")).layout
    number = int(lake.snapshot().folder("sources").name)
    monkeypatch.setattr("skylake.sky.catalog_build.MAX_LEAF_ROWS", 1_000_000)
    build_margin(other, "sources", number, other.version("sources", 0))
    anew = other.margin("sources", number) / "sources_margin"
    assert contents(margin(lake)) == contents(anew) != {}
