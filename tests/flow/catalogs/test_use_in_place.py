"""Catalogs that are HATS already are used where they are, with the results of an import."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

import skylake
from skylake.errors import CatalogError, SkylakeError, UsageError
from skylake.flow.catalogs.crossmatch_tables import MatchRequest, crossmatch, open_side
from skylake.flow.catalogs.import_catalogs import import_catalog, index_imported, use_in_place
from skylake.flow.execution.cluster import Inline
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake
from skylake.sky.catalog_search import Limits, coverage
from skylake.sky.cone import Box
from skylake.sky.crossmatch import Neighbours
from skylake.sky.hats import SOURCE_FILE
from skylake.sky.lake_catalogs import ReferenceCatalog, StarField

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("lsdb")]


@pytest.fixture(scope="module")
def elsewhere(archive: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog of the simulation as lsdb writes it, under the columns of its file."""
    import lsdb

    path = tmp_path_factory.mktemp("elsewhere") / "far"
    stars = pd.read_parquet(archive.catalog)
    catalog = lsdb.from_dataframe(stars, ra_column="ra", dec_column="dec", partition_rows=600)
    catalog.write_catalog(path, catalog_name="far", as_collection=False, progress_bar=False)
    return path


@pytest.fixture(scope="module")
def served(elsewhere: Path) -> Iterator[str]:
    """The same behind a web server."""

    class Ranges(http.server.SimpleHTTPRequestHandler):
        """Serves parts of files, as servers of Parquet do."""

        def do_GET(self) -> None:
            wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            path = Path(self.translate_path(self.path))
            if wanted is None or not path.is_file():
                super().do_GET()
                return
            content = path.read_bytes()
            start, end = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            self.send_header("Content-Length", str(end + 1 - start))
            self.end_headers()
            self.wfile.write(content[start : end + 1])

        def end_headers(self) -> None:
            self.send_header("Accept-Ranges", "bytes")
            super().end_headers()

        def log_message(self, *_: Any) -> None:
            return

    handler = functools.partial(Ranges, directory=str(elsewhere.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/far"
        server.shutdown()
        thread.join()


def rows_of(table: Any) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["ref_id"])


@pytest.mark.slow
@pytest.mark.parametrize("remote", [False, True])
def test_cones_and_fields_are_those_of_an_import(
    ingested: Lake, elsewhere: Path, served: str, columns: Any, remote: bool
) -> None:
    report = use_in_place(ingested, "far", served if remote else str(elsewhere), columns)
    near = ReferenceCatalog.open(ingested.layout.catalog("simcat"))
    far = ReferenceCatalog.open(ingested.layout.catalog("far"))
    assert far.epoch == columns.epoch
    assert (report.n_rows, far.columns, far.bands) == (near.n_rows, near.columns, near.bands)
    star = near.cone(0.0, 0.0, 180.0, ["ra_deg", "dec_deg"]).slice(0, 1).to_pylist()[0]
    for radius in (0.05, 1.0, 180.0):
        place = star["ra_deg"], star["dec_deg"], radius
        assert rows_of(far.cone(*place)) == rows_of(near.cone(*place))
        bright = pc.field("mag_V") < 12.0
        for filter in (None, bright):
            some = [rows_of(one.cone(*place, ["ref_id", "mag_V"], filter)) for one in (far, near)]
            assert some[0] == some[1]
    for box in (
        Box((star["ra_deg"] - 0.5, star["ra_deg"] + 0.4), (-90.0, star["dec_deg"])),
        Box((0.0, 360.0), (-90.0, 90.0)),
    ):
        for limits in (Limits({}, {}), Limits({"V": (10.0, 12.0)}, {"B-V": (None, 1.0)})):
            boxes = [rows_of(one.area(box, limits.expression(one))) for one in (far, near)]
            assert boxes[0] == boxes[1]
            assert boxes[0] or limits.magnitudes
    for order in (None, 3):
        covered = [coverage(one, order) for one in (far, near)]
        assert covered[0].order == covered[1].order
        np.testing.assert_array_equal(covered[0].pixels, covered[1].pixels)
        np.testing.assert_array_equal(covered[0].counts, covered[1].counts)
    whole = near.cone(0.0, 0.0, 180.0)["mag_V"].drop_null().to_numpy()
    for most, faintest in ((50, np.inf), (len(whole), np.inf), (len(whole), 11.0), (20, 11.0)):
        bright = far.brightest((0.0, 0.0, 180.0), ["ref_id", "mag_V"], "mag_V", most, faintest)
        expected = np.sort(whole[whole <= faintest])[:most]
        np.testing.assert_array_equal(np.sort(bright["mag_V"].drop_null().to_numpy()), expected)
    fields = [
        StarField(one, "V", 100).at(star["ra_deg"], star["dec_deg"], 1.0, 60_000.0) for one in (near, far)
    ]
    for first, second in zip(*fields, strict=True):
        # How many of the brightest are held is only about as many.
        assert set(np.round(first[:50], 9)) & set(np.round(second, 9)) or not len(first)


@pytest.mark.slow
def test_nights_are_calibrated_as_with_an_import(
    calibrated: Lake, calibrated_once: Lake, elsewhere: Path, columns: Any
) -> None:
    report = use_in_place(calibrated, "far", str(elsewhere), columns)
    index_imported(calibrated, report)
    assert report.n_asterisms > 0
    for use in ("solve", "calibrate"):
        calibrated.set(f"catalog.{use}", "far")
    calibrate(Lake(calibrated.root), Inline())
    wanted = ["frame_id", "zp", "zp_err", "n_used", "rms", "colour_term"]
    found, expected = (
        one.snapshot().pandas("zeropoints").query(f"catalog == '{name}'")[wanted].sort_values("frame_id")
        for one, name in ((calibrated, "far"), (calibrated_once, "simcat"))
    )
    assert len(found) == 12
    np.testing.assert_allclose(found.to_numpy(float), expected.to_numpy(float), rtol=1e-9)
    options = VerifyOptions(deep=True)
    assert verify(open_facts(calibrated.root, options), Inline(), options).failed == []
    with calibrated.snapshot().duckdb() as connection:
        assert connection.execute("SELECT count(*) FROM catalogs.simcat").fetchall()


@pytest.mark.slow
def test_matches_have_the_columns_of_the_lake_and_sql_says_what_does(
    ingested: Lake, elsewhere: Path, columns: Any
) -> None:
    use_in_place(ingested, "far", str(elsewhere), columns)
    wanted = ("ref_id", "mag_V", "pm_ra_mas_yr")
    for name in ("far", "simcat"):
        for left, right, names in (("sources", name, (None, wanted)), (name, "sources", (wanted, None))):
            request = MatchRequest(left, right, Neighbours(20.0), *names)
            crossmatch(ingested, f"{left}_{right}", request, Inline())
    for left, right in (("sources", "{}"), ("{}", "sources")):
        found, expected = (
            ingested.snapshot()
            .pandas(f"{left.format(name)}_{right.format(name)}")
            .sort_values(["frame_id", "source_no", "ref_id"], ignore_index=True)
            for name in ("far", "simcat")
        )
        assert len(found) > 100
        pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(
        UsageError, match="far is used in place, where SQL does not reach it; `skylake catalog cone`"
    ):
        skylake.open(ingested.root).sql("SELECT count(*) FROM catalogs.far")


@pytest.fixture
def heard() -> Iterator[tuple[str, list[object]]]:
    """The address of a server to which nobody should connect, and those who did."""
    callers: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, caller = server.accept()
                    callers.append(caller)
                    connection.close()

        thread = threading.Thread(target=listen)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", callers
        ended.set()
        thread.join()


def readings(lake: Lake) -> list[Callable[[], object]]:
    """Ways to read the stars of the catalog far."""
    far = ReferenceCatalog.open(lake.layout.catalog("far"))
    return [
        lambda: far.cone(0.0, 0.0, 180.0),
        lambda: far.area(Box((0.0, 360.0), (-90.0, 90.0))),
        lambda: far.around(np.zeros(1), np.zeros(1), 60.0, ["ref_id"]),
        lambda: far.brightest((0.0, 0.0, 180.0), ["ref_id", "mag_V"], "mag_V", 5),
        lambda: list(far.batches(["ref_id"])),
        lambda: StarField(far, "V").at(0.0, 0.0, 5.0, 60_000.0),
        lambda: coverage(far, None),
        lambda: open_side(lake.snapshot(), "catalogs.far"),
    ]


def test_an_address_that_only_a_lake_names_is_not_used_until_the_user_confirms_it(
    lake: Lake, elsewhere: Path, columns: Any, copy_lake: Callable[[Path, Path], Path], tmp_path: Path
) -> None:
    use_in_place(lake, "far", str(elsewhere), columns)
    assert all(read() is not None for read in readings(lake))
    given = Lake(copy_lake(lake.root, tmp_path / "given"))
    for read in readings(given):
        with pytest.raises(
            CatalogError, match="a lake names this catalog, and may be somebody else's"
        ) as error:
            read()
    assert verify(open_facts(given.root), Inline()).failed == []
    line, section, file = re.search(r"write (.*) below (\[.*\]) in (.*)$", str(error.value)).groups()  # type: ignore[union-attr]
    with Path(file).open("a") as stream:
        stream.write(f"\n{section}\n{line}\n")
    assert all(read() is not None for read in readings(given))
    # It is that address which is confirmed, and no other.
    source = given.layout.catalog("far") / SOURCE_FILE
    source.write_text(source.read_text().replace(str(elsewhere), str(elsewhere.parent)))
    for read in readings(given):
        with pytest.raises(CatalogError, match="if you trust what is there, write"):
            read()


@pytest.mark.parametrize(
    "url", ["dask://{}/x::file:///x", "http://{}/far", "simplecache::http://{}/far", "ftp://{}/"]
)
def test_nobody_is_called_because_a_lake_says_so(
    lake: Lake, elsewhere: Path, columns: Any, heard: tuple[str, list[object]], url: str
) -> None:
    use_in_place(lake, "far", str(elsewhere), columns)
    where, callers = heard
    source = lake.layout.catalog("far") / SOURCE_FILE
    source.write_text(source.read_text().replace(str(elsewhere), url.format(where)))
    for read in readings(lake):
        with pytest.raises((CatalogError, UsageError)):
            read()
    verify(open_facts(lake.root), Inline(), VerifyOptions(hats=True))
    assert callers == []


@pytest.mark.parametrize("separator", ["=", " : ", " "])
def test_the_hats_package_calls_nobody_either(
    ingested: Lake, heard: tuple[str, list[object]], separator: str
) -> None:
    where, callers = heard
    collection = ingested.layout.catalog("simcat") / "collection.properties"
    text = collection.read_text()
    for key, value in (("hats_primary_table_url", "simcat"), ("all_margins", ".*")):
        lines = re.sub(f"(?m)^{key}={value}$", f"{key}{separator}http://{where}/x", text)
        assert lines != text
        # What another reader of the file takes may stand in front of it.
        collection.write_text(lines if separator == "=" else f"{text}\n{lines}")
        report = verify(open_facts(ingested.root), Inline(), VerifyOptions(hats=True))
        assert "hats_valid" in report.failed
        with contextlib.suppress(SkylakeError):
            calibrate(Lake(ingested.root), Inline())
        with contextlib.suppress(SkylakeError):
            open_side(ingested.snapshot(), "catalogs.simcat")
        assert callers == []


def test_what_is_no_catalog_is_one_sentence(
    lake: Lake, tmp_path: Path, elsewhere: Path, columns: Any
) -> None:
    for address in (str(tmp_path), str(tmp_path / "absent")):
        with pytest.raises(
            CatalogError, match=r"no HATS catalog, as it has no file hats\.properties; correct"
        ):
            use_in_place(lake, "far", address, columns)
    with pytest.raises(CatalogError, match=r"those of no survey .*'ra'.* name them with --ra"):
        use_in_place(lake, "far", str(elsewhere))
    with pytest.raises(CatalogError, match="or the server does not answer; correct the address"):
        use_in_place(lake, "far", "http://127.0.0.1:9/far", columns)
    assert lake.snapshot().catalogs() == []
    # A catalog that is moved away is named when it is used.
    use_in_place(lake, "far", str(elsewhere), columns)
    moved = elsewhere.rename(elsewhere.with_name("moved"))
    try:
        with pytest.raises(CatalogError, match="far"):
            ReferenceCatalog.open(lake.layout.catalog("far")).cone(0.0, 0.0, 1.0)
    finally:
        moved.rename(elsewhere)


def test_epoch_and_units_may_be_stated(lake: Lake, elsewhere: Path, columns: Any) -> None:
    use_in_place(lake, "far", str(elsewhere), columns, epoch=2013.0, units={"V": "mmag"})
    far = ReferenceCatalog.open(lake.layout.catalog("far"))
    assert far.epoch == 2013.0
    assert pc.max(far.cone(0.0, 0.0, 180.0)["mag_V"]).as_py() < 0.03


def test_the_release_of_gaia_is_that_of_its_first_row(lake: Lake, tmp_path: Path) -> None:
    import lsdb

    names = ("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "pmra", "pmdec")
    stars = pd.DataFrame({"source_id": [1, 2], "ra": [10.0, 20.0], "dec": 1.0, "ref_epoch": 2015.5})
    stars = stars.assign(**dict.fromkeys(names, 9.0))
    catalog = lsdb.from_dataframe(stars, ra_column="ra", dec_column="dec")
    catalog.write_catalog(tmp_path / "g", catalog_name="g", as_collection=False, progress_bar=False)
    use_in_place(lake, "gaia", str(tmp_path / "g"))
    found = ReferenceCatalog.open(lake.layout.catalog("gaia"))
    assert (found.epoch, found.survey) == (2015.5, "gaia_dr2")
    assert found.cone(20.0, 1.0, 0.1)["ra_deg"].to_pylist() == [20.0]


def test_a_hats_catalog_is_copied_like_any_folder(
    lake: Lake, elsewhere: Path, archive: Any, columns: Any
) -> None:
    assert import_catalog(lake, "copy", "table", [elsewhere], columns).n_rows == archive.n_catalog
