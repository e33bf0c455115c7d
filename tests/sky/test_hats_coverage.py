from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hats.loaders.read_hats import _read_moc_from_point_map
from hypothesis import given, settings
from hypothesis import strategies as st
from mocpy import MOC

from skylake.core.sphere import INDEX_ORDER
from skylake.sky.hats_coverage import (
    COVERAGE_ORDER,
    MOC_FITS,
    MOC_JSON,
    MOST_STRETCHES,
    POINT_MAP,
    THUMBNAIL,
    cell_of,
    read_coverage,
    simplified,
    sky_fraction,
    write_coverage,
    write_map,
    write_thumbnail,
)

N_CELLS = 12 * 4**COVERAGE_ORDER
runs = st.lists(st.tuples(st.integers(0, N_CELLS - 1), st.integers(1, 70_000)), max_size=6)


@settings(deadline=None, max_examples=20)
@given(runs)
def test_all_forms_say_the_same(chosen: list[tuple[int, int]]) -> None:
    """Nothing, a cell, a base pixel, the whole sky: in the map that hats reads and in both MOCs."""
    cells = np.zeros(N_CELLS, bool)
    for start, length in chosen:
        cells[start : start + length] = True
    with TemporaryDirectory() as name:
        root = Path(name)
        write_coverage(root, cells)
        found = read_coverage(root)
        assert found is not None and np.array_equal(found, cells)
        mocs = _read_moc_from_point_map(root), MOC.from_fits(root / MOC_FITS)
        assert all(moc.sky_fraction == pytest.approx(sky_fraction(cells), abs=1e-12) for moc in mocs)
        assert mocs[0] == mocs[1]
        assert (root / POINT_MAP).stat().st_size < N_CELLS + 10_000


@pytest.mark.parametrize("n_cells", [0, 1, 500, 50_000, 700_000])
def test_coverage_is_simplified_to_few_stretches_that_hold_it_all(n_cells: int) -> None:
    cells = np.zeros(N_CELLS, bool)
    cells[np.random.default_rng(1).integers(0, N_CELLS, n_cells)] = True
    found, order = simplified(cells)
    assert not (cells & ~found).any()
    assert np.count_nonzero(np.diff(found.astype(np.int8), prepend=0) == 1) <= MOST_STRETCHES
    assert np.array_equal(simplified(found, order)[0], found)
    if n_cells <= 500:
        assert np.array_equal(found, cells)
        assert order == COVERAGE_ORDER


def test_coverage_of_a_wide_field_stays_as_it_is_once_it_is_seen() -> None:
    """A night of 2,000 detections anywhere in a quarter of the sky brings nothing new after some nights."""
    random = np.random.default_rng(1)
    cells, order, grown = np.zeros(N_CELLS, bool), COVERAGE_ORDER, []
    for _ in range(30):
        before = cells.copy()
        cells[random.integers(0, N_CELLS // 4, 2000)] = True
        grown.append(not np.array_equal(cells, before))
        if grown[-1]:
            cells, order = simplified(cells, order)
    assert grown[0]
    assert not any(grown[20:])


def test_counts_are_read_back(tmp_path: Path) -> None:
    from hats.io.file_io import read_fits_image

    counts = np.random.default_rng(1).integers(0, 3, N_CELLS) * 1000
    write_map(tmp_path / POINT_MAP, counts)
    assert np.array_equal(read_fits_image(tmp_path / POINT_MAP), counts)


def test_a_cell_is_that_of_the_index() -> None:
    assert cell_of(5 << 2 * (INDEX_ORDER - COVERAGE_ORDER) | 17) == 5


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_map_is_an_error_and_a_missing_one_is_none(tmp_path: Path, text: Any) -> None:
    assert read_coverage(tmp_path) is None
    (tmp_path / MOC_JSON).write_text(text)
    with pytest.raises(ValueError, match="cannot be read"):
        read_coverage(tmp_path)


def test_a_thumbnail_has_the_first_row_of_each_pixel(tmp_path: Path) -> None:
    rows = pa.table({"_healpix_29": np.arange(12) << 58, "mag_V": np.arange(12.0)})
    for first in (0, 6):
        leaf = tmp_path / "dataset" / "Norder=0" / "Dir=0" / f"Npix={first}" / "a.parquet"
        leaf.parent.mkdir(parents=True)
        # As of a column that came later.
        names = ["_healpix_29"] if first else rows.column_names
        pq.write_table(rows.slice(first, 6).select(names), leaf)
    write_thumbnail(tmp_path, rows.schema)
    found = pq.read_table(tmp_path / THUMBNAIL)
    assert found.to_pydict() == {"_healpix_29": [0, 6 << 58], "mag_V": [0.0, None]}
