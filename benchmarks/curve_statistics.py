"""Statistics of two million light curves, and periods of ten thousand, beside other libraries.

Needs: skylake and polars; nifty-ls if it is there. Takes about 10 minutes on 1 core, some seconds with --quick.

Statistics: 2,000,000 objects with 5 detections each on average, in flat sorted arrays; all that `curve_statistics`
gives. Beside us: polars, with the mean, scatter, median, extremes, four quantiles, chi-square and steps of each group.
Periods: curves of 2,000 points over 30 nights, periods from 0.1 to 20 days; beside us astropy, star by star.

Seconds are those of the processor, of one thread. Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from claims import Claim, conclude

os.environ.setdefault("POLARS_MAX_THREADS", "1")


def main() -> None:
    """Run both parts and print claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the objects")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    share = 50 if options.quick else 1
    random = np.random.default_rng(options.seed)
    conclude(statistics(random, 2_000_000 // share, share) + periods(random, 10_000 // share))


def statistics(random: np.random.Generator, n_objects: int, share: int) -> list[Claim]:
    """Return the claims about statistics."""
    import polars as pl

    from skylake.curves.curve_statistics import curve_statistics

    counts = random.poisson(5, n_objects)
    starts = np.append(0, np.cumsum(counts))
    n = int(starts[-1])
    err = random.uniform(0.005, 0.02, n)
    time_, mag = np.sort(random.uniform(0, 30, n)), 12 + err * random.standard_normal(n)
    curve_statistics(time_[:9], mag[:9], err[:9], np.array([0, 4, 9]))
    ours, found = best(lambda: curve_statistics(time_, mag, err, starts))
    frame = pl.DataFrame({"star": np.repeat(np.arange(n_objects), counts), "t": time_, "m": mag, "e": err})
    weight = pl.col("e") ** -2
    m = pl.col("m")
    asked = [
        m.len().alias("n"), m.mean().alias("mean"), m.std().alias("scatter"), m.median().alias("median"),
        m.min().alias("minimum"), m.max().alias("maximum"),
        *(m.quantile(share, "linear").alias(f"q{share}") for share in (0.05, 0.25, 0.75, 0.95)),
        ((m * weight).sum() / weight.sum()).alias("weighted"),
        (m**2 * weight).sum().alias("squares"), (m.diff() ** 2).sum().alias("steps"),
    ]  # fmt: skip
    theirs, peer = best(lambda: frame.group_by("star").agg(asked).sort("star"))
    some = counts > 0
    np.testing.assert_allclose(found["median"][some], peer["median"].to_numpy(), rtol=1e-12)
    np.testing.assert_allclose(found["percentile_95"][some], peer["q0.95"].to_numpy(), rtol=1e-12)
    print(f"{n_objects} objects, {n} detections: {ours:.2f} s, polars (12 of 22 columns) {theirs:.2f} s")
    return [Claim("seconds for the statistics of 2 million objects", ours * share, theirs * share, 1.0)]


def periods(random: np.random.Generator, n_stars: int) -> list[Claim]:
    """Return the claims about periods; the time of astropy is that of some stars."""
    from astropy.timeseries import LombScargle

    from skylake.curves.curve_block import CurveBlock
    from skylake.curves.periods import SAMPLES_PER_PEAK, lomb_scargle

    n_points, n_peer = 2000, min(100, n_stars)
    time_ = np.sort(random.uniform(0, 30, n_points) // 1 + random.uniform(0.3, 0.7, n_points))
    mag = 12 + 0.01 * random.standard_normal((n_stars, n_points))
    mag += 0.004 * np.sin(2 * np.pi * time_ / random.uniform(0.2, 9, (n_stars, 1)))
    curves = CurveBlock(time_, mag, np.full(mag.shape, 0.01))
    lomb_scargle(curves.of(slice(0, 1)), 0.1, 20.0)
    started = time.process_time()
    found = lomb_scargle(curves, 0.1, 20.0)
    ours = time.process_time() - started
    step = 1.0 / (SAMPLES_PER_PEAK * np.ptp(time_))
    frequency = np.arange(0.05, 10.0 + step, step)
    started = time.process_time()
    for star in range(n_peer):
        power = LombScargle(time_, mag[star], 0.01).power(frequency, assume_regular_frequency=True)
        assert abs(1 / found.period[star] - frequency[np.argmax(power)]) <= step
    theirs = (time.process_time() - started) * n_stars / n_peer
    print(f"{n_stars} curves, {len(frequency)} frequencies: {ours:.2f} s, astropy {theirs:.2f} s")
    return [Claim("seconds for the periods of these curves", ours, theirs, 1.1 * theirs)]


def best(work: Callable[[], object], runs: int = 3) -> tuple[float, object]:
    """Return the shortest time of some runs, and what was made."""
    times = []
    for _ in range(runs):
        started = time.process_time()
        made = work()
        times.append(time.process_time() - started)
    return min(times), made


if __name__ == "__main__":
    main()
