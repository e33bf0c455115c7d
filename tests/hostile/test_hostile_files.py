"""No file of somebody else makes a command read, write, connect to or run what it should not, nor take the memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hostile.attacks_tried import Listener, problems_of, state, try_command
from hostile.every_command import Stage
from hostile.hostile_files import make_frames, make_profiles, make_tables
from hostile.hostile_lakes import Victim, make_home

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

#: Words after ``skylake`` for a hostile file F, a lake L and a folder O for output; S is a frame of the demo.
Words = list[str]
TABLE_COMMANDS: dict[str, Words] = {
    "catalog import": ["catalog", "import", "L", "new", "--format", "table", "F", "--ra", "ra", "--dec", "dec"],
    "catalog import of a survey": ["catalog", "import", "L", "new", "--format", "apass", "F"],
    "catalog import in place": [
        "catalog", "import", "L", "new", "--format", "hats", "F", "--ra", "ra", "--dec", "dec",
    ],
    "ingest-table": [
        "ingest-table", "L", "F", "--camera", "sim", "--ra", "ra", "--dec", "dec", "--flux", "ra", "--flux-err", "dec",
    ],
    "watch add": ["watch", "add", "L", "mine", "F"],
    "watch add of a map": ["watch", "add", "L", "mine", "--moc", "F"],
    "lc": ["lc", "L", "--stars", "F"],
    "lc in a map": ["lc", "L", "--all", "--moc", "F"],
    "crossmatch": ["crossmatch", "L", "sources", "F", "-o", "pairs"],
    "calib build": ["calib", "build", "L", "--camera", "sim", "F"],
}  # fmt: skip
FRAME_COMMANDS: dict[str, Words] = {
    "camera check": ["camera", "check", "F"],
    "camera new": ["camera", "new", "F"],
    "calib build": ["calib", "build", "L", "--camera", "sim", "F", "--kind", "bias"],
    "reduce": ["reduce", "F", "--camera", "generic", "--out", "O"],
    "solve": ["solve", "F", "--lake", "L"],
    "ingest": ["ingest", "L", "--camera", "sim", "F"],
}
PROFILE_COMMANDS: dict[str, Words] = {
    "camera show": ["camera", "show", "F"],
    "camera check": ["camera", "check", "--camera", "F", "S"],
    "ingest": ["ingest", "L", "--camera", "F", "S"],
    "reduce": ["reduce", "--camera", "F", "--out", "O", "S"],
    "simulate": ["simulate", "O/night", "--camera", "F", "--nights", "1", "--frames", "1", "--stars", "20"],
    "scenario": ["simulate", "O/night", "--scenario", "F", "--nights", "1", "--frames", "1"],
}


def attack_with(
    files: list[Path], words: Words, whole: Path, listener: Listener, victim: Victim, folder: Path
) -> list[str]:
    """Try a command on each file, and return what it did that it should not."""
    before, problems = state(victim.home), []
    lake, out = folder / "lake", folder / "out"
    for file in files:
        for path in (lake, out):
            shutil.rmtree(path, ignore_errors=True)
        out.mkdir()
        subprocess.run(["cp", "-a", str(whole / "lake"), str(lake)], check=True)
        stage = Stage(str(lake), whole / "archive", out)
        given = {"F": str(file), "L": str(lake), "O": str(out), "O/night": f"{out}/night", "S": stage.frame}
        command = [given.get(word, word) for word in words]
        trial = try_command(command, victim, folder)
        problems += problems_of(command, trial, victim, folder, before, listener)
    return problems


@pytest.fixture
def victim(tmp_path: Path, listener: Listener) -> Victim:
    """A user with a home."""
    victim = Victim(tmp_path / "home", listener.port)
    make_home(victim.home)
    return victim


@pytest.mark.parametrize("name", TABLE_COMMANDS)
def test_no_table_does_harm(
    name: str, whole_lake: Path, listener: Listener, victim: Victim, tmp_path: Path
) -> None:
    files = make_tables(tmp_path / "tables", victim, tmp_path / "ran")
    problems = attack_with(files, TABLE_COMMANDS[name], whole_lake, listener, victim, tmp_path)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", FRAME_COMMANDS)
def test_no_frame_does_harm(
    name: str, whole_lake: Path, listener: Listener, victim: Victim, tmp_path: Path
) -> None:
    files = make_frames(tmp_path / "frames")
    problems = attack_with(
        [*files, tmp_path / "frames"], FRAME_COMMANDS[name], whole_lake, listener, victim, tmp_path
    )
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", PROFILE_COMMANDS)
def test_no_profile_does_harm(
    name: str, whole_lake: Path, listener: Listener, victim: Victim, tmp_path: Path
) -> None:
    files = make_profiles(tmp_path / "profiles", victim)
    problems = attack_with(files, PROFILE_COMMANDS[name], whole_lake, listener, victim, tmp_path)
    assert not problems, "\n".join(problems)
