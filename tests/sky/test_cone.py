from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skylake.core.sphere import separation_deg
from skylake.sky.cone import read_cone
from skylake.sky.hats import find_pixels, leaf_files
from skylake.sky.pixels import cone_ranges

Stars = Callable[..., pa.Table]
PLACES = [(0.0, 90.0), (0.0, -90.0), (0.0, 0.0), (22.5, 19.4712), (45.0, 41.8103), (180.0, -41.8103)]


@pytest.fixture(scope="session")
def catalog(sky: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sky as a catalog of pixels of order 1, with 60 rows in a row group so that there are many."""
    from skylake.core.sphere import healpix_index
    from skylake.schema import load
    from skylake.sky.hats import Properties, leaf_folder, write_metadata

    root = tmp_path_factory.mktemp("cone") / "stars"
    number = healpix_index(sky["ra_deg"], sky["dec_deg"], 1)
    for pixel in np.unique(number).tolist():
        rows = sky.filter(pa.array(number == pixel)).sort_by("_healpix_29")
        (root / leaf_folder(1, pixel)).mkdir(parents=True)
        half = len(rows) // 2
        for name, piece in (("a", rows.slice(0, half)), ("b", rows.slice(half))):
            pq.write_table(piece, root / leaf_folder(1, pixel) / f"{name}.parquet", row_group_size=60)
    write_metadata(root, load("catalog"), Properties("stars", "object", len(sky)), find_pixels(root))
    pq.write_metadata(sky.schema, root / "dataset" / "_common_metadata")
    return root


def by_search(sky: pa.Table, ra: float, dec: float, radius: float) -> pa.Table:
    distance = separation_deg(ra, dec, sky["ra_deg"], sky["dec_deg"])
    return sky.filter(pa.array(distance <= radius)).sort_by("ref_id")


centres = st.one_of(
    st.sampled_from(PLACES), st.tuples(st.floats(-360, 720), st.floats(-90, 90)), st.just((359.9999, 0.1))
)


@given(centres, st.one_of(st.floats(-5, 2.3).map(lambda power: 10.0**power), st.just(0.0)))
@example((0.0, 90.0), 180.0)
@example((45.0, 0.0), 170.0)
def test_a_cone_holds_what_a_search_through_all_finds(
    sky: pa.Table, catalog: Path, centre: tuple[float, float], radius: float
) -> None:
    found = read_cone(catalog, *centre, radius).sort_by("ref_id")
    assert found.equals(by_search(sky, *centre, radius))


def test_a_star_lies_in_the_cone_of_radius_zero_about_it(sky: pa.Table, catalog: Path) -> None:
    for row in sky.slice(0, 2700).take(pa.array(np.arange(0, 2700, 90))).to_pylist():
        found = read_cone(catalog, row["ra_deg"], row["dec_deg"], 0.0)
        assert row["ref_id"] in found["ref_id"].to_pylist()


def test_columns_come_as_asked_for(sky: pa.Table, catalog: Path) -> None:
    found = read_cone(catalog, 0.0, 90.0, 1.0, ["mag_V", "ref_id"])
    assert found.column_names == ["mag_V", "ref_id"]
    expected = by_search(sky, 0.0, 90.0, 1.0)
    assert found.sort_by("ref_id").equals(expected.select(["mag_V", "ref_id"]).replace_schema_metadata())


def test_only_files_that_the_cone_touches_are_read(sky: pa.Table, catalog: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(catalog, tmp_path / "stars"))
    expected = by_search(sky, 0.0, 90.0, 0.5)
    touched = {int(number) for number in (0, 1, 2, 3)}  # base pixels around the north pole
    spoiled = 0
    for (_, pixel), path in leaf_files(copy, find_pixels(copy)):
        if pixel // 4 not in touched or pixel % 4 != 3:
            path.write_bytes(b"no Parquet at all")
            spoiled += 1
    assert spoiled > 50
    assert read_cone(copy, 0.0, 90.0, 0.5).sort_by("ref_id").equals(expected)
    with pytest.raises(pa.ArrowInvalid):
        read_cone(copy, 180.0, 0.0, 0.5)


def test_row_groups_outside_the_cone_are_not_read(catalog: Path, sky: pa.Table, tmp_path: Path) -> None:
    """Row groups far from the cone may be spoiled: it is found all the same, and they would be missed."""
    copy = Path(shutil.copytree(catalog, tmp_path / "copy"))
    wanted = by_search(sky, 22.5, 19.4712, 0.02).sort_by("_healpix_29")
    ranges = cone_ranges(22.5, 19.4712, 0.02)
    spoiled = sum(spoil_groups(path, ranges) for path in copy.rglob("*.parquet"))
    assert read_cone(copy, 22.5, 19.4712, 0.02).equals(wanted)
    assert spoiled > 0.5 * len(sky)
    with pytest.raises((OSError, pa.ArrowException)):
        read_cone(copy, 22.5, 19.4712, 90.0)


def spoil_groups(path: Path, ranges: np.ndarray) -> int:
    """Overwrite the row groups that no range touches; return their rows."""
    metadata, data, rows = pq.read_metadata(path), bytearray(path.read_bytes()), 0
    column = metadata.schema.to_arrow_schema().get_field_index("_healpix_29")
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        statistics = group.column(column).statistics
        if not ((ranges[:, 0] <= statistics.max) & (ranges[:, 1] > statistics.min)).any():
            first, last = group.column(0), group.column(group.num_columns - 1)
            start = first.dictionary_page_offset or first.data_page_offset
            end = (last.dictionary_page_offset or last.data_page_offset) + last.total_compressed_size
            data[start:end] = bytes(end - start)
            rows += group.num_rows
    path.write_bytes(data)
    return rows


def test_a_cone_without_stars_has_the_columns_all_the_same(catalog: Path, sky: pa.Table) -> None:
    found = read_cone(catalog, 33.0, 5.0, 1e-6)
    assert found.num_rows == 0
    assert found.schema.equals(sky.schema)
    assert read_cone(catalog, 33.0, 5.0, 1e-6, ["ref_id"]).column_names == ["ref_id"]
