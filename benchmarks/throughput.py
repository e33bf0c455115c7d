"""How many frames an hour become committed tables with a checked WCS and zeropoints, on two local workers.

Needs: skylake alone, and 3 GB of disk in the folder for temporary files. Takes about four minutes on 2 cores, most of
it to draw the frames; a third of that with --quick.

Frames: those of `chain.py`, raw, of one field in one night, plain or compressed by tiles. They are ingested as anybody
would: masters with errors from the calibration library, background, detection, measurement, the WCS checked against a
reference catalog of all stars that were drawn, parts gathered and committed; then matched and given zeropoints. A
second night, of the same pixels with other times, is done with forced photometry of all stars of the catalog besides,
with the point spread function of the night from twenty of its frames, which are read and calibrated once more for it,
but not searched.

The time is that of the clock, from the names of the files to the commit of the zeropoints. Workers have started and
done a night of a few frames before, so that starting them and loading the compiled kernels, some seconds, is left out;
it is done once however many nights follow.

Beside it stands the CPU time of all processes, from which follows what cores give that have nothing else to do. The
profile tells where the time goes: of the process that leads, by stage; and of a few frames that are ingested once more
by one process, by function, where the frames that tell the point spread function are all of them.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chain
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from chain import EXPOSURE_S, ZEROPOINT, Sky
from claims import Claim, conclude

from skylake.cameras import Profile
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline, Workers, workers
from skylake.flow.forced import psf_pool
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.ingest import ingest_frames as ingesting
from skylake.flow.ingest.frame_tasks import Reduction, reduce_chunk
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.masters.build_masters import build_masters
from skylake.flow.zeropoints import calibrate_nights as calibrating
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.sky.catalog_columns import CatalogColumns

#: Frames an hour that are asked for.
TARGETS = {"plain": 15_000.0, "fpack": 10_000.0}
#: Stages of an ingest by the function that does each.
STAGES = {
    "headers": "_plan",
    "point spread function": "pool_psfs",
    "frames on the workers": "reduce_frames",
    "gather and commit": "publish_nights",
}
#: What of a whole ingest is timed in one process, besides what `chain.py` times of a frame.
FURTHER = {
    "PSF of the night: sums": (psf_pool, "sums_of_frame"),
    "gather": (ingesting, "gather_batch"),
    "commit": (ingesting, "commit_nights"),
    "match": (calibrating, "match_night"),
}
#: Frames of the profile.
PROFILED = 4
COLUMNS = CatalogColumns(
    ra="ra",
    dec="dec",
    id="id",
    magnitudes={"V": "V"},
    magnitude_errors={"V": "V_err"},
    colours={"B-V": "B-V"},
)


def main() -> None:
    """Draw the nights, ingest them, and print figures and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the frames")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=list(TARGETS), help="one of the two forms")
    options = parser.parse_args()
    number = 20 if options.quick else 60
    claims = []
    with (
        tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as name,
        workers("local", options.workers) as some,
    ):
        folder = Path(name)
        sky = chain.draw_sky(2048)
        for form in [options.only] if options.only else TARGETS:
            claims += nights(folder / form, sky, form, number, some)
    conclude(claims)


def nights(folder: Path, sky: Sky, form: str, number: int, some: Workers) -> list[Claim]:
    """Ingest and calibrate a night of frames without targets and one with them, and return the claims on them."""
    folder.mkdir()
    profile = chain.make_profile(folder, sky.light.shape[0])
    suffix = ".fits.fz" if form == "fpack" else ".fits"
    warm = [folder / f"warm-{k}{suffix}" for k in range(4)]
    frames = [folder / f"frame-{k:03d}{suffix}" for k in range(number)]
    for k, path in enumerate([*warm, *frames]):
        chain.write_frame(sky, path, k, form == "fpack", day=0 if path in warm else 1)
    lake = make_lake(folder, sky, profile, form, some)
    run(lake, profile, warm, some, {})
    claims = [timed_night(lake, profile, frames, some, form)]
    show_profile(lake, profile, frames, 6)
    make_targets(lake, profile.name, TargetOptions("stars", seen=0), some)
    run(lake, profile, [later(path, 2) for path in warm], some, {})
    claims.append(timed_night(lake, profile, [later(path, 2) for path in frames], some, f"{form}, targets"))
    show_profile(lake, profile, frames, 4)
    return claims


def later(path: Path, days: int) -> Path:
    """Write a frame once more as if it had been taken some days later, and return its file."""
    content = path.read_bytes()
    for day in (2, 3):
        content = content.replace(b"'2024-10-%02dT" % day, b"'2024-10-%02dT" % (day + days))
    written = path.with_name(f"later-{days}-{path.name}")
    written.write_bytes(content)
    return written


