from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skylake.core.sphere import apply_proper_motion, separation_deg
from skylake.simulate.catalog import magnitude_error, reference_catalog
from skylake.simulate.colours import SIMULATED_BANDS, magnitude
from skylake.simulate.population import CountLaw, StarPopulation, joined, stars_around
from skylake.simulate.scenario import CatalogParams, Scenario, StarParams
from skylake.simulate.variables import Kind

LIMIT = 17.0


@pytest.fixture(scope="module")
def stars() -> StarPopulation:
    around = stars_around(80.0, 30.0, 1.4, CountLaw(60.0, 12.0, 0.36, 6.0, 17.5), StarParams(), 3)
    new = around.take(np.array([0]))
    special = replace(new, star_id=np.array([9]), kind=np.array([Kind.TRANSIENT], np.int8))
    return joined([around, special])


def test_the_catalog_has_stars_to_its_limit_and_no_transient(stars: StarPopulation) -> None:
    table = reference_catalog(Scenario(), stars, LIMIT)
    assert set(table["id"].to_numpy()) == set(stars.star_id[(stars.v_mag < LIMIT) & (stars.star_id != 9)])
    assert table.column_names == [
        "id", "ra", "dec", "pmra", "pmdec",
        *(name for band in SIMULATED_BANDS for name in (band, f"{band}_err")), "B-V", "g-r",
    ]  # fmt: skip


@pytest.mark.parametrize("band", ["B", "V", "i"])
def test_magnitudes_are_as_wrong_as_their_errors_say(stars: StarPopulation, band: str) -> None:
    scenario = Scenario(catalog=CatalogParams(outlier_fraction=0.0))
    table = reference_catalog(scenario, stars, LIMIT).to_pandas()
    known = stars.take((stars.v_mag < LIMIT) & (stars.star_id != 9))
    pulls = (table[band] - magnitude(band, known.v_mag, known.b_minus_v)) / table[f"{band}_err"]
    assert pulls.std() == pytest.approx(1.0, abs=4.0 / np.sqrt(2.0 * len(pulls)))
    assert abs(pulls.mean()) < 4.0 / np.sqrt(len(pulls))


def test_errors_have_a_floor_and_grow_for_faint_stars() -> None:
    params = CatalogParams(mag_error=0.03)
    error = magnitude_error([8.0, LIMIT - 2.0, LIMIT], LIMIT, params)
    np.testing.assert_allclose(error[:2], [0.03, 0.06], rtol=1e-3)
    assert error[2] > 0.2


def test_few_stars_are_plainly_wrong_in_all_bands_alike(stars: StarPopulation) -> None:
    scenario = Scenario(catalog=CatalogParams(outlier_fraction=0.04, mag_error=1e-5))
    table = reference_catalog(scenario, stars, LIMIT).to_pandas()
    known = stars.take((stars.v_mag < LIMIT) & (stars.star_id != 9))
    wrong = table["V"] - magnitude("V", known.v_mag, known.b_minus_v)
    assert (np.abs(wrong) > 0.01).mean() == pytest.approx(0.04, abs=0.012)
    assert np.abs(wrong).max() < 0.501
    np.testing.assert_allclose(table["B"] - magnitude("B", known.v_mag, known.b_minus_v), wrong, atol=2e-3)


@pytest.mark.parametrize("epoch", [2000.0, 2016.0])
def test_positions_are_of_the_epoch_and_off_by_their_error(stars: StarPopulation, epoch: float) -> None:
    scenario = Scenario(catalog=CatalogParams(epoch=epoch, position_error_mas=30.0))
    table = reference_catalog(scenario, stars, LIMIT)
    assert float(table.schema.metadata[b"epoch"]) == epoch
    known = stars.take((stars.v_mag < LIMIT) & (stars.star_id != 9))
    moved = apply_proper_motion(
        known.ra_deg, known.dec_deg, known.pm_ra_mas_yr, known.pm_dec_mas_yr, epoch - 2000.0
    )
    off = separation_deg(*moved, table["ra"].to_numpy(), table["dec"].to_numpy()) * 3.6e6
    assert np.sqrt((off**2).mean() / 2.0) == pytest.approx(30.0, rel=0.05)
    assert (table["pmra"].to_numpy() - known.pm_ra_mas_yr).std() == pytest.approx(2.0, rel=0.08)
