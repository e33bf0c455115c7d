"""The table ``alerts``: what has changed in a night among the stars and places that somebody watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from skylake.core.ids import content_id
from skylake.schema import conform, empty_table, load

#: What may have happened.
BRIGHTER, FAINTER, APPEARED, VANISHED, RETURNED = "brighter", "fainter", "appeared", "vanished", "returned"
_NAMED_BY = ("watch_list", "camera", "night", "band", "catalog", "object_id", "kind")


def alerts_table(rows: Sequence[Mapping[str, Any]], camera: str, night: int) -> pa.Table:
    """Return alerts of a night of a camera as rows of the schema; NaN is null.

    Parameters
    ----------
    rows : sequence of mapping
        Values by column; what is left out is null. Identifiers, camera and night are added.
    camera, night : str, int
    """
    schema = load("alerts")
    if not rows:
        return empty_table(schema)
    made = [dict(row) | {"camera": camera, "night": night} for row in rows]
    for row in made:
        row["alert_id"] = content_id(*(str(row[name]) for name in _NAMED_BY))
    columns = {name: [_plain(row.get(name)) for row in made] for name in schema.names}
    return conform(pa.table(columns), schema)


def _plain(value: Any) -> Any:
    """Return a value as Python has it; None for NaN."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
