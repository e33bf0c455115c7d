"""What the detector makes of itself is no target, however often it is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake.core.flags import SourceFlag
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import TargetOptions, make_targets, may_be_star
from skylake.lake import Lake
from skylake.table.detector_artefacts import are_artefacts
from skylake.table.targets import cluster_detections

Floats = np.ndarray[Any, np.dtype[np.float64]]
Run = Callable[..., Any]
SCALE = 8.0
HOT = ((40, 60), (100, 200), (150, 90), (210, 180), (220, 30))


def track(path: Path, folder: Path) -> list[Path]:
    """The frame four times with noise of its own, some seconds apart, with hot pixels and its stars where they were.

    The hot pixels are saturated: detection drops others for being sharp.
    """
    pixels, header = fits.getdata(path, header=True)
    for name in ("BSCALE", "BZERO"):
        header.remove(name, ignore_missing=True)
    start, made = header["DATE-OBS"], []
    for number in range(4):
        noise = np.random.default_rng(number).normal(0.0, 5.0, pixels.shape)
        again = np.clip(np.rint(pixels + noise), 0, 65535).astype(np.uint16)
        for y, x in HOT:
            again[y, x] = 65535
        header["DATE-OBS"] = f"{start[:17]}{10 * number:02d}"
        made.append(folder / f"tracked-{number}.fits")
        fits.PrimaryHDU(again, header).writeto(made[-1])
    return made


def saturate_brightest(path: Path) -> None:
    with fits.open(path, mode="update") as units:
        y, x = np.unravel_index(int(np.argmax(units[0].data)), units[0].data.shape)
        units[0].data[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 65535


def test_a_hot_pixel_of_a_tracked_field_is_no_target(
    lake: Lake, frames: list[Path], run: Run, tmp_path: Path
) -> None:
    report = run(lake, track(frames[0], tmp_path))
    assert report.counts == {"ok": 4}, report.problems
    sources = lake.snapshot().read("sources").to_pandas()
    seen = [np.sum(np.hypot(sources.x_px - x, sources.y_px - y) < 1.0) for y, x in HOT]
    assert min(seen) >= 3, "the hot pixels are detected, or the test would show nothing"
    make_targets(lake, "small", TargetOptions(seen=3), Inline())
    targets = lake.snapshot().read("targets").to_pandas()
    assert len(targets) > 100
    hot = sources[np.min([np.hypot(sources.x_px - x, sources.y_px - y) for y, x in HOT], axis=0) < 0.5]
    distance = [
        np.hypot((targets.ra_deg - ra) * np.cos(np.radians(dec)), targets.dec_deg - dec).min()
        * 3600.0
        / SCALE
        for ra, dec in zip(hot.ra_deg, hot.dec_deg, strict=True)
    ]
    # Some stars lie near a hot pixel by chance.
    assert np.mean(np.array(distance) < 1.0) < 0.2


def test_saturated_stars_stay_and_spoiled_ones_do_not_count(lake: Lake, frames: list[Path], run: Run) -> None:
    for path in frames[:6]:
        saturate_brightest(path)
    run(lake, frames[:6])
    with lake.snapshot().duckdb() as connection:
        places = connection.sql("SELECT ra_deg, dec_deg, flags FROM sources").to_arrow_table().to_pandas()
    make_targets(lake, "small", TargetOptions(seen=3), Inline())
    targets = lake.snapshot().read("targets").to_pandas()

    def near(bits: SourceFlag) -> Floats:
        some = places[(places["flags"] & int(bits)) != 0]
        return np.array(
            [
                np.hypot((targets.ra_deg - ra) * np.cos(np.radians(dec)), targets.dec_deg - dec).min()
                * 3600
                / SCALE
                for ra, dec in zip(some.ra_deg, some.dec_deg, strict=True)
            ]
        )

    saturated, edge = near(SourceFlag.SATURATED), near(SourceFlag.EDGE)
    assert saturated.size > 3
    assert edge.size > 3
    assert np.mean(saturated < 1.0) > 0.9
    assert np.mean(edge < 1.0) < 0.5


def sky_of(x: Floats, y: Floats, frame: Floats, drift: float) -> tuple[Floats, Floats]:
    """Positions of pixels on frames that drift along x by so many pixels a frame."""
    return 10.0 + (x + drift * frame) * SCALE / 3600.0, (y - 100.0) * SCALE / 3600.0


@pytest.mark.parametrize(("drift", "told"), [(0.3, True), (0.0, False)])
def test_what_stays_on_its_pixel_in_a_drifting_field_is_found(drift: float, told: bool) -> None:
    """As sharp stars are no wider than a pixel, width says nothing here."""
    random = np.random.default_rng(3)
    frame = np.repeat(np.arange(12.0), 40)
    star = np.tile(np.arange(40), 12)
    first = random.uniform(0, 200, (2, 40))
    fixed = star < 5
    x = first[0][star] - np.where(fixed, 0.0, drift * frame) + random.normal(0, 0.03, star.size)
    y = first[1][star] + random.normal(0, 0.03, star.size)
    ra, dec = sky_of(x, y, frame, drift)
    one = np.ones(star.size)
    found = cluster_detections(frame.astype(np.int64), ra, dec, one, one, 1.0 * SCALE, (x, y))
    artefacts = are_artefacts(found, SCALE)
    assert artefacts.sum() == (5 if told else 0)
    assert (found.n_frames[artefacts] == 12).all()


def test_stars_that_a_wrong_wcs_moves_are_no_artefacts() -> None:
    """A field that is guided to a hundredth of a pixel, while its headers are half a pixel off."""
    random = np.random.default_rng(4)
    frame, star = np.repeat(np.arange(12), 40), np.tile(np.arange(40), 12)
    first = random.uniform(0, 200, (2, 40))
    x, y = (first[axis][star] + random.normal(0, 0.02, star.size) for axis in range(2))
    off = random.normal(0, 0.4, (2, 12))
    ra, dec = sky_of(x + off[0][frame], y + off[1][frame], frame * 0.0, 0.0)
    one = np.ones(star.size)
    found = cluster_detections(frame, ra, dec, one, one, 1.0 * SCALE, (x, y))
    assert not are_artefacts(found, SCALE).any()


@pytest.mark.parametrize("few", ["guided", "drifting"])
def test_guided_and_drifting_fields_use_their_own_stars(few: str) -> None:
    """In the drifting field five places stay on their pixels; in the guided one, whose WCS is off, all stars do."""
    random, size = np.random.default_rng(5), {"guided": 120, "drifting": 120} | {few: 40}
    fields = []
    for number, (name, n) in enumerate(size.items()):
        frame, star = np.repeat(np.arange(12), n), np.tile(np.arange(n), 12)
        drift = 0.3 if name == "drifting" else 0.0
        off = random.normal(0, 0.4, (2, 12)) * (name == "guided")
        first, noise = random.uniform(0, 400, (2, n)), random.normal(0, 0.03, (2, star.size))
        x = first[0][star] + noise[0] - np.where(star < 5, 0.0, drift * frame)
        y = first[1][star] + noise[1]
        ra, dec = sky_of(x + off[0][frame], y + off[1][frame], frame, drift)
        fields.append((frame + 100 * number, ra + 2.0 * number, dec, x, y))
    frame, ra, dec, x, y = (np.concatenate(part) for part in zip(*fields, strict=True))
    one = np.ones(frame.size)
    found = cluster_detections(frame, ra, dec, one, one, 1.0 * SCALE, (x, y))
    artefacts = are_artefacts(found, SCALE, 0.7)
    guided = np.degrees(np.arctan2(*found.vectors.T[1::-1])) < 11.5
    assert guided.sum() > 0.9 * size["guided"]
    assert (artefacts[guided].sum(), artefacts[~guided].sum()) == (0, 5)


def test_most_sharp_detections_make_no_star() -> None:
    frame = np.arange(6)
    ra, one = np.full(6, 10.0), np.ones(6)
    both = [cluster_detections(frame, ra, ra, one, one, 1.0, None, np.arange(6) < n) for n in (2, 5)]
    assert [bool(are_artefacts(found, SCALE)[0]) for found in both] == [False, True]


def test_a_saturated_star_without_a_centroid_stays() -> None:
    failed, saturated = SourceFlag.CENTROID_FAILED, SourceFlag.SATURATED | SourceFlag.NEAR_SATURATED
    flags = np.array(
        [0, saturated, saturated | failed, failed, saturated | failed | SourceFlag.EDGE], np.int32
    )
    assert may_be_star(flags).tolist() == [True, True, True, False, False]
