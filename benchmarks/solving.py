"""Plate solving beside `solve-field` and the package `astrometry`, on simulated lists of sources and on real frames.

Needs: a lake with the catalog Tycho-2 of Debian (`--lake`; the index is built if it is missing). The peers are run if
they are there: `solve-field` (Debian's astrometry.net) and PyPI's `astrometry`, both with the index files in the
folder of `--indexes` (Debian's astrometry-data-tycho2, scales 07 to 19). Real frames are those of the folder in the
environment variable SKYLAKE_REAL_DATA. Takes some minutes, `--quick` half of one.

Lists: pictures all over the sky, 0.7 to 40 degrees wide, evenly in the logarithm, of any rotation and parity; 30 % of
the stars missing, 30 % of the sources spurious, magnitudes off by 0.3, a distortion of 2 % at the corner, centroids
off by 0.15 px; the pointing is unknown, the scale known to 20 %. Wrong is a solution that is off by more than 5 px in
the median over the picture. Random lists have the same numbers of points.

Times are seconds of the processor, warm, of the search or the refinement alone; those of `solve-field` are of its
whole process.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
from claims import Claim, conclude
from starfields import SIDE, List, Sky

from skylake import cameras
from skylake.core.sphere import ra_dec, unit_vectors
from skylake.flow import astrometrynet
from skylake.flow.refining import Refiner
from skylake.image.read import open_stored, read_file
from skylake.image.solve import Solution, SolveParams, solve
from skylake.image.solvewcs import wcs_header
from skylake.image.starlist import StarList, star_list
from skylake.lake import Lake
from skylake.sky.asterism_index import AsterismIndex, ensure_index
from skylake.sky.catalogs import ReferenceCatalog
from skylake.sky.cone import read_cone

WRONG_PX = 5.0
UNCERTAINTY = 1.2
#: Scale in arcsec, and the largest rms about the lens in pixels.
REAL = {"widefield": (40.3, 0.35), "skycamz": (3.57, 0.25)}


def main() -> None:
    """Solve, and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--catalog", default="tycho2")
    parser.add_argument("--lists", type=int, default=1000)
    parser.add_argument("--peer-lists", type=int, default=20, help="lists that the peers solve too")
    parser.add_argument(
        "--indexes", type=Path, default=Path("/usr/share/astrometry"), help="index files of the peers"
    )
    parser.add_argument("--only", choices=["simulated", "real"])
    parser.add_argument("--quick", action="store_true", help="100 lists, and 4 for the peers")
    options = parser.parse_args()
    if options.quick:
        options.lists, options.peer_lists = min(options.lists, 100), min(options.peer_lists, 4)
    catalog = ReferenceCatalog.open(Lake(options.lake).snapshot().catalog(options.catalog))
    index = ensure_index(catalog, print)
    claims: list[Claim] = []
    if options.only != "real":
        claims += simulated(index, sky_of(catalog, index), options.lists, options.peer_lists, options.indexes)
    if options.only != "simulated" and "SKYLAKE_REAL_DATA" in os.environ:
        claims += real(index, catalog, Path(os.environ["SKYLAKE_REAL_DATA"]), options.indexes)
    conclude(claims)


def sky_of(catalog: ReferenceCatalog, index: AsterismIndex) -> Sky:
    """Return all stars of a catalog."""
    stars = read_cone(catalog.root, 0.0, 90.0, 180.0, ["ra_deg", "dec_deg", index.magnitude])
    return Sky(
        unit_vectors(stars["ra_deg"], stars["dec_deg"]), stars[index.magnitude].to_numpy().astype(float)
    )


def hinted(scale: float, **hints: object) -> SolveParams:
    """Return what is known of a picture: its scale to 20 %, and hints."""
    return SolveParams(scale_low=scale / UNCERTAINTY, scale_high=scale * UNCERTAINTY, **hints)


def timed(index: AsterismIndex, drawn: List, params: SolveParams) -> tuple[float, float, float]:
    """Return CPU seconds, log odds, and the error in pixels (NaN if unsolved)."""
    began = time.process_time()
    found = solve(index.bands, drawn.x, drawn.y, drawn.flux, (SIDE, SIDE), params)
    seconds = time.process_time() - began
    return seconds, found.log_odds, drawn.error_px(found.to_sky) if isinstance(found, Solution) else np.nan


