"""Whether forced photometry is right in crowded fields, repeats on real frames, and is fast.

Needs: skylake alone. Beside us, where they are installed: sep-x (its fit of point spread functions in groups) and
Source Extractor (`source-extractor`). For the real frames: SKYLAKE_REAL_DATA, a folder with `skycamz/*.fits.gz` and
`catalogs/bigsky_v11.parquet`. Takes about 2 minutes on one core, half a minute with --quick.

Simulated: frames of 10,000 stars on 2048 x 2048 pixels, Moffat profiles (beta 3.5, FWHM 2.5 px), N(>f) ~ f^-0.75 from
100 to 2e6 ADU, a sky of 800 e- with a gradient, gain 1.5, read noise 8 e-. The point spread function is pooled from
other frames than the one that is measured, by what detection finds on them.

Real: six SkyCamZ frames of one field a minute apart; targets are made from the six, and all that is measured on every
frame is compared frame by frame, in bins of magnitude below the brightest star. Calibrated, their scatter by half
magnitude is held against the predicted curve: errors of fluxes and a fitted floor.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from claims import Claim, conclude
from lonely import SPANS, Profile, pull_claims, pulls_of, width

from skylake import cameras
from skylake.core.camera import Apertures, Camera, Detector
from skylake.core.flags import SourceFlag
from skylake.core.frame import Image
from skylake.core.reasons import Status
from skylake.core.robust import MAD_TO_SIGMA
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.image.detection.background import estimate_background, refine_background
from skylake.image.detection.detect_sources import detect_sources
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.photometry.measure_sources import measure_sources
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import ForcedMeasurements, measure_targets
from skylake.image.psf.psf_fit import by_place
from skylake.image.psf.psf_model import PsfModel, solve_psf
from skylake.image.psf.psf_stars import psf_of_frame, sums_of_frame
from skylake.image.psf.targets_on_frame import TargetStars
from skylake.lake import Lake
from skylake.simulate import Moffat, render
from skylake.sky.catalog_columns import CatalogColumns

GAIN, READ_NOISE, SKY_E, FWHM, BETA = 1.5, 8.0, 800.0, 2.5, 3.5
RADII = (3.0, 5.0, 8.0)
TOTAL = 12.0
PROFILE = Profile(FWHM, BETA, RADII)
#: Edges of the bins of magnitude below the brightest star.
BINS = ((1, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9))


def main() -> None:
    """Run both parts and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the field, fewer repetitions")
    parser.add_argument("--only", choices=["simulated", "real"], help="one of the two parts")
    options = parser.parse_args()
    claims: list[Claim] = []
    if options.only != "real":
        claims += simulated(
            1024 if options.quick else 2048, 3 if options.quick else 9, 40 if options.quick else 16
        )
    real = os.environ.get("SKYLAKE_REAL_DATA")
    if options.only != "simulated":
        if real:
            with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
                claims += skycamz(Path(folder), Path(real))
        else:
            print("SKYLAKE_REAL_DATA is not set: the real frames are left out")
    conclude(claims)


@dataclass(frozen=True, slots=True)
class Field:
    """A simulated frame and what is true of it."""

    pixels: np.ndarray
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray

    @property
    def noise(self) -> float:
        """Noise of the sky per pixel, ADU."""
        return float(np.sqrt(SKY_E / GAIN**2 + (READ_NOISE / GAIN) ** 2))

    @property
    def total(self) -> np.ndarray:
        """True flux within the total radius."""
        scale = 0.5 * FWHM / np.sqrt(2.0 ** (1.0 / BETA) - 1.0)
        return self.flux * (1.0 - (1.0 + (TOTAL / scale) ** 2) ** (1.0 - BETA))

    @property
    def snr(self) -> np.ndarray:
        """S/N of a flux that is weighted best, in the noise of the sky."""
        pixels = float(Moffat(FWHM, beta=BETA).noise_pixels)
        return self.total / (self.noise * np.sqrt(pixels))

    def neighbours(self, radius: float) -> np.ndarray:
        """Return the flux of the neighbours of each star within a radius, as a share of its own."""
        from scipy.spatial import cKDTree

        pairs = cKDTree(np.column_stack([self.x, self.y])).query_pairs(radius, output_type="ndarray")
        light = np.bincount(pairs[:, 0], self.flux[pairs[:, 1]], len(self.x))
        light += np.bincount(pairs[:, 1], self.flux[pairs[:, 0]], len(self.x))
        return light / self.flux


