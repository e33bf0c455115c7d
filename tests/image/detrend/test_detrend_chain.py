from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skylake.core.camera import Camera, Detector, ReductionSteps
from skylake.core.flags import PixelFlag
from skylake.core.frame import Image, RawImage, SkyPlane
from skylake.errors import FrameFailed
from skylake.image.detrend.detrend_chain import Conditions, detrend_image
from skylake.image.masters.master_file import MasterFrame

pictures = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8),
    elements=st.one_of(
        st.floats(-100.0, 65535.0, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 3e38])
    ),
)


def prepared(pixels: Any, saturation: float | None = None, **detector: Any) -> Any:
    raw = RawImage(np.asarray(pixels, np.float32), {}, 0)
    before = raw.pixels.copy()
    image = detrend_image(raw, Camera("lab", detector=Detector(**detector)), saturation)
    np.testing.assert_array_equal(raw.pixels, before)
    return image


@given(pictures)
def test_valid_pixels_stay_and_others_become_the_median(pixels: np.ndarray) -> None:
    valid = np.isfinite(pixels) & (np.abs(pixels) < 1e15)
    if not valid.any():
        with pytest.raises(FrameFailed, match="no pixel holds a valid number") as caught:
            prepared(pixels)
        assert caught.value.reason == "no_valid_pixels"
        return
    image = prepared(pixels)
    np.testing.assert_array_equal(image.masked, ~valid)
    np.testing.assert_array_equal(image.pixels[valid], pixels[valid])
    np.testing.assert_array_equal(image.pixels[~valid], np.median(pixels[valid]))
    assert image.pixels.dtype == np.float32 and image.offset == (0, 0)


@given(pictures, st.floats(0.0, 60000.0), st.floats(0.0, 60000.0))
def test_saturation_is_judged_on_raw_pixels(pixels: np.ndarray, saturation: float, linearity: float) -> None:
    pixels[0, 0] = 7.0
    image = prepared(pixels, saturation, linearity_adu=linearity, overscan_y=(0, 1), overscan_x=(0, 1))
    np.testing.assert_array_equal(image.saturated, pixels >= np.float32(saturation))
    np.testing.assert_array_equal(image.near_saturated, pixels >= np.float32(linearity))
    np.testing.assert_array_equal(image.pixels[~image.masked], (pixels - np.float32(7.0))[~image.masked])


def test_without_levels_nothing_is_saturated() -> None:
    image = prepared(np.full((3, 3), 1e9))
    assert not image.saturated.any() and not image.near_saturated.any()


def test_each_row_loses_the_median_of_its_overscan() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(300.0, 20.0, (50, 1))
    pixels = np.tile(rows, (1, 60))
    pixels[:, 10:] += 100.0
    pixels[3, 2] = 6e4
    image = prepared(pixels, overscan_x=(0, 10), trim_x=(10, 60))
    np.testing.assert_allclose(image.pixels, 100.0, atol=1e-3)
    assert image.pixels.shape == (50, 50) and image.offset == (10, 0)


def test_an_overscan_of_rows_is_one_level() -> None:
    pixels = np.full((40, 30), 150.0)
    pixels[:5] = 50.0
    np.testing.assert_allclose(prepared(pixels, overscan_y=(0, 5), trim_y=(5, 40)).pixels, 100.0)


def test_a_row_without_overscan_is_masked() -> None:
    pixels = np.full((6, 8), 30.0)
    pixels[2, :3] = np.nan
    image = prepared(pixels, overscan_x=(0, 3), trim_x=(3, 8))
    np.testing.assert_array_equal(image.masked.all(axis=1), np.arange(6) == 2)
    assert np.isfinite(image.pixels).all()


@given(
    pictures,
    st.tuples(st.integers(0, 3), st.integers(4, 12)),
    st.tuples(st.integers(0, 3), st.integers(4, 12)),
)
def test_trimming_cuts_all_arrays_alike(pixels: np.ndarray, x: tuple[int, int], y: tuple[int, int]) -> None:
    pixels = np.nan_to_num(pixels, nan=1.0, posinf=2.0, neginf=3.0)
    pixels[np.abs(pixels) > 1e15] = 4.0
    height, width = pixels.shape
    if x[0] >= width or y[0] >= height:
        with pytest.raises(FrameFailed, match=r"detector\.trim_x and trim_y") as caught:
            prepared(pixels, trim_x=x, trim_y=y)
        assert caught.value.reason == "wrong_size"
        return
    image = prepared(pixels, 100.0, trim_x=x, trim_y=y, linearity_adu=50.0)
    cut = pixels[y[0] : y[1], x[0] : x[1]]
    np.testing.assert_array_equal(image.pixels, cut)
    np.testing.assert_array_equal(image.saturated, cut >= 100.0)
    np.testing.assert_array_equal(image.near_saturated, cut >= 50.0)
    assert image.offset == (x[0], y[0]) and image.pixels.flags.c_contiguous


