"""Background and detection of our own engine beside sep and Source Extractor, on the very same frames.

Needs: skylake alone; Source Extractor (`source-extractor`) is run if it is installed. Takes about a minute on 2
cores, half of it to draw the frames.

Frames: 10,000 stars on 2048 x 2048 pixels (`--size` draws smaller ones of the same density), Moffat of beta 3.5 and
full width 2.5 px, N(>f) ~ f^-0.75 from 100 to 2e6 ADU, sky of 800 electrons with a gradient, 15 % vignetting, read
noise 8 e-, gain 1.5 e-/ADU, whole numbers of 16 bits.

Quality: stars are matched with detections within 2 px, the brightest first, each detection once; what is left of the
detections is false. The signal-to-noise ratio of a star is that of its optimally weighted flux in the noise of the
sky. Speed: CPU seconds of background and detection, ours with both subtractions and the second step of the
background; Source Extractor's is that of the whole program with five columns. All run in turn, and the best of the
rounds counts.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import sep
from astropy.io import fits
from claims import Claim, conclude
from scipy.spatial import cKDTree

from skylake.core.camera import Extraction
from skylake.core.flags import PixelFlag
from skylake.core.frame import Image
from skylake.image.detection.background import estimate_background, refine_background
from skylake.image.detection.detect_sources import detect_sources
from skylake.simulate import Moffat, render

GAIN, READ_NOISE_E, SKY_E, SATURATION = 1.5, 8.0, 800.0, 60000.0
BINS = (4.0, 5.0, 6.0, 8.0, 12.0, 20.0, 50.0, np.inf)
#: Thresholds of Source Extractor: the usual one, and one that finds more.
SIGMAS = (1.5, 1.2)
OWN, SEP = Extraction(engine="skylake"), Extraction(engine="sep")

Places = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A frame, and what is true of it."""

    image: Image
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    snr: np.ndarray

    @property
    def pixels(self) -> np.ndarray:
        """The pixels, ADU."""
        return self.image.pixels


def main() -> None:
    """Draw the frames, and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=3, help="frames that are drawn")
    parser.add_argument("--size", type=int, default=2048, help="pixels of a side")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of timing")
    parser.add_argument("--seed", type=int, default=1, help="of the first frame")
    parser.add_argument("--only", choices=["quality", "speed"], help="one of the two parts")
    options = parser.parse_args()
    frames = [draw(options.size, options.seed + number) for number in range(options.frames)]
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
        peer = SourceExtractor.installed(Path(folder))
        claims: list[Claim] = []
        if options.only != "speed":
            claims += quality(frames, peer)
        if options.only != "quality":
            claims += speed(frames[0], peer, options.rounds)
    conclude(claims)


def draw_stars(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places, 0-based pixels, and fluxes, ADU, of the stars of a frame."""
    n = round(10_000 * (size / 2048) ** 2)
    x, y = random.uniform(-0.5, size - 0.5, (2, n))
    low, high = 100.0**-0.75, 2e6**-0.75
    flux = (low + random.random(n) * (high - low)) ** (-1.0 / 0.75)
    return x, y, flux


def draw(size: int, seed: int) -> Drawn:
    """Draw one frame."""
    random = np.random.default_rng(seed)
    x, y, flux = draw_stars(size, random)
    yy, xx = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    vignetting = 1.0 - 0.15 * 2.0 * (xx**2 + yy**2)
    sky = SKY_E * (1.0 + 0.1 * xx + 0.05 * yy) * vignetting
    row, column = (np.clip(np.rint(values).astype(int), 0, size - 1) for values in (y, x))
    flux = flux * vignetting[row, column]
    psf = Moffat(2.5)
    light = render((size, size), x, y, flux, psf, 20.0, GAIN)
    electrons = random.poisson(light * GAIN + sky) + random.normal(0.0, READ_NOISE_E, (size, size))
    pixels = np.clip(np.rint(electrons / GAIN + 300.0), 0, 65535).astype(np.float32)
    noise = np.sqrt(sky + READ_NOISE_E**2)[row, column] / GAIN
    mask = np.where(pixels >= SATURATION, np.uint8(PixelFlag.SATURATED), np.uint8(0))
    return Drawn(Image(pixels, mask, (0, 0)), x, y, flux, flux / noise / np.sqrt(psf.noise_pixels))


def quality(frames: list[Drawn], peer: SourceExtractor | None) -> list[Claim]:
    """Compare what each finds with the truth."""
    ways: dict[str, Callable[[Drawn], Places]] = {
        "skylake, 4.5 sigma": lambda frame: ours(frame, OWN),
        "sep, 1.5 sigma": lambda frame: ours(frame, SEP),
    }
    for sigma in SIGMAS if peer is not None else ():
        ways[f"Source Extractor, {sigma:g} sigma"] = lambda frame, sigma=sigma: peer.run(frame, sigma)[0]
    area = sum(frame.pixels.size for frame in frames) / 1e6
    print(f"\ncompleteness [%] by signal-to-noise ratio, {len(frames)} frames, {area:.1f} Mpix")
    names = [f"{a:g}-{b:g}" for a, b in pairwise(BINS)]
    print(f"{'':32s} {'false/Mpix':>10s} " + " ".join(f"{name:>7s}" for name in names))
    reached: dict[str, tuple[np.ndarray, float]] = {}
    for name, way in ways.items():
        got, false = zip(*(match(frame, *way(frame)) for frame in frames), strict=True)
        found, snr = np.concatenate(got), np.concatenate([frame.snr for frame in frames])
        share = [100.0 * found[(snr >= a) & (snr < b)].mean() for a, b in pairwise(BINS)]
        reached[name] = np.array(share), sum(false) / area
        print(f"{name:32s} {reached[name][1]:10.1f} " + " ".join(f"{value:7.1f}" for value in share))
    own, other = reached["skylake, 4.5 sigma"], list(reached.values())[-1]
    return [
        Claim("missed at S/N 6 to 8 [%]", 100.0 - own[0][2], 100.0 - other[0][2], 15.0),
        Claim("false detections per Mpix", own[1], other[1], 10.0),
    ]


