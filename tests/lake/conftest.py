"""Lakes and processes for the tests of the lake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import skylake
from skylake.lake import Lake
from skylake.settings import Settings

SOURCE = Path(skylake.__file__).parents[1]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake with pixels of order 1."""
    return Lake.create(tmp_path / "lake", Settings(pixel_order=1))


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.Popen[str]]:
    """A function (code, *arguments, **options) that starts Python code in another process."""

    def start(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        paths = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    return start


@pytest.fixture(scope="session")
def plain_user() -> Callable[[], Any]:
    """A function that gives a context in which this process has the rights of anybody: root may do all.

    Of a folder that is named, its owner has taken all rights to write.
    """

    @contextmanager
    def become(shut: Path | None = None) -> Iterator[None]:
        if os.geteuid() != 0:
            paths = (
                [] if shut is None else [path for path in (shut, *shut.rglob("*")) if not path.is_symlink()]
            )
            modes = {path: path.stat().st_mode for path in paths}
            for path, mode in modes.items():
                path.chmod(mode & 0o555)
            try:
                yield
            finally:
                for path, mode in modes.items():
                    path.chmod(mode)
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return become
