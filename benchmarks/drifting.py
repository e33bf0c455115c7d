"""Whether calibrated curves of single stars are as good as relative photometry by hand, where the field drifts.

Needs: skylake and GalSim, which draws the stars. Takes half a minute on one core; of 20 nights of 60 frames, with
--quick --nights 20, three minutes.

A night of a small telescope, through pixels: 600 x 600 of 2 arcsec, the field moves by a third of its width, so that
stars of the catalog enter and leave. Their catalog magnitudes scatter by 0.12 mag. The width of stars wanders from 1.3
to 3 px, one frame in twelve is trailed, clouds are thin, the flat field is wrong by 10 mmag at the corners, and three
bright stars have transits of 28 mmag. Each star has 1.5 mmag of noise of its own, like scintillation: the floor.

The frames are ingested with forced photometry, calibrated and aggregated, and curves are read as users read them. For
each flux, beside the calibrated curve and on the very same fluxes: the ensemble of a dozen comparison stars that an
observer makes by hand, and the ensemble of the largest likelihood, as PyTICS has it.

"over noise" is the standard deviation of constant stars over what photons and the floor explain, the median of the
stars; chi2 is that of single points about their mean, by the random errors that the lake gives.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from claims import Claim, conclude
from drift_night import DEPTH_MAG, FLOOR_MAG, Night, draw_night
from ensembles import by_hand, by_likelihood, typical
from scipy.spatial import cKDTree

import skylake
from skylake import cameras
from skylake.core.flags import NO_STANDARD, SPOILED
from skylake.core.sphere import chord, unit_vectors
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake
from skylake.reading.reader import LakeReader
from skylake.settings import Settings
from skylake.sky.catalog_columns import CatalogColumns

COLUMNS = CatalogColumns(
    ra="ra",
    dec="dec",
    id="id",
    magnitudes={"V": "V"},
    magnitude_errors={"V": "V_err"},
    colours={"B-V": "B-V"},
)
DEFAULT = "hybrid2"
CIRCLES = tuple(f"{kind}{number}" for kind in ("aper", "hybrid") for number in (1, 2, 3))
#: Edges of magnitudes in which chi-squares are given; the last is where the S/N is 5.
EDGES = (9.3, 11.3, 12.3, 13.3, 14.3, 15.6)
BRIGHT_MAG, LEAST_SNR = 12.3, 5.0
#: A star is judged by so many points.
LEAST_POINTS = 20
_MAG = 2.5 / np.log(10.0)
_NEAR_ARCSEC = 3.0
_UNUSED = int(SPOILED)
_POINTS = """
SELECT p.star_id, p.frame_id, p.mjd_mid, p.mag, p.mag_random_err, p.flux, p.flux_err, p.flags, p.flux_psf,
    p.flux_psf_err, s.ra_deg, s.dec_deg, {circles}
FROM forced_lightcurve_points AS p JOIN forced_sources AS s USING (frame_id, star_id) JOIN frames AS f USING (frame_id)
"""
_CIRCLE = """
s.flux_{name} * f.apcor_{aperture} * coalesce(s.apcor_rel_{aperture}, 1) AS total_{name},
s.flux_{name}_err * f.apcor_{aperture} * coalesce(s.apcor_rel_{aperture}, 1) AS total_{name}_err
"""
_KRON = """
SELECT m.ref_id, m.frame_id, m.flags, m.flux_kron * f.apcor_kron * coalesce(m.apcor_rel_kron, 1) AS flux,
    m.flux_kron_err * f.apcor_kron * coalesce(m.apcor_rel_kron, 1) AS flux_err
FROM matches AS m JOIN frames AS f USING (frame_id)
"""


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves in one flux; arrays of shape (frames, stars), NaN where a star is not measured well.

    Attributes
    ----------
    magnitude, photon, random : ndarray
        Calibrated magnitudes, what photons explain, and the random error that the lake gives.
    """

    magnitude: np.ndarray
    photon: np.ndarray
    random: np.ndarray


