"""Folders of a process: they go with it, and what killed processes have left goes with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import skylake
from skylake.scratch import scratch_folder

HOLDS = """
import sys
from skylake.scratch import scratch_folder
with scratch_folder("night") as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "rows").write_text("some")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of the system."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def started(temporary: Path) -> tuple[subprocess.Popen[str], Path]:
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(Path(skylake.__file__).parents[1]),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_has_left_goes_and_what_another_holds_stays(temporary: Path) -> None:
    killed, left = started(temporary)
    alive, held = started(temporary)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (left / "inner" / "rows").exists()
    with scratch_folder("stars"):
        assert left.exists(), "it is of another purpose"
    with scratch_folder("night") as folder:
        assert {path.name for path in temporary.iterdir()} == {folder.name, held.name}
        assert (held / "inner" / "rows").exists()
    alive.communicate("")
    assert list(temporary.iterdir()) == []


def test_folders_that_were_made_by_others_stay(temporary: Path) -> None:
    (temporary / "elsewhere").mkdir()
    (temporary / "elsewhere" / "kept").touch()
    (temporary / "skylake-night-link").symlink_to(temporary / "elsewhere")
    (temporary / ".skylake-night-link.gone").symlink_to(temporary / "elsewhere")
    (temporary / "skylake-night-file").touch()
    (temporary / "skylake-night-open").mkdir()
    (temporary / "skylake-night-open").chmod(0o777)
    before = sorted(temporary.rglob("*"))
    with scratch_folder("night"):
        pass
    assert sorted(temporary.rglob("*")) == before


def test_an_error_leaves_nothing(temporary: Path) -> None:
    with pytest.raises(ValueError), scratch_folder("night") as folder:
        (folder / "rows").touch()
        raise ValueError
    assert list(temporary.iterdir()) == []
