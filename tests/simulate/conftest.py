from __future__ import annotations

from pathlib import Path

import pytest

from skylake.simulate import Scenario, SimulationResult, StarParams, simulate

SMALL = """
like = "sim"
name = "small"
detector.width_px = 240
detector.height_px = 200
"""


@pytest.fixture(scope="session")
def small_profile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the profile of a camera with a small detector."""
    path = tmp_path_factory.mktemp("profiles") / "small.toml"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture(scope="session")
def small_scenario(small_profile: str) -> Scenario:
    """Two nights of few frames with few stars."""
    return Scenario(camera=small_profile, frames_per_night=6, stars=StarParams(per_frame=150.0))


@pytest.fixture(scope="session")
def small_run(
    small_scenario: Scenario, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Scenario, SimulationResult]:
    """The small scenario, made."""
    return small_scenario, simulate(small_scenario, tmp_path_factory.mktemp("small"))


@pytest.fixture()
def profile_file(tmp_path: Path):
    """Write a profile and return its path."""

    def write(text: str, name: str = "camera.toml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write
