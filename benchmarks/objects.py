"""Objects from detections: how many detections are in a wrong one, what is new, and what one more night costs.

Needs: skylake alone. Takes about 10 minutes on 1 core, one with --quick.

Right or wrong: stars at 100, 2,000 and 20,000 per square degree with pixels of 15 arcseconds and images of 30, seen on
frames of five nights. Stars nearer to each other than an image are detected as one, at the centroid of their light;
beyond 0.8 of an image now and then as two. Faint ones come and go with noise. The catalog has the brighter half of the
stars, and mutual nearest neighbours within 1.5 pixels are matches. A detection is in a wrong object if most detections
of that object are of another star; an object switches its identity if its cluster of a night is of another star than
that of the night before. Beside us: the same detections without a catalog.

New: a camera that drifts over the sky, from another place each night, sees the stars of a catalog; in the last night
others shine all over its field. Of those at places that frames covered in at least three earlier nights and ten
frames, by outlines with a thirtieth of the image to spare, the view `candidates` has all that are three images from
any star. It has nothing else: no star, and no place that was not covered before.

Cost: a lake with the clusters of 10 and of 1,000 nights (100 with --quick) of a camera that looks at one field, and of
one that sees the whole sky; then five more nights are added to the objects one by one. Seconds are those of the
processor, the median of the five, and bytes those of the files of both tables that the last one leaves. Printed
beside: the seconds in which all nights are folded anew, as when one of the past is calibrated again.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from claims import Claim, conclude
from object_nights import (
    CAMERA,
    FWHM,
    PIXEL,
    bench_lake,
    cluster_rows,
    clusters_like,
    frames_of,
    keep_night,
    outline,
    place_of,
    refresh,
    whole_sky,
)

from skylake.core.sphere import healpix_index, offset, ra_dec, unit_vectors
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.lake import Commit, Lake
from skylake.schema import conform, empty_table, load
from skylake.settings import Objects
from skylake.sky.match import mutual_within, pairs_within
from skylake.table.clusters import clusters_table, link_arcsec, with_stars
from skylake.table.detection_groups import group_detections
from skylake.table.maps import region_holds
from skylake.table.objects import Folded, NightSeen, fold

Floats = npt.NDArray[np.float64]
Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]

N_NIGHTS, N_FRAMES = 5, 12
DENSITIES = {100: 20.0, 2000: 2.0, 20_000: 0.3}
"""Stars per square degree, and square degrees."""
ADDED = 5
"""Nights that are added to the objects of many."""


def main() -> None:
    """Run both parts and print claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the nights")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    claims = [claim for density in DENSITIES for claim in identities(density, options.seed)]
    claims += transients(options.seed)
    many = 100 if options.quick else 1000
    for kind in ("field", "fisheye"):
        claims += costs(kind, many, options.seed)
    conclude(claims)


@dataclass(frozen=True, slots=True)
class Sky:
    """Stars of a square; arrays of shape (n,), the brightest first."""

    ra: Floats
    dec: Floats
    snr: Floats


def draw_sky(random: np.random.Generator, density: int) -> Sky:
    """Return stars about RA 0, in numbers that grow by 10^0.3 per magnitude."""
    side = np.sqrt(DENSITIES[density])
    n = int(density * DENSITIES[density])
    x, y = random.uniform(-0.5 * side, 0.5 * side, (2, n))
    magnitude = np.sort(-np.log10(random.random(n)) / 0.3)
    ra, dec = offset(0.0, 0.0, np.hypot(x, y), np.degrees(np.arctan2(x, y)))
    return Sky(ra, dec, 3.0 * 10 ** (0.4 * np.clip(magnitude[::-1], 0.0, 6.0)))


