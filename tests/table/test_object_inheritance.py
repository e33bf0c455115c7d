"""Objects that are made anew keep their identifiers, and each identifier is there once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.schema import arrow_schema, load
from skylake.table.object_inheritance import with_earlier_identifiers

LINK = 5.0


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), m=st.integers(0, 30), share=st.floats(0.0, 1.0))
def test_identifiers_stay_unique_and_references_point_where_they_pointed(
    seed: int, n: int, m: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    # A crowd, in which most have several others within reach.
    made = drawn(random, n)
    earlier = drawn(random, m)
    listed = random.choice(
        np.append(made["object_id"], earlier["object_id"]), int(share * (n + m)), replace=False
    )
    targets = pa.table({"star_id": np.unique(listed).astype(np.int64)})
    found = with_earlier_identifiers(made, earlier, targets, LINK)
    ids = found["object_id"].to_pylist()
    assert len(set(ids)) == n
    assert ids == sorted(ids)
    place = {row["ra_deg"]: row for row in found.to_pylist()}
    name = {row["object_id"]: place[row["ra_deg"]]["object_id"] for row in made.to_pylist()}
    for row in made.to_pylist():
        now = place[row["ra_deg"]]
        if row["object_id"] in set(listed.tolist()):
            assert now["object_id"] == row["object_id"]
        for reference in ("joined_to", "split_from"):
            assert now[reference] == name.get(row[reference], row[reference])
    # Nothing changes a second time, nor with the order of rows.
    assert with_earlier_identifiers(found, found, targets, LINK).equals(found)
    shuffled = (rows.take(random.permutation(rows.num_rows)) for rows in (made, earlier))
    assert with_earlier_identifiers(*shuffled, targets, LINK).equals(found)


def drawn(random: np.random.Generator, n: int) -> pa.Table:
    """Rows of objects within a few reaches, some with a star, some joined to another."""
    ids = random.choice(100, n, replace=False).astype(np.int64)
    star_of = random.choice(60, n, replace=False)
    joined = (random.random(n) < 0.2) & (n > 1)
    split = random.random(n) < 0.3
    columns: dict[str, Any] = {
        "object_id": ids,
        "status": np.where(joined, "joined", random.choice(["qualified", "provisional"], n)),
        "ra_deg": 10.0 + random.uniform(0.0, 20.0, n) / 3600.0,
        "dec_deg": np.full(n, 5.0),
        "catalog": ["cat" if one < 20 else "other" if one < 40 else None for one in star_of],
        "ref_id": [int(one) % 20 if one < 40 else None for one in star_of],
        "joined_to": pa.array(np.roll(ids, 1), mask=~joined),
        "split_from": pa.array(np.roll(ids, 2), mask=~split),
    }
    schema = arrow_schema(load("objects"))
    return pa.table(
        {name: pa.array(values).cast(schema.field(name).type) for name, values in columns.items()}
    )


NO_TARGETS = pa.table({"star_id": pa.array([], pa.int64())})
Star = tuple[str, int] | None
#: Two earlier objects that are a minute apart, which have inherited their identifiers once.
EARLIER = [(100, 0.0, ("apass", 7)), (200, 60.0, ("apass", 8))]


def objects(*rows: tuple[int, float, Star]) -> pa.Table:
    """Rows of objects: identifier, arcseconds along a line, and the star of a catalog."""
    schema = arrow_schema(load("objects"))
    columns: dict[str, Any] = {
        "object_id": [one for one, _, _ in rows],
        "status": ["qualified"] * len(rows),
        "ra_deg": [10.0] * len(rows),
        "dec_deg": [5.0 + place / 3600.0 for _, place, _ in rows],
        "catalog": [star and star[0] for _, _, star in rows],
        "ref_id": [star and star[1] for _, _, star in rows],
        "joined_to": [None] * len(rows),
        "split_from": [None] * len(rows),
    }
    return pa.table(
        {name: pa.array(values).cast(schema.field(name).type) for name, values in columns.items()}
    )


@pytest.mark.parametrize(
    ("stars", "identifiers"),
    [
        ((("apass", 7), ("apass", 8)), [100, 200]),
        ((("refcat2", 8), ("refcat2", 7)), [100, 200]),
        ((("refcat2", 1), None), [100, 200]),
        ((None, None), [100, 200]),
        # Its star tells an object, wherever that is.
        ((("apass", 8), ("apass", 7)), [200, 100]),
        ((("apass", 3), ("apass", 7)), [111, 100]),
    ],
    ids=["the same", "another catalog", "one lost", "both lost", "exchanged", "far away"],
)
def test_a_change_of_stars_leaves_identifiers_as_they_are(
    stars: tuple[Star, Star], identifiers: list[int]
) -> None:
    made = objects((111, 1.0, stars[0]), (222, 59.0, stars[1]))
    found = with_earlier_identifiers(made, objects(*EARLIER), NO_TARGETS, LINK).sort_by("dec_deg")
    assert found["dec_deg"].equals(made["dec_deg"])
    assert found["object_id"].to_pylist() == identifiers


def test_a_star_that_two_objects_have_names_one_of_them() -> None:
    made = objects((111, 60.0, ("apass", 7)), (222, 1.0, ("apass", 7)))
    found = with_earlier_identifiers(made, objects(EARLIER[0]), NO_TARGETS, LINK)
    assert found["object_id"].to_pylist() == [100, 222]


def test_what_gets_a_star_is_what_was_nearest() -> None:
    made = objects((111, 0.5, ("refcat2", 1)), (222, 3.0, None))
    found = with_earlier_identifiers(made, objects((100, 0.0, None), (200, 4.0, None)), NO_TARGETS, LINK)
    assert found["dec_deg"].to_pylist() == made["dec_deg"].to_pylist()
    assert found["object_id"].to_pylist() == [100, 200]
