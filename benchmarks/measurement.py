"""How fast and how honest measurement is, beside the functions of sep on the same frame.

Needs: skylake alone. Takes about a minute on one core, half of that with --quick.

A frame of 2048 x 2048 pixels with stars of all magnitudes (Moffat, beta 3.5, FWHM 2.5 px) is detected once; then
10,000 of its sources are measured, by us and by what sep has for the same: winpos and flux_radius, sum_circle with
exact overlap, kron_radius and sum_ellipse. Times are CPU seconds of one thread, the best of some rounds, with all
kernels compiled.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import sep
from claims import Claim, conclude

from skylake.core.camera import Apertures, Camera, Extraction
from skylake.core.frame import Image
from skylake.image.detection.background import Background, estimate_background, refine_background
from skylake.image.detection.detect_sources import Detections, detect_sources
from skylake.image.photometry.aperture_photometry import circular_fluxes, make_scene
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.photometry.measure_sources import measure_sources
from skylake.simulate import Moffat, render

N_SOURCES = 10_000
SHAPE = (2048, 2048)
GAIN, NOISE_E, SKY_E = 1.5, 8.0, 800.0
CAMERA = Camera(
    "lab", apertures=Apertures((3.0, 5.0, 8.0), None, total_radius_px=14.0), extraction=Extraction()
)


def main() -> None:
    """Print times and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 9
    image, background, signal, found = frame()
    measured = measure_sources(image, background, signal, found, CAMERA, GAIN, 1.0)

    def ours() -> None:
        sources = measure_sources(image, background, signal, found, CAMERA, GAIN, 1.0)
        aperture_corrections(image, background, signal, found, sources, CAMERA.apertures)

    whole, _ = cpu(ours, rounds)
    alone, _ = cpu(lambda: measure_sources(image, background, signal, found, CAMERA, GAIN, 1.0), rounds)
    peer, parts = with_sep(signal, background, found, rounds)
    for name, seconds in parts.items():
        print(f"sep {name}: {1e3 * seconds:.1f} ms")
    print(f"ours: {1e3 * alone:.1f} ms and {1e3 * (whole - alone):.1f} ms for aperture corrections")
    claims = [Claim(f"measurement of {len(measured)} sources [ms CPU]", 1e3 * whole, 1e3 * peer, 40.0)]
    conclude(claims + pulls(rounds))


def frame() -> tuple[Image, Background, Any, Detections]:
    """Return a frame with its background, signal and 10,000 detections."""
    random = np.random.default_rng(1)
    n = 30_000
    draw = random.random(n)
    flux = (300.0**-0.75 * (1.0 - draw) + 2e6**-0.75 * draw) ** (-1.0 / 0.75)
    x, y = random.uniform(0.0, SHAPE[1] - 1.0, n), random.uniform(0.0, SHAPE[0] - 1.0, n)
    light = render(SHAPE, x, y, flux, Moffat(2.5)) + SKY_E / GAIN
    pixels = ((random.poisson(light * GAIN) + random.normal(0.0, NOISE_E, SHAPE)) / GAIN).astype(np.float32)
    image = Image(pixels, np.zeros(SHAPE, np.uint8), (0, 0))
    background = estimate_background(image, CAMERA.extraction)
    found = detect_sources(pixels - background.level, background.rms, image.masked, CAMERA.extraction)
    background = refine_background(image, background, found, CAMERA.extraction)
    print(f"{len(found)} detections, of which {min(len(found), N_SOURCES)} are measured")
    return image, background, pixels - background.level, first(found, N_SOURCES)


def first(found: Detections, n: int) -> Detections:
    """Return the first n detections."""
    values = {item.name: getattr(found, item.name) for item in fields(found)}
    cut = {name: v[:n] for name, v in values.items() if name != "segments" and isinstance(v, np.ndarray)}
    return replace(found, **cut)


