from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.core.sphere import arcsec_of_chord, healpix_index, offset, unit_vectors
from skylake.errors import CatalogError
from skylake.schema.parquet import write_parquet
from skylake.sky.crossmatch import Neighbours, match_graph, partitions, rows_of, sides
from skylake.sky.hats import Properties, leaf_folder, write_metadata
from skylake.sky.hats_files import open_hats
from skylake.sky.pixels import Pixel, pixel_range

pytestmark = pytest.mark.full

#: Poles, RA 0, corners of base pixels.
PLACES = [(0.0, 89.99), (0.0, 0.0), (45.0, 41.81), (180.0, -90.0), (90.0, 0.01), (315.0, -41.8)]
KINDS = [{}, {"n_nearest": 3}, {"mutual": True}, {"how": "left"}, {"how": "left", "mutual": True}]


def write_catalog(root: Path, ra: np.ndarray, dec: np.ndarray, most: int) -> None:
    """Write positions as a catalog whose pixels have so many rows at most, down to order 8."""
    index = healpix_index(ra, dec)
    order = np.argsort(index, kind="stable")
    table = pa.table(
        {"_healpix_29": index[order], "RA": ra[order], "Dec": dec[order], "n": np.arange(len(ra))[order]}
    )
    waiting, pixels = [(0, pixel) for pixel in range(12)], []
    while waiting:
        pixel: Pixel = waiting.pop()
        low, high = np.searchsorted(index[order], pixel_range(*pixel))
        if high - low > most and pixel[0] < 8:
            waiting += [(pixel[0] + 1, 4 * pixel[1] + child) for child in range(4)]
        elif high > low:
            write_parquet(table.slice(low, high - low), root / leaf_folder(*pixel) / "rows.parquet")
            pixels.append(pixel)
    write_metadata(root, table.schema, Properties("c", "object", len(ra), "RA", "Dec"), pixels)


@settings(max_examples=12, deadline=None)
@given(
    place=st.sampled_from(PLACES),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    counts=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    most=st.tuples(st.integers(10, 100), st.integers(10, 100)),
    spread=st.floats(0.003, 3.0),
    reach=st.floats(0.05, 2.0),
)
def test_a_match_is_that_of_brute_force_without_any_margin(
    place: tuple[float, float],
    kind: dict[str, object],
    seed: int,
    counts: tuple[int, int],
    most: tuple[int, int],
    spread: float,
    reach: float,
) -> None:
    rng = np.random.default_rng(seed)
    radius = min(spread * 3600.0 / np.sqrt(counts[1]) * reach, 3600.0)
    neighbours = Neighbours(radius, **kind)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        vectors = []
        for name, count, rows in zip("lr", counts, most, strict=True):
            distance = spread * np.sqrt(rng.uniform(size=count))
            ra, dec = offset(*(np.full(count, one) for one in place), distance, rng.uniform(0, 360, count))
            write_catalog(Path(folder) / name, ra % 360.0, dec, rows)
            vectors.append(unit_vectors(ra, dec))
        tables = open_hats(Path(folder) / "l"), open_hats(Path(folder) / "r")
        left, right = sides(*tables, (["n"], ["n"]), ("", "_right"))
        pixels = partitions(*tables, neighbours)
        found = []
        for frame, pixel in zip(
            match_graph(left, right, neighbours, pixels) if pixels else [], pixels, strict=True
        ):
            rows_found = rows_of(frame.compute(scheduler="synchronous"), pixel, ["n", "n_right", "match_no"])
            found += [tuple(row.values()) for row in rows_found.to_pylist()]
    apart = arcsec_of_chord(np.linalg.norm(vectors[0][:, None] - vectors[1][None], axis=-1))
    wanted: list[tuple[int | None, ...]] = []
    for i in range(counts[0]):
        near = [j for j in np.argsort(apart[i])[: neighbours.n_nearest] if apart[i, j] <= radius]
        near = [j for j in near if not neighbours.mutual or np.argmin(apart[:, j]) == i]
        wanted += [(i, int(j), number) for number, j in enumerate(near, 1)]
        if not near and neighbours.how == "left":
            wanted.append((i, None, None))
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_positions_that_are_missing_match_nothing(tmp_path: Path) -> None:
    for name in "lr":
        write_catalog(tmp_path / name, np.array([10.0, 10.0, 10.0]), np.array([5.0, 5.0, 5.0]), 10)
    leaf = next((tmp_path / "r").rglob("rows.parquet"))
    rows = pa.table(
        {
            "_healpix_29": pa.array(healpix_index(np.full(3, 10.0), np.full(3, 5.0))),
            "RA": pa.array([None, float("nan"), 10.0]),
            "Dec": pa.array([5.0, 5.0, 5.0]),
            "n": pa.array([0, 1, 2]),
        }
    )
    write_parquet(rows, leaf)
    tables, neighbours = (open_hats(tmp_path / "l"), open_hats(tmp_path / "r")), Neighbours(1.0, 3)
    pixels = partitions(*tables, neighbours)
    (frame,) = match_graph(*sides(*tables, (None, None), ("", "_right")), neighbours, pixels)
    found = rows_of(frame.compute(scheduler="synchronous"), pixels[0], ["n", "n_right"])
    assert sorted(found["n"].to_pylist()) == [0, 1, 2] and set(found["n_right"].to_pylist()) == {2}


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    for name in "lr":
        write_catalog(tmp_path / name, np.array([10.0]), np.array([5.0]), 10)
    tables, neighbours = (open_hats(tmp_path / "l"), open_hats(tmp_path / "r")), Neighbours(1.0)
    pixels = partitions(*tables, neighbours)
    (frame,) = match_graph(*sides(*tables, (None, None), ("", "_right")), neighbours, pixels)
    leaf = next((tmp_path / "r").rglob("rows.parquet"))
    leaf.unlink()
    with pytest.raises(CatalogError, match=f"{leaf}: the table cannot be read \\(a file of it is missing\\)"):
        frame.compute(scheduler="synchronous")


