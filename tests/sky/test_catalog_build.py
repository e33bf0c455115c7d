from __future__ import annotations

import hashlib
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.core.sphere import healpix_index, offset, separation_deg
from skylake.errors import CatalogError
from skylake.schema import arrow_schema
from skylake.sky.catalog_build import CatalogBuildReport, build_catalog, drop_unfinished_imports, widen_margin
from skylake.sky.catalog_columns import CatalogColumns, catalog_schema
from skylake.sky.hats import find_pixels, leaf_files, read_objects, read_properties
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import Pixel, PixelTree
from skylake.sky.star_files import StarFiles

Stars = Callable[..., pa.Table]
Build = Callable[..., tuple[Path, CatalogBuildReport]]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def leaves(root: Path) -> dict[Pixel, pa.Table]:
    files = leaf_files(root, find_pixels(root))
    return {pixel: pq.read_table(path, partitioning=None) for pixel, path in files}


def ids(table: pa.Table) -> list[int]:
    return table["ref_id"].to_pylist()


def test_every_star_is_in_its_pixel_once_and_sorted(sky: pa.Table, build: Build) -> None:
    target, report = build([sky.slice(start, 400) for start in range(0, len(sky), 400)])
    found = leaves(target / "stars")
    assert sorted(number for table in found.values() for number in ids(table)) == sorted(ids(sky))
    for (order, number), table in found.items():
        index = table["_healpix_29"].to_numpy()
        assert (healpix_index(table["ra_deg"], table["dec_deg"], order) == number).all()
        assert (np.diff(index) >= 0).all()
        assert table.schema.equals(arrow_schema(catalog_schema(("V", "B"), ("B-V",))), check_metadata=True)
    by_id = pa.concat_tables(found.values()).sort_by("ref_id")
    assert by_id.equals(sky.sort_by("ref_id"))
    assert (report.n_rows, report.n_pixels, report.n_duplicate_ids) == (len(sky), len(found), 0)
    assert int(read_properties(target / "stars")["hats_nrows"]) == len(sky)


def margin_by_search(sky: pa.Table, pixels: list[Pixel], radius_arcsec: float) -> dict[Pixel, set[int]]:
    """The stars that lie within the radius of pixels that are not their own, found by looking around."""
    ra, dec, number = (sky[name].to_numpy() for name in ("ra_deg", "dec_deg", "ref_id"))
    wanted: dict[Pixel, set[int]] = {pixel: set() for pixel in pixels}
    orders = {order for order, _ in pixels}
    for distance in np.linspace(0, radius_arcsec / 3600, 7)[1:]:
        for angle in np.arange(0, 360, 6.0):
            around = offset(ra, dec, np.asarray(distance), np.asarray(angle))
            for order in orders:
                own, there = healpix_index(ra, dec, order), healpix_index(*around, order)
                for row in np.flatnonzero(own != there):
                    if (order, int(there[row])) in wanted:
                        wanted[order, int(there[row])].add(int(number[row]))
    return wanted


def margin_rows(target: Path) -> int:
    """Rows of the margin cache of a catalog, as its properties say."""
    return int(read_properties(target / "stars_margin")["hats_nrows"])


@pytest.mark.slow
@pytest.mark.parametrize(("order", "margin"), [(0, 900.0), (1, 300.0), (2, 1800.0)])
def test_the_margin_holds_the_stars_around_each_pixel(
    sky: pa.Table, build: Build, order: int, margin: float
) -> None:
    target, _ = build(sky, order, margin)
    main, edge = leaves(target / "stars"), leaves(target / "stars_margin")
    for pixel, wanted in margin_by_search(sky, list(PixelTree.uniform(order).pixels), margin).items():
        found = ids(edge[pixel]) if pixel in edge else []
        assert wanted <= set(found)
        assert len(set(found)) == len(found)
        assert pixel not in main or not set(found) & set(ids(main[pixel]))
    assert margin_rows(target) == sum(map(len, edge.values())) > 0