def main() -> None:
    """Draw a night, run everything, and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 frames instead of 142")
    parser.add_argument("--nights", type=int, default=1, help="so many nights of the same field")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a new folder to keep frames and lake in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
        root = options.keep or Path(folder)
        night = draw_night(root, 60 if options.quick else 142, options.seed, options.nights)
        lake = reduced(root / "lake", night)
        conclude(judge(night, skylake.open(lake.root)))


def reduced(root: Path, night: Night) -> Lake:
    """Return a lake with the frames of a night, measured, calibrated and aggregated."""
    lake, profile = Lake.create(root, Settings(cluster="inline", pixel_order=2)), cameras.load(night.profile)
    import_catalog(lake, "small", "table", [night.catalog], COLUMNS)
    ingest(lake, profile, [night.folder], Inline())
    print(make_targets(lake, "drift", TargetOptions(catalog="small", seen=5), Inline()).line)
    report = ingest(lake, profile, [night.folder], Inline(), IngestOptions(redo=True))
    print(f"frames: {report.counts}")
    calibrate(lake, Inline())
    aggregate(lake, [], Inline())
    return lake


def read_curves(night: Night, lake: LakeReader) -> dict[str, Curves]:
    """Return the curves of all stars in each flux: the default one as the lake has it, the others by its recipe."""
    circles = ", ".join(_CIRCLE.format(name=name, aperture=f"aper{name[-1]}") for name in CIRCLES)
    points = lake.sql(_POINTS.format(circles=circles)).pandas()
    frame_ids, first = np.unique(points.frame_id, return_index=True)
    order = np.argsort(points.mjd_mid.to_numpy()[first])
    frame_of = {one: place for place, one in enumerate(frame_ids[order])}
    time = np.array([np.argmin(np.abs(night.mjd - one)) for one in points.mjd_mid.to_numpy()[first][order]])
    places = unit_vectors(night.ra_deg, night.dec_deg)
    away, star = cKDTree(places).query(unit_vectors(points.ra_deg.to_numpy(), points.dec_deg.to_numpy()))
    good = (away < chord(_NEAR_ARCSEC)) & ((points["flags"].to_numpy() & _UNUSED) == 0)
    frame = time[[frame_of[one] for one in points.frame_id]]
    shape = (len(night.mjd), len(night.magnitude))

    def spread(values: np.ndarray) -> np.ndarray:
        table = np.full(shape, np.nan)
        table[frame[good], star[good]] = np.asarray(values, float)[good]
        return table

    mag, random, flux, flux_err = (
        spread(points[name].to_numpy()) for name in ("mag", "mag_random_err", "flux", "flux_err")
    )
    with np.errstate(invalid="ignore"):
        zeropoint = mag + 2.5 * np.log10(flux)
        own = np.sqrt(np.maximum(random**2 - (_MAG * flux_err / flux) ** 2, 0.0))
        curves = {"default": Curves(mag, _MAG * flux_err / flux, random)}
        names = {name: f"total_{name}" for name in CIRCLES} | {"psf": "flux_psf"}
        totals = {
            name: (spread(points[one].to_numpy()), spread(points[f"{one}_err"].to_numpy()))
            for name, one in names.items()
        }
        totals["kron"] = _kron(lake, frame_of, time, shape)
        for name, (total, error) in totals.items():
            photon = np.where(total > 0, _MAG * error / total, np.nan)
            curves[name] = Curves(zeropoint - 2.5 * np.log10(total), photon, np.hypot(photon, own))
    return curves


def _kron(
    lake: LakeReader, frame_of: dict[int, int], time: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return Kron fluxes of detections of stars of the catalog, and their errors."""
    rows = lake.sql(_KRON).pandas()
    rows = rows[
        ((rows["flags"].to_numpy() & int(NO_STANDARD)) == 0) & rows.frame_id.isin(frame_of).to_numpy()
    ]
    frame, star = time[[frame_of[one] for one in rows.frame_id]], rows.ref_id.to_numpy() - 1
    total, error = np.full(shape, np.nan), np.full(shape, np.nan)
    total[frame, star], error[frame, star] = rows.flux, rows.flux_err
    return total, error


def judge(night: Night, lake: LakeReader) -> list[Claim]:
    """Print how curves scatter, and return the claims."""
    curves = read_curves(night, lake)
    varies = night.dip.any(axis=0)
    print(f"\n{'':10s} {'calibrated':^34s}   {'by hand':^24s}   {'of largest likelihood':^24s}")
    print(f"{'flux':10s} {'stars':>5s}" + f" {'mmag':>6s} {'over noise':>10s} {'depth':>9s}  " * 3)
    found = {}
    for name, one in curves.items():
        kinds = (
            one.magnitude,
            by_hand(one.magnitude, one.photon, varies),
            by_likelihood(one.magnitude, one.photon),
        )
        found[name] = [figures(night, magnitude, one.photon) for magnitude in kinds]
        parts = [
            f"{mmag:6.2f} {over:10.2f} {1e3 * depth:5.1f}±{1e3 * err:3.1f}  "
            for _, mmag, over, depth, err in found[name]
        ]
        print(f"{name:10s} {found[name][0][0]:5d} " + " ".join(parts))
    peer = by_likelihood(curves["default"].magnitude, curves["default"].photon)
    chi2 = chi_squares(night, curves["default"], peer)
    _, _, over, depth, depth_err = found["default"][0]
    best = min(found[name][2][2] for name in found)
    rival = found["default"][2]
    # What noise alone does to the depth is no fault of the calibration.
    limit = max(0.02, depth_err / DEPTH_MAG)
    return [
        Claim("scatter of bright constant stars over photon noise and floor", over, min(rival[2], best), 1.1),
        Claim(
            "depth of transits, share that it is off by",
            abs(depth / DEPTH_MAG - 1.0),
            abs(rival[3] / DEPTH_MAG - 1.0),
            limit,
        ),
        Claim("chi2 per point in the worst bin of magnitude, distance from 1", *chi2, 0.1),
        claim_as_read(night, lake),
    ]


