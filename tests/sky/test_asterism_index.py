"""The index of a catalog for plate solving, and the file that holds it."""

from __future__ import annotations

import itertools
import json
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from skylake.core.asterism_codes import cell_of, cell_x, cell_y, describe_all, unpacked_x, unpacked_y
from skylake.core.declination_zones import sorted_by_zone
from skylake.core.sphere import unit_vectors
from skylake.durable import locked_alone, partial_path
from skylake.errors import CatalogError
from skylake.sky.asterism_build import RANK, band_densities, bands_of, leaders
from skylake.sky.asterism_index import (
    AsterismIndex,
    build_index,
    ensure_index,
    index_path,
    narrowest_possible_deg,
    open_index,
)
from skylake.sky.catalog_build import build_catalog
from skylake.sky.catalog_columns import catalog_schema
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import PixelTree


@pytest.fixture(scope="module")
def catalog(stars: Callable[..., pa.Table], tmp_path_factory: pytest.TempPathFactory) -> ReferenceCatalog:
    random = np.random.default_rng(8)
    n = 6000
    ra, dec = random.uniform(0, 360, n), np.degrees(np.arcsin(random.uniform(-1, 1, n)))
    rows, target = stars(ra, dec), tmp_path_factory.mktemp("index") / "stars"
    schema = catalog_schema(("V", "B"), ("B-V",))
    properties = {"skylake_epoch": "2000.0", "skylake_origin": "a test"}
    build_catalog([rows], schema, target, PixelTree.uniform(1), 300.0, properties)
    return ReferenceCatalog.open(target)


@pytest.fixture(scope="module")
def index(catalog: ReferenceCatalog) -> AsterismIndex:
    return build_index(catalog, "V", narrowest_deg=10.0)


def test_asterisms_of_the_file_are_those_of_their_stars(index: AsterismIndex) -> None:
    for band in index.bands:
        members = band.quads.stars.astype(np.int64)
        codes, sizes = np.empty(members.shape), np.empty(len(members))
        describe_all(band.zones.vectors.astype(float), members, codes, sizes)
        # Single precision may exchange names that are as good as each other.
        same = (members == band.quads.stars).all(axis=1)
        assert same.mean() > 0.999
        cells = np.repeat(np.arange(len(band.quads.starts) - 1), np.diff(band.quads.starts.astype(np.int64)))
        n_x, packed = band.quads.n_x, band.quads.codes
        assert np.abs(packed[same, 0] / 255.0 - codes[same, 0]).max() < 0.0021
        for quad in range(0, len(packed), 97):
            x = [cell_x(unpacked_x(packed[quad, k]), n_x) for k in (0, 2)]
            y = [cell_y(unpacked_y(packed[quad, k]), n_x) for k in (1, 3)]
            assert cell_of(x[0], y[0], x[1], y[1], n_x) == cells[quad]
        assert len(np.unique(np.sort(members, axis=1), axis=0)) == len(members)
        assert sizes.min() >= 0.99 * band.quads.smallest
    assert index.n_asterisms > 5 * index.n_stars / 2 and index.magnitude == "mag_V"


def test_bands_thin_out_evenly_over_the_sky(index: AsterismIndex) -> None:
    numbers = [len(band.zones.ra) for band in index.bands]
    wanted = [4 * math.pi * band.density for band in index.bands]
    assert len(numbers) == 3
    assert all(0.5 < n / w < 1.3 for n, w in zip(numbers[1:], wanted[1:], strict=True))
    heights = index.bands[-1].zones.vectors[:, 2]
    assert np.abs(np.histogram(heights, 4, (-1, 1))[0] / numbers[-1] - 0.25).max() < 0.12


def test_asterisms_are_a_star_and_three_neighbours_at_poles_too() -> None:
    random = np.random.default_rng(6)
    vectors = random.normal(size=(3000, 3)) * [1.0, 1.0, 4.0]
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    [band] = bands_of(vectors, random.uniform(5.0, 12.0, 3000), 10.0, 10.0, finer=False)
    stars = band.zones.vectors.astype(float)
    near = np.argsort(-(stars @ stars.T), axis=1)[:, 1:7]
    at_least = {tuple(sorted((star, *near[star, :3].tolist()))) for star in range(len(stars))}
    at_most = {
        tuple(sorted((star, *three)))
        for star in range(len(stars))
        for three in itertools.combinations(near[star].tolist(), 3)
    }
    # The largest ones are left out.
    found = {tuple(four) for four in np.sort(band.quads.stars, axis=1).tolist()}
    assert len(found) == len(band.quads.sizes) > 4 * len(stars)
    assert found <= at_most and len(at_least - found) < 0.05 * len(at_least)


def test_leaders_have_few_brighter_neighbours() -> None:
    random = np.random.default_rng(4)
    vectors = unit_vectors(random.uniform(0, 20, 400), random.uniform(-10, 10, 400))
    magnitudes = random.uniform(5, 12, 400)
    reach = math.radians(3.0)
    zones = sorted_by_zone(vectors, magnitudes, reach)
    near = zones.vectors.astype(float) @ zones.vectors.astype(float).T > math.cos(reach)
    brighter = (near & (zones.magnitudes[None] < zones.magnitudes[:, None])).sum(axis=1)
    assert leaders(zones, RANK, reach).tolist() == (brighter < RANK).tolist()


