"""How often nights are merged, and how many files that leaves, over years of nightly compactions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.lake import Part
from skylake.lake.maintenance.compaction_plan import FAN_IN, joining, level_of, slices_of_nights


def years(n_nights: int, start: list[int] | None = None) -> tuple[list[int], int, int]:
    """Bundles after so many nights, parts that were written for them, and the most files of a pixel on the way."""
    bundles, fresh, written, most = list(start or []), 0, 0, 0
    for _ in range(n_nights):
        fresh += 1
        if fresh >= FAN_IN[0]:
            taken = joining(fresh, bundles)
            made = fresh + sum(bundles[index] for index in taken)
            bundles = [size for index, size in enumerate(bundles) if index not in taken] + [made]
            fresh, written = 0, written + made
        most = max(most, fresh + len(bundles))
    return bundles, written, most


def test_a_night_is_written_twice_more_however_many_there_are() -> None:
    for n_nights in (10, 100, 1000, 1023):
        bundles, written, most = years(n_nights)
        assert n_nights - sum(bundles) < FAN_IN[0]
        assert written <= 2 * n_nights
        assert most <= 29
    assert years(1024)[0] == [1024]
    assert years(10_000)[1] <= 3 * 10_000
    assert years(10_000)[2] <= 44


@given(sizes=st.lists(st.integers(1, 3000), max_size=60), n_fresh=st.integers(1, 40))
def test_what_is_left_beside_a_new_bundle_is_no_smaller_and_not_too_many(
    sizes: list[int], n_fresh: int
) -> None:
    taken = joining(n_fresh, sizes)
    made = level_of(n_fresh + sum(sizes[index] for index in taken))
    left = [level_of(size) for index, size in enumerate(sizes) if index not in taken]
    assert all(level >= made for level in left)
    assert left.count(made) + 1 < FAN_IN[min(made, len(FAN_IN) - 1)]


def test_bundles_of_any_division_end_in_few_files() -> None:
    bundles, _, _ = years(200, start=[2, 4, 8, 16, 32, 512])
    assert sum(bundles) > 574 + 200 - FAN_IN[0]
    assert len(bundles) <= 20


@pytest.mark.parametrize(
    ("n_nights", "sizes"), [(64, [64]), (65, [64, 1]), (200, [64, 64, 64, 8]), (2160, [1024, 1024, 64, 48])]
)
def test_nights_that_come_together_are_merged_in_slices_of_time(n_nights: int, sizes: list[int]) -> None:
    nights = list(range(20200000, 20200000 + n_nights))
    parts = [Part("sources", f"c-{night}", (), "c", night) for night in nights]
    slices = slices_of_nights(parts[::-1])
    assert [len(names) for names in slices] == sizes
    assert [name for names in slices for name in names] == [part.name for part in parts]
