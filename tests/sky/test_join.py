from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from skylake.core.sphere import (
    apply_proper_motion,
    healpix_index,
    julian_epoch,
    offset,
    separation_deg,
)
from skylake.errors import CatalogError
from skylake.schema import conform, load
from skylake.schema.parquet import write_parquet
from skylake.sky.catalog_build import CatalogBuildReport
from skylake.sky.hats import Properties, leaf_folder, write_metadata

pytestmark = pytest.mark.xdist_group("lsdb")

Stars = Callable[..., pa.Table]
Build = Callable[..., tuple[Path, CatalogBuildReport]]
Join = Callable[..., pa.Table]

#: The poles, RA 0, corners of four and of three pixels, and a border of base pixels.
PLACES = [
    (0.0, 90.0),
    (0.0, -90.0),
    (0.0, 0.0),
    (22.5, 19.4712),
    (45.0, 41.8103),
    (0.0, 41.8103),
    (300.0, 5.0),
]


@pytest.fixture(scope="module")
def join() -> Join:
    """The function under test; its module needs lsdb."""
    from skylake.sky.join import join_catalog

    return join_catalog


def around(places: list[tuple[float, float]], n: int, spread_deg: float, seed: int) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    ra, dec = (np.repeat([place[axis] for place in places], n) for axis in (0, 1))
    return offset(
        ra, dec, spread_deg * np.sqrt(random.uniform(0, 1, len(ra))), random.uniform(0, 360, len(ra))
    )


def write_detections(
    root: Path, ra: np.ndarray, dec: np.ndarray, frame: np.ndarray, mjd: np.ndarray, order: int
) -> pa.Table:
    """Write detections as a HATS catalog with pixels of one order."""
    n = len(ra)
    rows = {
        "_healpix_29": healpix_index(ra, dec),
        "frame_id": frame,
        "source_no": np.arange(n, dtype=np.int32),
        "camera": pa.repeat("c", n),
        "night": np.full(n, 20240407, np.int32),
        "mjd_mid": mjd,
        "ra_deg": ra,
        "dec_deg": dec,
        "x_px": np.arange(n) * 0.5,
        "flags": np.zeros(n, np.int32),
    }
    rows |= dict.fromkeys(("y_px", "edge_distance_px"), np.ones(n))
    table = conform(pa.table(rows), load("sources")).sort_by("_healpix_29")
    pixel = table["_healpix_29"].to_numpy() >> (2 * (29 - order))
    for number in np.unique(pixel).tolist():
        piece = table.filter(pa.array(pixel == number))
        half = len(piece) // 2
        for name, part in (("one", piece.slice(0, half)), ("two", piece.slice(half))):
            write_parquet(part, root / leaf_folder(order, number) / f"{name}.parquet")
    found = sorted({(order, number) for number in pixel.tolist()})
    write_metadata(root, load("sources"), Properties("night", "source", n), found)
    return table


def by_search(detections: pa.Table, stars: pa.Table, radius_arcsec: float, epoch: float = 2000.0) -> pa.Table:
    """All pairs within a radius, each star where it stood when the frame was taken."""
    pairs = []
    star_columns = [
        stars[name].cast("float64").to_numpy(zero_copy_only=False)
        for name in ("ra_deg", "dec_deg", "pm_ra_mas_yr", "pm_dec_mas_yr")
    ]
    for row in detections.to_pylist():
        years = julian_epoch(row["mjd_mid"]) - epoch
        ra, dec = apply_proper_motion(*star_columns, years)
        distance = separation_deg(row["ra_deg"], row["dec_deg"], ra, dec) * 3600.0
        for star in np.flatnonzero(distance <= radius_arcsec):
            pairs.append(
                {
                    "frame_id": row["frame_id"], "source_no": row["source_no"], "x_px": row["x_px"],
                    "ref_id": stars["ref_id"][star].as_py(), "separation_arcsec": distance[star],
                    "moved_ra_deg": ra[star], "moved_dec_deg": dec[star],
                }
            )  # fmt: skip
    return pa.Table.from_pylist(pairs)


def assert_same_pairs(found: pa.Table, expected: pa.Table) -> None:
    key = [("frame_id", "ascending"), ("source_no", "ascending"), ("ref_id", "ascending")]
    found, expected = found.sort_by(key), expected.sort_by(key)
    for name in ("frame_id", "source_no", "ref_id", "x_px"):
        assert found[name].to_pylist() == expected[name].to_pylist(), name
    for name in ("separation_arcsec", "moved_dec_deg"):
        assert found[name].to_numpy() == pytest.approx(expected[name].to_numpy(), abs=1e-6), name
    turn = (found["moved_ra_deg"].to_numpy() - expected["moved_ra_deg"].to_numpy() + 180) % 360 - 180
    cos_dec = np.cos(np.radians(found["moved_dec_deg"].to_numpy()))
    assert turn * cos_dec == pytest.approx(np.zeros(len(turn)), abs=1e-9)


def moving_sky(stars: Stars, seed: int = 3) -> pa.Table:
    """Stars around the places; a third of them moves by some arcseconds a year."""
    ra, dec = around(PLACES, 60, 0.15, seed)
    random = np.random.default_rng(seed)
    still = random.uniform(0, 1, len(ra)) < 0.6
    east, north = np.where(still, 0.0, random.normal(0, 2500, (2, len(ra))))
    return stars(ra, dec, pm_ra_mas_yr=pa.array(east, mask=still), pm_dec_mas_yr=pa.array(north, mask=still))


