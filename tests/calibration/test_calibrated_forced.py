"""Forced fluxes become total flux and magnitudes as those of detections do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.calibration.calibrated_forced import FORCED_FRAME_COLUMNS, ForcedKind, calibrate_forced
from skylake.calibration.calibrated_matches import ZEROPOINT_COLUMNS
from skylake.schema import arrow_schema, conform, load

fluxes = st.lists(st.floats(-50.0, 1e4, width=32), min_size=1, max_size=8)


def rows(table: str, values: list[dict[str, Any]], names: Any = None) -> pa.Table:
    """Rows of a table, of which only some columns matter."""
    schema = arrow_schema(load(table))
    plain = {"string": "x", "int64": 1, "int32": 1, "double": 1.0, "float": 1.0}
    full = [
        {
            field.name: row.get(field.name, None if field.nullable else plain[str(field.type)])
            for field in schema
        }
        for row in values
    ]
    made = conform(pa.Table.from_pylist(full, schema=schema), load(table))
    return made if names is None else made.select(list(names))


def frames(*radii: float | None, correction: float = 1.25) -> pa.Table:
    row = {"frame_id": 7, "exposure_s": 10.0} | {f"apcor_aper{n}": correction * n for n in (1, 2, 3)}
    row |= {f"aper{n}_radius_px": radius for n, radius in enumerate(radii, start=1)}
    return rows("frames", [row], FORCED_FRAME_COLUMNS)


def zeropoints(flux: str, **values: Any) -> pa.Table:
    row = {
        "frame_id": 7,
        "flux": flux,
        "zp": 20.0,
        "zp_err": 0.01,
        "zp_fit_err": 0.005,
        "zp_random_err": 0.004,
    }
    row["version"] = 3
    return rows("zeropoints", [row | values], ZEROPOINT_COLUMNS)


def measured(values: list[float], **more: Any) -> pa.Table:
    found = []
    for flux in values:
        row: dict[str, Any] = {"frame_id": 7, "sky_rms_adu": 2.0, "flux_psf": 2 * flux, "flux_psf_err": 2.0}
        for number in (1, 2, 3):
            row |= {f"flux_hybrid{number}": flux + number, f"flux_hybrid{number}_err": 0.5 * number}
            row |= {f"flux_aper{number}": flux + 10 * number, f"flux_aper{number}_err": 0.6 * number}
        found.append(row | more)
    return rows("forced_sources", found)


@given(fluxes, st.sampled_from(["aper1", "aper2", "aper3"]), st.sampled_from([None, 0.9375, 1.0625]))
def test_the_aperture_is_that_of_the_zeropoint(
    values: list[float], name: str, relative: float | None
) -> None:
    number = int(name[-1])
    forced = measured(values, **{f"apcor_rel_{name}": relative})
    found = calibrate_forced(forced, np.full(len(values), np.nan), frames(3.0, 5.0, 8.0), zeropoints(name))
    factor = 1.25 * number * (1.0 if relative is None else relative)
    expected = (np.array(values, np.float32) + number) * factor
    assert found.flux == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert found.flux_err == pytest.approx(np.full(len(values), 0.5 * number * factor), rel=1e-5)
    assert np.isnan(found.mag[expected <= 0]).all()
    bright = expected > 1e-3
    assert found.mag[bright] == pytest.approx(20.0 - 2.5 * np.log10(expected[bright]), abs=1e-4)
    assert np.isfinite(found.mag_limit).all(), "a flux that is not positive has a limit"
    assert found.mag_limit == pytest.approx(20.0 - 2.5 * np.log10(5.0 * found.flux_err), abs=1e-6)
    assert found.sky_err == pytest.approx(np.full(len(values), 0.2 * factor), rel=1e-5)
    assert set(found.version.tolist()) == {3}


@pytest.mark.parametrize(("kind", "expected"), [("hybrid", 102 * 2.5), ("aper", 120 * 2.5), ("psf", 200.0)])
def test_each_flux_becomes_total_flux(kind: ForcedKind, expected: float) -> None:
    found = calibrate_forced(measured([100.0]), np.zeros(1), frames(3.0, 5.0, 8.0), zeropoints("aper2"), kind)
    assert found.flux == pytest.approx([expected])


@pytest.mark.parametrize(
    ("radii", "number"), [((3.0, 5.0, 8.0), 3), ((3.0, 5.0, None), 2), ((3.0, None, None), 1)]
)
def test_the_largest_circle_stands_for_the_kron_flux(radii: tuple[float | None, ...], number: int) -> None:
    found = calibrate_forced(measured([100.0]), np.zeros(1), frames(*radii), zeropoints("kron"))
    assert found.flux == pytest.approx([(100 + number) * 1.25 * number])


def test_the_colour_term_counts_from_the_pivot() -> None:
    zero = zeropoints(
        "aper1", colour_term=0.1, colour_term_err=0.02, pivot_colour=0.6, mean_colour=0.7, colour_spread=0.3,
        n_used=12,
    )  # fmt: skip
    found = calibrate_forced(measured([99.0, 99.0]), np.array([1.6, np.nan]), frames(3.0, 5.0, 8.0), zero)
    assert found.zp == pytest.approx([20.1, 20.0])
    known = np.hypot(0.005, 0.02 * 0.9)
    unknown = np.sqrt(0.005**2 + (0.02 * 0.1) ** 2 + 0.1**2 * (4 * 0.45**2 + 12 * (0.3**2 + 0.1**2)) / 16)
    assert found.zp_err == pytest.approx([known, unknown])
    assert found.zp_random_err == pytest.approx([0.004, 0.004])
    assert found.zp_systematic_err == pytest.approx(np.sqrt(np.array([known, unknown]) ** 2 - 0.004**2))
    assert found.mag_random_err == pytest.approx(
        np.hypot(2.5 / np.log(10.0) * found.flux_err / found.flux, 0.004)
    )


def test_correction_errors_cancel_in_the_calibrated_aperture() -> None:
    arguments = measured([99.0]), np.zeros(1), frames(3.0, 5.0, 8.0)
    same, other = (calibrate_forced(*arguments, zeropoints(flux)) for flux in ("aper3", "kron"))
    assert (same.zp_err[0], same.zp_random_err[0]) == pytest.approx((0.005, 0.004))
    aperture = 0.01**2 - 0.005**2
    assert other.zp_err[0] == pytest.approx(np.sqrt(0.005**2 + aperture))
    assert other.zp_random_err[0] == pytest.approx(np.sqrt(0.004**2 + aperture))
    assert other.zp_systematic_err == pytest.approx(same.zp_systematic_err)


def test_unknown_origins_of_errors_count_as_shared() -> None:
    found = calibrate_forced(
        measured([99.0]), np.zeros(1), frames(3.0, 5.0, 8.0), zeropoints("aper1", zp_random_err=None)
    )
    assert (found.zp_random_err.tolist(), found.zp_systematic_err.tolist()) == ([0.0], found.zp_err.tolist())


def test_a_frame_without_a_zeropoint_has_no_photometry() -> None:
    found = calibrate_forced(
        measured([100.0]), np.zeros(1), frames(3.0, 5.0, 8.0), zeropoints("aper1").slice(0, 0)
    )
    for values in (found.flux, found.mag, found.zp, found.mag_limit):
        assert np.isnan(values).all()