def test_another_size_than_that_of_the_profile_is_reported() -> None:
    match = r"has 30 x 20 pixels and lab has 40 x 20; .*detector\.width_px = 30 and detector\.height_px = 20 in the"
    with pytest.raises(FrameFailed, match=match) as caught:
        prepared(np.zeros((20, 30)), width_px=40, height_px=20)
    assert caught.value.reason == "wrong_size"
    assert prepared(np.zeros((20, 30)), width_px=30, height_px=20).pixels.shape == (20, 30)


def test_an_overscan_outside_the_image_is_reported() -> None:
    with pytest.raises(FrameFailed, match=r"detector\.overscan_x") as caught:
        prepared(np.zeros((20, 30)), overscan_x=(40, 50))
    assert caught.value.reason == "wrong_size"


MASTERS = ("overscan", "trim", "bias", "dark", "flat")


def master(kind: str, pixels: Any, error: float = 0.0, **more: Any) -> MasterFrame:
    pixels = np.asarray(pixels, np.float32)
    mask = more.pop("mask", None)
    values = None if mask is not None else pixels
    return MasterFrame(kind, values, np.full_like(pixels, error), mask, more.pop("offset", (0, 0)), **more)


def reduced(pixels: Any, steps: Any, masters: Any = (), until: Any = None, **options: Any) -> Any:
    detector = options.pop("detector", {})
    camera = Camera(
        "lab", detector=Detector(**detector), reduction=ReductionSteps(steps, **options.pop("reduction", {}))
    )
    raw = RawImage(np.asarray(pixels, np.float32), {}, 0)
    conditions = Conditions(masters={one.kind: one for one in masters}, **options)
    return detrend_image(raw, camera, conditions, until)


def test_masters_are_applied_in_order_with_their_variance() -> None:
    random = np.random.default_rng(1)
    shape, gain, noise_e, exposure = (60, 80), 2.0, 6.0, 30.0
    bias = random.normal(300.0, 3.0, shape)
    dark_e = np.full(shape, 100.0)
    flat = random.normal(1.0, 0.1, shape)
    light = 4000.0
    masters = [
        master("bias", bias), master("dark", dark_e / gain / 3.0, exposure_s=10.0), master("flat", 1.0 / flat),
    ]  # fmt: skip
    frames = []
    for _ in range(200):
        electrons = random.poisson(light * flat + dark_e) + random.normal(0.0, noise_e, shape)
        image = reduced(
            bias + electrons / gain, ("bias", "dark", "flat"), masters, gain=gain, read_noise=noise_e,
            exposure_s=exposure,
        )  # fmt: skip
        frames.append(image.pixels)
    stack = np.stack(frames)
    np.testing.assert_allclose(stack.mean(axis=0), light / gain, rtol=0.01)
    ratio = stack.var(axis=0, ddof=1) / image.variance
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("steps", [("dark", "flat"), ("overscan", "dark", "flat")])
def test_with_a_dark_of_the_same_exposure_zero_is_no_light(steps: Any) -> None:
    random = np.random.default_rng(11)
    shape, gain, noise_e, n_darks = (60, 80), 1.5, 6.0, 9
    pedestal = random.normal(1000.0, 0.5, shape)
    dark_e = np.where(random.random(shape) < 0.1, 3000.0, 60.0)
    flat = random.normal(1.0, 0.1, shape)
    light = np.tile(np.where(np.arange(80) < 40, 150.0, 5e4), (60, 1))

    def exposed(light: Any) -> Any:
        return pedestal + (random.poisson(light * flat + dark_e) + random.normal(0.0, noise_e, shape)) / gain

    darks = np.stack([exposed(0.0) for _ in range(n_darks)])
    error = darks.std(axis=0, ddof=1) / np.sqrt(n_darks)
    masters = [
        replace(master("dark", darks.mean(axis=0), exposure_s=10.0, n_frames=n_darks), error=error.astype(np.float32)),
        master("flat", 1.0 / flat),
    ]  # fmt: skip
    images = [
        reduced(exposed(light), steps, masters, gain=gain, read_noise=noise_e, exposure_s=10.0)
        for _ in range(100)
    ]
    pulls = np.stack([(one.pixels - light / gain) / np.sqrt(one.variance) for one in images])
    for some in (light < 1e3) & (dark_e < 1e3), light > 1e3, dark_e > 1e3:
        assert pulls[:, some].std() == pytest.approx(1.0, abs=0.04)


