"""Photon transfer gives gain, read noise and linearity back, with errors that pulls confirm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from skylake.image.combine.photon_transfer import linearity, pair_tiles, photon_transfer

SHAPE = (256, 256)


def flats(random: np.random.Generator, gain: float, noise_e: float, levels: list[float]) -> list[np.ndarray]:
    """Flats above bias in ADU, of a detector whose pixels differ by a per cent and whose lamp has a gradient."""
    response = 1.0 + random.normal(0.0, 0.01, SHAPE)
    slope = np.linspace(-0.5, 0.5, SHAPE[1])
    made = []
    for level in levels:
        light = level * gain * response * (1.0 + random.normal(0.0, 0.01) * slope)
        made.append(((random.poisson(light) + random.normal(0.0, noise_e, SHAPE)) / gain).astype(np.float32))
    return made


def biases(random: np.random.Generator, gain: float, noise_e: float, count: int) -> list[np.ndarray]:
    return [(random.normal(0.0, noise_e, SHAPE) / gain).astype(np.float32) for _ in range(count)]


def pairs(frames: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(frames[0::2], frames[1::2], strict=True))


@pytest.mark.slow
def test_pulls_of_gain_and_read_noise_are_normal() -> None:
    pulls = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        gain, noise_e = random.uniform(0.5, 5.0), random.uniform(4.0, 15.0)
        found = photon_transfer(
            pairs(flats(random, gain, noise_e, [18000.0, 20000.0])),
            pairs(biases(random, gain, noise_e, 4)),
        )
        assert found is not None
        pulls.append(
            ((found.gain - gain) / found.gain_err, (found.read_noise - noise_e) / found.read_noise_err)
        )
    table = np.array(pulls)
    assert np.abs(table.mean(axis=0)).max() < 0.5
    assert np.all((table.std(axis=0) > 0.75) & (table.std(axis=0) < 1.3))


@pytest.mark.slow
def test_pulls_of_the_gain_hold_a_response_that_nobody_knows() -> None:
    """Detectors that are short or long by about 1 % at the flats: one level says nothing of it, two levels do."""
    pulls: dict[bool, list[float]] = {False: [], True: []}
    errors: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(30):
        random = np.random.default_rng(seed)
        gain, level = random.uniform(0.5, 5.0), 30000.0
        # The quantiles of a normal distribution: few of them have its mean and width.
        c2 = float(norm.ppf((seed + 0.5) / 30.0)) * 0.01 / level
        for several in (False, True):
            light = flats(random, gain, 6.0, [level] * 4 + [3000.0] * 4 * several)
            roots = [np.sqrt(1.0 + 4.0 * c2 * one.astype(float)) for one in light]
            seen = [((root - 1.0) / (2.0 * c2)).astype(np.float32) for root in roots]
            found = photon_transfer(
                pairs(seen), pairs(biases(random, gain, 6.0, 2)), curvature=(0.0, 0.01 / level)
            )
            assert found is not None
            pulls[several].append((found.gain - gain) / found.gain_err)
            errors[several].append(found.gain_err / gain)
    for several in (False, True):
        assert abs(np.mean(pulls[several])) < 0.5 and 0.75 < np.std(pulls[several]) < 1.3
    assert np.median(errors[False]) == pytest.approx(0.03, rel=0.1)
    assert np.median(errors[True]) < 0.5 * np.median(errors[False])


def test_outliers_and_missing_pixels_do_not_matter() -> None:
    random = np.random.default_rng(1)
    frames = flats(random, 1.5, 8.0, [20000.0, 15000.0, 12000.0, 9000.0])
    for frame in frames:
        frame.reshape(-1)[random.integers(0, frame.size, 200)] += 5000.0
        frame[40:80, 100:140] = np.nan
    found = photon_transfer(pairs(frames), pairs(biases(random, 1.5, 8.0, 2)))
    assert found is not None
    assert abs(found.gain - 1.5) < 4.0 * found.gain_err and found.gain_err < 0.01
    assert found.levels.tolist() == pytest.approx([20000.0, 12000.0], rel=0.02)
    assert np.all(np.diff(found.variances) < 0.0)


def test_tiles_of_like_level_scatter_by_their_errors() -> None:
    """Also where the response is curved; the curve has the noise of single frames at the signal of theirs."""
    pulls = []
    for seed in range(20):
        random, gain, c2 = np.random.default_rng(seed), 1.5, 1e-6
        light = flats(random, gain, 8.0, [2000.0, 2100.0, 9000.0, 9000.0, 30000.0, 27000.0])
        seen = [((np.sqrt(1.0 + 4.0 * c2 * one) - 1.0) / (2.0 * c2)).astype(np.float32) for one in light]
        found = photon_transfer(pairs(seen), pairs(biases(random, gain, 8.0, 4)), curvature=(c2, 0.0))
        assert found is not None
        curve = found.curve
        assert len(curve.level) == 48 and np.all(np.diff(curve.level) > 0.0)
        # Of light x + c2 x^2 the noise is that of its electrons over the slope of the response.
        slope = 1.0 + 2.0 * c2 * curve.level
        true = (curve.level + c2 * curve.level**2) / gain / slope**2 + (8.0 / gain) ** 2
        assert curve.fitted == pytest.approx(true, rel=0.02)
        pulls.append((curve.variance - curve.fitted) / curve.variance_err)
    assert abs(np.mean(pulls)) < 0.1 and 0.8 < np.std(pulls) < 1.2


def test_levels_of_many_kinds_give_the_read_noise_in_the_fit() -> None:
    random = np.random.default_rng(2)
    found = photon_transfer(pairs(flats(random, 2.0, 10.0, [100.0, 100.0, 20000.0, 20000.0])))
    assert found is not None and found.gain == pytest.approx(2.0, rel=0.02)
    assert np.isnan(found.read_noise)


def test_noise_that_rows_have_in_common_is_no_read_noise() -> None:
    random = np.random.default_rng(3)
    frames = [
        one + random.normal(0.0, 5.0, (SHAPE[0], 1)).astype(np.float32) for one in biases(random, 1.0, 8.0, 4)
    ]
    found = photon_transfer(pairs(flats(random, 1.0, 8.0, [20000.0, 20000.0])), pairs(frames))
    assert found is not None and found.read_noise == pytest.approx(8.0, abs=5.0 * found.read_noise_err)


def test_without_light_there_is_no_gain() -> None:
    random = np.random.default_rng(4)
    assert photon_transfer(pairs(biases(random, 1.0, 5.0, 2))) is None
    assert photon_transfer([]) is None
    assert len(pair_tiles(np.full(SHAPE, np.nan, np.float32), np.ones(SHAPE, np.float32)).level) == 0


def test_a_curved_response_is_found_within_its_error() -> None:
    pulls = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        times = np.repeat([1.0, 2.0, 5.0, 10.0, 20.0, 30.0], 2)
        true = 1500.0 * times
        c2 = 2e-6
        measured = (np.sqrt(1.0 + 4.0 * c2 * true) - 1.0) / (2.0 * c2)
        seen = measured * (1.0 + random.normal(0.0, 1e-3, len(times)))
        found = linearity(seen, times, 1e-3 * seen)
        assert found is not None
        pulls.append((found.coefficient - c2) / found.coefficient_err)
        assert np.all(np.diff(found.ratios[::2]) < 0.01)
        assert found.fitted == pytest.approx(1.0 / (1.0 + found.coefficient * seen), rel=1e-12)
        assert found.ratios == pytest.approx(found.fitted, abs=0.01)
    assert abs(np.mean(pulls)) < 0.5 and 0.7 < np.std(pulls) < 1.4
    assert found.coefficient == pytest.approx(c2, rel=0.1)


@pytest.mark.parametrize("short", [0.01, 0.05])
def test_a_curved_response_does_not_spoil_the_gain(short: float) -> None:
    random, gain = np.random.default_rng(11), 1.5
    c2 = short / 30000.0

    def curved(levels: list[float]) -> list[np.ndarray]:
        made = [one.astype(float) for one in flats(random, gain, 6.0, levels)]
        return [((np.sqrt(1.0 + 4.0 * c2 * one) - 1.0) / (2.0 * c2)).astype(np.float32) for one in made]

    dark = pairs(biases(random, gain, 6.0, 4))
    bright = pairs(curved([30000.0] * 4))
    plain = photon_transfer(bright, dark)
    told = photon_transfer(bright, dark, curvature=(c2, 0.02 * c2))
    guessed = photon_transfer(bright, dark, curvature=(0.0, short / 30000.0))
    shown = photon_transfer(bright + pairs(curved([3000.0] * 8)), dark, curvature=(0.0, 2.0 * c2))
    assert plain is not None and told is not None and guessed is not None and shown is not None
    assert plain.gain - gain > 4.0 * plain.gain_err
    assert abs(told.gain - gain) < 3.0 * told.gain_err and told.gain_err < 0.006 + 0.1 * short
    assert abs(guessed.gain - gain) < 2.0 * guessed.gain_err
    assert abs(guessed.read_noise - 6.0) < 2.0 * guessed.read_noise_err
    assert abs(shown.gain - gain) < 3.0 * shown.gain_err and shown.gain_err < guessed.gain_err


def test_flats_of_one_exposure_say_nothing_of_linearity() -> None:
    assert linearity([100.0, 200.0, 300.0], [5.0, 5.0, 5.0], [1.0, 1.0, 1.0]) is None


def test_twilight_says_nothing_of_linearity() -> None:
    random = np.random.default_rng(9)
    for fall, repeats, wait in [(-160.0, 1, 35.0), (-160.0, 2, 35.0), (-600.0, 3, 20.0), (300.0, 2, 10.0)]:
        times = np.repeat([3.0, 4.0, 6.0, 9.0, 14.0, 20.0], repeats)
        start = np.concatenate([[0.0], np.cumsum(times + wait)[:-1]])
        levels = 2000.0 * np.exp(start / fall) * times * (1.0 + random.normal(0.0, 1e-3, len(times)))
        assert linearity(levels, times, 1e-3 * levels) is None


def test_a_lamp_that_warms_up_gives_no_linearity() -> None:
    random = np.random.default_rng(10)
    times = np.repeat([1.0, 2.0, 5.0, 10.0, 20.0, 30.0], 2)
    levels = 1500.0 * times * (1.0 + 2e-3 * np.arange(12)) * (1.0 + random.normal(0.0, 1e-4, 12))
    assert linearity(levels, times, 1e-3 * levels) is None
    steady = 1500.0 * times * (1.0 + random.normal(0.0, 1e-4, 12))
    assert linearity(steady, times, 1e-3 * steady) is not None
    assert linearity(steady[::2], times[::2], 1e-3 * steady[::2]) is None