def draw_field(size: int, seed: int) -> Field:
    """Return a frame with the density of 10,000 stars on 2048 x 2048 pixels."""
    random = np.random.default_rng(seed)
    n = round(10000 * (size / 2048) ** 2)
    faint, bright, slope = 100.0, 2e6, 0.75
    flux = faint * (1.0 - random.uniform(size=n) * (1.0 - (bright / faint) ** -slope)) ** (-1.0 / slope)
    x, y = random.uniform(0.0, size - 1.0, (2, n))
    order = by_place(x, y)
    x, y, flux = x[order], y[order], flux[order]
    stars = render((size, size), x, y, flux, Moffat(FWHM, beta=BETA), noise_adu=5.0, gain_e_per_adu=GAIN)
    tilt = 1.0 + 0.1 * (np.arange(size) / size - 0.5)
    electrons = random.poisson(stars * GAIN + SKY_E * tilt) + random.normal(0.0, READ_NOISE, stars.shape)
    return Field((electrons / GAIN).astype(np.float32), x, y, flux)


def extract(field: Field) -> Extracted:
    """Bring a frame to where forced photometry begins."""
    apertures = Apertures(RADII, total_radius_px=TOTAL, flux="aper1")
    camera = Camera("bench", detector=Detector(gain_e_per_adu=GAIN), apertures=apertures)
    image = Image(field.pixels, np.zeros(field.pixels.shape, np.uint8), (0, 0))
    background = estimate_background(image, camera.extraction)
    signal = image.pixels - background.level
    found = detect_sources(signal, background.rms, image.masked, camera.extraction)
    background = refine_background(image, background, found, camera.extraction)
    signal = image.pixels - background.level
    measured = measure_sources(image, background, signal, found, camera, GAIN, 1.0)
    corrections = aperture_corrections(image, background, signal, found, measured, camera.apertures)
    row = {"status": Status.OK.value, "night": 20240101, "mjd_mid": 60000.0}
    pointing: Any = None
    return Extracted(
        row, camera, GAIN, 1.0, image, background, signal, found, measured, corrections, pointing
    )


def simulated(size: int, repeats: int, n_frames: int) -> list[Claim]:
    """Measure crowded frames at the true places of their stars, the first one for time and blends."""
    sums = [sums_of_frame(extract(draw_field(size, seed))) for seed in (11, 12, 13)]
    useful = [one for one in sums if one is not None]
    model = solve_psf(useful[0] + useful[1] + useful[2])
    print(f"simulated: {size} x {size} pixels; point spread function from {model.quality}")
    field = draw_field(size, 1)
    extracted = extract(field)

    def force() -> ForcedMeasurements:
        return forced(extracted, field, model)

    ours, found = timed(force, repeats)
    peer = _sep_x(extracted, field, repeats)
    claims = _accuracy(extracted, field, found)
    snr, pulls = [field.snr], [pulls_of(extracted, field, found, PROFILE)]
    for seed in range(21, 20 + n_frames):
        field = draw_field(size, seed)
        extracted = extract(field)
        snr.append(field.snr)
        pulls.append(pulls_of(extracted, field, forced(extracted, field, model), PROFILE))
    claims += pull_claims(
        np.concatenate(snr), {name: np.concatenate([one[name] for one in pulls]) for name in pulls[0]}
    )
    print(f"hybrid, plain and fitted fluxes of {len(found)} stars: {1e3 * ours:.1f} ms of CPU")
    timing = "CPU of forced photometry [ms] against sep-x, fit in groups"
    if peer is None:
        claims.append(Claim(timing, 1e3 * ours, None, np.nan, missing="sep-x is not installed"))
    else:
        claims.append(Claim(timing, 1e3 * ours, 1e3 * peer, 250.0 * peer))
    return claims


