from __future__ import annotations

from pathlib import Path

import pytest

from skylake.errors import LakeError
from skylake.lake import Lake
from skylake.lake.cameras.chosen_catalogs import ChosenCatalog, choice_file, read_choice


def test_a_choice_is_kept_and_a_snapshot_keeps_it(tmp_path: Path) -> None:
    lake, chosen = (
        Lake.create(tmp_path / "lake"),
        ChosenCatalog("refcat2", "R from PS1_r, PS1_g; 8 of 8 fields"),
    )
    assert read_choice(lake.layout, "lab") is None
    lake.keep_choice("lab", ChosenCatalog("apass", "it is the only one"))
    lake.keep_choice("lab", chosen)
    assert read_choice(lake.layout, "lab") == chosen
    assert choice_file(lake.layout, "lab") in lake.layout.of_cameras(), "so a rollback brings it back"


def test_a_choice_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake")
    lake.keep_choice("lab", ChosenCatalog("apass", "it is the only one"))
    choice_file(lake.layout, "lab").write_text('{"calibrate": ')
    with pytest.raises(
        LakeError, match=r"lab\.catalog: the choice of a catalog cannot be read .*remove the file"
    ):
        read_choice(lake.layout, "lab")
