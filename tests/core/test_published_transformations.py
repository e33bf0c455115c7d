from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from skylake.core.bands import BANDS
from skylake.core.published_transformations import PUBLISHED, transformations_to
from skylake.core.transformations import Transformation

Floats = np.ndarray

#: Table 2 of Bessell (2000, PASP 112, 961): BT-VT, V-VT, (B-V)-(BT-VT).
BESSELL = np.array(
    [
        [-0.2, 0.030, 0.021],
        [0.0, 0.001, -0.005],
        [0.2, -0.024, -0.021],
        [0.5, -0.054, -0.035],
        [0.7, -0.072, -0.068],
        [1.0, -0.098, -0.122],
        [1.2, -0.115, -0.166],
    ]
)


def test_every_relation_has_bands_a_range_and_a_source() -> None:
    for relation in PUBLISHED:
        assert {relation.target, *relation.inputs} <= BANDS.keys()
        assert relation.target not in relation.inputs
        assert relation.scatter > 0.0 or not relation.terms
        assert all(term.valid[0] < term.valid[1] for term in relation.terms)
        assert any(letter.isdigit() for letter in relation.source)


def test_offsets_to_the_ab_system_are_those_of_the_bands() -> None:
    for name in "JHK":
        (one,) = transformations_to(f"{name}_AB", [name])
        value, error = one.apply({name: np.full(1, 10.0)}, {name: np.full(1, 0.02)})
        assert (value[0], error[0]) == (
            pytest.approx(10.0 + (BANDS[name].ab_offset or 0.0)),
            pytest.approx(0.02),
        )


@pytest.mark.parametrize(("number", "tolerance"), [(0, 0.013), (1, 0.05)])
def test_tycho_agrees_with_the_table_of_bessell(number: int, tolerance: float) -> None:
    """Mamajek et al. fitted it; the linear relations of ESA are good to 0.015 mag in V and 0.05 in B-V."""
    colour, v_less_vt, change = BESSELL.T
    magnitudes = {"VT": np.full(len(colour), 9.0), "BT": 9.0 + colour}
    errors = dict.fromkeys(magnitudes, np.zeros(len(colour)))
    v, b = (transformations_to(band, ["BT", "VT"])[number].apply(magnitudes, errors)[0] for band in "VB")
    assert np.nanmax(np.abs(v - 9.0 - v_less_vt)) < 0.016
    assert np.nanmax(np.abs(b - v - colour - change)) < tolerance


def through(
    target: str, magnitudes: dict[str, Floats], first: str = ""
) -> list[tuple[Transformation, Floats]]:
    """A band by every transformation whose inputs are known."""
    errors = {band: np.full(len(mag), 0.01) for band, mag in magnitudes.items()}
    return [(one, one.apply(magnitudes, errors)[0]) for one in transformations_to(target, magnitudes)]


@pytest.fixture(scope="module")
def refcat2() -> dict[str, Floats]:
    """Magnitudes of the PS1 and Gaia DR2 systems of the same stars, and of SDSS by Tonry et al. (2012)."""
    folder = os.environ.get("SKYLAKE_REAL_DATA")
    if not folder:
        pytest.skip("SKYLAKE_REAL_DATA is unset")
    from astropy.table import Table

    table = Table.read(Path(folder) / "catalogs/refcat2_vizier_sample.ecsv")
    columns = {f"PS1_{band}": f"{band}mag" for band in "griz"}
    columns |= {f"GaiaDR2_{band}": f"{band}mag" for band in ("G", "BP", "RP")}
    found = {band: np.ma.filled(np.ma.asarray(table[name], float), np.nan) for band, name in columns.items()}
    errors = {band: np.full(len(mag), 0.01) for band, mag in found.items()}
    sdss = {
        f"SDSS_{band}": transformations_to(f"SDSS_{band}", found)[0].apply(found, errors)[0]
        for band in "griz"
    }
    bright = (found["PS1_r"] > 10.0) & (found["PS1_r"] < 17.0)
    return {band: mag[bright] for band, mag in (found | sdss).items()}


@pytest.mark.parametrize("target", ["B", "V", "R", "I"])
def test_johnson_cousins_magnitudes_of_real_stars_agree_by_all_ways(
    target: str, refcat2: dict[str, Floats]
) -> None:
    """From PS1, from SDSS and from Gaia; the passbands of EDR3 are nearly those of DR2, which the sample has."""
    gaia = {band.replace("DR2", ""): mag for band, mag in refcat2.items() if band.startswith("GaiaDR2")}
    (tonry, first), *others = through(target, refcat2 | gaia)
    assert "Tonry" in tonry.description
    assert {one.relations[0].source.split()[0] for one, _ in others} >= {
        "Lupton",
        "Riello" if target != "B" else "Gaia",
    }
    for one, values in others:
        difference = (values - first)[np.isfinite(values - first)]
        assert difference.size > 20
        assert abs(np.median(difference)) < max(0.025, 1.1 * one.scatter), one.description
        spread = 1.4826 * np.median(np.abs(difference - np.median(difference)))
        assert spread < 1.5 * np.hypot(tonry.scatter, one.scatter) + 0.01, one.description


@pytest.mark.parametrize("target", ["SDSS_g", "SDSS_r", "SDSS_i"])
def test_sdss_magnitudes_of_real_stars_agree_by_all_ways(target: str, refcat2: dict[str, Floats]) -> None:
    gaia = {band.replace("DR2", ""): mag for band, mag in refcat2.items() if band.startswith("GaiaDR2")}
    (_, first), *others = through(
        target, {k: v for k, v in (refcat2 | gaia).items() if not k.startswith("SDSS")}
    )
    assert len(others) == 3
    for one, values in others:
        difference = (values - first)[np.isfinite(values - first)]
        assert difference.size > 20 and abs(np.median(difference)) < 0.035, one.description
