"""The lake of the demo, and a small one across the corner of four pixels, opened for reading."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import skylake
from skylake.core.sphere import healpix_index
from skylake.flow.aggregates import aggregate
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake, Snapshot
from skylake.reading.reader import LakeReader
from skylake.settings import Settings

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
#: Degrees between a star and its detection, towards the north-east: beyond a pixel's border for some.
SHIFT_DEG = 0.3


@pytest.fixture(scope="session")
def demo(
    demo_folder: Path, copy_lake: Callable[[Path, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A copy of the lake of the demo, which tests of documents write to. Tests do not change it."""
    folder = tmp_path_factory.mktemp("reading") / "demo"
    folder.mkdir()
    (folder / "archive").symlink_to(demo_folder / "demo" / "archive")
    return copy_lake(demo_folder / "demo" / "lake", folder / "lake")


@pytest.fixture(scope="session")
def lake(demo: Path) -> LakeReader:
    """The lake of the demo, opened."""
    return skylake.open(demo)


@pytest.fixture(scope="session")
def corner(tmp_path_factory: pytest.TempPathFactory, make_rows: MakeRows, put: Put) -> Path:
    """A lake of six calibrated frames with 120 detections, each matched with a star in its pixel or in the next."""
    lake = Lake.create(tmp_path_factory.mktemp("corner") / "lake", Settings(pixel_order=1))
    count, frames = 120, np.arange(6)
    stars = make_rows("matches", count, 1)
    ra, dec = stars["ra_deg"].to_numpy(), stars["dec_deg"].to_numpy()
    source_ra, source_dec = (ra + SHIFT_DEG) % 360.0, dec + SHIFT_DEG
    keys = {
        "frame_id": np.arange(count) % 6,
        "source_no": np.arange(count),
        "mjd_mid": 60400.0 + np.arange(count),
    }
    keys |= {"flags": np.arange(count) % 3, "camera": ["c"] * count, "night": [20240407] * count}
    flux = {"flux_aper2": np.linspace(10.0, 1000.0, count), "flux_aper2_err": np.ones(count)}
    sources = make_rows(
        "sources", count, 2, ra_deg=source_ra, dec_deg=source_dec, _healpix_29=healpix_index(source_ra, source_dec),
        **keys, **flux,
    )  # fmt: skip
    matches = make_rows(
        "matches", count, 3, ra_deg=ra, dec_deg=dec, _healpix_29=healpix_index(ra, dec), source_ra_deg=source_ra,
        source_dec_deg=source_dec, catalog=["stars"] * count, **keys,
    )  # fmt: skip
    taken = make_rows("frames", 6, 4, frame_id=frames, camera=["c"] * 6, night=[20240407] * 6)
    fitted = make_rows(
        "zeropoints", 6, 5, frame_id=frames, catalog=["stars"] * 6, version=[1] * 6, flux=["aper2"] * 6,
        zp=20.0 + 0.1 * frames, zp_err=[0.01] * 6,
    )  # fmt: skip
    put(lake, ("frames", "c-1", taken), ("sources", "c-1", sources))
    put(lake, ("matches", "c-1.stars", matches), ("zeropoints", "c-1.stars", fitted))
    return lake.root


#: Two tables of a user, whose nights are merged by who reads them: one without and one with positions.
OF_USER = {
    "crowding": """\
-- name: crowding
-- key: camera, band
-- granularity: camera and season
-- merge: n_frames count, most max, newest last
SELECT band, count(*) AS n_frames, max(n_detected) AS most, max(night) AS newest FROM frames GROUP BY band
""",
    "stars": """\
-- name: stars
-- key: catalog, ref_id
-- granularity: object
-- merge: n count, newest last
SELECT catalog, ref_id, any_value(_healpix_29) AS _healpix_29, any_value(ra_deg) AS ra_deg,
    any_value(dec_deg) AS dec_deg, count(*) AS n, max(night) AS newest
FROM matches GROUP BY ALL
""",
}


@pytest.fixture(scope="session")
def of_user(tmp_path_factory: pytest.TempPathFactory, make_rows: MakeRows, put: Put) -> LakeReader:
    """A lake of two cameras and three nights, with two tables of a user. Tests do not change it."""
    folder = tmp_path_factory.mktemp("of_user")
    lake = Lake.create(folder / "lake", Settings(pixel_order=1))
    for number, (camera, night) in enumerate(product("ab", (20240407, 20240408, 20240409))):
        name = f"{camera}-{night}"
        own = {"camera": [camera] * 6, "night": [night] * 6}
        frames = make_rows("frames", 6, 10 + number, band=["V", "B"] * 3, **own)
        own = {"camera": [camera] * 60, "night": [night] * 60, "catalog": ["cat"] * 60}
        # The same stars each night.
        matches = make_rows(
            "matches", 60, 1, ref_id=np.arange(60), frame_id=6 * number + np.arange(60) % 6, **own
        )
        parts = ("frames", name, frames), ("matches", f"{name}-cat", matches)
        put(lake, *parts, camera=camera, night=night)
    lake.set("catalog.calibrate", "cat")
    files = []
    for name, text in OF_USER.items():
        files.append(folder / f"{name}.sql")
        files[-1].write_text(text)
    aggregate(lake, list(OF_USER), Inline(), files=files)
    return skylake.open(lake.root)
