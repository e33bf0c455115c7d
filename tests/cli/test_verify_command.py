from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archive.make_archive import make_archive
from archive.scenario import ArchiveScenario

from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.simulate import ScheduleParams, StarParams

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with three nights. Tests do not change it."""
    root = tmp_path_factory.mktemp("whole") / "lake"
    scenario = ArchiveScenario(
        nights=3, frames_per_night=4, stars=StarParams(per_frame=60.0), schedule=ScheduleParams(fields=1)
    )
    made = Lake.create(root, Settings(cluster="inline", pixel_order=0))
    make_archive(made, scenario, Inline(), Silent())
    return root


@pytest.fixture
def lake(whole: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path]) -> Path:
    """A copy of it, to be damaged, under a name that shells and patterns stumble over."""
    return copy_lake(whole, tmp_path / "it's [a] lake")


def test_a_whole_lake_is_reported_to_be_well(lake: Path, well: Run) -> None:
    answer = well("verify", lake)
    assert answer.out.splitlines()[-1] == f"{lake}, snapshot 4: all well; --deep reads every row too"
    deep = well("verify", lake, "--deep", "--json").json
    assert deep["all_well"] and deep["deep"]
    assert {check["kind"] for check in deep["checks"]} == {"fast", "deep", "hats"}


def test_what_the_next_aggregate_makes_anew_is_not_broken(
    new_lake: Path, sky: Path, camera: Path, well: Run
) -> None:
    first, *others = sorted((sky / "frames").rglob("*.fits*"))[:3]
    well("ingest", new_lake, "--camera", camera, first)
    assert "all well" in well("verify", new_lake).out
    well("aggregate", new_lake, "nights")
    well("ingest", new_lake, "--camera", camera, *others)
    assert "all well" in well("verify", new_lake).out
    well("aggregate", new_lake, "nights")
    well("verify", new_lake)


def test_damage_is_shown_with_a_command_to_paste(lake: Path, well: Run, skylake_command: Run) -> None:
    lost = min((lake / "frames" / "dataset").glob("*.parquet"))
    lost.unlink()
    answer = skylake_command("verify", lake)
    assert answer.status == 1
    assert "file_present        FAIL (1)" in answer.out
    assert f"  the file dataset/{lost.name} of frames is missing, with 4 rows of {lost.stem}\n" in answer.out
    assert answer.out.endswith("checks found something; --deep reads every row too\n")
    repairs = [line.split("repair: ")[1] for line in answer.out.splitlines() if "repair: ln" in line]
    subprocess.run(repairs[0], shell=True, check=True)
    assert well("verify", lake, "--deep")


def test_a_lost_description_is_made_again_by_the_command_that_is_shown(
    lake: Path, well: Run, skylake_command: Run
) -> None:
    lost = min((lake / "frames" / "_parts").glob("*.json"))
    text = lost.read_text()
    for copy in lake.glob(f"_versions/frames/*/_parts/{lost.name}"):
        copy.unlink()
    answer = skylake_command("verify", lake)
    (repair,) = {line.split("repair: ")[1] for line in answer.out.splitlines() if "--recover" in line}
    assert well(*shlex.split(repair)[1:]).out.count("FAIL") == 0
    assert lost.read_text() == text
    for table, part in (("frames", "nonsense"), ("frames", f"../{lost.stem}"), ("nonsense", lost.stem)):
        refused = skylake_command("verify", lake, "--recover", table, part)
        assert refused.status in (2, 3) and refused.sentence


def test_a_broken_pointer_is_found_where_no_command_works(
    lake: Path, well: Run, skylake_command: Run
) -> None:
    (lake / "current").unlink()
    assert skylake_command("status", lake).status == 3
    answer = skylake_command("verify", lake, "--only", "pointer")
    assert answer.status == 1
    assert "the link current is missing" in answer.out
    (repair,) = [line.split("repair: ")[1] for line in answer.out.splitlines() if "repair: ln" in line]
    subprocess.run(repair, shell=True, check=True)
    assert well("status", lake)


def test_where_there_is_no_lake_it_cannot_run(tmp_path: Path, skylake_command: Run) -> None:
    answer = skylake_command("verify", tmp_path)
    assert (answer.status, answer.err) == (3, f"skylake: {tmp_path}: there is no lake\n")
    assert skylake_command("verify", tmp_path, "--only", "nothing").status == 2
