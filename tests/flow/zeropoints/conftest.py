"""A camera whose field drifts over the stars of a poor catalog, night after night, as tables of a lake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.camera import FLUXES
from skylake.core.sphere import healpix_index
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.zeropoints.calibration_parameters import CalibrationInputs
from skylake.flow.zeropoints.variable_stars import variable_catalogs
from skylake.lake import Commit, Lake, Part, stage_part
from skylake.schema import conform, load
from skylake.settings import Settings
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.frames import frames_table
from skylake.table.matches import matches_name

CATALOG_SCATTER, CATALOG_ERROR, COLOUR_TERM, FLOOR = 0.12, 0.05, 0.1, 0.002
FIELD_DEG, SIZE_PX = 1.0, 1000
PROFILE = """
name = "drift"
like = "generic"
default_filter = "V"
site.longitude_deg = 0.0
[filters.V]
band = "V"
colour = "B-V"
pivot_colour = 0.7
"""


@dataclass
class DriftingField:
    """A lake with the catalog, to which nights are added; and what is true of them.

    ``zp`` has the true zeropoint of each frame, ``mag`` that of each star.
    """

    lake: Lake
    profile: Profile
    mag: np.ndarray
    colour: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    ref_mag: np.ndarray
    zp: dict[int, float] = field(default_factory=dict)

    def add_night(self, number: int, n_frames: int = 30, seed: int = 0, gradient: float = 0.0) -> None:
        """Add a night of frames whose field drifts by a third of its width."""
        night, random = 20240401 + number, np.random.default_rng([seed, number])
        mjd = 60401.9 + number + 0.2 * np.arange(n_frames) / n_frames
        first = 1000 * (number + 1)
        frames, matches = [], []
        for i in range(n_frames):
            frame_id, zp = first + i, 20.0 + random.normal(0.0, 0.05) - 0.1 * i / n_frames
            self.zp[frame_id] = zp
            frames.append(frame_row(frame_id, night, mjd[i]))
            x, y = self.places(FIELD_DEG / 3.0 * (i / n_frames - 0.5))
            seen = np.flatnonzero((np.abs(x - 500.0) < 495.0) & (np.abs(y - 500.0) < 495.0))
            seen = seen[random.random(len(seen)) < 0.95]
            x, y, star = x[seen], y[seen], seen
            lost = gradient * (x - 500.0) / 500.0 + random.normal(0.0, FLOOR, len(star))
            flux = 10.0 ** (-0.4 * (self.mag[star] + lost - zp - COLOUR_TERM * (self.colour[star] - 0.7)))
            flux_err = np.sqrt(2.0 + flux / 2000.0)
            matches.append(self.match_rows(frame_id, night, mjd[i], star, (x, y), (flux, flux_err), random))
        self.commit(number, night, frames_table(frames), pa.concat_tables(matches))

    def places(self, drift_deg: float) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the stars when the field has drifted so far."""
        scale = SIZE_PX / FIELD_DEG
        east = (self.ra - 120.0) * np.cos(np.radians(self.dec))
        return 500.0 + scale * (east - drift_deg), 500.0 + scale * (self.dec + 20.0)

    def match_rows(
        self, frame_id: int, night: int, mjd: float, star: Any, place: Any, light: Any, random: Any
    ) -> pa.Table:
        """Rows of matches of a frame."""
        n, (flux, flux_err) = len(star), light
        measured = flux + random.normal(0.0, flux_err)
        values = {
            "_healpix_29": healpix_index(self.ra[star], self.dec[star]),
            "frame_id": np.full(n, frame_id), "source_no": np.arange(n), "catalog": ["drifters"] * n,
            "ref_id": star, "camera": ["drift"] * n, "night": np.full(n, night), "mjd_mid": np.full(n, mjd),
            "band": ["V"] * n, "separation_arcsec": np.full(n, 0.1), "n_candidates": np.ones(n, int),
            "ref_mag": self.ref_mag[star], "ref_mag_err": np.full(n, CATALOG_ERROR), "ref_colour": self.colour[star],
            "ref_crowding": np.zeros(n), "x_px": place[0], "y_px": place[1], "crowding": np.zeros(n),
            "flags": np.zeros(n, int),
        }  # fmt: skip
        for name in FLUXES:
            values |= {f"flux_{name}": measured, f"flux_{name}_err": flux_err}
        for name in ("", "moved_", "source_"):
            values |= {f"{name}ra_deg": self.ra[star], f"{name}dec_deg": self.dec[star]}
        return conform(pa.table({name: pa.array(value) for name, value in values.items()}), load("matches"))

    def commit(self, number: int, night: int, frames: pa.Table, matches: pa.Table) -> None:
        """Put the frames of a night into the lake, and its matches as calibrate would have made them."""
        name = f"drift-{night}"
        commit = Commit("test", name)
        with self.lake.stage("test") as staging:
            part = stage_part(frames, "frames", name, staging / "frames", None, "drift", night, {})
            commit.replace(part, staging / "frames")
            snapshot = self.lake.snapshot()
            reference = ReferenceCatalog.open(snapshot.catalog("drifters"))
            none = Part("sources", name, (), "drift", night)
            made_from = CalibrationInputs(reference, self.profile, variable_catalogs(snapshot))
            inputs = made_from.of(part, none, night)
            tree = self.lake.tree_of("matches")
            named = matches_name(name, "drifters")
            part = stage_part(matches, "matches", named, staging / "matches", tree, "drift", night, inputs)
            commit.replace(part, staging / "matches")
            self.lake.commit(commit)


