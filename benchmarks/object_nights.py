"""Nights of frames and clusters for the benchmark of objects, drawn and kept in a lake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake import cameras
from skylake.core.sphere import healpix_index, offset, ra_dec, unit_vectors
from skylake.flow.aggregates.fold_objects import refresh_objects
from skylake.flow.aggregates.plan import PlanSources
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.zeropoints.calibration_in_force import calibration_in_force
from skylake.lake import Commit, Lake, stage_part
from skylake.schema import conform, load
from skylake.settings import Settings
from skylake.table.frames import frames_table

Floats = npt.NDArray[np.float64]

PIXEL, FWHM = 15.0, 30.0
CAMERA = "bench"


def bench_lake(folder: Path, kind: str) -> Lake:
    """Make a lake with the profile of a camera."""
    lake = Lake.create(folder / "lake", Settings(cluster="inline", pixel_order=2 if kind == "field" else 1))
    profile = folder / "bench.toml"
    profile.write_text(f'name = "{CAMERA}"\nlike = "sim"\n')
    lake.keep_profile(cameras.load(profile))
    return lake


def refresh(lake: Lake) -> None:
    """Bring the objects up to date."""
    refresh_objects(lake, PlanSources(lake, calibration_in_force(lake)), Inline(), Silent())


def whole_sky(random: np.random.Generator, n: int, size_deg: float = 120.0) -> Floats:
    """Return unit vectors of stars within a circle about RA 0, Dec 0."""
    distance = np.degrees(np.arccos(1.0 - random.random(n) * (1.0 - np.cos(np.radians(0.5 * size_deg)))))
    return unit_vectors(*offset(0.0, 0.0, distance, random.uniform(0, 360, n)))


def keep_night(
    lake: Lake, commit: Commit, staging: Path, night: int, frames: pa.Table, clusters: pa.Table
) -> None:
    """Stage frames and clusters of a night."""
    name = f"{CAMERA}-{night:08d}"
    for rows, table in ((frames, "frames"), (clusters, "clusters")):
        tree = lake.tree_of(table) if table == "clusters" else None
        part = stage_part(rows, table, name, staging / table, tree, CAMERA, night, {"bench": name})
        commit.replace(part, staging / table)


def outline(ra: float, dec: float, size_deg: float) -> str:
    """Return the outline of a frame as ``frames.s_region`` has it."""
    corners = offset(ra, dec, size_deg / np.sqrt(2), np.array([45.0, 135.0, 225.0, 315.0]))
    return "POLYGON ICRS " + " ".join(map(str, np.column_stack(corners).ravel()))


def frames_of(
    camera: str, night: int, mjd: float, ra: float, dec: float, n: int, size_deg: float, first: int = 0
) -> pa.Table:
    """Return frames of a night; those of more than 100 degrees have no outline."""
    pixels = int(size_deg * 3600 / PIXEL) if size_deg < 100 else 1500
    region = outline(ra, dec, size_deg) if size_deg < 100 else None
    rows = [
        {
            "frame_id": night * 1000 + number, "camera": camera, "night": night, "file": f"/none/{number}.fits",
            "extension": 0, "status": "ok", "flags": 0, "mjd_mid": mjd + 0.001 * number, "ra_deg": ra,
            "dec_deg": dec, "width_px": pixels, "height_px": pixels, "fwhm_px": FWHM / PIXEL, "s_region": region,
            "pixel_scale_arcsec": size_deg * 3600 / pixels, "config_sha256": "0" * 64, "software_version": "0",
        }
        for number in range(first, first + n)
    ]  # fmt: skip
    return frames_table(rows)


def cluster_rows(sky: Floats, size: float, night: int, mjd: float, random: np.random.Generator) -> pa.Table:
    """Return the clusters of a night."""
    noise = whole_sky(random, len(sky) // 10, size)
    vectors = np.concatenate([sky + 0.5 / 206265.0 * random.standard_normal(sky.shape), noise])
    number = np.arange(len(vectors))
    is_star = number < len(sky)
    count = np.where(is_star, 20, 1)
    true = np.concatenate([sky, noise])
    matched = is_star & (number % 10 > 0)
    return clusters_like(
        vectors, true, number, matched, count, np.full(len(number), 20), (night, mjd), random
    )


def clusters_like(
    vectors: Floats,
    true: Floats,
    number: npt.NDArray[np.int64],
    matched: npt.NDArray[np.bool_],
    count: npt.NDArray[np.int64],
    n_covered: npt.NDArray[np.int64],
    when: tuple[int, float],
    random: np.random.Generator,
) -> pa.Table:
    """Return clusters at some places, of stars at others; those that are matched are of a catalog."""
    (night, mjd), n = when, len(vectors)
    (ra, dec), (ref_ra, ref_dec) = ra_dec(vectors), ra_dec(true)
    several = count > 1
    columns: dict[str, Any] = {
        "_healpix_29": healpix_index(ra, dec), "camera": pa.repeat(CAMERA, n), "night": np.full(n, night, np.int32),
        "cluster_no": np.arange(n), "ra_deg": ra, "dec_deg": dec, "n_place": count,
        "scatter_arcsec": np.where(several, 2.0, np.nan), "n_detections": count, "n_frames": count,
        "n_frames_covered": n_covered, "mjd_first": np.full(n, mjd), "mjd_last": np.full(n, mjd + 0.02),
        "mjd_mean": np.full(n, mjd + 0.01), "catalog": pa.array(np.where(matched, "truth", ""), mask=~matched),
        "ref_id": pa.array(number, mask=~matched), "ref_ra_deg": np.where(matched, ref_ra, np.nan),
        "ref_dec_deg": np.where(matched, ref_dec, np.nan), "n_matched": np.where(matched, count, 0),
        "n_switched": np.zeros(n, int), "n_flux": count, "flux_adu_per_s": random.normal(100, 5, n),
        "flux_scatter": np.where(several, 5.0, np.nan), "n_good": np.zeros(n, int),
    }  # fmt: skip
    columns |= {name: np.zeros(n, int) for name in ("n_blended", "n_saturated", "n_edge", "n_streak")}
    made = {
        name: values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
        for name, values in columns.items()
    }
    return conform(pa.table(made), load("clusters"))


def place_of(offsets: Floats) -> tuple[Floats, Floats]:
    """Return RA and Dec of offsets from RA 0, Dec 0."""
    return offset(0.0, 0.0, np.hypot(*offsets.T), np.degrees(np.arctan2(*offsets.T)))
