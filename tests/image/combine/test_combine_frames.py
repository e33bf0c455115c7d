"""The clipped mean: right, robust, with honest errors, and the same in blocks as in one piece."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skylake.image.combine.combine_frames import (
    CombineOptions,
    block_rows,
    combine,
    combine_in_blocks,
    frame_noise,
)
from skylake.image.combine.make_masters import combine_options

stacks = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 5)),
    elements=st.one_of(st.floats(-1e4, 1e4, width=32), st.just(np.float32(np.nan))),
)


@given(stacks)
def test_the_mean_lies_among_the_values_and_counts_add_up(stack: np.ndarray) -> None:
    made = combine(stack, CombineOptions())
    there = np.isfinite(stack).sum(axis=0)
    np.testing.assert_array_equal(made.n_present, there)
    assert (made.n_used <= there).all() and (made.n_used[there > 0] > 0).all()
    np.testing.assert_array_equal(np.isnan(made.mean), there == 0)
    np.testing.assert_array_equal(np.isnan(made.error), there == 0)
    low = np.where(there > 0, np.nan_to_num(stack, nan=1e9).min(axis=0), 0.0)
    high = np.where(there > 0, np.nan_to_num(stack, nan=-1e9).max(axis=0), 0.0)
    inside = np.nan_to_num(made.mean)
    assert (inside >= low - 1e-2).all() and (inside <= high + 1e-2).all()
    assert 0.0 <= made.rejected_fraction <= 1.0


@given(stacks, st.permutations(range(7)))
def test_the_order_of_frames_does_not_matter(stack: np.ndarray, order: list[int]) -> None:
    shuffled = stack[[i for i in order if i < len(stack)]]
    first, second = combine(stack, CombineOptions()), combine(shuffled, CombineOptions())
    np.testing.assert_allclose(first.mean, second.mean, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(first.n_used, second.n_used)


@pytest.mark.parametrize("n_frames", [3, 5, 9, 25])
def test_errors_are_those_of_the_mean(n_frames: int) -> None:
    random = np.random.default_rng(n_frames)
    truth = random.normal(300.0, 40.0, (128, 128))
    stack = (truth + random.normal(0.0, 6.0, (n_frames, 128, 128))).astype(np.float32)
    made = combine(stack, CombineOptions(constant=1.0))
    pull = (made.mean - truth) / made.error
    assert abs(pull.mean()) < 0.04
    assert pull.std() == pytest.approx(1.0, abs=0.06)
    assert made.rejected_fraction < 0.005


@pytest.mark.parametrize("n_frames", [3, 5, 12])
def test_cosmic_rays_leave_no_trace(n_frames: int) -> None:
    random = np.random.default_rng(4)
    stack = random.normal(100.0, 5.0, (n_frames, 96, 96)).astype(np.float32)
    clean = combine(stack, CombineOptions())
    hits = random.random((n_frames, 96, 96)) < 0.02 / n_frames
    hits &= np.cumsum(hits, axis=0) <= 1
    stack[hits] += random.uniform(200.0, 2e4, hits.sum()).astype(np.float32)
    made = combine(stack, CombineOptions())
    struck = hits.any(axis=0)
    assert struck.sum() > 100
    # One value less is behind such a pixel, and that is all.
    difference = (made.mean - clean.mean)[struck] / made.error[struck]
    assert np.abs(difference).max() < 5.0 and difference.std() < 1.0
    assert (made.n_used[struck] < n_frames).all()


def test_of_two_frames_that_differ_the_lower_counts() -> None:
    stack = np.random.default_rng(1).normal(10.0, 1.0, (2, 64, 64)).astype(np.float32)
    stack[1, 5, 6] = 500.0
    made = combine(stack, CombineOptions())
    assert made.mean[5, 6] == stack[0, 5, 6] and made.n_used[5, 6] == 1
    assert (made.n_used == 2).mean() > 0.99


def test_frames_whose_level_drifts_are_not_thrown_away() -> None:
    random = np.random.default_rng(2)
    drift = np.array([0.0, 25.0, -3.0])[:, None, None]
    made = combine(
        (1000.0 + drift + random.normal(0.0, 4.0, (3, 64, 64))).astype(np.float32), CombineOptions()
    )
    assert made.rejected_fraction < 0.01


def test_the_mode_withstands_many_stars_on_one_side() -> None:
    random = np.random.default_rng(3)
    stack = random.normal(200.0, 2.0, (15, 64, 64)).astype(np.float32)
    stars = random.random(stack.shape) < 0.4
    stack[stars] += random.exponential(200.0, stars.sum()).astype(np.float32)
    by_mode = combine(stack, CombineOptions(2.5, "mode", constant=4.0)).mean
    by_median = combine(stack, CombineOptions(2.5, "median", constant=4.0)).mean
    assert abs(np.median(by_mode) - 200.0) < 1.5
    assert abs(np.median(by_mode) - 200.0) < abs(np.median(by_median) - 200.0)


def test_errors_grow_with_the_level_as_shot_noise_does() -> None:
    random = np.random.default_rng(5)
    level = np.full((64, 64), 100.0)
    level[::8, ::8] = 20000.0
    stack = random.poisson(level, (5, 64, 64)).astype(np.float32)
    made = combine(stack, CombineOptions(slope=1.0))
    bright = level > 1000.0
    assert np.median(made.error[bright]) == pytest.approx(np.sqrt(20000.0 / 5), rel=0.15)
    assert np.median(made.error[~bright]) == pytest.approx(np.sqrt(100.0 / 5), rel=0.1)


def test_blocks_give_what_the_whole_gives() -> None:
    stack = np.random.default_rng(6).normal(50.0, 3.0, (4, 100, 40)).astype(np.float32)
    asked = []

    def read(start: int, end: int) -> np.ndarray:
        asked.append((start, end))
        return stack[:, start:end]

    whole = combine(stack, CombineOptions())
    made = combine_in_blocks(read, 4, (100, 40), CombineOptions())
    np.testing.assert_array_equal(made.mean, whole.mean)
    np.testing.assert_array_equal(made.error, whole.error)
    assert asked == [(0, 100)]


@given(st.integers(1, 5000), st.integers(1, 9000), st.integers(1, 9000))
def test_memory_of_a_block_does_not_grow_with_the_frames(n_frames: int, height: int, width: int) -> None:
    blocks = block_rows(n_frames, (height, width))
    assert [row for start, end in blocks for row in (start, end - 1)] == sorted(
        row for start, end in blocks for row in (start, end - 1)
    )
    assert blocks[0][0] == 0 and blocks[-1][1] == height
    assert all(a[1] == b[0] for a, b in pairwise(blocks))
    largest = max(end - start for start, end in blocks)
    assert largest == 1 or 4 * n_frames * width * largest <= 64 << 20


def test_the_noise_of_frames_is_measured_by_their_differences() -> None:
    random = np.random.default_rng(7)
    pattern = random.normal(0.0, 100.0, (300, 200))
    slope = np.linspace(0.0, 1.0, 200)
    noises = random.normal(0.0, 5.0, (4, *pattern.shape))
    frames = [(pattern + i * 30.0 * slope + noise).astype(np.float32) for i, noise in enumerate(noises)]
    assert frame_noise(frames) == pytest.approx(5.0, rel=0.05)
    assert frame_noise(frames[:1]) == 0.0


@pytest.mark.parametrize(
    ("kind", "level", "noise"), [("flat", 1.0, 0.02), ("bias", 300.0, 6.0), ("dark", 40.0, 8.0)]
)
def test_a_single_frame_has_the_error_that_its_own_noise_shows(kind: Any, level: float, noise: float) -> None:
    random = np.random.default_rng(8)
    vignette = np.linspace(-0.1, 0.1, 256)[:, None] * np.linspace(-1.0, 1.0, 128) if kind == "flat" else 0.0
    columns = random.normal(0.0, 3.0, 128) if kind == "bias" else 0.0
    truth = np.broadcast_to(level * (1.0 + vignette) + columns, (256, 128))
    frame = (truth + random.normal(0.0, noise, truth.shape)).astype(np.float32)
    frame[40:44, 50:60] = np.nan
    made = combine(frame[None], combine_options(kind, [frame], 2.0))
    pull = (made.mean - truth) / made.error
    assert np.nanstd(pull) == pytest.approx(1.0, abs=0.05)


def test_frames_count_by_their_weight() -> None:
    random = np.random.default_rng(9)
    truth = random.normal(1.0, 0.02, (96, 96))
    level_e = np.array([3000.0, 5000.0, 40000.0, 40000.0, 38000.0, 3000.0, 4000.0])
    stack = (random.poisson(truth * level_e[:, None, None]) / level_e[:, None, None]).astype(np.float32)
    stack[3, 10, 10] += 0.5
    made = combine(stack, CombineOptions(slope=1e-4), level_e)
    pull = (made.mean - truth) / made.error
    assert abs(pull.mean()) < 0.04 and pull.std() == pytest.approx(1.0, abs=0.06)
    assert np.median(made.error) == pytest.approx(1.0 / np.sqrt(level_e.sum()), rel=0.05)
    assert abs(pull[10, 10]) < 5.0 and made.n_used[10, 10] == 6
    assert made.rejected_fraction < 0.005
    alike = combine(stack, CombineOptions(slope=1e-4))
    assert (made.mean - truth).std() < 0.7 * (alike.mean - truth).std()


def test_equal_weights_are_none() -> None:
    stack = np.random.default_rng(10).normal(5.0, 1.0, (5, 40, 40)).astype(np.float32)
    first, second = combine(stack, CombineOptions()), combine(stack, CombineOptions(), [7.0] * 5)
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.error, second.error)


def test_a_faint_frame_is_no_outlier_and_no_unstable_pixel() -> None:
    random = np.random.default_rng(11)
    level_e = np.array([500.0, 50000.0, 50000.0, 50000.0, 50000.0, 50000.0])
    stack = (
        random.poisson(np.broadcast_to(level_e[:, None, None], (6, 96, 96))) / level_e[:, None, None]
    ).astype(np.float32)
    made = combine(stack, CombineOptions(slope=1e-4), level_e)
    assert made.rejected_fraction < 0.005
    assert (made.scatter > 3.0 * made.expected).mean() < 0.001