def forced(extracted: Extracted, field: Field, model: PsfModel) -> ForcedMeasurements:
    """Measure all stars of a field where they are."""
    nothing = np.zeros(len(field.x))
    targets = TargetStars(np.arange(len(field.x)), nothing, nothing, nothing, nothing, 1)
    return measure_targets(extracted, targets, field.x, field.y, psf_of_frame(model, extracted))


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the median CPU time of some work that has run once before, and what it gives."""
    result = work()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        spent.append(time.process_time() - start)
    return float(np.median(spent)), result


def _sep_x(extracted: Extracted, field: Field, repeats: int) -> float | None:
    """Return the CPU time of sep-x for the same stars, all in groups at fixed places."""
    try:
        import sep_x
    except ImportError:
        print("sep-x is not installed: its fit is left out (pip install sep-x)")
        return None
    grid = (np.arange(51) - 25) / 2.0
    scale = 0.5 * FWHM / np.sqrt(2.0 ** (1.0 / BETA) - 1.0)
    profile = (1.0 + (grid[:, None] ** 2 + grid[None, :] ** 2) / scale**2) ** -BETA
    psf = sep_x.PSF((profile / profile.sum())[None], sampling=0.5, fwhm=FWHM)
    signal, rms = np.ascontiguousarray(extracted.signal), extracted.background.rms

    def fit() -> Any:
        return sep_x.psf_fit(
            signal, field.x, field.y, psf, err=rms, gain=GAIN, grouped=True, fit_positions=False, fit_radius=2.5 * FWHM
        )  # fmt: skip

    spent, result = timed(fit, max(2, repeats // 3))
    blends = (field.neighbours(5.0) >= 0.3) & (field.snr >= 6.0)
    bias = np.median(np.asarray(result[0])[blends] / field.flux[blends]) - 1.0
    print(
        f"sep-x {sep_x.__version__}, fit in groups: {1e3 * spent:.1f} ms of CPU, bias of blends {bias:+.3f}"
    )
    return spent


def _accuracy(extracted: Extracted, field: Field, found: ForcedMeasurements) -> list[Claim]:
    """Compare fluxes with the truth, for lonely stars and for blends."""
    inside = (found.edge_distance > 15.0) & ((found.flags & int(SourceFlag.FIT_FAILED)) == 0)
    lonely = inside & (field.neighbours(15.0) < 0.02)
    blends = inside & (field.neighbours(5.0) >= 0.3)
    whole_of = extracted.corrections.factor
    factor = {
        "psf": 1.0,
        "aper1": whole_of["aper1"],
        "hybrid1": whole_of["aper1"],
        "hybrid2": whole_of["aper2"],
    }
    print(
        f"{'flux':9s} {'stars':7s} {'S/N':>9s} {'number':>6s} {'bias':>7s} {'scatter':>8s} {'pull':>6s} {'width':>6s}"
    )
    claims = []
    for name, whole in factor.items():
        value, error = found.flux[name] * whole, found.flux_err[name] * whole
        for label, chosen in (("lonely", lonely), ("blends", blends)):
            for low, high in pairwise(SPANS):
                these = chosen & (field.snr >= low) & (field.snr < high)
                if these.sum() >= 10:
                    off = value[these] / field.total[these] - 1.0
                    pull = (value[these] - field.total[these]) / error[these]
                    span = f"{low:4g}-{min(high, 9999):<4g}"
                    print(f"{name:9s} {label:7s} {span} {these.sum():6d} {np.median(off):+7.3f} "
                          f"{width(off):8.3f} {np.median(pull):+6.2f} {width(pull):6.2f}")  # fmt: skip
        if name in ("psf", "hybrid1"):
            claims += _claims(name, value, field, blends)
    return claims


def _claims(name: str, value: np.ndarray, field: Field, blends: np.ndarray) -> list[Claim]:
    bright = blends & (field.snr >= 6.0)
    bias = float(np.median(value[bright] / field.total[bright]) - 1.0)
    return [Claim(f"{name}: bias of blends at S/N of 6 and more", abs(bias), None, 0.03)]


def skycamz(folder: Path, real: Path) -> list[Claim]:
    """Follow the stars of six real frames."""
    lake = Lake.create(folder / "lake")
    files = sorted((real / "skycamz").glob("*.fits.gz"))[:6]
    profile = cameras.load("skycam-z")
    ingest(lake, profile, files, Inline())
    report = make_targets(lake, profile.name, TargetOptions(seen=2), Inline())
    ingest(lake, profile, files, Inline(), IngestOptions(redo=True))
    print(f"\nreal: {report.line}")
    beyond = beyond_prediction(lake, real)
    magnitudes = _forced_magnitudes(lake)
    peer = _source_extractor(folder, files)
    # The brightest star is that with the largest sum of pixels within 3 px, though it be saturated.
    zero = brightest(lake)
    names = ", ".join(f"{low}-{high}" for low, high in BINS)
    print(
        f"robust repeatability [mmag] in bins of magnitude below the brightest star: {names}; complete light curves"
    )
    rows = {name: repeatability(curves, zero) for name, curves in magnitudes.items()}
    for name, curves in (peer or {}).items():
        rows[f"Source Extractor {name}"] = repeatability(curves, zero)
    for name, (found, complete) in rows.items():
        print(f"{name:24s} {' '.join(f'{value:6.1f}' for value in found)} {complete:6d}")
    ours, complete = rows["hybrid1"]
    auto = rows.get("Source Extractor AUTO", (np.full(len(BINS), np.nan), 0))
    return [
        Claim("hybrid: repeatability at the bright end [mmag]", float(ours[0]), _known(auto[0][0]), 8.0),
        Claim("hybrid: repeatability in the bin 7-8 [mmag]", float(ours[5]), _known(auto[0][5]), 30.0),
        Claim("repeatability over the predicted curve, worst half magnitude", beyond, None, 1.4),
        Claim("stars not measured on all six, beside those that are", report.n_targets / complete - 1.0, None, 0.15),
    ]  # fmt: skip


def beyond_prediction(lake: Lake, real: Path) -> float:
    """Return by how much stars scatter beyond errors and floor in the worst bin, in the flux of the light curves."""
    columns = CatalogColumns(
        ra="ra", dec="dec", pm_ra="pmra", pm_dec="pmdec",
        magnitudes={"V": "V"}, magnitude_errors={"V": 0.05}, colours={"B-V": "B-V"},
    )  # fmt: skip
    import_catalog(lake, "bigsky", "table", [real / "catalogs" / "bigsky_v11.parquet"], columns)
    calibrate(lake, Inline())
    aggregate(lake, ["repeatability"], Inline())
    rows = lake.snapshot().read("repeatability").to_pandas()
    rows = rows[(rows.flux == "hybrid2") & (rows.n_stars >= 4)].sort_values("mag_low")
    rows["predicted"] = np.hypot(rows.photon_scale * rows.photon_err, rows.floor)
    names = ["scatter_p2", "scatter_p25", "scatter", "scatter_p75", "scatter_p98", "photon_err", "predicted"]
    print("scatter of stars by magnitude, and what is predicted [mmag]")
    print((rows.set_index(["mag_low", "n_stars"])[names] * 1e3).round(1).to_string())
    return float((rows.scatter / rows.predicted).max())


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _forced_magnitudes(lake: Lake) -> dict[str, np.ndarray]:
    """Return instrumental magnitudes by flux, shape (frames, stars); NaN where the flux is not positive."""
    spoiled = int(SourceFlag.EDGE | SourceFlag.BAD_PIXEL | SourceFlag.FIT_FAILED | SourceFlag.SATURATED)
    rows = lake.snapshot().read("forced_sources")
    rows = rows.filter(pc.equal(pc.bit_wise_and(rows["flags"], spoiled), 0))
    stars, star = np.unique(rows["star_id"].to_numpy(), return_inverse=True)
    frames, frame = np.unique(rows["frame_id"].to_numpy(), return_inverse=True)
    found = {}
    for name in ("hybrid1", "aper1", "psf", "hybrid2"):
        flux = rows[f"flux_{name}"].to_numpy()
        magnitudes = np.full((len(frames), len(stars)), np.nan)
        magnitudes[frame, star] = -2.5 * np.log10(np.where(flux > 0, flux, np.nan))
        found[name] = magnitudes
    return found


def brightest(lake: Lake) -> float:
    """Return the instrumental magnitude of the brightest target in the smallest aperture, median over frames."""
    rows = lake.snapshot().read("forced_sources", ["star_id", "flux_aper1"]).to_pandas()
    return float(-2.5 * np.log10(rows.groupby("star_id").flux_aper1.median().max()))


def repeatability(curves: np.ndarray, zero: float) -> tuple[np.ndarray, int]:
    """Return the robust scatter of complete light curves in bins of magnitude, mmag, and how many there are."""
    complete = curves[:, np.isfinite(curves).all(axis=0)]
    for _ in range(3):
        mean = np.median(complete, axis=0)
        bright = np.argsort(mean)[5:200]
        complete = complete - np.median(complete[:, bright] - mean[bright], axis=1)[:, None]
    mean = np.median(complete, axis=0)
    rest = np.abs(complete - complete.mean(axis=0)) * np.sqrt(len(complete) / (len(complete) - 1.0))
    below = mean - zero
    found = [
        1e3 * MAD_TO_SIGMA * float(np.median(rest[:, (below >= low) & (below < high)]))
        if ((below >= low) & (below < high)).any() else np.nan
        for low, high in BINS
    ]  # fmt: skip
    return np.array(found), complete.shape[1]


_EXPOSURE_S = 10.0
_PARAMETERS = "X_IMAGE\nY_IMAGE\nMAG_AUTO\nMAG_APER(1)\nFLAGS\n"


def _source_extractor(folder: Path, files: list[Path]) -> dict[str, np.ndarray] | None:
    """Return light curves of Source Extractor by magnitude, brought to ADU per second."""
    command = shutil.which("source-extractor")
    if command is None:
        print("source-extractor is not installed: it is left out")
        return None
    import gzip

    from astropy.io import fits
    from astropy.wcs import WCS
    from scipy.spatial import cKDTree

    from skylake.core.sphere import unit_vectors

    share = Path("/usr/share/source-extractor")
    (folder / "wanted.param").write_text(_PARAMETERS)
    tables = []
    for number, path in enumerate(files):
        frame, out = folder / f"{number}.fits", folder / f"{number}.cat"
        with fits.open(gzip.open(path)) as opened:
            header = opened[0].header
            fits.writeto(frame, opened[0].data.astype(np.float32), overwrite=True)
        subprocess.run(
            [command, frame.name, "-c", share / "default.sex", "-CATALOG_NAME", out.name, "-CATALOG_TYPE", "ASCII",
             "-PARAMETERS_NAME", "wanted.param", "-FILTER_NAME", share / "default.conv", "-STARNNW_NAME",
             share / "default.nnw", "-PHOT_APERTURES", "5", "-DETECT_THRESH", "1.5", "-ANALYSIS_THRESH", "1.5",
             "-SATUR_LEVEL", "32000", "-GAIN", "5.47", "-VERBOSE_TYPE", "QUIET"],
            cwd=folder, check=True,
        )  # fmt: skip
        values = np.loadtxt(out)
        ra, dec = WCS(header, naxis=2).all_pix2world(values[:, 0], values[:, 1], 1)
        tables.append((unit_vectors(ra, dec), values))
    found: dict[str, np.ndarray] = {}
    first = tables[0][0]
    for name, column in (("AUTO", 2), ("APER 5 px", 3)):
        curves = np.full((len(tables), len(first)), np.nan)
        for number, (places, values) in enumerate(tables):
            distance, nearest = cKDTree(places).query(first)
            near = (distance < np.radians(1.5 * 3.567 / 3600.0)) & (
                (values[nearest, 4].astype(int) & 0xFC) == 0
            )
            good = near & (values[nearest, column] < 90.0)
            curves[number, good] = values[nearest[good], column] + 2.5 * np.log10(_EXPOSURE_S)
        found[name] = curves
    return found


if __name__ == "__main__":
    main()