def timed_night(lake: Lake, profile: Profile, frames: list[Path], some: Workers, what: str) -> Claim:
    """Ingest and calibrate a night of frames, print where the time goes, and return the claim on it."""
    number, target = len(frames), TARGETS[what.partition(",")[0]]
    taken: dict[str, float] = {}
    before = processor_seconds()
    run(lake, profile, frames, some, taken)
    total, busy = sum(taken.values()), processor_seconds() - before
    print(f"\n{what}: {number} frames in {total:.2f} s, {3600 * number / total:.0f} an hour")
    for stage, seconds in taken.items():
        print(f"{stage:32s} {seconds:8.2f} s {1e3 * seconds / number:8.1f} ms for each frame")
    alone = 3600.0 * number * some.count / busy
    print(f"{busy:.2f} s of CPU; {alone:.0f} frames an hour if {some.count} cores did nothing else")
    once = taken["point spread function"]
    if once:
        print(f"{3600 * number / (total - once):.0f} frames an hour but for what is done once a night")
    print(f"{what}: {3600.0 * number / total:.0f} frames an hour; {target:.0f} are asked for")
    return Claim(f"seconds for 1,000 frames, {what}", 1e3 * total / number, None, 3.6e6 / target)


def show_profile(lake: Lake, profile: Profile, frames: list[Path], days: int) -> None:
    """Ingest a few of the frames once more in this process, and print where its time goes."""
    files = [later(path, days) for path in frames[: 2 * PROFILED]]
    # The first frames of a process load the kernels.
    for path in files[PROFILED:]:
        reduce_chunk(
            [str(path)], Reduction.in_force(lake, lake.snapshot(), profile), path.with_suffix(".rows")
        )
    taken: dict[str, float] = {}
    calls: dict[str, list[float]] = {}
    before = time.process_time()
    with chain.stages(calls, chain.STAGES | FURTHER):
        run(lake, profile, files[:PROFILED], Inline(), taken)
    rest = 1e3 * (time.process_time() - before) / PROFILED
    print(f"one process, {PROFILED} frames: {rest:.1f} ms of CPU for each, of which")
    for stage, seconds in calls.items():
        share = 1e3 * sum(seconds) / PROFILED
        rest -= share
        if seconds:
            print(f"{stage:32s} {share:8.1f} ms")
    print(f"{'the rest':32s} {rest:8.1f} ms")


def make_lake(folder: Path, sky: Sky, profile: Profile, form: str, some: Workers) -> Lake:
    """Return a lake with masters and a catalog."""
    lake = Lake.create(folder / "lake", Settings(cluster="local"))
    random = np.random.default_rng(5)
    extra = [
        folder / f"{kind}-{k}.fits{'.fz' * (form == 'fpack')}" for kind in ("bias", "flat") for k in range(5)
    ]
    for path in extra:
        kind = path.name.partition("-")[0]
        light = np.zeros_like(sky.light) if kind == "bias" else 30000.0 * sky.response
        electrons = random.poisson(light) + chain.READ_NOISE_E * random.standard_normal(light.shape)
        chain.write_pixels(electrons / chain.GAIN + sky.bias, path, 0, form == "fpack", kind=kind.upper())
    report = build_masters(lake, profile, extra, some)
    made = {row["kind"] for row in report.masters}
    if not {"bias", "flat"} <= made:
        raise SystemExit(f"masters of {made} alone were made; {report.left_out}")
    ra, dec = chain.sky_positions(sky)
    stars = {
        "ra": ra, "dec": dec, "id": np.arange(len(ra)), "V": ZEROPOINT - 2.5 * np.log10(sky.flux / EXPOSURE_S),
        "V_err": np.full(len(ra), 0.01), "B-V": np.full(len(ra), 0.7),
    }  # fmt: skip
    pq.write_table(pa.table(stars), folder / "stars.parquet")
    import_catalog(lake, "stars", "table", [folder / "stars.parquet"], COLUMNS)
    return Lake(lake.root)


def processor_seconds() -> float:
    """Return the CPU seconds of this process and its workers so far."""
    here = psutil.Process()
    times = [one.cpu_times() for one in (here, *here.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def run(lake: Lake, profile: Profile, frames: list[Path], some: Workers, taken: dict[str, float]) -> None:
    """Ingest frames and calibrate them, and note the seconds of each stage."""
    start = time.perf_counter()
    with stages(taken):
        report = ingest(lake, profile, frames, some)
    if report.counts != {"ok": len(frames)}:
        raise SystemExit(f"{report.counts}: {report.problems[:1]}")
    taken["the rest of the ingest"] = time.perf_counter() - start - sum(taken.values())
    start = time.perf_counter()
    found = calibrate(lake, some)
    taken["match and zeropoints"] = time.perf_counter() - start
    # A solution of the camera can calibrate nights before this one anew.
    if found.n_zeropoints < len(frames):
        raise SystemExit(found.line)


@contextmanager
def stages(taken: dict[str, float]) -> Iterator[None]:
    """Note the seconds of the stages of an ingest while this lasts."""
    before = {name: getattr(ingesting, attribute) for name, attribute in STAGES.items()}
    for name, attribute in STAGES.items():
        taken[name] = 0.0
        setattr(ingesting, attribute, timed(before[name], name, taken))
    try:
        yield
    finally:
        for name, attribute in STAGES.items():
            setattr(ingesting, attribute, before[name])


def timed(work: Callable[..., Any], name: str, taken: dict[str, float]) -> Callable[..., Any]:
    """Return a function that does the same and adds its seconds."""

    def go(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return work(*args, **options)
        finally:
            taken[name] += time.perf_counter() - start

    return go


if __name__ == "__main__":
    main()
