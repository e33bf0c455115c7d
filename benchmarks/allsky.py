"""The geometry of a fisheye camera found from one frame, its site and its time alone.

Needs no peer: there is none that does this without a template of the camera. The real frame and the catalog of
bright stars are found through the environment variable SKYLAKE_REAL_DATA; without it a drawn sky is used and the frame
is left out. Takes about ten minutes of two processors, `--quick` two.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from time import process_time, thread_time

import numpy as np
from claims import Claim, conclude
from scipy.spatial import cKDTree
from skylists import SkyListParams, draw_fisheye, draw_list, draw_real_lens, draw_twilight

from skylake.cameras import load
from skylake.core.camera import Site
from skylake.core.horizon import Horizon
from skylake.core.sphere import ra_dec, unit_vectors
from skylake.errors import FrameRejected
from skylake.flow.astrometry.all_sky_frames import measure_sky_frame
from skylake.image.allsky.horizon_search import SearchParams
from skylake.image.allsky.refine_geometry import DetectedPlaces
from skylake.image.allsky.solve_allsky import AllSkySolution, solve_all_sky
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.simulate.whole_sky import draw_stars

SHAPE = (1040, 1392)
NOISE_PX = 0.25
PARAMS = SearchParams()


@dataclass(frozen=True, slots=True)
class Catalog:
    """Stars of the whole sky: unit vectors of J2000, and V."""

    vectors: np.ndarray
    mag: np.ndarray

    def stars(self, limit: float) -> CatalogStars:
        """Return the stars brighter than a limit."""
        bright = self.mag < limit
        return CatalogStars(*ra_dec(self.vectors[bright]), self.mag[bright])


def main() -> None:
    """Print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer lists")
    parser.add_argument("--lists", type=int, help="lists of random points")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=["real", "simulated", "twilight", "random", "wrong"])
    options = parser.parse_args()
    data = os.environ.get("SKYLAKE_REAL_DATA")
    catalog = read_catalog(Path(data)) if data else Catalog(*draw_stars(np.random.default_rng(0), 8.0))
    claims: list[Claim] = []
    if data and options.only in (None, "real"):
        claims += real_frame(Path(data), catalog)
    if options.only in (None, "simulated"):
        claims += simulated(catalog, 4 if options.quick else 12)
    if options.only in (None, "twilight"):
        claims += twilight(catalog, 10 if options.quick else 60)
    if options.only in (None, "random"):
        claims += random_lists(catalog, options.lists or (20 if options.quick else 200), options.processes)
    if options.only in (None, "wrong"):
        claims += wrong(catalog, 2 if options.quick else 6)
    conclude(claims)


def read_catalog(data: Path) -> Catalog:
    """Read the bright stars of the whole sky, at the epoch of the real frame."""
    import pyarrow.parquet as pq

    table = pq.read_table(
        data / "catalogs" / "bigsky_v11.parquet", columns=["ra", "dec", "pmra", "pmdec", "V"]
    )
    ra, dec, pmra, pmdec, mag = (table[name].to_numpy() for name in table.column_names)
    years = 18.6
    dec_now = dec + years * np.nan_to_num(pmdec) / 3.6e6
    ra_now = ra + years * np.nan_to_num(pmra) / 3.6e6 / np.cos(np.radians(dec))
    return Catalog(unit_vectors(ra_now, dec_now), mag)


