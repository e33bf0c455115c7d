from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.reasons import Status
from skylake.core.robust import sigma_mad
from skylake.schema import conform, empty_table, load
from skylake.table.nights import nights_table

frame_values = st.fixed_dictionaries(
    {
        "status": st.sampled_from([status.value for status in Status]),
        "band": st.sampled_from(["V", "R", None]),
        "mjd_mid": st.none() | st.floats(60408.0, 60409.0),
        "exposure_s": st.none() | st.floats(1.0, 100.0),
        "n_detected": st.none() | st.integers(0, 5000),
        "sky_adu": st.none() | st.floats(0.0, 5000.0, width=32),
        "fwhm_px": st.none() | st.floats(1.0, 9.0, width=32),
    }
)
zero_values = st.fixed_dictionaries(
    {
        "band": st.sampled_from(["V", "R", None]),
        "zp": st.none() | st.floats(19.0, 21.0),
        "zp_err": st.floats(0.001, 0.1),
        "colour_term": st.none() | st.floats(-0.3, 0.3),
        "colour_term_err": st.none() | st.floats(0.001, 0.1),
        "n_matched": st.integers(0, 500),
    }
)


def zeropoints(rows: list[dict[str, Any]]) -> pa.Table:
    if not rows:
        return empty_table(load("zeropoints"))
    full = [
        {"frame_id": i, "camera": "lab", "night": 20240407, "mjd_mid": 60408.1, "catalog": "simcat", "version": 2,
         "flux": "aper2", "n_used": 5, **row}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    return conform(pa.table({name: [row[name] for row in full] for name in full[0]}), load("zeropoints"))


def median(values: list[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def same(found: Any, expected: Any) -> None:
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-5))


@given(st.lists(frame_values, min_size=1, max_size=14), st.lists(zero_values, max_size=10))
def test_a_night_is_that_of_a_loop_over_its_frames(
    frame_rows: Callable[..., Any], frames: list[dict[str, Any]], zeros: list[dict[str, Any]]
) -> None:
    table = frame_rows(len(frames), **{name: [row[name] for row in frames] for name in frames[0]})
    found = nights_table(table, zeropoints(zeros)).to_pylist()
    assert [row["band"] for row in found] == sorted({row["band"] or "" for row in frames})
    for night in found:
        mine = [row for row in frames if (row["band"] or "") == night["band"]]
        good = [row for row in mine if row["status"] == "ok"]
        assert night["n_frames"] == len(mine) == sum(night[f"n_{status.value}"] for status in Status)
        for status in Status:
            assert night[f"n_{status.value}"] == sum(row["status"] == status for row in mine)
        times = [row["mjd_mid"] for row in mine if row["mjd_mid"] is not None]
        same(night["mjd_first"], min(times, default=None))
        same(night["mjd_last"], max(times, default=None))
        exposures = [row["exposure_s"] for row in good if row["exposure_s"] is not None]
        same(night["exposure_s"] or None, sum(exposures) or None)
        assert night["n_sources"] == sum(row["n_detected"] or 0 for row in good)
        same(night["fwhm_px"], median([row["fwhm_px"] for row in good]))
        skies = [
            row["sky_adu"] / row["exposure_s"]
            for row in good
            if row["sky_adu"] is not None and row["exposure_s"] is not None
        ]
        same(night["sky_adu_per_s"], median(skies))
        check_zeropoints(night, [row for row in zeros if (row["band"] or "") == night["band"]])


def check_zeropoints(night: dict[str, Any], zeros: list[dict[str, Any]]) -> None:
    known = [row for row in zeros if row["zp"] is not None]
    assert night["n_matched"] == sum(row["n_matched"] for row in zeros)
    assert night["n_zeropoints"] == len(known)
    assert night["catalog"] == ("simcat" if zeros else None) and night["version"] == (2 if zeros else None)
    same(night["zp_median"], median([row["zp"] for row in known]))
    same(night["colour_term"], median([row["colour_term"] for row in known]))
    if not known:
        assert night["zp_median_err"] is None
        return
    spread = np.sqrt(np.pi / 2.0) * sigma_mad([row["zp"] for row in known]) / np.sqrt(len(known))
    same(night["zp_median_err"], float(np.hypot(spread, np.median([row["zp_err"] for row in known]))))
    scatter = night["zp_scatter"]
    assert (scatter is None) == (len(known) < 2)
    if scatter is not None:
        assert scatter == pytest.approx(sigma_mad([row["zp"] for row in known]), rel=1e-5, abs=1e-12)


def test_the_error_of_a_night_is_at_least_what_frames_share(frame_rows: Callable[..., Any]) -> None:
    zeros = [
        {
            "band": "V",
            "zp": 20.0,
            "zp_err": 0.02,
            "colour_term": 0.1,
            "colour_term_err": 0.01,
            "n_matched": 40,
        }
        for _ in range(100)
    ]
    (night,) = nights_table(frame_rows(100), zeropoints(zeros)).to_pylist()
    assert night["zp_median_err"] == pytest.approx(0.02)


def test_a_single_frame_says_nothing_of_passing_clouds(frame_rows: Callable[..., Any]) -> None:
    zero = {"band": "V", "zp": 20.0, "zp_err": 0.02, "zp_random_err": 0.005, "n_matched": 40}
    for count in (1, 12):
        airmass = np.linspace(1.1, 1.9, count).tolist()
        frames = frame_rows(count, frame_id=list(range(count)), airmass=airmass)
        (night,) = nights_table(frames, zeropoints([zero] * count)).to_pylist()
        assert night["zp_zenith"] is not None and night["extinction"] is not None
        for name in ("p_steady", "cloud_mag", "n_cloudy", "zp_excess"):
            assert (night[name] is None) == (count == 1), name
