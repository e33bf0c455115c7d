"""Rows in any order become matrices with gaps, and what does not fit is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.curves.gather_block import gather_block


def rows(random: np.random.Generator, share: float) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return measurements in any order, and their stars and frames from 0; frames are numbered against time."""
    star, frame = (one.ravel() for one in np.mgrid[:5, :8])
    chosen = random.permutation(np.flatnonzero(random.random(40) < share))
    star, frame = star[chosen], frame[chosen]
    columns = {
        "star_id": 10 * star,
        "frame_id": 100 - frame,
        "mjd_mid": 60_000.0 + frame,
        "mag": star + 0.01 * frame,
    }
    columns |= {"mag_err": np.full(len(star), 0.01), "x_px": 50.0 * star + frame, "y_px": np.zeros(len(star))}
    return columns | {"colour": 0.1 * star, "fwhm_px": 2.0 + 0.1 * frame}, star, frame


@given(seed=st.integers(0, 999))
def test_each_measurement_is_where_its_star_and_frame_are(seed: int) -> None:
    columns, star, frame = rows(np.random.default_rng(seed), 0.7)
    made = gather_block(columns, {"frame_id": np.arange(80, 110), "temperature": np.arange(80.0, 110.0)})
    at = np.searchsorted(made.star_id, 10 * star), np.searchsorted(made.curves.time, 60_000.0 + frame)
    np.testing.assert_array_equal(made.curves.mag[at], columns["mag"])
    np.testing.assert_array_equal(made.parameters.x_px[at], columns["x_px"])
    np.testing.assert_array_equal(made.parameters.fwhm_px[at], columns["fwhm_px"])
    np.testing.assert_array_equal(made.parameters.temperature, made.frame_id)
    np.testing.assert_allclose(made.stars.colour, 0.01 * made.star_id)
    assert np.isfinite(made.curves.mag).sum() == len(star) and np.all(np.diff(made.curves.time) > 0)
    assert made.parameters.airmass is None


def test_double_measurements_and_unknown_frames_are_refused() -> None:
    columns, _, _ = rows(np.random.default_rng(1), 1.0)
    with pytest.raises(ValueError, match="not among the frames"):
        gather_block(columns, {"frame_id": np.arange(95, 101)})
    twice = {name: np.append(values, values[:1]) for name, values in columns.items()}
    with pytest.raises(ValueError, match="two measurements on a frame"):
        gather_block(twice)