def test_a_pixel_without_a_star_has_a_margin_all_the_same(stars: Stars, build: Build) -> None:
    ra, dec = np.array([45.0, 45.001]), np.array([-1e-3, -0.5])  # just south of where four base pixels meet
    target, _ = build(stars(ra, dec), 0, 60.0)
    assert set(leaves(target / "stars")) == {(0, 8)}
    assert {pixel: ids(table) for pixel, table in leaves(target / "stars_margin").items()} == {
        (0, 0): [1],
        (0, 4): [1],
        (0, 5): [1],
    }
    assert margin_rows(target) == 3


@pytest.mark.xdist_group("lsdb")
def test_the_catalog_is_valid_and_lsdb_opens_it_with_its_margin(sky: pa.Table, build: Build) -> None:
    import lsdb
    from hats.io.validation import is_valid_catalog, is_valid_collection

    target, report = build(sky, 1, 300.0, limit=150)
    assert is_valid_catalog(target / "stars", strict=True)
    assert is_valid_catalog(target / "stars_margin", strict=True)
    assert is_valid_collection(target, strict=True)
    opened = lsdb.open_catalog(target)
    assert len(opened) == report.n_rows
    assert sorted(opened.compute()["ref_id"]) == sorted(ids(sky))
    assert len(opened.margin) == margin_rows(target)
    assert opened.margin.hc_structure.catalog_info.margin_threshold == 300.0
    near = opened.cone_search(0.0, 90.0, 1800.0).compute()
    distance = separation_deg(0.0, 90.0, sky["ra_deg"], sky["dec_deg"])
    assert sorted(near["ref_id"]) == sorted(sky.filter(pa.array(distance <= 0.5))["ref_id"].to_pylist())


@pytest.mark.slow
def test_dense_pixels_are_divided_with_complete_margins(sky: pa.Table, build: Build) -> None:
    target, _ = build(sky, 1, 600.0, limit=60)
    main, edge = leaves(target / "stars"), leaves(target / "stars_margin")
    assert max(map(len, main.values())) <= 60
    assert min(order for order, _ in main) == 1
    assert max(order for order, _ in main) > 5
    assert sorted(number for table in main.values() for number in ids(table)) == sorted(ids(sky))
    for pixel, wanted in margin_by_search(sky, list(main), 600.0).items():
        missing = wanted - set(ids(edge[pixel]) if pixel in edge else [])
        assert not missing, f"{pixel} lacks {missing}"


def test_more_stars_at_one_place_than_a_pixel_holds_are_kept(stars: Stars, build: Build) -> None:
    target, report = build(stars(np.full(50, 10.0), np.full(50, -80.0)), 0, limit=5)
    assert report.n_rows == 50
    (table,) = leaves(target / "stars").values()
    assert sorted(ids(table)) == list(range(1, 51))


def test_neither_order_nor_batches_of_the_input_change_a_byte(sky: pa.Table, build: Build) -> None:
    random = np.random.default_rng(5)
    first, _ = build(sky, 1, 300.0, limit=200)
    before = digests(first)
    shuffled = sky.take(pa.array(random.permutation(len(sky))))
    bounds = np.sort(random.integers(0, len(sky), 12))
    pieces = [shuffled.slice(a, b - a) for a, b in zip([0, *bounds], [*bounds, len(sky)], strict=True)]
    second, _ = build(pieces, 1, 300.0, limit=200)
    assert digests(second) == before
    assert read_properties(second / "stars")["skylake_sha256"]


def test_other_content_has_another_checksum(stars: Stars, build: Build) -> None:
    target, _ = build(stars([1.0, 2.0], [3.0, 4.0]))
    before = read_properties(target / "stars")["skylake_sha256"]
    build(stars([1.0, 2.0], [3.0, 4.0], mag_V=[7.0, None]))
    assert read_properties(target / "stars")["skylake_sha256"] != before


