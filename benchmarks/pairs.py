"""Whether both stars of a close pair get the light that is theirs, or a flag, when targets are chosen from a catalog.

Needs: skylake and GalSim, which draws the stars. Takes about a minute on one core, half of it with --quick.

Simulated, through pixels: frames of 600 x 600 pixels, stars 2.2 to 2.8 px wide, with 70 pairs 1.5 to 4 px apart whose
stars differ by up to 2.5 mag, and 150 stars that are alone. The catalog has all of them, each place right to 0.05
arcsec (0.025 px). The frames are ingested, targets are chosen, and the frames measured again, as users do it.

Errors are those of single stars against the truth, relative to the stars of the frame that are alone, for stars
brighter than 13 (a S/N above 50) without the flag BLENDED: the median over stars of the absolute mean over frames.
Pulls are those of single measurements. Beside us, on the very same frames: fluxes of detections that the catalog
matches, without any flag, and the same as light curves have them, less what the catalog says of neighbours.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from claims import Claim, conclude
from drift_night import (
    PROFILE,
    SIZE,
    SKY_E,
    START_MJD,
    ZEROPOINT,
    exposed,
    header_of,
    image_of,
    light_of_star,
    sky_of,
    write_catalog,
)
from drifting import COLUMNS

import skylake
from skylake import cameras
from skylake.core.flags import UNCLEAN, SourceFlag
from skylake.core.robust import sigma_mad
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake
from skylake.settings import Settings

RA_DEG = 200.0
N_PAIRS, N_ALONE = 70, 150
SPANS = ((1.5, 2.5), (2.5, 4.0))
FAINT_MAG, FAR_MAG = 13.0, 0.1
_APART_PX = 16.0
_FORCED = """
SELECT s.frame_id, t.ref_id, s.flags, s.flux_{0} * {1} AS flux, s.flux_{0}_err * {1} AS flux_err
FROM forced_sources AS s JOIN frames AS f USING (frame_id)
JOIN (SELECT DISTINCT star_id, ref_id FROM targets WHERE ref_id IS NOT NULL) AS t USING (star_id)
"""
_CIRCLE = "f.apcor_aper2 * coalesce(s.apcor_rel_aper2, 1)"
_DETECTED = """
SELECT m.frame_id, m.ref_id, m.flags, m.flux_aper2 * f.apcor_aper2 * coalesce(m.apcor_rel_aper2, 1) AS flux,
    m.flux_aper2_err * f.apcor_aper2 * coalesce(m.apcor_rel_aper2, 1) AS flux_err
FROM matches AS m JOIN frames AS f USING (frame_id)
"""

_CORRECTED = """
SELECT frame_id, object_id AS ref_id, flags, flux,
    sqrt(pow(flux_err, 2) + pow(flux * mag_systematic_err / 1.0857, 2)) AS flux_err
FROM lightcurve_points
"""


def main() -> None:
    """Draw the frames, run everything, and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="8 frames instead of 12")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--place-error", type=float, default=0.05, help="of the catalog, arcsec")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
        random = np.random.default_rng(options.seed)
        stars = draw(Path(folder), random, 8 if options.quick else 12, options.place_error)
        lake = Lake.create(Path(folder) / "lake", Settings(cluster="inline", pixel_order=2))
        profile = cameras.load(Path(folder) / "drift.toml")
        import_catalog(lake, "small", "table", [Path(folder) / "catalog.csv"], COLUMNS)
        ingest(lake, profile, [Path(folder) / "frames"], Inline())
        print(make_targets(lake, "drift", TargetOptions(catalog="small"), Inline()).line)
        ingest(lake, profile, [Path(folder) / "frames"], Inline(), IngestOptions(redo=True))
        calibrate(lake, Inline())
        aggregate(lake, ["lightcurves"], Inline())
        conclude(judge(skylake.open(lake.root), stars))


