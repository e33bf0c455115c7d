from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.errors import CatalogError, UsageError
from skylake.flow.catalogs.import_catalogs import MARGIN_ARCSEC, import_catalog, survey_columns
from skylake.lake import Lake
from skylake.settings import Catalogs
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog

PLAIN = CatalogColumns(ra="ra", dec="dec", id="id", magnitudes={"V": "V"})


@pytest.fixture
def stars(tmp_path: Path) -> Path:
    """Six stars, one without a position and two of one identifier."""
    path = tmp_path / "stars.parquet"
    table = pa.table(
        {
            "id": [1, 2, 3, 4, 5, 5],
            "ra": [10.0, 20.0, 30.0, None, 50.0, 50.001],
            "dec": [-10.0, 0.0, 10.0, 20.0, 80.0, 80.0],
            "V": [8.0, 9.0, 10.0, 11.0, 12.0, None],
        }
    )
    pq.write_table(table, path)
    return path


def test_the_report_counts_every_row_of_the_file(lake: Lake, stars: Path) -> None:
    report = import_catalog(lake, "six", "table", [stars], PLAIN)
    assert report.n_rows + sum(report.dropped.values()) == 6
    assert report.n_rows == 5
    assert list(report.dropped.values()) == [1]
    assert (report.n_pixels, report.n_duplicate_ids) == (4, 1)
    assert (report.name, report.use) == ("six", ["solve", "calibrate"])


def test_all_stars_of_the_simulation_are_there(lake: Lake, archive: Any, columns: Any) -> None:
    report = import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    assert (report.n_rows, report.dropped, report.n_duplicate_ids) == (archive.n_catalog, {}, 0)
    opened = ReferenceCatalog.open(lake.layout.catalog("simcat"))
    assert (opened.n_rows, opened.name, opened.margin_arcsec) == (archive.n_catalog, "simcat", MARGIN_ARCSEC)
    with lake.snapshot().duckdb() as connection:
        query = "SELECT ref_id, mag_V FROM catalogs.simcat ORDER BY ref_id"
        found = connection.execute(query).fetchnumpy()
    expected = pq.read_table(archive.catalog, columns=["id", "V"]).sort_by("id")
    assert found["ref_id"].tolist() == expected["id"].to_pylist()
    assert np.ma.filled(found["mag_V"], np.nan) == pytest.approx(
        expected["V"].to_numpy(), abs=1e-5, nan_ok=True
    )


def test_the_first_catalog_solves_and_stays(lake: Lake, stars: Path) -> None:
    assert import_catalog(lake, "one", "table", [stars], PLAIN).use == ["solve", "calibrate"]
    assert import_catalog(lake, "two", "table", [stars], PLAIN).use == []
    assert Lake(lake.root).settings.catalog == Catalogs("one", ""), (
        "which one calibrates is chosen for each camera"
    )
    assert lake.snapshot().catalogs() == ["one", "two"]


def test_several_files_make_one_catalog(lake: Lake, stars: Path, tmp_path: Path) -> None:
    more = pq.read_table(stars)
    more = more.set_column(0, "id", pa.array([11, 12, 13, 14, 15, 16]))
    pq.write_table(more, tmp_path / "more.parquet")
    report = import_catalog(lake, "both", "table", [stars, tmp_path / "more.parquet"], PLAIN)
    assert report.n_rows == 10
    assert sum(report.dropped.values()) == 2


def test_a_name_that_is_taken_is_refused_and_nothing_changes(
    lake: Lake, stars: Path, digests: Callable[[Path], dict[str, str]]
) -> None:
    import_catalog(lake, "one", "table", [stars], PLAIN)
    before = digests(lake.root)
    with pytest.raises(UsageError, match="already; give another name or --replace"):
        import_catalog(lake, "one", "table", [stars], PLAIN)
    assert digests(lake.root) == before


