"""Checks that read the same share of few rows are run together; nothing is left out or run twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skylake.lake.integrity.check_queries import load_checks
from skylake.lake.integrity.run_checks import Share, together

SHARED = [check for check in load_checks() if check.share]


@st.composite
def shares(draw: st.DrawFn) -> list[Share]:
    found = []
    for check in draw(st.lists(st.sampled_from(SHARED), unique=True)):
        count = draw(st.integers(1, 3))
        n_rows = draw(st.integers(0, 1_500_000))
        found += [Share(check, {}, number, count, n_rows, 5) for number in range(count)]
    return found


@given(shares())
def test_what_is_run_together_reads_the_same_share_of_few_rows(wanted: list[Share]) -> None:
    groups = together(wanted)
    assert sorted((one.check.name, one.number) for group in groups for one in group) == sorted(
        (one.check.name, one.number) for one in wanted
    )
    for group in groups:
        assert len({(one.check.share, one.number, one.count) for one in group}) == 1
        assert len(group) == 1 or sum(one.n_rows for one in group) <= 1_000_000


def test_checks_of_a_small_lake_use_a_connection_per_column() -> None:
    groups = together([Share(check, {}, 0, 1, 100, 5) for check in SHARED])
    assert len(SHARED) > len(groups) == len({check.share for check in SHARED})