def test_identifiers_that_stand_twice_are_counted(stars: Stars, build: Build) -> None:
    _, report = build(stars([1.0, 1.1, 1.2, 1.3], [3.0] * 4, ref_id=[5, 5, 5, 6]))
    assert report.n_duplicate_ids == 2
    assert report.n_rows == 4


@pytest.mark.parametrize("n_equal", [3, 60])
def test_rows_that_are_equal_are_one_star(n_equal: int, stars: Stars, build: Build) -> None:
    rows = stars(
        np.linspace(0.0, 300.0, 80), np.zeros(80), mag_V=np.r_[[np.nan] * 40, np.linspace(5.0, 9.0, 40)]
    )
    folder, report = build(pa.concat_tables([rows, rows.slice(10, n_equal)]))
    assert (report.n_rows, report.n_equal, report.n_duplicate_ids) == (80, n_equal, 0)
    assert read_properties(folder / "stars")["hats_nrows"] == "80"
    found = ReferenceCatalog.open(folder).cone(0.0, 0.0, 180.0)
    assert sorted(found["ref_id"].to_pylist()) == sorted(rows["ref_id"].to_pylist())
    other = rows.slice(70, 2).set_column(
        rows.schema.get_field_index("mag_V"), rows.schema.field("mag_V"), pa.array([2.0, 3.0], pa.float32())
    )
    _, report = build(pa.concat_tables([rows, rows.slice(10, n_equal), other]))
    assert (report.n_rows, report.n_equal, report.n_duplicate_ids) == (82, n_equal, 2)


@pytest.mark.parametrize(
    ("zeros", "brightest", "are_missing"),
    [(11, 0.5, True), (10, 0.5, False), (2, 3.5, True), (2, 2.5, False), (1, 8.0, False)],
)
def test_many_magnitudes_of_zero_are_missing_ones(
    zeros: int, brightest: float, are_missing: bool, stars: Stars, build: Build
) -> None:
    magnitudes = np.r_[np.zeros(zeros), np.linspace(brightest, 14.0, 40)]
    n_rows = len(magnitudes)
    rows = stars(
        np.linspace(0.0, 300.0, n_rows), np.zeros(n_rows), mag_V=magnitudes, mag_V_err=np.full(n_rows, 0.1)
    )
    folder, report = build(rows)
    assert report.zeros == {"mag_V": -zeros if are_missing else zeros}
    found = ReferenceCatalog.open(folder).cone(0.0, 0.0, 180.0)
    for column in ("mag_V", "mag_V_err"):
        assert found[column].null_count == (zeros if are_missing else 0)


def breaking(tables: list[pa.Table]) -> Iterator[pa.Table]:
    yield from tables
    raise CatalogError("the second file is damaged")


def beside(target: Path) -> list[str]:
    """What lies where a catalog does, but for the lock of those who put it there."""
    return [path.name for path in target.parent.iterdir() if path.name != f".{target.name}.placing"]


@pytest.mark.parametrize("replacing", [False, True])
def test_an_error_leaves_only_the_older_catalog(
    sky: pa.Table, build: Build, tmp_path: Path, replacing: bool
) -> None:
    if replacing:
        build(sky.slice(0, 50))
    before = digests(tmp_path)
    with pytest.raises(CatalogError, match="second file"):
        build(breaking([sky]))
    assert digests(tmp_path) == before
    assert beside(tmp_path / "catalogs" / "stars") == ["stars"] * replacing


@pytest.mark.parametrize("batches", [[], None])
def test_a_catalog_without_stars_is_refused(stars: Stars, build: Build, tmp_path: Path, batches: Any) -> None:
    with pytest.raises(CatalogError, match=r"^stars: .* no star"):
        build([stars([], [])] if batches is None else batches)
    assert not list((tmp_path / "catalogs").iterdir())


def test_a_folder_that_cannot_be_written_is_named(sky: pa.Table, build: Build, tmp_path: Path) -> None:
    (tmp_path / "catalogs").write_text("in the way")
    with pytest.raises(CatalogError, match="stars: the catalog cannot be written"):
        build(sky)


