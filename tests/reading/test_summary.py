from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import skylake
from skylake.lake import Lake
from skylake.reading.reader import LakeReader
from skylake.reading.summary import Nights


def test_text(lake: LakeReader) -> None:
    lines = repr(lake).splitlines()
    assert lines[0] == f"<lake {lake.root}>"
    assert lines[1].startswith(f"snapshot: {lake.snapshot}, 2")
    assert lines[2:5] == ["cameras:  sim (2 nights, 20240407 to 20240408)", "catalogs: simcat", "tables:"]
    assert f"sources {len(lake['sources']):,} rows" in [" ".join(line.split()) for line in lines]
    assert [line.split()[2] for line in lines if line.startswith("  lightcurves ")] == ["blocks"]
    assert lines[-1].startswith("  without rows: masters, ")


def test_html(lake: LakeReader) -> None:
    shown = lake._repr_html_()
    assert "cameras: sim (2 nights, 20240407 to 20240408)" in shown
    assert f"<td>sources</td><td>{len(lake['sources']):,}</td>" in shown
    assert "http" not in shown and "<script" not in shown and "src=" not in shown


def test_html_is_text(tmp_path: Path, make_rows: Callable[..., Any], put: Callable[..., Any]) -> None:
    lake = Lake.create(tmp_path / "<b>lake")
    put(lake, ("frames", "c-0", make_rows("frames", 2, camera=["<i>&"] * 2, night=[0, 0])))
    opened = skylake.open(lake.root)
    assert "cameras:  <i>& (2 frames without a time, no night known)" in repr(opened)
    shown = opened._repr_html_()
    assert (
        "&lt;i&gt;&amp; (2 frames without a time, no night known)" in shown
        and "/&lt;b&gt;lake</strong>" in shown
    )
    assert "<b>" not in shown and "<i>" not in shown


@pytest.mark.parametrize(
    ("nights", "text"),
    [
        (Nights("c", 1, 20240407, 20240407), "c (1 night, 20240407)"),
        (Nights("c", 2, 20240407, 20240409), "c (2 nights, 20240407 to 20240409)"),
    ],
)
def test_nights(nights: Nights, text: str) -> None:
    assert str(nights) == text
