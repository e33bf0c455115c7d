from __future__ import annotations

import healpy
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from skylake.core.sphere import healpix_centre, healpix_index, offset, ra_dec, separation_deg
from skylake.sky.cone import Box
from skylake.sky.pixels import (
    Pixel,
    PixelTree,
    box_ranges,
    cone_ranges,
    grown_ranges,
    merge_ranges,
    pixel_range,
    ranges_around,
    refined,
)

few = settings(max_examples=60, deadline=None)
SKY = 12 << 58


@st.composite
def mixed_trees(draw: st.DrawFn) -> PixelTree:
    """Trees of several orders: pixels of order 0 or 1, some of them divided again and again."""
    start = draw(st.integers(0, 1))
    pixels: set[Pixel] = {(start, number) for number in range(12 * 4**start)}
    for choice in draw(st.lists(st.integers(0, 10**6), max_size=12)):
        order, number = sorted(pixels)[choice % len(pixels)]
        if order < 12:
            pixels.remove((order, number))
            pixels |= {(order + 1, 4 * number + child) for child in range(4)}
    return PixelTree.of(draw(st.permutations(sorted(pixels))))


def deep_tree(ra: float, dec: float, order: int) -> PixelTree:
    """A tree that is divided around one position down to an order."""
    pixels: list[Pixel] = []
    parents = list(range(12))
    for level in range(order + 1):
        here = int(healpix_index(ra, dec, level)[0])
        near = {here, *healpy.get_all_neighbours(2**level, here, nest=True).tolist()}
        divided = [number for number in parents if number in near] if level < order else []
        pixels += [(level, number) for number in parents if number not in divided]
        parents = [4 * number + child for number in divided for child in range(4)]
    return PixelTree.of(pixels)