def figures(
    night: Night, magnitude: np.ndarray, photon: np.ndarray
) -> tuple[int, float, float, float, float]:
    """Return number, scatter and scatter over noise of bright constant stars, and depth of the transits with error."""
    residual, noise = residuals(magnitude, photon)
    bright = (night.magnitude < BRIGHT_MAG) & night.is_listed & ~night.dip.any(axis=0)
    counts = np.sum(np.isfinite(residual), axis=0)
    some = np.flatnonzero(bright & (counts >= LEAST_POINTS))
    if some.size == 0:
        return 0, *[float("nan")] * 4
    scatter = np.sqrt(np.nanmean(residual[:, some] ** 2, axis=0))
    over = np.sqrt(np.nanmean((residual[:, some] / noise[:, some]) ** 2, axis=0))
    depths = [_depth(night.dip[:, star], magnitude[:, star], noise[:, star]) for star in range(3)]
    weight = np.array([one[1] ** -2 for one in depths])
    depth = float(np.sum([one[0] for one in depths] * weight) / weight.sum())
    return (
        some.size,
        1e3 * float(np.median(scatter)),
        float(np.median(over)),
        depth,
        float(weight.sum() ** -0.5),
    )


def residuals(magnitude: np.ndarray, photon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return deviations from the means of stars, with the degree of freedom made good, and the noise of points."""
    noise = np.hypot(photon, FLOOR_MAG)
    weight = np.where(np.isfinite(magnitude), noise**-2, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weight.sum(axis=0)
        mean = np.nansum(weight * magnitude, axis=0) / total
        residual = (magnitude - mean) / np.sqrt(1.0 - np.minimum(weight / total, 0.9))
    return residual, noise


def _depth(dip: np.ndarray, magnitude: np.ndarray, noise: np.ndarray) -> tuple[float, float]:
    """Return the depth of a transit of known times, and its error from the noise that is not the calibration's."""
    known = np.isfinite(magnitude)
    design = np.stack([np.ones(known.sum()), dip[known]]) / noise[known]
    covariance = np.linalg.inv(design @ design.T)
    return float((covariance @ (design @ (magnitude[known] / noise[known])))[1]), float(
        covariance[1, 1] ** 0.5
    )


def chi_squares(night: Night, ours: Curves, peer: np.ndarray) -> tuple[float, float]:
    """Print chi-squares by magnitude, and return the largest distance from 1: of the lake, and of an ensemble."""
    print(f"\n{'magnitude':>12s} {'stars':>6s} {'S/N':>6s} {'chi2':>6s} {'error':>6s} {'ensemble':>9s}")
    varies, worst = night.dip.any(axis=0), [(0.0, 0.0)]
    for low, high in pairwise(EDGES):
        snr = typical(np.where(np.isfinite(ours.magnitude), _MAG / ours.photon, np.nan))
        counts = np.sum(np.isfinite(ours.magnitude), axis=0)
        chosen = (night.magnitude >= low) & (night.magnitude < high) & ~varies & (counts >= LEAST_POINTS)
        some = np.flatnonzero(chosen & (snr >= LEAST_SNR))
        if some.size < 3:
            continue
        values = []
        for magnitude, error in ((ours.magnitude, ours.random), (peer, np.hypot(ours.photon, FLOOR_MAG))):
            residual = residuals(magnitude[:, some], error[:, some])[0]
            chi2 = np.nanmean((residual / error[:, some]) ** 2, axis=0)
            values.append((float(np.median(chi2)), float(1.25 * np.std(chi2) / np.sqrt(some.size))))
        print(
            f"{low:5.1f} - {high:4.1f} {some.size:6d} {np.median(snr[some]):6.0f} {values[0][0]:6.2f} "
            f"{values[0][1]:6.2f} {values[1][0]:9.2f}"
        )
        worst.append((abs(values[0][0] - 1.0), abs(values[1][0] - 1.0)))
    return max(one for one, _ in worst), max(one for _, one in worst)


def claim_as_read(night: Night, lake: LakeReader) -> Claim:
    """Return the claim on the curve that a user reads of one star: its scatter outside the transit."""
    points = lake.lightcurve(1).pandas()
    frame = np.array([np.argmin(np.abs(night.mjd - one)) for one in points.mjd_mid])
    out = (night.dip[frame, 0] == 0.0) & ((points["flags"].to_numpy() & _UNUSED) == 0)
    noise = np.hypot(_MAG * points.flux_err / points.flux, FLOOR_MAG)[out]
    mag = points.mag[out] - np.average(points.mag[out], weights=noise**-2)
    return Claim(
        "star 1 as read by its identifier, scatter over noise",
        float(np.sqrt(np.mean((mag / noise) ** 2))),
        None,
        1.2,
    )


if __name__ == "__main__":
    main()
