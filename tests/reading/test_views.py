"""A view read by pixels, files and cones is the view of SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import skylake
from skylake.core.sphere import healpix_index, separation_deg
from skylake.errors import LakeError, UsageError
from skylake.lake import publish_snapshot
from skylake.lake.lake import Lake
from skylake.reading.reader import LakeReader
from skylake.reading.views import View

pytestmark = pytest.mark.xdist_group("lsdb-reading")

KEYS = ["frame_id", "source_no"]
READERS: dict[str, Callable[[View], Any]] = {
    "arrow": lambda view: view.arrow([*KEYS, "mag"]).to_pandas(),
    "pandas": lambda view: view.pandas([*KEYS, "mag"]),
    "polars": lambda view: view.polars([*KEYS, "mag"]).to_pandas(),
    "dask": lambda view: view.dask([*KEYS, "mag"]).compute(scheduler="synchronous"),
    "lsdb": lambda view: view.lsdb([*KEYS, "mag"]).compute()[[*KEYS, "mag"]],
}


@pytest.fixture(scope="module")
def small(corner: Path) -> LakeReader:
    return skylake.open(corner)


def in_order(rows: Any) -> pd.DataFrame:
    plain = pd.DataFrame(rows).astype({"frame_id": "int64", "source_no": "int64", "mag": "float64"})
    return plain.sort_values(KEYS).reset_index(drop=True)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["calibrated_sources", "calibrated_matches"])
def test_all_libraries_agree_with_sql(small: LakeReader, name: str, reader: str) -> None:
    expected = in_order(small.sql(f"SELECT frame_id, source_no, mag FROM {name}").pandas())
    assert len(expected) == len(small[name]) > 100
    assert expected["mag"].notna().any()
    pd.testing.assert_frame_equal(in_order(READERS[reader](small[name])), expected)


def test_matches_lie_in_other_pixels_than_their_detections(small: LakeReader) -> None:
    rows = small["matches"].pandas()
    star = healpix_index(rows["ra_deg"], rows["dec_deg"], 1)
    detection = healpix_index(rows["source_ra_deg"], rows["source_dec_deg"], 1)
    assert 0 < (star != detection).sum() < len(rows)


@pytest.mark.parametrize("reader", ["arrow", "pandas", "polars", "dask"])
def test_frames(lake: LakeReader, reader: str) -> None:
    view = lake["calibrated_frames"]
    columns = ["frame_id", "zp", "mag_limit_counts"]
    read = getattr(view, reader)(columns)
    read = {"arrow": lambda: read.to_pandas(), "polars": lambda: read.to_pandas(), "pandas": lambda: read,
            "dask": lambda: read.compute(scheduler="synchronous")}[reader]()  # fmt: skip
    expected = lake.sql(f"SELECT {', '.join(columns)} FROM calibrated_frames ORDER BY frame_id").pandas()
    found = read.sort_values("frame_id").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(UsageError, match="calibrated_frames has no index of positions, which lsdb needs"):
        view.lsdb()


def test_cone(small: LakeReader) -> None:
    view = small["calibrated_matches"]
    rows = view.pandas()
    near = separation_deg(359.0, 1.0, rows["ra_deg"], rows["dec_deg"]) <= 4.0
    found = view.pandas(["frame_id", "source_no", "mag"], cone=(359.0, 1.0, 4.0))
    assert list(found) == ["frame_id", "source_no", "mag"]
    assert 0 < len(found) < len(rows)
    pd.testing.assert_frame_equal(in_order(found), in_order(rows.loc[near, [*KEYS, "mag"]]))
    assert len(view.arrow(cone=(90.0, 45.0, 1.0))) == 0
    of_numpy = np.float64(359.0), np.float32(1.0), np.int64(4)
    again = view.pandas([*KEYS, "mag"], cone=of_numpy)
    pd.testing.assert_frame_equal(in_order(again), in_order(found))
    with pytest.raises(
        LakeError, match="calibrated_frames have no index of positions; choose them by a filter"
    ):
        small["calibrated_frames"].arrow(cone=(0.0, 0.0, 1.0))


def test_filter(small: LakeReader) -> None:
    view = small["calibrated_sources"]
    chosen = view.arrow(["source_no"], filter=(pc.field("flags") == 0) & (pc.field("total_flux") > 100))
    assert chosen.column_names == ["source_no"]
    query = "SELECT source_no FROM calibrated_sources WHERE flags = 0 AND total_flux > 100"
    assert 0 < len(chosen) < len(view)
    assert sorted(chosen["source_no"].to_pylist()) == sorted(
        small.sql(query).arrow()["source_no"].to_pylist()
    )


def test_dask_narrows(small: LakeReader) -> None:
    frame = small["calibrated_sources"].dask()
    assert "columns=['mag']" in str(frame["mag"].sum().optimize().expr.tree_repr())
    assert frame.npartitions == len(small["sources"].dask().divisions) - 1 > 1


def test_lsdb_searches(small: LakeReader) -> None:
    catalog = small["calibrated_sources"].lsdb(["mag"])
    found = catalog.cone_search(0.0, 0.0, 3.0 * 3600).compute()
    assert list(found) == ["ra_deg", "dec_deg", "mag"]
    assert len(found) == len(small["calibrated_sources"].arrow(["mag"], cone=(0.0, 0.0, 3.0))) > 0
    assert np.array_equal(found.index, healpix_index(found["ra_deg"], found["dec_deg"]))


def test_units(lake: LakeReader) -> None:
    view = lake["calibrated_sources"]
    units = view.pandas(["mag", "total_flux", "x_px", "band"]).attrs["units"]
    assert units == {"mag": "mag", "total_flux": "adu/s", "x_px": "pixel"}
    assert view.arrow(["mag"]).schema.field("mag").metadata[b"unit"] == b"mag"
    assert (
        view.arrow(["x_px"], filter=pc.field("flags") == 0).schema.field("x_px").metadata[b"unit"] == b"pixel"
    )
    assert lake["calibrated_matches"].units["residual"] == "mag"


@pytest.mark.slow
def test_without_rows(demo: Path) -> None:
    lake = skylake.open(demo, as_of=1)
    for name, view in lake.views.items():
        assert len(view) == len(view.arrow()) == len(view.dask().compute(scheduler="synchronous")) == 0, name
    assert len(lake["calibrated_forced"].arrow(cone=(0.0, 0.0, 1.0))) == 0


def test_missing_column(lake: LakeReader) -> None:
    for read in ("arrow", "pandas", "polars", "dask", "lsdb"):
        with pytest.raises(
            UsageError, match="calibrated_frames has no column 'colour'; did you mean 'colour_term'"
        ):
            getattr(lake["calibrated_frames"], read)(["colour"])
    with pytest.raises(TypeError, match="no argument 'margin_cache'"):
        lake["calibrated_sources"].lsdb(margin_cache="x")


def test_lost_file(corner: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path]) -> None:
    lake = skylake.open(copy_lake(corner, tmp_path / "lake"))
    partitions = lake["calibrated_sources"].dask()
    lost = next((tmp_path / "lake" / "sources" / "dataset").rglob("*.parquet")).resolve()
    lost.unlink()
    for read in (View.arrow, View.dask, View.lsdb, lambda view: view.arrow(cone=(180.0, 0.0, 1.0))):
        with pytest.raises(LakeError, match=r"the file is missing.*skylake verify"):
            read(skylake.open(lake.root).views["calibrated_matches"])
    with pytest.raises(LakeError, match=rf"{lost.name}: the file cannot be read"):
        partitions.compute(scheduler="synchronous")


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_published(corner: Path, s3: Any) -> None:
    publish_snapshot(Lake(corner).snapshot(), f"{s3.url}/lake")
    here, there = skylake.open(corner), skylake.open(f"{s3.url}/lake")
    for name, reader in (("calibrated_sources", "lsdb"), ("calibrated_matches", "dask")):
        pd.testing.assert_frame_equal(
            in_order(READERS[reader](there[name])), in_order(here[name].pandas([*KEYS, "mag"]))
        )
    cone, columns = (0.0, 0.0, 3.0), [*KEYS, "mag"]
    near = in_order(here["calibrated_matches"].pandas(columns, cone=cone))
    pd.testing.assert_frame_equal(in_order(there["calibrated_matches"].pandas(columns, cone=cone)), near)
    assert len(near) > 0
    assert isinstance(there["calibrated_frames"].arrow(), pa.Table)