def draw(root: Path, random: np.random.Generator, n_frames: int, place_arcsec: float) -> pd.DataFrame:
    """Write frames, catalog and profile; return magnitude and distance to the partner (NaN if alone) of each star."""
    places = np.zeros((0, 2))
    while len(places) < N_PAIRS + N_ALONE:
        one = random.uniform(20.0, SIZE - 20.0, 2)
        if len(places) == 0 or np.hypot(*(places - one).T).min() > _APART_PX:
            places = np.vstack([places, one])
    apart, angle = random.uniform(1.5, 4.0, N_PAIRS), random.uniform(0.0, 2.0 * np.pi, N_PAIRS)
    second = places[:N_PAIRS] + apart[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x, y = np.vstack([places, second]).T
    magnitude = random.uniform(9.6, 12.5, N_PAIRS + N_ALONE)
    magnitude = np.append(magnitude, magnitude[:N_PAIRS] + random.uniform(0.0, 2.5, N_PAIRS))
    separation = np.concatenate([apart, np.full(N_ALONE, np.nan), apart])
    (root / "frames").mkdir()
    for number in range(n_frames):
        shift = random.uniform(-3.0, 3.0, 2)
        flux = 10.0 ** (0.4 * (ZEROPOINT - magnitude - 0.05 * random.normal()))
        light = image_of(x - shift[0], y - shift[1], flux, light_of_star(random.uniform(2.2, 2.8), 0.0, 0.0))
        cards = header_of(START_MJD + 0.001 * number, RA_DEG, shift + random.normal(0.0, 0.1, 2))
        pixels = exposed(light, random, SKY_E)
        fits.PrimaryHDU(pixels, cards).writeto(root / "frames" / f"pairs{number:03d}.fits")
    colour = np.full(len(x), 0.7)
    write_catalog(root / "catalog.csv", random, sky_of(RA_DEG, x, y), magnitude, colour, 0.02, place_arcsec)
    (root / "drift.toml").write_text(PROFILE, encoding="utf-8")
    return pd.DataFrame({"magnitude": magnitude, "separation": separation}, index=np.arange(len(x)) + 1)


def judge(lake: skylake.reading.reader.LakeReader, stars: pd.DataFrame) -> list[Claim]:
    """Print errors by separation, and return the claims."""
    blended, spoiled = int(SourceFlag.BLENDED | SourceFlag.FIT_FAILED), int(UNCLEAN)
    kinds = {
        "hybrid": (_FORCED.format("hybrid2", _CIRCLE), blended),
        "fit": (_FORCED.format("psf", "1"), blended),
        "detected": (_DETECTED, spoiled),
        "corrected": (_CORRECTED, spoiled),
    }
    titles = f"{'':10s} {'separation':>11s} {'stars':>6s} {'unflagged':>9s}"
    print(f"{titles} {'error, mmag':>13s} {'pull':>6s} {'width':>6s}")
    found = {name: errors(lake.sql(query).pandas(), stars, bits) for name, (query, bits) in kinds.items()}
    claims = []
    for low, high in SPANS:
        figures = {}
        for name, rows in found.items():
            some = rows[(rows.separation >= low) & (rows.separation < high)]
            good = some[~some.is_flagged]
            means = good.groupby("ref_id").off.mean()
            share, far = len(good) / len(some), float(np.sum(good.off.abs() > FAR_MAG)) / len(some)
            figures[name] = _middle(1e3 * means.abs()), sigma_mad(good.pull.to_numpy()), far
            print(
                f"{name:10s} {low:5.1f}-{high:5.1f} {some.ref_id.nunique():6d} {share:9.2f} {figures[name][0]:13.1f} "
                f"{_middle(good.pull):+6.2f} {figures[name][1]:6.2f}"
            )
        text = f"pairs {low} to {high} px, detections of light curves off by 0.1 mag without a flag, share"
        claims.append(Claim(text, figures["corrected"][2], figures["detected"][2], 0.02))
        for name in ("hybrid", "fit"):
            text = f"pairs {low} to {high} px, {name}"
            claims.append(
                Claim(f"{text}: median error [mmag]", figures[name][0], figures["detected"][0], 20.0)
            )
            claims.append(Claim(f"{text}: width of pulls", figures[name][1], figures["detected"][1], 1.5))
    return claims


def _middle(values: pd.Series) -> float:
    return float(values.median()) if len(values) else float("nan")


def errors(rows: pd.DataFrame, stars: pd.DataFrame, bits: int) -> pd.DataFrame:
    """Return the error of each measurement in magnitudes, and its pull, relative to the lonely stars of its frame."""
    rows = rows[rows.flux > 0].join(stars, on="ref_id")
    rows = rows[rows.magnitude < FAINT_MAG].copy()
    rows["off"] = -2.5 * np.log10(rows.flux) - rows.magnitude
    alone = rows[rows.separation.isna() & (rows["flags"] & int(UNCLEAN) == 0)]
    rows["off"] -= rows.frame_id.map(alone.groupby("frame_id").off.median())
    rows["pull"] = rows.off / (1.0857 * rows.flux_err / rows.flux)
    rows["is_flagged"] = (rows["flags"] & bits) != 0
    return rows


if __name__ == "__main__":
    main()
