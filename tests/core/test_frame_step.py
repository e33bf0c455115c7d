"""Parts of a row are put together one after the other, and leave what they are added to as it was."""

from __future__ import annotations

from skylake.core.flags import FrameFlag
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import Notes, RowPart, corrections_after, joined, with_part

WANTED = {"optics.pixel_scale_arcsec": 31.7}


def test_flags_are_added_and_cleared() -> None:
    row: FrameRow = {"night": 20240407, "flags": FrameFlag.GAIN_ASSUMED | FrameFlag.NAN_PIXELS}
    part = RowPart({"flags": FrameFlag.WCS_UNCHECKED, "fwhm_px": 2.5}, cleared=FrameFlag.GAIN_ASSUMED)
    found = with_part(row, part)
    assert found["flags"] == FrameFlag.NAN_PIXELS | FrameFlag.WCS_UNCHECKED
    assert (found["night"], found["fwhm_px"]) == (20240407, 2.5)
    assert "fwhm_px" not in row and row["flags"] & FrameFlag.GAIN_ASSUMED


def test_parts_together_do_what_they_do_one_after_the_other() -> None:
    parts = [
        RowPart({"flags": FrameFlag.WCS_UNCHECKED, "wcs_source": "header"}, notes=Notes(("one",))),
        RowPart({"wcs_source": "solved", "message": "wrong"}, corrections=WANTED),
        RowPart(cleared=FrameFlag.WCS_UNCHECKED | FrameFlag.NAN_PIXELS, notes=Notes(("two",), ("if",))),
        RowPart({"flags": FrameFlag.NAN_PIXELS}),
    ]
    row: FrameRow = {"flags": FrameFlag.SITE_UNKNOWN | FrameFlag.WCS_UNCHECKED}
    after = row
    for part in parts:
        after = with_part(after, part)
    whole = joined(*parts)
    assert with_part(row, whole) == after
    assert after["flags"] == FrameFlag.SITE_UNKNOWN | FrameFlag.NAN_PIXELS
    assert whole.notes == Notes(("one", "two"), ("if",)) and whole.corrections == WANTED


def test_a_verdict_replaces_the_message_and_what_it_asked_for() -> None:
    assert corrections_after(WANTED, RowPart({"fwhm_px": 2.5})) == WANTED
    assert corrections_after(WANTED, RowPart({"status": "rejected", "message": "too few"})) == {}
    assert corrections_after({}, RowPart({"status": "failed"}, corrections=WANTED)) == WANTED
