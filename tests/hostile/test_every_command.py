"""The list of commands that attacks use is whole."""

from __future__ import annotations

from pathlib import Path

from hostile.every_command import Stage, arguments, every_command


def test_each_command_is_attacked(tmp_path: Path) -> None:
    frames = tmp_path / "archive" / "frames"
    frames.mkdir(parents=True)
    (frames / "frame.fits").touch()
    stage = Stage("lake", tmp_path / "archive", tmp_path)
    for command in every_command():
        assert arguments(command, stage)[: len(command.split())] == command.split()
