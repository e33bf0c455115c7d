"""A card of the airmass shows a wrong site, and placeholders show nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skylake.cameras import HeaderReading
from skylake.core.camera import Camera, Site
from skylake.core.ephemeris import airmass, alt_az
from skylake.core.frame_row import FrameRow
from skylake.image.quality.airmass_card import airmass_doubts

SITE = Site("a hill", 21.3, 37.9, 900.0)
MJD, RA, DEC = 60123.9, 215.0, 20.0
ROW: FrameRow = {"ra_deg": RA, "dec_deg": DEC, "mjd_mid": MJD}
TRUE = float(airmass(alt_az(RA, DEC, MJD, SITE)[0]))


def doubts(card: object, site: Site = SITE, row: FrameRow = ROW) -> tuple[str, ...]:
    reading = HeaderReading(Camera("lab", site=site))
    found = airmass_doubts({} if card is None else {"AIRMASS": card}, row, reading)
    assert tuple(reading.doubts) == found
    return tuple(doubt.sentence for doubt in found)


def test_a_right_card_is_not_doubted_nor_is_a_placeholder() -> None:
    for card in (TRUE, f"{TRUE:.2f}", 1.04 * TRUE, None, 0.0, -1.0, "99.99", "", "N/A", np.nan):
        assert doubts(card) == ()


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"longitude_deg": -21.3}, "longitude_deg = 21.3 would agree"),
        ({"latitude_deg": -37.9}, "latitude_deg = 37.9 would agree"),
        ({"longitude_deg": 101.0}, ""),
    ],
)
def test_a_wrong_site_shows_with_both_values(changes: dict[str, float], fix: str) -> None:
    wrong = replace(SITE, **changes)  # type: ignore[arg-type]
    (sentence,) = doubts(round(TRUE, 3), wrong)
    altitude = float(alt_az(RA, DEC, MJD, wrong)[0])
    given = f"{float(airmass(altitude)):.2f}" if altitude > 0.0 else "below the horizon"
    assert f"AIRMASS = {TRUE:.4g}" in sentence and given in sentence and fix in sentence
    assert ("would agree" in sentence) == bool(fix)


def test_without_site_time_or_pointing_there_is_nothing_to_compare_with() -> None:
    assert doubts(9.0, Site("nowhere")) == ()
    for name in ROW:
        assert doubts(9.0, row={key: value for key, value in ROW.items() if key != name}) == ()  # type: ignore[typeddict-item]
