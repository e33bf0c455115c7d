"""A check star is on the frames of its star, whatever else a lake has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skylake.core.sphere import healpix_index
from skylake.lake import Lake
from skylake.report.curves import curve_of_object
from skylake.report.stars.constant_star import constant_star_near
from skylake.settings import Settings

#: Frames of two cameras, and of another field and another band of the first.
WIDE, NARROW, ELSEWHERE, BLUE = (np.arange(12) + first for first in (100, 200, 300, 400))
CAMERAS = {100: "wide", 200: "narrow", 300: "wide", 400: "wide"}


def curve(number: int, frames: np.ndarray, mag: float, band: str = "V", **columns: Any) -> dict[str, Any]:
    """A row of ``lightcurves``: a block of one camera."""
    random = np.random.default_rng([number, int(frames[0])])
    place = {"ra_deg": 10.0 + 0.005 * number, "dec_deg": 5.0}
    n, camera = len(frames), CAMERAS[int(frames[0]) // 100 * 100]
    mjd = 60000.0 + 0.01 * frames
    points = {"frame_id": frames, "source_no": np.full(n, number), "mjd_mid": mjd, "bjd_tdb": mjd + 2400000.5,
              "mag": mag + random.normal(0.0, 0.01, n), "flags": np.zeros(n, int)}  # fmt: skip
    row = {
        "_healpix_29": int(healpix_index([place["ra_deg"]], [place["dec_deg"]])[0]), "object_id": number,
        "catalog": "cat", "band": band, "camera": camera, "night": 20240401, "version": 1, "n_points": n,
        "mjd_first": mjd.min(), "mjd_last": mjd.max(), "mag_median": mag, "mag_scatter": 0.01,
        "lightcurve": {name: values.tolist() for name, values in points.items()} | {"camera": [camera] * n},
        "lightcurve_errors": {"mag_random_err": [0.01] * n},
    }  # fmt: skip
    return row | place | columns


@pytest.fixture
def two_cameras(tmp_path: Path, commit_rows: Callable[..., None]) -> Lake:
    """A lake in which the stars that are most alike are not on the frames of the wide camera that show star 1."""
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    of_narrow = [curve(number, NARROW, 10.0) for number in range(2, 10)]
    of_wide = [curve(number, WIDE, 10.3) for number in range(20, 25)]
    rows = [
        curve(1, WIDE, 10.0), curve(1, NARROW[:6], 11.5),
        *of_narrow, *(curve(number, ELSEWHERE, 10.0) for number in range(10, 18)), *of_wide,
        # Half of the frames are too few, and points of another band are not theirs.
        curve(18, np.append(WIDE[:6], ELSEWHERE[:6]), 10.0), curve(19, BLUE, 10.0, "B"),
        *(curve(number, BLUE, 9.0, "B") for number in range(20, 25)),
    ]  # fmt: skip
    for part in ({"camera": "narrow"}, {"camera": "wide"}):
        mine = [row for row in rows if row["camera"] == part["camera"]]
        commit_rows(lake, "lightcurves", part["camera"], mine)
    return lake


def test_a_check_star_is_on_the_frames_of_the_star(two_cameras: Lake) -> None:
    snapshot = two_cameras.snapshot()
    star = curve_of_object(snapshot, 1)
    found = constant_star_near(snapshot, star)
    assert found is not None and found["object_id"] in range(20, 25)
    assert {point["frame_id"] for point in found["points"]} >= set(WIDE.tolist())


def test_of_the_frames_of_one_camera_the_check_star_is_on_those(two_cameras: Lake) -> None:
    snapshot = two_cameras.snapshot()
    star = curve_of_object(snapshot, 1)
    star["points"] = [point for point in star["points"] if point["camera"] == "narrow"]
    found = constant_star_near(snapshot, star)
    assert found is not None and {point["camera"] for point in found["points"]} == {"narrow"}


def test_a_check_star_is_constant_in_the_band_of_the_star_whatever_its_other_bands(two_cameras: Lake) -> None:
    snapshot = two_cameras.snapshot()
    found = constant_star_near(snapshot, curve_of_object(snapshot, 19))
    assert found is not None and {"B", "V"} == {point["band"] for point in found["points"]}


def test_without_a_star_on_its_frames_there_is_no_check_star(two_cameras: Lake) -> None:
    snapshot = two_cameras.snapshot()
    alone = curve_of_object(snapshot, 1)
    alone["points"] = [point | {"frame_id": point["frame_id"] + 5000} for point in alone["points"]]
    assert constant_star_near(snapshot, alone) is None
    alone["points"] = []
    assert constant_star_near(snapshot, alone) is None
