import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from skylake.core.rotations import rotation_matrix, rotation_vector

parts = st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3).filter(
    lambda part: np.linalg.norm(part) > 1e-3
)


@given(parts, st.floats(0.0, np.pi))
@example([0.0, 0.0, 1.0], np.pi)
@example([1.0, 0.0, 0.0], np.pi)
@example([1.0, 1e-3, 0.0], np.pi - 1e-9)
@example([1.0, 1.0, 0.0], 0.0)
@example([1.0, 1.0, 0.0], 1e-12)
def test_a_vector_and_its_matrix_are_the_same_rotation(axis, angle):
    vector = angle * np.array(axis) / np.linalg.norm(axis)
    matrix = rotation_matrix(vector)
    assert np.abs(matrix @ matrix.T - np.eye(3)).max() < 1e-14
    assert np.linalg.det(matrix) > 0
    assert np.abs(rotation_matrix(rotation_vector(matrix)) - matrix).max() < 1e-14


def test_a_quarter_turn_about_the_pole_takes_x_to_y():
    assert np.allclose(rotation_matrix([0.0, 0.0, np.pi / 2]) @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-15)
