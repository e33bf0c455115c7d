"""``python -m skylake``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import skylake

SOURCE = Path(skylake.__file__).parents[1]


def run(*arguments: str, interpreter: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *interpreter, "-m", "skylake", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)


def test_the_module_is_the_command() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: skylake [OPTIONS] COMMAND [ARGS]...")


@pytest.mark.parametrize(("arguments", "status"), [((), 2), (("flags", "-1"), 2), (("status", "/none"), 3)])
def test_the_exit_status_reaches_the_shell(arguments: tuple[str, ...], status: int) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (status, "")


def test_help_needs_no_heavy_package_by_import_time() -> None:
    done = run("--help", interpreter=("-X", "importtime"))
    assert done.returncode == 0
    packages = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in packages and "skylake" in packages
    heavy = {
        "lsdb",
        "hats",
        "astropy",
        "dask",
        "distributed",
        "pandas",
        "sqlalchemy",
        "numpy",
        "pyarrow",
        "duckdb",
    }
    assert not packages & heavy


def test_importing_the_package_runs_nothing() -> None:
    code = "import skylake.__main__, skylake; print(skylake.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == skylake.__version__
