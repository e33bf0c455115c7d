"""Detection, photometry and centroids on frames that skylake and GalSim have drawn, beside two other programs.

Needs: GalSim and photutils (`make test` installs them). Source Extractor (`source-extractor`) is run if it is there.
Takes about 10 minutes on one core; a quarter of a minute with --quick.

Frames: isolated stars on a shaken grid, as many in each magnitude, from S/N 1 to just below saturation; a sky of 800
electrons with a gradient, read noise 8 e-, gain 1.5 e-/ADU, whole numbers of 16 bits. Three renderers: the simulator
of skylake (Moffat, beta 3.5, FWHM 2.5 px), GalSim with the same profile, and GalSim with what theory says of seeing
(Kolmogorov, FWHM 3 px, ellipticity 0.036). Each program gets the very same frames and its usual settings; skylake
takes the whole way from the file.

Completeness has the 68 % interval of a share of counts. The pull of a flux is its distance from the light of the star
that falls into the same aperture, drawn without noise, in units of its error; it should have mean 0 and width 1. At
known places that must hold for stars of any magnitude. Of detected stars it is judged as such from S/N 12. Below, two
things make fluxes too large: a place that was found in the same noise, by up to the error over the S/N (Portillo et
al. 2020, AJ 159, 165), and noise that chooses which stars are found (the mean of a normal distribution of which only
what exceeds the threshold is seen). Both are computed and told, and the mean pull has to lie between nothing and their
sum. From S/N 5 the same stars measured at their known places, with the noise that chose them, tell what is left: their
pulls should have the same mean and the same width. The wings of Kolmogorov's profile reach so far that every program
takes some of them for sky; there the peer's figure is the limit where it is the larger. Centroids are held against the
Cramer-Rao bound.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from claims import Claim, conclude
from contestants import Catalog, Photutils, Skylake, SourceExtractor
from drawn import ZEROPOINT, Drawn, Renderer, bounds, draw, many, renderers
from scipy.spatial import cKDTree
from scipy.stats import norm

from skylake.image.quality.completeness import wilson

#: Bins of magnitude, and those of a quick run, which has fewer stars.
EDGES, WIDE = (np.append(np.arange(11.0, 19.5, step), 20.25) for step in (1.0, 2.0))
FLUXES = ("aper1", "aper2", "aper3", "kron")
FORCED = ("aper1", "aper2", "aper3", "hybrid1", "hybrid2", "hybrid3")
SIZE = 2048
#: With fewer frames chance brings one of the many means near a tenth.
QUICK_FRAMES = 8
#: A star is found if something is detected so near, pixels.
NEAR_PX = 2.0
#: Pulls of detected stars are judged from this S/N, and the scatter of centroids from that.
SURE_SNR, PLACED_SNR = 12.0, 8.0
#: Of detected stars between these S/N the bias of being detected is told; fewer are left to the threshold alone.
CHOSEN_SNR, LEAST_FOUND = (3.0, 12.0), 30
#: From this S/N detected stars are held against what is measured at their known places.
FAINT_SNR = 5.0
OURS = "skylake"
#: Profiles with wings that have no end.
WINGED = ("GalSim, Kolmogorov",)


@dataclass(slots=True)
class Tally:
    """What one program made of the frames of one renderer; an array for each frame."""

    edges: np.ndarray
    bound: np.ndarray
    magnitude: list[np.ndarray] = field(default_factory=list)
    found: list[np.ndarray] = field(default_factory=list)
    off: list[np.ndarray] = field(default_factory=list)
    pulls: dict[str, list[np.ndarray]] = field(default_factory=dict)
    forced: dict[str, list[np.ndarray]] = field(default_factory=dict)
    false: list[int] = field(default_factory=list)

    def add(self, frame: Drawn, catalog: Catalog) -> None:
        """Add a frame: which stars were found, and how well they were measured; NaN for those that were not."""
        star, source = match(frame, catalog)
        found = np.zeros(len(frame.x), bool)
        found[star] = True
        off = np.full((2, len(frame.x)), np.nan)
        off[:, star] = catalog.x[source] - frame.x[star], catalog.y[source] - frame.y[star]
        self.magnitude.append(frame.magnitude)
        self.found.append(found)
        self.off.append(off)
        self.false.append(len(catalog.x) - len(star))
        if np.isfinite(catalog.x_err).any():
            pull = np.full(len(frame.x), np.nan)
            pull[star] = off[0, star] / catalog.x_err[source]
            self.pulls.setdefault("place x", []).append(pull)
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
        """Add what was measured at the true places.

        Of a star itself a hybrid flux holds what its aperture does in the mean over places within a pixel.
        """
        for name in FORCED:
            if name in measured:
                flux, error = measured[name]
                true = frame.held(np.arange(len(flux)), frame.x, frame.y, radius(name))
                if name.startswith("hybrid"):
                    true = frame.flux * (true.sum() / frame.flux.sum())
                self.forced.setdefault(name, []).append((flux - true) / error)

    def beside_known(self) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]]]:
        """Return by how much pulls of detected stars exceed those at their known places, and the latter.

        NaN stands for stars that are not detected. The noise that chose the others is in both. Kron's ellipse of a
        faint star is about its second aperture.
        """
        excess, known = {}, {}
        for name in FLUXES:
            other = "aper2" if name == "kron" else name
            if name not in self.pulls or other not in self.forced:
                continue
            excess[name] = [a - b for a, b in zip(self.pulls[name], self.forced[other], strict=True)]
            known[name] = [
                np.where(np.isfinite(a), b, np.nan)
                for a, b in zip(self.pulls[name], self.forced[other], strict=True)
            ]
        return excess, known

    def in_bins(self, values: list[np.ndarray]) -> list[np.ndarray]:
        """Return the known values of stars in each bin of magnitude."""
        magnitude, joined = np.concatenate(self.magnitude), np.concatenate(values, axis=-1)
        chosen = [(magnitude >= a) & (magnitude < b) for a, b in pairwise(self.edges)]
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
    parser.add_argument(
        "--frames", type=int, default=10, help="frames of 2048 x 2048 pixels of each renderer"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first frame")
    parser.add_argument("--quick", action="store_true", help="fewer frames, wide bins and two renderers")
    parser.add_argument("--engine", choices=["skylake", "sep"], default="skylake", help="of our detection")
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    options = parser.parse_args()
    n, edges = (QUICK_FRAMES, WIDE) if options.quick else (options.frames, EDGES)
    tallies: dict[str, dict[str, Tally]] = {}
    limits: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
        peer = SourceExtractor.installed(Path(folder))
        for name, renderer in list(renderers().items())[: 2 if options.quick else 3]:
            limits[name] = bounds_in(renderer, edges)
            # photutils takes longer than all else.
            peers = {} if options.quick else {"photutils": Photutils()}
            peers |= {"Source Extractor": peer} if peer is not None else {}
            tallies[name] = run(
                renderer, Skylake(options.engine), peers, n, options.seed, edges, limits[name][0]
            )
            show(name, tallies[name], limits[name])
    if options.plot:
        from pictures import plot

        plot(options.plot, tallies, limits, edges)
    conclude(judge(tallies, limits))


def bounds_in(renderer: Renderer, edges: np.ndarray) -> np.ndarray:
    """Return the least scatter of centroids and the S/N in bins of magnitude, shape (2, bins)."""
    # As many stars of each magnitude: the mean square over each bin.
    fine = np.interp(np.arange(4 * len(edges) - 3) / 4.0, np.arange(len(edges)), edges)
    scatter, snr = bounds(renderer, 10.0 ** (0.4 * (ZEROPOINT - 0.5 * (fine[1:] + fine[:-1]))))
    inside = scatter.reshape(-1, 4), snr.reshape(-1, 4)
    return np.array([np.sqrt(np.mean(inside[0] ** 2, axis=1)), np.exp(np.mean(np.log(inside[1]), axis=1))])


def run(
    renderer: Renderer, ours: Skylake, peers: Mapping[str, SourceExtractor | Photutils], n: int, seed: int,
    edges: np.ndarray, bound: np.ndarray,
) -> dict[str, Tally]:  # fmt: skip
    """Give the same frames to all programs."""
    ours.learn(draw(renderer, SIZE, seed + 1000))
    programs = {OURS: ours} | peers
    tallies = {name: Tally(edges, bound) for name in programs}
    for frame in many(renderer, SIZE, n, seed):
        for name, program in programs.items():
            tallies[name].add(frame, program.run(frame))
            if isinstance(program, (Skylake, Photutils)):
                tallies[name].add_forced(frame, program.force(frame))
    return tallies


def show(name: str, tallies: Mapping[str, Tally], limits: np.ndarray) -> None:
    """Print the tables of one renderer."""
    print(f"\n== {name}: {len(np.concatenate(tallies[OURS].magnitude))} stars ==")
    edges = tallies[OURS].edges
    print(f"{'magnitude':34s} " + " ".join(f"{value:9g}" for value in 0.5 * (edges[1:] + edges[:-1])))
    print(f"{'S/N':34s} " + " ".join(f"{value:9.1f}" for value in limits[1]))
    for program, tally in tallies.items():
        share, low, high = 100.0 * tally.completeness
        error = 0.5 * (high - low)
        print(f"{program + ': found [%]':34s} "
              + " ".join(f"{a:5.1f}±{b:3.1f}" for a, b in zip(share, error, strict=True))
              + f"   false per frame {np.mean(tally.false):.1f}")  # fmt: skip
    for program, tally in tallies.items():
        ratio = tally.scatter / tally.bound
        print(f"{program + ': centroid / bound':34s} " + " ".join(f"{value:9.2f}" for value in ratio))
    for program, tally in tallies.items():
        for kind, pulls in (("", tally.pulls), ("at known places ", tally.forced)):
            for flux, values in pulls.items():
                bins = tally.in_bins(values)
                print(f"{f'{program}: {kind}{flux}':34s} " + " ".join(_of(one) for one in bins))


def _of(pull: np.ndarray) -> str:
    return f"{pull.mean():+5.2f}{pull.std():4.2f}" if pull.size > 2 else f"{'-':>9s}"


def judge(tallies: Mapping[str, Mapping[str, Tally]], limits: Mapping[str, np.ndarray]) -> list[Claim]:
    """Hold the figures of all renderers against what they should be."""
    claims = []
    for name, found in tallies.items():
        ours, others = found[OURS], {k: tally for k, tally in found.items() if k != OURS}
        snr = limits[name][1]
        rival = others.get("Source Extractor", next(iter(others.values()), None))
        without = None if rival else "neither Source Extractor nor photutils is there"
        rival = rival or ours
        some = (snr >= 4.0) & (snr <= 12.0)
        missed = [100.0 * (1.0 - float(tally.completeness[0][some].mean())) for tally in (ours, rival)]
        limit = np.nan if without else missed[1]
        claims.append(
            Claim(
                f"{name}: missed at S/N 4 to 12 [%]",
                missed[0],
                None if without else missed[1],
                limit,
                without,
            )
        )
        false = [float(np.mean(tally.false)) for tally in (ours, rival)]
        claims.append(Claim(f"{name}: false detections per frame", *false, 40.0))
        known_places = found.get("photutils", ours)
        claims += pull_claims(name, ours, (rival, known_places), snr >= SURE_SNR)
        claims += faint_claims(name, (ours, known_places), snr)
        claims.append(chosen_claim(name, (ours, rival), snr))
        ratio = [tally.scatter / tally.bound for tally in (ours, rival)]
        known = (snr >= PLACED_SNR) & np.isfinite(ratio[1])
        worst = [float(one[known].max()) for one in ratio]
        claims.append(Claim(f"{name}: scatter of centroids over the bound", *worst, 1.2))
    return claims


def pull_claims(name: str, ours: Tally, rivals: tuple[Tally, Tally], sure: np.ndarray) -> list[Claim]:
    """Return claims on the pulls of detected stars and of those at known places, in the worst bin of all."""
    claims = []
    for kind, mine, rival, others, chosen in (
        ("detected stars", ours.pulls, rivals[0], rivals[0].pulls, sure),
        ("stars at known places", ours.forced, rivals[1], rivals[1].forced, np.ones(len(sure), bool)),
    ):
        mean, width = worst_pulls(ours, mine, chosen)
        peer = (None, None) if rival is ours else worst_pulls(rival, others, chosen)
        limit = max(0.1, peer[0] or 0.0) if name in WINGED else 0.1
        claims.append(Claim(f"{name}: largest mean pull of {kind}", mean, peer[0], limit))
        claims.append(Claim(f"{name}: width of pulls of {kind}, distance from 1", width, peer[1], 0.1))
    return claims


def faint_claims(name: str, tallies: tuple[Tally, Tally], snr: np.ndarray) -> list[Claim]:
    """Return the claims that faint detected stars have the fluxes of their known places, and the same scatter."""
    figures = []
    for number, tally in enumerate(tallies):
        if number and tally is tallies[0]:
            continue
        excess, known = tally.beside_known()
        means, widths = [], []
        for flux, values in excess.items():
            bins = zip(
                snr, *(tally.in_bins(one) for one in (values, tally.pulls[flux], known[flux])), strict=True
            )
            for s, off, pull, true in bins:
                if s >= FAINT_SNR and off.size >= LEAST_FOUND:
                    print(f"{name}: S/N {s:5.1f}, {flux}: {off.size} detected stars, mean pull beyond that at known "
                          f"places {off.mean():+.3f}, widths {pull.std():.3f} and {true.std():.3f}")  # fmt: skip
                    means.append(abs(float(off.mean())))
                    widths.append(abs(float(pull.std() / true.std()) - 1.0))
        figures.append((max(means), max(widths)))
    peer = figures[1] if len(figures) > 1 else (None, None)
    told = (
        "mean pull of stars detected from S/N 5 beyond that at their places",
        "width of their pulls over that at their places, distance from 1",
    )
    return [Claim(f"{name}: {text}", *both, 0.1) for text, *both in zip(told, figures[0], peer, strict=True)]


def chosen_claim(name: str, tallies: tuple[Tally, Tally], snr: np.ndarray) -> Claim:
    """Return the claim that faint detected stars are as bright as being found makes them, and tell both."""
    excess = [
        _beyond_choice(name, tally, snr, ours) for ours, tally in zip((True, False), tallies, strict=True)
    ]
    peer = None if tallies[0] is tallies[1] else excess[1]
    return Claim(f"{name}: mean pull of faint detected stars beyond the bias of being found", excess[0], peer,
                 0.1)  # fmt: skip


def _beyond_choice(name: str, tally: Tally, snr: np.ndarray, tell: bool) -> float:
    """Return by how much mean pulls of faint detected stars lie outside what finding them explains."""
    shares = [one.astype(bool) for one in tally.in_bins([found.astype(float) for found in tally.found])]
    beyond = 0.0
    for number, (s, found) in enumerate(zip(snr, shares, strict=True)):
        if not CHOSEN_SNR[0] <= s < CHOSEN_SNR[1] or found.sum() < LEAST_FOUND:
            continue
        # The share that is found tells how far the threshold is, in units of the noise.
        share = float(np.clip(found.mean(), 1e-3, 1.0 - 1e-6))
        most = float(norm.pdf(norm.ppf(share))) / share + 1.0 / s
        for kind, values in tally.pulls.items():
            pull = tally.in_bins(values)[number]
            if kind == "place x" or pull.size < LEAST_FOUND:
                continue
            if tell:
                print(f"{name}: S/N {s:4.1f}, {100 * share:5.1f} % found, {kind}: mean pull {pull.mean():+.2f} of at "
                      f"most {most:.2f}, width {pull.std():.2f}")  # fmt: skip
            beyond = max(beyond, float(pull.mean()) - most, -float(pull.mean()))
    return beyond


def worst_pulls(
    tally: Tally, pulls: Mapping[str, list[np.ndarray]], chosen: np.ndarray
) -> tuple[float, float]:
    """Return the largest mean, and the largest distance of the width from 1, of all fluxes and bins."""
    bins = [
        one
        for values in pulls.values()
        for one, take in zip(tally.in_bins(values), chosen, strict=True)
        if take
    ]
    return (
        max(abs(float(one.mean())) for one in bins),
        max(abs(float(one.std()) - 1.0) for one in bins),
    )


if __name__ == "__main__":
    main()
