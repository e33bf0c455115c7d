"""The whole way of a frame, from the raw file to the table of its sources, beside Source Extractor.

Needs: skylake alone; Source Extractor (`source-extractor`) is run if it is installed. Takes about half a minute on one
core, a third of that with --quick.

Frames: 10,000 stars on 2048 x 2048 pixels, Moffat of beta 3.5 and full width 2.5 px, N(>f) ~ f^-0.75 from 100 to 2e6
ADU, a sky of 800 electrons with a gradient, 15 % vignetting, a bias with a pattern, read noise 8 e-, gain 1.5 e-/ADU,
whole numbers of 16 bits; plain, and compressed by tiles (Rice). The plain frame once more with forced photometry of
all stars that were drawn, at their true places.

Ours goes from the file through bias, flat, background, detection, measurement in three circles and an ellipse, widths,
aperture corrections and metrics to a table of sources with positions on the sky. Source Extractor does not calibrate:
it is given the same raw file, and asked for what it has of the same columns, with windowed centroids; it reads no
compressed tiles, so with these it is compared on the plain file. CPU seconds with user and system time, both in turn,
the best of the rounds; of Source Extractor the whole program with its start, a hundredth of a second, and of ours a
process that has done a frame before.

The profile tells where our time goes: the CPU time within each function of the chain, best of the rounds.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from astropy.io import fits
from claims import Claim, conclude
from detection import draw_stars

from skylake import cameras
from skylake.cameras import Profile
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.forced_stage import Forcing
from skylake.flow.forced.psf_pool import pool_psfs
from skylake.flow.ingest import frame_tasks as tasks
from skylake.image.masters.master_file import write_master
from skylake.image.masters.master_library import Library, Master
from skylake.image.psf import forced_photometry
from skylake.image.psf.targets_on_frame import TargetStars
from skylake.image.quality import frame_verdicts
from skylake.image.reduction import frame_stages, reduce_frame
from skylake.image.solving import locate_frame
from skylake.simulate import Moffat, render

GAIN, READ_NOISE_E, SKY_E, BIAS, SATURATION = 1.5, 8.0, 800.0, 300.0, 60000.0
#: Magnitude of a star of one ADU per second, and seconds of a frame.
ZEROPOINT, EXPOSURE_S = 20.0, 20.0
CENTRE, SCALE_ARCSEC = (120.0, -25.0), 4.0
PROFILE = """
like = "sim"
name = "chain"
detector.width_px = {size}
detector.height_px = {size}
reduction.steps = ["bias", "flat"]
optics.pixel_scale_arcsec = 4.0
period = []
"""
COLUMNS = """NUMBER XWIN_IMAGE YWIN_IMAGE ERRX2WIN_IMAGE ERRY2WIN_IMAGE ALPHA_J2000 DELTA_J2000 FLUX_APER(3)
FLUXERR_APER(3) FLUX_AUTO FLUXERR_AUTO KRON_RADIUS FLUX_MAX BACKGROUND ISOAREA_IMAGE FWHM_IMAGE FLUX_RADIUS
A_IMAGE B_IMAGE THETA_IMAGE FLAGS"""
#: What of the chain is timed: where it is called from, and its name there. What one calls of the others is its own.
STAGES = {
    "read the file": (tasks, "read_file"),
    "hash of the content": (tasks, "new_row"),
    "header and pixels as stored": (reduce_frame, "open_stored"),
    "header values": (reduce_frame, "interpret_header"),
    "detrend": (frame_stages, "detrend_image"),
    "WCS": (reduce_frame, "point"),
    "Sun and Moon": (locate_frame, "sky_row"),
    "count pixels": (frame_stages, "count_pixels"),
    "background": (frame_stages, "estimate_background"),
    "detect": (frame_stages, "detect_sources"),
    "refine background": (frame_stages, "refine_background"),
    "measure": (frame_stages, "measure_sources"),
    "trails": (frame_stages, "mark_trails"),
    "catalog": (reduce_frame, "locate"),
    "aperture corrections": (frame_stages, "aperture_corrections"),
    "limits": (frame_verdicts, "flux_limits"),
    "images of cells": (frame_verdicts, "cell_columns"),
    "metrics": (reduce_frame, "judge_frame"),
    "targets: places": (forced_photometry, "sky_to_pixels"),
    "targets: shift": (forced_photometry, "find_shift"),
    "targets: width of the PSF": (forced_photometry, "psf_of_frame"),
    "targets: fit and apertures": (forced_photometry, "fit_stars"),
    "targets: normalise to growth": (forced_photometry, "growth_normalisation"),
    "targets: flags": (forced_photometry, "_flags"),
    "tables": (tasks, "_tables"),
    "write": (tasks, "write_rows"),
}


def main() -> None:
    """Draw a frame, and print times, profile and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--size", type=int, default=2048, help="pixels of a side")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
        conclude(compare(Path(folder), options.size, 4 if options.quick else 15))


