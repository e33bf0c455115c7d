"""A table reads the same with any library, with its units, and nothing of it writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy.table import QTable
from astropy.units import Unit

from skylake.errors import LakeError, UsageError
from skylake.reading.reader import LakeReader
from skylake.reading.tables import Table
from skylake.schema import load

pytestmark = pytest.mark.xdist_group("lsdb-reading")

READERS: dict[str, Callable[[Table], int]] = {
    "arrow": lambda table: table.arrow().num_rows,
    "pandas": lambda table: len(table.pandas()),
    "polars": lambda table: table.polars().height,
    "dask": lambda table: len(table.dask(["frame_id"]).compute(scheduler="synchronous")),
    "dataset": lambda table: table.dataset().count_rows(),
    "lazy_polars": lambda table: table.lazy_polars().collect().height,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["frames", "sources"])
def test_rows(lake: LakeReader, name: str, reader: str) -> None:
    table = lake[name]
    assert isinstance(table, Table)
    assert (
        READERS[reader](table)
        == len(table)
        == lake.sql(f"SELECT count(*) AS n FROM {name}").arrow()["n"][0].as_py()
    )


def test_lsdb(lake: LakeReader) -> None:
    catalog = lake["sources"].lsdb(["ra_deg", "dec_deg"])
    assert len(catalog.compute()) == len(lake["sources"])
    with pytest.raises(
        UsageError, match="frames has no index of positions, which lsdb needs; read it with dask"
    ):
        lake["frames"].lsdb()


def test_columns_and_filters(lake: LakeReader) -> None:
    frame = lake["sources"].pandas(["mjd_mid", "flux_aper2"], filter=pc.field("flags") == 0)
    assert list(frame) == ["mjd_mid", "flux_aper2"]
    assert 0 < len(frame) < len(lake["sources"])
    with pytest.raises(
        UsageError, match="sources has no column 'colour'; its columns are _healpix_29, frame_id"
    ):
        lake["sources"].pandas(["colour"])


def test_units(lake: LakeReader) -> None:
    table = lake["sources"]
    frame = table.pandas(["mjd_mid", "flux_aper2", "flags"])
    assert frame.attrs["units"] == {"mjd_mid": "d", "flux_aper2": "adu/s"}
    assert table.units.items() >= frame.attrs["units"].items()
    field = table.arrow(["flux_aper2"]).schema.field("flux_aper2")
    assert field.metadata[b"unit"] == b"adu/s" and field.metadata[b"description"]


def test_astropy_says_what_the_schema_says(lake: LakeReader) -> None:
    for name, table in lake.tables.items():
        made, schema = table.astropy(), load(name)
        for column in map(schema.__getitem__, made.colnames):
            found = made[column.name]
            assert (found.description, found.meta.get("ucd")) == (column.description, column.ucd)
            assert found.unit == (None if column.unit is None else Unit(column.unit))
        QTable(made)
    frames = lake["frames"].astropy(["file", "fwhm_px"], filter=pc.field("status") == "ok")
    assert frames.colnames == ["file", "fwhm_px"] and len(frames) == len(lake["frames"])
    matches = lake["calibrated_matches"].astropy(["mag", "ref_mag"])
    assert matches["mag"].mask.any() and abs(np.ma.median(matches["mag"] - matches["ref_mag"])) < 0.05


def test_words(lake: LakeReader) -> None:
    table = lake["sources"]
    assert table.name == "sources" and table.columns[1] == "frame_id"
    assert repr(table) == f"<Table sources: {table.description}>"
    shown = table._repr_html_()
    assert "<td>flux_aper2</td><td>float</td><td>adu/s</td>" in shown


@pytest.mark.parametrize(
    ("cone", "words"),
    [
        ((361.0, 0.0, 1.0), "the ra of a cone is a number from -180 to 360 degrees, and not 361.0"),
        ((0.0, 91.0, 1.0), "the dec of a cone is a number from -90 to 90"),
        ((0.0, 0.0, -1.0), "the radius of a cone is a number from 0 to 180"),
        ((0.0, 0.0, float("nan")), "and not nan"),
        ((0.0, 0.0), r"a cone is \(ra, dec, radius\), degrees, and not \(0.0, 0.0\)"),
        ((0.0, "north", 1.0), "a cone is .*'north'"),
    ],
)
def test_no_cone(lake: LakeReader, cone: Any, words: str) -> None:
    for name in ("sources", "calibrated_sources"):
        with pytest.raises(UsageError, match=words):
            lake[name].arrow(cone=cone)
    with pytest.raises(LakeError, match="frames have no index of positions"):
        lake["frames"].arrow(cone=(0.0, 0.0, 1.0))
