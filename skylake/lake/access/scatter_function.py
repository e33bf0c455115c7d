"""The function of DuckDB that holds the scatter of stars against that of others of their magnitude."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

_RESULTS = ("expected_scatter", "noise_excess", "significance", "false_alarm")


def add_scatter_function(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a connection ``judge_scatter(magnitudes, scatters, counts, errors)``, which the view ``candidates`` calls.

    It takes lists of the stars of a camera and band, and returns a struct for each as
    :func:`skylake.curves.scatter_excess.scatter_excess` has it; null where a star cannot be judged.
    """
    import duckdb

    create: Any = connection.create_function
    fields = ", ".join(f"{name} DOUBLE" for name in _RESULTS)
    create(
        "judge_scatter",
        _judge,
        [duckdb.sqltype(one) for one in ("DOUBLE[]", "DOUBLE[]", "BIGINT[]", "DOUBLE[]")],
        duckdb.sqltype(f"STRUCT({fields})[]"),
        type="arrow",
    )


def _judge(magnitudes: Any, scatters: Any, counts: Any, errors: Any) -> pa.Array:
    # Only when a query needs it, so that short queries start fast.
    from skylake.curves.scatter_excess import scatter_excess

    offsets, found = [0], []
    for place in range(len(magnitudes)):
        given = [_values(one[place]) for one in (magnitudes, scatters, counts, errors)]
        mag, scatter, n_points, error = given
        judged = scatter_excess(mag, scatter, n_points.astype(np.int64), error)
        found.append([judged.expected, judged.excess, judged.significance, judged.false_alarm])
        offsets.append(offsets[-1] + len(mag))
    columns = np.concatenate(found, axis=1) if found else np.zeros((len(_RESULTS), 0))
    values = [pa.array(one, pa.float64(), from_pandas=True) for one in columns]
    struct = pa.StructArray.from_arrays(values, names=list(_RESULTS))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), struct)


def _values(one: pa.ListScalar) -> np.ndarray:
    return np.asarray(one.values.to_numpy(zero_copy_only=False), float)
