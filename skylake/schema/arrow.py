"""Arrow schemas of the tables, and the checks that each table passes before it is written."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa

from skylake.errors import SchemaError
from skylake.schema.tables import TABLES, Column, TableSchema, values_of

_ARROW = {
    "boolean": pa.bool_(),
    "byte": pa.int8(),
    "short": pa.int16(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "text": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
#: Characters that astropy reads of a text that may have any length.
_TEXT_LENGTH = 2048
#: Metadata of a table of a user: its schema, in the form of its YAML file.
SCHEMA = "skylake.schema"
_DATATYPES = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_int8, "byte"),
    (lambda kind: pa.types.is_int16(kind) or pa.types.is_uint8(kind), "short"),
    (lambda kind: pa.types.is_int32(kind) or pa.types.is_uint16(kind), "int"),
    (lambda kind: pa.types.is_integer(kind) or _is_whole(kind), "long"),
    (lambda kind: pa.types.is_float16(kind) or pa.types.is_float32(kind), "float"),
    (lambda kind: pa.types.is_float64(kind) or pa.types.is_decimal(kind), "double"),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "text"),
    (pa.types.is_timestamp, "timestamp"),
)
_VOTABLE = {
    "boolean": "boolean",
    # The bytes of VOTable have no sign.
    "byte": "short",
    "short": "short",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
}


def arrow_type(column: Column) -> pa.DataType:
    """Return the Arrow type of a column; nested columns are a struct of lists, as nested-pandas reads them."""
    if column.datatype == "nested":
        return pa.struct([pa.field(inner.name, pa.list_(_ARROW[inner.datatype])) for inner in column.columns])
    return _ARROW[column.datatype]


def datatype_of(kind: pa.DataType) -> str | None:
    """Return the datatype of a column for values of a type; None where none fits."""
    return next((datatype for fits, datatype in _DATATYPES if fits(kind)), None)


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind)) and kind.scale == 0


def column_of(field: pa.Field, name: str) -> Column | None:
    """Return a column for the values of a field of another table, under a name; None where no datatype fits.

    Unit, UCD and description are those of its metadata. A struct of lists becomes a nested column.
    """
    known = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    text, unit, ucd = known.get("description") or field.name, known.get("unit"), known.get("ucd")
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not pa.types.is_struct(kind):
        datatype = datatype_of(kind)
        return None if datatype is None else Column(name, datatype, text, True, unit or None, ucd or None)
    inner = [
        column_of(pa.field(one.name, one.type.value_type), one.name)
        for one in kind
        if pa.types.is_list(one.type) or pa.types.is_large_list(one.type)
    ]
    plain = tuple(column for column in inner if column is not None and not column.columns)
    return Column(name, "nested", text, columns=plain) if len(plain) == kind.num_fields else None


@cache
def arrow_schema(schema: TableSchema) -> pa.Schema:
    """Return the Arrow schema of a table, with units, UCDs and texts as metadata of its fields.

    The metadata of the table hold its name and schema version, a VOTable header after the IVOA note
    *Parquet in the VO* under the key ``IVOA.VOTable-Parquet.content``, and the lengths of texts as astropy looks for
    them: without, its ``Table.read`` fails where a text is null, and on a file without rows.
    """
    fields = [
        pa.field(column.name, arrow_type(column), nullable=column.nullable, metadata=_field_metadata(column))
        for column in schema.columns
    ]
    metadata = {
        "skylake.table": schema.name,
        "skylake.schema_version": str(schema.version),
        "skylake.schema_sha256": schema.sha256,
        "skylake.description": schema.description,
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": _votable_header(schema),
    }
    metadata |= {
        f"table::len::{column.name}": str(column.length or _TEXT_LENGTH)
        for column in schema.columns
        if column.datatype in ("string", "text")
    }
    if schema.name not in (*TABLES, "catalog"):
        # The schema of a table of a user is in the lake only.
        metadata[SCHEMA] = json.dumps(values_of(schema))
    return pa.schema(fields, metadata=metadata)


def _field_metadata(column: Column) -> dict[str, str]:
    metadata = {"description": column.description}
    if column.unit:
        metadata["unit"] = column.unit
    if column.ucd:
        metadata["ucd"] = column.ucd
    if column.columns:
        metadata["columns"] = json.dumps({inner.name: _field_metadata(inner) for inner in column.columns})
    return metadata


def _votable_header(schema: TableSchema) -> str:
    """Return a VOTable without rows: a FIELD for each column, and for each column of a nested one, which are a GROUP.

    Nested columns are those that hats writes: FIELDs of the name ``nested.column``, one array for each row.
    """
    root = ElementTree.Element("VOTABLE", version="1.4", xmlns="http://www.ivoa.net/xml/VOTable/v1.3")
    table = ElementTree.SubElement(ElementTree.SubElement(root, "RESOURCE", type="results"), "TABLE")
    table.set("name", schema.name)
    ElementTree.SubElement(table, "DESCRIPTION").text = schema.description
    for column in schema.columns:
        if not column.columns:
            _add_field(table, column)
        for inner in column.columns:
            _add_field(table, inner, column.name)
    for column in schema.columns:
        if column.columns:
            _add_group(table, column)
    return ElementTree.tostring(root, encoding="unicode")


def _add_field(table: ElementTree.Element, column: Column, nested: str = "") -> None:
    name = f"{nested}.{column.name}" if nested else column.name
    field = ElementTree.SubElement(table, "FIELD", ID=name, name=name)
    field.set("datatype", _VOTABLE.get(column.datatype, "char"))
    if nested or column.datatype not in _VOTABLE:
        field.set("arraysize", "*" if nested else str(column.length or _TEXT_LENGTH))
    if column.unit:
        field.set("unit", column.unit)
    if column.ucd:
        field.set("ucd", column.ucd)
    ElementTree.SubElement(field, "DESCRIPTION").text = column.description


def _add_group(table: ElementTree.Element, column: Column) -> None:
    group = ElementTree.SubElement(table, "GROUP", name=column.name)
    ElementTree.SubElement(group, "DESCRIPTION").text = column.description
    ElementTree.SubElement(group, "PARAM", name="is_nested_column", datatype="boolean", value="T")
    for inner in column.columns:
        ElementTree.SubElement(group, "FIELDref", ref=f"{column.name}.{inner.name}")


def empty_table(schema: TableSchema) -> pa.Table:
    """Return a table of the schema without rows."""
    return arrow_schema(schema).empty_table()


def conform(table: pa.Table, schema: TableSchema) -> pa.Table:
    """Return `table` with exactly the columns, order and types of its schema.

    Missing nullable columns become null, and so does NaN: a lake holds no NaN. Numbers are cast where no
    value is lost.

    Raises
    ------
    SchemaError
        For a column that the schema lacks, a missing column or null where none may be, a value that does
        not fit the type, or a text that is too long. The sentence names the column and the first row.
    """
    known = set(schema.names)
    extra = [name for name in table.column_names if name not in known]
    if extra:
        raise SchemaError(
            f"table {schema.name}: the column {extra[0]!r} is not in schemas/{schema.name}.yaml"
        )
    given = dict(zip(table.column_names, table.columns, strict=True))
    columns = [
        _conform_column(given.get(column.name), table.num_rows, column, schema.name)
        for column in schema.columns
    ]
    return pa.Table.from_arrays(columns, schema=arrow_schema(schema))


def _conform_column(
    values: pa.ChunkedArray | None, n_rows: int, column: Column, name: str
) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    wanted = arrow_type(column)
    if values is None:
        if not column.nullable:
            raise SchemaError(f"table {name}: the column {column.name!r} is missing and may not be null")
        return pa.chunked_array([pa.nulls(n_rows, wanted)])
    if values.type != wanted:
        values = _cast(values, wanted, column, name)
    if pa.types.is_floating(wanted):
        values = _null_for_nan(values)
    if not column.nullable and values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise SchemaError(f"table {name}: the column {column.name!r} is null in row {row} and may not be")
    if column.length is not None:
        _refuse_long_text(values, column, name)
    return values


def _null_for_nan(values: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    missing = pc.is_nan(values)
    if not pc.any(missing).as_py():
        return values
    return pc.if_else(missing, pa.scalar(None, values.type), values)


def _cast(values: pa.ChunkedArray, wanted: pa.DataType, column: Column, name: str) -> pa.ChunkedArray:
    # Narrowing a float loses digits, as everywhere; anything else must keep its value.
    lossy = pa.types.is_floating(values.type) and pa.types.is_floating(wanted)
    try:
        return values.cast(wanted, safe=not lossy)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        row = _first_bad_row(values, wanted)
        raise SchemaError(
            f"table {name}: the column {column.name!r} holds {values[row].as_py()!r} in row {row}, "
            f"which is no {column.datatype}"
        ) from error


def _first_bad_row(values: pa.ChunkedArray, wanted: pa.DataType) -> int:
    """Find by bisection the first row that cannot be cast."""
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            values.slice(low, middle - low + 1).cast(wanted)
        except pa.ArrowException:
            high = middle
        else:
            low = middle + 1
    return low


def _refuse_long_text(values: pa.ChunkedArray, column: Column, name: str) -> None:
    import pyarrow.compute as pc

    lengths = pc.utf8_length(values)
    longest = pc.max(lengths).as_py()
    if longest is not None and column.length is not None and longest > column.length:
        row = pc.index(pc.greater(lengths, column.length), True).as_py()
        raise SchemaError(
            f"table {name}: the column {column.name!r} holds {longest} characters in row {row}; "
            f"{column.length} fit"
        )


def filter_columns(filter: Any, schema: pa.Schema) -> set[str]:
    """Return the columns of a schema that a filter of Arrow asks for.

    Raises
    ------
    pyarrow.ArrowException
        If it cannot be applied to rows of that schema.
    """
    # Not `schema.empty_table()`, which imports pandas.
    empty = pa.Table.from_batches([], schema=schema)
    empty.filter(filter)
    needed = set()
    for column in schema.names:
        try:
            empty.drop_columns([column]).filter(filter)
        except pa.ArrowInvalid:
            needed.add(column)
    return needed
