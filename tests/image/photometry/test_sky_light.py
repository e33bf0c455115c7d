"""The light of catalog stars in the sky of a frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skylake.core.aperture_light import StarProfile
from skylake.image.photometry.aperture_kernels import stamp_sums
from skylake.image.photometry.cutouts import Cutouts
from skylake.image.photometry.pixel_sum_kernels import FLUX, N_SUMS
from skylake.image.photometry.sky_light import FrameSky, draw_stars, sky_light, star_stamps

PROFILE = StarProfile(2.8)
NONE = np.zeros(0)


def sky_of(shape: tuple[int, int], x=NONE, y=NONE, n_pixels=NONE, annulus=None) -> FrameSky:
    return FrameSky(shape, x, y, np.asarray(n_pixels, np.int32), 10.0, 32, annulus)


@pytest.mark.parametrize("beta", [3.5, 40.0])
def test_drawn_stars_have_the_growth_of_their_profile(beta: float) -> None:
    """To two per cent in the core; a star drawn alone is that of the image to the last digit."""
    random = np.random.default_rng(4)
    places = 30.0 + 60.0 * np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2)
    places += random.uniform(-0.5, 0.5, places.shape)
    profile = StarProfile(3.0, beta)
    light = draw_stars((300, 300), places, np.full(25, 100.0), profile)
    radii = np.array([2.0, 3.0, 5.0, 8.0])
    sums = np.zeros((25, len(radii), N_SUMS))
    stamps = Cutouts.around(places[:, 0], places[:, 1], 12, light.shape)
    inside, none = np.zeros((25, 25, 25), np.uint8), np.zeros((25, 0, 0), np.float32)
    dx, dy = places[:, 0] - stamps.column + 12, places[:, 1] - stamps.row + 12
    stamp_sums(stamps.cut(light), inside, none, dx, dy, radii, sums)
    np.testing.assert_allclose(sums[..., FLUX].mean(axis=0), 100.0 * profile.within(radii), rtol=0.025)
    alone = draw_stars((300, 300), places[:1], np.full(1, 100.0), profile)
    one = Cutouts.around(places[:1, 0], places[:1, 1], 12, light.shape)
    np.testing.assert_allclose(100.0 * star_stamps(profile, one, places[:1]), one.cut(alone), atol=1e-4)


@pytest.mark.parametrize("shape", [(256, 300), (2200, 1500)])
def test_without_detections_the_sky_has_all_light(shape: tuple[int, int]) -> None:
    """Stars that nobody detects are as bright in the sky as they are many."""
    random = np.random.default_rng(5)
    n = shape[0] * shape[1] // 20
    places = random.uniform(-60.0, 60.0 + np.array(shape[::-1]), (n, 2))
    density = n / (shape[0] + 120) / (shape[1] + 120)
    wanted = random.uniform(20.0, np.array(shape[::-1]) - 20.0, (50, 2))
    level = sky_light(sky_of(shape), places, np.full(n, 3.0), PROFILE, wanted)
    assert level.mean() == pytest.approx(3.0 * density, rel=0.03)
    assert level.std() < 0.05 * level.mean()
    annulus = sky_light(sky_of(shape, annulus=(15.0, 40.0)), places, np.full(n, 3.0), PROFILE, wanted)
    assert annulus.mean() == pytest.approx(3.0 * density, rel=0.05)


def test_detected_stars_leave_their_wings() -> None:
    """What is bright is left out with its halo, in the whole sky and in the annulus; the faint remain."""
    random = np.random.default_rng(6)
    places = random.uniform(0.0, 400.0, (2060, 2))
    flux = np.where(np.arange(2060) < 60, 3000.0, 1.0)
    seen = places[:60]
    wanted = random.uniform(50.0, 350.0, (200, 2))
    blind = sky_light(sky_of((400, 400)), places, flux, PROFILE, wanted)
    assert blind.mean() > 0.05
    footprint = np.sqrt(60 / np.pi)
    for annulus, reach in ((None, 2.5 * footprint + 3.0), ((10.0, 25.0), footprint + 2.0)):
        sky = sky_of((400, 400), seen[:, 0], seen[:, 1], np.full(60, 60), annulus)
        level = sky_light(sky, places, flux, PROFILE, wanted)
        wings = 60 * 3000.0 * (1.0 - float(PROFILE.within(reach))) / 400**2
        assert level.mean() == pytest.approx(2000.0 / 400**2 + wings, rel=0.2)
        assert level.mean() < 0.1 * 60 * 3000.0 / 400**2


def test_a_gradient_of_stars_is_one_of_their_light() -> None:
    random = np.random.default_rng(7)
    x = 600.0 * np.sqrt(random.uniform(0.0, 1.0, 40000))
    places = np.column_stack([x, random.uniform(0.0, 600.0, 40000)])
    places[0] = np.nan
    wanted = np.array([[120.0, 300.0], [480.0, 300.0], [np.inf, np.nan]])
    level = sky_light(replace(sky_of((600, 600)), mesh_px=16), places, np.ones(40000), PROFILE, wanted)
    assert level[1] / level[0] == pytest.approx(4.0, rel=0.1)
    assert np.isfinite(level).all()