def test_what_a_killed_import_left_is_swept_away(sky: pa.Table, build: Build, tmp_path: Path) -> None:
    stale = tmp_path / "catalogs" / ".stars.building-x1" / "stars" / "dataset"
    stale.mkdir(parents=True)
    (stale / "half.parquet").write_bytes(b"PAR1")
    target, report = build(sky)
    assert not stale.exists()
    assert sum(map(len, leaves(target / "stars").values())) == report.n_rows
    assert not list(target.rglob("half.parquet"))
    assert beside(target) == ["stars"]


def test_a_catalog_that_cannot_be_replaced_stays(sky: pa.Table, build: Build, tmp_path: Path) -> None:
    target, report = build(sky)
    with pytest.raises(CatalogError, match="no star with a position"):
        build([sky.slice(0, 0)])
    assert sum(map(len, leaves(target / "stars").values())) == report.n_rows
    again, fewer = build(sky.slice(0, 100))
    assert (again, fewer.n_rows) == (target, 100)
    assert sum(map(len, leaves(target / "stars").values())) == 100
    assert beside(target) == ["stars"]


def test_a_tree_of_several_orders_is_kept(sky: pa.Table, build: Build) -> None:
    tree = PixelTree.of([(0, n) for n in range(1, 12)] + [(2, n) for n in range(16)])
    target, _ = build(sky, tree)
    assert set(leaves(target / "stars")) <= set(tree.pixels)
    assert {order for order, _ in leaves(target / "stars")} == {0, 2}


# Margins that are widened.


def of_main(target: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(target).items() if name.startswith("stars/")}


def margins(target: Path) -> tuple[str, dict[Pixel, list[int]]]:
    """The width of the margin in force, and its stars by pixel; they are as many as its properties tell."""
    told = read_properties(target, "collection.properties")
    root = target / told["default_margin"]
    found = {pixel: ids(table) for pixel, table in leaves(root).items()}
    assert sum(map(len, found.values())) == int(read_properties(root)["hats_nrows"])
    assert told["skylake_margin_arcsec"] == read_properties(root)["hats_margin_threshold"].removesuffix(".0")
    return told["skylake_margin_arcsec"], found


def test_a_margin_that_is_widened_is_that_of_an_import(sky: pa.Table, build: Build) -> None:
    wanted = margins(build(sky, 1, 2300.0, limit=200)[0])
    target, _ = build(sky, 1, 300.0, limit=200)
    before = of_main(target)
    assert widen_margin(target, 2300.0)
    assert margins(target) == wanted
    assert of_main(target) == before
    assert beside(target) == ["stars"], "nothing is left beside it"


def test_a_margin_that_is_wide_enough_is_left_alone(sky: pa.Table, build: Build) -> None:
    target, _ = build(sky, 1, 300.0)
    before = digests(target)
    assert not widen_margin(target, 300.0)
    assert not widen_margin(target, 12.5)
    assert digests(target) == before


@pytest.mark.xdist_group("lsdb")
def test_a_reader_keeps_its_margin_while_it_is_widened(sky: pa.Table, build: Build) -> None:
    import lsdb
    from hats.io.validation import is_valid_collection

    target, _ = build(sky, 1, 300.0)
    opened, n_before = lsdb.open_catalog(target), margin_rows(target)
    assert widen_margin(target, 900.0)
    assert len(opened.margin.compute()) == n_before
    assert widen_margin(target, 1800.0)
    assert is_valid_collection(target, strict=True)
    assert lsdb.open_catalog(target).margin.hc_structure.catalog_info.margin_threshold == 1800.0


def test_of_margins_that_were_widened_the_newest_two_stay(sky: pa.Table, build: Build) -> None:
    target, _ = build(sky, 1, 300.0)
    for width in (900.0, 1800.0, 2300.0):
        assert widen_margin(target, width)
    newest = ["stars_margin_1800", "stars_margin_2300"]
    assert sorted(path.name for path in target.iterdir() if path.is_dir()) == ["stars", *newest]
    assert read_properties(target, "collection.properties")["all_margins"].split() == newest
    assert {path.split("/")[0] for path in read_objects(target) or () if "/" in path} == {"stars", *newest}


