from __future__ import annotations

import numpy as np

from skylake.simulate.random_streams import generator


def test_the_same_name_gives_the_same_numbers() -> None:
    np.testing.assert_array_equal(generator(1, "stars", 5).random(9), generator(1, "stars", 5).random(9))


def test_different_names_give_independent_numbers() -> None:
    names = [(1, "stars", 5), (1, "stars", 6), (1, "star", "s", 5), (2, "stars", 5), (1, "stars", "5", 0)]
    draws = np.array([generator(*name).standard_normal(4000) for name in names])
    assert np.abs(np.corrcoef(draws) - np.eye(len(names))).max() < 0.08
