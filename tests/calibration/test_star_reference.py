from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.calibration.frame_solution import CameraResponse
from skylake.calibration.star_reference import StarReference

MAGS = st.floats(1e-4, 0.05)


def reference(floor: float, scintillation: float) -> StarReference:
    none = np.zeros(0)
    camera = CameraResponse(none, none, 0.0, 0.0, 1.0, floor)
    return StarReference(
        1, none.astype(np.int64), none, none, none, camera, 0.0, 0, scintillation=scintillation
    )


@given(MAGS, st.lists(MAGS, min_size=1, max_size=30))
def test_floors_differ_from_frame_to_frame_and_not_in_their_mean(floor: float, frames: list[float]) -> None:
    noise = np.array(frames)
    floors = reference(floor, float(np.sqrt(np.mean(noise**2)))).floors(noise)
    assert np.mean(floors**2) == pytest.approx(floor**2, rel=1e-9)
    assert np.array_equal(np.argsort(floors[np.argsort(noise)], kind="stable"), np.arange(len(noise)))


def test_frames_of_unknown_scintillation_have_the_floor_of_the_camera() -> None:
    unknown = np.array([np.nan, 0.004])
    np.testing.assert_array_equal(reference(0.003, float("nan")).floors(unknown), 0.003)
    np.testing.assert_allclose(reference(0.003, 0.002).floors(unknown), [0.003, np.sqrt(9 - 4 + 16) / 1e3])
