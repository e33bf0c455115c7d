"""The table ``repeatability``, and the flux that several nights recommend together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake import cameras
from skylake.schema import arrow_schema, conform, load
from skylake.table.aggregate import Given
from skylake.table.repeatability import AGGREGATE, recommended_flux, recommended_fluxes

N_FRAMES, N_STARS = 20, 24


def a_night(psf_noise: float, seed: int = 1, small_noise: float = 0.1) -> pa.Table:
    """The rows of a night whose stars are 10 % noisy but in the fit and the first aperture of detections."""
    random = np.random.default_rng(seed)
    frame, star = (values.ravel() for values in np.mgrid[:N_FRAMES, :N_STARS])
    n = len(frame)
    forced = {"frame_id": frame + 1, "star_id": star + 100, "flags": np.where(star == 3, 1 << 3, 0)}
    for name in ("hybrid1", "hybrid2", "hybrid3", "psf", "aper1", "aper2", "aper3"):
        noise = psf_noise if name == "psf" else 0.1
        forced |= {
            f"flux_{name}": 100.0 * (1.0 + random.normal(0.0, noise, n)),
            f"flux_{name}_err": np.full(n, 100.0 * noise),
        }
    frames = {"frame_id": np.arange(N_FRAMES) + 1, "exposure_s": np.full(N_FRAMES, 4.0)}
    frames["airmass"] = np.full(N_FRAMES, 1.0)
    frames |= {f"apcor_aper{number}": np.ones(N_FRAMES) for number in (1, 2, 3)}
    frames |= {f"aper{number}_radius_px": np.full(N_FRAMES, 2.0 * number) for number in (1, 2, 3)}
    zero = {
        "frame_id": np.arange(N_FRAMES) + 1,
        "zp": random.normal(20.75, 0.1, N_FRAMES),
        "zp_err": np.full(N_FRAMES, 0.01),
    }
    zero |= {"flux": ["aper2"] * N_FRAMES, "band": ["V"] * N_FRAMES, "version": np.ones(N_FRAMES)}
    # The light of all stars follows the transparency of the frame.
    factor = 10.0 ** (-0.4 * (zero["zp"] - 20.75))[frame]
    forced = {name: values / factor if "flux" in name else values for name, values in forced.items()}
    tables: dict[str, dict[str, Any]] = {"forced_sources": forced, "frames": frames, "zeropoints": zero}
    detected: dict[str, Any] = {"frame_id": frame + 1, "ref_id": star + 100, "flags": forced["flags"]}
    detected |= {"x_px": np.ones(n), "y_px": np.ones(n), "crowding": np.where(star == 4, 0.2, 0.0)}
    detected |= {"ref_mag": np.full(n, 15.7)}
    for number in (1, 2, 3):
        noise = small_noise if number == 1 else 0.1
        flux = 100.0 / factor * (1.0 + random.normal(0.0, noise, n))
        detected |= {f"flux_aper{number}": flux, f"flux_aper{number}_err": 100.0 * noise / factor}
    tables["matches"] = detected
    asked = {one.table: one.columns for one in AGGREGATE.inputs}
    rows = {name: _table(name, asked[name] or (), values) for name, values in tables.items()}
    given = Given("lab", 20240407, rows, cameras.load("sim"))
    return AGGREGATE.finish(AGGREGATE.merge([AGGREGATE.partial(given)]))


def _table(name: str, columns: tuple[str, ...], values: dict[str, object]) -> pa.Table:
    kinds, n = arrow_schema(load(name)), len(values["frame_id"])  # type: ignore[arg-type]
    return pa.table(
        {
            one: pa.array(values[one]).cast(kinds.field(one).type)
            if one in values
            else pa.nulls(n, kinds.field(one).type)
            for one in columns
        }
    )


def test_a_night_says_how_its_stars_repeat_and_which_flux_is_best() -> None:
    rows = a_night(0.03).to_pandas().set_index("flux")
    rows = rows[~rows.index.str.startswith("detected")]
    assert set(rows.n_stars) == {N_STARS - 1}
    assert set(rows.n_frames) == {N_FRAMES}
    assert rows.scatter["hybrid2"] == pytest.approx(0.11, abs=0.02)
    assert rows.scatter["psf"] == pytest.approx(0.033, abs=0.006)
    assert rows.photon_err["psf"] == pytest.approx(0.033, abs=0.003)
    assert rows.ratio["hybrid2"] == 1.0
    assert list(rows.index[rows.is_recommended]) == ["psf"]
    shares = ["scatter_p2", "scatter_p25", "scatter", "scatter_p75", "scatter_p98"]
    assert np.all(np.diff(rows[shares].to_numpy(float), axis=1) >= 0)
    assert np.all(rows.mag_high - rows.mag_low == 0.5)
    # A lens of 10 cm: 11 mmag in a second at sea level.
    site = cameras.load("sim").base.site
    expected = 1.0857 * 1.5 * np.sqrt(1e-5) * 0.1 ** (-2 / 3) / 2.0 * np.exp(-site.height_m / 8000.0)
    np.testing.assert_allclose(rows.scintillation, expected, rtol=1e-3)


def test_a_night_says_which_aperture_of_detections_is_best() -> None:
    rows = a_night(0.03, small_noise=0.04)
    detected = rows.to_pandas().set_index("flux").filter(like="detected", axis=0)
    assert list(detected.index) == [f"detected_aper{number}" for number in (1, 2, 3)]
    # One star is saturated and one is a blend.
    assert set(detected.n_stars) == {N_STARS - 2} and set(detected.n_frames) == {N_FRAMES}
    assert detected.scatter["detected_aper2"] == pytest.approx(0.11, abs=0.02)
    assert detected.scatter["detected_aper1"] == pytest.approx(0.043, abs=0.008)
    assert detected.photon_err["detected_aper1"] == pytest.approx(0.043, abs=0.003)
    assert list(detected.index[detected.is_recommended]) == ["detected_aper1"]
    assert recommended_flux(rows, 15.7, detected.index) == "detected_aper1"
    assert recommended_flux(rows, 15.7) == "psf"
    assert recommended_flux(a_night(0.03), 15.7, detected.index) is None


def test_nights_are_put_together_by_their_errors() -> None:
    rows = a_night(0.03)
    assert recommended_flux(rows, 15.7) == "psf"
    assert recommended_flux(rows, 9.0) is None
    assert recommended_fluxes(rows, np.array([9.0, 15.7, 15.6])) == [None, "psf", "psf"]
    assert recommended_fluxes(rows, np.empty(0)) == []
    assert recommended_fluxes(rows.slice(0, 0), np.array([9.0])) == [None]
    assert recommended_flux(a_night(0.1), 15.7) is None
    other = pa.concat_tables([rows, _of_night(a_night(0.1, 2), 20240408)])
    # A night in which the flux is missing says that it cannot be relied on.
    lacking = _of_night(rows.filter(pa.compute.not_equal(rows["flux"], "psf")), 20240409)
    assert recommended_flux(pa.concat_tables([rows, lacking]), 15.7) is None
    assert recommended_flux(other, 15.7) == "psf"


def _of_night(rows: pa.Table, night: int) -> pa.Table:
    place = rows.schema.get_field_index("night")
    return rows.set_column(place, rows.schema.field(place), pa.array([night] * rows.num_rows, pa.int32()))


def test_a_night_without_zeropoints_has_no_rows() -> None:
    empty = {
        one.table: _table(one.table, one.columns or (), {"frame_id": np.zeros(0, int)})
        for one in AGGREGATE.inputs
    }
    found = AGGREGATE.finish(
        AGGREGATE.merge([AGGREGATE.partial(Given("lab", 20240407, empty, cameras.load("sim")))])
    )
    assert conform(found, load("repeatability")).num_rows == 0
