"""Light curves of targets are those of a loop over targets; means are of fluxes, those below zero too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.calibration.calibrated_forced import ForcedPhotometry
from skylake.core.camera import Site
from skylake.core.flags import SourceFlag
from skylake.core.sphere import healpix_index
from skylake.schema import arrow_schema, conform, load
from skylake.table.forced_lightcurves import TargetFacts, forced_lightcurves_table

SITES = {"lab": Site(), "other": Site()}

#: Star, camera, band, time, flux, error, zeropoint (None for none), whether it is spoiled.
points = st.tuples(
    st.integers(1, 3), st.sampled_from(["lab", "other"]), st.sampled_from(["V", "R"]), st.integers(0, 5),
    st.integers(-20, 200).map(float), st.integers(1, 9).map(float), st.sampled_from([None, 20.0, 21.5]), st.booleans(),
)  # fmt: skip


def build(values: list[tuple[Any, ...]]) -> tuple[pa.Table, ForcedPhotometry, TargetFacts]:
    star, camera, band, mjd, flux, error, zp, spoiled = (
        np.array(one, object) for one in zip(*values, strict=True)
    )
    n, ra = len(values), 10.0 * star.astype(float)
    plain = {"int64": 1, "int32": 1, "double": 1.0, "float": 1.0, "string": "x"}
    schema = load("forced_sources")
    columns: dict[str, Any] = {
        item.name: pa.nulls(n, item.type)
        if item.nullable
        else pa.array([plain[str(item.type)]] * n, item.type)
        for item in arrow_schema(schema)
    }
    columns |= {
        "star_id": star.astype(int), "camera": camera, "mjd_mid": 60000.0 + mjd.astype(float), "ra_deg": ra,
        "dec_deg": 0.1 * ra, "_healpix_29": healpix_index(ra, 0.1 * ra), "frame_id": np.arange(n),
        "flags": np.where(spoiled.astype(bool), int(SourceFlag.SATURATED), int(SourceFlag.BLENDED)),
    }  # fmt: skip
    zero = np.array([np.nan if one is None else one for one in zp])
    known = np.isfinite(zero)
    flux, error = (np.where(known, one.astype(float), np.nan) for one in (flux, error))
    nothing = np.full(n, np.nan)
    photometry = ForcedPhotometry(
        flux,
        error,
        zero,
        np.where(known, 0.02, np.nan),
        nothing,
        nothing,
        nothing,
        2.0 * error,
        np.full(n, 4),
        np.full(n, 0.012),
        np.full(n, 0.016),
        np.ones(n),
    )
    names = np.array(["cat"] * n, object)
    facts = TargetFacts(
        names, star.astype(int), nothing, nothing, nothing, np.where(known, band, None), names
    )
    return conform(pa.table(columns), schema), photometry, facts


@given(st.lists(points, min_size=1, max_size=25))
def test_light_curves_are_those_of_a_loop_over_targets(values: list[tuple[Any, ...]]) -> None:
    found = forced_lightcurves_table(*build(values), SITES).to_pylist()
    expected: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for number, (star, camera, band, mjd, *rest) in enumerate(values):
        if rest[2] is not None:
            expected.setdefault((star, camera, band), []).append((mjd, number, *rest))
    assert {(row["star_id"], row["camera"], row["band"]) for row in found} == set(expected)
    assert len(found) == len(expected)
    for row in found:
        mine = sorted(expected[row["star_id"], row["camera"], row["band"]])
        assert row["lightcurve"]["frame_id"] == [one[1] for one in mine]
        assert row["lightcurve"]["flux"] == pytest.approx([one[2] for one in mine], rel=1e-6)
        parts = row["lightcurve_errors"]
        assert parts["mag_systematic_err"] == pytest.approx([0.016] * len(mine))
        relative = [1.0857362 * one[3] / one[2] if one[2] > 0 else None for one in mine]
        assert parts["mag_random_err"] == [
            None if one is None else pytest.approx(np.hypot(one, 0.012), rel=1e-5) for one in relative
        ]
        assert (row["mjd_first"], row["mjd_last"]) == (60000.0 + mine[0][0], 60000.0 + mine[-1][0])
        clean = [one for one in mine if not one[5]]
        assert (row["n_points"], row["n_clean"]) == (len(mine), len(clean))
        assert row["n_detected"] == sum(flux >= 5 * error for _, _, flux, error, _, _ in clean)
        if not clean:
            assert row["mag_mean"] is None and row["snr_mean"] is None
            continue
        flux, error, zp = (np.array([one[place] for one in clean]) for place in (2, 3, 4))
        unit = 10.0 ** (-0.4 * zp)
        weight = 1.0 / (error * unit) ** 2
        mean = np.sum(weight * flux * unit) / np.sum(weight)
        spread = unit * np.hypot(error, flux * 0.012 / (2.5 / np.log(10.0)))
        mean_err = np.sqrt(np.sum((weight * spread) ** 2)) / np.sum(weight)
        if len(clean) > 1:
            free = len(clean) - 2 + mean_err**2 * np.sum(spread**-2)
            assert row["chi2"] == pytest.approx(np.sum(((flux * unit - mean) / spread) ** 2) / free, rel=1e-5)
        else:
            assert row["chi2"] is None
        assert row["snr_mean"] == pytest.approx(mean / mean_err, rel=1e-5)
        assert row["mag_mean_limit"] == pytest.approx(-2.5 * np.log10(5.0 * mean_err))
        if mean > 0:
            assert row["mag_mean"] == pytest.approx(-2.5 * np.log10(mean))
            assert row["mag_mean_random_err"] == pytest.approx(2.5 / np.log(10.0) * mean_err / mean)
            assert row["mag_mean_systematic_err"] == pytest.approx(0.016), "no mean makes it smaller"
            assert row["mag_mean_err"] == pytest.approx(np.hypot(row["mag_mean_random_err"], 0.016))
        else:
            assert row["mag_mean"] is None and row["mag_mean_err"] is None
            assert row["mag_mean_random_err"] is None and row["mag_mean_systematic_err"] is None


def test_without_calibrated_points_there_are_no_light_curves() -> None:
    table = forced_lightcurves_table(*build([(1, "lab", "V", 0, 5.0, 1.0, None, False)]), SITES)
    assert table.num_rows == 0
    assert table.schema.equals(arrow_schema(load("forced_lightcurves")))
