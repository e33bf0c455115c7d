"""Detection, photometry and centroids on frames that skylake and GalSim have drawn, beside two other programs.

Needs: GalSim and photutils (pip install skylake[dev]). Source Extractor (`source-extractor`) is run if it is installed.
Takes about 10 minutes on one core; one with --quick.

Frames: isolated stars on a shaken grid, as many in each magnitude, from S/N 3 to just below saturation; a sky of 800
electrons with a gradient, read noise 8 e-, gain 1.5 e-/ADU, whole numbers of 16 bits. Three renderers: the simulator of
skylake (Moffat, beta 3.5, FWHM 2.5 px), GalSim with the same profile, and GalSim with what theory says of seeing
(Kolmogorov, FWHM 3 px, ellipticity 0.036). Each program gets the very same frames and its usual settings; skylake
takes the whole way from the file.

Completeness has the 68 % interval of a share of counts. The pull of a flux is its distance from the light that falls
into the same aperture, drawn without noise, in units of its error; it should have mean 0 and width 1. Of detected
stars it is judged where 99 % are found: elsewhere noise has chosen those that it made brighter. Measured at known
places, stars of any magnitude count. Centroids are held against the Cramer-Rao bound.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from claims import Claim, conclude
from contestants import Catalog, Photutils, Skylake, SourceExtractor
from drawn import ZEROPOINT, Drawn, Renderer, bounds, draw, many, renderers
from scipy.spatial import cKDTree

from skylake.image.inject import wilson

EDGES = np.arange(11.0, 19.5)
FLUXES = ("aper1", "aper2", "aper3", "kron")
FORCED = ("aper1", "aper2", "aper3", "hybrid1", "hybrid2", "hybrid3")
#: A star is found if something is detected so near, pixels.
NEAR_PX = 2.0
#: Pulls of detected stars are judged where so many are found.
ENOUGH = 0.99
OURS = "skylake"


@dataclass(slots=True)
class Tally:
    """What one program made of the frames of one renderer; an array for each frame."""

    magnitude: list[np.ndarray] = field(default_factory=list)
    found: list[np.ndarray] = field(default_factory=list)
    off: list[np.ndarray] = field(default_factory=list)
    sigma: list[np.ndarray] = field(default_factory=list)
    pulls: dict[str, list[np.ndarray]] = field(default_factory=dict)
    forced: dict[str, list[np.ndarray]] = field(default_factory=dict)
    false: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, frame: Drawn, catalog: Catalog) -> None:
        """Add a frame: which stars were found, and how well they were measured; NaN for those that were not."""
        star, source = match(frame, catalog)
        found = np.zeros(len(frame.x), bool)
        found[star] = True
        off = np.full((2, len(frame.x)), np.nan)
        off[:, star] = catalog.x[source] - frame.x[star], catalog.y[source] - frame.y[star]
        sigma = np.full(len(frame.x), np.nan)
        sigma[star] = catalog.x_err[source]
        self.magnitude.append(frame.magnitude)
        self.found.append(found)
        self.off.append(off)
        self.sigma.append(sigma)
        self.false.append(len(catalog.x) - len(star))
        centre = [place[source] for place in catalog.centre]
        for name, (flux, error) in catalog.flux.items():
            if name == "kron":
                true = frame.held_by(star, catalog.ellipse[:, source])
            else:
                true = frame.held(star, *centre, radius(name))
            pull = np.full(len(frame.x), np.nan)
            pull[star] = (flux[source] - true) / error[source]
            pull[star[~catalog.clean[source]]] = np.nan
            self.pulls.setdefault(name, []).append(pull)

    def add_forced(self, frame: Drawn, measured: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Add what was measured at the true places."""
        for name in FORCED:
            if name in measured:
                flux, error = measured[name]
                true = frame.held(np.arange(len(flux)), frame.x, frame.y, radius(name))
                self.forced.setdefault(name, []).append((flux - true) / error)

    def in_bins(self, values: list[np.ndarray]) -> list[np.ndarray]:
        """Return the known values of stars in each bin of magnitude."""
        magnitude, joined = np.concatenate(self.magnitude), np.concatenate(values, axis=-1)
        chosen = [(magnitude >= a) & (magnitude < b) for a, b in pairwise(EDGES)]
        some = [joined[..., one].ravel() for one in chosen]
        return [one[np.isfinite(one)] for one in some]

    @property
    def completeness(self) -> np.ndarray:
        """Share of the stars of each bin that was found, and its interval, shape (3, bins)."""
        counts = self.in_bins([found.astype(float) for found in self.found])
        tried, found = (np.array([int(f(one)) for one in counts]) for f in (len, np.sum))
        return np.array([found / tried, *wilson(found, tried)])

    @property
    def scatter(self) -> np.ndarray:
        """Root mean square of both coordinates in each bin, pixels."""
        return np.array([np.sqrt(np.mean(one**2)) if one.size else np.nan for one in self.in_bins(self.off)])


