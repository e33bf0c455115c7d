from __future__ import annotations

from collections.abc import Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.flow.staleness import Why, why_stale
from skylake.lake import Part

INPUTS = {"frames": "f", "catalog": "c", "configuration": "p"}
FOLLOWING = ("catalog", "configuration", "method", "star_magnitudes", "transformations")


def part(inputs: dict[str, str]) -> Part:
    return Part("zeropoints", "small-20241001-simcat-v1", (), "small", 20241001, inputs=inputs)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (set(), None),
        ({"frames"}, Why.INPUTS),
        ({"configuration"}, Why.PARAMETERS),
        ({"configuration", "star_magnitudes"}, Why.PARAMETERS),
        ({"configuration", "transformations"}, Why.PARAMETERS),
        ({"method"}, Why.METHOD),
        ({"method", "star_magnitudes"}, Why.METHOD),
        ({"star_magnitudes"}, Why.STAR_MAGNITUDES),
        ({"catalog", "star_magnitudes", "transformations"}, Why.CATALOG),
        ({"transformations"}, Why.INPUTS),
        ({"frames", "configuration"}, Why.INPUTS),
    ],
)
def test_the_reason_is_what_was_changed_and_not_what_follows_from_it(
    changed: Set[str], why: Why | None
) -> None:
    assert why_stale(part(INPUTS), INPUTS | dict.fromkeys(changed, "other")) == why


@given(st.sets(st.sampled_from(FOLLOWING)))
def test_rows_that_changed_are_the_reason_whatever_else_did(changed: Set[str]) -> None:
    assert why_stale(part(INPUTS), INPUTS | dict.fromkeys({*changed, "frames"}, "other")) is Why.INPUTS


def test_what_is_not_there_yet_is_new() -> None:
    assert why_stale(None, INPUTS) is Why.NEW
    assert why_stale(part(INPUTS), INPUTS, schema_sha256="other") is Why.SCHEMA
