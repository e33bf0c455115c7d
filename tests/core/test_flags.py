"""Flag bits against their registry; a bit keeps its number for ever."""

from __future__ import annotations

from enum import IntFlag

import pytest
import yaml

from skylake.core.flags import NO_STANDARD, SPOILED, SPOILED_OR_BLENDED, UNCLEAN, FrameFlag, SourceFlag
from skylake.resources import folder
from skylake.schema import flag_texts, load

#: Bits that lakes already hold. New names may follow; these stay.
GIVEN = {
    SourceFlag: (
        "SATURATED NEAR_SATURATED BLENDED EDGE BAD_PIXEL DETECTION_OVERFLOW CENTROID_FAILED KRON_FAILED "
        "LOCAL_SKY_FAILED FRAME_REJECTED"
    ),
    FrameFlag: (
        "EXPOSURE_ASSUMED GAIN_ASSUMED READ_NOISE_ASSUMED FILTER_ASSUMED TIME_FROM_NAME SITE_UNKNOWN NAN_PIXELS "
        "THRESHOLD_RAISED GATE_WARNING APCOR_ASSUMED WCS_UNCHECKED FILTER_UNKNOWN MORE_IMAGES SKY_ONE_SIDED"
    ),
}


@pytest.mark.parametrize("flags", [SourceFlag, FrameFlag])
def test_a_bit_once_given_keeps_its_number(flags: type[IntFlag]) -> None:
    for bit, name in enumerate(GIVEN[flags].split()):
        assert flags[name] == 1 << bit


@pytest.mark.parametrize("flags", [SourceFlag, FrameFlag])
def test_every_flag_is_one_bit_of_a_signed_32_bit_number(flags: type[IntFlag]) -> None:
    """The columns `flags` are of type int in Parquet and PostgreSQL."""
    assert all(flag.value.bit_count() == 1 and flag.value < 2**31 for flag in flags)
    assert len({flag.value for flag in flags}) == len(flags.__members__)
    assert load("sources")["flags"].datatype == load("frames")["flags"].datatype == "int"


@pytest.mark.parametrize(("table", "flags"), [("sources", SourceFlag), ("frames", FrameFlag)])
def test_the_registry_and_the_code_name_the_same_bits(table: str, flags: type[IntFlag]) -> None:
    items = yaml.safe_load((folder("schemas") / "flags.yaml").read_text(encoding="utf-8"))[table]
    assert [(item["name"], 1 << item["bit"]) for item in items] == [(flag.name, flag.value) for flag in flags]
    texts = flag_texts(table)  # type: ignore[arg-type]
    assert {name: value for name, (value, _) in texts.items()} == dict(flags.__members__)
    for _, text in texts.values():
        assert text == text.strip() and len(text) > 10 and not text.endswith(".")


def test_what_spoils_photometry_is_not_clean() -> None:
    assert SPOILED & UNCLEAN == SPOILED
    assert UNCLEAN & ~SPOILED == SourceFlag.BLENDED | SourceFlag.NEAR_SATURATED
    assert NO_STANDARD & ~SPOILED == SourceFlag.NEAR_SATURATED
    assert SPOILED_OR_BLENDED & ~SPOILED == SourceFlag.BLENDED
    # Where a centroid fails the flux is off by a tenth and more, and most of what is no star is among such detections.
    assert SourceFlag.CENTROID_FAILED & SPOILED
    for harmless in (SourceFlag.KRON_FAILED, SourceFlag.LOCAL_SKY_FAILED):
        assert not harmless & UNCLEAN