def real_frame(data: Path, catalog: Catalog) -> list[Claim]:
    """Solve the real frame, and count stars as others did."""
    profile = load("allsky-magic")
    begin = process_time()
    frame = measure_sky_frame(data / "allsky_magic" / "20180817_0055.fits.gz", profile)
    print(
        f"\nreal frame: {len(frame.detected.flux)} sources in {process_time() - begin:.1f} s of the processor"
    )
    stars = catalog.stars(9.0)
    seconds = []
    for _ in range(4):
        begin = thread_time()
        solution = solve(frame.detected, frame.shape, frame.fwhm_px, stars, frame.horizon)
        seconds.append(thread_time() - begin)
    assert isinstance(solution, AllSkySolution)
    for name, value in solution.report().items():
        print(f"  {name:12s} {value}")
    print(f"  {'warm':12s} {min(seconds[1:]):.2f} s of the processor")
    bright = catalog.mag < 5.5
    view, horizon = solution.view, frame.horizon
    above = horizon.to_horizon(catalog.vectors)[:, 2] > np.sin(np.radians(15.0))
    chosen = catalog.vectors[bright & above]
    pixels = np.stack(view.to_pixels(chosen), axis=1)
    tree = cKDTree(frame.detected.places)
    print(f"  {len(chosen)} stars of V < 5.5 above 15 degrees")
    for radius in (0.5, 1.0, 1.5, 2.0):
        distance = mutual(tree, pixels, radius)
        each = rms(distance) / 2**0.5
        print(
            f"  within {radius:3.1f} px: {len(distance)}, rms {rms(distance):.3f} px, in a coordinate {each:.3f}"
        )
    shifted = [len(mutual(tree, pixels + 25.0 * np.array([np.cos(a), np.sin(a)]), 2.0)) for a in range(12)]
    print(f"  within 2 px by chance (all moved by 25 px): {np.mean(shifted):.0f}")
    near = np.sort(distance)[:636]
    return [
        Claim("stars of V < 5.5 within 2 px, short of 636", max(0, 636 - len(distance)), 0, 0),
        Claim("rms of the pairs within 2 px in a coordinate [px]", rms(distance) / 2**0.5, 0.32, 0.32),
        Claim("rms of the 636 nearest, both coordinates [px]", rms(near), 0.32, 0.32),
        Claim("rms of stars held out, both coordinates [px]", solution.held_out_px, None, 0.45),
        Claim("seconds of the processor for a solution, warm", min(seconds[1:]), None, 2.0),
    ]


def mutual(tree: cKDTree, pixels: np.ndarray, radius: float) -> np.ndarray:
    """Return the distances of stars and detections that are each other's nearest within a radius."""
    distance, nearest = tree.query(pixels, distance_upper_bound=radius)
    _, back = cKDTree(pixels).query(tree.data)
    found = np.isfinite(distance)
    return distance[found][back[nearest[found]] == np.flatnonzero(found)]


def rms(values: np.ndarray) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(values**2)))


def solve(
    detected: DetectedPlaces, shape: tuple[int, int], fwhm_px: float, stars: CatalogStars, horizon: Horizon
) -> AllSkySolution | str:
    """Return the solution of a frame, or why there is none."""
    try:
        return solve_all_sky(detected, shape, fwhm_px, stars, horizon, PARAMS)
    except FrameRejected as error:
        return str(error)


def detected_from(places: np.ndarray, flux: np.ndarray) -> DetectedPlaces:
    return DetectedPlaces(places, np.full(len(flux), NOISE_PX), flux)


def draw_scene(catalog: Catalog, seed: int, trees: int = 0) -> tuple:
    """Draw a site, a time, a lens, and what it shows."""
    random = np.random.default_rng(seed)
    site = Site("", random.uniform(-180, 180), random.uniform(-60, 60), random.uniform(0, 4000))
    mjd = random.uniform(55000, 61000)
    horizon, bright = Horizon.of(mjd, site), catalog.mag < 6.5
    directions, mag = horizon.to_horizon(catalog.vectors[bright]), catalog.mag[bright]
    fisheye = draw_fisheye(random, SHAPE)
    drawn = SkyListParams(noise_px=NOISE_PX, n_trees=trees)
    places, flux = draw_list(random, fisheye, SHAPE, directions, mag, drawn)
    return site, mjd, horizon, fisheye, detected_from(places, flux)


