"""What tests of several folders share."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `make demo` leaves it, with fewer frames."""
    folder = tmp_path_factory.mktemp("demo")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "skylake", "demo", "--frames", "12", "demo"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """A function that gives the content of every file below a folder, and where links lead."""

    def of(folder: Path) -> dict[str, str]:
        found = {}
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                found[str(path.relative_to(folder))] = f"-> {path.readlink()}"
            elif path.is_file():
                found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    return of