def simulated(index: AsterismIndex, sky: Sky, n: int, n_peer: int, folder: Path) -> list[Claim]:
    """Solve simulated lists, and lists of random points."""
    lists = [sky.draw(seed) for seed in range(n)]
    timed(index, lists[0], hinted(lists[0].scale_arcsec))  # compiles
    ways = {
        "scale to 20 %": lambda drawn: hinted(drawn.scale_arcsec),
        "nothing known": lambda _: SolveParams(),
        "pointing to 1 degree, scale to 20 %": lambda drawn: hinted(
            drawn.scale_arcsec, centre=centre(drawn), radius_deg=1.0
        ),
    }
    results = {}
    print("way: solved, wrong, seconds in the median, 90 %, largest, error of all in the median [px]")
    for way, params in ways.items():
        seconds, _, errors = np.array([timed(index, drawn, params(drawn)) for drawn in lists]).T
        results[way] = seconds, errors
        show(way, seconds, errors)
    by_width(lists, results["scale to 20 %"][1])
    peers = peer_times(lists[:n_peer], folder)
    random = [
        timed(index, scattered(drawn, seed), hinted(drawn.scale_arcsec)) for seed, drawn in enumerate(lists)
    ]
    seconds, odds, _ = np.array(random).T
    print(f"random points: largest log odds {odds.max():.1f}, most seconds {seconds.max():.2f}")
    accepted = sum(not np.isnan(row[2]) for row in random)
    errors = results["scale to 20 %"][1]
    median = {way: float(np.median(found[0])) for way, found in results.items()}
    return [
        Claim("lists not solved [%]", 100.0 * np.isnan(errors).mean(), None, 1.0),
        Claim("wrong solutions", float(sum((found[1] > WRONG_PX).sum() for found in results.values())), None, 0.0),
        Claim("lists of random points solved", float(accepted), None, 0.0),
        Claim("seconds with a prior, median", median["pointing to 1 degree, scale to 20 %"], None, 0.05),
        Claim("seconds blind, scale to 20 %, median", median["scale to 20 %"], peers, 0.5),
        Claim("seconds blind, nothing known, median", median["nothing known"], None, 0.5),
    ]  # fmt: skip


def centre(drawn: List) -> tuple[float, float]:
    """Return where a picture points."""
    ra, dec = ra_dec(drawn.rotation[2])
    return float(ra), float(dec)


def scattered(drawn: List, seed: int) -> List:
    """Return a list with as many random points."""
    x, y = np.random.default_rng([seed, 1]).uniform(-0.5, SIDE - 0.5, (2, len(drawn.x)))
    return List(
        x, y, drawn.flux, drawn.width_deg, drawn.focal_px, drawn.rotation, drawn.parity, drawn.distortion, 0
    )


def show(way: str, seconds: np.ndarray, errors: np.ndarray) -> None:
    """Print a line of the table."""
    solved = ~np.isnan(errors)
    spread = " ".join(f"{value:.4f}" for value in np.quantile(seconds, [0.5, 0.9, 1.0]))
    middle = np.median(errors[solved]) if solved.any() else np.nan
    print(f"{way}: {solved.sum()} of {len(errors)}, {(errors > WRONG_PX).sum()}, {spread}, {middle:.2f}")


def by_width(lists: list[List], errors: np.ndarray) -> None:
    """Print how many lists are solved in ranges of the width."""
    widths = np.array([drawn.width_deg for drawn in lists])
    for low, high in ((0.7, 0.85), (0.85, 1.2), (1.2, 3.0), (3.0, 10.0), (10.0, 41.0)):
        rows = (widths >= low) & (widths < high)
        print(f"  {low:g} to {high:g} degrees: {(~np.isnan(errors[rows])).sum()} of {rows.sum()}")


def peer_times(lists: list[List], folder: Path) -> float | None:
    """Solve some lists by the peers; return the smaller median of their seconds."""
    found = []
    files = sorted(folder.glob("index-*.fits"))
    for name, run in peers(files, folder).items():
        rows = []
        for drawn in lists:
            sources = StarList(drawn.x, drawn.y, drawn.flux, np.full(len(drawn.x), np.nan), (SIDE, SIDE))
            seconds, to_sky = run(sources, hinted(drawn.scale_arcsec))
            rows.append((seconds, np.nan if to_sky is None else drawn.error_px(to_sky)))
        seconds, errors = np.array(rows).T
        show(f"{name}, scale to 20 %", seconds, errors)
        found.append(float(np.median(seconds)))
    return min(found) if found else None


def peers(files: list[Path], folder: Path) -> dict[str, object]:
    """Return the peers that are installed."""
    found: dict[str, object] = {}
    if files and importlib.util.find_spec("astrometry"):
        found["astrometry"] = package(files)
    if files and shutil.which("solve-field"):
        found["solve-field"] = partial(program, folder)
    return found


