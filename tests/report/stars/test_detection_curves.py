"""A star that no catalog has is measured by all cameras that see it, each with its own calibration."""

from __future__ import annotations

import numpy as np
import pytest
from overlap_rows import EAST, WEST, Overlap

from skylake.core.sphere import healpix_index
from skylake.report.curves import curve_at, curve_named


@pytest.mark.parametrize("by_place", [True, False])
def test_cameras_that_different_catalogs_calibrate_are_all_there(overlap: Overlap, by_place: bool) -> None:
    snapshot = overlap.lake.snapshot()
    curve = (
        curve_at(snapshot, overlap.ra["new"], overlap.dec)
        if by_place
        else curve_named(snapshot, str(overlap.ids["new west"]))
    )
    assert curve["catalog"] == "sources" and [band["band"] for band in curve["bands"]] == ["R", "V"]
    for camera in (EAST, WEST):
        points = [point for point in curve["points"] if point["camera"] == camera.name]
        assert [point["frame_id"] for point in points] == camera.frame_id.tolist()
        mags = np.array([point["mag"] for point in points])
        assert mags.mean() == pytest.approx(12.5, abs=0.01)
        assert mags == pytest.approx(
            [camera.zp - 2.5 * np.log10(point["flux"]) for point in points], abs=1e-6
        )


def test_what_a_camera_measures_as_a_target_is_no_part_of_what_another_sees(overlap: Overlap) -> None:
    snapshot, number = overlap.lake.snapshot(), str(overlap.ids["new_target west"])
    curve = curve_named(snapshot, number)
    assert {point["camera"] for point in curve["points"]} == {"west"} and curve["measured"] == "detected"
    every = curve_named(snapshot, number, "detected")
    assert {point["camera"] for point in every["points"]} == {"east", "west"}
    forced = curve_named(snapshot, str(overlap.ids["new_target east"]))
    assert (forced["measured"], forced["catalog"]) == ("forced", "detections")


@pytest.mark.parametrize("version", [None, 1])
def test_what_all_cameras_measure_as_a_target_is_the_target(overlap: Overlap, version: int | None) -> None:
    """Its place names the star as well as that of the target does, a fifth of an arcsecond away."""
    snapshot = overlap.lake.snapshot()
    number = str(healpix_index([overlap.ra["target"]], [overlap.dec + 0.2 / 3600.0])[0])
    curve = curve_named(snapshot, number, version=version)
    assert (curve["measured"], curve["catalog"], curve["object_id"]) == ("forced", "apass", 2)
    assert len(curve["points"]) == len(EAST.frame_id)
    detected = curve_named(snapshot, number, "detected", version=version)
    assert (detected["measured"], detected["catalog"]) == ("detected", "sources")