def frame_row(frame_id: int, night: int, mjd: float) -> dict[str, Any]:
    row = {
        "frame_id": frame_id, "camera": "drift", "night": night, "file": f"/nowhere/{frame_id}.fits", "extension": 0,
        "status": "ok", "flags": 0, "mjd_mid": mjd, "exposure_s": 20.0, "filter": "V", "band": "V",
        "width_px": SIZE_PX, "height_px": SIZE_PX, "flux_limit": 5.0,
        "config_sha256": "0" * 64, "software_version": "0",
    }  # fmt: skip
    return row | {f"apcor_{name}": 1.0 for name in FLUXES} | {f"apcor_{name}_err": 0.0 for name in FLUXES}


@pytest.fixture(scope="session")
def empty_field(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], DriftingField]:
    """A function (folder) that makes a lake with the catalog and no frames."""
    random = np.random.default_rng(1)
    n = 60
    ra = 120.0 + random.uniform(-0.75, 0.75, n) / np.cos(np.radians(20.0))
    dec = -20.0 + random.uniform(-0.55, 0.55, n)
    mag, colour = random.uniform(8.0, 11.5, n), random.uniform(0.2, 1.4, n)
    ref_mag = mag + random.normal(0.0, CATALOG_SCATTER, n)

    def make(folder: Path) -> DriftingField:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "drift.toml").write_text(PROFILE)
        rows = {
            "id": np.arange(n),
            "ra": ra,
            "dec": dec,
            "V": ref_mag,
            "Ve": np.full(n, CATALOG_ERROR),
            "B-V": colour,
        }
        pq.write_table(pa.table(rows), folder / "stars.parquet")
        lake = Lake.create(folder / "lake", Settings(cluster="inline", pixel_order=1))
        columns = CatalogColumns(
            ra="ra",
            dec="dec",
            id="id",
            magnitudes={"V": "V"},
            magnitude_errors={"V": "Ve"},
            colours={"B-V": "B-V"},
        )
        import_catalog(lake, "drifters", "table", [folder / "stars.parquet"], columns)
        profile = cameras.load(folder / "drift.toml")
        lake.keep_profile(profile)
        return DriftingField(lake, profile, mag, colour, ra, dec, ref_mag)

    return make
