"""Two runs of `calib build` for one camera at once: what both made is in the library."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.flow.execution.cluster import Inline
from skylake.flow.masters.build_masters import build_masters
from skylake.lake import Commit, Lake, Snapshot
from skylake.settings import Settings


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    path = tmp_path / "twice.toml"
    path.write_text(
        'like = "generic"\nname = "twice"\nheader.kind = ["OBSTYPE"]\nreduction.steps = ["bias"]\n'
    )
    return cameras.load(path)


def biases(folder: Path, night: int) -> list[Path]:
    random, paths = np.random.default_rng(night), []
    for number in range(3):
        unit = fits.PrimaryHDU(random.normal(1000.0, 5.0, (32, 48)).astype(np.float32))
        unit.header.update(
            {"OBSTYPE": "BIAS", "EXPTIME": 0.0, "DATE-OBS": f"2024-10-{night:02d}T20:{number:02d}:00"}
        )
        paths.append(folder / f"bias-{night}-{number}.fits")
        unit.writeto(paths[-1])
    return paths


class Overtaken(Inline):
    """Workers during whose first work another run comes and ends."""

    def __init__(self, other: Callable[[], object]) -> None:
        super().__init__()
        self.other: Callable[[], object] | None = other

    def run(self, tasks: Any, done: Any = None) -> Any:
        if self.other is not None:
            other, self.other = self.other, None
            other()
        return super().run(tasks, done)


class Busy(Lake):
    """A lake to which another run commits between what a commit was made from and the commit itself."""

    others: list[Callable[[], object]]

    def commit(self, commit: Commit) -> Snapshot:
        if self.others:
            self.others.pop()()
        return super().commit(commit)


def nights(lake: Lake) -> list[int]:
    return sorted(row["night"] for row in lake.snapshot().read("masters").to_pylist())


def test_another_build_during_the_work_costs_no_masters(tmp_path: Path, profile: Profile) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    second = biases(tmp_path, 5)
    workers = Overtaken(lambda: build_masters(lake, profile, second, Inline()))
    assert build_masters(lake, profile, biases(tmp_path, 4), workers).all_well
    assert workers.other is None and nights(lake) == [20241004, 20241005]


def test_another_build_at_the_commit_costs_no_masters(tmp_path: Path, profile: Profile) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    busy = Busy(lake.root)
    paths = {night: biases(tmp_path, night) for night in (4, 5, 6)}
    busy.others = [partial(build_masters, lake, profile, paths[night], Inline()) for night in (5, 6)]
    assert build_masters(busy, profile, paths[4], Inline()).all_well
    assert busy.others == [] and nights(lake) == [20241004, 20241005, 20241006]
