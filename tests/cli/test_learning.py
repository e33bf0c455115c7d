"""``skylake camera learn`` and ``skylake camera geometry``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skylake.image.distortion import Distortion
from skylake.image.epochs import Epoch
from skylake.image.lens import Lens
from skylake.lake import Lake
from skylake.lake.distortions import write_epochs

Run = Callable[..., Any]
LENS = Lens((0.1, 0.2, 0.3), 2600.0, 519.0, 377.0, (0.4, -2.0, 0.0))
EPOCH = Epoch(
    1, 1, -np.inf, 60010.0, 60001.0, 60009.0, 40, (768, 1024), Distortion(LENS, np.eye(7), 0.05, 12, 900), 0.2, np.nan,
    "tycho2", "ab" * 32, "0.1", "the first",
)  # fmt: skip


@pytest.fixture
def learnt(lake: Path, tmp_path: Path) -> Path:
    """A copy of a lake whose camera has an epoch."""
    import shutil

    copy = Path(shutil.copytree(lake, tmp_path / "lake", symlinks=True))
    write_epochs(Lake(copy).layout, "small", [EPOCH])
    return copy


def test_epochs_are_shown_and_drawn(learnt: Path, well: Run, tmp_path: Path) -> None:
    (row,) = well("camera", "geometry", learnt, "-c", "small", "--plot", tmp_path / "pictures", "--json").json
    assert row["name"] == EPOCH.name and row["why"] == "the first"
    assert row["from"] is None and row["to"].startswith("2023-03-07") and row["held_out_px"] is None
    names = [f"small-1.1-{what}.png" for what in ("distortion", "residuals", "radius", "histogram", "field")]
    assert [Path(path).name for path in row["pictures"]] == names
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in row["pictures"])
    assert EPOCH.name in well("camera", "geometry", learnt, "-c", "small").out


def test_a_camera_of_which_nothing_is_known_has_no_epoch(lake: Path, well: Run) -> None:
    assert well("camera", "geometry", lake, "-c", "small", "--json").json == []


def test_a_camera_that_the_lake_does_not_know_is_told(lake: Path, skylake_command: Run) -> None:
    answer = skylake_command("camera", "learn", lake, "-c", "nobody", "--cluster", "inline")
    assert answer.status == 3 and "nobody" in answer.sentence


def test_frames_with_right_headers_tell_nothing_to_learn(lake: Path, well: Run) -> None:
    told = well("camera", "learn", lake, "-c", "small", "--cluster", "inline", "--json").json
    assert told["n_frames"] == 0 and told["made"] == [] and told["changes"] == []
