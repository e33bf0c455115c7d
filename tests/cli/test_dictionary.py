from __future__ import annotations

import re

from skylake.cli.generate import dictionary
from skylake.schema import flag_texts, load, table_names
from skylake.schema.tables import ON_REQUEST

TEXT = dictionary()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))


def rows(title: str) -> list[list[str]]:
    lines = [line for line in SECTIONS[title].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_tables_stand_in_the_order_in_which_they_are_made() -> None:
    assert list(SECTIONS) == [*table_names(), *ON_REQUEST, "Reference catalogs", "Flag bits"]


def test_every_column_is_reported_with_type_unit_and_meaning() -> None:
    for name in (*table_names(), *ON_REQUEST, "catalog"):
        schema = load(name)
        wanted = []
        for column in schema.columns:
            wanted.append((column.name, column))
            wanted += [(f"{column.name}.{inner.name}", inner) for inner in column.columns]
        found = rows("Reference catalogs" if name == "catalog" else name)
        assert [row[0].strip("`") for row in found] == [shown for shown, _ in wanted]
        for row, (_, column) in zip(found, wanted, strict=True):
            assert row[1] == column.datatype + (", null" if column.nullable else "")
            assert row[2] == (column.unit or "")
            assert row[3].replace("\\|", "|") == column.description


def test_every_flag_is_reported_with_bit_value_and_meaning() -> None:
    for table in ("sources", "frames"):
        for name, (value, text) in flag_texts(table).items():  # type: ignore[arg-type]
            assert f"| {value.bit_length() - 1} | {value} | {name} | {text} |" in SECTIONS["Flag bits"]
