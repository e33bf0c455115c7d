"""Reason codes are API: scripts and queries compare them."""

from __future__ import annotations

from skylake.core.reasons import GATE_REASONS, Reason, Status
from skylake.schema import load

GIVEN = (
    "unreadable empty_file truncated not_fits corrupt no_image no_time ambiguous_header bad_header wrong_size "
    "no_valid_pixels worker_lost error not_science no_sources too_few_sources detection_overflow trailed defocused "
    "too_bright twilight sky_too_bright no_wcs bad_wcs"
)


def test_a_code_once_given_stays() -> None:
    assert set(GIVEN.split()) <= {str(reason) for reason in Reason}
    assert {str(status) for status in Status} == {"ok", "skipped", "rejected", "failed"}


def test_codes_fit_their_columns() -> None:
    frames = load("frames")
    assert all(len(reason) <= (frames["reason"].length or 0) for reason in Reason)
    assert all(len(status) <= (frames["status"].length or 0) for status in Status)
    assert all(reason == reason.name.lower() for reason in Reason)


def test_gates_stand_on_numbers_of_frames() -> None:
    frames = load("frames")
    for metric in GATE_REASONS:
        assert frames[metric].datatype in {"int", "float", "double"}
