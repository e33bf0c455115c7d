"""Which measurements of a table are of which light curve, in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class CurvePoints:
    """The measurements of light curves, curve after curve, each in the order of time.

    Attributes
    ----------
    rows : slice or ndarray of int, shape (n,)
        Row of each measurement in the table; a slice where the table has no others and is in order already.
    starts : ndarray of int, shape (n_curves + 1,)
        Where each curve starts, and the last one ends.
    """

    rows: slice | Places
    starts: Places

    @property
    def n_curves(self) -> int:
        """The number of light curves."""
        return len(self.starts) - 1

    @property
    def counts(self) -> Places:
        """Measurements of each curve."""
        return np.diff(self.starts)

    @property
    def first(self) -> Places:
        """Row of the first measurement of each curve."""
        return self.starts[:-1] if isinstance(self.rows, slice) else self.rows[self.starts[:-1]]

    @property
    def last(self) -> Places:
        """Row of the last measurement of each curve."""
        ends = self.starts[1:] - 1
        return ends if isinstance(self.rows, slice) else self.rows[ends]

    def column(self, values: pa.ChunkedArray) -> pa.Array:
        """Return a column of the table, measurement by measurement."""
        values = pa.chunked_array(values).combine_chunks()
        return values if isinstance(self.rows, slice) else values.take(pa.array(self.rows))

    def nested(self, values: Mapping[str, Floats | pa.ChunkedArray], kind: pa.StructType) -> pa.StructArray:
        """Return values of all rows of the table as a nested column, a list of measurements for each curve.

        Parameters
        ----------
        values : mapping
            Array or column of each field of `kind`, a value for each row of the table; NaN in an array is null.
        kind : pyarrow.StructType
            Of lists.
        """
        offsets, lists = pa.array(self.starts, pa.int32()), []
        for inner in kind:
            given, type_ = values[inner.name], inner.type.value_type
            if isinstance(given, np.ndarray):
                # Casts with gaps are slow, so numpy makes the numbers single.
                array = given[self.rows].astype(type_.to_pandas_dtype(), copy=False)
                column = pa.array(array, type_, from_pandas=array.dtype.kind == "f")
            else:
                column = self.column(given).cast(type_)
            lists.append(pa.ListArray.from_arrays(offsets, column, type=inner.type))
        return pa.StructArray.from_arrays(lists, fields=list(kind))


def curve_points(
    rows: pa.Table, key: str, labels: Sequence[pa.ChunkedArray | pa.Array], chosen: npt.NDArray[np.bool_]
) -> CurvePoints:
    """Return the measurements of each light curve: those of one object with the same labels.

    Objects come as they come first among the chosen rows, so a table that is sorted by position stays so; the curves
    of an object in the order of their labels.

    Parameters
    ----------
    rows : pyarrow.Table
        With ``mjd_mid`` and ``frame_id``, by which the measurements of a curve are put in order.
    key : str
        Column with the number of the object.
    labels : sequence of columns of text
        As band and camera; null counts as empty.
    chosen : ndarray of bool, shape (n,)
        The rows that are taken.
    """
    # Who reads the light curve of one star does not wait for compiled code.
    from skylake.calibration.global_kernels import grouped
    from skylake.table.curve_kernels import is_in_time

    group, count = _groups(rows, key, labels, chosen)
    some = slice(None) if len(group) == rows.num_rows else np.flatnonzero(chosen)
    mjd, frame = (rows[name].to_numpy()[some] for name in ("mjd_mid", "frame_id"))
    starts, order = grouped(group, count)
    used = np.append(np.diff(starts) > 0, True)
    if not is_in_time(order, starts, mjd, frame):
        order = np.lexsort((frame, mjd, group))
    elif (np.diff(group) >= 0).all():
        return CurvePoints(some, starts[used])
    return CurvePoints(order if isinstance(some, slice) else some[order], starts[used])


def _groups(
    rows: pa.Table, key: str, labels: Sequence[pa.ChunkedArray | pa.Array], chosen: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], int]:
    """Return a number for each chosen row, the same for those of one curve, and what it is less than."""
    mask = None if chosen.all() else pa.array(chosen)
    number, values = _codes(rows[key], mask)
    count = max(len(values), 1)
    for label in labels:
        codes, texts = _codes(pc.fill_null(label, ""), mask)
        if len(texts) > 1:
            rank = np.argsort(np.argsort(texts.to_numpy(zero_copy_only=False).astype(str)))
            number, count = number * len(texts) + rank[codes], count * len(texts)
    return number, count


def _codes(
    column: pa.ChunkedArray | pa.Array, mask: pa.Array | None
) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return numbers of the values of a column in the order in which they come, and these values."""
    whole = pa.chunked_array(column).combine_chunks()
    encoded = (whole if mask is None else whole.filter(mask)).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary
