"""Epochs of focal planes, and what is usual of angles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from skylake import cameras
from skylake.flow.focalplanes import _usual_angle, epochs_of

TWO = """
like = "sim"
name = "two"

[[chip]]
name = "C1"
header.extension = 1
place = { x_arcsec = -960.0, y_arcsec = 0.0 }

[[chip]]
name = "C2"
header.extension = 2
place = { x_arcsec = 960.0, y_arcsec = 0.0, angle_deg = 90.0 }

[[period]]
from = 2024-06-01
CHANGE
"""


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ('chip = [{ name = "C2", place.angle_deg = 90.4 }]', 2),
        ('chip = [{ name = "C1", place.x_arcsec = -950.0 }]', 2),
        ('comment = "new mirrors"', 1),
    ],
)
def test_whichever_chip_is_moved_begins_an_epoch(tmp_path: Path, change: str, count: int) -> None:
    (tmp_path / "two.toml").write_text(TWO.replace("CHANGE", change))
    epochs = epochs_of(cameras.load_chips(tmp_path / "two.toml"))
    assert len(epochs) == count
    assert (epochs[0][0], epochs[-1][1]) == (-math.inf, math.inf)
    assert [end for _, end in epochs[:-1]] == [start for start, _ in epochs[1:]]


@pytest.mark.parametrize("usual", [-179.99, -40.0, 0.0, 179.98])
def test_the_usual_angle_is_that_of_most_of_very_many(usual: float) -> None:
    random = np.random.default_rng(4)
    turn = usual + random.normal(0.0, 0.02, 60_000)
    turn[::3] = random.uniform(-180.0, 180.0, 20_000)
    found = _usual_angle((turn + 180.0) % 360.0 - 180.0)
    assert abs((found - usual + 180.0) % 360.0 - 180.0) < 0.01