def simulated(catalog: Catalog, number: int) -> list[Claim]:
    """Solve drawn fisheyes, and compare with the truth above 15 degrees."""
    grid = np.random.default_rng(5).normal(size=(8000, 3))
    grid /= np.linalg.norm(grid, axis=1, keepdims=True)
    grid = grid[grid[:, 2] > np.sin(np.radians(15.0))]
    print(
        "\nseed, kind, field, tilt, mirrored, detections, log odds, order, matched, rms and largest error [px], s"
    )
    errors, unsolved, seconds = [], 0, []
    for seed in range(number):
        _, _, horizon, fisheye, detected = draw_scene(catalog, seed, 150 if seed % 2 else 0)
        begin = thread_time()
        # Positions without width: neighbours do not shift them.
        solution = solve(detected, SHAPE, 0.01, catalog.stars(6.5), horizon)
        seconds.append(thread_time() - begin)
        text = f"{seed:4d} {fisheye.kind:13s} {fisheye.field_deg:5.0f} {fisheye.tilt_deg:5.1f} {fisheye.mirrored!s:5s}"
        if isinstance(solution, str):
            unsolved += 1
            print(f"{text} {len(detected.flux)} {solution}")
            continue
        truth = fisheye.to_pixels(grid)
        x, y = truth.T
        inside = (x > 0) & (x < SHAPE[1] - 1) & (y > 0) & (y < SHAPE[0] - 1)
        off = np.hypot(*(np.stack(solution.view.lens.to_pixels(grid)) - truth.T)[:, inside])
        errors.append(rms(off))
        print(
            f"{text} {len(detected.flux):5d} {solution.log_odds:6.0f} {solution.order:3d} "
            f"{len(solution.residuals.x):5d} {errors[-1]:.3f} {off.max():.3f} {seconds[-1]:.2f}"
        )
    return [
        Claim(f"unsolved of {number} fisheyes", unsolved, None, 0),
        Claim("largest rms of the geometry above 15 degrees [px]", max(errors, default=np.inf), None, 0.1),
        Claim("median seconds of the processor for a solution", float(np.median(seconds)), None, 2.0),
    ]


def draw_bright_scene(catalog: Catalog, seed: int) -> tuple:
    """Draw a site, a time, a lens that is none of the ideal ones, and what it shows in twilight with the Moon up."""
    random = np.random.default_rng([7, seed])
    site = Site("", random.uniform(-180, 180), random.uniform(-60, 60), random.uniform(0, 4000))
    mjd = random.uniform(55000, 61000)
    horizon, seen = Horizon.of(mjd, site), catalog.mag < 7.0
    fisheye, bright = draw_real_lens(random, SHAPE), draw_twilight(random)
    drawn = SkyListParams(
        limit_mag=random.uniform(4.3, 6.3),
        missing=random.uniform(0.05, 0.3),
        n_spurious=int(random.integers(10, 150)),
        noise_px=random.uniform(0.1, 0.4),
        cloud_mag=random.choice([0.0, 0.0, 1.0, 2.5]),
        twilight=bright,
    )
    directions = horizon.to_horizon(catalog.vectors[seen])
    places, flux = draw_list(random, fisheye, SHAPE, directions, catalog.mag[seen], drawn)
    n_false = bright.n_flares + bright.n_lights + bright.n_planets + drawn.n_spurious
    return site, mjd, horizon, fisheye, detected_from(places, flux), n_false


def twilight(catalog: Catalog, number: int) -> list[Claim]:
    """Solve frames with few stars and many false lights, and offer some of them with a wrong time."""
    grid = np.random.default_rng(5).normal(size=(8000, 3))
    grid /= np.linalg.norm(grid, axis=1, keepdims=True)
    grid = grid[grid[:, 2] > np.sin(np.radians(15.0))]
    stars, solved, wrong_ones, seconds = catalog.stars(6.5), 0, 0, []
    print("\nseed, kind, bend, detections, of them at most so many false, log odds, error [px], s")
    for seed in range(number):
        site, mjd, horizon, fisheye, detected, n_false = draw_bright_scene(catalog, seed)
        begin = thread_time()
        solution = solve(detected, SHAPE, 0.01, stars, horizon)
        seconds.append(thread_time() - begin)
        text = f"{seed:4d} {fisheye.kind:13s} {fisheye.bend:+.3f} {len(detected.flux):5d} {n_false:4d}"
        if seed % 5 == 0:
            late = solve(detected, SHAPE, 0.01, stars, Horizon.of(mjd + 3.0 / 24.0, site))
            wrong_ones += isinstance(late, AllSkySolution)
        if isinstance(solution, str):
            print(f"{text} {solution}")
            continue
        truth = fisheye.to_pixels(grid)
        x, y = truth.T
        inside = (x > 0) & (x < SHAPE[1] - 1) & (y > 0) & (y < SHAPE[0] - 1)
        error = rms(np.hypot(*(np.stack(solution.view.lens.to_pixels(grid)) - truth.T)[:, inside]))
        solved, wrong_ones = solved + (error < 2.0), wrong_ones + (error >= 2.0)
        print(f"{text} {solution.log_odds:6.0f} {error:.3f} {seconds[-1]:.2f}", flush=True)
    return [
        Claim(f"unsolved of {number} frames in twilight and moonlight", number - solved, None, 0.1 * number),
        Claim("wrong of these, and of a fifth of them three hours late", wrong_ones, None, 0),
        Claim("median seconds of the processor for these", float(np.median(seconds)), None, 5.0),
    ]


