from __future__ import annotations

from typing import Any

import pytest

from skylake.report.stars.which_star import (
    best_fluxes,
    doubt_about_star,
    found_at_position,
    unknown_identifiers,
    which_star,
)

STAR: dict[str, Any] = {
    "object_id": 7, "catalog": "apass", "ra_deg": 10.0, "dec_deg": -5.0, "measured": "forced",
    "bands": [{"camera": "cam", "band": "V", "mag_median": None, "ref_mag": 11.256, "flux_used": "hybrid2"}],
}  # fmt: skip


def test_the_star_has_identifier_catalog_and_position() -> None:
    assert which_star(STAR) == "star 7 of apass at 10.00000 -5.00000"
    assert which_star(STAR | {"catalog": "sources"}) == "star 7 of no catalog at 10.00000 -5.00000"


def test_a_star_that_was_named_needs_no_words_about_where_it_was_found() -> None:
    assert found_at_position(STAR) == doubt_about_star(STAR) == ""


@pytest.mark.parametrize(
    ("separation", "n_others", "doubt"),
    [(7.0, 0, ""), (2.9, 5, ""), (7.0, 1, "another star is within"), (7.0, 2, "2 other stars are within")],
)
def test_only_a_star_away_from_the_position_among_others_is_doubtful(
    separation: float, n_others: int, doubt: str
) -> None:
    found = STAR | {"separation_arcsec": separation, "n_others": n_others}
    assert doubt_about_star(found).startswith(doubt) and bool(doubt) == bool(doubt_about_star(found))
    assert found_at_position(found) == f"star 7 of apass, V 11.26 mag, {separation} arcsec from the position"


def test_a_best_flux_is_named_if_it_is_another_than_that_of_the_zeropoints() -> None:
    assert best_fluxes(STAR) == [
        "cam V: magnitudes from flux_hybrid2, the most repeatable flux for stars this bright"
    ]
    detected = STAR | {"measured": "detected", "bands": [{"band": "V", "flux_used": "aper1"}]}
    assert best_fluxes(detected) == [
        "V: magnitudes from flux_aper1, the most repeatable flux for stars this bright"
    ]
    assert best_fluxes(STAR | {"bands": [{"camera": "cam", "band": "V"}]}) == []


def test_the_first_of_many_unknown_identifiers_are_named() -> None:
    many = unknown_identifiers([str(number) for number in range(1, 9)], 20, 10.0)
    assert many.startswith("8 of 20 identifiers") and many.endswith("counts: 1, 2, 3, 4, 5 and 3 more")
