from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.simulate.streaks import Streak, add_streak, clip_streak, draw_streak

SHAPE = (90, 120)


@given(st.floats(20.0, 70.0), st.floats(20.0, 70.0), st.floats(0.0, 6.2), st.floats(0.0, 15.0))
def test_a_trail_has_its_length_in_flux(x: float, y: float, angle: float, length: float) -> None:
    image = np.zeros((90, 90), np.float32)
    add_streak(image, Streak(x, y, x + length * np.cos(angle) + 0.01, y + length * np.sin(angle), 50.0), 3.0)
    drawn = np.hypot(length * np.cos(angle) + 0.01, length * np.sin(angle))
    assert image.sum(dtype=float) == pytest.approx(50.0 * drawn, rel=2e-3)


def test_a_trail_across_the_image_has_the_same_width_everywhere() -> None:
    image = np.zeros(SHAPE, np.float32)
    add_streak(image, Streak(-50.0, 40.0, 200.0, 40.0, 10.0), 4.0)
    np.testing.assert_allclose(image.sum(axis=0), 10.0, rtol=1e-3)
    profile = image[:, 60] / image[:, 60].max()
    assert (profile >= 0.499).sum() == 5


@given(st.integers(0, 3000))
def test_the_visible_part_lies_in_the_image_and_on_the_trail(seed: int) -> None:
    streak = draw_streak(np.random.default_rng(seed), SHAPE, 5.0)
    ends = clip_streak(streak, SHAPE)
    assert ends is not None
    for x, y in (ends[:2], ends[2:]):
        assert -0.51 <= x <= 119.51 and -0.51 <= y <= 89.51
        run_x, run_y = streak.x1_px - streak.x0_px, streak.y1_px - streak.y0_px
        across = (x - streak.x0_px) * run_y - (y - streak.y0_px) * run_x
        assert abs(across) < 1e-6 * np.hypot(run_x, run_y) ** 2


def test_a_trail_beside_the_image_is_none() -> None:
    assert clip_streak(Streak(-10.0, -5.0, 200.0, -5.0, 1.0), SHAPE) is None
    assert clip_streak(Streak(-10.0, 5.0, -1.0, 50.0, 1.0), SHAPE) is None
    assert clip_streak(Streak(5.0, 5.0, 5.0, 500.0, 1.0), SHAPE) == (5.0, 5.0, 5.0, 89.5)
