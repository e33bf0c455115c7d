import numpy as np
import pytest

from skylake.core.camera import Site
from skylake.core.horizon import Horizon, altitude_azimuth
from skylake.image.allsky.geometry_epochs import Geometry
from skylake.image.allsky.horizon_search import SkyStars
from skylake.image.allsky.refine_geometry import Refined
from skylake.image.allsky.solve_allsky import AllSkySolution, Residuals
from skylake.image.allsky.star_fit import StarMatches
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.sky_view import SkyView
from skylake.report.geometry_page import (
    horizon_grid,
    residual_arrows,
    residual_spread,
    residuals_against_azimuth,
    residuals_against_zenith_distance,
    sky_chart,
)
from skylake.report.style import save

PICTURES = [
    residual_arrows, residuals_against_zenith_distance, residuals_against_azimuth, sky_chart, residual_spread,
]  # fmt: skip


def solution(number=800, outward=0.0):
    random = np.random.default_rng(1)
    vectors = random.normal(size=(number, 3))
    vectors[:, 2] = np.abs(vectors[:, 2]) + 0.1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lens = Lens.aimed([0, 0, 1], [0, 1, 0], 340.0, (700.0, 520.0), "equidistant")
    x, y = lens.to_pixels(vectors)
    radius = np.hypot(x - 700.0, y - 520.0)
    dx, dy = random.normal(0.0, 0.2, (2, number)) + outward * np.array([x - 700.0, y - 520.0]) / radius
    altitude, azimuth = altitude_azimuth(vectors)
    residuals = Residuals(
        x + dx, y + dy, dx, dy, np.hypot(dx, dy) * 600.0, altitude, azimuth, random.uniform(1.0, 6.0, number)
    )
    view = SkyView(lens, Horizon.of(58347.0, Site("", 0.0, 30.0)), (1040, 1392))
    stars = SkyStars(vectors, residuals.mag)
    every = np.arange(number)
    refined = Refined(
        lens, stars, StarMatches(every, every, np.hypot(dx, dy)), np.stack([dx, dy], axis=1), 0.3, 10
    )
    return AllSkySolution(view, 500.0, 10, 0.3, 0.3, 180.0, 300, 290, 0.0, 1.0, 0.5, residuals, refined)


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_are_drawn_and_say_when_there_is_nothing(picture, tmp_path):
    save(picture(solution(), "a camera"), tmp_path / "some.png")
    save(picture(solution(0), "a camera"), tmp_path / "none.png")
    assert (tmp_path / "some.png").stat().st_size > 2 * (tmp_path / "none.png").stat().st_size > 2000


def test_arrows_have_a_scale_in_arcsec():
    figure = residual_arrows(solution(outward=1.0), "a camera")
    (key,) = [one for one in figure.axes[0].get_children() if type(one).__name__ == "QuiverKey"]
    # A pixel is 600 arcsec, and arrows are about as long.
    assert key.text.get_text() == '500" (0.83 px)'


def test_a_wrong_scale_shows_away_from_the_zenith():
    axes = residuals_against_zenith_distance(solution(outward=0.5), "a camera").axes[0]
    outward, around = (bars.lines[0].get_ydata() for bars in axes.containers)
    assert np.median(outward) == pytest.approx(0.5, abs=0.05)
    assert np.median(around) == pytest.approx(0.0, abs=0.05)


def test_arrows_end_in_the_picture():
    found = solution()
    found.residuals.dx_px[:6], found.residuals.x[:6], found.residuals.y[:6] = 40.0, 700.0, 520.0
    (arrows,) = [one for one in residual_arrows(found, "").axes[0].collections if hasattr(one, "U")]
    # In pixels of the image, no arrow is longer than one and a half cells.
    assert np.hypot(arrows.U, arrows.V).max() / arrows.scale <= 1.51 * 1040 / 12


def test_the_horizon_is_drawn_where_the_lens_has_it():
    lens = Lens.aimed([0, 0, 1], [0, 1, 0], 340.0, (700.0, 520.0), "equidistant")
    axes = horizon_grid(Geometry(lens, (1040, 1392), 58347.0, 58347.4, 1, 900, 0.3, 0.3), "a camera").axes[0]
    x, y = next(line for line in axes.lines if line.get_label() == "horizon").get_data()
    assert np.hypot(np.subtract(x, 700.0), np.subtract(y, 520.0)) == pytest.approx(340.0 * np.pi / 2.0)
    assert {"N", "E", "S", "W", "30°"} <= {text.get_text() for text in axes.texts}
