from __future__ import annotations

from pathlib import Path

import pytest

from skylake import cameras
from skylake.cameras.frame_kinds import calibration_kind, read_binning, read_readout
from skylake.core.camera import HeaderDialect
from skylake.core.reasons import Reason
from skylake.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("BIAS", "bias"), ("zero", "bias"), ("Bias Frame", "bias"), ("Dark Frame", "dark"), ("DARK", "dark"),
        ("Flat Field", "flat"), ("skyflat", "flat"), ("DOMEFLAT", "flat"), ("dark flat", "dark"), ("EXPOSE", None),
        ("Light Frame", None), ("darkroom", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_kinds_by_their_customary_names(text: str | None, kind: str | None) -> None:
    assert calibration_kind(text, HeaderDialect()) == kind


def test_a_profile_may_name_its_own() -> None:
    header = HeaderDialect(flat_kinds=("lamp on",), bias_kinds=("b",))
    assert calibration_kind("Lamp On", header) == "flat" and calibration_kind("B", header) == "bias"
    assert calibration_kind("skyflat", header) is None


@pytest.mark.parametrize(("text", "kind"), [("bias_001", "bias"), ("Lamp_On 3", "flat"), ("ngc_001", None)])
def test_what_calib_build_takes_is_no_frame_of_the_sky(text: str, kind: str | None, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(
        'name = "x"\nlike = "generic"\n[header]\nkind = ["IRAFNAME"]\nbias_kinds = ["bias"]\nflat_kinds = ["on"]\n'
    )
    profile = cameras.load(path)
    assert calibration_kind(text, profile.base.header) == kind
    reading = cameras.read_header(
        {"IRAFNAME": text, "DATE-OBS": "2024-04-08T03:10:20", "EXPTIME": 20.0}, profile
    )
    reason = reading.problem and reading.problem[0]
    assert reason == (None if kind is None else Reason.NOT_SCIENCE)


def test_a_whole_value_of_the_sky_counts_more_than_a_word_in_it() -> None:
    """Ingest and calib build go by the same."""
    header = HeaderDialect(kind=("KIND",), science_kinds=("dark cloud",))
    assert calibration_kind("Dark Cloud", header) is None
    assert calibration_kind("dark cover", header) == "dark"


@pytest.mark.parametrize(
    ("cards", "binning"),
    [
        ({}, "1x1"), ({"XBINNING": 2, "YBINNING": 3}, "2x3"), ({"XBINNING": 2}, "2x2"), ({"XBINNING": 0}, "1x1"),
        ({"XBINNING": "4", "YBINNING": "4"}, "4x4"),
    ],
)  # fmt: skip
def test_binning_is_read_from_its_cards(cards: dict[str, object], binning: str) -> None:
    assert read_binning(cards, HeaderDialect()) == binning


@pytest.mark.parametrize("text", ["2 2", "2,2", "2x2", "2.0 2.0"])
def test_one_card_may_show_both_axes(text: str) -> None:
    assert read_binning({"CCDSUM": text}, HeaderDialect(binning=("CCDSUM",))) == "2x2"


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ('steps = ["flat", "bias"]', "bias comes before flat"),
        ('steps = ["trim", "trim"]', "each step once"),
        ('steps = ["bayer"]', "detector.bayer_pattern"),
        ('steps = ["linearity"]', "detector.linearity"),
        ('steps = ["reference"]', "reference_border_px"),
        ('steps = ["unlit"]', "detector.unlit"),
        ('steps = ["unlit"]\n[detector]\nunlit = [[9, 0, 0, 9]]', "x from, x to"),
        (
            'steps = ["overscan", "unlit"]\n[detector]\nunlit = [[0, 9, 0, 9]]\noverscan_x = [0, 4]',
            "zero level",
        ),
        ('steps = ["bias", "unlit"]\n[detector]\nunlit = [[0, 9, 0, 9]]', "unlit comes before bias"),
        ('steps = ["flatten"]', "reduction.steps"),
        ("sky.min_frames = 99", "sky.min_frames"),
    ],
)
def test_steps_that_make_no_sense_are_refused(lines: str, match: str, tmp_path: object) -> None:
    path = tmp_path / "x.toml"  # type: ignore[operator]
    path.write_text(f'name = "x"\nlike = "generic"\n[reduction]\n{lines}\n')
    with pytest.raises(ConfigurationError, match=match):
        cameras.load(path)


@pytest.mark.parametrize(
    ("cards", "readout"),
    [
        ({}, None),
        ({"MODE": " "}, None),
        ({"MODE": "High  Gain", "OFFSET": 10}, "MODE=high gain; OFFSET=10"),
        ({"OFFSET": "10.0", "MODE": "HIGH gain"}, "MODE=high gain; OFFSET=10"),
        ({"OFFSET": 12}, "OFFSET=12"),
        ({"MODE": True}, "MODE=true"),
    ],
)
def test_a_readout_is_the_same_however_it_is_written(cards: dict[str, object], readout: str | None) -> None:
    assert read_readout(cards, HeaderDialect(readout=("MODE", "OFFSET"))) == readout
    assert read_readout(cards, HeaderDialect()) is None
