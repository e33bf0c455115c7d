"""``skylake camera learn`` and ``skylake camera geometry``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.distortion.distortion_model import Distortion
from skylake.image.wcs.lens import Lens
from skylake.lake import Lake
from skylake.lake.cameras.stored_distortions import write_epochs

Run = Callable[..., Any]
LENS = Lens((0.1, 0.2, 0.3), 2600.0, 519.0, 377.0, (0.4, -2.0, 0.0))
EPOCH = Epoch(
    1, 1, -np.inf, 60010.0, 60001.0, 60009.0, 40, (768, 1024), Distortion(LENS, np.eye(7), 0.05, 12, 900), 0.2, np.nan,
    "tycho2", "ab" * 32, "0.1", "the first",
)  # fmt: skip


@pytest.fixture
def learned(lake: Path, tmp_path: Path) -> Path:
    """A copy of a lake whose camera has an epoch."""
    import shutil

    copy = Path(shutil.copytree(lake, tmp_path / "lake", symlinks=True))
    write_epochs(Lake(copy).layout, "small", [EPOCH])
    return copy


def test_epochs_are_shown_and_drawn(learned: Path, well: Run, tmp_path: Path) -> None:
    (row,) = well(
        "camera", "geometry", learned, "-c", "small", "--plot", tmp_path / "pictures", "--json"
    ).json
    assert row["name"] == EPOCH.name and row["why"] == "the first"
    assert row["from"] is None and row["to"].startswith("2023-03-07") and row["held_out_px"] is None
    names = [f"small-1.1-{what}.png" for what in ("distortion", "residuals", "radius", "histogram", "field")]
    assert [Path(path).name for path in row["pictures"]] == names
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in row["pictures"])
    assert EPOCH.name in well("camera", "geometry", learned, "-c", "small").out


def test_a_camera_of_which_nothing_is_known_has_no_epoch(lake: Path, well: Run) -> None:
    assert well("camera", "geometry", lake, "-c", "small", "--json").json == []


@pytest.mark.parametrize(
    "command",
    [("camera", "learn"), ("camera", "geometry"), ("targets",), ("backfill",)],
    ids=lambda command: command[-1],
)
def test_an_unknown_camera_is_named_with_the_known_ones(
    lake: Path, new_lake: Path, command: tuple[str, ...], skylake_command: Run
) -> None:
    answer = skylake_command(*command, lake, "-c", "nobody")
    assert answer.status == 2
    assert answer.sentence == f"{lake}: the lake has no frames of nobody; it has those of small"
    answer = skylake_command(*command, new_lake, "-c", "sim")
    assert answer.status == 2 and "no frames of sim; it has none at all; `skylake ingest`" in answer.sentence


def test_a_camera_is_named_by_the_file_of_its_profile_too(
    learned: Path, camera: Path, well: Run, skylake_command: Run, tmp_path: Path
) -> None:
    (row,) = well("camera", "geometry", learned, "-c", camera, "--json").json
    assert row["name"] == EPOCH.name
    told = well("camera", "learn", learned, "-c", camera, "--cluster", "inline", "--json").json
    assert told["camera"] == "small"
    assert well("map", learned, "visits", "--camera", camera).out == well("map", learned, "visits").out
    (other := tmp_path / "other.toml").write_text('name = "other"\nlike = "sim"\n')
    answer = skylake_command("camera", "learn", learned, "-c", other)
    assert answer.status == 2 and "no frames of other; it has those of small" in answer.sentence


def test_frames_with_right_headers_say_nothing_to_learn(lake: Path, well: Run) -> None:
    told = well("camera", "learn", lake, "-c", "small", "--cluster", "inline", "--json").json
    assert told["n_frames"] == 0 and told["made"] == [] and told["changes"] == []
