from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import FLUXES, FilterBand
from skylake.core.sphere import healpix_index
from skylake.schema import arrow_schema, load
from skylake.table.matches import CARRIED, matches_table, reference_columns

V, R = FilterBand("V", "B-V", 0.7), FilterBand("R")
FILTERS = {"V": V, "clear": V, "R": R}


def pairs(n: int, **columns: Any) -> pa.Table:
    random = np.random.default_rng(1)
    values: dict[str, Any] = {name: random.normal(100.0, 10.0, n) for name in ("x_px", "y_px", "crowding")}
    values |= {
        f"flux_{name}{end}": np.float32(random.normal(9.0, 1.0, n)) for name in FLUXES for end in ("", "_err")
    }
    values |= {f"apcor_rel_{name}": np.float32(random.normal(1.0, 0.1, n)) for name in FLUXES}
    values |= {
        "camera": ["lab"] * n,
        "night": np.full(n, 20240407, np.int32),
        "filter": ["V"] * n,
        "flags": np.arange(n, dtype=np.int32),
        "frame_id": np.full(n, 3),
        "source_no": np.arange(n, dtype=np.int32),
        "mjd_mid": np.full(n, 60408.1),
        "altitude_deg": np.linspace(10.0, 80.0, n, dtype=np.float32),
        "ref_id": np.arange(n) + 50,
        "ra_deg": np.linspace(10.0, 11.0, n),
        "dec_deg": np.linspace(-10.0, -11.0, n),
        "ra_deg_ref": np.linspace(200.0, 201.0, n),
        "dec_deg_ref": np.linspace(40.0, 41.0, n),
        "moved_ra_deg": np.linspace(202.0, 203.0, n),
        "moved_dec_deg": np.linspace(42.0, 43.0, n),
        "separation_arcsec": np.linspace(0.0, 1.0, n),
        "n_candidates": np.arange(n) + 1,
        "ref_crowding": np.linspace(0.0, 0.5, n),
        "mag_V": np.linspace(9.0, 10.0, n),
        "mag_V_err": np.linspace(0.01, 0.02, n),
        "mag_B": np.linspace(9.5, 11.0, n),
        "mag_R": np.linspace(8.0, 9.0, n),
    }
    return pa.table({name: v for name, v in (values | columns).items() if v is not None})


