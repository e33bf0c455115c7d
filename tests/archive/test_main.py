"""The command that fills a lake with simulated tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from archive.__main__ import main

from skylake.lake import Lake

SMALL = """
frames_per_night = 2
stars.per_frame = 50.0
schedule.fields = 3
atmosphere.cloudy_fraction = 0.0
"""


def test_a_lake_is_made_and_grows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, root = tmp_path / "small.toml", tmp_path / "lake"
    file.write_text(SMALL)
    for nights, told in ((1, "1 nights"), (1, "0 nights"), (2, "1 nights")):
        main([str(root), "--nights", str(nights), "--scenario", str(file), "--workers", "1"])
        assert capsys.readouterr().out.startswith(f"archive: {told}, ")
        assert Lake(root).snapshot().n_rows("frames") == 2 * nights


def test_a_refused_scenario_leaves_nothing_behind(tmp_path: Path) -> None:
    file, root = tmp_path / "crowded.toml", tmp_path / "lake"
    file.write_text("schedule.fields = 500\n")
    with pytest.raises(SystemExit, match=r"ask for fewer with schedule\.fields"):
        main([str(root), "--scenario", str(file)])
    file.write_text("tables.spurious_fraction = 2.0\n")
    with pytest.raises(SystemExit, match=r"tables\.spurious_fraction lies between 0 and 1"):
        main([str(root), "--scenario", str(file)])
    assert not root.exists()
