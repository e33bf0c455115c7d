"""Frames that all want the same of the profile say so in one sentence; a few strays among others do not."""

from __future__ import annotations

from typing import Any

from skylake.cameras import Profile
from skylake.core.batch import UNDATED
from skylake.core.corrections import correction
from skylake.flow.ingest.profile_contradictions import contradictions

WIDE = correction({"optics.pixel_scale_arcsec": 31.7})


def night(night: int, *messages: str | None) -> list[dict[str, Any]]:
    return [
        {"file": f"{night}-{number}.fits", "night": night, "mjd_mid": None, "message": message}
        for number, message in enumerate(messages)
    ]


def test_strays_among_other_frames_do_not_speak_for_them(profile: Profile) -> None:
    assert contradictions(night(20241001, *[None] * 298, WIDE, WIDE), profile) == []


def test_one_frame_alone_is_no_crowd(profile: Profile) -> None:
    assert contradictions(night(20241001, WIDE), profile) == []


def test_frames_of_whole_nights_that_agree_are_one_sentence(profile: Profile) -> None:
    rows = [*night(20241001, WIDE, WIDE), *night(20241002, None, WIDE, None), *night(20241004, WIDE)]
    [found] = contradictions(rows, profile)
    assert found.files == ["20241001-0.fits", "20241001-1.fits", "20241004-0.fits"]
    assert found.values == {"optics.pixel_scale_arcsec": 31.7}
    assert "all 3 frames of 2 nights from 20241001 to 20241004 contradict" in found.sentence
    [found] = contradictions(night(20241001, WIDE, WIDE), profile)
    assert (
        f"{profile.name}: all 2 frames of 20241001 contradict optics.pixel_scale_arcsec = " in found.sentence
    )
    [found] = contradictions(night(UNDATED, WIDE, WIDE), profile)
    assert "all 2 frames contradict" in found.sentence


def test_what_headers_quote_is_no_error(profile: Profile) -> None:
    rows = night(
        20241001,
        "the card OBJECT holds 'set a.b = zz in the profile'",
        *["set optics.pixel_scale_arcsec = 0.0 in the profile"] * 2,
        *["set optics.pixel_scale_arcsec = -1.0 in the profile"] * 2,
    )
    assert contradictions(rows, profile) == []
    [found] = contradictions(night(20241001, *["set site.name = 5 in the profile"] * 2), profile)
    assert f'contradict site.name = "{profile.base.site.name}"' in found.sentence
    assert len(contradictions(night(20241001, *["set header.time = 5 in the profile"] * 2), profile)) == 1
