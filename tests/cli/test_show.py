from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.cli import show

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def cleaned(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: cleaned(one) for key, one in value.items()}
    return [cleaned(one) for one in value] if isinstance(value, list) else value


@given(JSON)
def test_json_keeps_every_value_but_what_json_does_not_know(value: Any) -> None:
    text = show.json_text(value)
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == cleaned(value)


def test_json_writes_tuples_and_what_it_does_not_know_as_text() -> None:
    assert json.loads(show.json_text({"a": (1, math.inf), "b": 1j})) == {"a": [1, None], "b": "1j"}


def test_columns_are_as_wide_as_they_need_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([("a", 1, None), ("bcd", 22.5, "x")], ["n", "number", "why"])
    assert capsys.readouterr().out.splitlines() == [
        "n    number  why",
        "---  ------  ---",
        "a         1",
        "bcd    22.5  x",
    ]


def test_a_table_without_rows_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([], ["night", "frames"])
    assert capsys.readouterr().out == "night  frames\n-----  ------\n"


def test_numbers_stand_to_the_right_and_truth_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([(1, True, None), (100, False, 3)], ["n", "b", "m"])
    assert capsys.readouterr().out.splitlines()[2:] == ["  1  True", "100  False  3"]


@given(st.floats(40000, 70000) | st.floats(0, 360) | st.floats(-90, 90))
def test_times_and_places_keep_what_matters(value: float) -> None:
    text = show.as_text(value, "mjd_mid")
    assert float(text) == pytest.approx(value, abs=1e-6 if abs(value) > 1000 else 1e-8)
    assert len(text) <= 18


def test_only_what_is_wanted_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show.result({"a": 1}, True, lambda: pytest.fail("no text is wanted"))
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    show.result({"a": 1}, False, lambda: print("text"))
    assert capsys.readouterr().out == "text\n"


def test_a_complaint_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    show.complain("x: fix it")
    assert capsys.readouterr() == ("", "skylake: x: fix it\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [("zp", "18.0109"), ("mjd_mid", "18.01086123"), ("ra_deg", "18.01086123"), ("radius_px", "18.0109")],
)
def test_measurements_have_fewer_digits_than_times_and_places(name: str, text: str) -> None:
    assert show.as_text(18.01086123, name) == text
