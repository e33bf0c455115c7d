"""Objects that are made anew keep their identifiers, and each identifier is there once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
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
    # Nothing changes a second time.
    assert with_earlier_identifiers(found, found, targets, LINK).equals(found)


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
        "catalog": ["cat" if one < 30 else None for one in star_of],
        "ref_id": [int(one) if one < 30 else None for one in star_of],
        "joined_to": pa.array(np.roll(ids, 1), mask=~joined),
        "split_from": pa.array(np.roll(ids, 2), mask=~split),
    }
    schema = arrow_schema(load("objects"))
    return pa.table(
        {name: pa.array(values).cast(schema.field(name).type) for name, values in columns.items()}
    )