@dataclass(frozen=True, slots=True)
class Sky:
    """Stars and light of a field; flux in ADU, light in electrons that arrive at each pixel.

    Attributes
    ----------
    x, y, flux : ndarray, shape (n,)
    light, response, bias : ndarray, shape (size, size)
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    light: np.ndarray
    response: np.ndarray
    bias: np.ndarray


def draw_sky(size: int, seed: int = 1) -> Sky:
    """Draw the stars of a field, and a detector."""
    random = np.random.default_rng(seed)
    x, y, flux = draw_stars(size, random)
    yy, xx = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    response = (1.0 - 0.15 * 2.0 * (xx**2 + yy**2)) * random.normal(1.0, 0.01, xx.shape)
    light = render((size, size), x, y, flux, Moffat(2.5), 20.0, GAIN) * GAIN
    light += SKY_E * (1.0 + 0.1 * xx + 0.05 * yy)
    bias = BIAS + 5.0 * xx + random.normal(0.0, 1.0, xx.shape)
    return Sky(x, y, flux, light.astype(np.float32), *(a.astype(np.float32) for a in (response, bias)))


def write_frame(sky: Sky, path: Path, number: int, compressed: bool, day: int = 0) -> None:
    """Write the raw frame of an exposure; its number sets noise and time."""
    random = np.random.default_rng(1000 * day + number)
    electrons = random.poisson(sky.light * sky.response).astype(np.float32)
    electrons += READ_NOISE_E * random.standard_normal(electrons.shape, np.float32)
    write_pixels(electrons / GAIN + sky.bias, path, number, compressed, day)


def write_pixels(
    values: np.ndarray, path: Path, number: int, compressed: bool, day: int = 0, kind: str = "EXPOSE"
) -> None:
    """Write a frame, ADU, of a kind; its number and day set the time."""
    pixels = np.clip(np.rint(values), 0, 65535).astype(np.uint16)
    header = fits.Header()
    start = np.datetime64("2024-10-02T02:00:00") + np.timedelta64(24 * 3600 * day, "s")
    start += np.timedelta64(round(1000 * number * (EXPOSURE_S + 2)), "ms")
    scale, middle = SCALE_ARCSEC / 3600.0, 0.5 * (pixels.shape[0] + 1)
    for name, value in {
        "DATE-OBS": str(start), "EXPTIME": EXPOSURE_S, "GAIN": GAIN, "RDNOISE": READ_NOISE_E, "FILTER": "V",
        "OBSTYPE": kind, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": CENTRE[0], "CRVAL2": CENTRE[1],
        "CRPIX1": middle, "CRPIX2": middle, "CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale,
    }.items():  # fmt: skip
        header[name] = value
    unit = fits.CompImageHDU(pixels, header) if compressed else fits.PrimaryHDU(pixels, header)
    fits.HDUList([fits.PrimaryHDU(), unit] if compressed else [unit]).writeto(path)


def make_profile(folder: Path, size: int, more: str = "") -> Profile:
    """Return the camera."""
    path = folder / "chain.toml"
    path.write_text(PROFILE.format(size=size) + more)
    return cameras.load(path)


def make_library(folder: Path, sky: Sky) -> Library:
    """Return a library with the masters of the detector, without errors."""
    planes = {"bias": sky.bias, "flat": sky.response}
    found = []
    for kind, plane in planes.items():
        path = folder / f"{kind}.fits"
        digest = write_master(path, {"KIND": kind}, plane)
        found.append(Master(kind, kind, path.name, digest, 0, "1x1", "V" if kind == "flat" else None))
    # Compressed images are in the first extension, whose masters are others.
    return Library(folder, (*found, *(replace(one, extension=1) for one in found)))


def compare(folder: Path, size: int, rounds: int) -> list[Claim]:
    """Time both on plain and compressed frames, and print the profile."""
    sky = draw_sky(size)
    plain = tasks.Reduction(make_profile(folder, size), library=make_library(folder, sky))
    paths = {"plain": folder / "plain.fits", "fpack": folder / "packed.fits.fz"}
    for name, path in paths.items():
        write_frame(sky, path, 0, name == "fpack")
    peer = source_extractor(folder, paths["plain"])
    how = {"plain": plain, "fpack": plain, "targets": with_targets(plain, sky, paths["plain"])}
    paths["targets"] = paths["plain"]
    ways: dict[str, Callable[[], float]] = {
        name: lambda name=name: ours(paths[name], how[name], folder / "out") for name in paths
    }
    if peer is not None:
        ways["Source Extractor"] = peer
    taken: dict[str, list[float]] = {name: [] for name in ways}
    profiles: dict[str, dict[str, list[float]]] = {name: {} for name in paths}
    for number in range(rounds + 1):
        for name, way in ways.items():
            calls: dict[str, list[float]] = {}
            with stages(calls):
                seconds = way()
            if number:
                taken[name].append(seconds)
                for stage, values in calls.items():
                    profiles.get(name, {}).setdefault(stage, []).append(sum(values))
    mpix = size * size / 1e6
    best = {name: 1e3 * min(values) for name, values in taken.items()}
    print(f"\nfrom raw file to table of sources, {mpix:.1f} Mpix, {rounds} rounds: ms of CPU per frame")
    for name, value in best.items():
        print(f"{name:32s} {value:8.1f} best {1e3 * float(np.median(taken[name])):8.1f} median")
    show(profiles, best)
    other = best.get("Source Extractor")
    target, missing = (0.5 * other, None) if other else (np.nan, "Source Extractor is not installed")
    return [
        Claim(f"raw file to table, {name} [ms CPU]", best[name], other, target, missing)
        for name in ("plain", "fpack")
    ]


@dataclass(frozen=True, slots=True)
class GivenTargets:
    """A list of targets that no lake holds."""

    stars: TargetStars
    version: int = 1

    def finder(self) -> Callable[..., TargetStars]:
        """Return a function that gives all of them."""
        return lambda *_: self.stars


def with_targets(reduction: tasks.Reduction, sky: Sky, path: Path) -> tasks.Reduction:
    """Return a reduction that measures the stars of a field too, with the point spread function of one frame."""
    files = [str(path)]
    night = tasks.peek_nights(files, reduction.profile)[0]
    psfs = pool_psfs({night: files}, reduction.profile, Inline(), reduction.library)
    ra, dec = sky_positions(sky)
    stars = TargetStars(np.arange(len(ra)), ra, dec, ra, dec, 1)
    return replace(reduction, forcing=Forcing(GivenTargets(stars), psfs))


def sky_positions(sky: Sky) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the stars of a field, degrees (gnomonic; Calabretta & Greisen 2002)."""
    scale, middle = np.radians(SCALE_ARCSEC / 3600.0), 0.5 * (sky.light.shape[0] - 1)
    xi, eta = -scale * (sky.x - middle), scale * (sky.y - middle)
    ra0, dec0 = np.radians(CENTRE)
    down = np.cos(dec0) - eta * np.sin(dec0)
    found = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, down))
    return np.degrees(ra0 + np.arctan2(xi, down)) % 360.0, np.degrees(found)


