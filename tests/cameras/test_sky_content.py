"""The content of a sky file is part of the configuration of those who take it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from skylake import cameras
from skylake.cameras import Profile


def with_sky(file: str) -> Profile:
    profile = cameras.load("sim")
    reduction = profile.base.reduction
    base = replace(profile.base, reduction=replace(reduction, sky=replace(reduction.sky, file=file)))
    return replace(profile, base=base)


def test_another_sky_of_the_same_name_is_another_configuration(tmp_path: Path) -> None:
    sky = tmp_path / "sky.fits"
    sky.write_bytes(b"one sky")
    first = with_sky(str(sky))
    before = first.sha256
    assert before == with_sky(str(sky)).sha256
    sky.write_bytes(b"another sky")
    assert first.sha256 != before
    sky.write_bytes(b"one sky")
    assert first.sha256 == before


def test_a_missing_sky_differs_from_one_that_is_there(tmp_path: Path) -> None:
    away = with_sky(str(tmp_path / "sky.fits"))
    assert away.configuration["sky_files"] == {str(tmp_path / "sky.fits"): ""}
    before = away.sha256
    (tmp_path / "sky.fits").write_bytes(b"one sky")
    assert away.sha256 != before


def test_profiles_without_a_sky_file_are_what_they_were() -> None:
    profile = cameras.load("sim")
    assert set(profile.configuration) == {"base", "periods"}
