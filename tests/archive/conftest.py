"""Small cameras of archives, and lakes to compare."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.lake import Lake

SMALL = """
like = "sim"
name = "small"
detector.width_px = {width}
detector.height_px = {height}
"""


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """A camera of 256 x 256 pixels."""
    path = tmp_path_factory.mktemp("profiles") / "small.toml"
    path.write_text(SMALL.format(width=256, height=256) + "gates.n_sources.min = 20\n")
    return cameras.load(path)


@pytest.fixture(scope="session")
def small_profile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the profile of a camera of 240 x 200 pixels."""
    path = tmp_path_factory.mktemp("profiles") / "small.toml"
    path.write_text(SMALL.format(width=240, height=200))
    return str(path)


@pytest.fixture(scope="session")
def checksums() -> Callable[..., dict[tuple[str, str], str]]:
    """A function (lake, *tables) that gives the checksum of every part."""

    def of(lake: Lake, *tables: str) -> dict[tuple[str, str], str]:
        snapshot = lake.snapshot()
        return {
            (table, name): part.checksum for table in tables for name, part in snapshot.parts(table).items()
        }

    return of
