from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from skylake.cli.demo_command import SCENARIO
from skylake.cli.simulate_command import scenario_from

Run = Callable[..., Any]


def test_the_scenario_can_be_simulated() -> None:
    scenario = scenario_from(None, SCENARIO)
    assert (scenario.camera, scenario.nights, scenario.frames_per_night) == ("sim", 2, 60)


def test_a_demo_shows_a_lake_that_agrees_with_truth(demo_folder: Path, well: Run) -> None:
    folder = demo_folder / "demo"
    printed = (folder / "printed.txt").read_text(encoding="utf-8")
    # The simulated frames, and what became of them.
    frames = pq.read_table(folder / "archive" / "truth" / "frames.parquet").to_pandas()
    status = well("status", folder / "lake", "--json").json
    counts = {row["status"]: row["count_all"] for row in status["frames"]}
    assert sum(counts.values()) == len(frames) == 24
    assert counts["ok"] >= int(frames.clear.sum()), "only clouds cost frames"
    assert re.search(rf"^ok +{counts['ok']}$", printed, re.MULTILINE)
    # Every night's zeropoint is that of the simulation within its errors.
    nights = [line.split() for line in printed.splitlines() if line.startswith(("20240407", "20240408"))]
    assert [night[0] for night in nights] == ["20240407", "20240408"]
    assert all(float(night[6]) < 6 for night in nights)
    # What it names to look at and to try is there and works.
    files = re.findall(r"^(?:the report|a picture) +(.+)$", printed, re.MULTILINE)
    assert files and all((demo_folder / file).is_file() for file in files)
    lc = re.search(r"skylake lc .* --object (\d+) --plot", printed)
    assert lc is not None
    assert len(well("lc", folder / "lake", "--object", lc[1]).out.splitlines()) > 2


def test_no_folder_but_a_demos_own_is_cleared(tmp_path: Path, skylake_command: Run) -> None:
    (tmp_path / "thesis.tex").write_text("all my work")
    answer = skylake_command("demo", tmp_path, "--frames", 4)
    assert answer.status == 2
    assert "the folder is not empty" in answer.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, skylake_command: Run) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "demo"):
        answer = skylake_command("demo", place)
        assert answer.status == 3
        assert answer.sentence.startswith(f"{place}: the demo cannot be written there (")
    assert skylake_command("demo", tmp_path / "few", "--frames", 3).status == 2
    assert not (tmp_path / "few").exists()
