"""Where pictures point: simulated lists of sources all over the sky, random points, and real frames.

Needs: a lake with the catalog Tycho-2 of Debian (`--lake`; the index is built if it is missing). The peers are run if
they are there: `solve-field` (Debian's astrometry.net) and PyPI's `astrometry`, both with the index files in the
folder of `--indexes` (Debian's astrometry-data-tycho2, scales 07 to 19). Real frames are those of the folder in the
environment variable SKYLAKE_REAL_DATA. Takes half an hour of two processors, `--quick` three minutes.

Lists: pictures all over the sky, 0.7 to 40 degrees wide, evenly in the logarithm, of any rotation and parity; 30 % of
the stars missing, 30 % of the sources spurious, magnitudes off by 0.3, a distortion of order 5 of 2 % at the corner,
an axis beside the middle, centroids off by 0.15 px; the pointing is unknown, the scale known to 20 %. Wrong is a
solution that is off by more than 5 px in the median over the picture. Random lists have the same numbers of points.

Times are seconds of the processor, warm, of the search or the refinement alone, with one thread of the linear algebra
as on the workers; those of `solve-field` are of its whole process. Both peers bend their WCS by SIP polynomials within
that time; beside our refinement stands astropy's `fit_wcs_from_points` with SIP of order 3, on the same pairs.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

# Before numpy is loaded.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import numpy as np
from claims import Claim, conclude
from listtrials import BLIND, LOST, PRIOR, RANDOM, WAYS, hinted, opened, sky_of, trials
from solvers import Solver, ToSky, peers
from starfields import SIDE, List

from skylake import cameras
from skylake.core.sphere import ra_dec
from skylake.flow.astrometry.refine_solutions import Refiner
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.solving.solution_header import wcs_header
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, solve
from skylake.image.solving.source_list import StarList, star_list
from skylake.sky.asterism_index import AsterismIndex

WRONG_PX = 5.0
#: Scale in arcsec, and the largest rms about the lens in pixels.
REAL = {"widefield": (40.3, 0.35), "skycamz": (3.57, 0.25)}
#: Lists that a process draws and solves at a time.
_TOGETHER = 20
_HEADING = "solved, wrong, seconds in the median, 90 %, largest, error in the median [px]"


def main() -> None:
    """Solve, and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--catalog", default="tycho2")
    parser.add_argument("--lists", type=int, default=1000)
    parser.add_argument("--peer-lists", type=int, default=20, help="lists that the peers solve too")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--indexes", type=Path, default=Path("/usr/share/astrometry"), help="index files of the peers"
    )
    parser.add_argument("--only", choices=["simulated", "peers", "real"])
    parser.add_argument("--quick", action="store_true", help="100 lists, and 4 for the peers")
    options = parser.parse_args()
    if options.quick:
        options.lists, options.peer_lists = min(options.lists, 100), min(options.peer_lists, 4)
    _, index = opened(options.lake, options.catalog)
    others = {} if options.only == "simulated" else peers(options.indexes)
    claims: list[Claim] = []
    if options.only in (None, "peers"):
        lists = [sky_of(options.lake, options.catalog).draw(seed) for seed in range(options.peer_lists)]
        claims += beside_peers(index, lists, others)
    if options.only in (None, "simulated"):
        claims += simulated(options.lake, options.catalog, options.lists, options.processes)
    if options.only in (None, "real") and "SKYLAKE_REAL_DATA" in os.environ:
        claims += real(options.lake, options.catalog, Path(os.environ["SKYLAKE_REAL_DATA"]), others)
    conclude(claims)


