"""Ten million detections to light curves, statistics of two million, and periods of ten thousand, beside others.

Needs: skylake and polars; nifty-ls if it is there. Takes about 12 minutes on 1 core, half a minute with --quick.

Light curves: 10,000,000 measurements in the order of time, of 5 and of 100 on average of each object, with 11 columns,
become one row for each object with lists in the order of time. Beside us: polars and DuckDB, by groups, and
nested-pandas, which nests for lsdb.
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
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
    # Of fewer, all lie in the cache of the processor, which is not what is asked.
    n = 2_000_000 if options.quick else 10_000_000
    claims = [nesting(random, n, each, advantage) for each, advantage in ((5, 1.5), (100, 1.0))]
    conclude(claims + statistics(random, 2_000_000 // share, share) + periods(random, 10_000 // share))


def nesting(random: np.random.Generator, n: int, each: int, advantage: float) -> Claim:
    """Return the claim about light curves of some measurements each: how much faster than the fastest peer."""
    frame = np.sort(random.integers(0, 20 * each, n))
    stars = np.sort(random.integers(0, 1 << 60, n // each))
    columns: dict[str, Any] = {name: random.standard_normal(n) for name in ("bjd_tdb", "mag", "mag_err")}
    columns |= {
        name: random.standard_normal(n).astype(np.float32) for name in ("flux", "flux_err", "x_px", "y_px")
    }
    columns |= {"frame_id": frame, "mjd_mid": 60000.0 + 0.001 * frame}
    columns |= {name: random.integers(0, 5000, n).astype(np.int32) for name in ("source_no", "flags")}
    rows = pa.table(
        {"object_id": stars[random.integers(0, len(stars), n)], "band": pa.repeat("V", n), **columns}
    )
    seconds, found = {}, {}
    for name, work in NESTING.items():
        work(rows.slice(0, 1000), tuple(columns))
        seconds[name], found[name] = best(partial(work, rows, tuple(columns)))
    for name, curves in found.items():
        assert light_curve(curves, stars[0]) == light_curve(found["skylake"], stars[0]), name
        assert len(curves) == len(found["skylake"]), name
    print(
        f"{n} measurements, {each} of each object: " + ", ".join(f"{k} {v:.2f} s" for k, v in seconds.items())
    )
    peer = min(value for name, value in seconds.items() if name != "skylake")
    return Claim(
        f"seconds for light curves of {each} measurements each", seconds["skylake"], peer, peer / advantage
    )


def by_skylake(rows: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """Return light curves as the table ``lightcurves`` has them."""
    from skylake.table.curve_points import curve_points

    points = curve_points(rows, "object_id", [rows["band"]], np.ones(rows.num_rows, bool))
    kind = pa.struct([(name, pa.list_(rows[name].type)) for name in names])
    curves = points.nested({name: rows[name] for name in names}, kind)
    return pa.table({"object_id": rows["object_id"].take(pa.array(points.first)), "lightcurve": curves})


def by_polars(rows: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """Return light curves as polars groups them, which keeps the order of rows."""
    import polars as pl

    return pl.from_arrow(rows).group_by("object_id", "band").agg(pl.col(names)).to_arrow()


def by_duckdb(rows: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """Return light curves as DuckDB groups them; one thread keeps the order of rows."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    lists = ", ".join(f"list({name}) AS {name}" for name in names)
    return connection.sql(f"SELECT object_id, band, {lists} FROM rows GROUP BY ALL").to_arrow_table()


def by_nested_pandas(rows: pa.Table, names: tuple[str, ...]) -> Any:
    """Return light curves as nested-pandas nests them, which keeps the order of rows."""
    import pandas as pd
    from nested_pandas import NestedFrame

    flat = rows.to_pandas(types_mapper=pd.ArrowDtype)
    return NestedFrame.from_flat(
        flat, base_columns=["band"], nested_columns=list(names), on="object_id", name="lightcurve"
    )


def light_curve(curves: Any, star: int) -> list[float]:
    """Return the magnitudes of one object."""
    if not isinstance(curves, pa.Table):
        return list(curves["lightcurve"].loc[star]["mag"])
    row = curves.filter(pc.equal(curves["object_id"], star)).to_pylist()[0]
    return list(row["mag"] if "mag" in row else row["lightcurve"]["mag"])


NESTING = {
    "skylake": by_skylake,
    "polars": by_polars,
    "DuckDB": by_duckdb,
    "nested-pandas": by_nested_pandas,
}


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


def best(work: Callable[[], Any], runs: int = 3) -> tuple[float, Any]:
    """Return the shortest time of some runs, and what was made."""
    times = []
    for _ in range(runs):
        started = time.process_time()
        made = work()
        times.append(time.process_time() - started)
    return min(times), made


if __name__ == "__main__":
    main()
