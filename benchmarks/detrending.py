"""A season of light curves with the systematics of a wide-field camera, detrended in several ways, against the truth.

Needs: skylake alone; nifty-ls if it is there. Takes about an hour on 2 cores and 3 GB, a minute with --quick.

30 nights of 200 frames, 20,000 stars in parts of 2,000: zeropoints and their gradients and colours by night and
airmass, position, pixel phase, width and elongation of images, sky; each star has a red noise of its own, a fifth of
its white noise. One measurement in two hundred is spoiled, one in ten missing. A tenth of the stars are sinusoids, a
twentieth have transits of 5 to 20 mmag. Figures are those of bright constant stars, and of the signals.

Beside us: the same decorrelation and trend filter as in a textbook, star by star with numpy.linalg.lstsq; and the fits
of EPD and TFA of autowisp, where AUTOWISP_PYTHON names the Python of an environment that has it.
The truth is drawn by numpy alone. Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from claims import Claim, conclude

from skylake.curves.curve_block import CurveBlock, row_medians
from skylake.curves.decorrelation import decorrelate
from skylake.curves.detrend_block import DetrendOptions, Stars, detrend_block
from skylake.curves.external_parameters import ExternalParameters
from skylake.curves.scatter_excess import scatter_excess
from skylake.curves.signals import Boxes, Harmonics
from skylake.curves.trend_filtering import Templates, filter_trends

#: Bright stars, by magnitude, whose scatter and amplitudes are judged.
BRIGHT = 10.5
RED = 0.2
FIELD_PX = 2000.0
#: Stars that the textbook is given, and that autowisp is.
N_PEER, N_AUTOWISP = 100, 300
#: What autowisp does with a light curve: its pipeline rejects by these values, and reads one file for each star.
AUTOWISP = """
import sys, time, numpy as np
from autowisp.fit_expression import iterative_fit
given = np.load(sys.argv[1])
config = dict(error_avg="nanmedian", rej_level=5, max_rej_iter=20, fit_identifier="star")
made = {}
for name in ("epd", "tfa"):
    started, mag = time.process_time(), given["mag"].copy()
    for star in range(len(mag)):
        good = np.isfinite(mag[star])
        terms = given["terms"][star] if name == "epd" else given["templates"]
        if name == "tfa":
            terms = terms[given["templates_of"] != star]
        terms = np.vstack([terms, np.ones(terms.shape[1])])[:, good]
        value = mag[star, good] - np.median(mag[star, good])
        found = iterative_fit(terms, value, **config)[0]
        mag[star, good] -= found @ terms
    made[name], made[name + "_seconds"] = mag, time.process_time() - started
