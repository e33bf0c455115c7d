"""How real stars repeat from night to night on frames of nine degrees, against the catalog and by the global solution.

Needs: skylake alone, and SKYLAKE_REAL_DATA, a folder with `skycamt/*.fits.gz` and `catalogs/bigsky_v11.parquet`. Takes
about 2 minutes on one core.

Twelve frames of SkyCamT in 2015, of 32 arcsec a pixel, without a filter: nine within ten minutes of one night, and one
each of three nights in the two months after it, turned by up to 42 degrees. One star had an outburst, AG Pegasi.

Stars of V = 7 to 9 that were measured on all four nights are judged by the means of each night, after the median of
all stars of a night is taken off. The peer are zeropoints of single frames against the catalog, on the same matches.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from claims import Claim, conclude

import skylake
from skylake import cameras
from skylake.core.robust import sigma_mad
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.zeropoints.calibrate_nights import Choice, Method, calibrate
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.sky.catalog_columns import CatalogColumns

COLUMNS = CatalogColumns(
    ra="ra", dec="dec", pm_ra="pmra", pm_dec="pmdec",
    magnitudes={"V": "V"}, magnitude_errors={"V": 0.05}, colours={"B-V": "B-V"},
)  # fmt: skip
BRIGHT = (7.0, 9.0)
#: AG Pegasi, and the magnitudes of its four nights as differences from stars around it gave them before.
AG_PEG, OUTBURST = (327.7582, 12.6256), (8.06, 7.03, 7.05, 7.25)
_POINTS = """
SELECT ref_id, night, ref_mag, mag, mag_random_err, x_px, y_px FROM calibrated_matches WHERE mag IS NOT NULL
"""
_CURVE = """
SELECT night, avg(mag) AS mag, avg(mag_random_err) / sqrt(count(*)) AS random, avg(mag_systematic_err) AS shared,
    count(*) AS n
FROM calibrated_matches WHERE abs(ra_deg - {0}) < 0.02 AND abs(dec_deg - {1}) < 0.02 GROUP BY night ORDER BY night
"""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Means of stars by night; arrays of shape (stars, nights), NaN where a star was not measured.

    Attributes
    ----------
    off : ndarray
        Magnitude minus the plain mean of the star and the median of the night.
    pull : ndarray
        Magnitude minus the weighted mean, over its random error.
    x, y : ndarray
        Place on the frame.
    within : float
        Scatter of single frames of the first night over their random errors, squared.
    """

    off: np.ndarray
    pull: np.ndarray
    x: np.ndarray
    y: np.ndarray
    within: float


def main() -> None:
    """Run everything, print what stars do, and the claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="a new folder to keep the lake in")
    options = parser.parse_args()
    if "SKYLAKE_REAL_DATA" not in os.environ:
        sys.exit("SKYLAKE_REAL_DATA is not set: there are no frames to judge")
    real = Path(os.environ["SKYLAKE_REAL_DATA"])
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
        root = options.keep or Path(folder)
        lake = Lake.create(root / "lake", Settings(cluster="inline"))
        import_catalog(lake, "bigsky", "table", [real / "catalogs" / "bigsky_v11.parquet"], COLUMNS)
        print(f"frames: {ingest(lake, cameras.load('skycam-t'), [real / 'skycamt'], Inline()).counts}")
        found = {}
        for method in (Method.FRAME, Method.GLOBAL):
            calibrate(lake, Inline(), choice=Choice(method=method))
            found[method] = read_repeats(lake)
        aggregate(lake, [], Inline())
        conclude(judge(found[Method.GLOBAL], found[Method.FRAME]) + outburst(lake))


def read_repeats(lake: Lake) -> Repeats:
    """Return the bright stars that were measured on all nights."""
    rows = skylake.open(lake.root).sql(_POINTS).pandas()
    rows = rows[(rows.ref_mag >= BRIGHT[0]) & (rows.ref_mag < BRIGHT[1])]
    rows["variance"] = rows.mag_random_err**2
    groups = rows.groupby(["ref_id", "night"])
    nights = groups[["mag", "variance", "x_px", "y_px"]].mean()
    nights["variance"] /= groups.size()
    mag, variance, x, y = (
        nights[name].unstack().dropna().to_numpy() for name in ("mag", "variance", "x_px", "y_px")
    )
    mag = mag - np.median(mag - mag.mean(axis=1, keepdims=True), axis=0)
    off = (mag - mag.mean(axis=1, keepdims=True)) * np.sqrt(mag.shape[1] / (mag.shape[1] - 1.0))
    share = 1.0 / variance / np.sum(1.0 / variance, axis=1, keepdims=True)
    pull = (mag - np.sum(share * mag, axis=1, keepdims=True)) / np.sqrt(variance * (1.0 - share))
    first = rows[rows.night == rows.night.min()]
    many = first.groupby("ref_id").filter(lambda star: len(star) >= 7).groupby("ref_id")
    within = float(np.median(many.mag.var() / many.variance.mean()))
    return Repeats(off, pull, x, y, within)


def judge(ours: Repeats, peer: Repeats) -> list[Claim]:
    """Print how stars repeat, and return the claims."""
    figures = []
    for name, one in (("global", ours), ("frame", peer)):
        scatter = 1e3 * float(sigma_mad(one.off))
        by_night = [round(1e3 * float(sigma_mad(night)), 1) for night in one.off.T]
        chi2 = float(sigma_mad(one.pull) ** 2)
        thirds = 1e3 * largest_third(one)
        print(
            f"{name:8s} {len(one.off)} stars: night to night {scatter:.1f} mmag, by night {by_night}, "
            f"chi2 {chi2:.2f}; frames of the first night, chi2 {one.within:.2f}; thirds, up to {thirds:.0f} mmag"
        )
        figures.append((scatter, abs(chi2 - 1.0), abs(one.within - 1.0), thirds))
    names = (
        "night-to-night scatter of stars of V = 7 to 9 [mmag]",
        "chi2 of their nights, distance from 1",
        "chi2 of single frames of a night, distance from 1",
        "thirds of the field, largest difference [mmag]",
    )
    return [
        Claim(name, *values, target)
        for name, *values, target in zip(names, *figures, (15.0, 0.3, 0.3, 20.0), strict=True)
    ]


def largest_third(one: Repeats) -> float:
    """Return by how much the medians of thirds of the field, in x or y, differ at most on a night, magnitudes."""
    found = []
    for night in range(one.off.shape[1]):
        for place in (one.x[:, night], one.y[:, night]):
            third = np.searchsorted(np.quantile(place, [1 / 3, 2 / 3]), place)
            medians = [np.median(one.off[third == number, night]) for number in range(3)]
            found.append(max(medians) - min(medians))
    return float(max(found))


def outburst(lake: Lake) -> list[Claim]:
    """Print the curve of AG Pegasi, and return the claim on it."""
    reader = skylake.open(lake.root)
    rows = reader.sql(_CURVE.format(*AG_PEG)).pandas()
    print("\nAG Pegasi")
    for row in rows.itertuples():
        print(f"{row.night}: V = {row.mag:.3f} +- {row.random:.3f} +- {row.shared:.3f} of {row.n} frames")
    off = rows.mag.to_numpy() - np.array(OUTBURST)
    return [
        Claim(
            "AG Pegasi, largest distance from what was found before [mag]",
            float(np.abs(off).max()),
            None,
            0.1,
        )
    ]


if __name__ == "__main__":
    main()