def test_replacing_changes_the_checksum_for_calibrations(lake: Lake, stars: Path) -> None:
    import_catalog(lake, "one", "table", [stars], PLAIN)
    first = ReferenceCatalog.open(lake.layout.catalog("one"))
    import_catalog(lake, "one", "table", [stars], PLAIN, replace=True)
    assert ReferenceCatalog.open(lake.layout.catalog("one")).checksum == first.checksum
    pq.write_table(pq.read_table(stars).slice(0, 3), stars)
    import_catalog(lake, "one", "table", [stars], PLAIN, replace=True)
    again = ReferenceCatalog.open(lake.layout.catalog("one"))
    assert again.n_rows == 3
    assert again.checksum != first.checksum


@pytest.mark.parametrize("name", ["", "../up", "a b", "a/b", ".hidden"])
def test_a_name_that_is_no_plain_name_is_wrong_use(lake: Lake, stars: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a catalog"):
        import_catalog(lake, name, "table", [stars], PLAIN)
    assert list(lake.layout.catalogs.iterdir()) == []


def test_a_table_without_files_or_columns_is_wrong_use(lake: Lake, stars: Path) -> None:
    for files, columns in (([], PLAIN), ([stars], None)):
        with pytest.raises(UsageError, match="a table needs files and the columns"):
            import_catalog(lake, "one", "table", files, columns)


def gaia_archive(folder: Path, epoch: float) -> Path:
    path = folder / f"gaia{epoch}.csv"
    names = "source_id,ra,dec,ref_epoch,pmra,pmdec,phot_g_mean_mag,phot_bp_mean_mag,phot_rp_mean_mag"
    path.write_text(f"{names}\n1,10,0,,,,9,9,9\n2,20,1,{epoch},1000,0,9,9.5,8.5\n")
    return path


@pytest.mark.parametrize(("epoch", "survey"), [(2015.5, "gaia_dr2"), (2016.0, "gaia_dr3")])
def test_the_epoch_of_rows_says_which_release_of_gaia_they_are(
    epoch: float, survey: str, lake: Lake, tmp_path: Path
) -> None:
    path = gaia_archive(tmp_path, epoch)
    import_catalog(lake, "gaia", "gaia", [path])
    opened = ReferenceCatalog.open(lake.layout.catalog("gaia"))
    assert (opened.epoch, opened.survey) == (epoch, survey)
    star = opened.cone(20.0, 1.0, 0.1).to_pylist()[0]
    assert (star["ra_deg"], star["dec_deg"]) == (20.0, 1.0)
    # Moved to the epoch of the other release, magnitudes are still those of this one.
    columns = replace(survey_columns("gaia", [path]).columns, epoch=4031.5 - epoch)
    import_catalog(lake, "gaia", "gaia", [path], columns, replace=True)
    opened = ReferenceCatalog.open(lake.layout.catalog("gaia"))
    assert (opened.epoch, opened.survey) == (4031.5 - epoch, survey)
    moved = opened.cone(20.0, 1.0, 0.1).to_pylist()[0]
    assert (moved["ra_deg"] - 20.0) * 3600.0 == pytest.approx(4031.5 - 2 * epoch, rel=1e-3)


def test_a_file_that_is_no_table_leaves_no_catalog(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(CatalogError, match=r"notes\.parquet"):
        import_catalog(lake, "one", "table", [tmp_path / "notes.parquet"], PLAIN)
    assert lake.snapshot().catalogs() == []
    assert Lake(lake.root).settings.catalog == Catalogs()
    assert list(lake.layout.catalogs.iterdir()) == []
    import_catalog(lake, "one", "table", [_one_star(tmp_path)], PLAIN)


def _one_star(folder: Path) -> Path:
    pq.write_table(pa.table({"id": [1], "ra": [1.0], "dec": [1.0], "V": [9.0]}), folder / "one.parquet")
    return folder / "one.parquet"


def test_a_failed_replacement_leaves_the_old_catalog(lake: Lake, stars: Path, tmp_path: Path) -> None:
    import_catalog(lake, "one", "table", [stars], PLAIN)
    before = ReferenceCatalog.open(lake.layout.catalog("one"))
    (tmp_path / "notes.parquet").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(CatalogError):
        import_catalog(lake, "one", "table", [stars, tmp_path / "notes.parquet"], PLAIN, replace=True)
    assert ReferenceCatalog.open(lake.layout.catalog("one")) == before
