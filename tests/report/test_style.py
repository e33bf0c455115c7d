from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.report.style import canvas, dates, draw_note, faint_down, save


def test_dates_of_days_that_everyone_knows() -> None:
    assert dates([0.0, 51544.5, 60000.25]) == [
        datetime(1858, 11, 17),
        datetime(2000, 1, 1, 12),
        datetime(2023, 2, 25, 6),
    ]
    assert dates(60000.0) == [datetime(2023, 2, 25)]
    assert dates([]) == []


@given(st.floats(0.0, 90000.0))
def test_dates_are_those_of_astropy(mjd: float) -> None:
    from astropy.time import Time

    (ours,) = dates([mjd])
    theirs = Time(mjd, format="mjd", scale="tai").to_datetime()
    assert abs((ours - theirs).total_seconds()) < 1e-4


def test_a_canvas_has_one_titled_axes_and_changes_no_setting() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with canvas("What it shows", (4.0, 3.0)) as (figure, axes):
        assert figure.axes == [axes]
        assert axes.get_title("left") == "What it shows"
        assert tuple(figure.get_size_inches()) == (4.0, 3.0)
    assert dict(matplotlib.rcParams) == before


def test_no_window_is_opened_by_a_canvas() -> None:
    """Figures that pyplot knows of stay in memory for ever."""
    import matplotlib.pyplot

    before = matplotlib.pyplot.get_fignums()
    with canvas("title"):
        pass
    assert matplotlib.pyplot.get_fignums() == before


def test_faint_is_down_however_often_it_is_said() -> None:
    with canvas("title") as (_, axes):
        for _ in range(3):
            faint_down(axes)
            assert axes.yaxis_inverted()


def test_empty_axes_say_why() -> None:
    with canvas("title") as (_, axes):
        draw_note(axes, "no frames yet")
    assert [text.get_text() for text in axes.texts] == ["no frames yet"]
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_picture_has_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "two"):
        with canvas("title") as (figure, axes):
            axes.plot([1, 2, 3], label="line")
            axes.legend()
            save(figure, tmp_path / f"{name}{suffix}")
    one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
    assert one == two
    for word in (b"atplotlib v", b"CreationDate", b"<dc:date>"):
        assert word not in one