def radius(name: str) -> float:
    """Return the radius of an aperture by its name."""
    return (3.0, 5.0, 8.0)[int(name[-1]) - 1]


def match(frame: Drawn, catalog: Catalog) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of stars and sources: for each star the nearest source, if it is near."""
    places = np.column_stack([catalog.x, catalog.y])
    distance, nearest = cKDTree(places).query(np.column_stack([frame.x, frame.y]))
    star = np.flatnonzero(distance <= NEAR_PX)
    return star, nearest[star]


def main() -> None:
    """Draw frames, run all programs, and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=6, help="frames of each renderer")
    parser.add_argument("--size", type=int, default=2048, help="pixels of a side")
    parser.add_argument("--seed", type=int, default=1, help="of the first frame")
    parser.add_argument("--quick", action="store_true", help="one frame of half the size, fewer claims")
    parser.add_argument("--engine", choices=["skylake", "sep"], default="skylake", help="of our detection")
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    options = parser.parse_args()
    n, size = (1, 1024) if options.quick else (options.frames, options.size)
    tallies: dict[str, dict[str, Tally]] = {}
    limits: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
        peer = SourceExtractor.installed(Path(folder))
        for name, renderer in renderers().items():
            tallies[name] = run(renderer, peer, options.engine, size, n, options.seed)
            middles = 10.0 ** (0.4 * (ZEROPOINT - 0.5 * (EDGES[1:] + EDGES[:-1])))
            limits[name] = np.array(bounds(renderer, middles, 4 if options.quick else 12))
            show(name, tallies[name], limits[name])
    if options.plot:
        from pictures import plot

        plot(options.plot, tallies, limits, EDGES)
    conclude(judge(tallies, limits, 1.6 if options.quick else 1.0))


def run(
    renderer: Renderer, peer: SourceExtractor | None, engine: str, size: int, n: int, seed: int
) -> dict[str, Tally]:
    """Give the same frames to all programs."""
    ours, other = Skylake(engine), Photutils()
    ours.learn(draw(renderer, size, seed + 1000))
    programs = {OURS: ours, "photutils": other} | ({} if peer is None else {"Source Extractor": peer})
    tallies = {name: Tally() for name in programs}
    for frame in many(renderer, size, n, seed):
        for name, program in programs.items():
            start = time.perf_counter()
            catalog = program.run(frame)
            tallies[name].seconds += time.perf_counter() - start
            tallies[name].add(frame, catalog)
            if isinstance(program, (Skylake, Photutils)):
                tallies[name].add_forced(frame, program.force(frame))
    return tallies


