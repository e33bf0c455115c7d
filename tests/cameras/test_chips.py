"""Profiles of cameras of several chips."""

from __future__ import annotations

from pathlib import Path

import pytest

from skylake import cameras
from skylake.cameras.chips import chip_of
from skylake.cameras.profile import of_source
from skylake.cameras.profile_json import from_json, to_json
from skylake.core.reasons import Reason
from skylake.errors import ConfigurationError

MOSAIC = """
like = "sim"
name = "wide"
optics.plate_scale_arcsec_mm = 100.0
detector.gain_e_per_adu = 2.0
period = [
  { from = 2024-06-01, detector.gain_e_per_adu = 3.0, chip = [{ name = "B", place.angle_deg = 1.5 }] },
]

[[chip]]
name = "A"
header.extension = 1
place = { x_arcsec = 600.0, y_arcsec = -500.0 }

[[chip]]
name = "B"
header.extension = 2
place = { x_mm = -6.0, y_mm = 5.0, angle_deg = 0.5 }
detector.gain_e_per_adu = 2.2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "wide.toml"
    path.write_text(text)
    return path


def test_each_chip_is_a_camera_with_the_keys_of_all_and_its_own(tmp_path: Path) -> None:
    first, second = cameras.load_chips(written(tmp_path, MOSAIC))
    assert (first.name, second.name) == ("wide-A", "wide-B")
    assert (first.base.header.extension, second.base.header.extension) == (1, 2)
    assert (first.base.detector.gain_e_per_adu, second.base.detector.gain_e_per_adu) == (2.0, 2.2)
    assert (
        first.base.place.x_arcsec == 600.0 and first.base.place.mosaic == second.base.place.mosaic == "wide"
    )
    assert second.base.place.chip == "B" and first.sha256 != second.sha256


def test_a_period_changes_all_chips_and_its_own_block_the_chip(tmp_path: Path) -> None:
    first, second = cameras.load_chips(written(tmp_path, MOSAIC))
    later = 60500.0
    assert first.at(later).detector.gain_e_per_adu == 3.0 and first.at(later).place.angle_deg == 0.0
    # What the chip says of itself stands before what the period says of all.
    assert second.at(later).detector.gain_e_per_adu == 2.2 and second.at(later).place.angle_deg == 1.5
    assert second.at(60000.0).place.angle_deg == 0.5 and second.at(later).place.x_mm == -6.0


def test_one_chip_is_named_after_a_colon(tmp_path: Path) -> None:
    path = written(tmp_path, MOSAIC)
    one = cameras.load(f"{path}:B")
    assert one == cameras.load_chips(path)[1]
    with pytest.raises(ConfigurationError, match=r"camera of 2 chips.*wide\.toml:A"):
        cameras.load(path)
    with pytest.raises(ConfigurationError, match="there is no chip 'C'; there are A, B"):
        cameras.load(f"{path}:C")
    with pytest.raises(ConfigurationError, match=r"it has no \[\[chip\]\]"):
        cameras.load("sim:A")


def test_a_kept_profile_of_a_chip_is_the_same(tmp_path: Path) -> None:
    one = cameras.load(f"{written(tmp_path, MOSAIC)}:B")
    kept = tmp_path / f"{one.name}.json"
    kept.write_text(to_json(one))
    assert from_json(kept) == one


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "B"\nheader', "header", r"\[\[chip\]\] number 2: name"),
        ('name = "B"\nheader', 'name = "A"\nheader', "two have the name 'A'"),
        ('name = "B", place', 'name = "Z", place', r"there is no \[\[chip\]\] 'Z'"),
        ("optics.plate_scale_arcsec_mm = 100.0", "", "optics.plate_scale_arcsec_mm: place.x_mm"),
        ("x_arcsec = 600.0", "x_arcs = 600.0", "x_arcs"),
        ("x_arcsec = 600.0", 'file = "(", x_arcsec = 1.0', "place.file"),
        ("x_arcsec = 600.0", 'card = "CHIP"', "place.value"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_key(
    old: str, new: str, sentence: str, tmp_path: Path
) -> None:
    assert old in MOSAIC
    with pytest.raises(ConfigurationError, match=sentence):
        cameras.load_chips(written(tmp_path, MOSAIC.replace(old, new, 1)))


def test_files_of_a_chip_are_recognised_by_name_or_card(tmp_path: Path) -> None:
    by_name = MOSAIC.replace("x_arcsec = 600.0", r"file = '\.A\.', x_arcsec = 600.0").replace(
        "x_mm = -6.0", r"file = '\.B\.', x_mm = -6.0"
    )
    chips = [one.base for one in cameras.load_chips(written(tmp_path, by_name))]
    names = ["a.A.fits", "a.B.fits", "a.C.fits"]
    assert [chip_of(chips, None, name) for name in names] == [0, 1, None]
    by_card = MOSAIC.replace("x_arcsec = 600.0", "card = 'CHIP', value = '1', x_arcsec = 600.0").replace(
        "x_mm = -6.0", "card = 'CHIP', value = '2', x_mm = -6.0"
    )
    profiles = cameras.load_chips(written(tmp_path, by_card))
    chips = [one.base for one in profiles]
    assert [chip_of(chips, {"CHIP": value}, "x") for value in (1, "2 ", 3)] == [0, 1, None]
    assert chip_of(chips, None, "x") is None
    reading = cameras.read_header({"CHIP": 3, "DATE-OBS": "2024-05-01T00:00:00"}, profiles[0], "x.fits")
    assert reading.problem is not None and reading.problem[0] == Reason.BAD_HEADER
    assert "CHIP = '3' is that of no chip of wide" in reading.problem[1]


def test_what_the_file_of_a_chip_says_now_is_read_for_the_chip(tmp_path: Path) -> None:
    path = written(tmp_path, MOSAIC)
    _, second = cameras.load_chips(path)
    assert of_source(second) == second
    path.write_text(MOSAIC + "gates.n_sources.min = 77\n")
    edited = of_source(second)
    assert edited is not None and edited.name == second.name
    assert edited.file_sha256 != second.file_sha256
    path.write_text(MOSAIC.replace('"B"', '"C"'))
    assert of_source(second) is None
    path.unlink()
    assert of_source(second) is None


def test_catalogs_are_those_of_all_periods(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "lab"\n[catalog]\nsolve = "deep"\n')
    assert cameras.load(path).at(60000.0).catalog.solve == "deep"
    path.write_text('name = "lab"\n[[period]]\nfrom = 2024-01-01\ncatalog.solve = "deep"\n')
    with pytest.raises(
        ConfigurationError, match=r"\[\[period\]\] number 1: catalog: it is that of all periods"
    ):
        cameras.load(path)


def test_no_catalogs_leave_the_configuration_as_before(
    tmp_path: Path,
) -> None:
    plain = cameras.load(written(tmp_path, 'name = "lab"\n'))
    named = cameras.load(written(tmp_path, 'name = "lab"\ncatalog.solve = "deep"\n'))
    assert "catalog" not in plain.base.configuration
    assert plain.sha256 != named.sha256