def points(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Positions all over the sphere, many of them at the poles, at RA 0 and at corners of pixels."""
    random = np.random.default_rng(seed)
    ra, dec = random.uniform(0, 360, n), np.degrees(np.arcsin(random.uniform(-1, 1, n)))
    corners = [
        np.moveaxis(healpy.boundaries(2**order, random.integers(0, 12 * 4**order, 9), nest=True), 1, 2)
        for order in (0, 1, 2, 3, 6)
    ]
    corner_ra, corner_dec = ra_dec(np.concatenate([one.reshape(-1, 3) for one in corners]))
    special_ra = np.concatenate([corner_ra, np.repeat([0.0, 123.0, 0.0, 90.0, 359.99999], 12)])
    special_dec = np.concatenate([corner_dec, np.repeat([90.0, -90.0, 41.8103, 0.0, -30.0], 12)])
    distance = 10 ** random.uniform(-4, 0, len(special_ra))
    near_ra, near_dec = offset(special_ra, special_dec, distance, random.uniform(0, 360, len(special_ra)))
    return np.concatenate([ra, special_ra, near_ra]), np.concatenate([dec, special_dec, near_dec])


def pixels_of(tree: PixelTree, places: np.ndarray) -> list[Pixel]:
    return [tree.pixels[place] for place in places]


@pytest.mark.parametrize("order", [0, 1, 2, 5])
def test_a_uniform_tree_assigns_the_pixel_of_its_order(order: int) -> None:
    ra, dec = points(300)
    tree = PixelTree.uniform(order)
    assert len(tree.pixels) == 12 * 4**order
    assert pixels_of(tree, tree.assign(healpix_index(ra, dec))) == [
        (order, int(number)) for number in healpix_index(ra, dec, order)
    ]


@given(mixed_trees(), st.integers(0, 10**6))
@few
def test_every_index_is_assigned_to_the_one_pixel_that_holds_it(tree: PixelTree, seed: int) -> None:
    edges = np.array([edge for pixel in tree.pixels for edge in pixel_range(*pixel)], np.int64)
    drawn = np.random.default_rng(seed).integers(0, SKY, 100)
    index = np.concatenate([drawn, edges[edges < SKY], np.maximum(edges - 1, 0)])
    for one, place in zip(index.tolist(), tree.assign(index), strict=True):
        holders = [pixel for pixel in tree.pixels if pixel_range(*pixel)[0] <= one < pixel_range(*pixel)[1]]
        assert holders == [tree.pixels[place]]


@given(mixed_trees(), st.data())
@few
def test_gaps_and_overlaps_are_refused(tree: PixelTree, data: st.DataObject) -> None:
    pixel = data.draw(st.sampled_from(tree.pixels))
    order, number = pixel
    rest = [one for one in tree.pixels if one != pixel]
    children = [(order + 1, 4 * number + child) for child in range(4)]
    for wrong in (rest, [*tree.pixels, pixel], [*tree.pixels, children[2]], [*rest, *children[:3]]):
        with pytest.raises(ValueError, match="cover the sky once"):
            PixelTree.of(wrong)
    assert len(PixelTree.of([*rest, *children]).pixels) == len(tree.pixels) + 3


@pytest.mark.parametrize("pixels", [[], [(0, number) for number in range(1, 13)], [(0, 0)] * 12])
def test_what_is_no_division_of_the_sky_is_refused(pixels: list[Pixel]) -> None:
    with pytest.raises(ValueError, match="cover the sky once"):
        PixelTree.of(pixels)


def within(
    tree: PixelTree, ra: np.ndarray, dec: np.ndarray, radius_arcsec: float, steps: int, angles: int
) -> set[tuple[int, int]]:
    """Pairs of a row and another pixel, found by looking everywhere within the radius."""
    own = tree.assign(healpix_index(ra, dec))
    found = set()
    for distance in np.linspace(0, radius_arcsec * (1 - 1e-9), steps)[1:] / 3600.0:
        for angle in np.arange(angles) * 360.0 / angles:
            around = offset(ra, dec, np.asarray(distance), np.asarray(angle))
            pixels = tree.assign(healpix_index(*around))
            other = np.flatnonzero(pixels != own)
            found |= set(zip(other.tolist(), pixels[other].tolist(), strict=True))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "radius_arcsec"),
    [(0, 300.0), (2, 1.0), (2, 300.0), (2, 3600.0), (5, 60.0), (6, 3600.0), (7, 400.0), (7, 4000.0)],
)
def test_margins_hold_the_rows_around_and_none_of_the_pixel(order: int, radius_arcsec: float) -> None:
    ra, dec = points(150, seed=order)
    tree = PixelTree.uniform(order)
    rows, pixels = tree.margins(ra, dec, radius_arcsec)
    found = set(zip(rows.tolist(), pixels.tolist(), strict=True))
    assert len(found) == len(rows), "each pair comes once"
    assert not (pixels == tree.assign(healpix_index(ra, dec))[rows]).any()
    assert within(tree, ra, dec, radius_arcsec, 9, 72) <= found


@pytest.mark.parametrize(("order", "radius_arcsec"), [(1, 600.0), (3, 300.0), (5, 60.0)])
def test_margins_hold_nothing_beyond_twice_the_radius(order: int, radius_arcsec: float) -> None:
    ra, dec = points(150, seed=order)
    tree = PixelTree.uniform(order)
    rows, pixels = tree.margins(ra, dec, radius_arcsec)
    step = int(58.6 * 3600.0 / 2**order / (0.1 * radius_arcsec))
    for row, pixel in zip(rows, pixels, strict=True):
        outline = healpy.boundaries(2**order, tree.pixels[pixel][1], step=step, nest=True).T
        nearest = separation_deg(ra[row], dec[row], *ra_dec(outline)).min() * 3600.0
        spacing = 0.1 * radius_arcsec
        assert nearest <= 2.0 * radius_arcsec + spacing


@pytest.mark.slow
@pytest.mark.parametrize("place", [(0.0, 90.0), (45.0, 41.8), (266.4, -29.0)])
@pytest.mark.parametrize(("order", "radius_arcsec"), [(7, 300.0), (9, 300.0), (9, 60.0)])
def test_margins_are_complete_where_pixel_sizes_mix(
    place: tuple[float, float], order: int, radius_arcsec: float
) -> None:
    tree = deep_tree(*place, order)
    random = np.random.default_rng(3)
    distance = random.uniform(0, 3 * 58.6 / 2**order + radius_arcsec / 3600, 150)
    ra, dec = offset(*(np.full(150, one) for one in place), distance, random.uniform(0, 360, 150))
    rows, pixels = tree.margins(ra, dec, radius_arcsec)
    found = set(zip(rows.tolist(), pixels.tolist(), strict=True))
    assert within(tree, ra, dec, radius_arcsec, 9, 60) <= found


def test_margins_of_nothing_are_nothing() -> None:
    for tree in (PixelTree.uniform(0), PixelTree.uniform(3)):
        rows, pixels = tree.margins(np.zeros(0), np.zeros(0), 60.0)
        assert len(rows) == len(pixels) == 0
    ra, dec = np.array([0.0]), np.array([0.0])  # the middle of a pixel of order 0
    rows, pixels = PixelTree.uniform(0).margins(ra, dec, 60.0)
    assert len(rows) == len(pixels) == 0


def holds(ranges: np.ndarray, index: np.ndarray) -> np.ndarray:
    place = np.searchsorted(ranges[:, 0], index, side="right") - 1
    return (place >= 0) & (index < ranges[np.maximum(place, 0), 1])


ras = st.one_of(
    st.floats(0, 360), st.sampled_from([0.0, 360.0, 359.999999, 45.0, 90.0]), st.floats(-720, 720)
)
decs = st.one_of(st.floats(-90, 90), st.sampled_from([90.0, -90.0, 89.9999, 41.8103148957786, 0.0]))
radii = st.one_of(
    st.floats(-9, 2.2).map(lambda power: 10.0**power), st.sampled_from([0.0, 90.0, 179.9, 180.0])
)


@given(ras, decs, radii, st.integers(0, 10**6))
@settings(max_examples=300, deadline=None)
@example(0.0, 90.0, 1e-9, 0)
@example(359.9999999, -90.0, 180.0, 0)
@example(0.0, 0.0, 0.0, 0)
@example(10.0, 20.0, 250.0, 0)
def test_cone_ranges_cover_the_cone(ra: float, dec: float, radius: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    distance = np.minimum(radius, 180.0) * np.append(np.sqrt(random.uniform(0, 1, 60)), [0.0, 1 - 1e-12, 1.0])
    inside = offset(np.full(63, ra), np.full(63, dec), distance, random.uniform(0, 360, 63))
    index = healpix_index(*inside)[separation_deg(ra, dec, *inside) <= radius]
    assume(len(index))
    ranges = cone_ranges(ra, dec, radius)
    assert holds(ranges, index).all()
    assert (ranges[:, 0] < ranges[:, 1]).all()
    assert (ranges[1:, 0] > ranges[:-1, 1]).all(), "sorted, and none touches the next"
    assert ranges[0, 0] >= 0
    assert ranges[-1, 1] <= SKY


@pytest.mark.parametrize("place", [(0.0, 90.0), (0.0, 0.0), (123.4, 41.8), (359.9, -66.0)])
@pytest.mark.parametrize("radius_deg", [0.01, 1.0, 30.0])
def test_cone_ranges_cover_little_more_than_the_cone(place: tuple[float, float], radius_deg: float) -> None:
    ranges = cone_ranges(*place, radius_deg)
    share = (ranges[:, 1] - ranges[:, 0]).sum() / SKY
    assert 1.0 <= share / np.sin(np.radians(radius_deg) / 2) ** 2 < 3.0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=20))
def test_merged_ranges_hold_the_same_and_do_not_touch(spans: list[tuple[int, int]]) -> None:
    ranges = np.array([(start, start + length) for start, length in spans], np.int64).reshape(-1, 2)
    merged = merge_ranges(ranges)
    held = {number for start, end in ranges.tolist() for number in range(start, end)}
    assert {number for start, end in merged.tolist() for number in range(start, end)} == held
    assert sum(end - start for start, end in merged.tolist()) == len(held)
    assert (merged[1:, 0] > merged[:-1, 1]).all()
    assert (merge_ranges(merged) == merged).all()


@few
@given(
    pixel=st.integers(0, 11).flatmap(
        lambda order: st.tuples(
            st.just(order),
            st.integers(0, 12 * 4**order - 1) | st.sampled_from([0, 4**order - 1, 11 * 4**order]),
        )
    ),
    radius=st.floats(0.1, 20_000),
    seed=st.integers(0, 9999),
)
def test_a_grown_pixel_covers_all_that_is_near_it(pixel: Pixel, radius: float, seed: int) -> None:
    random, (low, high) = np.random.default_rng(seed), pixel_range(*pixel)
    own = np.append(random.integers(low, high, 80), [low, high - 1])
    places = [np.asarray(one) for one in healpix_centre(own, 29)]
    near = offset(*places, radius / 3600.0 * np.sqrt(random.uniform(0, 1, 82)), random.uniform(0, 360, 82))
    ranges = grown_ranges(pixel, radius)
    assert holds(ranges, own).all() and holds(ranges, healpix_index(near[0] % 360.0, near[1])).all()


@few
@given(
    west=st.floats(-180, 360),
    width=st.floats(0, 360) | st.sampled_from([0.0, 180.0, 360.0]),
    limits=st.tuples(st.floats(-90, 90), st.floats(-90, 90)),
)
@example(west=152.47536737638387, width=360.0, limits=(0.0, 0.0))
def test_box_ranges_cover_the_box(west: float, width: float, limits: tuple[float, float]) -> None:
    south, north = sorted(limits)
    random = np.random.default_rng(3)
    ra = (west + random.uniform(0, width, 200)) % 360.0
    dec = np.append(random.uniform(south, north, 198), [south, north])
    inside = Box((west, west + width), (south, north)).holds(ra, dec)
    ranges = box_ranges(west, width, south, north)
    assert inside[:198].all() and holds(ranges, healpix_index(ra, dec)[inside]).all()
    assert len(ranges) < 20_000


@few
@given(mixed_trees(), mixed_trees())
def test_a_division_is_refined_where_the_other_is_finer(tree: PixelTree, other: PixelTree) -> None:
    both = PixelTree.of(refined(tree.pixels, other.pixels))
    for division in (tree, other):
        edges = set(division.starts.tolist())
        assert edges <= set(both.starts.tolist())


@given(
    seed=st.integers(0, 2**31),
    margin_arcsec=st.floats(0.5, 30_000.0),
    finest=st.integers(0, 12),
    near=st.sampled_from([(0.0, 0.0), (10.0, 89.99), (200.0, -89.99), (45.0, 0.0), (180.0, 41.8)]),
)
def test_ranges_around_positions_hold_all_that_is_near(
    seed: int, margin_arcsec: float, finest: int, near: tuple[float, float]
) -> None:
    random = np.random.default_rng(seed)
    ra, dec = offset(
        *(np.full(20, one) for one in near), random.uniform(0, 2, 20), random.uniform(0, 360, 20)
    )
    ranges = ranges_around(np.append(ra, np.nan), np.append(dec, 0.0), margin_arcsec, finest)
    around = offset(ra, dec, random.uniform(0, margin_arcsec / 3600.0, 20), random.uniform(0, 360, 20))
    index = healpix_index(*around)
    held = (ranges[:, :1] <= index) & (index < ranges[:, 1:])
    assert held.any(axis=0).all()
    assert (merge_ranges(ranges) == ranges).all()


def test_ranges_around_nothing_are_none() -> None:
    assert ranges_around(np.array([np.nan]), np.array([0.0]), 3.0, 10).shape == (0, 2)
