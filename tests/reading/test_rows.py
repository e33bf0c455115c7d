from __future__ import annotations

import builtins
from decimal import Decimal
from typing import Any

import numpy as np
import polars
import pyarrow as pa
import pytest
from astropy.table import QTable

from skylake.errors import UsageError
from skylake.reading.rows import Rows


@pytest.fixture
def rows() -> Rows:
    own = pa.field("mag", pa.float64(), metadata={"unit": "mmag"})
    schema = pa.schema([pa.field("mjd_mid", pa.float64()), own, pa.field("n", pa.int64())])
    return Rows(pa.table([[60400.5, None], [1.0, 2.0], [1, 2]], schema=schema))


def test_units_of_a_field_win_over_those_of_its_name(rows: Rows) -> None:
    assert rows.units == {"mjd_mid": "d", "mag": "mmag"}
    assert rows.pandas().attrs["units"] == rows.units
    assert rows.arrow().schema.field("mjd_mid").metadata[b"unit"] == b"d"


def test_conversions(rows: Rows) -> None:
    assert len(rows) == 2 and rows.columns == ("mjd_mid", "mag", "n")
    assert rows.arrow().to_pylist()[1] == {"mjd_mid": None, "mag": 2.0, "n": 2}
    assert rows.pandas()["mjd_mid"].isna().tolist() == [False, True]
    assert rows.polars().equals(polars.DataFrame(rows))
    assert pa.table(rows).equals(rows.arrow())


def test_astropy_has_units_descriptions_and_masks(rows: Rows) -> None:
    table = rows.astropy()
    assert [str(column.unit) for column in table.itercols()] == ["d", "mmag", "None"]
    assert table["mjd_mid"].mask.tolist() == [False, True] and table["mjd_mid"][0] == 60400.5
    assert not table.mask["mag"].any() and table["n"].dtype == np.int64
    quantity = QTable(table)["mag"]
    assert quantity.to("mag").value.tolist() == [0.001, 0.002]


def test_astropy_takes_every_type_of_a_query() -> None:
    columns = {
        "sum": pa.array([Decimal(7), None], pa.decimal128(38, 0)),
        "much": pa.array([Decimal(10) ** 30, Decimal(1)], pa.decimal128(38, 0)),
        "price": pa.array([Decimal("1.25"), Decimal("2.5")], pa.decimal128(10, 2)),
        "text": pa.array(["é", None]),
        "good": pa.array([True, None]),
        "when": pa.array([0, None], pa.timestamp("us", "UTC")),
        "list": pa.array([[1, 2], None]),
        "small": pa.array([0.1, None], pa.float32()),
    }
    table = Rows(pa.table(columns)).astropy()
    assert table["sum"].dtype == np.int64 and table["sum"][0] == 7
    assert table["much"].tolist() == [1e30, 1.0] and table["price"].tolist() == [1.25, 2.5]
    assert table["text"][0] == "é" and table["good"][0] and table["when"][0].startswith("1970-01-01 00:00:00")
    assert table["list"][0] == [1, 2] and table["small"].dtype == np.float32
    for name in ("sum", "text", "good", "when", "list", "small"):
        assert table[name].mask.tolist() == [False, True], name


def test_words(rows: Rows) -> None:
    assert repr(rows) == "<Rows: mjd_mid, mag, n; rows: 2>"
    assert "<th>mjd_mid [d]</th><th>mag [mmag]</th><th>n</th>" in rows._repr_html_()
    assert "<tr><td></td><td>2</td><td>2</td></tr>" in rows._repr_html_()


def test_html_is_text() -> None:
    evil = Rows(pa.table({"<b>": ["<script>alert(1)</script>"]}))._repr_html_()
    assert "<th>&lt;b&gt;</th>" in evil and "<script>" not in evil


def test_without_polars(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "polars":
            raise ImportError(name)
        return found(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r'not installed; run `pip install -e "\.\[polars\]"` in the folder'):
        rows.polars()
