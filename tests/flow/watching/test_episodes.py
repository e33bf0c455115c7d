"""A change of a star has one alert, from which the next differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.flow.watching.episodes import Episodes
from skylake.lake.storage.watch_lists import WatchedPlace, WatchList

MINE = WatchList(
    "mine",
    (WatchedPlace("x", 10.0, 5.0),),
    moc="",
    from_night=0,
    radius_arcsec=5.0,
    by_mag=0.2,
    sigma=5.0,
    source="x",
)
ERROR = 0.02


def alert(night: int, kind: str, difference: float | None = None, **columns: Any) -> dict[str, Any]:
    """A row of ``alerts``."""
    star = {"watch_list": "mine", "camera": "lab", "catalog": "cat", "object_id": 7, "band": "V"}
    star |= {"ra_deg": 10.0, "dec_deg": 5.0}
    error = None if kind == "vanished" else ERROR
    return star | {"night": night, "kind": kind, "difference": difference, "difference_err": error} | columns


@pytest.mark.parametrize(
    ("last", "kind", "difference", "is_news"),
    [
        (("brighter", -1.0), "brighter", -1.1, False),
        (("brighter", -1.0), "brighter", -0.5, True),
        (("brighter", -1.0), "fainter", 0.5, True),
        (("brighter", -1.0), "vanished", 1.5, True),
        # Where it was found it may be lost, without being fainter.
        (("fainter", 2.0), "vanished", 2.1, False),
        (("fainter", 2.0), "vanished", 3.0, True),
        (("vanished", 2.0), "vanished", 4.0, False),
        (("vanished", 2.0), "fainter", 2.1, False),
        (("vanished", 2.0), "fainter", 1.0, True),
        (("vanished", 2.0), "brighter", -1.0, True),
    ],
)
def test_what_is_news(last: tuple[str, float], kind: str, difference: float, is_news: bool) -> None:
    episodes = Episodes.of([alert(20240401, *last)], 20240402)
    row = alert(20240402, kind, difference)
    assert episodes.is_news(row, MINE) is is_news
    for other in ({"band": "B"}, {"object_id": 8}, {"watch_list": "yours"}):
        assert episodes.is_news(row | other, MINE)
    assert Episodes.of([alert(20240402, *last)], 20240402).is_news(row, MINE)


def test_a_star_returns_beyond_the_error_of_both_and_only_once() -> None:
    row = alert(20240402, "fainter", 0.1)
    assert not Episodes().has_returned(row, MINE)
    # As significant as it was, it may be what it is now.
    assert not Episodes.of([alert(20240401, "brighter", -0.09)], 20240402).has_returned(row, MINE)
    assert Episodes.of([alert(20240401, "brighter", -0.5)], 20240402).has_returned(row, MINE)
    assert Episodes.of([alert(20240401, "vanished", 2.0)], 20240402).has_returned(row, MINE)
    over = [alert(20240401, "brighter", -0.5), alert(20240402, "returned", 0.0)]
    assert not Episodes.of(over, 20240403).has_returned(row, MINE)


@given(
    kinds=st.lists(
        st.sampled_from(["brighter", "fainter", "vanished", "appeared", "returned", ""]), max_size=12
    ),
    order=st.randoms(use_true_random=False),
)
def test_the_past_has_no_nights_of_episodes(kinds: list[str], order: Any) -> None:
    alerts = [alert(20240401 + k, kind, 1.0) for k, kind in enumerate(kinds) if kind]
    order.shuffle(alerts)
    inside, changed = [], False
    for kind in [*kinds, "", ""]:
        changed = kind in ("brighter", "fainter", "vanished") or (changed and kind != "returned")
        inside.append(changed)
    nights = [20240401 + k for k in range(len(inside))]
    rows = pa.table(
        {
            "catalog": ["cat", "other"] * len(nights), "object_id": [7] * 2 * len(nights),
            "band": ["V"] * 2 * len(nights), "night": pa.array(sorted(2 * nights), pa.int32()),
        }
    )  # fmt: skip
    left = Episodes.of(alerts, 20250101).without(rows).to_pylist()
    assert [row["night"] for row in left if row["catalog"] == "other"] == nights
    assert [row["night"] for row in left if row["catalog"] == "cat"] == [
        night for night, is_inside in zip(nights, inside, strict=True) if not is_inside
    ]


@pytest.mark.parametrize("kind", ["brighter", "fainter", "vanished"])
@pytest.mark.parametrize("catalog", ["sources", "detections"])
def test_what_appeared_is_waited_for_until_it_has_another_alert(kind: str, catalog: str) -> None:
    first = alert(20240401, "appeared", catalog="sources")
    for other in ({"band": "B"}, {"object_id": 8}, {"watch_list": "yours"}, {"night": 20240403}):
        rows = [first, alert(20240402, kind, 1.0, catalog=catalog) | other]
        assert first in Episodes.of(rows, 20240403).appeared.values()
    gone = [first, alert(20240402, kind, 1.0, catalog=catalog)]
    assert Episodes.of(gone, 20240403).appeared == {}
    again = alert(20240403, "returned", catalog="sources")
    assert list(Episodes.of([*gone, again], 20240404).appeared.values()) == [again]


@given(
    spans=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=4),
    most=st.integers(1, 20),
)
def test_nights_of_episodes_have_earlier_ones_in_their_place(spans: list[tuple[int, int]], most: int) -> None:
    alerts, lists = [], {}
    for number, (first, end) in enumerate(spans):
        # Lists may overlap in time; an episode that ends before it begins goes on.
        lists[number] = {"watch_list": str(number)}
        alerts += [
            alert(first, "fainter", 1.0, **lists[number]),
            alert(end, "returned", 0.0, **lists[number]),
        ]
    episodes = Episodes.of(alerts, 41)
    nights = np.arange(1, 41)
    rows = pa.table({"catalog": ["cat"] * 40, "object_id": [7] * 40, "band": ["V"] * 40, "night": nights})
    outside = episodes.without(rows)["night"].to_pylist()
    recent = [night for night in outside if night > 40 - most]
    further = episodes.further_nights(nights, most).get(("cat", 7, "V"), [])
    assert [*further, *recent] == outside[-most:]
