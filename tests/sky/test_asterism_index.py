"""The index of a catalog for plate solving, and the file that holds it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from skylake.core.asterisms import cells_of, describe_all
from skylake.core.sphere import unit_vectors
from skylake.errors import CatalogError
from skylake.sky.asterism_build import RANK, band_densities, leaders
from skylake.sky.asterism_index import AsterismIndex, build_index, ensure_index, index_path, open_index
from skylake.sky.catalog_build import build_catalog
from skylake.sky.catalog_columns import catalog_schema
from skylake.sky.catalogs import ReferenceCatalog
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
        assert np.mean(cells_of(codes, band.quads.n_x)[same] == cells[same]) > 0.999
        assert sizes.min() >= 0.99 * band.quads.smallest
    assert index.n_asterisms > 5 * index.n_stars / 2 and index.magnitude == "mag_V"


def test_bands_thin_out_evenly_over_the_sky(index: AsterismIndex) -> None:
    numbers = [len(band.zones.ra) for band in index.bands]
    wanted = [4 * math.pi * band.density for band in index.bands]
    assert len(numbers) == 3
    assert all(0.5 < n / w < 1.3 for n, w in zip(numbers[1:], wanted[1:], strict=True))
    heights = index.bands[-1].zones.vectors[:, 2]
    assert np.abs(np.histogram(heights, 4, (-1, 1))[0] / numbers[-1] - 0.25).max() < 0.12


def test_leaders_have_few_brighter_neighbours() -> None:
    random = np.random.default_rng(4)
    vectors = unit_vectors(random.uniform(0, 20, 400), random.uniform(-10, 10, 400))
    magnitudes = random.uniform(5, 12, 400)
    reach = math.radians(3.0)
    near = vectors @ vectors.T > math.cos(reach)
    brighter = (near & (magnitudes[None] < magnitudes[:, None])).sum(axis=1)
    assert leaders(vectors, magnitudes, RANK, reach).tolist() == np.flatnonzero(brighter < RANK).tolist()


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
def test_an_index_that_is_made_anew_is_for_the_pictures_of_the_last_one(catalog: ReferenceCatalog) -> None:
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
