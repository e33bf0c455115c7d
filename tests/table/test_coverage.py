"""The sky that a camera has covered is what its frames hold, however the camera drifts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.sphere import healpix_index, offset
from skylake.schema import empty_table, load
from skylake.table.coverage import Coverage, SkySeen, coverage_of
from skylake.table.maps import region_holds

FrameRows = Callable[..., pa.Table]
SIZE = 2.0
CENTRES = st.sampled_from([(0.0, 0.0), (359.99, 45.0), (120.0, -88.0)])


def frames_at(centres: list[tuple[float, float]], scale: float = 5.0) -> pa.Table:
    """Frames of two degrees about some places."""
    rows = []
    for ra, dec in centres:
        corners = np.column_stack(offset(ra, dec, SIZE / np.sqrt(2.0), np.array([45.0, 135.0, 225.0, 315.0])))
        pixels = round(SIZE * 3600.0 / scale)
        rows.append(
            {
                "ra_deg": ra, "dec_deg": dec, "pixel_scale_arcsec": scale, "width_px": pixels, "height_px": pixels,
                "s_region": "POLYGON ICRS " + " ".join(map(str, corners.ravel())),
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows)


def drifting(centre: tuple[float, float], seed: int) -> list[pa.Table]:
    """Nights in which a camera drifts over the sky, each from another place."""
    random = np.random.default_rng(seed)
    nights = []
    for _ in range(5):
        begin, steps = random.uniform(-1.0, 1.0, 2), np.linspace(0.0, 1.5, 6)
        off = begin[:, None] + np.vstack([steps, 0.2 * steps])
        ra, dec = offset(*centre, np.hypot(*off), np.degrees(np.arctan2(*off)))
        nights.append(frames_at(list(zip(ra.tolist(), dec.tolist(), strict=True))))
    return nights


def seen_after(nights: list[pa.Table]) -> SkySeen:
    """The same after each night, by way of the table."""
    rows = empty_table(load("coverage"))
    for number, frames in enumerate(nights):
        rows = SkySeen.of(rows).after(coverage_of(frames), 20240401 + number).table("lab")
    return SkySeen.of(rows)


@given(centre=CENTRES, seed=st.integers(0, 10_000))
def test_counts_lie_between_those_of_frames_a_little_smaller_and_a_little_larger(
    centre: tuple[float, float], seed: int
) -> None:
    nights, random = drifting(centre, seed), np.random.default_rng(seed)
    off = random.uniform(-3.5, 3.5, (2, 400))
    ra, dec = offset(*centre, np.hypot(*off), np.degrees(np.arctan2(*off)))
    n_nights, n_frames = seen_after(nights).well_inside(healpix_index(ra, dec))
    for inset, is_most in ((-0.05, True), (0.12, False)):
        held = [
            np.sum([region_holds(one, ra, dec, inset) for one in frames["s_region"].to_pylist()], axis=0)
            for frames in nights
        ]
        by_night, by_frame = np.sum([one > 0 for one in held], axis=0), np.sum(held, axis=0)
        if is_most:
            assert (n_nights <= by_night).all() and (n_frames <= by_frame).all()
            assert (by_night > 0).mean() > (n_nights > 0).mean() > 0.1
        else:
            assert (n_nights >= by_night).all() and (n_frames >= by_frame).all()


def test_the_table_names_the_nights_of_each_cell() -> None:
    rows = seen_after([frames_at([(10.0, 5.0)]), frames_at([(10.0, 5.0), (11.0, 5.0)])]).table("lab")
    kinds = {
        tuple(row.values())
        for row in rows.drop_columns(["camera", "healpix_order", "healpix_pixel"]).to_pylist()
    }
    assert kinds == {(2, 2, 20240401, 20240402), (2, 3, 20240401, 20240402), (1, 1, 20240402, 20240402)}
    area = rows.num_rows * 41253.0 / 12.0 / 4.0 ** rows["healpix_order"][0].as_py()
    assert abs(area - 6.0) < 0.2


@given(step=st.integers(1, 3), seed=st.integers(0, 10_000))
def test_cells_of_another_order_hold_the_same(step: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    cells = np.unique(random.integers(0, 12 * 4**4, 200))
    night = Coverage(4, cells, random.integers(1, 9, len(cells)), 2.0)
    finer = night.at_order(4 + step)
    assert len(finer.cells) == len(cells) * 4**step
    again = finer.at_order(4)
    assert (again.cells.tolist(), again.counts.tolist()) == (cells.tolist(), night.counts.tolist())
    # A camera whose images have become smaller is counted on the cells that it has.
    sky = SkySeen.of(empty_table(load("coverage"))).after(night, 20240401).after(finer, 20240402)
    assert sky.order == 4 and set(sky.nights.tolist()) == {2}


def test_coverage_counts_frames_and_knows_cameras_of_the_whole_sky(frame_rows: FrameRows) -> None:
    narrow = frame_rows(
        3, ra_deg=0.0, dec_deg=89.9, width_px=360, height_px=360, pixel_scale_arcsec=10.0,
        s_region="POLYGON ICRS 0 89.4 90 89.4 180 89.4 270 89.4",
    )  # fmt: skip
    at = coverage_of(narrow).frames_at(healpix_index([10.0, 200.0, 10.0], [89.99, 89.9, 80.0]))
    assert at.tolist() == [3, 3, 0]
    whole = frame_rows(
        2, ra_deg=[10.0, 20.0], dec_deg=30.0, width_px=1000, height_px=1000, pixel_scale_arcsec=648.0,
        s_region=None,
    )  # fmt: skip
    covered = coverage_of(whole)
    assert covered.frames_at(healpix_index([15.0, 15.0], [30.0, -60.0])).tolist() == [2, 0]
    assert len(covered.cells) < 50_000
    assert coverage_of(whole.slice(0, 0)).frames_at(healpix_index([1.0], [1.0])).tolist() == [0]