def draw_frame(
    sky: Sky, pairs: Pairs, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return of which stars the detections of a frame are, their unit vectors and S/N.

    An image is that of the brightest star in it, at the centroid of the light of all.
    """
    vectors, n = unit_vectors(sky.ra, sky.dec), len(sky.snr)
    first, second, apart = pairs
    is_one = (apart < 0.8 * FWHM) | (random.random(len(apart)) > 0.1)
    owner = np.arange(n)
    for one, other in zip(first[is_one].tolist(), second[is_one].tolist(), strict=True):
        if owner[one] == one and owner[other] == other:
            owner[other] = one
    total = np.bincount(owner, sky.snr, n)
    means = np.column_stack([np.bincount(owner, sky.snr * vectors[:, k], n) for k in range(3)])
    own = np.flatnonzero((owner == np.arange(n)) & (total + random.standard_normal(n) > 5.0))
    error = (FWHM / 2.35 / total[own] + 0.02 * PIXEL) / 206265.0
    places = means[own] / total[own][:, None] + error[:, None] * random.standard_normal((own.size, 3))
    return own, places / np.linalg.norm(places, axis=1, keepdims=True), total[own]


def close_pairs(sky: Sky) -> Pairs:
    """Return pairs of stars within an image of each other, those with the brightest star first."""
    vectors = unit_vectors(sky.ra, sky.dec)
    i, j, apart = pairs_within(vectors, vectors, FWHM)
    brighter = (i < j) & np.isfinite(apart)
    order = np.lexsort((apart[brighter], i[brighter]))
    return i[brighter][order], j[brighter][order], apart[brighter][order]


def identities(density: int, seed: int) -> list[Claim]:
    """Return the claims about detections in wrong objects, and identity switches."""
    random = np.random.default_rng(seed)
    sky = draw_sky(random, density)
    pairs = close_pairs(sky)
    nights = [[draw_frame(sky, pairs, random) for _ in range(N_FRAMES)] for _ in range(N_NIGHTS)]
    started = time.process_time()
    wrong, switched, n_objects = follow(sky, nights, catalogued=True)
    seconds = time.process_time() - started
    peer, _, _ = follow(sky, nights, catalogued=False)
    n = sum(len(stars) for night in nights for stars, _, _ in night)
    print(
        f"{density} per square degree: {n} detections, {n_objects} objects, {100 * wrong:.3f} % of detections in a "
        f"wrong object, {switched} switches, {seconds:.2f} s"
    )
    target = 0.1 if density <= 2000 else np.inf
    return [
        Claim(f"percent in a wrong object at {density} per square degree", 100 * wrong, 100 * peer, target),
        Claim(f"percent of objects that switch at {density}", 100 * switched / n_objects, None, 10 * target),
    ]


def follow(sky: Sky, nights: list[Any], catalogued: bool) -> tuple[float, int, int]:
    """Return the share of detections in a wrong object, the number of switches, and of objects."""
    folded, links = Folded.nothing(), []
    no_targets = empty_table(load("targets"))
    switched, before = 0, {}
    for number, frames in enumerate(nights):
        night, mjd = 20240401 + number, 60000.0 + number
        rows, matches, star = night_rows(sky, frames, night, mjd, catalogued)
        info = frames_of(CAMERA, night, mjd, 0.0, 0.0, len(frames), 4.5)
        cluster_of, table = clusters_of(rows, matches, info, night)
        # The number of the cluster is in a time, so that it is found again in the object.
        place = table.schema.get_field_index("mjd_last")
        table = table.set_column(place, "mjd_last", pa.array(mjd + 0.9 + 1e-7 * np.arange(table.num_rows)))
        folded = fold(folded, [NightSeen(night, table, info)], no_targets, Objects(), CAMERA)
        objects = folded.objects
        last = objects["mjd_last"].to_numpy()
        seen = np.flatnonzero(last > mjd + 0.5)
        of_cluster = np.full(table.num_rows, -1, np.int64)
        of_cluster[np.rint((last[seen] - mjd - 0.9) * 1e7).astype(np.int64)] = objects[
            "object_id"
        ].to_numpy()[seen]
        links.append((of_cluster[cluster_of], star))
        main = majority(*links[-1])
        switched += sum(1 for one in main.keys() & before.keys() if main[one] != before[one])
        before |= main
    of_object, star = (np.concatenate(one) for one in zip(*links, strict=True))
    whole = majority(of_object, star)
    wrong = sum(1 for one, own in zip(of_object.tolist(), star.tolist(), strict=True) if whole[one] != own)
    return wrong / len(star), switched, len(whole)


def majority(of_object: npt.NDArray[np.int64], star: npt.NDArray[np.int64]) -> dict[int, int]:
    """Return the star of most detections of each object."""
    pairs, counts = np.unique(np.column_stack([of_object, star]), axis=0, return_counts=True)
    order = np.argsort(counts, kind="stable")
    return {int(one): int(own) for one, own in pairs[order]}


def night_rows(
    sky: Sky, frames: list[Any], night: int, mjd: float, catalogued: bool
) -> tuple[pa.Table, pa.Table, npt.NDArray[np.int64]]:
    """Return rows of ``sources`` and ``matches``, and the star of each detection."""
    known = np.argsort(-sky.snr)[: len(sky.snr) // 2 if catalogued else 0]
    catalog = unit_vectors(sky.ra[known], sky.dec[known])
    star = np.concatenate([stars for stars, _, _ in frames])
    vectors = np.concatenate([places for _, places, _ in frames])
    frame = np.repeat(np.arange(len(frames)), [len(stars) for stars, _, _ in frames])
    ra, dec = ra_dec(vectors)
    n = len(star)
    snr = np.concatenate([one for _, _, one in frames])
    number = np.concatenate([np.arange(len(stars)) for stars, _, _ in frames])
    columns: dict[str, Any] = {
        "_healpix_29": healpix_index(ra, dec), "frame_id": frame + 1, "source_no": number.astype(np.int32),
        "camera": pa.repeat(CAMERA, n), "night": np.full(n, night, np.int32), "mjd_mid": mjd + 0.001 * frame,
        "ra_deg": ra, "dec_deg": dec, "x_px": np.zeros(n), "y_px": np.zeros(n),
        "edge_distance_px": np.full(n, 50, np.float32), "flux_aper2": snr.astype(np.float32),
        "flux_aper2_err": np.ones(n, np.float32), "flags": np.zeros(n, np.int32),
    }  # fmt: skip
    pieces = []
    for one in range(len(frames)):
        mine = np.flatnonzero(frame == one)
        i, j, _ = mutual_within(vectors[mine], catalog, 1.5 * PIXEL)
        pieces.append(np.column_stack([mine[i], known[j]]))
    pairs = np.concatenate(pieces)
    places = {"moved_ra_deg": sky.ra[pairs[:, 1]], "moved_dec_deg": sky.dec[pairs[:, 1]]}
    matches = pa.table(
        {
            "frame_id": columns["frame_id"][pairs[:, 0]],
            "source_no": columns["source_no"][pairs[:, 0]],
            "ref_id": pairs[:, 1],
            "catalog": pa.repeat("truth", len(pairs)),
        }
        | places
    )
    empty = {
        name: pa.nulls(len(pairs), pa.float32()) for name in load("matches").names if name.startswith("ref_")
    }
    matches = pa.table({name: matches[name] for name in matches.column_names} | {
        name: values for name, values in empty.items() if name != "ref_id"
    })  # fmt: skip
    return conform(pa.table(columns), load("sources")), matches, star


def clusters_of(
    rows: pa.Table, matches: pa.Table, frames: pa.Table, night: int
) -> tuple[npt.NDArray[np.int64], pa.Table]:
    """Return the cluster of each detection, and the clusters of a night."""
    rows = with_stars(rows, matches)
    table = clusters_table(rows, frames, empty_table(load("zeropoints")), "aper2")
    n = table.num_rows
    table = table.append_column("camera", pa.repeat(CAMERA, n)).append_column(
        "night", pa.array([night] * n, pa.int32())
    )
    table = conform(table, load("clusters"))
    ra, dec = rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()
    vectors, star = unit_vectors(ra, dec), rows["ref_id"].fill_null(-1).to_numpy()
    groups = group_detections(rows["frame_id"].to_numpy(), vectors, (ra, dec), star, link_arcsec(frames))
    # Places of the table are those of its groups, to the last digits.
    i, j, _ = mutual_within(
        groups.vectors, unit_vectors(table["ra_deg"].to_numpy(), table["dec_deg"].to_numpy()), 0.01
    )
    number = np.full(len(groups), -1, np.int64)
    number[i] = j
    assert (number >= 0).all()
    return number[groups.number], table


def transients(seed: int) -> list[Claim]:
    """Return the claims about what shines in one night only, in a field that drifts."""
    random = np.random.default_rng(seed)
    n_nights, n_frames, size = 12, 8, 4.0
    begin = random.uniform(-1.5, 1.5, (n_nights, 2))
    steps = np.linspace(0.0, 3.0, n_frames)
    # Offsets of the centres of frames, eastward and northward, degrees.
    centres = begin[:, None, :] + np.stack([steps, 0.1 * steps], axis=1)
    stars, new = (random.uniform((-5, -5), (8, 5), (n, 2)) for n in (4000, 600))
    with tempfile.TemporaryDirectory() as folder:
        lake = bench_lake(Path(folder), "field")
        commit = Commit("bench", "-")
        with lake.stage("bench") as staging:
            for number in range(n_nights):
                night, mjd = 20240401 + number, 60400.0 + number
                frames = drifting_frames(night, mjd, centres[number], size)
                places = np.concatenate([stars, new]) if number == n_nights - 1 else stars
                clusters = seen_clusters(places, len(stars), centres[number], size, (night, mjd), random)
                keep_night(lake, commit, staging, night, frames, clusters)
            lake.commit(commit)
        refresh(lake)
        with lake.snapshot().duckdb() as connection:
            found = connection.sql("FROM candidates").to_arrow_table()
    before = [covered(new, frames, 0.93 * size).sum(axis=0) for frames in centres[:-1]]
    nights, frames = np.sum([one > 0 for one in before], axis=0), np.sum(before, axis=0)
    tonight = covered(new, centres[-1], 0.93 * size).sum(axis=0) >= 3
    near, _, _ = pairs_within(unit_vectors(*place_of(new)), unit_vectors(*place_of(stars)), 3.0 * FWHM)
    alone = ~np.isin(np.arange(len(new)), near)
    due = np.flatnonzero(alone & tonight & (nights >= 3) & (frames >= 10))
    # At least so often by outlines that are a fiftieth larger.
    before = [covered(new, frames, 1.02 * size).sum(axis=0) > 0 for frames in centres[:-1]]
    allowed = np.flatnonzero(np.sum(before, axis=0) >= 3)
    at = unit_vectors(*place_of(new))
    _, which, _ = mutual_within(
        unit_vectors(found["ra_deg"].to_numpy(), found["dec_deg"].to_numpy()), at, PIXEL
    )
    missed, false = len(np.setdiff1d(due, which)), found.num_rows - int(np.isin(which, allowed).sum())
    inner = int(covered(new, centres[-1], 0.5 * size).any(axis=0)[due].sum())
    print(
        f"new: {found.num_rows} candidates; {len(due)} of {len(new)} lie where earlier nights looked, "
        f"{len(due) - inner} of them near edges; {missed} are missed, {false} are false"
    )
    return [
        Claim("new sources of one night that are missed", missed, None, 0),
        Claim("candidates that are none", false, None, 0),
    ]


def covered(places: Floats, centres: Floats, size: float) -> npt.NDArray[np.bool_]:
    """Return which frames hold which places, shape (n_frames, n)."""
    held = []
    for frame in centres:
        ra, dec = place_of(frame[None])
        region = outline(float(ra[0]), float(dec[0]), size)
        held.append(region_holds(region, *place_of(places)))
    return np.array(held)


def drifting_frames(night: int, mjd: float, centres: Floats, size: float) -> pa.Table:
    """Return the frames of a night."""
    rows = [
        frames_of(CAMERA, night, mjd, float(ra), float(dec), 1, size, number)
        for number, (ra, dec) in enumerate(zip(*place_of(centres), strict=True))
    ]
    return pa.concat_tables(rows)


def seen_clusters(
    places: Floats,
    n_known: int,
    centres: Floats,
    size: float,
    when: tuple[int, float],
    random: np.random.Generator,
) -> pa.Table:
    """Return the clusters of a night of what its frames hold, the first so many of the catalog."""
    count = covered(places, centres, size).sum(axis=0)
    seen = np.flatnonzero(count > 0)
    vectors = unit_vectors(*place_of(places[seen]))
    noisy = vectors + 0.5 / 206265.0 * random.standard_normal(vectors.shape)
    return clusters_like(noisy, vectors, seen, seen < n_known, count[seen], count[seen], when, random)


def costs(kind: str, many: int, seed: int) -> list[Claim]:
    """Return the claims about one more night after 10 nights and after many."""
    few_seconds, few_bytes, _ = one_more_night(kind, 10, seed)
    seconds, n_bytes, anew = one_more_night(kind, many, seed)
    print(
        f"{kind}: one more night after 10 nights {few_seconds:.2f} s and {few_bytes / 1e6:.2f} MB, after {many} "
        f"nights {seconds:.2f} s and {n_bytes / 1e6:.2f} MB; {many} nights anew {anew:.1f} s"
    )
    return [
        Claim(f"seconds of one night more at {many} nights, {kind}", seconds, few_seconds, 1.5 * few_seconds),
        Claim(f"bytes of one night more at {many} nights, {kind}", n_bytes, few_bytes, 1.5 * few_bytes),
    ]


def one_more_night(kind: str, n_nights: int, seed: int) -> tuple[float, int, float]:
    """Return the seconds and bytes of one more night of objects after so many, and the seconds of all anew."""
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        lake = bench_lake(Path(folder), kind)
        sky = whole_sky(random, 2000) if kind == "fisheye" else whole_sky(random, 2000, 4.0)
        for start in range(0, n_nights, 50):
            add_nights(lake, kind, sky, range(start, min(start + 50, n_nights)), random)
        compact(lake, Inline())
        started = time.process_time()
        refresh(lake)
        anew = time.process_time() - started
        seconds = []
        for number in range(n_nights, n_nights + ADDED):
            add_nights(lake, kind, sky, range(number, number + 1), random)
            started = time.process_time()
            refresh(lake)
            seconds.append(time.process_time() - started)
        snapshot = lake.snapshot()
        files = [path for table in ("objects", "coverage") for path in snapshot.version(table).whole_files()]
        return float(np.median(seconds)), sum(path.stat().st_size for path in files), anew


def add_nights(lake: Lake, kind: str, sky: Floats, nights: range, random: np.random.Generator) -> None:
    """Commit frames and clusters of some nights: the stars, nine of ten in the catalog, and a tenth of noise."""
    commit = Commit("bench", "-")
    size = 4.0 if kind == "field" else 120.0
    with lake.stage("bench") as staging:
        for number in nights:
            day = date(2020, 1, 1) + timedelta(days=number)
            night, mjd = day.year * 10000 + day.month * 100 + day.day, 58849.0 + number
            frames = frames_of(CAMERA, night, mjd, 0.0, 0.0, 20, size)
            keep_night(lake, commit, staging, night, frames, cluster_rows(sky, size, night, mjd, random))
        lake.commit(commit)


if __name__ == "__main__":
    main()