_WIDEN = """
import sys
from pathlib import Path
from skylake.sky.catalog_build import widen_margin
print("ready", flush=True)
widen_margin(Path(sys.argv[1]), 2300.0)
"""


@pytest.mark.slow
def test_a_run_killed_while_widening_leaves_a_whole_catalog(sky: pa.Table, build: Build) -> None:
    began = time.monotonic()
    wide = margins(build(sky, 1, 2300.0)[0])
    lasts = time.monotonic() - began
    target, _ = build(sky, 1, 300.0)
    before, narrow = of_main(target), margins(target)
    for share in (0.1, 0.4, 0.7):
        with subprocess.Popen(
            [sys.executable, "-c", _WIDEN, str(target)], stdout=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None and run.stdout.readline() == "ready\n"
            time.sleep(share * lasts)
            run.send_signal(signal.SIGKILL)
        assert margins(target) in (narrow, wide)
        assert of_main(target) == before
    widen_margin(target, 2300.0)
    assert margins(target) == wide
    assert beside(target) == ["stars"]


def test_leftovers_of_an_unfinished_run_are_replaced(sky: pa.Table, build: Build) -> None:
    target, _ = build(sky, 1, 300.0)
    (target / "stars_margin_900" / "dataset").mkdir(parents=True)
    assert widen_margin(target, 900.0)
    width, found = margins(target)
    assert width == "900" and sum(map(len, found.values())) > 0


def test_a_margin_that_cannot_be_written_is_a_sentence(sky: pa.Table, build: Build) -> None:
    target, _ = build(sky, 1, 300.0)
    lock = target.with_name(".stars.placing")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(CatalogError, match="stars: its margin cannot be widened"):
        widen_margin(target, 900.0)


# Imports that are interrupted.


def star_files(folder: Path, n_files: int = 6, n_rows: int = 700) -> list[Path]:
    random = np.random.default_rng(3)
    paths = []
    for number in range(n_files):
        dec = np.degrees(np.arcsin(random.uniform(-1, 1, n_rows)))
        rows = {"ra": random.uniform(0, 360, n_rows), "dec": dec, "V": random.uniform(5, 15, n_rows)}
        paths.append(folder / f"{number}.parquet")
        pq.write_table(pa.table(rows), paths[-1])
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_an_import_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr("skylake.sky.sorted_runs.RUN_ROWS", 500)
    columns = CatalogColumns("ra", "dec", magnitudes={"V": "V"})
    paths = star_files(tmp_path)
    n_all = 6 * 700

    def imported(name: str, read: list[int], stops_after: float = math.inf) -> Path:
        def advance(n_rows: int) -> None:
            read.append(n_rows)
            if sum(read) > stops_after:
                raise KeyboardInterrupt

        files = StarFiles(paths, columns, 250, advance)
        target, epoch = tmp_path / "catalogs" / name, {"skylake_epoch": "2000.0"}
        report = build_catalog(files, columns.schema, target, PixelTree.uniform(1), 300.0, epoch, 1000)
        assert (report.n_rows, files.report.rows_read) == (n_all, n_all)
        return target

    whole = digests(imported("stars", []) / "stars")
    shutil.rmtree(tmp_path / "catalogs")
    read: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        imported("stars", read, share * n_all)
    assert not (tmp_path / "catalogs" / "stars").exists()
    again: list[int] = []
    target = imported("stars", again)
    # What the runs hold is not read a second time; it is reported as the first step.
    assert again[0] >= sum(read) - 2 * 500 - 250
    assert sum(again) == n_all
    assert digests(target / "stars") == whole
    assert beside(target) == ["stars"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from skylake.sky import sorted_runs
from skylake.sky.catalog_build import build_catalog
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.pixels import PixelTree
from skylake.sky.star_files import StarFiles
sorted_runs.RUN_ROWS = 500
read = 0
def advance(n_rows):
    global read
    read += n_rows
    if read > 2500:
        os.kill(os.getpid(), signal.SIGKILL)
columns = CatalogColumns("ra", "dec", magnitudes={"V": "V"})
files = StarFiles(map(Path, sys.argv[2:]), columns, 250, advance)
build_catalog(files, columns.schema, Path(sys.argv[1]), PixelTree.uniform(1), 300.0, {"skylake_epoch": "2000.0"})
"""


def test_an_import_that_was_killed_goes_on(tmp_path: Path) -> None:
    paths, target = star_files(tmp_path), tmp_path / "catalogs" / "stars"
    command = [sys.executable, "-c", _KILLED, str(target), *map(str, paths)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    steps: list[int] = []
    columns = CatalogColumns("ra", "dec", magnitudes={"V": "V"})
    files = StarFiles(paths, columns, 250, steps.append)
    report = build_catalog(
        files, columns.schema, target, PixelTree.uniform(1), 300.0, {"skylake_epoch": "2000.0"}
    )
    assert (report.n_rows, sum(steps), report.n_duplicate_ids) == (4200, 4200, 0)
    assert steps[0] >= 1500
    assert beside(target) == ["stars"]


def test_an_import_begins_anew_when_its_files_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skylake.sky.sorted_runs.RUN_ROWS", 500)
    columns = CatalogColumns("ra", "dec", magnitudes={"V": "V"})
    paths = star_files(tmp_path)
    good = paths[4].read_bytes()
    paths[4].write_bytes(b"PAR1 and no more")
    target = tmp_path / "catalogs" / "stars"

    def build() -> CatalogBuildReport:
        files, epoch = StarFiles(paths, columns, 250), {"skylake_epoch": "2000.0"}
        return build_catalog(files, columns.schema, target, PixelTree.uniform(1), 300.0, epoch)

    with pytest.raises(CatalogError, match=r"4\.parquet"):
        build()
    pq.write_table(pq.read_table(paths[0]).slice(0, 100), paths[0])
    paths[4].write_bytes(good)
    assert build().n_rows == 5 * 700 + 100
    assert beside(target) == ["stars"]


def test_rows_that_are_refused_leave_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns, target = CatalogColumns("ra", "dec", "V", magnitudes={"V": "V"}), tmp_path / "catalogs" / "stars"
    path = tmp_path / "twice.parquet"
    rows = {"ra": np.linspace(0, 359, 90), "dec": np.zeros(90), "V": np.repeat(np.arange(45), 2)}
    pq.write_table(pa.table(rows), path)
    files, epoch = StarFiles([path], columns), {"skylake_epoch": "2000.0"}
    sentence = r"45 of 90 stars have the identifier of another and other values, as .*ra_deg 0\.0, .* and ra_deg 4\.0"
    with pytest.raises(CatalogError, match=sentence):
        build_catalog(files, columns.schema, target, PixelTree.uniform(1), 300.0, epoch)
    assert beside(target) == [] and not caplog.records


def test_what_an_import_has_left_is_removed_after_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skylake.sky.sorted_runs.RUN_ROWS", 500)
    columns, target = CatalogColumns("ra", "dec", magnitudes={"V": "V"}), tmp_path / "catalogs" / "stars"
    paths = star_files(tmp_path, 2)
    paths[1].write_bytes(b"PAR1 and no more")
    with pytest.raises(CatalogError):
        build_catalog(StarFiles(paths, columns, 250), columns.schema, target, PixelTree.uniform(1), 300.0, {})
    (left,) = beside(target)
    assert drop_unfinished_imports(target.parent, 60.0) == 0 and beside(target) == [left]
    assert drop_unfinished_imports(target.parent, -1.0) > 500 * 8 * 3 and beside(target) == []


def test_an_identifier_in_two_pixels_is_counted(stars: Stars, build: Build) -> None:
    _, report = build(stars([1.0, 181.0], [3.0, -3.0], ref_id=[5, 5]))
    assert report.n_duplicate_ids == 1
