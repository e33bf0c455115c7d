from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from astropy.units import Unit, UnrecognizedUnit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skylake.cli.output import FORMATS, format_of, write_table, writing
from skylake.errors import SkylakeError, UsageError
from skylake.schema import load, table_names
from skylake.table.combine_maps import MAPS

FIELDS = [
    pa.field("id", pa.int64(), metadata={"unit": "", "description": "Identifier"}),
    pa.field("ra_deg", pa.float64(), metadata={"unit": "deg", "description": "Right ascension"}),
    pa.field("flux", pa.float32(), metadata={"unit": "adu/s", "description": "Flux"}),
    pa.field("name", pa.string()),
    pa.field("good", pa.bool_()),
]
TABLE = pa.table(
    [
        [2**62, 2, None],
        [1.5, None, 359.99999999],
        [0.1, None, -3.0],
        ["a,b", None, 'ü "x"'],
        [True, None, False],
    ],
    schema=pa.schema(FIELDS),
)
NESTED = pa.table({"n": [[1, 2], None], "s": [{"a": 0.5}, {"a": None}]})


@pytest.mark.parametrize(
    ("name", "form"),
    [("x.csv", "csv"), ("x.FITS", "fits"), ("a.b.vot", "votable"), ("x.xml", "votable"), ("x.ecsv", "ecsv")],
)
def test_the_suffix_shows_the_format(name: str, form: str) -> None:
    assert format_of(Path(name)) == form


