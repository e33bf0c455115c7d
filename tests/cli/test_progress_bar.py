from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from skylake.cli.progress_bar import Lines, progress

SCRIPT = """
import sys
from skylake.cli.progress_bar import progress
with progress() as shown:
    shown.begin("frames", 4)
    for number in range(4):
        shown.advance()
        shown.line(f"night [bold]{number}[/bold] done :smile:")
    shown.bars.refresh()
    shown.end()
    shown.end()
    shown.advance()
    shown.begin("unknown", 0)
    shown.advance(1000)
print("the result")
"""


def on_terminal(command: list[str], environment: dict[str, str]) -> tuple[str, str, int]:
    """Run a command whose standard error is a terminal; return what went to it, standard output and status."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, env={**environment, "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE, stderr=theirs, text=True,
    ) as running:  # fmt: skip
        os.close(theirs)
        said = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # the other end of the terminal is closed
                break
            if not block:
                break
            said += block
        out = running.communicate(timeout=900)[0]
    os.close(ours)
    return said.decode(), out, running.returncode


def test_without_a_terminal_each_batch_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as shown:
        assert isinstance(shown, Lines)
        shown.begin("frames", 4)
        shown.advance(2)
        shown.line("night 1 done")
        shown.end()
    assert capsys.readouterr() == ("", "night 1 done\n")


def test_a_terminal_shows_a_bar_below_whole_lines(environment: dict[str, str]) -> None:
    said, out, status = on_terminal([sys.executable, "-c", SCRIPT], environment)
    assert (status, out) == (0, "the result\n")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert "frames" in plain and "4/4" in plain
    for number in range(4):
        assert f"night [bold]{number}[/bold] done :smile:" in plain, "no markup, no emoji"


def test_a_command_on_a_terminal_keeps_standard_output_clean(
    environment: dict[str, str], camera: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "skylake", "simulate", str(tmp_path / "sky"), "-c", str(camera), "--nights", "1",
               "--frames", "2", "--stars", "50", "--workers", "1"]  # fmt: skip
    said, out, status = on_terminal(command, environment)
    assert status == 0
    assert "simulated frames" in said
    assert re.fullmatch(r"simulate: 2 frames, \d+ catalog stars in .*sky\n", out)
    assert "\x1b" not in out