def test_without_a_zero_level_step_there_is_no_variance() -> None:
    masters = [master("flat", np.ones((5, 5)))]
    assert reduced(np.full((5, 5), 1000.0), ("flat",), masters).variance is None
    assert reduced(np.full((5, 5), 1000.0), ("overscan", "flat"), masters).variance is None
    seen = reduced(np.full((5, 5), 1000.0), ("overscan", "flat"), masters, detector={"overscan_x": (0, 1)})
    assert seen.variance is not None


def test_the_error_of_the_overscan_is_part_of_the_variance() -> None:
    random = np.random.default_rng(12)
    shape, gain, noise_e, width = (500, 300), 1.5, 9.0, 5
    raw = 400.0 + random.normal(0.0, noise_e / gain, shape)
    light = np.tile(np.where(np.arange(300 - width) < 150, 40.0, 8000.0), (500, 1))
    raw[:, width:] += random.poisson(light * gain) / gain
    image = reduced(
        raw, ("overscan", "trim", "flat"), [master("flat", np.ones(light.shape), offset=(width, 0))], gain=gain,
        read_noise=noise_e, detector={"overscan_x": (0, width), "trim_x": (width, 300)},
    )  # fmt: skip
    pull = (image.pixels - light) / np.sqrt(image.variance)
    # Five pixels of overscan leave a quarter of the read noise squared in each of the row.
    assert pull[:, :150].std() == pytest.approx(1.0, abs=0.03)
    assert pull[:, 150:].std() == pytest.approx(1.0, abs=0.03)


def test_errors_of_masters_are_part_of_the_variance() -> None:
    masters = [master("bias", np.zeros((4, 4)), 3.0), master("flat", np.full((4, 4), 0.5), 0.1)]
    image = reduced(np.full((4, 4), 1000.0), ("bias", "flat"), masters, gain=1.0, read_noise=5.0)
    # value 500, flat 2 with error 0.1: (25 + 1000 + 9 + (500 * 0.1)^2) / 4
    np.testing.assert_allclose(image.variance, (25.0 + 1000.0 + 9.0 + 2500.0) / 4.0, rtol=1e-5)


def test_a_dark_made_with_the_same_bias_counts_its_error_once() -> None:
    bias = master("bias", np.zeros((4, 4)), 3.0, name="b")
    dark = master("dark", np.zeros((4, 4)), 5.0, exposure_s=10.0, used=("b",))
    image = reduced(np.zeros((4, 4)), ("bias", "dark"), [bias, dark], exposure_s=10.0)
    np.testing.assert_allclose(image.variance, 25.0 - 9.0, rtol=1e-5)


@given(st.permutations(["overscan", "trim"]), st.booleans())
def test_masters_of_raw_or_trimmed_size_fit_alike(order: list[str], whole: bool) -> None:
    random = np.random.default_rng(2)
    pixels = random.normal(500.0, 10.0, (20, 30))
    bias = random.normal(100.0, 5.0, (20, 30))
    cut = np.s_[2:18, 5:30]
    held = master("bias", bias) if whole else master("bias", bias[cut], offset=(5, 2))
    image = reduced(
        pixels,
        (*order, "bias"),
        [held],
        detector={"trim_x": (5, 30), "trim_y": (2, 18), "overscan_x": (0, 5)},
    )
    level = np.mean(pixels[:, :5].astype(np.float32), axis=1)[2:18, None]
    np.testing.assert_allclose(image.pixels, pixels[cut] - level - bias[cut], atol=1e-3)
    assert image.offset == (5, 2)


def test_a_master_that_does_not_cover_the_image_is_reported() -> None:
    with pytest.raises(FrameFailed, match="has 20 x 20 pixels and does not cover") as caught:
        reduced(np.zeros((20, 30)), ("bias",), [master("bias", np.zeros((20, 20)))])
    assert caught.value.reason == "wrong_size"


def test_a_step_without_its_master_is_reported() -> None:
    with pytest.raises(FrameFailed, match="the step flat has no master") as caught:
        reduced(np.zeros((5, 5)), ("flat",))
    assert caught.value.reason == "no_master"
    with pytest.raises(FrameFailed, match="exposure"):
        masters = [master("bias", np.zeros((5, 5))), master("dark", np.zeros((5, 5)))]
        reduced(np.zeros((5, 5)), ("bias", "dark"), masters, exposure_s=10.0)


