from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skylake.errors import SchemaError
from skylake.schema import arrow_schema, load
from skylake.table.frames import frames_table

LEAST: dict[str, Any] = {
    "frame_id": 7,
    "camera": "lab",
    "night": 0,
    "file": "/nowhere/a.fits",
    "extension": 0,
    "status": "failed",
    "flags": 0,
    "config_sha256": "0" * 64,
    "software_version": "0",
}


def test_what_a_row_does_not_tell_is_null() -> None:
    table = frames_table([LEAST, LEAST | {"frame_id": 8, "fwhm_px": 2.5, "reason": "no_time"}])
    assert table.schema.equals(arrow_schema(load("frames")), check_metadata=True)
    assert table["frame_id"].to_pylist() == [7, 8]
    assert table["fwhm_px"].to_pylist() == [None, 2.5] and table["reason"].to_pylist() == [None, "no_time"]
    known = {name for name in table.column_names if table[name].null_count == 0}
    assert known == set(LEAST)


def test_nan_is_null_and_numpy_numbers_are_numbers() -> None:
    row = LEAST | {"fwhm_px": float("nan"), "n_detected": np.int64(5), "sky_adu": np.float32(1.5)}
    (found,) = frames_table([row]).to_pylist()
    assert (found["fwhm_px"], found["n_detected"], found["sky_adu"]) == (None, 5, 1.5)


def test_no_rows_are_an_empty_table() -> None:
    assert frames_table([]).num_rows == 0
    assert frames_table(iter([LEAST])).num_rows == 1


def test_a_row_without_its_key_is_refused() -> None:
    with pytest.raises(SchemaError, match="frame_id"):
        frames_table([{key: value for key, value in LEAST.items() if key != "frame_id"}])
