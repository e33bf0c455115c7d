"""Frames that show no stars, clouds of several kinds and hot pixels alone: how soon they are rejected, one by one.

Needs: a lake with a catalog and its index (`--lake`, which is not changed; that of `solving.py`). Each frame goes
through what `skylake solve` does and through `skylake ingest` into a copy of the lake, with the scale known to 20 %
and with nothing known. Seconds are those of the processor for the whole frame, from file to verdict (for ingest with
the commit of a night of one frame), after one frame that compiles. Takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from claims import Claim, conclude
from scipy.ndimage import gaussian_filter

from skylake import cameras
from skylake.cameras import Profile
from skylake.flow.astrometry.solve_frames import KnownSky, known_sky, solve_frame
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.image.solving.solve_parameters import SolveParams
from skylake.lake import Lake

SIDE, SCALE = 1024, 8.0
LIMIT_S = 2.0
KINDS = (
    "even clouds",
    "mottled clouds",
    "clouds and a few stars",
    "clouds and hits",
    "hot pixels",
    "warm pixels",
)


def main() -> None:
    """Draw frames, offer them, and print a table and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--catalog", default="tycho2")
    parser.add_argument("--frames", type=int, default=6, help="of each kind")
    options = parser.parse_args()
    lake = Lake(options.lake)
    sky = known_sky(lake.snapshot(), options.catalog, True, print)
    # Beside the lake, so that links can be made of its files.
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-", dir=lake.root.parent) as folder:
        paths = draw_all(Path(folder), options.frames)
        copied = Lake(shutil.copytree(lake.root, Path(folder) / "lake", symlinks=True, copy_function=os.link))
        rows = [*solved(paths, sky), *ingested(paths, copied)]
    claims = []
    for way in dict.fromkeys(row[0] for row in rows):
        mine = [row for row in rows if row[0] == way]
        for kind in KINDS:
            seconds = [row[3] for row in mine if row[1] == kind]
            reasons = sorted({row[2] for row in mine if row[1] == kind})
            print(
                f"{way}, {kind}: {', '.join(reasons)}; {np.median(seconds):.2f} s, at most {max(seconds):.2f}"
            )
        claims += [
            Claim(f"{way}: solved of {len(mine)}", sum(row[2] in ("solved", "ok") for row in mine), None, 0),
            Claim(f"{way}: seconds of a frame, largest", max(row[3] for row in mine), None, LIMIT_S),
        ]
    conclude(claims)


def draw_all(folder: Path, n: int) -> list[tuple[str, Path]]:
    """Write frames of every kind; return kinds and files."""
    found = []
    for kind in KINDS:
        for number in range(n):
            random = np.random.default_rng([KINDS.index(kind), number])
            path = folder / f"{kind.replace(' ', '-')}-{number}.fits"
            began = f"2024-01-{1 + number:02d}T22:{KINDS.index(kind):02d}:00"
            header = fits.Header({"DATE-OBS": began, "EXPTIME": 10.0})
            pixels = np.clip(draw(random, kind), 0, 65535).astype(np.uint16)
            fits.PrimaryHDU(pixels, header).writeto(path)
            found.append((kind, path))
    return found


def draw(random: np.random.Generator, kind: str) -> np.ndarray:
    """Return the pixels of a frame."""
    level = np.full((SIDE, SIDE), random.uniform(500.0, 5000.0))
    if kind == "mottled clouds":
        for width, depth in ((4.0, 0.01), (15.0, 0.05), (60.0, 0.2), (200.0, 0.3)):
            bumps = gaussian_filter(random.normal(size=(SIDE, SIDE)), width)
            # Layers of cloud multiply the light; however thin, none takes more than all of it.
            level *= np.exp(depth * bumps / bumps.std())
    pixels = random.normal(level, np.sqrt(level))
    y, x = random.integers(5, SIDE - 5, (2, int(random.integers(30, 600))))
    light = 100.0 * (random.pareto(1.0, len(x)) + 1.0)
    if kind == "clouds and a few stars":
        few = np.zeros((SIDE, SIDE))
        few[y[:8], x[:8]] = 50.0 * light[:8]
        pixels += gaussian_filter(few, 1.3)
    elif kind in ("clouds and hits", "hot pixels"):
        pixels[y, x] += light
        # Bad columns, of which each row is a source.
        column = int(random.integers(SIDE))
        pixels[::7, column] += 500.0
    elif kind == "warm pixels":
        # Neighbours see them, so that they look like sharp stars.
        for dy, dx, share in ((0, 0, 1.0), (0, 1, 0.4), (1, 0, 0.4), (0, -1, 0.3), (-1, 0, 0.3)):
            pixels[y + dy, x + dx] += share * light
    return pixels


def solved(paths: list[tuple[str, Path]], sky: KnownSky) -> Iterator[tuple[str, str, str, float]]:
    """Solve frames one by one as `skylake solve` does; give way, kind, verdict and seconds."""
    profile = cameras.load("generic")
    ways = {
        "solve, scale to 20 %": SolveParams(scale_low=SCALE / 1.2, scale_high=SCALE * 1.2),
        "solve, nothing known": SolveParams(),
    }
    solve_frame(paths[-1][1], profile, sky, ways["solve, nothing known"])
    for way, params in ways.items():
        for kind, path in paths:
            began = time.process_time()
            row = solve_frame(path, profile, sky, params).row
            seconds = time.process_time() - began
            assert row["status"] == "solved" or row["message"]
            yield way, kind, row["reason"] or row["status"], seconds


def ingested(paths: list[tuple[str, Path]], lake: Lake) -> Iterator[tuple[str, str, str, float]]:
    """Ingest frames one by one."""
    generic = cameras.load("generic")
    known = replace(
        generic, base=replace(generic.base, optics=replace(generic.base.optics, pixel_scale_arcsec=SCALE))
    )
    for way, profile in (("ingest, scale to 20 %", known), ("ingest, nothing known", generic)):
        verdict(paths[-1][1], profile, lake)
        for kind, path in paths:
            began = time.process_time()
            reason = verdict(path, profile, lake)
            yield way, kind, reason, time.process_time() - began


def verdict(path: Path, profile: Profile, lake: Lake) -> str:
    """Ingest a frame; return why it is rejected, or its status."""
    from skylake.flow.ingest.ingest_report import IngestOptions

    report = ingest(lake, profile, [path], Inline(), IngestOptions(redo=True))
    (status,) = report.counts
    return str(report.problems[0]["reason"]) if report.problems else status


if __name__ == "__main__":
    main()
