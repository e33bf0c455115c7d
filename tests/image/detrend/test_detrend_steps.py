from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import Camera, Detector, ReductionSteps
from skylake.core.frame import RawImage, StoredImage
from skylake.errors import FrameFailed
from skylake.image.detrend.detrend_chain import Conditions, detrend_image
from skylake.image.detrend.detrend_steps import (
    delinearised,
    image_grid,
    linearise,
    overscan_level,
    reference_correction,
    unlit_level,
)
from skylake.image.masters.master_file import MasterFrame


def test_reference_pixels_take_off_what_channels_and_rows_have() -> None:
    random = np.random.default_rng(1)
    height, width, channels, border = 256, 320, 8, 4
    offsets = np.repeat(random.normal(0.0, 200.0, channels), width // channels)
    drift = np.linspace(0.0, 30.0, height)[:, None]
    slow = 10.0 * np.sin(np.arange(height) / 40.0)[:, None]
    raw = 5000.0 + offsets + drift + slow + random.normal(0.0, 3.0, (height, width))
    sky = np.zeros((height, width))
    sky[border:-border, border:-border] = 700.0
    raw = (raw + sky).astype(np.float32)
    raw[1, 5], raw[100, 2] = np.nan, 60000.0
    corrected = raw - reference_correction(raw, border, channels)
    inner = corrected[border:-border, border:-border]
    assert np.median(inner) == pytest.approx(700.0, abs=1.0)
    assert np.nanstd(inner) < 4.0
    assert np.nanstd(raw[border:-border, border:-border]) > 100.0


def test_channels_of_whole_numbers_differ_by_parts_of_one() -> None:
    random = np.random.default_rng(5)
    offsets = np.repeat(random.uniform(0.0, 30.0, 8), 40)
    raw = np.rint(1000.0 + offsets + random.normal(0.0, 1.5, (256, 320))).astype(np.float32)
    level = reference_correction(raw, 8, 8)[100] - (1000.0 + offsets)
    print("channels are off by", level[20::40])
    # Medians would be off by 0.26.
    assert level[20::40].std() < 0.12


@pytest.mark.parametrize("steps", [(), ("trim",), ("trim", "bayer"), ("bayer",)])
@pytest.mark.parametrize("colour", ["R", "G", "G2"])
def test_the_grid_of_an_image_is_known_without_its_pixels(steps: tuple[str, ...], colour: str) -> None:
    detector = Detector(trim_x=(3, 30), trim_y=(4, 38), bayer_pattern="RGGB")
    reduction = ReductionSteps(steps=steps, colour=colour)  # type: ignore[arg-type]
    camera = Camera("lab", detector=detector, reduction=reduction)
    pixels = np.random.default_rng(3).normal(100.0, 5.0, (40, 32)).astype(np.float32)
    image = detrend_image(StoredImage(pixels, {}, 0), camera, None)
    assert image_grid(pixels.shape, camera) == (image.offset, image.raw_step)


def test_an_array_that_is_all_border_is_reported() -> None:
    with pytest.raises(FrameFailed, match="reference_border_px") as caught:
        reference_correction(np.zeros((8, 8), np.float32), 4, 1)
    assert caught.value.reason == "wrong_size"


@given(st.floats(-2e-6, 2e-6), st.floats(0.0, 2e-11))
def test_linearising_undoes_the_curve_and_scales_the_variance(c2: float, c3: float) -> None:
    pixels = np.linspace(-50.0, 40000.0, 200, dtype=np.float32).reshape(10, 20)
    signal = np.maximum(pixels, 0.0).astype(float)
    wanted = pixels + c2 * signal**2 + c3 * signal**3
    slope = 1.0 + 2.0 * c2 * signal + 3.0 * c3 * signal**2
    variance = np.full(pixels.shape, 4.0, np.float32)
    linearise(pixels, variance, (c2, c3))
    np.testing.assert_allclose(pixels, wanted, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(variance, 4.0 * slope**2, rtol=1e-4)


def test_overscan_of_columns_is_a_level_for_each_row() -> None:
    stored = np.tile(np.arange(6, dtype=np.uint16)[:, None] * 10, (1, 8))
    zero = overscan_level(StoredImage(stored, {}, 0), Detector(overscan_x=(-3, 8)))
    assert zero is not None and zero.levels.tolist() == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    assert zero.error == 0.0
    assert overscan_level(StoredImage(stored, {}, 0), Detector()) is None


CORNERS = ((0, 10, 0, 10), (90, 100, 0, 10), (0, 10, 70, 80), (90, 100, 70, 80))


def test_unlit_corners_show_the_level_with_its_error() -> None:
    found, told = [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        pixels = 500.0 + random.normal(0.0, 5.0, (80, 100)) + 0.0
        pixels[15:65, 15:85] += 3000.0
        pixels[3, 3], pixels[74, 95] = np.nan, 60000.0
        zero = unlit_level(StoredImage(pixels.astype(np.float32), {}, 0), Detector(unlit=CORNERS))
        found.append(zero.levels[0] - 500.0)
        told.append(zero.error)
        assert zero.levels.shape == (80,) and np.ptp(zero.levels) == 0.0
    assert np.std(found) == pytest.approx(np.mean(told), rel=0.35)
    assert abs(np.mean(found)) < 3.0 * np.std(found) / np.sqrt(60)


def test_corners_that_differ_make_the_level_uncertain() -> None:
    stored = np.full((80, 100), 500.0, np.float32)
    stored[70:, 90:] += 40.0
    zero = unlit_level(StoredImage(stored, {}, 0), Detector(unlit=CORNERS))
    assert zero.levels[0] == 500.0 and zero.error == pytest.approx(10.0)
    with pytest.raises(FrameFailed, match=r"detector\.unlit") as caught:
        unlit_level(StoredImage(stored, {}, 0), Detector(unlit=((200, 210, 0, 10),)))
    assert caught.value.reason == "wrong_size"


def test_the_unlit_level_is_subtracted_before_trimming() -> None:
    random = np.random.default_rng(3)
    pixels = (700.0 + random.normal(0.0, 5.0, (80, 100))).astype(np.float32)
    pixels[15:65, 15:85] += 3000.0
    flat = np.ones((50, 70), np.float32)
    detector = Detector(unlit=CORNERS, trim_x=(15, 85), trim_y=(15, 65))
    camera = Camera("lab", detector=detector, reduction=ReductionSteps(("unlit", "trim", "flat")))
    masters = {"flat": MasterFrame("flat", flat, 0.0 * flat, None, (15, 15))}
    conditions = Conditions(gain=2.0, read_noise=10.0, masters=masters, gain_known=True)
    image = detrend_image(RawImage(pixels, {}, 0), camera, conditions)
    assert image.pixels.shape == (50, 70) and np.median(image.pixels) == pytest.approx(3000.0, abs=1.5)
    error = unlit_level(StoredImage(pixels, {}, 0), detector).error
    assert image.read_variance == pytest.approx(25.0 + error**2)
    assert image.variance is not None
    np.testing.assert_allclose(image.variance, image.pixels / 2.0 + 25.0 + error**2, rtol=1e-4)


@pytest.mark.parametrize("width", [2, 3, 5, 32])
def test_the_error_of_the_overscan_is_that_of_its_mean(width: int) -> None:
    random = np.random.default_rng(width)
    # Rows that differ from one another keep their own levels.
    true = (
        300.0 + 20.0 * np.sin(np.arange(4000) / 300.0) + random.normal(0.0, 30.0 if width > 2 else 0.0, 4000)
    )
    columns = np.linspace(0.0, 4.0, width) - 2.0
    stored = (true[:, None] + columns + random.normal(0.0, 6.0, (4000, width))).astype(np.float32)
    zero = overscan_level(StoredImage(stored, {}, 0), Detector(overscan_x=(0, width)))
    assert zero is not None
    # The formula is that of many pixels; of three and five what is clipped costs a few per cent.
    assert zero.error == pytest.approx(float(np.std(zero.levels - true)), rel=0.1)
    level = overscan_level(StoredImage(stored, {}, 0), Detector(overscan_y=(0, 100)))
    assert level is not None and level.error < 0.1 * 6.0


@given(st.floats(-2e-6, 4e-6), st.floats(-1e-11, 2e-11))
def test_what_was_linearised_goes_back_to_what_was_seen(c2: float, c3: float) -> None:
    seen = np.linspace(-50.0, 40000.0, 60)
    signal = np.maximum(seen, 0.0)
    linear = seen + c2 * signal**2 + c3 * signal**3
    np.testing.assert_allclose(delinearised(linear, (c2, c3)), seen, rtol=1e-6, atol=1e-4)


def test_a_signal_that_no_curve_reaches_has_none_that_was_seen() -> None:
    # x - 1e-5 x^2 is nowhere above 25,000.
    assert np.isnan(delinearised([20000.0, 30000.0], (-1e-5,))).tolist() == [False, True]


@pytest.mark.parametrize("noise", [0.3, 0.6, 0.9, 1.2, 1.6, 2.0, 3.0])
def test_whole_numbers_do_not_make_rows_differ(noise: float) -> None:
    random = np.random.default_rng(round(10 * noise))
    rounded = float(np.hypot(noise, 12.0**-0.5))
    off, own = [], []
    for number in range(12):
        true = 1000.0 + number / 12.0
        stored = np.rint(true + random.normal(0.0, noise, (1024, 30))).astype(np.float32)
        zero = overscan_level(StoredImage(stored, {}, 0), Detector(overscan_x=(0, 30)))
        assert zero is not None
        off.append(zero.levels - true)
        own.append(zero.own_error)
    print("rows differ by", [f"{one.std():.3f}" for one in off], "told", own)
    # A median would be half an ADU off. Noise that is much less than a step does not move the mean as it should.
    assert np.sqrt(np.mean(np.square(off))) < (0.02 if noise > 0.5 else 0.08) + 0.3 * rounded / np.sqrt(30.0)
    assert np.count_nonzero(np.array(own) > 0.5 * rounded / np.sqrt(30.0)) <= 1


def test_unlit_areas_of_whole_numbers_show_parts_of_one() -> None:
    random = np.random.default_rng(3)
    pulls = []
    for number in range(40):
        true = 500.0 + number / 40.0
        stored = np.rint(true + random.normal(0.0, 1.5, (80, 100))).astype(np.float32)
        zero = unlit_level(StoredImage(stored, {}, 0), Detector(unlit=CORNERS))
        pulls.append((zero.levels[0] - true) / zero.error)
    print("mean and width of the pulls:", np.mean(pulls), np.std(pulls))
    assert abs(np.mean(pulls)) < 0.4 and 0.6 < np.std(pulls) < 1.3


@pytest.mark.parametrize("kind", ["lit column", "lit columns", "bleeding", "hot pixels"])
def test_light_in_an_overscan_is_left_out(kind: str) -> None:
    random = np.random.default_rng(6)
    raw = 1000.3 + random.normal(0.0, 3.0, (1024, 32))
    if kind == "lit column":
        raw[:, 0] = 30000.0 + random.normal(0.0, 150.0, 1024)
    elif kind == "lit columns":
        raw[:, :3] = 4000.0 + random.normal(0.0, 50.0, (1024, 3))
    elif kind == "bleeding":
        raw[500:600, :10] += 60000.0 * np.exp(-np.arange(10) / 2.0)
    else:
        raw += np.where(random.random(raw.shape) < 0.02, random.exponential(5000.0, raw.shape), 0.0)
    zero = overscan_level(
        StoredImage(np.rint(np.minimum(raw, 65535.0)).astype(">u2"), {}, 0), Detector(overscan_x=(0, 32))
    )
    assert zero is not None
    off = zero.levels - 1000.3
    print(kind, "bias", off.mean(), "rms", off.std(), "told", zero.error)
    assert abs(off.mean()) < 0.1 and np.abs(off).max() < 3.0
    assert 0.7 * off.std() < zero.error < 1.4 * off.std()
