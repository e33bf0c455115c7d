import numpy as np
import pytest

from skylake.image.wcs.lens import Lens
from skylake.image.wcs.residual_field import ResidualField
from skylake.report.astrometry_page import (
    FrameResiduals,
    distortion_map,
    residual_histogram,
    residual_quiver,
    residuals_against_radius,
    stored_field,
)
from skylake.report.style import RED, save

SHAPE = (500, 800)
PICTURES = [residual_quiver, residuals_against_radius, residual_histogram]


def residuals(number=60, outward=0.0):
    random = np.random.default_rng(2)
    x, y = random.uniform(0.0, 799.0, number), random.uniform(0.0, 499.0, number)
    away = np.array([x - 399.5, y - 249.5])
    dx, dy = random.normal(0.0, 0.1, (2, number)) + outward * away / np.hypot(*away)
    return FrameResiduals(x, y, dx, dy, np.ones(number, bool), SHAPE, 20.0)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("number", [0, 5, 60, 900])
def test_pictures_are_drawn_of_any_number_of_stars(picture, number, tmp_path):
    figure = picture(residuals(number), "a frame")
    save(figure, tmp_path / "some.png")
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "a frame"
    assert (axes.get_legend() is not None) == (number > 0)
    assert (number == 0) == (axes.get_xlabel() == "")
    assert (tmp_path / "some.png").stat().st_size > 2000


def test_arrows_have_a_scale_in_arcsec():
    (key,) = [
        one
        for one in residual_quiver(residuals(outward=0.5), "a frame").axes[0].get_children()
        if type(one).__name__ == "QuiverKey"
    ]
    # A pixel is 20 arcsec, and arrows are half of one long.
    assert key.text.get_text() == '10" (0.5 px)'


def test_many_arrows_are_medians_of_cells():
    (arrows,) = residual_quiver(residuals(900), "a frame").axes[0].collections
    assert 100 < len(arrows.U) <= 160


def test_a_wrong_scale_shows_away_from_the_middle():
    axes = residuals_against_radius(residuals(400, outward=0.3), "a frame").axes[0]
    outward, around = (bars.lines[0].get_ydata() for bars in axes.containers)
    assert np.median(outward) == pytest.approx(0.3, abs=0.03)
    assert np.median(around) == pytest.approx(0.0, abs=0.03)


def test_a_distortion_map_shows_pixels():
    lens = Lens((0.1, 0.2, 0.3), 2000.0, 399.5, 249.5, radial=(0.3, 0.0, 0.0))
    figure = distortion_map(lens, SHAPE, "a frame")
    (image,) = figure.axes[0].images
    ideal = np.hypot(399.5, 249.5)
    for _ in range(20):
        ideal = np.hypot(399.5, 249.5) / (1.0 + 0.3 * (ideal / 2000.0) ** 2)
    assert np.nanmax(image.get_array()) == pytest.approx(np.hypot(399.5, 249.5) - ideal, rel=1e-3)


def test_a_stored_field_is_drawn_cell_by_cell(tmp_path):
    one = residuals(300, outward=0.4)
    told = ResidualField.of(one.x, one.y, np.array([one.dx, one.dy]), np.ones(300), SHAPE)
    figure = stored_field(told, SHAPE, 20.0, 3, "a camera")
    save(figure, tmp_path / "field.png")
    (arrows,) = figure.axes[0].collections
    assert len(arrows.U) == 40 and figure.axes[0].images[0].get_array().shape == (5, 8)
    assert (arrows.U.reshape(5, 8)[:, 0] < -0.2).all() and (arrows.U.reshape(5, 8)[:, 7] > 0.2).all()
    assert "300 stars of 3 frames" in figure.axes[0].get_legend().get_texts()[0].get_text()


def test_cells_without_stars_and_without_residuals_differ(tmp_path):
    x, y = np.array([40.0, 60.0, 150.0, 750.0]), np.array([40.0, 60.0, 450.0, 480.0])
    some = np.array([[0.0, 0.0, 0.1, 0.9], [0.0, 0.0, 0.0, 0.9]])
    figure = stored_field(ResidualField.of(x, y, some, np.ones(4), SHAPE), SHAPE, 20.0, 1, "a camera")
    save(figure, tmp_path / "field.png")
    axes = figure.axes[0]
    drawn = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert np.isfinite(drawn).sum() == 3 and drawn[0, 0] == 0.0
    assert axes.patch.get_hatch() and axes.images[0].cmap(0.0)[:3] == (1.0, 1.0, 1.0)
    legend = [one.get_text() for one in axes.get_legend().get_texts()]
    assert legend == ["means of 4 stars of 1 frame", "no star"]
    # The longest arrow, in a corner, is whole, and hardly leaves its cell.
    (arrows,) = axes.collections
    assert not arrows.get_clip_on()
    assert np.hypot(arrows.U, arrows.V).max() / arrows.scale < 1.3 * 100.0


@pytest.mark.parametrize(
    ("lens", "whole"),
    [
        (Lens((0.1, 0.2, 0.3), 2000.0, 399.5, 249.5, radial=(0.3, 0.0, 0.0)), False),
        (Lens((0.0, 0.0, 1.0), 160.0, 400.0, 250.0, (0.05, 0.0, 0.0), projection="equidistant"), True),
    ],
    ids=["narrow", "sky"],
)
def test_labels_of_equal_distance_are_whole(lens, whole):
    figure = distortion_map(lens, SHAPE, "a frame", whole_sky=whole)
    axes = figure.axes[0]
    places = np.array([text.get_position() for text in axes.texts])
    assert len(places) >= 2
    room = 0.03 * SHAPE[1]
    for corner in (-1.0, 1.0):
        around = places + corner * room
        assert (around > 0.0).all() and (around < np.array(SHAPE[::-1]) - 1.0).all()
        if whole:  # and none at the horizon, where the colours end
            assert np.isfinite(lens.to_vectors(*around.T)).all()
            assert (lens.to_vectors(*around.T)[:, 2] > 0.0).all()
    (handle,) = (one for one in axes.get_legend().legend_handles if type(one).__name__ == "Line2D")
    assert handle.get_color() == RED


def test_where_no_frame_has_stored_a_field_the_picture_says_so():
    assert "no frame" in stored_field(None, SHAPE, 20.0, 0, "a camera").axes[0].texts[0].get_text()
