"""The command line as people use it, and a small simulated survey that went through it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import skylake
from skylake import logs
from skylake.cli.main import main

SOURCE = Path(skylake.__file__).parents[1]
SMALL = """
like = "sim"
name = "small"
detector.width_px = 256
detector.height_px = 256
gates.n_sources.min = 20
"""
#: Options that show the columns of the simulator's catalog.
COLUMNS = (
    "--ra", "ra", "--dec", "dec", "--id", "id", "--pm", "pmra,pmdec", "--mag", "V=V", "--mag", "B=B",
    "--mag-err", "V=V_err", "--mag-err", "B=B_err", "--colour", "B-V=B-V",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left behind: exit status, standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON, which knows no NaN."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    @property
    def sentence(self) -> str:
        """The one line on standard error, where nothing else was said."""
        assert self.out == ""
        assert self.err.startswith("skylake: ") and self.err.endswith("\n") and self.err.count("\n") == 1
        assert "Traceback" not in self.err and "internal error" not in self.err
        return self.err.removeprefix("skylake: ").rstrip("\n")


Run = Callable[..., Answer]


@contextlib.contextmanager
def loggers_kept() -> Iterator[None]:
    """Undo what a command does to the loggers, for other tests share them."""
    names = ["skylake", *(None if name == "root" else name for name in logs._NOISY)]
    before = [
        (logger, logger.level, logger.propagate, logger.handlers[:])
        for logger in map(logging.getLogger, names)
    ]
    try:
        yield
    finally:
        for logger, level, propagate, handlers in before:
            logger.setLevel(level)
            logger.propagate, logger.handlers[:] = propagate, handlers


def in_process(*arguments: object) -> Answer:
    out, err = io.StringIO(), io.StringIO()
    with (
        loggers_kept(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        main([str(argument) for argument in arguments])
    assert isinstance(end.value.code, int)
    return Answer(end.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def skylake_command() -> Run:
    """A function that runs a command in this process."""
    return in_process


@pytest.fixture(scope="session")
def well() -> Run:
    """A function that runs a command in this process, which must end well."""

    def go(*arguments: object) -> Answer:
        answer = in_process(*arguments)
        assert answer.status == 0, answer
        return answer

    return go


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a process that finds this package."""
    paths = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def process(environment: dict[str, str]) -> Run:
    """A function that runs ``python -m skylake`` in a process of its own."""

    def go(*arguments: object, **options: Any) -> Answer:
        command = [sys.executable, "-m", "skylake", *map(str, arguments)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=900, check=False, **options
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return go


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name has to be quoted everywhere: in shells, in SQL and in globs."""
    path = tmp_path_factory.mktemp("survey") / 'it\'s a "sky" [1]'
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def camera(folder: Path) -> Path:
    """The profile of a camera of 256 x 256 pixels."""
    path = folder / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def sky(folder: Path, camera: Path, well: Run) -> Path:
    """Two simulated nights of four frames, with truth and catalog. Tests do not change it."""
    out = folder / "sky"
    made = well(
        "simulate", out, "--camera", camera, "--frames", 4, "--first-night", "2024-10-01", "--stars", 300,
        "--workers", 1, "--json",
    )  # fmt: skip
    assert made.json["frames"] == 8
    return out


@pytest.fixture(scope="session")
def lake(folder: Path, sky: Path, camera: Path, well: Run) -> Path:
    """A lake of both nights, calibrated and aggregated by commands. Tests do not change it."""
    root = folder / "lake"
    well("init", root, "--cluster", "inline", "--pixel-order", 3)
    well("catalog", "import", root, "simcat", "--format", "table", sky / "catalog.parquet", *COLUMNS)
    well("ingest", root, "--camera", camera, sky / "frames")
    well("calibrate", root)
    well("aggregate", root)
    return root


@pytest.fixture
def new_lake(tmp_path: Path, well: Run) -> Path:
    """An empty lake."""
    well("init", tmp_path / "lake", "--cluster", "inline", "--pixel-order", 3)
    return tmp_path / "lake"


@pytest.fixture(scope="session")
def columns() -> tuple[str, ...]:
    """Options that show the columns of the simulator's catalog."""
    return COLUMNS