def cpu(call: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Return the CPU seconds of the best round, and what the call returns."""
    call()
    best, result = np.inf, None
    for _ in range(rounds):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    return best, result


def with_sep(
    signal: Any, background: Background, found: Detections, rounds: int
) -> tuple[float, dict[str, float]]:
    """Return the CPU seconds of sep's functions for the same, together and one by one."""
    x, y, a, b = found.x, found.y, np.maximum(found.a, 0.3), np.maximum(found.b, 0.3)
    theta, rms = np.clip(found.theta, -1.5707963, 1.5707963), background.rms
    reach = 6.0 * np.maximum(found.a, 0.5)
    parts: dict[str, float] = {}
    parts["flux_radius"], (half, _) = cpu(lambda: sep.flux_radius(signal, x, y, reach, 0.5, subpix=5), rounds)
    # One window for all, as ours: noisy half-light radii would make sep's windows large and slow.
    sigma = np.full(len(x), np.nanmedian(half) * 2.0 / 2.3548)
    parts["winpos"], _ = cpu(lambda: sep.winpos(signal, x, y, sigma), rounds)
    parts["sum_circle, three radii"], _ = cpu(
        lambda: [
            sep.sum_circle(signal, x, y, r, err=rms, gain=GAIN, subpix=0) for r in CAMERA.apertures.radii_px
        ],
        rounds,
    )
    parts["kron_radius"], (kron, _) = cpu(lambda: sep.kron_radius(signal, x, y, a, b, theta, 6.0), rounds)
    scale = np.clip(2.5 * np.nan_to_num(kron), 3.5, 15.0)
    parts["sum_ellipse"], _ = cpu(
        lambda: sep.sum_ellipse(signal, x, y, a, b, theta, scale, err=rms, gain=GAIN, subpix=5), rounds
    )
    return sum(parts.values()), parts


def pulls(n_frames: int) -> list[Claim]:
    """Return claims on the pulls of apertures at true positions of isolated stars, beside sep's errors."""
    radii = (1.5, 3.0, 5.0, 8.0)
    ours, peers = [], []
    for seed in range(n_frames):
        random = np.random.default_rng(100 + seed)
        y, x = (30.0 + 40.0 * values.ravel() for values in np.mgrid[:25, :25])
        x, y = x + random.uniform(-0.5, 0.5, x.size), y + random.uniform(-0.5, 0.5, x.size)
        light = render(
            (1020, 1020), x, y, np.geomspace(100.0, 1e6, x.size)[random.permutation(x.size)], Moffat(2.5)
        )
        light = np.ascontiguousarray(light)
        sky = SKY_E / GAIN
        electrons = random.poisson((light + sky) * GAIN) + random.normal(0.0, NOISE_E, light.shape)
        signal = (electrons / GAIN - sky).astype(np.float32)
        rms = np.full(signal.shape, np.sqrt(SKY_E + NOISE_E**2) / GAIN, np.float32)
        noise = Background(np.zeros_like(rms), rms, 0.0, float(rms[0, 0]))
        image, none = (
            Image(signal, np.zeros(signal.shape, np.uint8), (0, 0)),
            np.zeros(signal.shape, np.int32),
        )
        scene = make_scene(image, noise, signal, none, GAIN)
        true = circular_fluxes(replace(scene, signal=light), x, y, radii)[0]
        found, error, _ = circular_fluxes(scene, x, y, radii)
        ours.append((found - true) / error)
        sums = [sep.sum_circle(signal, x, y, radius, err=rms, gain=GAIN, subpix=0)[:2] for radius in radii]
        peers.append([(flux - one) / err for (flux, err), one in zip(sums, true, strict=True)])
    mine, others = np.concatenate(ours, axis=1), np.concatenate(peers, axis=1)
    mean = [float(np.abs(pull.mean(axis=1)).max()) for pull in (mine, others)]
    width = [float(np.abs(pull.std(axis=1) - 1.0).max()) for pull in (mine, others)]
    return [
        Claim("largest mean pull of an aperture", *mean, 0.1),
        Claim("width of the pulls of an aperture, distance from 1", *width, 0.1),
    ]


if __name__ == "__main__":
    main()
