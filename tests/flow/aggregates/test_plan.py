"""Which nights a night is compared with, as nights are added one by one."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.flow.aggregates.plan import nights_around
from skylake.lake import Part
from skylake.table.aggregate import Input

NIGHTS = [int(f"{date(2024, 1, 1) + timedelta(days=day):%Y%m%d}") for day in range(100)]
PARTS = [Part("frames", f"c-{night}", (), "c", night) for night in NIGHTS]


def compared(n: int, most: int, days: int = 60) -> dict[int, list[int | None]]:
    """The nights around each of the first so many nights."""
    wanted = Input("nights", nights_around=most, days_around=days)
    around = {night: nights_around(PARTS[:n], night, wanted) for night in NIGHTS[:n]}
    return {night: [part.night for part in parts] for night, parts in around.items()}


@pytest.mark.parametrize("most", [1, 3, 20])
def test_a_new_night_changes_what_a_few_others_are_compared_with(most: int) -> None:
    for n in range(2 * most + 1, len(NIGHTS)):
        before, after = compared(n, most), compared(n + 1, most)
        changed = sum(before[night] != after[night] for night in before)
        assert changed <= most.bit_length() + 1


@given(n=st.integers(1, 60), most=st.integers(1, 20))
def test_a_night_is_compared_with_all_around_it_as_long_as_they_are_few(n: int, most: int) -> None:
    for place, night in enumerate(NIGHTS[:n]):
        found = compared(n, most)[night]
        before, after = min(place, most), min(n - 1 - place, most)
        assert [one for one in found if one is not None and one < night] == NIGHTS[place - before : place]
        later = [one for one in found if one is not None and one > night]
        assert later == NIGHTS[place + 1 : place + 1 + len(later)]
        assert len(later) > after // 2 if after else not later
        assert len(found) >= min(most, before + after)
        if after == most:
            assert len(later) == most


def test_far_nights_are_not_compared() -> None:
    around = compared(100, 20, days=2)
    assert around[NIGHTS[50]] == [NIGHTS[48], NIGHTS[49], NIGHTS[51], NIGHTS[52]]