np.savez(sys.argv[2], **made)
"""


@dataclass(frozen=True)
class Season:
    """Curves of a part of a field, what is known of their measurements, and the truth."""

    curves: CurveBlock
    parameters: ExternalParameters
    x: np.ndarray
    y: np.ndarray
    colour: np.ndarray
    level: np.ndarray
    white: np.ndarray
    period: np.ndarray
    amplitude: np.ndarray
    depth: np.ndarray
    boxes: Boxes
    is_constant: np.ndarray


@dataclass
class Tally:
    """What is collected over the parts of a field, by method."""

    scatter: dict[str, list[float]] = field(default_factory=dict)
    kept: dict[str, list[float]] = field(default_factory=dict)
    depth: dict[str, list[float]] = field(default_factory=dict)
    pulls: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    false_alarms: list[float] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)

    def clock(self, name: str, started: float) -> None:
        """Add what has been spent since a time of the process."""
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started


def main() -> None:
    """Detrend a season in parts and print a table and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1000 stars on 30 nights of 60 frames")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--stars", type=int, default=20_000)
    parser.add_argument("--part", type=int, default=2000)
    options = parser.parse_args()
    nights, per_night, part = (30, 60, 1000) if options.quick else (30, 200, options.part)
    tally = Tally()
    for number in range(1 if options.quick else options.stars // part):
        season = simulated_season(options.seed + number, nights, per_night, part)
        detrend(season, tally, number == 0)
    conclude(report(tally))


def simulated_season(seed: int, nights: int, per_night: int, n_stars: int) -> Season:
    """Draw the light curves of a season."""
    random = np.random.default_rng(seed)
    hour = np.linspace(-4.0, 4.0, per_night)
    mjd = (np.arange(nights)[:, None] + 0.5 + hour / 24.0).ravel()
    night = np.repeat(np.arange(nights), per_night)
    n_frames, hours = len(mjd), np.tile(hour, nights)
    x, y = random.uniform(0, FIELD_PX, (2, n_stars))
    u, v = 2 * x / FIELD_PX - 1, 2 * y / FIELD_PX - 1
    colour = random.normal(0.8, 0.4, n_stars)
    level = 8.0 + 6.0 * random.random(n_stars) ** 0.7
    # The camera drifts through pixels each night, and never stands where it stood.
    shift = [
        random.normal(0, 0.7, nights)[night]
        + drift * (hours / 4.0)
        + np.cumsum(random.normal(0, 0.02, n_frames))
        for drift in (1.3, -0.8)
    ]
    turn = random.normal(0, 3e-4, nights)[night]
    x_px = x[:, None] + shift[0] + turn * y[:, None]
    y_px = y[:, None] + shift[1] - turn * x[:, None]
    airmass = 1.0 / np.cos(np.radians(15.0 + 7.0 * np.abs(hours - 0.5)))
    fwhm = (
        2.0 + 0.15 * random.normal(0, 1, nights)[night] + 0.25 * (airmass - 1.1) + red(random, n_frames, 0.06)
    )
    elongation = [red(random, n_frames, 0.05) for _ in range(2)]
    sky = 200.0 * (1.0 + 0.3 * random.random(nights)[night]) * airmass
    temperature = 10.0 + 3.0 * random.normal(0, 1, nights)[night] - 0.5 * hours
    # What a frame does to all of its stars alike, by place and colour.
    clouds = np.abs(red(random, n_frames, 0.05)) * (random.random(nights) < 0.3)[night]
    zero = 0.25 * airmass + 0.02 * random.normal(0, 1, nights)[night] + clouds
    slopes = [0.01 * random.normal(0, 1, nights)[night] + red(random, n_frames, 0.004) for _ in range(2)]
    common = zero + u[:, None] * slopes[0] + v[:, None] * slopes[1]
    common = common + 0.02 * (colour - 0.8)[:, None] * airmass
    # What each star has of its own from the parameters of its measurements.
    own = np.zeros((n_stars, n_frames))
    for place in (x_px, y_px):
        for times, size in ((1.0, 0.006), (2.0, 0.003)):
            strength, phase = random.normal(0, size, n_stars), random.uniform(0, 2 * np.pi, n_stars)
            own += strength[:, None] * np.sin(2 * np.pi * times * place + phase[:, None])
    own += random.normal(0, 0.03, n_stars)[:, None] * (fwhm - 2.0)
    for one in elongation:
        own += random.normal(0, 0.03, n_stars)[:, None] * one
    own += random.normal(0, 3e-5, n_stars)[:, None] * (sky - 200.0)
    own += random.normal(0, 0.002, n_stars)[:, None] * (x_px - x[:, None])
    white = np.hypot(0.0025, 0.005 * 10 ** (0.4 * (level - 11.0)))
    noise = white[:, None] * random.standard_normal((n_stars, n_frames))
    noise += RED * white[:, None] * np.array([red(random, n_frames, 1.0) for _ in range(n_stars)])
    signal, truth = signals(random, mjd, n_stars)
    mag = level[:, None] + common + own + noise + signal
    spoiled = random.random(mag.shape) < 0.005
    mag = mag + np.where(spoiled, random.normal(0, 0.3, mag.shape), 0.0)
    mag[random.random(mag.shape) < 0.1] = np.nan
    curves = CurveBlock(mjd, mag, np.broadcast_to(white[:, None], mag.shape).copy())
    parameters = ExternalParameters(
        x_px, y_px, fwhm, *elongation, sky, np.sqrt(sky), airmass, hours, temperature
    )
    return Season(curves, parameters, x, y, colour, level, white, **truth)


def red(random: np.random.Generator, n: int, size: float) -> np.ndarray:
    """Draw a noise that lasts about twenty frames, of some standard deviation."""
    from scipy.signal import lfilter

    share = np.exp(-1.0 / 20.0)
    white = random.standard_normal(n + 200) * np.sqrt(1.0 - share**2)
    return size * lfilter([1.0], [1.0, -share], white)[200:]


def signals(
    random: np.random.Generator, mjd: np.ndarray, n_stars: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw sinusoids for a tenth of the stars, and transits for a twentieth."""
    kind = random.random(n_stars)
    period = np.where(kind < 0.1, np.exp(random.uniform(np.log(0.2), np.log(8.0), n_stars)), np.nan)
    amplitude = np.where(kind < 0.1, random.uniform(0.01, 0.05, n_stars), 0.0)
    has_dip = (kind >= 0.1) & (kind < 0.15)
    depth = np.where(has_dip, random.uniform(0.005, 0.02, n_stars), 0.0)
    dip_period = np.where(has_dip, random.uniform(1.1, 4.0, n_stars), np.nan)
    duration = np.where(has_dip, random.uniform(2.0, 4.0, n_stars) / 24.0, np.nan)
    boxes = Boxes(dip_period, mjd[0] + random.random(n_stars) * dip_period, duration, 0.2)
    wave = np.sin(
        2 * np.pi * (mjd / np.where(np.isfinite(period), period, 1.0)[:, None] + random.random((n_stars, 1)))
    )
    dips = boxes.columns(mjd, slice(0, n_stars))[:, 0]
    truth = {"period": period, "amplitude": amplitude, "depth": depth, "boxes": boxes}
    return amplitude[:, None] * wave + depth[:, None] * dips, truth | {"is_constant": kind >= 0.15}


def detrend(season: Season, tally: Tally, with_peer: bool) -> None:
    """Detrend one part of the field by all methods."""
    curves, started = season.curves, time.process_time()
    options = DetrendOptions(n_templates=100, n_effects=8)
    made = detrend_block(curves, season.parameters, Stars(season.x, season.y, season.colour), None, options)
    tally.clock("all methods, with a search for periods", started)
    flat = CurveBlock(curves.time, made.ensemble, curves.mag_err)
    started = time.process_time()
    waves = decorrelate(flat, season.parameters, Harmonics(season.period))
    tally.clock("joint EPD", started)
    dips = decorrelate(flat, season.parameters, season.boxes)
    chosen = made.templates.star
    print(f"{len(chosen)} templates, {(~season.is_constant)[chosen].sum()} of them variable")
    known = np.where((season.depth > 0)[:, None], dips.mag, waves.mag)
    judge(season, {
        "raw": made.raw, "ensemble": made.ensemble, "EPD": made.alone.mag, "joint EPD": known,
        "joint EPD, period found": made.joint.mag, "TFA": made.trend_filtered, "SysRem": made.without_effects,
    }, tally)  # fmt: skip
    bright = season.level < BRIGHT
    some = bright & np.isfinite(season.period)
    off = np.hypot(*waves.signal[some, :2].T) - season.amplitude[some]
    tally.pulls.setdefault("amplitudes", []).extend(off / waves.signal_err[some].mean(axis=1))
    some = bright & (season.depth > 0)
    off = dips.signal[some, 0] - season.depth[some]
    tally.pulls.setdefault("depths", []).extend(off / dips.signal_err[some, 0])
    tally.depth.setdefault("fitted depth", []).extend(dips.signal[some, 0] / season.depth[some])
    pulls = np.clip(made.alone.residual / curves.mag_err, -5, 5)
    scatter = np.sqrt(np.nanmean(pulls**2, axis=1))
    chance = scatter_excess(season.level, scatter, made.alone.n_points).false_alarm
    tally.false_alarms.extend(chance[season.is_constant])
    tally.found.extend(chance[np.isfinite(season.period) & bright] < 1e-4)
    if with_peer:
        started = time.process_time()
        textbook(season, flat)
        tally.clock("textbook", started)
        started = time.process_time()
        decorrelate(flat.of(slice(0, N_PEER)), season.parameters.of(slice(0, N_PEER)))
        tally.clock("the same stars", started)
        started = time.process_time()
        textbook_trends(flat, made.templates.shape)
        tally.clock("textbook TFA", started)
        started = time.process_time()
        place = (season.x, season.y)
        some = flat.of(slice(0, N_PEER))
        filter_trends(some, made.templates, *(one[:N_PEER] for one in place), place, options.exclusion)
        tally.clock("TFA of the same stars", started)
        if os.environ.get("AUTOWISP_PYTHON"):
            autowisp(season, flat, made.templates, tally)


def autowisp(season: Season, flat: CurveBlock, templates: Templates, tally: Tally) -> None:
    """Let autowisp detrend some stars, and judge these by all methods."""
    few = slice(0, N_AUTOWISP)
    boxes = [getattr(season.boxes, name)[few] for name in ("period", "middle", "duration")]
    names = ("x", "y", "colour", "level", "white", "period", "amplitude", "depth", "is_constant")
    some = replace(
        season, curves=season.curves.of(few), boxes=Boxes(*boxes, 0.2),
        **{name: getattr(season, name)[few] for name in names},
    )  # fmt: skip
    terms = np.array([textbook_terms(season, star) for star in range(N_AUTOWISP)])
    with tempfile.TemporaryDirectory() as folder:
        given, made = (str(Path(folder) / name) for name in ("given.npz", "made.npz"))
        np.savez(
            given, mag=flat.mag[few], terms=terms, templates=templates.shape, templates_of=templates.star
        )
        subprocess.run([os.environ["AUTOWISP_PYTHON"], "-c", AUTOWISP, given, made], check=True)
        found = np.load(made)
        judge(some, {"autowisp EPD": found["epd"], "autowisp TFA": found["tfa"]}, tally)
        for name in ("epd", "tfa"):
            tally.seconds[f"autowisp {name.upper()} of {N_AUTOWISP} stars"] = float(found[f"{name}_seconds"])


def judge(season: Season, made: dict[str, np.ndarray], tally: Tally) -> None:
    """Collect the scatter of bright constant stars, and what is left of amplitudes and depths."""
    time_, bright = season.curves.time, season.level < BRIGHT
    constant = np.flatnonzero(bright & season.is_constant)
    wave = np.flatnonzero(bright & np.isfinite(season.period))
    dip = np.flatnonzero(bright & (season.depth > 0))
    shapes = season.boxes.columns(time_, slice(0, len(season.x)))[:, 0]
    for name, mag in made.items():
        off = mag[constant] - row_medians(mag[constant])[:, None]
        spread = 1.4826 * row_medians(np.abs(off)) / season.white[constant]
        tally.scatter.setdefault(name, []).extend(spread)
        kept = [fitted(time_, mag[star], season.period[star]) / season.amplitude[star] for star in wave]
        tally.kept.setdefault(name, []).extend(kept)
        depths = [depth_of(mag[star], shapes[star]) / season.depth[star] for star in dip]
        tally.depth.setdefault(name, []).extend(depths)


def fitted(mjd: np.ndarray, mag: np.ndarray, period: float) -> float:
    """Return the amplitude of a sinusoid that is fitted to a curve, without spoiled measurements."""
    good = clean(mag)
    angle = 2 * np.pi * mjd[good] / period
    design = np.stack([np.sin(angle), np.cos(angle), np.ones(len(angle))], axis=1)
    found = np.linalg.lstsq(design, mag[good], rcond=None)[0]
    return float(np.hypot(found[0], found[1]))


def depth_of(mag: np.ndarray, shape: np.ndarray) -> float:
    """Return the depth of a dip of known shape."""
    good = clean(mag)
    design = np.stack([shape[good], np.ones(int(good.sum()))], axis=1)
    return float(np.linalg.lstsq(design, mag[good], rcond=None)[0][0])


def clean(mag: np.ndarray) -> np.ndarray:
    """Return which measurements are not far off."""
    off = np.abs(mag - np.nanmedian(mag))
    return np.isfinite(mag) & (off < 6 * 1.4826 * np.nanmedian(off))


def textbook(season: Season, curves: CurveBlock, n_stars: int = N_PEER) -> np.ndarray:
    """Decorrelate star by star by clipped least squares, as books describe it."""
    made = np.full((n_stars, curves.mag.shape[1]), np.nan)
    for star in range(n_stars):
        design = np.vstack([textbook_terms(season, star), np.ones(curves.mag.shape[1])]).T
        good = np.isfinite(curves.mag[star])
        for _ in range(3):
            found = np.linalg.lstsq(design[good], curves.mag[star, good], rcond=None)[0]
            off = curves.mag[star] - design @ found
            good = np.abs(off) < 3 * np.nanstd(off[good])
        made[star] = off + np.nanmedian(curves.mag[star])
    return made


def textbook_terms(season: Season, star: int) -> np.ndarray:
    """Return the terms of a star but the constant, of shape (n_terms, n_frames)."""
    given = season.parameters
    s, d, k = given.fwhm_px, given.elongation_d, given.elongation_k
    angles = [2 * np.pi * times * place[star] for place in (given.x_px, given.y_px) for times in (1, 2)]
    columns = [s**2, s, d**2, d, k**2, k, s * d, s * k, d * k, given.background, given.background_err]
    return np.stack([*columns, *map(np.sin, angles), *map(np.cos, angles)])


def textbook_trends(curves: CurveBlock, shape: np.ndarray, n_stars: int = N_PEER) -> np.ndarray:
    """Filter trends star by star by clipped least squares."""
    design = np.vstack([shape, np.ones(shape.shape[1])]).T
    made = np.full((n_stars, shape.shape[1]), np.nan)
    for star in range(n_stars):
        good = np.isfinite(curves.mag[star])
        for _ in range(2):
            found = np.linalg.lstsq(design[good], curves.mag[star, good], rcond=None)[0]
            off = curves.mag[star] - design @ found
            good = np.abs(off) < 5 * np.nanstd(off[good])
        made[star] = off + np.nanmedian(curves.mag[star])
    return made


def report(tally: Tally) -> list[Claim]:
    """Print what each method reaches, and return the claims."""
    print(f"\n{'method':>24} {'rms/white':>10} {'amplitude':>10} {'depth':>8}")
    middle = {}
    for name in tally.scatter:
        middle[name] = [float(np.nanmedian(one[name])) for one in (tally.scatter, tally.kept, tally.depth)]
        print(f"{name:>24} {middle[name][0]:10.3f} {middle[name][1]:10.3f} {middle[name][2]:8.3f}")
    for name, seconds in tally.seconds.items():
        print(f"{seconds:8.1f} s CPU: {name}")
    for name, pulls in tally.pulls.items():
        known = np.array(pulls)[np.isfinite(pulls)]
        line = f"mean {known.mean():.2f}, width {known.std():.2f}, largest {np.abs(known).max():.1f} of {len(known)}"
        print(f"pulls of {name}: {line}")
    alarms = np.array(tally.false_alarms)
    rates = {level: float(np.mean(alarms < level)) for level in (0.1, 0.01, 0.001)}
    print("constant stars below a chance: " + ", ".join(f"{rate:.4f} at {at}" for at, rate in rates.items()))
    print(f"sinusoids below a chance of 1e-4: {np.mean(tally.found):.3f} of {len(tally.found)}")
    joint, alone, seconds = middle["joint EPD"], middle["EPD"], tally.seconds
    found = middle["joint EPD, period found"]
    peer = seconds["textbook TFA"]
    depth = float(np.nanmedian(tally.depth["fitted depth"]))
    # The red noise that each star has of its own makes false alarms a third more frequent than white noise does.
    chance = 0.0133 + 3 * (0.01 / len(alarms)) ** 0.5
    return [
        Claim("scatter of bright stars after joint EPD over white noise", joint[0], alone[0], 1.05),
        Claim("overfitting: white noise over that scatter", 1.0 / joint[0], None, 1.0),
        Claim("share of amplitudes that joint EPD loses", 1.0 - joint[1], 1.0 - alone[1], 0.02),
        Claim("the same where nobody knows the period", 1.0 - found[1], 1.0 - alone[1], 0.02),
        Claim("share of transit depths lost where nobody knows them", 1.0 - found[2], 1.0 - alone[2], 0.05),
        Claim("bias of transit depths fitted with it", abs(depth - 1.0), abs(alone[2] - 1.0), 0.05),
        Claim("constant stars called variable at a chance of 0.01", rates[0.01], None, chance),
        Claim("seconds of EPD, CPU", seconds["the same stars"], seconds["textbook"], seconds["textbook"]),
        Claim("seconds of TFA, CPU", seconds["TFA of the same stars"], peer, peer),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
