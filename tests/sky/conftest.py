"""Stars and catalogs for the tests of the pixel tree, catalogs and the join."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.core.sphere import healpix_index, offset
from skylake.schema import conform
from skylake.sky.catalog_build import CatalogBuildReport, build_catalog
from skylake.sky.catalog_columns import catalog_schema
from skylake.sky.pixels import PixelTree

SCHEMA = catalog_schema(("V", "B"), ("B-V",))

Stars = Callable[..., pa.Table]
Build = Callable[..., tuple[Path, CatalogBuildReport]]


@pytest.fixture(scope="session")
def stars() -> Stars:
    """A function (ra, dec, **columns) that makes rows of a catalog; without positions all over the sky."""

    def make(ra: Any, dec: Any, **columns: Any) -> pa.Table:
        ra, dec = np.asarray(ra, float), np.asarray(dec, float)
        random = np.random.default_rng(len(ra))
        values = {
            "_healpix_29": healpix_index(ra, dec),
            "ref_id": np.arange(len(ra)) + 1,
            "ra_deg": ra,
            "dec_deg": dec,
            "mag_V": random.uniform(5, 15, len(ra)),
            "colour_B_V": random.normal(0.7, 0.3, len(ra)),
        }
        return conform(pa.table(values | columns), SCHEMA)

    return make


@pytest.fixture(scope="session")
def sky(stars: Stars) -> pa.Table:
    """Stars all over the sky, many at both poles, at RA 0 and around corners of pixels of order 1."""
    random = np.random.default_rng(11)
    n = 1500
    ra, dec = random.uniform(0, 360, n), np.degrees(np.arcsin(random.uniform(-1, 1, n)))
    places = [(0.0, 90.0), (0.0, -90.0), (0.0, 0.0), (22.5, 19.4712), (45.0, 41.8103), (180.0, -41.8103)]
    for place in places:
        start = np.full(200, place[0]), np.full(200, place[1])
        near = offset(*start, 0.4 * np.sqrt(random.uniform(0, 1, 200)), random.uniform(0, 360, 200))
        ra, dec = np.concatenate([ra, near[0]]), np.concatenate([dec, near[1]])
    return stars(ra, dec)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A function (batches, order or tree, margin, limit) that builds a catalog and gives its folder."""

    def make(
        batches: Any,
        tree: int | PixelTree = 1,
        margin: float = 300.0,
        limit: int = 10**6,
        name: str = "stars",
    ) -> tuple[Path, CatalogBuildReport]:
        batches = [batches] if isinstance(batches, pa.Table) else batches
        division = PixelTree.uniform(tree) if isinstance(tree, int) else tree
        target = tmp_path / "catalogs" / name
        epoch = {"skylake_epoch": "2000.0", "skylake_origin": "a test"}
        return target, build_catalog(batches, SCHEMA, target, division, margin, epoch, limit)

    return make