def random_lists(catalog: Catalog, lists: int, processes: int) -> list[Claim]:
    """Offer random points, by several processes."""
    import dask

    stars = dask.delayed(catalog.stars(6.5))
    tasks = [dask.delayed(offer_random)(stars, number) for number in range(lists)]
    answers = dask.compute(*tasks, scheduler="processes", num_workers=processes)
    accepted, seconds = sum(taken for taken, _ in answers), [taken for _, taken in answers]
    took = f"{np.median(seconds):.2f} s of the processor each, at most {max(seconds):.2f}"
    print(f"\n{lists} lists of random points: {accepted} accepted, {took}")
    return [
        Claim(f"accepted of {lists} lists of random points", accepted, None, 0),
        Claim(
            "median seconds of the processor to reject random points", float(np.median(seconds)), None, 5.0
        ),
    ]


def offer_random(stars: CatalogStars, number: int) -> tuple[bool, float]:
    """Tell whether random points are accepted, and the seconds that this took."""
    random = np.random.default_rng([1, number])
    horizon = Horizon.of(random.uniform(55000, 60000), Site("", 10.0, random.uniform(-60, 60), 0.0))
    detected = detected_from(*random_points(random, number % 3))
    begin = thread_time()
    accepted = isinstance(solve(detected, SHAPE, 2.5, stars, horizon), AllSkySolution)
    return accepted, thread_time() - begin


def wrong(catalog: Catalog, frames: int) -> list[Claim]:
    """Offer wrong times and wrong sites."""
    lost, stars = 0, catalog.stars(6.5)
    for seed in range(frames):
        site, mjd, _, _, detected = draw_scene(catalog, seed)
        moved = Site("", site.longitude_deg, site.latitude_deg - np.copysign(45.0, site.latitude_deg), 0.0)
        for name, horizon in (
            ("3 hours late", Horizon.of(mjd + 3.0 / 24.0, site)),
            ("5 hours early", Horizon.of(mjd - 5.0 / 24.0, site)),
            ("12 hours late", Horizon.of(mjd + 0.5, site)),
            ("45 degrees off", Horizon.of(mjd, moved)),
        ):
            solution = solve(detected, SHAPE, 0.01, stars, horizon)
            taken = isinstance(solution, AllSkySolution)
            lost += taken
            why = f"ACCEPTED, tilt {solution.tilt_deg:.1f}" if taken else str(solution)
            print(f"  frame {seed}, latitude {site.latitude_deg:5.1f}, {name}: {why}")
    return [Claim(f"accepted of {4 * frames} frames with a wrong time or site", lost, None, 0)]


def random_points(random: np.random.Generator, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw points all over the image, in crowds, or along an edge, as hot columns and trees are."""
    number = int(random.integers(150, 1500))
    places = random.uniform(0.0, 1.0, (number, 2)) * [SHAPE[1] - 1, SHAPE[0] - 1]
    half = number // 2
    if kind == 1:
        middle = random.uniform(200.0, 800.0, (12, 2))
        places[:half] = middle[random.integers(12, size=half)] + random.normal(0.0, 25.0, (half, 2))
    elif kind == 2:
        places[:half, 1] = random.uniform(0.0, 120.0, half)
    return places, random.pareto(1.0, number) + 1.0


if __name__ == "__main__":
    main()
