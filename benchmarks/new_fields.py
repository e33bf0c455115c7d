"""What a new field costs in the night in which its stars repeat, after few and after many nights of other fields.

Needs: skylake alone. Takes about 4 minutes on one core, a minute with --quick.

A camera looks at one of ten fields each night, 30 frames with 60 stars each, and all nights are calibrated with star
magnitudes. Then comes a night of an eleventh field. ``skylake calibrate`` solves for its stars and calibrates the
night with them. Beside us, on a copy of the lake: the full solution, which calibrates all nights again.

Seconds are those of processors. Tables are drawn by numpy alone, as matches of frames without pixels. Each claim is
one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.time import Time
from claims import Claim, conclude

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.camera import FLUXES
from skylake.core.sphere import healpix_index
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.zeropoints.calibrate_nights import CalibrateReport, Choice, calibrate
from skylake.flow.zeropoints.calibrated_nights import Method
from skylake.flow.zeropoints.calibration_parameters import CalibrationInputs
from skylake.lake import Commit, Lake, Part, stage_part
from skylake.schema import conform, load
from skylake.settings import Settings
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.frames import frames_table
from skylake.table.matches import matches_name

FIELDS, STARS, FRAMES, SIZE_PX = 10, 60, 30, 1000
CATALOG_SCATTER, CATALOG_ERROR, COLOUR_TERM, FLOOR = 0.1, 0.05, 0.1, 0.002
FIRST_MJD = 60401
PROFILE = """
name = "survey"
like = "generic"
default_filter = "V"
site.longitude_deg = 0.0
[filters.V]
band = "V"
colour = "B-V"
pivot_colour = 0.7
"""


@dataclass(frozen=True)
class Survey:
    """A lake, and the stars of all fields: arrays of shape (FIELDS + 1, STARS); places in pixels of a frame."""

    lake: Lake
    profile: Profile
    mag: np.ndarray
    colour: np.ndarray
    ref_mag: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def add_nights(self, first: int, fields: list[int]) -> None:
        """Add nights, each of one field, in one commit."""
        commit = Commit("benchmark", f"nights-{first}")
        reference = ReferenceCatalog.open(self.lake.snapshot().catalog("stars"))
        tree = self.lake.tree_of("matches")
        with self.lake.stage("benchmark") as staging:
            for number, field in enumerate(fields, start=first):
                night = int(Time(FIRST_MJD + number, format="mjd").strftime("%Y%m%d"))
                frames, matches = self.night(number, night, field)
                batch = f"survey-{night}"
                part = stage_part(frames, "frames", batch, staging / "f", None, "survey", night, {})
                commit.replace(part, staging / "f")
                none = Part("sources", batch, (), "survey", night)
                inputs = CalibrationInputs(reference, self.profile).of(part, none, night)
                name = matches_name(batch, "stars")
                part = stage_part(matches, "matches", name, staging / "m", tree, "survey", night, inputs)
                commit.replace(part, staging / "m")
            self.lake.commit(commit)

    def night(self, number: int, night: int, field: int) -> tuple[pa.Table, pa.Table]:
        """Draw frames and matches of a night whose pointing wanders by a fifth of the field."""
        random = np.random.default_rng([7, number])
        frame_id = 1000 * (number + 1) + np.arange(FRAMES)
        mjd = FIRST_MJD + number + 0.9 + 0.2 * np.arange(FRAMES) / FRAMES
        zp = 20.0 + random.normal(0.0, 0.05, FRAMES)
        x, y = (one[field] + random.uniform(-100.0, 100.0, (FRAMES, 1)) for one in (self.x, self.y))
        frame, star = np.nonzero((np.abs(x - 500.0) < 495.0) & (np.abs(y - 500.0) < 495.0))
        n, mag, colour = len(star), self.mag[field, star], self.colour[field, star]
        lost = random.normal(0.0, FLOOR, n)
        flux = 10.0 ** (-0.4 * (mag + lost - zp[frame] - COLOUR_TERM * (colour - 0.7)))
        error = np.sqrt(2.0 + flux / 2000.0)
        flux += random.normal(0.0, error)
        ra, dec = self.ra[field, star], self.dec[field, star]
        values = {
            "_healpix_29": healpix_index(ra, dec), "frame_id": frame_id[frame], "source_no": np.arange(n),
            "catalog": ["stars"] * n, "ref_id": STARS * field + star, "camera": ["survey"] * n,
            "night": np.full(n, night), "mjd_mid": mjd[frame], "band": ["V"] * n,
            "separation_arcsec": np.full(n, 0.1), "n_candidates": np.ones(n, int),
            "ref_mag": self.ref_mag[field, star], "ref_mag_err": np.full(n, CATALOG_ERROR), "ref_colour": colour,
            "ref_crowding": np.zeros(n), "x_px": x[frame, star], "y_px": y[frame, star], "crowding": np.zeros(n),
            "flags": np.zeros(n, int),
        }  # fmt: skip
        for name in FLUXES:
            values |= {f"flux_{name}": flux, f"flux_{name}_err": error}
        for name in ("", "moved_", "source_"):
            values |= {f"{name}ra_deg": ra, f"{name}dec_deg": dec}
        rows = pa.table({name: pa.array(value) for name, value in values.items()})
        frames = [frame_row(int(one), night, float(when)) for one, when in zip(frame_id, mjd, strict=True)]
        return frames_table(frames), conform(rows, load("matches"))


def frame_row(frame_id: int, night: int, mjd: float) -> dict[str, object]:
    row = {
        "frame_id": frame_id, "camera": "survey", "night": night, "file": f"/nowhere/{frame_id}.fits", "extension": 0,
        "status": "ok", "flags": 0, "mjd_mid": mjd, "exposure_s": 20.0, "filter": "V", "band": "V",
        "width_px": SIZE_PX, "height_px": SIZE_PX, "flux_limit": 5.0,
        "config_sha256": "0" * 64, "software_version": "0",
    }  # fmt: skip
    return row | {f"apcor_{name}": 1.0 for name in FLUXES} | {f"apcor_{name}_err": 0.0 for name in FLUXES}


def empty_survey(folder: Path) -> Survey:
    """Make a lake with the catalog of all fields, which are ten degrees from one another."""
    random, shape = np.random.default_rng(3), (FIELDS + 1, STARS)
    mag, colour = random.uniform(8.0, 11.5, shape), random.uniform(0.2, 1.4, shape)
    x, y = random.uniform(0.0, SIZE_PX, (2, *shape))
    ra = 10.0 * np.arange(FIELDS + 1)[:, None] + 1e-3 * x
    dec = 1e-3 * y
    ref_mag = mag + random.normal(0.0, CATALOG_SCATTER, shape)
    folder.mkdir()
    (folder / "survey.toml").write_text(PROFILE)
    columns = {"id": np.arange(mag.size), "ra": ra, "dec": dec, "V": ref_mag, "B-V": colour}
    columns["Ve"] = np.full(shape, CATALOG_ERROR)
    pq.write_table(pa.table({name: one.ravel() for name, one in columns.items()}), folder / "stars.parquet")
    lake = Lake.create(folder / "lake", Settings(cluster="inline", pixel_order=2))
    given = CatalogColumns(
        ra="ra",
        dec="dec",
        id="id",
        magnitudes={"V": "V"},
        magnitude_errors={"V": "Ve"},
        colours={"B-V": "B-V"},
    )
    import_catalog(lake, "stars", "table", [folder / "stars.parquet"], given)
    profile = cameras.load(folder / "survey.toml")
    lake.keep_profile(profile)
    return Survey(lake, profile, mag, colour, ref_mag, ra, dec, x, y)


def timed(lake: Lake, choice: Choice) -> tuple[float, CalibrateReport]:
    """Return the seconds of processors of a calibration, and its report."""
    started = time.process_time()
    report = calibrate(lake, Inline(), choice=choice)
    return time.process_time() - started, report


def new_field(folder: Path, nights: int) -> tuple[float, float, int]:
    """Return seconds with a new field after some nights, those of a full solution, and nights calibrated again."""
    survey = empty_survey(folder)
    survey.add_nights(0, [number % FIELDS for number in range(nights)])
    started = time.process_time()
    calibrate(survey.lake, Inline())
    compact(survey.lake, Inline())  # as the nightly run does
    # A night of a known field is what any night costs.
    survey.add_nights(nights, [0])
    usual, _ = timed(survey.lake, Choice())
    survey.add_nights(nights + 1, [FIELDS])
    other = Lake(shutil.copytree(survey.lake.root, folder / "other", symlinks=True))
    seconds, report = timed(survey.lake, Choice())
    (solved,) = report.solved
    full, whole = timed(other, Choice(method=Method.GLOBAL))
    again = len(report.batches) - 1
    print(
        f"{nights} nights, solved in {time.process_time() - started:.0f} s: a known field {usual:.2f} s, a new one "
        f"{seconds:.2f} s with {solved.n_stars} stars and {again} other nights calibrated again; a full solution "
        f"{full:.2f} s and {len(whole.batches) - 1} other nights"
    )
    return seconds, full, again


def main() -> None:
    """Add a new field after few and after many nights, and print claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 nights in place of 200")
    options = parser.parse_args()
    few, many = 20, 60 if options.quick else 200
    with tempfile.TemporaryDirectory() as folder:
        new_field(Path(folder) / "warm", 4)
        first, last = (new_field(Path(folder) / str(count), count) for count in (few, many))
    conclude(
        [
            Claim(f"other nights calibrated again after {many} nights", last[2], float(many), 0.0),
            Claim(
                f"seconds after {many} nights, of those after {few}",
                last[0] / first[0],
                last[1] / first[1],
                2.0,
            ),
            Claim(f"seconds after {many} nights, of a full solution", last[0] / last[1], None, 0.1),
        ]
    )


if __name__ == "__main__":
    main()