def simulated(lake: Path, catalog: str, n: int, processes: int) -> list[Claim]:
    """Solve simulated lists in several ways, and lists of random points, by several processes."""
    import dask

    ways = tuple(WAYS)
    parts = [range(first, min(first + _TOGETHER, n)) for first in range(0, n, _TOGETHER)]
    tasks = [dask.delayed(trials)(lake, catalog, part, ways) for part in parts]
    rows = np.concatenate(dask.compute(*tasks, scheduler="processes", num_workers=processes))
    print(f"\n{n} drawn lists, {_HEADING}")
    found = {way: rows[:, place].T for place, way in enumerate(ways)}
    for way in ways:
        show(way, found[way][2], found[way][4], found[way][5])
    by_width(*found[BLIND][[0, 1, 4]])
    odds, accepted = found[RANDOM][3], int(np.isfinite(found[RANDOM][4]).sum())
    print(f"random points: largest log odds {odds.max():.1f}")
    errors = found[BLIND][4]
    drawn = [found[way] for way in ways if way != RANDOM]
    refined = np.concatenate([rows[5] for rows in drawn])
    wrong = int((refined > WRONG_PX).sum())
    off = np.nanquantile(refined, [0.5, 0.99])
    print(f"after refinement: {off[0]:.2f} px in the median, 99 % within {off[1]:.2f} px")
    return [
        Claim("lists not solved [%]", 100.0 * float(np.isnan(errors).mean()), None, 1.0),
        Claim(f"wrong solutions of {3 * n}", float(wrong), None, 0.0),
        Claim(f"of {n} lists of random points solved", float(accepted), None, 0.0),
        *[
            Claim(f"seconds, {way}, median", float(np.median(found[way][2])), None, limit)
            for way, limit in ((PRIOR, 0.05), (BLIND, 0.5), (LOST, 0.5))
        ],
    ]


def by_width(widths: np.ndarray, stars: np.ndarray, errors: np.ndarray) -> None:
    """Print how many lists are solved in ranges of the width, and which narrow ones are not."""
    for low, high in ((0.7, 0.85), (0.85, 1.2), (1.2, 3.0), (3.0, 10.0), (10.0, 41.0)):
        rows = (widths >= low) & (widths < high)
        print(f"  {low:g} to {high:g} degrees: {(~np.isnan(errors[rows])).sum()} of {rows.sum()}")
    for seed in np.flatnonzero(np.isnan(errors)):
        print(f"  unsolved: list {seed}, {widths[seed]:.2f} degrees, {stars[seed]:.0f} stars in it")


def show(what: str, seconds: np.ndarray, errors: np.ndarray, refined: np.ndarray | None = None) -> None:
    """Print a line of the table; what is wrong is told after refinement, where there is one."""
    judged = errors if refined is None else refined
    solved = ~np.isnan(errors)
    spread = " ".join(f"{value:.4f}" for value in np.quantile(seconds, [0.5, 0.9, 1.0]))
    middle = np.median(errors[solved]) if solved.any() else np.nan
    print(f"{what}: {solved.sum()} of {len(errors)}, {(judged > WRONG_PX).sum()}, {spread}, {middle:.2f}")


def ours(index: AsterismIndex) -> Solver:
    """Return our solver in the form of the peers'."""

    def run(sources: StarList, params: SolveParams) -> tuple[float, ToSky | None]:
        began = time.process_time()
        found = solve(index.bands, sources.x, sources.y, sources.flux, sources.shape, params)
        return time.process_time() - began, found.to_sky if isinstance(found, Solution) else None

    return run


def beside_peers(index: AsterismIndex, lists: list[List], others: dict[str, Solver]) -> list[Claim]:
    """Solve some drawn lists by us and by the peers."""
    print(f"\n{len(lists)} drawn lists by each solver, {_HEADING}")
    medians: dict[str, list[float]] = {}
    sources = [
        StarList(drawn.x, drawn.y, drawn.flux, np.full(len(drawn.x), np.nan), (SIDE, SIDE)) for drawn in lists
    ]
    for way in (BLIND, PRIOR):
        for name, run in ({"skylake": ours(index)} | others).items():
            run(sources[0], WAYS[way](lists[0]))  # compiles, and reads indexes
            rows = []
            for drawn, one in zip(lists, sources, strict=True):
                seconds, to_sky = run(one, WAYS[way](drawn))
                rows.append((seconds, np.nan if to_sky is None else drawn.error_px(to_sky)))
            taken, errors = np.array(rows).T
            show(f"{name}, {way}", taken, errors)
            medians.setdefault(way, []).append(float(np.median(taken)))
    return [
        Claim(f"seconds beside peers, {way}, median", own, min(rest) if rest else None, limit)
        for (way, (own, *rest)), limit in zip(medians.items(), (0.5, 0.05), strict=True)
    ]


