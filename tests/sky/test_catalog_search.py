from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.sky.catalog_search import Limits, nearest_first
from skylake.sky.lake_catalogs import ReferenceCatalog

Stars = Callable[..., pa.Table]
Build = Callable[..., tuple[Path, Any]]
#: Few of them are numbers of 32 bits, or of 64.
HUNDREDTHS = np.round(np.arange(514, 1500, 37) / 100.0, 2)


@pytest.fixture
def catalog(stars: Stars, build: Build) -> ReferenceCatalog:
    n = len(HUNDREDTHS)
    rows = stars(
        np.full(n, 10.0),
        np.linspace(0, 1, n),
        mag_V=HUNDREDTHS,
        mag_B=HUNDREDTHS + 0.7,
        colour_B_V=HUNDREDTHS,
    )
    return ReferenceCatalog.open(build(rows)[0])


@pytest.mark.parametrize("value", HUNDREDTHS[:9])
def test_stars_at_a_limit_are_within(value: float, catalog: ReferenceCatalog) -> None:
    def count(limits: Limits) -> int:
        return nearest_first(catalog, 10.0, 0.5, 2.0, limits).num_rows

    assert count(Limits({"V": (value, value)}, {})) == 1
    assert count(Limits({"V": (value, None)}, {})) + count(Limits({"V": (None, value)}, {})) == 1 + len(
        HUNDREDTHS
    )
    assert count(Limits({}, {"B-V": (value, value)})) == 1


def test_a_colour_that_is_a_difference_may_be_rounded(catalog: ReferenceCatalog) -> None:
    assert nearest_first(catalog, 10.0, 0.5, 2.0, Limits({}, {"V-B": (-0.7, -0.7)})).num_rows == len(
        HUNDREDTHS
    )
    assert nearest_first(catalog, 10.0, 0.5, 2.0, Limits({}, {"V-B": (-0.699, None)})).num_rows == 0
