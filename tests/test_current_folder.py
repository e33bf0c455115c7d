"""Commands that run in a folder of somebody else run nothing of what lies there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

import skylake
from skylake.current_folder import SAFE_PATH, environment_of_user, no_code_from_here
from skylake.flow.watching.deliver_alerts import send
from skylake.lake import Lake
from skylake.settings import Delivery

Command = Callable[..., subprocess.CompletedProcess[str]]
SOURCE = Path(skylake.__file__).parents[1]
#: What Python, its child processes, and those of dask import first; and skylake itself.
NAMES = (
    "asyncio", "concurrent", "dask", "distributed", "multiprocessing", "numba", "numpy", "pickle", "pyarrow", "runpy",
    "signal", "sitecustomize", "skylake", "threading", "usercustomize",
)  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with modules, each of which makes a file of its name beside the folder when it is run."""
    folder = tmp_path / "hostile"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        made = str(tmp_path / f"{name}.ran")
        (folder / name / "__init__.py").write_text(f"open({made!r}, 'w').close()\n")
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """A function that runs a command in a folder, by a script as pip makes it."""
    script = tmp_path / "bin" / "skylake"
    script.parent.mkdir()
    script.write_text("from skylake.cli.main import main\nif __name__ == '__main__':\n    main()\n")
    environment = {name: value for name, value in os.environ.items() if name != SAFE_PATH}

    def go(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(script), *map(str, arguments)]
        own = environment | {"PYTHONPATH": str(SOURCE)}
        return subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True, check=False)

    return go


def test_workers_that_simulate_take_no_modules_from_the_current_folder(
    hostile: Path, tmp_path: Path, command: Command
) -> None:
    small = ("--nights", 1, "--frames", 2, "--stars", 20, "--workers", 2)
    done = command(hostile, "simulate", tmp_path / "sky", *small)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.ran")) == []


def test_workers_of_dask_take_no_modules_from_the_current_folder(
    hostile: Path,
    tmp_path: Path,
    command: Command,
    make_rows: Callable[..., pa.Table],
    put: Callable[..., object],
) -> None:
    lake = Lake.create(tmp_path / "lake")
    put(lake, ("frames", "c-20240401", make_rows("frames", 5, camera=["c"] * 5)), camera="c", night=20240401)
    options = ("--deep", "--only", "file_sha256", "--cluster", "local", "--workers", 1)
    done = command(hostile, "verify", lake.root, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob("*.ran")) == []


def test_a_folder_that_names_compiled_code_is_refused(hostile: Path, command: Command) -> None:
    (hostile / ".numba_config.yaml").write_text("cache_dir: numba\n")
    done = command(hostile, "flags", 1)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(hostile / ".numba_config.yaml") in done.stderr
    (hostile / ".numba_config.yaml").unlink()
    assert command(hostile, "flags", 1).returncode == 0


def test_pictures_do_not_depend_on_settings_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 9\naxes.facecolor: red\n")
    code = f"from skylake.report.style import canvas, save\nfrom pathlib import Path\nwith {DRAWN}"
    for folder in (tmp_path, tmp_path.parent):
        subprocess.run(
            [sys.executable, "-c", code.replace("OUT", str(tmp_path / f"{folder.name}.png"))],
            cwd=folder, check=True, env=os.environ | {"PYTHONPATH": str(SOURCE)},
        )  # fmt: skip
    here, elsewhere = (tmp_path / f"{folder.name}.png" for folder in (tmp_path, tmp_path.parent))
    assert here.read_bytes() == elsewhere.read_bytes()


DRAWN = """canvas("Title") as (figure, axes):
    axes.plot([1, 2, 3])
    save(figure, Path("OUT"))
"""


def test_a_program_of_the_user_has_the_modules_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SAFE_PATH, raising=False)
    (tmp_path / "beside.py").write_text("text = 'heard'\n")
    program = tmp_path / "program.py"
    program.write_text(f"import beside\nopen({str(tmp_path / 'out')!r}, 'w').write(beside.text)\n")
    with no_code_from_here():
        assert os.environ[SAFE_PATH]
        send(Delivery(command=f"{sys.executable} {program}"), tmp_path, "mine", [])
    assert (tmp_path / "out").read_text() == "heard"
    assert SAFE_PATH not in os.environ
    monkeypatch.setenv(SAFE_PATH, "1")
    with no_code_from_here():
        assert environment_of_user()[SAFE_PATH] == "1"