def show(name: str, tallies: Mapping[str, Tally], limits: np.ndarray) -> None:
    """Print the tables of one renderer."""
    print(f"\n== {name}: {len(np.concatenate(tallies[OURS].magnitude))} stars ==")
    print(f"{'magnitude':34s} " + " ".join(f"{a:9g}" for a in EDGES[:-1] + 0.5))
    print(f"{'S/N':34s} " + " ".join(f"{value:9.1f}" for value in limits[1]))
    for program, tally in tallies.items():
        share, low, high = 100.0 * tally.completeness
        error = 0.5 * (high - low)
        print(f"{program + ': found [%]':34s} "
              + " ".join(f"{a:5.1f}±{b:3.1f}" for a, b in zip(share, error, strict=True))
              + f"   false per frame {np.mean(tally.false):.1f}, {tally.seconds / len(tally.false):.1f} s")  # fmt: skip
    for program, tally in tallies.items():
        ratio = tally.scatter / limits[0]
        print(f"{program + ': centroid / bound':34s} " + " ".join(f"{value:9.2f}" for value in ratio))
    for program, tally in tallies.items():
        for kind, pulls in (("", tally.pulls), ("at known places ", tally.forced)):
            for flux, values in pulls.items():
                bins = tally.in_bins(values)
                print(f"{f'{program}: {kind}{flux}':34s} " + " ".join(_of(one) for one in bins))


def _of(pull: np.ndarray) -> str:
    return f"{pull.mean():+5.2f}{pull.std():4.2f}" if pull.size > 2 else f"{'-':>9s}"


def judge(
    tallies: Mapping[str, Mapping[str, Tally]], limits: Mapping[str, np.ndarray], slack: float
) -> list[Claim]:
    """Hold the figures of all renderers against what they should be."""
    claims = []
    for name, found in tallies.items():
        ours, others = found[OURS], {k: tally for k, tally in found.items() if k != OURS}
        snr = limits[name][1]
        rival = others.get("Source Extractor", next(iter(others.values())))
        some = (snr >= 4.0) & (snr <= 12.0)
        missed = [100.0 * (1.0 - float(tally.completeness[0][some].mean())) for tally in (ours, rival)]
        claims.append(Claim(f"{name}: missed at S/N 4 to 12 [%]", *missed, missed[1]))
        false = [float(np.mean(tally.false)) for tally in (ours, rival)]
        claims.append(Claim(f"{name}: false detections per frame", *false, 40.0))
        claims += pull_claims(name, ours, rival, slack)
        ratio = [tally.scatter / limits[name][0] for tally in (ours, rival)]
        known = (snr >= 8.0) & np.isfinite(ratio[1])
        worst = [float(one[known].max()) for one in ratio]
        claims.append(Claim(f"{name}: scatter of centroids over the bound", *worst, worst[1]))
    return claims


def pull_claims(name: str, ours: Tally, rival: Tally, slack: float) -> list[Claim]:
    """Return claims on the pulls of detected stars and of those at known places, in the worst bin of all."""
    complete = ours.completeness[0] >= ENOUGH
    claims = []
    for kind, mine, other, chosen in (
        ("detected stars", ours.pulls, rival.pulls, complete),
        ("stars at known places", ours.forced, {}, np.ones(len(complete), bool)),
    ):
        mean, width = worst_pulls(ours, mine, chosen)
        peer = worst_pulls(rival, other, chosen) if other else (None, None)
        claims.append(Claim(f"{name}: largest mean pull of {kind}", mean, peer[0], 0.1 * slack))
        claims.append(Claim(f"{name}: width of pulls of {kind}, distance from 1", width, peer[1], 0.1 * slack))
    return claims


def worst_pulls(
    tally: Tally, pulls: Mapping[str, list[np.ndarray]], chosen: np.ndarray
) -> tuple[float, float]:
    """Return the largest mean, and the largest distance of the width from 1, of all fluxes and bins."""
    bins = [one for values in pulls.values() for one, take in zip(tally.in_bins(values), chosen, strict=True) if take]
    return (
        max(abs(float(one.mean())) for one in bins),
        max(abs(float(one.std()) - 1.0) for one in bins),
    )


if __name__ == "__main__":
    main()