def match(frame: Drawn, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, int]:
    """Return which stars were found, and how many detections are of none."""
    near = cKDTree(np.column_stack([x, y])).query_ball_point(np.column_stack([frame.x, frame.y]), 2.0)
    found, used = np.zeros(len(frame.x), bool), np.zeros(len(x), bool)
    for star in np.argsort(-frame.flux):
        free = [k for k in near[star] if not used[k]]
        if free:
            used[min(free, key=lambda k: (x[k] - frame.x[star]) ** 2 + (y[k] - frame.y[star]) ** 2)] = True
            found[star] = True
    return found, int(np.count_nonzero(~used))


def ours(frame: Drawn, parameters: Extraction) -> Places:
    """Take the background off and detect, with the engine of the parameters."""
    image = frame.image
    background = estimate_background(image, parameters)
    found = detect_sources(image.pixels - background.level, background.rms, image.mask, parameters, GAIN)
    background = refine_background(image, background, found, parameters)
    np.subtract(image.pixels, background.level)
    return found.x, found.y


def bare_sep(frame: Drawn) -> Places:
    """Do the same with sep alone, as its manual says."""
    mask = frame.pixels >= SATURATION
    background = sep.Background(frame.pixels, mask=mask)
    signal, noise = frame.pixels - background.back(), background.rms()
    sep.set_extract_pixstack(3_000_000)
    objects = sep.extract(signal, 1.5, err=noise, mask=mask, filter_type="conv")
    return objects["x"], objects["y"]


@dataclass(frozen=True, slots=True)
class SourceExtractor:
    """The program, and a folder with what it wants to read."""

    program: str
    folder: Path

    @classmethod
    def installed(cls, folder: Path) -> SourceExtractor | None:
        """Return the program, or None where there is none."""
        program = shutil.which("source-extractor") or shutil.which("sex")
        if program is None:
            print("Source Extractor is not installed: it is left out")
            return None
        (folder / "columns").write_text("NUMBER\nX_IMAGE\nY_IMAGE\nFLUX_ISO\nFLAGS\n")
        (folder / "kernel").write_text("CONV NORM\n1 2 1\n2 4 2\n1 2 1\n")
        (folder / "settings").write_text(
            f"PARAMETERS_NAME {folder}/columns\nFILTER_NAME {folder}/kernel\nCATALOG_NAME {folder}/catalog\n"
            "VERBOSE_TYPE QUIET\nDETECT_MINAREA 5\nNTHREADS 1\nMEMORY_PIXSTACK 3000000\n"
            f"SATUR_LEVEL {SATURATION}\nGAIN {GAIN}\n"
        )
        return cls(program, folder)

    def run(self, frame: Drawn, sigma: float) -> tuple[Places, float]:
        """Return the places, 0-based, and the CPU seconds."""
        path = self.folder / "frame.fits"
        fits.PrimaryHDU(frame.pixels.astype(np.uint16)).writeto(path, overwrite=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        options = ["-c", str(self.folder / "settings"), "-DETECT_THRESH", str(sigma)]
        subprocess.run([self.program, str(path), *options], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        rows = np.loadtxt(self.folder / "catalog", comments="#", ndmin=2)
        return (rows[:, 1] - 1.0, rows[:, 2] - 1.0), seconds


def speed(frame: Drawn, peer: SourceExtractor | None, rounds: int) -> list[Claim]:
    """Compare CPU seconds, each in its turn."""
    ways: dict[str, Callable[[], float]] = {
        "skylake": lambda: cpu(lambda: ours(frame, OWN)),
        "skylake with engine sep": lambda: cpu(lambda: ours(frame, SEP)),
        "sep": lambda: cpu(lambda: bare_sep(frame)),
    }
    if peer is not None:
        ways["Source Extractor"] = lambda: peer.run(frame, SIGMAS[0])[1]
    first = ways["skylake"]()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way())
    mpix = frame.pixels.size / 1e6
    print(
        f"\nCPU of background and detection, {mpix:.1f} Mpix, {rounds} rounds; our first call {first:.1f} s"
    )
    print(f"{'':32s} {'best ms/Mpix':>12s} {'median':>8s}")
    for name, values in taken.items():
        print(f"{name:32s} {1e3 * min(values) / mpix:12.1f} {1e3 * float(np.median(values)) / mpix:8.1f}")
    best = {name: 1e3 * min(values) / mpix for name, values in taken.items()}
    other = best["Source Extractor" if peer is not None else "sep"]
    return [Claim("CPU of background and detection [ms/Mpix]", best["skylake"], other, other / 3.0)]


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a piece of work."""
    before = time.process_time()
    work()
    return time.process_time() - before


if __name__ == "__main__":
    main()
