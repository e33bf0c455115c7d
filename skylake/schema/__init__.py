"""Schemas as data: one YAML file a table, from which everything that knows columns is made."""

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