def test_other_content_is_another_table(tmp_path: Path) -> None:
    write_catalog(tmp_path / "c", np.array([10.0]), np.array([5.0]), 10)
    leaf = next((tmp_path / "c").rglob("rows.parquet"))
    rows = pq.read_table(leaf)
    addresses = [tmp_path / "c", f"file://{tmp_path}/c"]
    before = [open_hats(address).identity for address in addresses]
    assert [open_hats(address).identity for address in addresses] == before
    # As many rows in as many bytes.
    write_parquet(rows.set_column(rows.column_names.index("n"), "n", pa.array([7])), leaf)
    assert all(open_hats(address).identity != known for address, known in zip(addresses, before, strict=True))


def test_a_copy_of_a_catalog_of_a_lake_is_the_same_table(tmp_path: Path) -> None:
    write_catalog(tmp_path / "c", np.array([10.0]), np.array([5.0]), 10)
    properties = tmp_path / "c" / "hats.properties"
    properties.write_text(properties.read_text() + "skylake_sha256=1f\n")
    shutil.copytree(tmp_path / "c", tmp_path / "d", copy_function=shutil.copyfile)
    assert open_hats(tmp_path / "c").identity == open_hats(tmp_path / "d").identity
    properties.write_text(properties.read_text().replace("=1f", "=2f"))
    assert open_hats(tmp_path / "c").identity != open_hats(tmp_path / "d").identity


def test_what_is_no_catalog_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no HATS catalog can be read there"):
        open_hats(tmp_path)
    write_catalog(tmp_path / "c", np.array([1.0]), np.array([1.0]), 10)
    path = tmp_path / "c" / "hats.properties"
    path.write_text(path.read_text().replace("hats_col_healpix=_healpix_29", "hats_col_healpix=pixel"))
    with pytest.raises(CatalogError, match="has no column _healpix_29; import it again"):
        open_hats(tmp_path / "c")
