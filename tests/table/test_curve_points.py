"""Measurements are divided into light curves as a loop over the rows would do it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from skylake.table.curve_points import curve_points

measurements = st.tuples(
    st.integers(-3, 3), st.sampled_from(["V", "R", None]), st.integers(0, 4), st.integers(0, 4), st.booleans()
)


@given(st.lists(measurements, max_size=30), st.booleans())
def test_curves_are_those_of_a_loop(found: list[tuple[Any, ...]], sort: bool) -> None:
    """Of rows in any order, and of those that are in order and can stay as they are."""
    if sort:
        found = sorted(found, key=lambda one: (one[0], one[1] or "", one[2], one[3]))
    star, band, mjd, frame, chosen = (
        (list(column) for column in zip(*found, strict=True)) if found else [[]] * 5
    )
    rows = pa.table(
        {
            "star": pa.array(star, pa.int64()),
            "band": pa.array(band, pa.string()),
            "mjd_mid": pa.array(mjd, pa.float64()),
            "frame_id": pa.array(frame, pa.int64()),
            "value": pa.array(range(len(found)), pa.float32()),
        }
    )
    points = curve_points(rows, "star", [rows["band"]], np.array(chosen, bool))
    kind = pa.struct({"value": pa.list_(pa.float32()), "computed": pa.list_(pa.float32())})
    computed = np.where(np.arange(len(found)) % 2 == 0, np.nan, np.arange(len(found)))
    curves = points.nested({"value": rows["value"], "computed": computed}, kind).to_pylist()
    expected: dict[Any, list[int]] = {}
    for row, one in enumerate(found):
        if one[4]:
            expected.setdefault((one[0], one[1] or ""), []).append(row)
    stars = list(dict.fromkeys(key[0] for key in expected))
    keys = sorted(expected, key=lambda key: (stars.index(key[0]), key[1]))
    assert points.n_curves == len(keys) == len(curves)
    for key, count, first, last, curve in zip(
        keys, points.counts, points.first, points.last, curves, strict=True
    ):
        mine = sorted(expected[key], key=lambda row: (mjd[row], frame[row], row))
        assert (count, first, last) == (len(mine), mine[0], mine[-1])
        assert curve["value"] == mine
        assert curve["computed"] == [None if row % 2 == 0 else row for row in mine]