def test_the_widest_pictures_have_thirty_stars_of_the_last_band() -> None:
    square_degrees = math.degrees(1.0) ** 2
    densities = np.array(band_densities(64.0, 60.0)) / square_degrees
    assert np.allclose(densities[:-1] / densities[1:], 4.0)
    assert 30.0 <= densities[-1] * 3600.0 < 120.0


def test_an_index_is_of_one_catalog_and_whole(catalog: ReferenceCatalog, index: AsterismIndex) -> None:
    path = index_path(catalog)
    assert open_index(catalog).n_asterisms == index.n_asterisms
    other = ReferenceCatalog(
        catalog.collection, catalog.name, 2000.0, 300.0, catalog.n_rows, "another", catalog.columns
    )
    with pytest.raises(CatalogError, match="not of this catalog"):
        open_index(other)
    content = path.read_bytes()
    try:
        for damaged in (content[:-100], b"x" + content[1:], content[:30], b""):
            path.write_bytes(damaged)
            with pytest.raises(CatalogError, match=r"damaged.*skylake catalog index"):
                open_index(catalog)
        told: list[str] = []
        assert ensure_index(catalog, told.append).n_stars == len(open_index(catalog).bands[0].zones.ra)
        assert len(told) == 1 and "built now" in told[0]
    finally:
        path.write_bytes(content)


@pytest.mark.usefixtures("index")
def test_a_rebuilt_index_is_for_the_last_pictures(catalog: ReferenceCatalog) -> None:
    path = index_path(catalog)
    kept = path.rename(path.with_suffix(".kept"))
    try:
        count = build_index(catalog, "V", 10.0, 40.0).n_asterisms
        damaged = path.read_bytes()[:-100]
        # Another file: the first one is mapped.
        path.unlink()
        path.write_bytes(damaged)
        again = ensure_index(catalog, lambda sentence: None)
        assert (again.narrowest_deg, again.widest_deg, again.magnitude) == (10.0, 40.0, "mag_V")
        assert again.n_asterisms == count
    finally:
        kept.replace(path)


def test_a_band_that_the_catalog_lacks_is_told(catalog: ReferenceCatalog) -> None:
    with pytest.raises(CatalogError, match="no band R; it has V, B"):
        build_index(catalog, "R")


@pytest.fixture
def copied(catalog: ReferenceCatalog, index: AsterismIndex, tmp_path: Path) -> ReferenceCatalog:
    """The catalog elsewhere, with a copy of its index alone."""
    assert index.n_stars > 100
    moved = ReferenceCatalog(
        tmp_path / "stars", "stars", 2000.0, 300.0, catalog.n_rows, catalog.checksum, catalog.columns
    )
    index_path(moved).write_bytes(index_path(catalog).read_bytes())
    return moved


def header_of(path: Path) -> tuple[int, int, dict[str, object]]:
    content = path.read_bytes()
    begin = content.index(b"\n") + 9
    end = begin + int.from_bytes(content[begin - 8 : begin], "little")
    return begin, end, json.loads(content[begin:end])


@pytest.mark.parametrize("name", ["zones.starts", "quads.stars", "quads.starts", "quads.codes"])
def test_bytes_that_have_changed_are_found_in_every_array(name: str, copied: ReferenceCatalog) -> None:
    path = index_path(copied)
    _, end, header = header_of(path)
    offset = header["bands"][0]["arrays"][name][2]  # type: ignore[index]
    assert open_index(copied).bands
    with path.open("r+b") as stream:
        stream.seek(end + offset + 3)
        stream.write(b"\x7f")
    with pytest.raises(CatalogError, match=r"damaged \(its content has changed\).*skylake catalog index"):
        open_index(copied)


def test_a_header_that_has_changed_is_found(copied: ReferenceCatalog) -> None:
    path = index_path(copied)
    begin, end, header = header_of(path)
    changed = path.read_bytes().replace(b'"n_x": ', b'"n_x": 9', 1)
    path.write_bytes(changed[:begin] + changed[begin : end + 1].rstrip() + changed[end + 1 :])
    assert header["version"] == 2
    with pytest.raises(CatalogError, match="damaged"):
        open_index(copied)


def test_each_copy_of_an_index_is_read_whole_once(copied: ReferenceCatalog) -> None:
    path = index_path(copied)
    note = path.with_name(f".{path.name}.whole")
    open_index(copied)
    first, written = note.read_text(), note.stat().st_mtime_ns
    open_index(copied)
    assert note.stat().st_mtime_ns == written
    os.utime(path, ns=(1, 1))
    open_index(copied)
    assert note.read_text() != first
    # A folder that is no place for a note is read whole each time.
    note.unlink()
    note.mkdir()
    assert open_index(copied).n_stars and list(path.parent.glob(".*.tmp")) == []


