"""Zeropoints of nights that are drawn as arrays: whether errors are honest, and how fast they are solved.

Parts of ``zeropoints.py``. All draws are seeded.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
from claims import Claim

from skylake.calibration.match_selection import Band
from skylake.calibration.zeropoints import zeropoints_table
from skylake.core.camera import Calibration, FilterBand
from skylake.core.robust import MAD_TO_SIGMA

BAND = Band(FilterBand("V", "B-V", 0.7), "aper2", Calibration(colour_range=(-0.5, 2.5)))
#: Errors of the catalog in B and in V, scatter of the stars that no error tells of, and the colour term.
CATALOG_MAG, INTRINSIC_MAG, COLOUR_TERM = 0.03, 0.02, 0.11
#: Pixels along a side of the frames.
SIZE_PX = 1024


@dataclass(frozen=True, slots=True)
class Drawn:
    """A night: its tables, and the zeropoints that are true."""

    frames: pa.Table
    matches: pa.Table
    zp: np.ndarray


def draw(seed: int, n_frames: int, n_stars: int, shared: bool, spoiled: bool) -> Drawn:
    """Draw a night of one band.

    Parameters
    ----------
    seed : int
    n_frames, n_stars : int
        Stars are those of each frame.
    shared : bool
        Whether all frames see the same stars; else each has a field of its own.
    spoiled : bool
        Whether there are clouds, grey ones and patches, 5 % variables, 3 % blends, and 5 % false matches.
    """
    random = np.random.default_rng(seed)
    frame, place = (one.ravel() for one in np.mgrid[:n_frames, :n_stars])
    star = place if shared else frame * n_stars + place
    n = int(star.max()) + 1
    true = 14.0 - random.exponential(1.5, n).clip(max=5.0)
    colour = 0.7 + 0.35 * random.standard_normal(n)
    of_v, of_b = CATALOG_MAG * random.standard_normal((2, n))
    ref_mag = true + of_v + INTRINSIC_MAG * random.standard_normal(n)
    zp = 20.0 + 0.05 * random.standard_normal(n_frames)
    mag = true[star]
    if spoiled:
        zp = zp - np.where(random.random(n_frames) < 0.3, random.exponential(0.3, n_frames), 0.0)
        mag = mag + _spoiled(random, frame, place, n_frames, n_stars, mag)
    flux = 10.0 ** (-0.4 * (mag - zp[frame] - COLOUR_TERM * (colour[star] - 0.7)))
    error = np.sqrt(0.05 + flux / 40.0)
    columns = {
        "flux_aper2": flux + error * random.standard_normal(star.size),
        "flux_aper2_err": error,
        "ref_mag": ref_mag[star],
        "ref_mag_err": np.full(star.size, CATALOG_MAG),
        "ref_colour": (colour + of_b - of_v)[star],
        "ref_colour_err": np.full(star.size, np.sqrt(2.0) * CATALOG_MAG),
        "apcor_rel_aper2": np.ones(star.size),
        "altitude_deg": np.full(star.size, np.nan),
    }
    columns |= {f"ref_{name}": np.zeros(star.size) for name in ("crowding", "crowding_err", "sky_light")}
    # One place for each star: frames of the same stars point to the same place.
    columns |= {name: random.uniform(0.0, SIZE_PX, n)[star] for name in ("x_px", "y_px")}
    matches = {"frame_id": frame + 1, "ref_id": star, "flags": np.zeros(star.size, np.int32)}
    matches |= {name: pa.array(values.astype(np.float32)) for name, values in columns.items()}
    matches |= {"crowding": np.zeros(star.size, np.float32), "is_variable": pa.nulls(star.size, pa.bool_())}
    frames = {
        "frame_id": np.arange(1, n_frames + 1),
        "camera": pa.repeat("drawn", n_frames),
        "night": np.full(n_frames, 20240101),
        "mjd_mid": 60310.0 + np.arange(n_frames) / 5000.0,
        "band": pa.repeat("V", n_frames),
        "exposure_s": np.full(n_frames, 20.0),
        "apcor_aper2": np.ones(n_frames),
        "apcor_aper2_err": np.zeros(n_frames),
        "flux_limit": np.full(n_frames, 3.0),
        "width_px": np.full(n_frames, SIZE_PX),
        "height_px": np.full(n_frames, SIZE_PX),
    }
    return Drawn(pa.table(frames), pa.table(matches), zp)


def _spoiled(
    random: np.random.Generator,
    frame: np.ndarray,
    place: np.ndarray,
    n_frames: int,
    n_stars: int,
    mag: np.ndarray,
) -> np.ndarray:
    """Return by how many magnitudes each measurement is off."""
    off = np.zeros(frame.size)
    kind = random.random(frame.size)
    variable, blended, false = kind < 0.05, (kind >= 0.05) & (kind < 0.08), (kind >= 0.08) & (kind < 0.13)
    off[variable] = random.uniform(0.05, 0.5, variable.sum()) * np.sin(
        random.uniform(0.0, 6.3, variable.sum())
    )
    off[blended] = -random.uniform(0.1, 0.75, blended.sum())
    # What is in place of the star is any other of the field, most often a faint one.
    off[false] = random.permutation(mag)[: false.sum()] - mag[false]
    patchy = random.random(n_frames) < 0.2
    hidden = patchy[frame] & (place < 0.2 * n_stars)
    off[hidden] += random.exponential(0.4, hidden.sum())
    return off


def errors(seed: int) -> list[Claim]:
    """Compare zeropoints of 500 frames with the truth, beside customary estimators on the same matches."""
    ours, peers = [], {name: [] for name in PEERS}
    for night in range(10):
        drawn = draw(100 * seed + night, 50, 80, shared=False, spoiled=True)
        rows = zeropoints_table(drawn.frames, drawn.matches, {"V": BAND}, "drawn", 1).sort_by("frame_id")
        off = rows["zp"].to_numpy() - drawn.zp
        ours += zip(off, off / rows["zp_err"].to_numpy(), strict=True)
        for frame in range(50):
            values = _of_frame(drawn.matches.slice(80 * frame, 80))
            for name, estimate in PEERS.items():
                zp, error = estimate(*values)
                peers[name].append((zp - drawn.zp[frame], (zp - drawn.zp[frame]) / error))
    print("\ndrawn: 500 frames of 80 stars with clouds, variables, blends and false matches")
    print(
        f"{'estimator':44s} {'bias [mmag]':>11s} {'rms [mmag]':>10s} {'mean pull':>9s} {'width':>6s} {'largest':>8s}"
    )
    lines = {name: np.array(pairs).T for name, pairs in {"skylake": ours, **peers}.items()}
    for name, (off, pull) in lines.items():
        figures = f"{1e3 * off.mean():+11.2f} {1e3 * np.sqrt(np.mean(off**2)):10.2f}"
        print(f"{name:44s} {figures} {pull.mean():+9.2f} {pull.std():6.2f} {np.abs(pull).max():8.2f}")
    (off, pull), (peer_off, peer_pull) = lines["skylake"], lines["colour, clipped at 1 sigma"]
    return [
        Claim(
            "drawn frames: bias of zeropoints [mmag]", 1e3 * abs(off.mean()), 1e3 * abs(peer_off.mean()), 1.0
        ),
        Claim("drawn frames: mean of the pulls", abs(pull.mean()), abs(peer_pull.mean()), 0.1),
        Claim(
            "drawn frames: width of the pulls, distance from 1",
            abs(pull.std() - 1.0),
            abs(peer_pull.std() - 1.0),
            0.1,
        ),
    ]


def _of_frame(matches: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return differences, colours relative to the pivot, and errors of the matches of one frame with a flux."""
    flux, error, mag, mag_err, colour = (
        matches[name].to_numpy().astype(float)
        for name in ("flux_aper2", "flux_aper2_err", "ref_mag", "ref_mag_err", "ref_colour")
    )
    seen = flux > 0.0
    flux, error = flux[seen], error[seen]
    total = np.hypot(mag_err[seen], 1.0857 * error / flux)
    return mag[seen] + 2.5 * np.log10(flux), colour[seen] - 0.7, total


