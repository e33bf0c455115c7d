"""The type of a row of ``frames``, as text of Python, from its schema: so mypy knows names and types of columns."""

from __future__ import annotations

from skylake.schema.tables import Column, load

_TYPES = {
    "boolean": "bool",
    **dict.fromkeys(("byte", "short", "int", "long"), "int"),
    **dict.fromkeys(("float", "double"), "float"),
    **dict.fromkeys(("string", "text"), "str"),
    "nested": "dict[str, Any]",
}

_BEGIN = '''"""A row of ``frames`` while its frame is reduced.

Generated from ``schemas/frames.yaml`` by `make generated`; do not edit.
"""

from __future__ import annotations

from typing import Any, TypedDict


class FrameRow(TypedDict, total=False):
    """Columns of ``frames`` that are known of a frame; those that are missing become null.

    ``docs/schema.md`` gives the meaning and unit of each column.
    """

'''


def frame_row_module() -> str:
    """Return the module that declares :class:`skylake.core.frame_row.FrameRow`.

    Raises
    ------
    ConfigurationError
        If the schema of ``frames`` breaks the vocabulary.
    """
    return _BEGIN + "".join(f"    {one.name}: {_type_of(one)}\n" for one in load("frames").columns)


def _type_of(column: Column) -> str:
    return _TYPES[column.datatype] + (" | None" if column.nullable else "")
