from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.calibration.version_differences import COLUMNS, changed_bands, difference, summed_up
from skylake.schema import arrow_schema, load


def zeropoints(*rows: tuple[int, int, str | None, float | None]) -> pa.Table:
    """Rows of (frame_id, version, band, zp); frames from 100 on are of the next night."""
    types = arrow_schema(load("zeropoints"))
    full: list[dict[str, Any]] = [
        {
            "frame_id": frame, "camera": "lab", "night": 20240407 + frame // 100, "band": band,
            "mjd_mid": 60408.0 + frame / 100, "version": version, "zp": zp, "colour_term": 0.1 * version,
        }
        for frame, version, band, zp in rows
    ]  # fmt: skip
    return pa.table({name: pa.array([row[name] for row in full], types.field(name).type) for name in COLUMNS})


def test_a_night_sums_up_what_a_loop_over_its_frames_finds() -> None:
    random = np.random.default_rng(2)
    first, second = 18.0 + random.normal(0, 0.01, 40), 18.1 + random.normal(0, 0.01, 40)
    rows = [(i, 1, "V", float(zp)) for i, zp in enumerate(first)] + [
        (i, 2, "V", float(zp)) for i, zp in enumerate(second)
    ]
    found = difference(zeropoints(*random.permutation(np.array(rows, object)).tolist()), 1, 2)
    (row,) = summed_up(found)
    apart = second - first
    assert (row["camera"], row["night"], row["band"], row["n_both"]) == ("lab", 20240407, "V", 40)
    assert row["median_mag"] == pytest.approx(np.median(apart))
    assert row["scatter_mag"] == pytest.approx(1.4826 * np.median(np.abs(apart - np.median(apart))), rel=1e-4)
    worst = int(np.argmax(np.abs(apart)))
    assert (row["largest_mag"], row["largest_frame_id"]) == (pytest.approx(apart[worst]), worst)
    assert row["colour_term"] == pytest.approx(0.1)


def test_frames_that_one_version_lacks_are_counted_by_night() -> None:
    rows = zeropoints(
        (1, 1, "V", 18.0), (1, 2, "V", 18.2), (2, 1, "V", 18.0), (3, 2, "V", 18.0),
        (4, 1, "V", 18.0), (4, 2, "V", None), (101, 1, "V", None), (101, 2, "V", 18.0),
    )  # fmt: skip
    one, other = summed_up(difference(rows, 1, 2))
    assert [one[name] for name in ("n_both", "n_only_first", "n_only_second", "median_mag")] == [
        1, 2, 1, pytest.approx(0.2),
    ]  # fmt: skip
    assert one["scatter_mag"] is None, "one frame has none"
    assert [other[name] for name in ("n_both", "n_only_first", "n_only_second", "median_mag")] == [
        0,
        0,
        1,
        None,
    ]


def test_a_frame_that_changed_its_band_has_no_difference() -> None:
    found = difference(
        zeropoints((1, 1, "V", 18.0), (1, 2, "B", 19.0), (2, 1, "V", 18.0), (2, 2, "V", 18.1)), 1, 2
    )
    (row,) = summed_up(found)
    assert (row["band"], row["n_both"], row["n_other_band"]) == ("V", 2, 1)
    assert row["largest_mag"] == pytest.approx(0.1)
    assert changed_bands(found) == {("lab", "V", "B"): 1}


def test_nothing_to_compare_is_no_row() -> None:
    assert summed_up(difference(zeropoints((1, 3, "V", 18.0)), 1, 2)) == []