def real(lake: Path, name: str, folder: Path, others: dict[str, Solver]) -> list[Claim]:
    """Solve and refine real frames of which nothing but the scale is known, to 20 %."""
    profile, claims = cameras.load("generic"), []
    catalog, index = opened(lake, name)
    refiner = Refiner(catalog, index.magnitude.removeprefix("mag_"))
    print("\nreal frames, solver: solved; seconds blind and with a prior of 1 degree, median and largest")
    for camera, (scale, most_px) in REAL.items():
        paths = sorted((folder / camera).glob("*.fits.gz"))
        found = [star_list(open_stored(read_file(path)), profile.base) for path in paths]
        rows = {solver: on_frames(run, found, scale) for solver, run in ({"": ours(index)} | others).items()}
        for solver, (solved, blind, near) in rows.items():
            print(
                f"{camera}, {solver or 'skylake'}: {solved} of {len(paths)}; {spread(blind)}; {spread(near)}"
            )
        refined = [refine(index, refiner, sources, scale) for sources in found]
        seconds, rms, held_out, by_astropy = np.array(refined).T
        print(
            f"{camera}, refinement: {spread(seconds)} s, rms {np.nanmin(rms):.3f} to {np.nanmax(rms):.3f} px, "
            f"held-out stars {np.nanmin(held_out):.3f} to {np.nanmax(held_out):.3f} px; astropy {spread(by_astropy)} s"
        )
        best = [
            min((float(np.median(row[i])) for key, row in rows.items() if key), default=None) for i in (1, 2)
        ]
        claims += [
            Claim(f"{camera}: frames not solved and refined", float(np.isnan(rms).sum()), None, 0.0),
            Claim(f"{camera}: seconds blind, largest", float(rows[""][1].max()), best[0], 0.5),
            Claim(f"{camera}: seconds with a prior, largest", float(rows[""][2].max()), best[1], 0.05),
            Claim(f"{camera}: seconds of refinement, median", float(np.nanmedian(seconds)),
                  float(np.nanmedian(by_astropy)), 0.1),
            Claim(f"{camera}: largest rms [px]", float(np.nanmax(rms)), None, most_px),
        ]  # fmt: skip
    return claims


def spread(seconds: np.ndarray) -> str:
    """Return the median and the largest of some times."""
    return f"{np.nanmedian(seconds):.4f} {np.nanmax(seconds):.4f}"


def on_frames(run: Solver, found: list[StarList], scale: float) -> tuple[int, np.ndarray, np.ndarray]:
    """Return how many frames a solver solves, and its seconds blindly and with a prior."""
    run(found[0], hinted(scale))  # compiles, and reads indexes
    blind, near, solved = [], [], 0
    for sources in found:
        seconds, to_sky = run(sources, hinted(scale))
        blind.append(seconds)
        if to_sky is None:
            continue
        solved += 1
        height, width = sources.shape
        centre = to_sky(np.array([0.5 * width]), np.array([0.5 * height]))
        ra, dec = (float(value[0]) for value in centre)
        near.append(run(sources, hinted(scale, centre=(ra, dec), radius_deg=1.0))[0])
    return solved, np.array(blind), np.array(near or [np.nan])


def refine(
    index: AsterismIndex, refiner: Refiner, found: StarList, scale: float
) -> tuple[float, float, float, float]:
    """Return CPU seconds of fitting the lens, its rms and that held out, and seconds of astropy's fit."""
    answer = solve(index.bands, found.x, found.y, found.flux, found.shape, hinted(scale))
    if not isinstance(answer, Solution):
        return np.nan, np.nan, np.nan, np.nan
    header = wcs_header(answer)
    refiner.refine(header, found, None, answer)  # reads the catalog, and compiles
    began = time.process_time()
    better = refiner.refine(header, found, None, answer)
    seconds = time.process_time() - began
    if better is None:
        return seconds, np.nan, np.nan, np.nan
    lens = better.pointing.refinement
    return seconds, lens.rms_px, lens.held_out_px, astropy_seconds(lens, answer)


def astropy_seconds(lens: object, answer: Solution) -> float:
    """Return CPU seconds of astropy's fit of SIP polynomials of order 3 to the pairs of a refinement."""
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import fit_wcs_from_points

    pairs = lens.pairs
    sky = SkyCoord(*ra_dec(pairs.vectors), unit="deg")
    began = time.process_time()
    fit_wcs_from_points((pairs.x, pairs.y), sky, SkyCoord(*answer.centre, unit="deg"), "TAN", 3)
    return time.process_time() - began


if __name__ == "__main__":
    main()
