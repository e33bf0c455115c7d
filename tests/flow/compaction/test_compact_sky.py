"""After compaction lsdb still finds every pair: in leaves of several orders, at the poles, the seam and corners."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.core.sphere import healpix_index, offset, separation_deg
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.lake import Commit, Lake, stage_part
from skylake.lake.commits.margins import build_margin
from skylake.schema import arrow_schema, conform, load
from skylake.schema.digest import rows_digest
from skylake.schema.parquet import stored_schema, write_parquet
from skylake.settings import Settings
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.hats import find_pixels, leaf_files, read_properties
from skylake.sky.pixels import PixelTree, pixel_range

pytestmark = pytest.mark.xdist_group("lsdb")

#: The poles, the seam of right ascension, corners of four and of three pixels, a border of base pixels, and nothing.
PLACES = [
    (0.0, 90.0),
    (0.0, -90.0),
    (0.0, 0.0),
    (22.5, 19.4712),
    (45.0, 41.8103),
    (0.0, 41.8103),
    (300.0, 5.0),
]
#: Half a degree around each place is far more than a margin, so leaves of any order have borders inside.
SPREAD_DEG = 0.5
RADIUS_ARCSEC = 30.0


def around(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    ra, dec = (np.repeat([place[axis] for place in PLACES], count) for axis in (0, 1))
    distance = SPREAD_DEG * np.sqrt(random.uniform(0, 1, len(ra)))
    return offset(ra, dec, distance, random.uniform(0, 360, len(ra)))


def night_rows(night: int) -> pa.Table:
    """Detections of one night: the stars around every place, and as many that are none."""
    ra, dec = (np.concatenate(pair) for pair in zip(around(60, 0), around(60, night), strict=True))
    random = np.random.default_rng([night, 1])
    ra, dec = offset(ra, dec, random.uniform(0, 20, len(ra)) / 3600, random.uniform(0, 360, len(ra)))
    count = len(ra)
    values: dict[str, Any] = {
        "_healpix_29": healpix_index(ra, dec), "ra_deg": ra, "dec_deg": dec, "camera": ["c"] * count,
        "night": np.full(count, night), "frame_id": np.full(count, night), "source_no": np.arange(count),
        "mjd_mid": np.full(count, 57388.5), "x_px": ra, "y_px": dec, "edge_distance_px": np.ones(count),
        "flags": np.zeros(count, int),
    }  # fmt: skip
    columns = {field.name: pa.array(values[field.name]).cast(field.type) for field in arrow_schema(load("sources"))
               if field.name in values}  # fmt: skip
    return conform(pa.table(columns), load("sources"))


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with ten nights in leaves of several orders, and a reference catalog of the stars."""
    folder = tmp_path_factory.mktemp("sky")
    lake = Lake.create(folder / "lake", Settings(pixel_order=0, pixel_rows=700))
    for night in range(1, 11):
        with lake.stage("test") as staging:
            commit = Commit("test", str(night))
            part = stage_part(
                night_rows(night), "sources", f"c-{night}", staging, lake.tree_of("sources"), "c", night
            )
            commit.replace(part, staging)
            lake.commit(commit)
        if night in (8, 10):
            compact(lake, Inline(), everything=night == 10)
    ra, dec = around(60, 0)
    write_parquet(pa.table({"ra": ra, "dec": dec, "v": np.full(len(ra), 9.0)}), folder / "stars.parquet")
    columns = CatalogColumns(ra="ra", dec="dec", magnitudes={"V": "v"})
    import_catalog(lake, "stars", "table", [folder / "stars.parquet"], columns)
    return lake


@pytest.mark.slow
def test_the_leaves_have_several_orders(divided: Lake) -> None:
    pixels = divided.snapshot().version("sources").pixels
    assert len({order for order, _ in pixels}) >= 3


def test_lsdb_finds_the_pairs_that_all_distances_show(divided: Lake) -> None:
    """All pairs within the radius, from the distances of everything to everything."""
    import lsdb

    table = divided.open("sources")
    rows = table.pandas(["frame_id", "source_no", "ra_deg", "dec_deg"])
    catalog = lsdb.open_catalog(divided.layout.catalog("stars"))
    stars = catalog.compute()
    distance = separation_deg(
        rows["ra_deg"].to_numpy()[:, None], rows["dec_deg"].to_numpy()[:, None],
        stars["ra_deg"].to_numpy()[None, :], stars["dec_deg"].to_numpy()[None, :],
    )  # fmt: skip
    nearest = distance.argmin(axis=1)
    close = distance.min(axis=1) <= RADIUS_ARCSEC / 3600
    keys = zip(rows["frame_id"], rows["source_no"], stars["ref_id"].to_numpy()[nearest], strict=True)
    expected = sorted(key for key, is_close in zip(keys, close, strict=True) if is_close)
    pairs = table.lsdb().crossmatch(
        catalog,
        radius_arcsec=RADIUS_ARCSEC,
        n_neighbors=1,
        suffixes=("", "_star"),
        suffix_method="all_columns",
    )
    found = pairs.compute()
    assert len(expected) > 10 * 60 * len(PLACES) * 0.9
    assert sorted(zip(found["frame_id"], found["source_no"], found["ref_id_star"], strict=True)) == expected


