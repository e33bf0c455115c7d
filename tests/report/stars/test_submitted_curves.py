"""Databases hear of each measurement with which catalog its camera was calibrated."""

from __future__ import annotations

from typing import Any

import pytest
from overlap_rows import EAST, WEST, Overlap

from skylake.report.curves import curve_named
from skylake.report.stars.submissions import Submission
from skylake.report.stars.submitted_curves import submitted


def reported(overlap: Overlap, curve: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return TRANS and CHART by the camera in the notes."""
    text, _ = submitted(overlap.lake.snapshot(), curve, "aavso", Submission("X Y", "ABC"))
    rows = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    assert len(rows) == len(EAST.frame_id) + len(WEST.frame_id)
    found = {(row[14].split("camera ")[1].split(";")[0], row[5], row[13]) for row in rows}
    assert len(found) == 2
    return {camera: (trans, chart) for camera, trans, chart in found}


def test_detections_have_the_catalog_of_their_camera(overlap: Overlap) -> None:
    curve = curve_named(overlap.lake.snapshot(), str(overlap.ids["new east"]))
    assert reported(overlap, curve) == {"east": ("NO", "apass"), "west": ("NO", "refcat2")}


@pytest.mark.parametrize("bands", [("R", "V"), ("V", "R")])
def test_forced_measurements_have_the_catalog_of_their_camera(
    overlap: Overlap, bands: tuple[str, str]
) -> None:
    """The colour of the star is known to the catalog of one camera only, which comes first or last."""
    curve = curve_named(overlap.lake.snapshot(), "apass:2", "forced")
    (of_east,) = curve["bands"]
    of_west = of_east | {"camera": "west", "band": "R", "zp_catalog": "refcat2", "ref_colour": None}
    known = {"V": of_east, "R": of_west}
    points = [
        point | {"camera": "west", "band": "R", "frame_id": frame}
        for point, frame in zip(curve["points"], WEST.frame_id.tolist(), strict=False)
    ]
    both = curve | {"bands": [known[band] for band in bands], "points": curve["points"] + points}
    assert reported(overlap, both) == {"east": ("YES", "apass"), "west": ("NO", "refcat2")}
