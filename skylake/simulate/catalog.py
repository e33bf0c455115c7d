"""The reference catalog that goes with a simulation: the stars, as another survey measured them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import apply_proper_motion, offset
from skylake.simulate.colours import SIMULATED_BANDS, magnitude
from skylake.simulate.population import StarPopulation
from skylake.simulate.random_streams import generator
from skylake.simulate.scenario import CatalogParams, Scenario
from skylake.simulate.variables import Kind

_Array = npt.NDArray[np.float64]

_DEG_PER_MAS = 1.0 / 3.6e6


def reference_catalog(scenario: Scenario, stars: StarPopulation, limit_mag: float) -> pa.Table:
    """Return a catalog of stars with errors of position, motion and magnitude.

    Parameters
    ----------
    scenario : Scenario
        Size of the errors.
    stars : StarPopulation
        The true stars; the transient is left out.
    limit_mag : float
        Faintest V magnitude.

    Returns
    -------
    pyarrow.Table
        ``id``, ``ra``, ``dec`` (degrees, ICRS, at the epoch in the metadata), ``pmra`` (with cos(dec)),
        ``pmdec`` (mas/yr), for each band ``V`` and ``V_err`` and so on, ``B-V`` and ``g-r``. Errors are
        the standard deviations that the values were drawn with, also for outliers, which lie farther off.
    """
    params = scenario.catalog
    known = stars.take((stars.kind != Kind.TRANSIENT) & (stars.v_mag < limit_mag))
    random = generator(scenario.seed, "catalog")
    pm_ra = known.pm_ra_mas_yr + params.motion_error_mas_yr * random.standard_normal(len(known))
    pm_dec = known.pm_dec_mas_yr + params.motion_error_mas_yr * random.standard_normal(len(known))
    ra, dec = _positions(known, params, random)
    columns: dict[str, npt.NDArray[Any]] = {
        "id": known.star_id,
        "ra": ra,
        "dec": dec,
        "pmra": pm_ra,
        "pmdec": pm_dec,
    }
    outlying = _outliers(len(known), params, random)
    for band in SIMULATED_BANDS:
        true = magnitude(band, known.v_mag, known.b_minus_v)
        error = magnitude_error(true, limit_mag, params)
        columns[band] = true + error * random.standard_normal(len(known)) + outlying
        columns[f"{band}_err"] = error
    columns["B-V"] = columns["B"] - columns["V"]
    columns["g-r"] = columns["g"] - columns["r"]
    return pa.table(columns).replace_schema_metadata({"epoch": f"{params.epoch}"})


def magnitude_error(mag: npt.ArrayLike, limit_mag: float, params: CatalogParams) -> _Array:
    """Return the standard error of catalog magnitudes: a floor, and photon noise of a sky-limited survey."""
    photons = np.sqrt(3.0) * 10.0 ** (0.4 * (np.asarray(mag, float) - (limit_mag - 2.0)))
    return np.asarray(params.mag_error * np.sqrt(1.0 + photons**2))


def _positions(
    known: StarPopulation, params: CatalogParams, random: np.random.Generator
) -> tuple[_Array, _Array]:
    ra, dec = apply_proper_motion(
        known.ra_deg, known.dec_deg, known.pm_ra_mas_yr, known.pm_dec_mas_yr, params.epoch - 2000.0
    )
    wrong = params.position_error_mas * _DEG_PER_MAS * random.standard_normal((2, len(known)))
    return offset(ra, dec, np.hypot(*wrong), np.degrees(np.arctan2(*wrong)))


def _outliers(count: int, params: CatalogParams, random: np.random.Generator) -> _Array:
    """Return errors, the same in all bands, of the few stars that are plainly wrong, and 0 for the others."""
    chosen = random.random(count) < params.outlier_fraction
    return np.where(chosen, random.uniform(-params.outlier_mag, params.outlier_mag, count), 0.0)
