import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.image.wcs.residual_field import ResidualField, rings

SHAPE = (300, 800)


def scattered(number=400, seed=1):
    random = np.random.default_rng(seed)
    return random.uniform(-0.5, 799.5, number), random.uniform(-0.5, 299.5, number)


def test_the_field_is_the_weighted_mean_of_each_cell():
    x, y = np.array([10.0, 20.0, 790.0, 790.0]), np.array([10.0, 10.0, 290.0, 280.0])
    residuals = np.array([[1.0, 4.0, -1.0, np.nan], [0.0, 3.0, 0.5, np.nan]])
    told = ResidualField.of(x, y, residuals, np.array([1.0, 0.5, 1.0, 0.0]), SHAPE)
    assert told.number.shape == (3, 8)
    assert (told.dx[0, 0], told.dy[0, 0], told.number[0, 0]) == (2.0, 1.0, 2)
    assert (told.dx[2, 7], told.dy[2, 7], told.number[2, 7]) == (-1.0, 0.5, 1)
    assert np.isnan(told.dx).sum() == np.isnan(told.dy).sum() == 22


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_the_text_of_a_field_gives_it_back(seed, number):
    random = np.random.default_rng(seed)
    x, y = scattered(number, seed)
    told = ResidualField.of(x, y, random.normal(size=(2, number)), np.ones(number), SHAPE)
    again = ResidualField.of_text(told.text())
    assert again.dx == pytest.approx(told.dx, abs=1e-4, nan_ok=True)
    assert again.dy == pytest.approx(told.dy, abs=1e-4, nan_ok=True)
    assert again.number.tolist() == told.number.tolist()
    assert len(told.text()) < 700


@pytest.mark.parametrize(
    "text", ["", "[]", '{"rows": 2}', '{"rows":1,"columns":2,"n":[1],"dx_px":[0],"dy_px":[0]}']
)
def test_what_is_no_field_is_refused(text):
    with pytest.raises(ValueError, match="is no field of residuals"):
        ResidualField.of_text(text)


def test_fields_of_frames_average_by_stars():
    x, y = scattered()
    residuals = np.random.default_rng(2).normal(size=(2, 400))
    parts = [slice(0, 30), slice(30, 400)]
    fields = [ResidualField.of(x[p], y[p], residuals[:, p], np.ones(len(x[p])), SHAPE) for p in parts]
    whole, mean = ResidualField.of(x, y, residuals, np.ones(400), SHAPE), ResidualField.together(fields)
    assert mean.dx == pytest.approx(whole.dx) and mean.dy == pytest.approx(whole.dy)
    assert mean.number.tolist() == whole.number.tolist()
    with pytest.raises(ValueError, match="one shape"):
        ResidualField.together([])


def test_rings_show_what_is_left_of_barrel_distortion():
    x, y = scattered(4000)
    from_middle = np.array([x - 399.5, y - 149.5])
    told = rings(x, y, 1e-3 * from_middle, np.ones(4000), SHAPE)
    half = 0.5 * np.hypot(*SHAPE)
    radial = [told[f"astrom_radial_ring{ring}_px"] for ring in (1, 2, 3, 4)]
    assert radial == pytest.approx(1e-3 * half * np.array([0.17, 0.38, 0.62, 0.86]), rel=0.06)
    assert told["astrom_rms_ring4_px"] == pytest.approx(radial[3], rel=0.02)
    around = rings(x, y, 1e-3 * from_middle[::-1] * [[1.0], [-1.0]], np.ones(4000), SHAPE)
    assert abs(around["astrom_radial_ring4_px"]) < 1e-6 < around["astrom_rms_ring4_px"]
    assert np.isnan(
        rings(np.zeros(1), np.zeros(1), np.zeros((2, 1)), np.ones(1), SHAPE)["astrom_rms_ring1_px"]
    )
