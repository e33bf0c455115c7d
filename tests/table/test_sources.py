from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import FLUXES, Site
from skylake.core.ellipses import shape_terms
from skylake.core.ephemeris import alt_az
from skylake.core.sphere import healpix_index
from skylake.schema import arrow_schema, load
from skylake.schema.aperture_columns import MORE, aperture_floats
from skylake.table.sources import sources_table

FRAME = {"frame_id": 5, "camera": "lab", "night": 20240407, "mjd_mid": 60408.1, "filter": "V"}
NAMES = {
    "x": "x_px", "y": "y_px", "x_err": "x_err_px", "y_err": "y_err_px", "edge_distance": "edge_distance_px",
    "crowding": "crowding", "kron_radius": "kron_radius", "flux_max": "flux_max", "sky": "sky_adu",
    "sky_rms": "sky_rms_adu", "n_pixels": "n_pixels", "fwhm": "fwhm_px", "half_light": "half_light_px",
    "a": "a_px", "b": "b_px", "theta": "theta_deg", "flags": "flags",
}  # fmt: skip


#: With two apertures that have no columns of their own.
MANY = (*FLUXES, "aper4", "aper5")


@dataclass(frozen=True)
class Sources:
    """Sources of which every column is told from every other."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    x_err: npt.NDArray[np.float64]
    y_err: npt.NDArray[np.float64]
    edge_distance: npt.NDArray[np.float64]
    flux: dict[str, npt.NDArray[np.float64]]
    flux_err: dict[str, npt.NDArray[np.float64]]
    crowding: npt.NDArray[np.float64]
    kron_radius: npt.NDArray[np.float64]
    flux_max: npt.NDArray[np.float64]
    sky: npt.NDArray[np.float64]
    sky_rms: npt.NDArray[np.float64]
    n_pixels: npt.NDArray[np.int32]
    fwhm: npt.NDArray[np.float64]
    half_light: npt.NDArray[np.float64]
    a: npt.NDArray[np.float64]
    b: npt.NDArray[np.float64]
    theta: npt.NDArray[np.float64]
    flags: npt.NDArray[np.int32]
    apcor: dict[str, npt.NDArray[np.float64]]


def drawn(n: int, seed: int = 1) -> Sources:
    random = np.random.default_rng(seed)
    values: dict[str, Any] = {name: np.float32(random.normal(100.0, 20.0, n)).astype(float) for name in NAMES}
    values |= {name: random.integers(0, 500, n).astype(np.int32) for name in ("n_pixels", "flags")}
    for name in ("flux", "flux_err", "apcor"):
        values[name] = {one: np.float32(random.normal(10.0, 3.0, n)).astype(float) for one in MANY}
    return Sources(**values)


def test_every_measurement_is_in_its_column() -> None:
    measured, ra, dec = drawn(9), np.linspace(0.0, 300.0, 9), np.linspace(-80.0, 80.0, 9)
    site = Site("there", -17.88, 28.76, 2396.0)
    table = sources_table(FRAME, measured, ra, dec, site)
    assert table.schema.equals(arrow_schema(load("sources")), check_metadata=True)
    altitude, azimuth = alt_az(ra, dec, FRAME["mjd_mid"], site)
    np.testing.assert_allclose(table["altitude_deg"].to_numpy(), altitude, rtol=1e-6)
    np.testing.assert_allclose(table["azimuth_deg"].to_numpy(), azimuth % 360.0, rtol=1e-6)
    for name, column in NAMES.items():
        np.testing.assert_array_equal(table[column].to_numpy(), getattr(measured, name))
    for name, values in zip(
        "sdk", shape_terms(measured.fwhm, measured.a, measured.b, measured.theta), strict=True
    ):
        np.testing.assert_array_equal(table[f"shape_{name}"].to_numpy(), values.astype(np.float32))
    assert set(table[MORE].type.names) == {"flux_aper", "flux_aper_err", "apcor_rel_aper"}
    for name in MANY:
        np.testing.assert_array_equal(aperture_floats(table, f"flux_{name}"), measured.flux[name])
        np.testing.assert_array_equal(aperture_floats(table, f"flux_{name}_err"), measured.flux_err[name])
        np.testing.assert_array_equal(aperture_floats(table, f"apcor_rel_{name}"), measured.apcor[name])
    for name, value in FRAME.items():
        assert table[name].to_pylist() == [value] * 9
    np.testing.assert_array_equal(table["ra_deg"].to_numpy(), ra)
    np.testing.assert_array_equal(table["dec_deg"].to_numpy(), dec)
    np.testing.assert_array_equal(table["_healpix_29"].to_numpy(), healpix_index(ra, dec))
    # Nothing of the schema was forgotten.
    assert not [name for name in table.column_names if table[name].null_count]


@given(st.lists(st.booleans(), max_size=12))
def test_sources_outside_the_sky_are_left_out(placed: list[bool]) -> None:
    n = len(placed)
    ra = np.where(placed, np.arange(n) + 1.0, np.nan) if n else np.zeros(0)
    measured = drawn(n)
    table = sources_table(FRAME, measured, ra, np.full(n, 10.0))
    wanted = np.flatnonzero(placed)
    assert table["source_no"].to_pylist() == wanted.tolist()
    np.testing.assert_array_equal(table["x_px"].to_numpy(), measured.x[wanted])
    np.testing.assert_array_equal(table["ra_deg"].to_numpy(), wanted + 1.0)


def test_what_was_not_measured_is_null() -> None:
    measured = drawn(3)
    measured.flux["aper3"][1] = np.nan
    measured.fwhm[2] = np.nan
    table = sources_table({**FRAME, "filter": None}, measured, np.full(3, 10.0), np.full(3, 10.0))
    assert table["flux_aper3"].to_pylist()[1] is None and table["flux_aper3"].null_count == 1
    assert table["fwhm_px"].to_pylist()[2] is None and table["filter"].null_count == 3
