"""No lake of somebody else makes a command read, write, delete, connect to or run what is not in it.

Every command is tried on lakes that were changed in the ways of `hostile_lakes`. The kernel says, by strace, which
files of the victim were opened; a server counts who connects; modules in the current folder note that they ran.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hostile.attacks_tried import Listener, problems_of, state, try_command
from hostile.every_command import Stage, arguments, every_command
from hostile.hostile_lakes import CONTENTS, LINKS, Attack, Victim, make_home

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

#: Commands that write to the lake or delete there, by themselves.
WRITING = (
    "init", "ingest", "calibrate", "aggregate", "targets", "watch add", "watch remove", "catalog import",
    "calib build", "mirror", "report", "compact", "forget", "rollback", "vacuum", "publish", "verify", "status",
)  # fmt: skip


def _attacked(
    attack: Attack, commands: tuple[str, ...], whole_lake: Path, listener: Listener, folder: Path
) -> list[str]:
    """Try commands, each on a lake as the attacker made it, and return what they did that they should not."""
    victim = Victim(folder / "home", listener.port)
    make_home(victim.home)
    before = state(victim.home)
    problems = []
    for command in commands:
        lake, out = folder / "lake", folder / "out"
        for path in (lake, out):
            shutil.rmtree(path, ignore_errors=True)
        out.mkdir()
        subprocess.run(["cp", "-a", str(whole_lake / "lake"), str(lake)], check=True)
        attack(lake, victim)
        words = arguments(command, Stage(str(lake), whole_lake / "archive", out))
        trial = try_command(words, victim, folder)
        problems += problems_of(words, trial, victim, folder, before, listener)
    return problems


@pytest.mark.parametrize("name", LINKS)
def test_no_command_that_writes_follows_a_link_out_of_a_lake(
    name: str, whole_lake: Path, listener: Listener, tmp_path: Path
) -> None:
    problems = _attacked(LINKS[name], WRITING, whole_lake, listener, tmp_path)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", CONTENTS)
def test_no_command_follows_what_a_lake_says(
    name: str, whole_lake: Path, listener: Listener, tmp_path: Path
) -> None:
    problems = _attacked(CONTENTS[name], tuple(every_command()), whole_lake, listener, tmp_path)
    assert not problems, "\n".join(problems)