def detections_of(sky: pa.Table, frames: dict[int, float], seed: int) -> tuple[np.ndarray, ...]:
    """Detections near where the stars stand in each frame, and some that are nothing."""
    random = np.random.default_rng(seed)
    columns = [
        sky[name].cast("float64").to_numpy(zero_copy_only=False)
        for name in ("ra_deg", "dec_deg", "pm_ra_mas_yr", "pm_dec_mas_yr")
    ]
    pieces = []
    for frame, mjd in frames.items():
        ra, dec = apply_proper_motion(*columns, julian_epoch(mjd) - 2000.0)
        ra, dec = offset(ra, dec, random.uniform(0, 40, len(ra)) / 3600.0, random.uniform(0, 360, len(ra)))
        noise = around(PLACES, 10, 0.2, seed + frame)
        ra, dec = np.concatenate([ra, noise[0]]), np.concatenate([dec, noise[1]])
        pieces.append((ra, dec, np.full(len(ra), frame, np.int64), np.full(len(ra), mjd)))
    return tuple(np.concatenate(column) for column in zip(*pieces, strict=True))


#: Two frames of one night, one of another night, and one of twenty years before.
FRAMES = {11: 60407.1, 12: 60407.3, 13: 60420.2, 14: 53100.4}


@pytest.mark.slow
@pytest.mark.parametrize(("left_order", "right_order", "limit"), [(2, 2, 10**6), (1, 3, 10**6), (3, 1, 25)])
def test_the_join_equals_a_search_at_the_epoch_of_each_frame(
    stars: Stars, build: Build, join: Join, tmp_path: Path, left_order: int, right_order: int, limit: int
) -> None:
    sky = moving_sky(stars)
    target, _ = build(sky, right_order, 300.0, limit)
    detections = write_detections(tmp_path / "night", *detections_of(sky, FRAMES, 4), left_order)
    found = join(tmp_path / "night", target, ["x_px"], ["ref_id", "mag_V"], 25.0)
    expected = by_search(detections, sky, 25.0)
    assert len(expected) > 600
    assert_same_pairs(found, expected)


@pytest.mark.parametrize("order", [0, 2])
def test_stars_beyond_the_last_pixel_of_the_catalog_are_found(
    stars: Stars, build: Build, join: Join, tmp_path: Path, order: int
) -> None:
    """Detections in a pixel without any star of the catalog, and stars just across its border."""
    ra, dec = np.array([89.9995, 90.0005, 91.0]), np.array([60.0, 60.0, 60.0])
    detections = write_detections(tmp_path / "night", ra, dec, np.full(3, 1), np.full(3, 60407.0), order)
    assert len(set(healpix_index(ra[:2], dec[:2], order).tolist())) == 2
    lone = stars([89.9998], [60.0])
    target, _ = build(lone, order, 60.0)
    found = join(tmp_path / "night", target, ["x_px"], ["ref_id"], 10.0)
    assert_same_pairs(found, by_search(detections, lone, 10.0))
    assert len(found) == 2


def test_nothing_in_common_gives_no_pairs(stars: Stars, build: Build, join: Join, tmp_path: Path) -> None:
    target, _ = build(stars([10.0], [10.0]), 1)
    for name, ra in (("near", 10.1), ("far", 200.0)):
        write_detections(
            tmp_path / name, np.array([ra]), np.array([10.0]), np.ones(1, int), np.full(1, 6e4), 1
        )
        found = join(tmp_path / name, target, ["x_px"], ["ref_id"], 5.0)
        assert found.num_rows == 0
        assert found.column_names == [
            "frame_id", "source_no", "mjd_mid", "ra_deg", "dec_deg", "x_px", "ra_deg_ref", "dec_deg_ref",
            "pm_ra_mas_yr", "pm_dec_mas_yr", "ref_id", "separation_arcsec", "moved_ra_deg", "moved_dec_deg",
        ]  # fmt: skip


def test_only_pixels_of_the_detections_are_read(
    stars: Stars, build: Build, join: Join, tmp_path: Path
) -> None:
    """A night of new frames costs what its own pixels cost, however large the catalog is."""
    ra, dec = around(PLACES, 40, 0.1, 12)
    sky = stars(ra, dec)
    target, _ = build(sky, 2, 60.0)
    near = np.flatnonzero(dec > 89.0)
    night = write_detections(
        tmp_path / "night", ra[near], dec[near], np.ones(len(near), int), np.full(len(near), 6e4), 2
    )
    mine = set(healpix_index(ra[near], dec[near], 2).tolist())
    others = [
        path
        for path in target.glob("*/dataset/Norder=2/Dir=0/Npix=*")
        if int(path.name.split("=")[1].split(".")[0]) not in mine
    ]
    assert len(others) > 5
    for path in others:
        for file in [path] if path.is_file() else path.iterdir():
            file.write_bytes(b"damaged")
    found = join(tmp_path / "night", target, ["x_px"], ["ref_id"], 30.0)
    assert_same_pairs(found, by_search(night, sky, 30.0))


def test_a_radius_beyond_the_margin_is_refused_with_the_mend(
    stars: Stars, build: Build, join: Join, tmp_path: Path
) -> None:
    target, _ = build(stars([10.0], [10.0]), 1, 30.0)
    write_detections(
        tmp_path / "night", np.array([10.0]), np.array([10.0]), np.ones(1, int), np.full(1, 6e4), 1
    )
    assert len(join(tmp_path / "night", target, [], ["ref_id"], 30.0)) == 1
    with pytest.raises(
        CatalogError, match=r"stars: .*31 arcsec exceeds .*margin of 30; `skylake calibrate` widens it"
    ):
        join(tmp_path / "night", target, [], ["ref_id"], 31.0)