@pytest.mark.parametrize("name", ["x", "x.txt", ".csv", "x.csv.gz"])
def test_an_unknown_suffix_is_refused_with_those_known(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: the suffix names no format; use {', '.join(FORMATS)}"):
        format_of(Path(name))


def test_parquet_is_the_table_itself(tmp_path: Path) -> None:
    write_table(TABLE, tmp_path / "x.parquet")
    found = pq.read_table(tmp_path / "x.parquet")
    assert found.equals(TABLE)
    assert found.schema.field("ra_deg").metadata[b"unit"] == b"deg"


@pytest.mark.parametrize(("suffix", "form"), [("fits", "fits"), ("vot", "votable"), ("ecsv", "ascii.ecsv")])
def test_astronomical_formats_keep_values_units_and_nulls(suffix: str, form: str, tmp_path: Path) -> None:
    write_table(TABLE, tmp_path / f"x.{suffix}")
    found = Table.read(tmp_path / f"x.{suffix}", format=form)
    assert found.colnames == TABLE.column_names
    assert str(found["ra_deg"].unit) == "deg"
    assert found["id"][0] == 2**62
    assert found["ra_deg"][2] == 359.99999999
    assert found["flux"][0] == np.float32(0.1)
    assert [str(found["name"][i]) for i in (0, 2)] == ["a,b", '\\xfc "x"' if form == "fits" else 'ü "x"']
    missing = [
        bool(np.ma.is_masked(found[name][1]) or found[name][1] != found[name][1])
        for name in ("ra_deg", "flux")
    ]
    assert missing == [True, True]


@pytest.mark.parametrize(
    ("suffix", "form", "standard"), [("fits", "fits", "fits"), ("vot", "votable", "vounit")]
)
def test_every_unit_follows_the_standard_of_its_format(
    suffix: str, form: str, standard: str, tmp_path: Path
) -> None:
    columns = [column for name in (*table_names(), "catalog") for column in load(name).columns]
    columns += [inner for column in columns for inner in column.columns]
    units = sorted({column.unit for column in columns if column.unit} | {kind.unit for kind in MAPS.values()})
    fields = [pa.field(f"x{i}", pa.float64(), metadata={"unit": unit}) for i, unit in enumerate(units)]
    write_table(pa.table([[1.5]] * len(units), schema=pa.schema(fields)), tmp_path / f"x.{suffix}")
    found = Table.read(tmp_path / f"x.{suffix}", format=form)
    written = {unit: found[f"x{i}"].unit for i, unit in enumerate(units)}
    assert all(not isinstance(unit, UnrecognizedUnit) for unit in written.values())
    assert all(Unit(unit.to_string(standard), format=standard) == unit for unit in written.values() if unit)
    # What the standard does not have is left out, and nothing else.
    assert {unit for unit in units if not written[unit]} == {"", "deg_C", "electron"}
    assert all(Unit(unit) == written[unit] for unit in units if "electron" not in unit and written[unit])
    assert written["electron/adu"] == 1 / Unit("adu")


def test_units_of_ecsv_are_those_of_the_tables(tmp_path: Path) -> None:
    field = pa.field("read_noise_e", pa.float64(), metadata={"unit": "electron"})
    write_table(pa.table([[5.0]], schema=pa.schema([field])), tmp_path / "x.ecsv")
    assert Table.read(tmp_path / "x.ecsv")["read_noise_e"].unit == "electron"


def test_csv_and_json_keep_values_and_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(TABLE, None, "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in rows] == [str(2**62), "2", ""]
    assert [row["name"] for row in rows] == ["a,b", "", 'ü "x"']
    assert [row["ra_deg"] for row in rows] == ["1.5", "", "359.99999999"]
    assert np.float32(rows[0]["flux"]) == np.float32(0.1)
    write_table(TABLE, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())[0] == {
        "id": 2**62, "ra_deg": 1.5, "flux": 0.1, "name": "a,b", "good": True,
    }  # fmt: skip
    assert json.loads((tmp_path / "x.json").read_text())[1]["ra_deg"] is None


@pytest.mark.parametrize("suffix", ["csv", "fits", "vot", "ecsv"])
def test_nested_columns_become_json_texts(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"x.{suffix}"
    write_table(NESTED, out)
    form = {"csv": "ascii.csv", "vot": "votable", "ecsv": "ascii.ecsv"}.get(suffix, suffix)
    found = Table.read(out, format=form)
    assert json.loads(str(found["n"][0])) == [1, 2]
    assert [json.loads(str(text)) for text in found["s"]] == [{"a": 0.5}, {"a": None}]


def test_nested_columns_stay_nested_in_json_and_parquet(tmp_path: Path) -> None:
    write_table(NESTED, tmp_path / "x.json")
    write_table(NESTED, tmp_path / "x.parquet")
    assert json.loads((tmp_path / "x.json").read_text()) == NESTED.to_pylist()
    assert pq.read_table(tmp_path / "x.parquet").equals(NESTED)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(values=st.lists(st.floats(width=32) | st.none(), min_size=1, max_size=8))
def test_single_precision_is_short_and_reads_back_the_same(
    values: list[float | None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(pa.table({"x": pa.array(values, pa.float32())}), None, "json")
    for row, value in zip(json.loads(capsys.readouterr().out), values, strict=True):
        if value is None or not np.isfinite(value):
            assert row["x"] is None
        else:
            assert np.float32(row["x"]) == np.float32(value)
            assert len(repr(row["x"]).lstrip("-").replace(".", "").strip("0").partition("e")[0]) <= 9


def test_folders_are_made_and_what_was_there_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in ("csv", "json", "parquet", "fits", "ecsv", "vot"):
        out = tmp_path / "new folder" / f"x.{suffix}"
        write_table(TABLE, out)
        write_table(TABLE.slice(0, 1), out)
        assert capsys.readouterr() == ("", f"wrote 3 rows to {out}\nwrote 1 row to {out}\n")
    assert len(Table.read(tmp_path / "new folder" / "x.fits")) == 1


def test_what_goes_to_a_file_only_and_what_to_the_screen_only(tmp_path: Path) -> None:
    for form in ("parquet", "fits", "votable", "ecsv"):
        with pytest.raises(UsageError, match=f"{form} goes to a file; name one with -o"):
            write_table(TABLE, None, form)
    with pytest.raises(UsageError, match="the format 'table' is for the screen"):
        write_table(TABLE, tmp_path / "x.csv", "table")


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet", "fits", "ecsv", "vot"])
def test_a_file_that_cannot_be_written_is_named(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / f"folder.{suffix}").mkdir()
    for out in (tmp_path / "file" / f"x.{suffix}", tmp_path / f"folder.{suffix}"):
        with pytest.raises(SkylakeError, match=rf"{out}: cannot be written \(.+\); name another file"):
            write_table(TABLE, out)
    assert (tmp_path / "file").read_text() == ""


def test_only_failures_of_the_disk_are_failures_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "x"):
        raise ZeroDivisionError