def test_lsdb_joins_onto_the_table_and_warns_of_nothing(divided: Lake) -> None:
    """All pairs, from stars to detections: those across the borders of pixels are found in the margin."""
    import lsdb

    detections = lsdb.open_catalog(
        divided.snapshot().collection("sources"), columns=["frame_id", "source_no", "ra_deg", "dec_deg"]
    )
    catalog = lsdb.open_catalog(divided.layout.catalog("stars"))
    rows, stars = detections.compute(), catalog.compute()
    distance = separation_deg(
        stars["ra_deg"].to_numpy()[:, None], stars["dec_deg"].to_numpy()[:, None],
        rows["ra_deg"].to_numpy()[None, :], rows["dec_deg"].to_numpy()[None, :],
    )  # fmt: skip
    star, row = np.nonzero(distance <= RADIUS_ARCSEC / 3600)
    keys = (
        stars["ref_id"].to_numpy()[star],
        *(rows[name].to_numpy()[row] for name in ("frame_id", "source_no")),
    )
    expected = sorted(zip(*keys, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("error", UserWarning)
        pairs = catalog.crossmatch(
            detections,
            radius_arcsec=RADIUS_ARCSEC,
            n_neighbors=100,
            suffixes=("_star", ""),
            suffix_method="all_columns",
        )
        found = pairs.compute()
    assert sorted(zip(found["ref_id_star"], found["frame_id"], found["source_no"], strict=True)) == expected


def test_the_margin_is_that_of_all_rows_whatever_the_commits(divided: Lake, tmp_path: Path) -> None:
    """Files that were linked from version to version, and divided with the pixels, hold what a new margin holds."""
    shutil.copytree(divided.root, tmp_path / "copy", symlinks=True)
    layout = Lake(tmp_path / "copy").layout
    folder = divided.snapshot().folder("sources")
    number = int(folder.name)
    build_margin(layout, "sources", number, layout.version("sources", 0))
    made, anew = (one.margin("sources", number) / "sources_margin" for one in (divided.layout, layout))
    assert find_pixels(made) == find_pixels(anew)
    assert len(find_pixels(made)) > len(PLACES)
    tree = PixelTree.completed(find_pixels(folder), 0)
    n_rows = 0
    for pixel in find_pixels(anew):
        held, wanted = (
            pa.concat_tables(
                [pq.read_table(path, partitioning=None) for _, path in leaf_files(root, [pixel])]
            )
            for root in (made, anew)
        )
        assert rows_digest(held) == rows_digest(wanted)
        assert pixel in tree.pixels
        low, high = pixel_range(*pixel)
        index = held["_healpix_29"].to_numpy()
        assert not ((low <= index) & (index < high)).any()
        n_rows += held.num_rows
    assert int(read_properties(made)["hats_nrows"]) == n_rows


@pytest.mark.parametrize("place", PLACES)
def test_cones_find_the_rows_that_all_distances_show(divided: Lake, place: tuple[float, float]) -> None:
    table = divided.open("sources")
    rows = table.arrow()
    for radius in (0.001, 0.1, 0.6):
        near = separation_deg(*place, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()) <= radius
        keys = ["frame_id", "source_no"]
        wanted = rows.filter(pa.array(near)).select(keys).to_pylist()
        found = table.arrow(keys, cone=(*place, radius)).to_pylist()
        assert sorted(map(repr, found)) == sorted(map(repr, wanted))


def test_one_file_in_each_pixel_is_what_validators_expect(divided: Lake, tmp_path: Path) -> None:
    """Not only hats itself: the files that ``_metadata`` lists are those that there are, with their rows."""
    import pyarrow.dataset as pds
    from hats.io.validation import is_valid_catalog

    version = divided.snapshot().version("sources")
    assert is_valid_catalog(version.folder, strict=True)
    listed = pds.parquet_dataset(str(version.folder / "dataset" / "_metadata"))
    assert {Path(path) for path in listed.files} == set(version.whole_files())
    assert listed.count_rows() == version.n_rows
    assert listed.schema.equals(stored_schema(arrow_schema(load("sources")), ["more_apertures"]))


def test_the_verification_of_hats_import_passes(divided: Lake, tmp_path: Path) -> None:
    verification = pytest.importorskip(
        "hats_import.verification.run_verification", reason="hats-import is not here"
    )
    from hats_import.verification.arguments import VerificationArguments

    folder = divided.snapshot().folder("sources")
    verifier = verification.run(
        VerificationArguments(
            input_catalog_path=folder,
            output_path=tmp_path,
            truth_total_rows=len(divided.open("sources")),
            verbose=False,
        )
    )
    assert [result.test for result in verifier.results if not result.passed] == []