def test_without_masters_of_light_there_is_no_variance() -> None:
    assert reduced(np.ones((5, 5)), ("overscan", "trim")).variance is None
    assert reduced(np.ones((5, 5)), ("bias",), [master("bias", np.zeros((5, 5)))]).variance is not None


def test_pixels_without_response_are_invalid_and_bad_ones_fixed() -> None:
    flat = np.ones((9, 9))
    flat[2, 2] = np.nan
    mask = np.zeros((9, 9), np.uint8)
    mask[4, 4] = PixelFlag.HOT
    pixels = np.full((9, 9), 100.0)
    pixels[4, 4] = 9e4
    masters = [master("flat", flat), master("bad_pixels", mask, mask=mask)]
    image = reduced(pixels, ("flat", "bad_pixels"), masters, saturation_adu=6e4)
    assert image.pixels[4, 4] == 100.0 and image.pixels[2, 2] == 100.0
    assert image.mask[4, 4] == PixelFlag.HOT | PixelFlag.REPAIRED | PixelFlag.SATURATED
    assert image.mask[2, 2] == PixelFlag.INVALID and np.count_nonzero(image.mask) == 2
    assert image.masked[4, 4] and image.masked[2, 2]


def test_a_colour_plane_keeps_masks_variance_and_place() -> None:
    pixels = np.tile(np.array([[10.0, 20.0], [22.0, 30.0]]), (4, 5))
    pixels[0, 1] = np.nan
    bias = master("bias", np.zeros((8, 10)))
    image = reduced(
        pixels,
        ("bias", "bayer"),
        [bias],
        detector={"bayer_pattern": "RGGB"},
        gain=1.0,
        reduction={"colour": "G"},
    )
    assert image.pixels.shape == (4, 5) and image.offset == (0.5, 0.5) and image.raw_step == 2
    np.testing.assert_array_equal(image.pixels[1:], 21.0)
    assert image.mask[0, 0] == PixelFlag.INVALID and not image.mask[1:].any()
    np.testing.assert_allclose(image.variance[1:], 21.0 / 2.0)


def test_a_curved_response_is_straightened_before_the_flat() -> None:
    image = reduced(
        np.full((3, 3), 10000.0), ("linearity", "flat"), [master("flat", np.full((3, 3), 2.0))],
        detector={"linearity": (1e-6,)},
    )  # fmt: skip
    np.testing.assert_allclose(image.pixels, (10000.0 + 100.0) * 2.0, rtol=1e-6)


def test_until_a_step_all_before_it_is_done() -> None:
    masters = [master("bias", np.full((5, 5), 10.0))]
    image = reduced(np.full((5, 5), 100.0), ("bias", "flat", "sky"), masters, until="flat")
    np.testing.assert_array_equal(image.pixels, 90.0)


def test_a_sky_needs_neighbours_and_is_taken_off() -> None:
    with pytest.raises(FrameFailed, match="neighbours") as caught:
        reduced(np.ones((5, 5)), ("sky",))
    assert caught.value.reason == "no_sky_frame"
    unknown = np.zeros((5, 5), bool)
    unknown[2, 3] = True

    def sky(image: Image) -> SkyPlane:
        return SkyPlane(image.pixels - 2.0, np.full((5, 5), 3.0, np.float32), unknown, 5.0, one_sided=True)

    image = reduced(np.full((5, 5), 7.0), ("sky",), sky=sky)
    np.testing.assert_array_equal(image.pixels, 2.0)
    assert image.variance is None and (image.sky.level, image.sky.one_sided) == (5.0, True)
    np.testing.assert_array_equal(image.mask, unknown * np.uint8(PixelFlag.REPAIRED))


def test_the_error_of_the_sky_is_part_of_the_variance() -> None:
    masters = [master("bias", np.zeros((4, 4)), 3.0)]
    sky = SkyPlane(*np.full((2, 4, 4), 4.0, np.float32), np.zeros((4, 4), bool), 4.0)
    image = reduced(np.full((4, 4), 1000.0), ("bias", "sky"), masters, read_noise=5.0, sky=lambda image: sky)
    np.testing.assert_allclose(image.variance, 25.0 + 1000.0 + 9.0 + 16.0, rtol=1e-5)


def test_cosmic_rays_are_marked_and_filled() -> None:
    pixels = np.random.default_rng(3).normal(1000.0, 10.0, (64, 64))
    pixels[20, 30] += 5000.0
    image = reduced(pixels, ("cosmic_rays",), gain=1.0, read_noise=5.0)
    assert image.mask[20, 30] == PixelFlag.COSMIC_RAY | PixelFlag.REPAIRED
    assert image.pixels[20, 30] == pytest.approx(1000.0, abs=30.0)
