from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.core.sphere import arcsec_of_chord, chord, offset, separation_deg, unit_vectors
from skylake.sky.match import (
    choose_pairs,
    mutual_within,
    nearest_within,
    pairs_within,
)

few = settings(max_examples=80, deadline=None)

places = st.sampled_from([(0.0, 0.0), (123.0, 41.8), (0.0, 90.0), (359.9999, -66.0), (10.0, -90.0)])
#: Group, members, separation and rank.
Pair = tuple[int, int, int, float, int]


def cloud(place: tuple[float, float], n: int, spread_deg: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    start = np.full(n, place[0]), np.full(n, place[1])
    return offset(*start, spread_deg * np.sqrt(random.uniform(0, 1, n)), random.uniform(0, 360, n))


@given(places, st.integers(0, 40), st.integers(0, 40), st.floats(-1, 5), st.integers(0, 10**6))
@few
def test_pairs_are_those_of_a_search_through_all(
    place: tuple[float, float], n: int, m: int, power: float, seed: int
) -> None:
    radius = 10.0**power
    left, right = cloud(place, n, radius / 1800, seed), cloud(place, m, radius / 1800, seed + 1)
    i, j, separation = pairs_within(unit_vectors(*left), unit_vectors(*right), radius)
    truth = separation_deg(left[0][:, None], left[1][:, None], right[0], right[1]) * 3600.0
    expected_i, expected_j = np.nonzero(truth <= radius)
    assert i.tolist() == expected_i.tolist()
    assert j.tolist() == expected_j.tolist()
    assert separation == pytest.approx(truth[expected_i, expected_j], abs=1e-8)


def uneven_sky(seed: int, n: int, radius: float) -> np.ndarray:
    """Positions all over the sky, in clusters ten thousand times denser, and some at exactly the same place."""
    random = np.random.default_rng(seed)
    even = random.normal(size=(n, 3))
    centres = unit_vectors([0.0, 0.0, 0.0, 45.0, 360.0], [90.0, -90.0, 0.0, 41.8103, 20.0])
    dense = np.repeat(centres, n, axis=0) + random.normal(size=(5 * n, 3)) * chord(radius) * random.choice(
        [0.3, 3.0]
    )
    several = np.concatenate([even, dense])
    several /= np.linalg.norm(several, axis=1)[:, None]
    return np.concatenate([several, several[: n // 2]])[random.permutation(len(several) + n // 2)]


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(-1, 5), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_all_nearest_and_mutual_pairs_are_those_of_a_search_through_all(
    seed: int, n: int, m: int, power: float, most: int
) -> None:
    radius = 10.0**power
    left, right = uneven_sky(seed, n, radius), uneven_sky(seed + 1, m, radius)
    right[: len(left) // 3] = left[: len(left) // 3][: len(right)]
    left[seed % len(left)] = np.nan
    right[seed % len(right), seed % 3] = np.nan
    square = np.sum((left[:, None] - right) ** 2, axis=-1)
    square[~(square <= chord(radius) ** 2)] = np.inf
    i, j, separation = pairs_within(left, right, radius)
    assert (i.tolist(), j.tolist()) == tuple(one.tolist() for one in np.nonzero(np.isfinite(square)))
    assert separation == pytest.approx(arcsec_of_chord(np.sqrt(square[i, j])), abs=1e-9)
    order = np.argsort(square, axis=1, kind="stable")[:, :most]
    row, place = np.nonzero(np.isfinite(np.take_along_axis(square, order, axis=1)))
    i, j, separation = nearest_within(left, right, radius, most)
    assert (i.tolist(), j.tolist()) == (row.tolist(), order[row, place].tolist())
    of_left, of_right = square.argmin(axis=1), square.argmin(axis=0)
    expected = [
        one for one in range(len(left)) if of_right[of_left[one]] == one and np.isfinite(square[one].min())
    ]
    i, j, separation = mutual_within(left, right, radius)
    assert (i.tolist(), j.tolist()) == (expected, of_left[expected].tolist())


def test_the_same_position_is_a_pair_at_no_distance() -> None:
    here = unit_vectors([0.0, 0.0, 200.0], [90.0, 0.0, -30.0])
    i, j, separation = pairs_within(here, here[::-1], 1.0)
    assert i.tolist() == [0, 1, 2]
    assert j.tolist() == [2, 1, 0]
    assert separation.tolist() == [0.0, 0.0, 0.0]


pair = st.tuples(
    st.integers(0, 2),
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([0.0, 1.0, 2.0, 3.0]),
    st.integers(0, 2),
)
#: Each pair of a frame once, at distances that often tie.
pair_lists = st.lists(pair, max_size=40, unique_by=lambda one: one[:3])


def columns(pairs: list[Pair]) -> tuple[np.ndarray, ...]:
    kinds = (np.int64, np.int64, np.int64, np.float64, np.int8)
    cells = list(zip(*pairs, strict=True)) if pairs else [()] * 5
    return tuple(np.array(column, kind) for column, kind in zip(cells, kinds, strict=True))


def others_of(pairs: list[Pair], one: Pair, side: int) -> list[Pair]:
    """The other pairs of a member of a pair."""
    return [other for other in pairs if other[0] == one[0] and other[side] == one[side] and other != one]


def is_best(pairs: list[Pair], one: Pair, side: int) -> bool:
    """Whether a member of a pair has no better partner; of equals the smaller number is better."""
    return all(
        (one[4], one[3], one[3 - side]) < (other[4], other[3], other[3 - side])
        for other in others_of(pairs, one, side)
    )


@given(pair_lists)
@settings(max_examples=300, deadline=None)
def test_the_choice_is_what_its_definition_says(pairs: list[Pair]) -> None:
    found = choose_pairs(*columns(pairs))
    expected = [one[4] < 2 and is_best(pairs, one, 1) and is_best(pairs, one, 2) for one in pairs]
    assert found.chosen.tolist() == expected
    assert found.n_candidates.tolist() == [
        sum(other[4] < 2 for other in [*others_of(pairs, one, 1), one]) for one in pairs
    ]
    for place, one in enumerate(pairs):
        second, rival = (float(values[place]) for values in (found.second, found.rival))
        if expected[place]:
            others = [other[3] for other in others_of(pairs, one, 1)]
            rivals = [other[3] for side in (1, 2) for other in others_of(pairs, one, side) if other[4] == 0]
            assert (second if others else None) == min(others, default=None)
            assert (rival if rivals else None) == min(rivals, default=None)
        if not expected[place] or not others:
            assert np.isnan(second)


@given(pair_lists)
@settings(max_examples=300, deadline=None)
def test_each_member_is_in_one_pair_and_the_best_is_chosen(pairs: list[Pair]) -> None:
    found = choose_pairs(*columns(pairs)).chosen
    chosen = [one for one, keep in zip(pairs, found, strict=True) if keep]
    for side in (1, 2):
        members = [(one[0], one[side]) for one in chosen]
        assert len(set(members)) == len(members)
    for group in {one[0] for one in pairs}:
        mine = [one for one in pairs if one[0] == group]
        best = min(mine, key=lambda one: (one[4], one[3], one[1], one[2]))
        assert (best in chosen) == (best[4] < 2)


@given(pair_lists, st.randoms(use_true_random=False))
@few
def test_the_choice_does_not_depend_on_the_order_of_pairs(pairs: list[Pair], random: object) -> None:
    shuffled = pairs.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (
        {one for one, keep in zip(some, choose_pairs(*columns(some)).chosen, strict=True) if keep}
        for some in (pairs, shuffled)
    )
    assert first == second


def test_of_a_pair_that_is_listed_twice_one_is_chosen() -> None:
    found = choose_pairs(*columns([(1, 2, 3, 0.5, 0)] * 2))
    assert found.chosen.tolist() == [True, False]
