"""Nights share what they are calibrated with where the same periods of the camera touch them."""

from __future__ import annotations

from pathlib import Path

import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.batch import UNDATED
from skylake.flow.zeropoints.calibration_parameters import calibration_configuration, periods_of

NIGHTS = (UNDATED, 20240329, 20240330, 20240331, 20240401, 20240402, 20240501, 20240502, 20240503)


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    """A camera that changes between two nights, and once in the middle of a night."""
    path = tmp_path / "changing.toml"
    path.write_text(
        'like = "sim"\nname = "changing"\n'
        "[[period]]\nfrom = 2024-05-02T04:00:00Z\ncalibration.max_crowding = 0.3\n",
        encoding="utf-8",
    )
    return cameras.load(path)


def test_nights_that_share_their_periods_share_their_configuration(profile: Profile) -> None:
    known: dict[tuple[object, ...], object] = {}
    for night in NIGHTS:
        configuration = calibration_configuration(profile, night)
        assert known.setdefault(periods_of(profile, night), configuration) == configuration
    assert len(known) < len(NIGHTS)


def test_a_night_in_which_a_period_begins_shares_with_no_other(profile: Profile) -> None:
    keys = [periods_of(profile, night) for night in NIGHTS]
    lengths = {night: len(key) for night, key in zip(NIGHTS, keys, strict=True)}
    (changing,) = (night for night in (20240501, 20240502) if lengths[night] > 1)
    assert keys.count(periods_of(profile, changing)) == 1
    assert len(calibration_configuration(profile, changing)["later"]) == 1
