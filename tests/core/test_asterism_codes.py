from __future__ import annotations

import math

import numpy as np

from skylake.core.asterism_codes import (
    SIZE_STEP,
    Described,
    cell_of,
    cell_x,
    cell_y,
    describe,
    packed_size,
    packed_x,
    packed_y,
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


def test_a_code_ignores_rotation_and_order_of_stars() -> None:
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
    smallest, n = 0.02, 400
    described = Described(
        np.arange(4 * n, dtype=np.uint32).reshape(n, 4), np.empty((n, 4), np.uint8), np.empty(n, np.uint8)
    )
    for seed in range(n):
        size, order, code = _described(_four(seed))
        described.stars[seed] = 4 * seed + order
        packed = [packed_x(code[0]), packed_y(code[1]), packed_x(code[2]), packed_y(code[3])]
        back = [unpacked_x(packed[0]), unpacked_y(packed[1]), unpacked_x(packed[2]), unpacked_y(packed[3])]
        assert np.abs(np.array(back) - code).max() < 0.0036
        described.codes[seed], described.sizes[seed] = packed, packed_size(size, smallest)
        assert abs(smallest * math.exp(described.sizes[seed] * SIZE_STEP) / size - 1.0) < 0.0061
    # Of several blocks, none of which stays in memory.
    blocks = [Described(*(values[part] for values in described)) for part in (slice(0, 150), slice(150, n))]
    quads = sorted_quads(blocks, smallest)
    assert blocks == [] and len(quads.sizes) == quads.starts[-1] == n
    n_x = quads.n_x
    for seed, (a, b, c, d) in enumerate(described.codes.tolist()):
        x, y = (
            (cell_x(unpacked_x(a), n_x), cell_x(unpacked_x(c), n_x)),
            (cell_y(unpacked_y(b), n_x), cell_y(unpacked_y(d), n_x)),
        )
        cell = cell_of(x[0], y[0], x[1], y[1], n_x)
        here = slice(int(quads.starts[cell]), int(quads.starts[cell + 1]))
        place = quads.stars[here].tolist().index(described.stars[seed].tolist())
        assert quads.codes[here][place].tolist() == [a, b, c, d]
        assert quads.sizes[here][place] == described.sizes[seed]


def test_a_byte_holds_chords_up_to_twenty_times_the_smallest() -> None:
    assert packed_size(0.02, 0.02) == 0 and packed_size(0.0198, 0.02) == -1 == packed_size(0.0, 0.02)
    assert 0 < packed_size(20.0 * 0.02, 0.02) <= 255 and packed_size(22.0 * 0.02, 0.02) == -1