def _median(difference: np.ndarray, colour: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    spread = MAD_TO_SIGMA * np.median(np.abs(difference - np.median(difference)))
    return float(np.median(difference)), float(1.2533 * spread / np.sqrt(len(difference)))


def _clipped(difference: np.ndarray, colour: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    for _ in range(10):
        line = np.polyval(np.polyfit(colour, difference, 1), colour)
        kept = np.abs(difference - line) <= np.std(difference - line)
        if kept.all() or np.count_nonzero(kept) < 8:
            break
        difference, colour = difference[kept], colour[kept]
    return _line(difference, colour, error)


def _line(difference: np.ndarray, colour: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    fit, covariance = np.polyfit(colour, difference, 1, cov=True)
    return float(fit[1]), float(np.sqrt(covariance[1, 1]))


def _weighted(difference: np.ndarray, colour: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    weight = 1.0 / error**2
    return float(np.average(difference, weights=weight)), float(np.sqrt(1.0 / weight.sum()))


#: Customary estimators: value and error from differences, colours and errors.
PEERS = {
    "median": _median,
    "colour, clipped at 1 sigma": _clipped,
    "colour, unweighted polyfit": _line,
    "inverse-variance mean": _weighted,
}


def speed(share: float) -> list[Claim]:
    """Solve 10 million matches on two processes; `share` is the part of them that is done, and scaled.

    Each process has one thread, and what counts is the processor time of the slower one, so that other work on the
    machine makes less of a difference.
    """
    claims = []
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        for n_frames, n_stars, nights in ((500, 1000, 20), (1000, 100, 100)):
            # What a night takes to be drawn is not counted, nor is the compiler.
            half = max(1, round(0.5 * share * nights))
            seeds = [list(range(1 + first, 1 + 2 * half, 2)) for first in (0, 1)]
            spent = list(pool.map(_solve_nights, seeds, [n_frames] * 2, [n_stars] * 2))
            ours = max(spent) * nights / (2 * half)
            peer = 0.5 * _loop_of_fits(draw(0, 100, n_stars, True, True), n_stars) * nights * n_frames / 100.0
            print(
                f"{nights * n_frames} frames of {n_stars} stars: {ours:.2f} s, loop of clipped fits {peer:.1f} s"
            )
            name = f"seconds for 10 million matches in {nights * n_frames} frames, two processes"
            claims.append(Claim(name, ours, peer, 5.0))
    return claims


def _solve_nights(seeds: list[int], n_frames: int, n_stars: int) -> float:
    """Return the seconds that the zeropoints of some nights take, from tables to tables."""
    small = draw(0, 5, 50, True, True)
    zeropoints_table(small.frames, small.matches, {"V": BAND}, "drawn", 1)
    spent = 0.0
    for seed in seeds:
        drawn = draw(seed, n_frames, n_stars, True, True)
        start = time.process_time()
        zeropoints_table(drawn.frames, drawn.matches, {"V": BAND}, "drawn", 1)
        spent += time.process_time() - start
    return spent


def _loop_of_fits(drawn: Drawn, n_stars: int) -> float:
    """Return the seconds that a line in colour, weighted and clipped five times, takes for each frame in turn."""
    frames = [_of_frame(drawn.matches.slice(at, n_stars)) for at in range(0, drawn.matches.num_rows, n_stars)]
    start = time.process_time()
    for difference, colour, error in frames:
        kept = np.ones(len(difference), bool)
        for _ in range(5):
            fit = np.polyfit(colour[kept], difference[kept], 1, w=1.0 / error[kept])
            off = difference - np.polyval(fit, colour)
            kept = np.abs(off) <= 3.0 * MAD_TO_SIGMA * np.median(np.abs(off[kept]))
        np.polyfit(colour[kept], difference[kept], 1, w=1.0 / error[kept], cov=True)
    return time.process_time() - start
