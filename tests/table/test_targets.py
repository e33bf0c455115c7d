"""Clusters of detections, and targets that keep their identifiers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.sphere import apply_proper_motion, healpix_index, offset, ra_dec, separation_deg
from skylake.schema import arrow_schema, load
from skylake.table.faint_stars import are_fainter_stars
from skylake.table.targets import (
    DETECTIONS,
    CatalogStars,
    Clusters,
    cluster_detections,
    combine,
    identify,
    merge_clusters,
    targets_table,
)

Floats = npt.NDArray[np.float64]
LINK = 3.0
MJD = 60000.0


def sky(n: int, seed: int, spread_deg: float = 0.3) -> tuple[Floats, Floats]:
    """Places that are at least 20 arcseconds apart, at RA 0."""
    random = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(4 * n)))
    cells = random.choice(side * side, n, replace=False)
    step = spread_deg / side
    assert step * 3600 > 25
    x = (cells % side) * step + random.uniform(0, 0.2 * step, n)
    y = (cells // side) * step + random.uniform(0, 0.2 * step, n)
    return (359.9 + x) % 360.0, -10.0 + y


def detections(
    ra: Floats, dec: Floats, frames: int, seed: int, lost: float = 0.0
) -> tuple[npt.NDArray[np.int64], ...]:
    """Detections of stars on frames, half an arcsecond off, of which a part is lost."""
    random = np.random.default_rng(seed)
    star = np.tile(np.arange(len(ra)), frames)
    frame = np.repeat(np.arange(frames), len(ra)) + 100
    kept = random.uniform(size=star.size) >= lost
    star, frame = star[kept], frame[kept]
    off = offset(
        ra[star], dec[star], random.normal(0, 0.5, star.size) / 3600, random.uniform(0, 360, star.size)
    )
    order = random.permutation(star.size)
    return star[order], frame[order], off[0][order], off[1][order]  # type: ignore[return-value]


@given(seed=st.integers(0, 10**6))
def test_detections_of_one_star_are_one_cluster(seed: int) -> None:
    ra, dec = sky(30, seed)
    star, frame, x, y = detections(ra, dec, 12, seed, lost=0.3)
    found = cluster_detections(frame, x, y, 10.0 * (1 + star), np.full(star.size, MJD), LINK)
    seen = np.unique(star)
    assert len(found) == len(seen)
    mean = ra_dec(found.total)
    nearest = [int(np.argmin(separation_deg(a, d, ra, dec))) for a, d in zip(*mean, strict=True)]
    assert sorted(nearest) == seen.tolist()
    assert found.n_frames.tolist() == [int((star == one).sum()) for one in nearest]
    assert found.flux / found.n_detections == pytest.approx(10.0 * (1 + np.array(nearest)))
    assert (3600 * separation_deg(*mean, ra[nearest], dec[nearest])).max() < 2.0


def test_two_detections_on_one_frame_are_one_frame() -> None:
    found = cluster_detections(
        np.array([1, 1, 2]), np.array([10.0, 10.0002, 10.0]), np.zeros(3), np.ones(3), np.full(3, MJD), LINK
    )
    assert (found.n_detections.tolist(), found.n_frames.tolist()) == ([3], [2])
    assert len(cluster_detections(*(np.zeros(0),) * 5, LINK)) == 0  # type: ignore[arg-type]


@given(seed=st.integers(0, 10**6))
def test_a_star_on_the_edge_of_pixels_is_one_target(seed: int) -> None:
    ra, dec = sky(20, seed)
    _, frame, x, y = detections(ra, dec, 8, seed)
    whole = cluster_detections(frame, x, y, np.ones(x.size), np.full(x.size, MJD), LINK)
    east = np.random.default_rng(seed).integers(0, 2, x.size).astype(bool)
    halves = [
        cluster_detections(frame[half], x[half], y[half], np.ones(half.sum()), np.full(half.sum(), MJD), LINK)
        for half in (east, ~east)
    ]
    merged = merge_clusters(Clusters.joined(halves), LINK)
    assert len(merged) == len(whole)
    assert sorted(merged.n_detections) == sorted(whole.n_detections)


def catalog(ra: Floats, dec: Floats, pm: float = 0.0, epoch: float = 2000.0) -> CatalogStars:
    n = len(ra)
    return CatalogStars(
        "ref", epoch, np.arange(n) + 7000, ra, dec, np.full(n, pm), np.full(n, -pm), np.full(n, 9.0)
    )


def clusters_at(ra: Floats, dec: Floats, n_frames: int = 5) -> Clusters:
    _, frame, x, y = detections(ra, dec, n_frames, 1)
    return cluster_detections(frame, x, y, np.ones(x.size), np.full(x.size, MJD), LINK)


def test_a_moving_catalog_star_is_its_detections() -> None:
    ra, dec = sky(40, 3)
    years = 23.15
    moved = apply_proper_motion(ra[:25], dec[:25], 600.0, -600.0, years)
    seen = clusters_at(np.append(moved[0], ra[30:]), np.append(moved[1], dec[30:]))
    rows = combine(catalog(ra[:30], dec[:30], 600.0), seen, 4.0)
    origin = rows["origin"].to_pylist()
    assert (origin.count("ref"), origin.count(DETECTIONS)) == (30, 10)
    at = np.array([rows["ra_deg"].to_numpy()[:30], rows["dec_deg"].to_numpy()[:30]])
    assert (3600 * separation_deg(*at, ra[:30], dec[:30])).max() < 1.0
    assert rows["n_seen"].to_pylist()[:30] == [5] * 25 + [0] * 5
    assert rows["epoch"].to_numpy()[:30] == pytest.approx(2000.0)
    assert rows["epoch"].to_numpy()[30:] == pytest.approx(2023.15, abs=0.01)
    # What was not seen is where the catalog has it, beside which the others lie by chance.
    assert (3600 * separation_deg(*at[:, 25:], ra[25:30], dec[25:30])).max() < 0.25


def test_two_catalog_stars_in_one_image_stay_where_they_are() -> None:
    ra, dec = np.array([10.0, 10.0]), np.array([0.0, 2.0 / 3600.0])
    rows = combine(catalog(ra, dec), clusters_at(np.array([10.0]), np.array([1.0 / 3600.0])), 4.0)
    assert rows["dec_deg"].to_pylist() == dec.tolist()
    assert rows.num_rows == 2


def close_pair(magnitudes: tuple[float, float], apart_arcsec: float) -> tuple[CatalogStars, Clusters, Floats]:
    """Twenty stars that are seen 0.4 arcsec north of the catalog, and a pair that is seen as one, at its centroid."""
    ra, dec = sky(21, 5)
    share = 1.0 / (1.0 + 10.0 ** (0.4 * (magnitudes[1] - magnitudes[0])))
    seen = np.append(dec[:20], dec[20] + share * apart_arcsec / 3600.0) + 0.4 / 3600.0
    stars = catalog(np.append(ra, ra[20]), np.append(dec, dec[20] + apart_arcsec / 3600.0))
    stars = replace(stars, mag=np.append(np.full(20, 9.0), magnitudes))
    return stars, clusters_at(ra, seen, 400), stars.dec_deg


@pytest.mark.parametrize("fainter", [0.0, 0.75, 2.0])
@pytest.mark.parametrize("apart", [4.0, 6.0, 8.0, 10.0])
def test_a_star_is_not_moved_onto_the_centroid_of_a_blend(apart: float, fainter: float) -> None:
    """It stays at its catalog place, moved as the other stars of the field are."""
    stars, clusters, dec = close_pair((10.0, 10.0 + fainter), apart)
    rows = combine(stars, clusters, 4.0, 11.0)
    assert rows["ref_id"].null_count == 0
    assert 3600 * (rows["dec_deg"].to_numpy() - dec) == pytest.approx(0.4, abs=0.12)


def test_a_star_with_a_much_fainter_neighbour_is_put_where_it_is_seen() -> None:
    stars, clusters, dec = close_pair((10.0, 15.0), 6.0)
    rows = combine(stars, clusters, 4.0, 11.0)
    assert rows["n_seen"].to_pylist()[20:] == [400, 0]
    # What cannot be told apart by brightness counts as equal.
    unknown = combine(replace(stars, mag=np.full(22, np.nan)), clusters, 4.0, 11.0)
    assert unknown["n_seen"].to_pylist()[20:] == [0, 0]
    assert 3600 * (unknown["dec_deg"].to_numpy() - dec)[20:] == pytest.approx(0.4, abs=0.12)


def test_detections_of_fainter_catalog_stars_are_recognised() -> None:
    """Ten wanted stars, twenty fainter ones of which one flares, and five that no catalog has."""
    ra, dec = sky(35, 11)
    mag = np.concatenate([np.linspace(9, 12, 10), np.linspace(13, 16, 20), np.full(5, 14.0)])
    light = 10.0 ** (-0.4 * (mag - 20.0))
    light[15] *= 40.0
    star, frame, x, y = detections(ra, dec, 5, 1)
    seen = cluster_detections(frame, x, y, light[star], np.full(star.size, MJD), LINK)
    order = [
        int(np.argmin(separation_deg(a, d, *ra_dec(seen.vectors)))) for a, d in zip(ra, dec, strict=True)
    ]
    stars = replace(catalog(ra[:30], dec[:30]), mag=mag[:30])
    wanted, fainter = stars.take(np.arange(10)), stars.take(np.arange(10, 30))
    told = are_fainter_stars(seen, wanted, fainter, 4.0)[order]
    assert np.flatnonzero(told).tolist() == [one for one in range(10, 30) if one != 15]
    rows = combine(wanted, seen.take(~are_fainter_stars(seen, wanted, fainter, 4.0)), 4.0)
    assert rows["origin"].to_pylist().count(DETECTIONS) == 6


def earlier(rows: pa.Table, ids: npt.NDArray[np.int64], version: int) -> pa.Table:
    return targets_table(rows, ids, np.full(rows.num_rows, 9), "c", version)


@given(seed=st.integers(0, 10**6))
def test_identifiers_stay_the_same_in_later_lists(seed: int) -> None:
    ra, dec = sky(60, seed)
    nothing = arrow_schema(load("targets")).empty_table()
    first = combine(catalog(ra[:20], dec[:20]), clusters_at(ra[20:50], dec[20:50]), 4.0)
    ids = identify(first, nothing, 4.0)
    assert len(np.unique(ids)) == 50
    table = earlier(first, ids, 1)
    # The second list has seen more, and the third lacks half of the stars, which the fourth has again.
    _, frame, x, y = detections(ra[20:], dec[20:], 9, seed + 1)
    second = combine(
        catalog(ra[:20], dec[:20]),
        cluster_detections(frame, x, y, np.ones(x.size), np.full(x.size, MJD), LINK),
        4.0,
    )
    again = identify(second, table, 4.0)
    assert again[:20].tolist() == ids[:20].tolist()
    assert set(ids) < set(again)
    assert len(np.unique(again)) == 60
    half = pa.concat_tables([table, earlier(second.slice(0, 20), again[:20], 2)])
    assert identify(second, half, 4.0)[:20].tolist() == ids[:20].tolist()
    assert set(ids) < set(identify(second, half, 4.0))


def test_a_new_target_has_the_next_free_index_of_its_position() -> None:
    ra, dec = np.array([10.0, 10.0, 50.0]), np.zeros(3)
    rows = combine(catalog(ra, dec), Clusters.joined([]), 4.0)
    nothing = arrow_schema(load("targets")).empty_table()
    ids = identify(rows, nothing, 4.0)
    index = healpix_index(ra, dec)
    assert sorted(ids[:2] - index[:2]) == [0, 1]
    assert ids[2] == index[2]
