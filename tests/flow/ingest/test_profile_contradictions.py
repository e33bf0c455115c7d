"""Frames that all want the same of the profile say so in one sentence; a few strays among others do not."""

from __future__ import annotations

from skylake.cameras import Profile
from skylake.core.batch import UNDATED
from skylake.core.corrections import corrections_of
from skylake.errors import Corrections
from skylake.flow.ingest.profile_contradictions import ReportedFrame, contradictions

WIDE = corrections_of({"optics.pixel_scale_arcsec": 31.7})


def night(night: int, *wanted: Corrections | None) -> list[ReportedFrame]:
    return [
        ReportedFrame(f"{night}-{number}.fits", night, None, corrections or {})
        for number, corrections in enumerate(wanted)
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


def test_values_of_any_kind_are_counted(profile: Profile) -> None:
    sizes = corrections_of({"detector.width_px": 100, "detector.height_px": 40})
    [found] = contradictions(night(20241001, sizes, sizes), profile)
    assert (
        found.values == sizes and "set detector.width_px = 100 and detector.height_px = 40" in found.sentence
    )
    mirrored = corrections_of({"optics.pixel_scale_arcsec": 31.7123, "astrometry.mirrored": True})
    [found] = contradictions(night(20241001, mirrored, mirrored), profile)
    assert found.values == {"optics.pixel_scale_arcsec": 31.71, "astrometry.mirrored": True}
