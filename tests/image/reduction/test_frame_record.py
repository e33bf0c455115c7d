"""What is known of a frame stays in its row, whatever becomes of it."""

from __future__ import annotations

import pytest

from skylake.cameras import Profile
from skylake.core.flags import FrameFlag
from skylake.core.frame_step import Notes, Refused, RowPart, Step
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed, FrameRejected
from skylake.image.reduction.frame_record import FrameRecord, failed_frame, new_row

WANTED = {"optics.pixel_scale_arcsec": 31.7}


@pytest.fixture
def record(profile: Profile) -> FrameRecord:
    return FrameRecord(new_row(profile, "/night/frame.fits"))


def test_columns_up_to_a_failed_stage_are_kept(record: FrameRecord) -> None:
    assert record.take(Step(5, RowPart({"width_px": 100, "flags": FrameFlag.NAN_PIXELS}))) == 5
    error = FrameRejected(Reason.NO_SOURCES, "nothing is there", WANTED)
    with pytest.raises(FrameRejected) as caught:
        record.take(Refused(error, RowPart({"n_detected": 0}, notes=Notes(("always",), ("refused",)))))
    record.refuse(caught.value)
    reduced = record.reduced()
    row = reduced.row
    assert (row["status"], row["reason"]) == ("rejected", "no_sources")
    assert row["message"] == "nothing is there; refused; always"
    assert (row["width_px"], row["n_detected"], row["flags"]) == (100, 0, FrameFlag.NAN_PIXELS)
    assert reduced.corrections == WANTED and reduced.sources is None


def test_a_row_that_a_stage_sees_is_a_copy(record: FrameRecord) -> None:
    record.row["width_px"] = 7
    assert "width_px" not in record.row


def test_a_good_frame_has_no_note_that_is_for_refused_ones(record: FrameRecord) -> None:
    record.add(RowPart({"message": None}, notes=Notes((), ("refused",))))
    assert record.reduced().row["message"] is None and record.reduced().status == "ok"


def test_a_frame_that_cannot_be_reduced_has_its_file(profile: Profile) -> None:
    reduced = failed_frame(new_row(profile, "/night/frame.fits"), FrameFailed(Reason.ERROR, "odd"))
    assert (reduced.row["file"], reduced.row["reason"]) == ("/night/frame.fits", "error")
