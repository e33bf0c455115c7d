"""Programs that know nothing of skylake read every table of a lake, those without rows too."""

from __future__ import annotations

import io
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from astropy.io import votable
from astropy.table import Table

from skylake.lake import Lake
from skylake.schema import load, table_names

pytestmark = [pytest.mark.xdist_group("lsdb"), pytest.mark.full]
HATS = [name for name in table_names() if load(name).layout.kind == "hats"]
#: What lsdb has nested, and astropy has no columns for.
NESTED = (
    "lightcurve",
    "lightcurve_errors",
    "lightcurve_noise",
    "more_bands",
    "position_terms",
    "illumination",
    "nights",
    "shares",
)


@pytest.fixture(scope="module", params=["rows", "empty"])
def lake(request: Any, tmp_path_factory: Any, make_rows: Any, put: Any) -> Lake:
    """A lake with two nights in some tables, or with none, as of cameras with three apertures."""
    lake = Lake.create(tmp_path_factory.mktemp("read") / "lake")
    for night in (20240101, 20240102) if request.param == "rows" else ():
        batch = {"camera": ["c"] * 30, "night": [night] * 30}
        tables = {name: make_rows(name, 30, night, **batch) for name in ("frames", "sources", "lightcurves")}
        for name in ("frames", "sources"):
            tables[name] = tables[name].drop_columns("more_apertures")
        put(lake, *((name, f"c-{night}", rows) for name, rows in tables.items()))
    return lake


@pytest.mark.parametrize("table", table_names())
def test_a_folder_has_the_columns_and_rows(lake: Lake, table: str) -> None:
    folder, names = lake.snapshot().folder(table), load(table).names
    n_rows = lake.snapshot().n_rows(table)
    data = folder / "dataset"
    frames = {
        "polars": pl.scan_parquet(data, hidden_file_prefix="_", hive_partitioning=False).collect(),
        "duckdb": duckdb.sql(f"FROM read_parquet('{data}/**/*.parquet', hive_partitioning = false)").df(),
        "pandas": pd.read_parquet(data, partitioning=None),
    }
    for reader, frame in frames.items():
        assert len(frame) == n_rows, reader
        found = list(frame.columns)
        assert found == [name for name in names if name in found], reader
        assert set(names) - set(found) <= {"more_apertures", *NESTED[1:]}, reader


@pytest.mark.parametrize("table", table_names())
def test_astropy_reads_files_with_units(lake: Lake, table: str) -> None:
    """Without a warning: a text that is null, or no row at all, would else be an error."""
    schema = load(table)
    for path in sorted((lake.snapshot().folder(table) / "dataset").rglob("*.parquet"))[:2]:
        rows = pq.read_table(path, partitioning=None)
        nested = [name for name in NESTED if name in rows.column_names]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = Table.read(path, exclude_names=nested)
        assert read.colnames == [name for name in rows.column_names if name not in NESTED]
        assert len(read) == rows.num_rows
        if not nested and table != "frames":  # astropy cannot stack a boolean that may be null
            with_units = Table.read(path, format="parquet.votable")
            assert {name: str(with_units[name].unit or "") for name in with_units.colnames} == {
                name: str(Table({name: [1]}, units={name: schema[name].unit})[name].unit or "")
                for name in read.colnames
            }


@pytest.mark.parametrize("table", table_names())
def test_the_votable_of_each_file_describes_its_columns(lake: Lake, table: str) -> None:
    """One FIELD for each column in the order of the file, as the note on VOParquet asks for."""
    schema = load(table)
    for path in sorted((lake.snapshot().folder(table) / "dataset").rglob("*.parquet"))[:2]:
        metadata = pq.read_metadata(path).metadata
        assert metadata[b"IVOA.VOTable-Parquet.version"] == b"1.0"
        parsed = votable.parse(io.BytesIO(metadata[b"IVOA.VOTable-Parquet.content"])).get_first_table()
        fields = [field for column in pq.read_schema(path) for field in _flat(column)]
        assert [field.name for field in parsed.fields] == fields
        assert {field.name: field.ucd for field in parsed.fields if field.name in schema.names} == {
            name: schema[name].ucd for name in fields if name in schema.names
        }


def _flat(column: Any) -> list[str]:
    if hasattr(column.type, "names"):  # a struct
        return [f"{column.name}.{name}" for name in column.type.names]
    return [column.name]


@pytest.mark.parametrize("table", HATS)
def test_lsdb_opens_default_columns_coverage_and_margin(lake: Lake, table: str) -> None:
    import lsdb
    import matplotlib.pyplot as plt
    from hats.io.validation import is_valid_catalog

    snapshot = lake.snapshot()
    folder, layout = snapshot.folder(table), load(table).layout
    catalog = lsdb.open_catalog(folder)
    assert tuple(catalog.columns) == layout.default
    assert 10 <= len(layout.default) <= 16
    assert len(catalog.compute(progress_bar=False)) == snapshot.n_rows(table)
    catalog.plot_coverage()
    plt.close("all")
    rows = snapshot.read(table, ["ra_deg", "dec_deg"]).to_pandas()
    moc = catalog.hc_structure.moc
    if len(rows):
        from astropy import units

        inside = moc.contains_lonlat(
            rows["ra_deg"].to_numpy() * units.deg, rows["dec_deg"].to_numpy() * units.deg
        )
        assert np.all(inside)
        assert moc.sky_fraction < 100 / (12 * 4**8)
    collection = snapshot.collection(table)
    assert (collection is not None) == bool(layout.margin_arcsec)
    if collection is not None:
        opened = lsdb.open_catalog(collection)
        assert opened.margin.hc_structure.catalog_info.margin_threshold == layout.margin_arcsec
        assert is_valid_catalog(collection, strict=True)
    assert is_valid_catalog(folder, strict=True)


def test_moc_is_read_as_fits_and_json(lake: Lake) -> None:
    from mocpy import MOC

    folder: Path = lake.snapshot().folder("sources")
    import lsdb

    known = lsdb.open_catalog(folder).hc_structure.moc
    assert MOC.from_fits(folder / "coverage.fits") == known
    assert MOC.from_string((folder / "coverage.json").read_text(), format="json") == known


@pytest.mark.slow
@pytest.mark.parametrize("right", ["sources", "lightcurves"])
def test_lsdb_joins_onto_a_table_without_a_warning(lake: Lake, right: str) -> None:
    """The margin that comes with the table leaves nothing to warn of; pairs are those of positions."""
    import lsdb

    rows = lake.snapshot().read(right, ["ra_deg", "dec_deg"]).to_pandas()
    places = rows.head(5) if len(rows) else pd.DataFrame({"ra_deg": [10.0], "dec_deg": [-20.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        left = lsdb.from_dataframe(places, ra_column="ra_deg", dec_column="dec_deg", catalog_name="mine")
        other = lsdb.open_catalog(lake.snapshot().collection(right), columns=["ra_deg", "dec_deg"])
        join = partial(left.crossmatch, other, radius_arcsec=1.0, suffix_method="overlapping_columns")
        if len(rows) == 0:
            # lsdb says itself that two catalogs without a common pixel have no pairs.
            with pytest.raises(RuntimeError, match="overlap"):
                join().compute(progress_bar=False)
            return
        found = join().compute(progress_bar=False)
    assert len(found) == len(places) and (found["_dist_arcsec"] < 1e-3).all()
