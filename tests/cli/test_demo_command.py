from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from skylake.cli.demo_command import SCENARIO
from skylake.cli.simulate_command import scenario_from

Run = Callable[..., Any]

#: The demo on a smaller sky, where a worker of dask takes most of the time.
SMALL = """
import sys
from skylake.cli.demo_command import SCENARIO
from skylake.cli.main import main
if __name__ == "__main__":
    SCENARIO.update({"stars.per_frame": 400.0, "schedule.fields": 2, "schedule.target_fraction": 0.7,
                     "header.absent_wcs_fraction": 0.2})
    main(["demo", *sys.argv[1:], "--workers", "1", "--frames", "5"])
"""


def test_the_scenario_can_be_simulated() -> None:
    scenario = scenario_from(None, SCENARIO)
    assert (scenario.camera, scenario.nights, scenario.frames_per_night) == ("sim", 2, 60)


@pytest.mark.xdist_group("postgres")
def test_a_demo_shows_a_lake_that_agrees_with_truth(
    environment: dict[str, str], tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    folder = tmp_path / "my demo"
    done = subprocess.run(
        [sys.executable, script, folder],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    # The simulated frames, and what became of them.
    frames = pq.read_table(folder / "archive" / "truth" / "frames.parquet").to_pandas()
    status = well("status", folder / "lake", "--json").json
    counts = {(row["status"], row["reason"]): row["count_all"] for row in status["frames"]}
    n_absent = int((frames.wcs == "absent").sum())
    assert n_absent > 0
    assert counts == {("ok", None): len(frames)} and len(frames) == 10
    assert re.search(r"^ok +10$", done.stdout, re.MULTILINE)
    query = "SELECT count(*) AS n FROM frames WHERE wcs_source = 'solved'"
    assert well("sql", folder / "lake", query, "--format", "json").json == [{"n": n_absent}]
    # Every night's zeropoint is that of the simulation within its errors.
    nights = [line.split() for line in done.stdout.splitlines() if line.startswith(("20240407", "20240408"))]
    assert [night[0] for night in nights] == ["20240407", "20240408"]
    assert all(float(night[6]) < 6 for night in nights)
    # What it tells to look at and to try is there and works.
    for file in re.findall(r"^(?:the report|a picture) +(.+)$", done.stdout, re.MULTILINE):
        assert Path(file).is_file()
    lc = re.search(r"skylake lc .* --object (\d+) --plot", done.stdout)
    assert lc is not None
    assert len(well("lc", folder / "lake", "--object", lc[1]).out.splitlines()) > 2

    again = skylake_command("demo", tmp_path)
    assert again.status == 2
    assert again.sentence == f"{tmp_path}: the folder is not empty; name a new one, as in `skylake demo DIR`"


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