def test_an_index_of_an_older_format_is_told_and_made_anew(
    catalog: ReferenceCatalog, index: AsterismIndex
) -> None:
    path = index_path(catalog)
    kept = path.rename(path.with_suffix(".newer"))
    try:
        content = kept.read_bytes()
        begin, end, header = header_of(kept)
        old = {name: value for name, value in header.items() if name not in ("crc", "own")} | {"version": 1}
        path.write_bytes(content[:begin] + json.dumps(old).encode().ljust(end - begin) + content[end:])
        with pytest.raises(CatalogError, match="version 1 of the format and this skylake reads 2; run"):
            open_index(catalog)
        told: list[str] = []
        again = ensure_index(catalog, told.append)
        assert (again.narrowest_deg, again.n_asterisms) == (index.narrowest_deg, index.n_asterisms)
        assert len(told) == 1 and "version 1" in told[0] and "built now" in told[0]
    finally:
        kept.replace(path)


def test_who_waits_for_a_builder_takes_what_it_built(catalog: ReferenceCatalog, index: AsterismIndex) -> None:
    path = index_path(catalog)
    content = path.read_bytes()
    kept = path.rename(path.with_suffix(".first"))
    left = partial_path(path)
    told: list[str] = []
    waits = threading.Event()

    def tell(sentence: str) -> None:
        told.append(sentence)
        waits.set()

    found: list[AsterismIndex] = []
    other = threading.Thread(target=lambda: found.append(ensure_index(catalog, tell)))
    try:
        left.write_bytes(b"half")
        with locked_alone(path.with_name(f".{path.name}.lock"), lambda: None):
            other.start()
            assert waits.wait(20.0)
            path.write_bytes(content)
        other.join(20.0)
        assert [one.n_asterisms for one in found] == [index.n_asterisms]
        assert len(told) == 1 and "another process builds the index" in told[0]
        # What a killed process has left is gone.
        assert not left.exists() and partial_path(path) != left
    finally:
        kept.replace(path)


def test_two_builds_at_once_leave_one_whole_index(catalog: ReferenceCatalog) -> None:
    path = index_path(catalog)
    kept = path.rename(path.with_suffix(".before"))
    built: list[float] = []

    def build(narrowest: float) -> None:
        built.append(build_index(catalog, "V", narrowest).narrowest_deg)

    both = [threading.Thread(target=build, args=(narrowest,)) for narrowest in (12.0, 20.0)]
    try:
        for one in both:
            one.start()
        for one in both:
            one.join(60.0)
        assert sorted(built) == [12.0, 20.0] and open_index(catalog).narrowest_deg == built[-1]
        assert list(path.parent.glob(".*.tmp")) == []
    finally:
        kept.replace(path)


def test_narrow_pictures_have_as_many_stars_as_wide_ones() -> None:
    random = np.random.default_rng(11)
    # Six degrees, 600 stars in each square degree.
    vectors = unit_vectors(random.uniform(0.0, 6.0, 21_600), random.uniform(-3.0, 3.0, 21_600))
    bands = bands_of(vectors, random.uniform(8.0, 16.0, len(vectors)), 1.0, 0.2, False)
    density = [len(band.zones.ra) / 36.0 for band in bands]
    assert density[0] * 0.2**2 > 14.0 and 2.5 < density[0] / density[1] < 5.5
    # Beyond what the catalog has there is nothing to be had.
    finer = bands_of(vectors, random.uniform(8.0, 16.0, len(vectors)), 1.0, 0.02)
    assert max(len(band.zones.ra) for band in finer) > 0.8 * len(vectors)
    assert sum(len(band.zones.ra) > 0.8 * len(vectors) for band in finer) == 1


def test_an_index_that_would_be_too_large_is_refused(catalog: ReferenceCatalog) -> None:
    large = ReferenceCatalog(
        catalog.collection, catalog.name, 2000.0, 300.0, 1_000_000_000, catalog.checksum, catalog.columns
    )
    with pytest.raises(
        CatalogError, match=r"pictures of 0\.1 degrees .* 6 million stars; choose 0\.34 degrees"
    ):
        build_index(large, "V", 0.1)
    assert narrowest_possible_deg(2_500_000) == 0.0


def test_the_width_of_pictures_that_are_sure_is_told(copied: ReferenceCatalog) -> None:
    # A band of 0.16 stars per square degree, of a catalog that has no more.
    assert open_index(copied).sure_deg == pytest.approx(15.0, rel=0.01)
    # A catalog that has ten times as many gives the narrowest pictures a finer band.
    random = np.random.default_rng(3)
    vectors = random.normal(size=(60_000, 3))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    bands = bands_of(vectors, random.uniform(5.0, 12.0, len(vectors)), 60.0, 10.0)
    deeper = AsterismIndex(tuple(bands), 10.0, 60.0, "mag_V")
    assert deeper.sure_deg == pytest.approx(7.5, rel=0.01)
    none = bands_of(vectors, random.uniform(5.0, 12.0, len(vectors)), 60.0, 10.0, finer=False)
    assert len(none) == len(bands) - 1
