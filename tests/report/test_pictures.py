from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from skylake.report import pictures
from skylake.report.pictures import PagePicture, code_of, draw


@pytest.fixture
def plot() -> Any:
    """A plot that counts how often it draws."""

    def a_plot(*shown: Any) -> Figure:
        a_plot.n_drawn += 1
        figure = Figure()
        figure.text(0.1, 0.5, str(shown))
        return figure

    a_plot.n_drawn = 0
    return a_plot


SHOWN = (
    np.array([1.0, np.nan]),
    np.array(["V", None], object),
    3,
    "camera",
    {"points": [{"mag": float("nan")}]},
)


def test_a_picture_of_the_same_values_is_left_alone(plot: Any, tmp_path: Path) -> None:
    assert draw(tmp_path, "a.png", "A caption.", plot, *SHOWN) == PagePicture("a.png", "A caption.")
    before = (tmp_path / "a.png").read_bytes()
    assert draw(tmp_path, "a.png", "Another.", plot, *SHOWN) == PagePicture("a.png", "Another.")
    assert plot.n_drawn == 1
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (0, np.array([1.0, 2.0])),
        (0, np.array([1.0, np.nan], np.float32)),
        (0, np.array([[1.0], [np.nan]])),
        (1, np.array(["V", "None"], object)),
        (2, 3.0),
        (3, "other"),
        (4, {"points": [{"mag": 1.0}]}),
    ],
)
def test_a_picture_of_other_values_is_drawn(number: int, value: Any, plot: Any, tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "", plot, *SHOWN)
    before = (tmp_path / "a.png").read_bytes()
    draw(tmp_path, "a.png", "", plot, *SHOWN[:number], value, *SHOWN[number + 1 :])
    assert plot.n_drawn == 2
    assert (tmp_path / "a.png").read_bytes() != before


def test_code_that_draws_otherwise_has_another_digest(tmp_path: Path) -> None:
    folder = Path(pictures.__file__).parent
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert code_of(copy) == code_of(folder)
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    with (changed / "style.py").open("a") as stream:
        stream.write("# Draws otherwise.\n")
    assert code_of(changed) != code_of(folder)


def test_a_picture_that_other_code_drew_is_drawn_again(plot: Any, tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "", plot, *SHOWN)
    plot.__qualname__ = "another_plot"
    draw(tmp_path, "a.png", "", plot, *SHOWN)
    assert plot.n_drawn == 2


def test_a_file_that_is_no_whole_picture_is_replaced(plot: Any, tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "", plot, *SHOWN)
    whole = (tmp_path / "a.png").read_bytes()
    for n_drawn, spoiled in enumerate((whole[:-1], whole[1:], b"", whole[:-12] + bytes(12)), start=2):
        (tmp_path / "a.png").write_bytes(spoiled)
        draw(tmp_path, "a.png", "", plot, *SHOWN)
        assert plot.n_drawn == n_drawn
        assert (tmp_path / "a.png").read_bytes() == whole