def package(files: list[Path]) -> object:
    """Return a function that solves by the package `astrometry`, whose pixels begin at 1."""
    import astrometry

    solver = astrometry.Solver(files)

    def run(sources: StarList, params: SolveParams) -> tuple[float, object]:
        order = np.argsort(-sources.flux)
        stars = np.column_stack([sources.x, sources.y])[order][:200] + 1.0
        began = time.process_time()
        answer = solver.solve(
            stars=stars, size_hint=astrometry.SizeHint(params.scale_low, params.scale_high), position_hint=None,
            solution_parameters=astrometry.SolutionParameters(
                logodds_callback=lambda _: astrometry.Action.STOP, slices_generator=lambda n: [(0, min(n, 80))]
            ),
        )  # fmt: skip
        seconds = time.process_time() - began
        if not answer.has_match():
            return seconds, None
        wcs = answer.best_match().astropy_wcs()
        return seconds, lambda x, y: wcs.all_pix2world(x, y, 0)

    return run


def program(folder: Path, sources: StarList, params: SolveParams) -> tuple[float, object]:
    """Solve by `solve-field`."""
    from astropy.wcs import WCS

    from skylake.errors import FrameRejected

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        answered = astrometrynet.solve_list(sources, params, folder)
    except FrameRejected:
        answered = None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, None if answered is None else (lambda x, y: WCS(answered.header).all_pix2world(x, y, 0))


def real(index: AsterismIndex, catalog: ReferenceCatalog, folder: Path, indexes: Path) -> list[Claim]:
    """Solve and refine real frames of which nothing but the scale is known, to 20 %."""
    profile, claims = cameras.load("generic"), []
    refiner = Refiner(catalog, index.magnitude.removeprefix("mag_"))
    for camera, (scale, most_px) in REAL.items():
        paths = sorted((folder / camera).glob("*.fits.gz"))
        found = [star_list(open_stored(read_file(path)), profile.base) for path in paths]
        for name, run in peers(sorted(indexes.glob("index-*.fits")), indexes).items():
            answers = [run(sources, hinted(scale)) for sources in found]
            solved = sum(answer[1] is not None for answer in answers)
            seconds = np.median([row[0] for row in answers])
            print(f"{camera}, {name}: {solved} of {len(paths)}, {seconds:.3f} s")
        solve_and_refine(index, refiner, found[0], scale)  # compiles
        blind, near, refining, rms, held_out = np.array(
            [solve_and_refine(index, refiner, sources, scale) for sources in found]
        ).T
        solved = int(np.isfinite(rms).sum())
        print(
            f"{camera}: {solved} of {len(paths)}, blind {np.median(blind):.4f} s, near {np.median(near):.4f} s, "
            f"refined in {np.median(refining):.3f} s, rms {np.nanmin(rms):.3f} to {np.nanmax(rms):.3f} px, "
            f"held-out stars {np.nanmin(held_out):.3f} to {np.nanmax(held_out):.3f} px"
        )
        claims += [
            Claim(f"{camera}: frames not solved and refined", float(len(paths) - solved), None, 0.0),
            Claim(f"{camera}: seconds blind, largest", float(np.max(blind)), None, 0.5),
            Claim(f"{camera}: seconds with a prior, largest", float(np.nanmax(near)), None, 0.05),
            Claim(f"{camera}: seconds of refinement, median", float(np.nanmedian(refining)), None, 0.1),
            Claim(f"{camera}: largest rms [px]", float(np.nanmax(rms)), None, most_px),
        ]
    return claims


def solve_and_refine(
    index: AsterismIndex, refiner: Refiner, found: StarList, scale: float
) -> tuple[float, float, float, float, float]:
    """Return CPU seconds of a blind solution, of one within a degree, and of the lens; its rms and that held out."""
    began = time.process_time()
    answer = solve(index.bands, found.x, found.y, found.flux, found.shape, hinted(scale))
    blind = time.process_time() - began
    if not isinstance(answer, Solution):
        return blind, np.nan, np.nan, np.nan, np.nan
    began = time.process_time()
    solve(
        index.bands,
        found.x,
        found.y,
        found.flux,
        found.shape,
        hinted(scale, centre=answer.centre, radius_deg=1.0),
    )
    near = time.process_time() - began
    header = wcs_header(answer)
    refiner.refine(header, found, None, answer)  # reads the catalog
    began = time.process_time()
    better = refiner.refine(header, found, None, answer)
    refining = time.process_time() - began
    if better is None:
        return blind, near, refining, np.nan, np.nan
    return blind, near, refining, better.pointing.refinement.rms_px, better.pointing.refinement.held_out_px


if __name__ == "__main__":
    main()
