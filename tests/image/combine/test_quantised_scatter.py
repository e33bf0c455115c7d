"""The noise of whole numbers, where it is below one."""

from __future__ import annotations

import numpy as np
import pytest

from skylake.image.combine.combine_frames import combine, frame_noise
from skylake.image.combine.make_masters import combine_options
from skylake.image.combine.photon_transfer import bias_variance
from skylake.image.combine.quantised_scatter import spread_of, step_of

SHAPE = (256, 256)


def rounded(seed: int, noise: float, count: int, shape: tuple[int, int] = SHAPE) -> list[np.ndarray]:
    """Bias frames in whole ADU, whose rows have zero levels of their own taken off."""
    random = np.random.default_rng(seed)
    zero = random.normal(0.0, 0.02, (count, shape[0], 1))
    return list(
        (np.rint(300.1 + random.normal(0.0, noise, (count, *shape))) - 300.0 - zero).astype(np.float32)
    )


def true_noise(noise: float) -> float:
    """Standard deviation of a rounded normal variable about 300.1."""
    return float(np.rint(0.1 + np.random.default_rng(0).normal(0.0, noise, 10**6)).std())


@pytest.mark.parametrize("noise", [0.2, 0.25, 0.35, 0.5, 0.7, 1.0, 3.0])
def test_bias_frames_in_whole_numbers_show_their_noise(noise: float) -> None:
    pulls, true = [], true_noise(noise)
    for seed in range(4):
        frames = rounded(seed, noise, 4)
        variance, error = bias_variance([(frames[0], frames[1]), (frames[2], frames[3])])
        pulls.append((variance - true**2) / error)
        assert variance == pytest.approx(true**2, rel=0.05)
        assert error < 0.05 * variance
    assert np.abs(pulls).max() < 4.5
    assert frame_noise(rounded(9, noise, 6)) == pytest.approx(true, rel=0.06)


@pytest.mark.parametrize("noise", [0.2, 0.3, 0.6])
@pytest.mark.parametrize("count", [5, 12])
def test_an_integer_master_bias_has_the_error_of_its_mean(noise: float, count: int) -> None:
    frames = rounded(5, noise, count, (128, 128))
    made = combine(np.stack(frames), combine_options("bias", frames, 1.0))
    random = np.random.default_rng(0)
    truth = float(np.rint(0.1 + random.normal(0.0, noise, 10**6)).mean())
    scatter = float(np.sqrt(np.mean((made.mean - truth) ** 2)))
    assert made.rejected_fraction < 0.003
    assert float(np.sqrt(np.mean(made.error**2))) == pytest.approx(scatter, rel=0.1)
    assert float(made.error.min()) > 0.4 * scatter


def test_outliers_make_no_step_and_fine_values_have_none() -> None:
    random = np.random.default_rng(3)
    values = np.zeros(10000)
    values[:40] = random.uniform(100.0, 5000.0, 40)
    assert step_of(values) == 0.0 and spread_of(values) == 0.0
    smooth = random.normal(0.0, 2.0, 10000)
    assert step_of(smooth) < 0.2 and spread_of(smooth) == pytest.approx(2.0, rel=0.04)
    assert step_of(16.0 * np.rint(smooth)) == 16.0 and step_of([]) == 0.0
    assert step_of(np.full(100, 7.0)) == 0.0 and np.isnan(spread_of([np.nan]))


def test_cosmic_rays_do_not_matter_to_coarse_frames() -> None:
    frames = rounded(6, 0.3, 4)
    random = np.random.default_rng(7)
    for frame in frames:
        frame.reshape(-1)[random.integers(0, frame.size, 60)] += random.uniform(20.0, 3000.0, 60)
    variance, _ = bias_variance([(frames[0], frames[1]), (frames[2], frames[3])])
    assert variance == pytest.approx(true_noise(0.3) ** 2, rel=0.06)
    assert frame_noise(frames) == pytest.approx(true_noise(0.3), rel=0.06)
