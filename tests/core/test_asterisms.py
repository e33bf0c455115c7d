from __future__ import annotations

import numpy as np

from skylake.core.asterisms import (
    cell_of,
    cell_x,
    cell_y,
    cells_of,
    describe,
    describe_all,
    packed_codes,
    sorted_quads,
    unpacked_x,
    unpacked_y,
)


def _four(seed: int) -> np.ndarray:
    """Four stars some degrees apart."""
    vectors = np.array([0.3, -0.5, 0.8]) + 0.05 * np.random.default_rng(seed).normal(size=(4, 3))
    return vectors / np.linalg.norm(vectors, axis=1)[:, None]


def _described(vectors: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    order, code = np.empty(4, np.int64), np.empty(4)
    return describe(vectors, order, code), order, code


def test_a_code_stays_when_the_sky_is_turned_and_its_stars_are_shuffled() -> None:
    random = np.random.default_rng(7)
    differences = []
    for seed in range(50):
        four = _four(seed)
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        turn *= np.sign(np.linalg.det(turn))
        shuffle = random.permutation(4)
        size, order, code = _described(four)
        turned_size, turned_order, turned = _described((four @ turn.T)[shuffle])
        differences.append(max(abs(size - turned_size), np.abs(code - turned).max()))
        assert np.array_equal(shuffle[turned_order], order)
    assert max(differences) < 1e-12


def test_a_mirrored_asterism_has_the_signs_of_y_reversed() -> None:
    four = _four(3)
    _, order, code = _described(four)
    _, mirrored_order, mirrored = _described(four * [1.0, 1.0, -1.0])
    assert np.array_equal(order, mirrored_order)
    assert np.allclose(mirrored, code * [1, -1, 1, -1], atol=1e-12)


def test_codes_are_in_their_cells_and_survive_packing() -> None:
    vectors = np.concatenate([_four(seed) for seed in range(400)])
    members = np.arange(1600).reshape(-1, 4)
    codes, sizes = np.empty((400, 4)), np.empty(400)
    describe_all(vectors, members, codes, sizes)
    cells = cells_of(codes, 9)
    one_by_one = [cell_of(cell_x(a, 9), cell_y(b, 9), cell_x(c, 9), cell_y(d, 9), 9) for a, b, c, d in codes]
    assert cells.tolist() == one_by_one
    packed = packed_codes(codes)
    back = [[unpacked_x(a), unpacked_y(b), unpacked_x(c), unpacked_y(d)] for a, b, c, d in packed.astype(int)]
    assert np.abs(np.array(back) - codes).max() < 0.0036
    quads = sorted_quads(members, codes, sizes, float(sizes.min()))
    cells = cells_of(codes, quads.n_x)
    for quad in range(0, 400, 7):
        here = quads.stars[quads.starts[cells[quad]] : quads.starts[cells[quad] + 1]].tolist()
        # A byte holds sizes up to twenty times the smallest.
        assert (members[quad].tolist() in here) == (sizes[quad] < 20.0 * sizes.min())
    assert 300 < len(quads.sizes) <= 400
