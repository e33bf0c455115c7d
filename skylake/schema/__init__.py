"""Schemas as data: one YAML file per table, from which all code that depends on columns is made."""

from skylake.schema.arrow import arrow_schema, conform, empty_table
from skylake.schema.tables import Column, TableLayout, TableSchema, flag_texts, load, meanings, table_names

__all__ = [
    "Column",
    "TableLayout",
    "TableSchema",
    "arrow_schema",
    "conform",
    "empty_table",
    "flag_texts",
    "load",
    "meanings",
    "table_names",
]