def test_every_column_of_a_pair_is_in_its_place() -> None:
    given_pairs = pairs(6)
    table = matches_table(given_pairs, "simcat", FILTERS, 0.05)
    assert table.schema.equals(arrow_schema(load("matches")), check_metadata=True)
    for name in CARRIED:
        if name != "filter":
            assert table[name].to_pylist() == given_pairs[name].cast(table[name].type).to_pylist()
    renamed = {
        "ra_deg": "ra_deg_ref", "dec_deg": "dec_deg_ref", "source_ra_deg": "ra_deg", "source_dec_deg": "dec_deg",
        "moved_ra_deg": "moved_ra_deg", "moved_dec_deg": "moved_dec_deg", "ref_id": "ref_id",
        "separation_arcsec": "separation_arcsec", "source_no": "source_no", "n_candidates": "n_candidates",
    }  # fmt: skip
    for name, source in renamed.items():
        assert table[name].to_pylist() == given_pairs[source].to_pylist()
    np.testing.assert_allclose(table["ref_mag"].to_numpy(), given_pairs["mag_V"].to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(
        table["ref_mag_err"].to_numpy(), given_pairs["mag_V_err"].to_numpy(), rtol=1e-6
    )
    assert table["catalog"].to_pylist() == ["simcat"] * 6 and table["band"].to_pylist() == ["V"] * 6
    # A match lies where its star is in the catalog.
    expected = healpix_index(given_pairs["ra_deg_ref"].to_numpy(), given_pairs["dec_deg_ref"].to_numpy())
    np.testing.assert_array_equal(table["_healpix_29"].to_numpy(), expected)


@given(st.lists(st.sampled_from(["V", "clear", "R", "Halpha", None]), min_size=1, max_size=10))
def test_each_row_has_the_magnitude_of_its_own_filter(filters: list[str | None]) -> None:
    n = len(filters)
    table = matches_table(pairs(n, filter=pa.array(filters, pa.string())), "simcat", FILTERS, 0.05)
    source = pairs(n).to_pylist()
    for row, name, pair in zip(table.to_pylist(), filters, source, strict=True):
        band = {"V": "V", "clear": "V", "R": "R"}.get(name or "")
        assert row["band"] == band
        if band is None:
            assert (row["ref_mag"], row["ref_mag_err"], row["ref_colour"]) == (None, None, None)
            continue
        assert row["ref_mag"] == pytest.approx(pair[f"mag_{band}"], rel=1e-6)
        assert row["ref_mag_err"] == pytest.approx(pair["mag_V_err"] if band == "V" else 0.05, rel=1e-6)
        colour = pair["mag_B"] - pair["mag_V"] if band == "V" else None
        assert row["ref_colour"] == (None if colour is None else pytest.approx(colour, rel=1e-5, abs=1e-6))


def test_a_colour_of_the_catalog_is_better_than_a_difference() -> None:
    given_colour = [0.3, None, float("nan")]
    table = matches_table(pairs(3, colour_B_V=pa.array(given_colour, pa.float64())), "simcat", FILTERS, 0.05)
    difference = (pairs(3)["mag_B"].to_numpy() - pairs(3)["mag_V"].to_numpy())[1:]
    np.testing.assert_allclose(table["ref_colour"].to_numpy(), [0.3, *difference], rtol=1e-5)


def test_the_error_of_a_colour_is_that_of_its_column_or_of_its_two_magnitudes() -> None:
    given_pairs = pairs(3, mag_B_err=pa.array([0.03, 0.04, None]))
    of_magnitudes = np.hypot([0.03, 0.04], given_pairs["mag_V_err"].to_numpy()[:2])
    table = matches_table(given_pairs, "simcat", FILTERS, 0.05)
    np.testing.assert_allclose(table["ref_colour_err"].to_numpy()[:2], of_magnitudes, rtol=1e-6)
    assert table["ref_colour_err"].to_pylist()[2] is None, "a usual error would be made up"
    own = given_pairs.append_column("colour_B_V_err", pa.array([0.01, None, 0.02]))
    found = matches_table(own, "simcat", FILTERS, 0.05)["ref_colour_err"].to_numpy()
    np.testing.assert_allclose(found, [0.01, of_magnitudes[1], 0.02], rtol=1e-6)
    assert matches_table(pairs(3), "simcat", FILTERS, 0.05)["ref_colour_err"].null_count == 3
    available = ["ref_id", "mag_V", "mag_V_err", "mag_B", "mag_B_err", "colour_B_V", "colour_B_V_err"]
    assert set(reference_columns([V], available)) == set(available)


def test_what_a_catalog_lacks_is_null_and_never_an_error_alone() -> None:
    without = matches_table(pairs(3, mag_V=None, mag_V_err=None, mag_B=None), "simcat", FILTERS, 0.05)
    for name in ("ref_mag", "ref_mag_err", "ref_colour"):
        assert without[name].null_count == 3
    some = matches_table(pairs(2, mag_V_err=pa.array([None, 0.01])), "simcat", FILTERS, 0.05)
    np.testing.assert_allclose(some["ref_mag_err"].to_numpy(), [0.05, 0.01], rtol=1e-6)


def test_what_the_choice_and_the_catalog_say_of_a_match_is_kept() -> None:
    told = {
        "second_separation_arcsec": pa.array([1.5, None]), "is_ambiguous": [True, False],
        "is_discrepant": [False, True], "is_variable": pa.array([1, None], pa.int16()),
    }  # fmt: skip
    table = matches_table(pairs(2, **told), "simcat", FILTERS, 0.05)
    assert table["second_separation_arcsec"].to_pylist() == [1.5, None]
    assert table["is_ambiguous"].to_pylist() == [True, False]
    assert table["is_discrepant"].to_pylist() == [False, True]
    assert table["is_variable"].to_pylist() == [True, None]
    assert "is_variable" in reference_columns([V], ["ref_id", "is_variable", "mag_V"])
    assert "is_variable" not in reference_columns([V], ["ref_id", "mag_V"])


def test_more_candidates_than_fit_are_the_most_that_fit() -> None:
    assert matches_table(pairs(2, n_candidates=[3, 10**6]), "c", FILTERS, 0.05)[
        "n_candidates"
    ].to_pylist() == [3, 32767]


def test_no_pairs_are_an_empty_table() -> None:
    empty = matches_table(pairs(0), "simcat", FILTERS, 0.05)
    assert empty.num_rows == 0 and empty.schema.equals(arrow_schema(load("matches")))


def test_only_columns_that_are_there_and_needed_are_read() -> None:
    available = ["ref_id", "mag_V", "mag_V_err", "mag_B", "mag_R", "mag_I", "colour_B_V", "ra_deg"]
    wanted = reference_columns([V, R, V], available)
    assert wanted == ["ref_id", "mag_V", "mag_V_err", "colour_B_V", "mag_B", "mag_R"]
    assert reference_columns([R], ["mag_V", "ref_id"]) == ["ref_id"]


def test_a_band_that_the_catalog_lacks_is_transformed() -> None:
    """A camera with a filter R and a catalog in the system of PS1; the colour B-V is transformed as well."""
    coloured = FilterBand("R", "B-V", 0.7)
    available = ["ref_id", "ra_deg", "mag_g", "mag_g_err", "mag_r", "mag_r_err", "mag_i"]
    wanted = reference_columns([coloured], available, "refcat2")
    assert wanted == ["ref_id", "mag_r", "mag_r_err", "mag_g", "mag_g_err"]
    assert reference_columns([coloured], available) == ["ref_id"]
    random = np.random.default_rng(2)
    r, colour = random.uniform(12.0, 16.0, 50), random.uniform(-0.2, 1.0, 50)
    colour[7] = 1.9
    columns = {
        "mag_r": r,
        "mag_g": r + colour,
        "mag_r_err": np.full(50, 0.02),
        "mag_g_err": np.full(50, 0.03),
    }
    given_pairs = pairs(50, mag_V=None, mag_B=None, mag_R=None, filter=["R"] * 50, **columns)
    table = matches_table(given_pairs, "deep", {"R": coloured}, 0.05, "refcat2")
    # Tonry et al. (2012), table 6.
    expected = r - 0.137 - 0.108 * colour - 0.029 * colour**2
    slope = -0.108 - 0.058 * colour
    error = np.sqrt((slope * 0.03) ** 2 + ((1.0 - slope) * 0.02) ** 2 + 0.015**2)
    expected[7] = error[7] = np.nan
    np.testing.assert_allclose(table["ref_mag"].to_numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(table["ref_mag_err"].to_numpy(), error, rtol=1e-6)
    b_v = 0.207 + 1.094 * colour + 0.021 * colour**2
    b_v[7] = np.nan
    np.testing.assert_allclose(table["ref_colour"].to_numpy(), b_v, rtol=1e-5)
    without = matches_table(given_pairs, "deep", {"R": coloured}, 0.05)
    assert without["ref_mag"].null_count == 50, "nobody knows whose g and r they are"
