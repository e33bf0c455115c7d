from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from skylake.core.flags import FrameFlag, SourceFlag
from skylake.errors import ConfigurationError
from skylake.schema import flag_texts, load, meanings, table_names
from skylake.schema.tables import TableSchema, read_schema, read_yaml

Changed = Callable[..., TableSchema]
NAMES = [*table_names(), "catalog"]


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_what_its_file_says(name: str, schemas: Path) -> None:
    schema, data = load(name), read_yaml(schemas / f"{name}.yaml")
    assert schema.name == name
    assert list(schema.names) == [column["name"] for column in data["columns"]]
    for column, said in zip(schema.columns, data["columns"], strict=True):
        assert schema[column.name] is column
        assert (column.datatype, column.unit, column.ucd) == (
            said["datatype"], said.get("ivoa:unit"), said.get("ivoa:ucd"),
        )  # fmt: skip
        assert column.nullable is said["nullable"]
        assert column.length == said.get("length")
        assert len(column.columns) == len(said.get("columns", ()))
    assert read_schema(schemas / f"{name}.yaml") == schema


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_fit_for_its_layout(name: str) -> None:
    schema = load(name)
    needed = {*schema.primary_key, *schema.layout.sort}
    if schema.layout.kind == "hats":
        assert schema.layout.sort[0] == "_healpix_29"
        needed |= {"_healpix_29", schema.layout.ra, schema.layout.dec}
        assert not any(schema[column].nullable for column in needed if column)
        assert schema.layout.catalog_type in ("source", "object")
    assert not any(schema[key].nullable for key in schema.primary_key)
    assert schema.version >= 1


@pytest.mark.parametrize("name", NAMES)
def test_texts_say_something_and_types_have_what_they_need(name: str) -> None:
    schema = load(name)
    for column in [*schema.columns, *(inner for outer in schema.columns for inner in outer.columns)]:
        assert column.description
        assert (column.length is not None) == (column.datatype == "string"), column.name
        assert bool(column.columns) == (column.datatype == "nested"), column.name


@pytest.mark.parametrize("name", ["flags", "weather", "../schemas/frames", ""])
def test_what_is_no_table_is_reported(name: str) -> None:
    with pytest.raises(ConfigurationError, match="the tables are frames, sources, forced_sources"):
        load(name)
    with pytest.raises(KeyError):
        load("frames")["weather"]


def _add_key(data: dict[str, Any]) -> None:
    data["columns"][2]["colour"] = "red"


def _add_type(data: dict[str, Any]) -> None:
    data["columns"][2]["datatype"] = "complex"


def _double(data: dict[str, Any]) -> None:
    data["columns"].append(data["columns"][0])


def _rename_key(data: dict[str, Any]) -> None:
    data["primaryKey"] = ["number"]


def _drop_layout(data: dict[str, Any]) -> None:
    del data["layout"]


def _drop_type(data: dict[str, Any]) -> None:
    del data["columns"][2]["datatype"]


def _list_names(data: dict[str, Any]) -> None:
    data["columns"] = ["camera", "night"]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_drop_layout, "has no key 'layout'"),
        (_drop_type, "has no key 'datatype'"),
        (_list_names, "this is no schema of a table"),
        (_add_key, "column 'night' has the unknown key 'colour'"),
        (_add_type, "column 'night' has the unknown datatype 'complex'"),
        (_double, "a column name occurs twice"),
        (_rename_key, "the key, sort, batch or default column 'number' is no column"),
    ],
)
def test_a_file_that_breaks_the_vocabulary_is_named(
    damage: Callable[[dict[str, Any]], None], sentence: str, schemas: Path
) -> None:
    path = schemas / "frames.yaml"
    data = read_yaml(path)
    damage(data)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        read_schema(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["columns: [", "- name\n- columns\n", "", "a: \x00"])
def test_a_file_that_is_no_yaml_of_names_and_values_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"x\.yaml: this is no YAML file"):
        read_schema(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("flux", {"datatype": "double"}),
        ("flux", {"name": "light"}),
        ("flux", {"nullable": False}),
        ("flux", {"unit": "Jy"}),
        ("curve.mag", {"unit": "mmag"}),
    ],
)
def test_the_checksum_shows_what_readers_depend_on(
    name: str, change: dict[str, Any], table: TableSchema, changed: Changed
) -> None:
    assert changed(table, name, **change).sha256 != table.sha256
    assert replace(table, columns=table.columns[::-1]).sha256 != table.sha256


def test_the_checksum_does_not_depend_on_texts(table: TableSchema, changed: Changed) -> None:
    new = changed(replace(table, description="Other"), "flux", description="Light", ucd="phot.count")
    assert new.sha256 == table.sha256


def test_a_schema_is_extended_at_its_end(table: TableSchema) -> None:
    extended = table.extended("more", load("nights").columns[:2])
    assert extended.names == (*table.names, "camera", "night")
    assert extended.name == "more"


@pytest.mark.parametrize(("name", "flags"), [("sources", SourceFlag), ("frames", FrameFlag)])
def test_every_flag_is_registered_with_a_text(name: Any, flags: Any) -> None:
    texts = flag_texts(name)
    assert {flag.name: flag.value for flag in flags} == {key: value for key, (value, _) in texts.items()}
    assert all(text for _, text in texts.values())


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_meaning_is_that_of_every_table_that_has_the_name(name: str) -> None:
    known = meanings()
    for column in load(name).columns:
        if column.name in known:
            meaning = known[column.name]
            assert meaning.get("unit") == column.unit
            assert meaning.get("ucd") in (None, column.ucd)
            assert meaning.get("description") in (None, column.description)
    assert known["ra_deg"] == {"unit": "deg", "ucd": "pos.eq.ra;meta.main"}


@pytest.mark.parametrize("name", NAMES[:-1])
def test_the_meanings_of_one_table_are_those_of_its_columns(name: str) -> None:
    known = meanings(load(name))
    for column in load(name).columns:
        if not any(inner.name == column.name for nested in load(name).columns for inner in nested.columns):
            values = {"unit": column.unit, "ucd": column.ucd, "description": column.description}
            assert known[column.name] == {key: value for key, value in values.items() if value}