def ours(path: Path, reduction: tasks.Reduction, out: Path) -> float:
    """Reduce a file as a worker does, and return the CPU seconds."""
    before = time.process_time()
    chunk = tasks.reduce_chunk([str(path)], reduction, out)
    seconds = time.process_time() - before
    row = chunk.frames.to_pylist()[0]
    if row["status"] != "ok":
        raise SystemExit(f"{path}: {row['message']}")
    return seconds


@contextmanager
def stages(
    found: dict[str, list[float]], places: Mapping[str, tuple[Any, str]] = MappingProxyType(STAGES)
) -> Iterator[None]:
    """Add to `found` the CPU seconds of each stage while this lasts."""
    before = {name: getattr(*place) for name, place in places.items()}
    for name, (module, attribute) in places.items():
        setattr(module, attribute, timed(before[name], found.setdefault(name, [])))
    try:
        yield
    finally:
        for name, (module, attribute) in places.items():
            setattr(module, attribute, before[name])


def timed(work: Callable[..., Any], found: list[float]) -> Callable[..., Any]:
    """Return a function that does the same and notes its CPU seconds."""

    def go(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return work(*args, **options)
        finally:
            found.append(time.process_time() - start)

    return go


def show(profiles: dict[str, dict[str, list[float]]], best: dict[str, float]) -> None:
    """Print where the time of each kind of file goes."""
    print(f"\n{'stage [ms of CPU, best]':32s} " + " ".join(f"{name:>8s}" for name in profiles))
    sums = dict.fromkeys(profiles, 0.0)
    for stage in STAGES:
        times = {name: 1e3 * min(found.get(stage, [0.0])) for name, found in profiles.items()}
        for name, value in times.items():
            sums[name] += value
        print(f"{stage:32s} " + " ".join(f"{value:8.2f}" for value in times.values()))
    print(f"{'the rest':32s} " + " ".join(f"{best[name] - sums[name]:8.2f}" for name in profiles))


def source_extractor(folder: Path, path: Path) -> Callable[[], float] | None:
    """Return what runs Source Extractor on a file and gives its CPU seconds; None where it is not installed."""
    program = shutil.which("source-extractor") or shutil.which("sex")
    if program is None:
        print("Source Extractor is not installed: it is left out")
        return None
    (folder / "columns").write_text("\n".join(COLUMNS.split()) + "\n")
    (folder / "kernel").write_text("CONV NORM\n1 2 1\n2 4 2\n1 2 1\n")
    (folder / "settings").write_text(
        f"PARAMETERS_NAME {folder}/columns\nFILTER_NAME {folder}/kernel\nCATALOG_NAME {folder}/catalog\n"
        "CATALOG_TYPE FITS_1.0\nVERBOSE_TYPE QUIET\nDETECT_MINAREA 5\nDETECT_THRESH 1.5\nANALYSIS_THRESH 1.5\n"
        "NTHREADS 1\nMEMORY_PIXSTACK 3000000\nPHOT_APERTURES 6,10,16\n"
        f"SATUR_LEVEL {SATURATION}\nGAIN {GAIN}\n"
    )

    def run() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([program, str(path), "-c", f"{folder}/settings"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    return run


if __name__ == "__main__":
    main()
