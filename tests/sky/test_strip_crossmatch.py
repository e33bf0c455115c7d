from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skylake.core.sphere import offset, unit_vectors
from skylake.errors import CatalogError, UsageError
from skylake.sky.match import nearest_within, pairs_within

pytestmark = pytest.mark.xdist_group("lsdb")

#: The poles, RA 0, corners of pixels, and a border of base pixels.
PLACES = [(0.0, 90.0), (0.0, -90.0), (0.0, 0.0), (45.0, 41.8103), (22.5, 19.4712), (300.0, 5.0)]
RADIUS = 90.0
OPTIONS: dict[str, Any] = {
    "suffixes": ("", "_right"),
    "suffix_method": "overlapping_columns",
    "log_changes": False,
}


def positions(seed: int, n: int, places: list[tuple[float, float]] = PLACES) -> pd.DataFrame:
    """Positions around the places, a hundred times denser at the first of them."""
    random = np.random.default_rng(seed)
    ra, dec = (np.repeat([place[axis] for place in places], n) for axis in (0, 1))
    spread = np.repeat([0.05, *[0.5] * (len(places) - 1)], n)
    ra, dec = offset(
        ra, dec, spread * np.sqrt(random.uniform(0, 1, len(ra))), random.uniform(0, 360, len(ra))
    )
    return pd.DataFrame({"ra": ra, "dec": dec, "number": np.arange(len(ra))})


def catalog(rows: pd.DataFrame, name: str, order: int = 2, margin: float | None = 4 * RADIUS) -> Any:
    """A catalog of lsdb with pixels of one order."""
    import lsdb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lsdb.from_dataframe(
            rows,
            ra_column="ra",
            dec_column="dec",
            catalog_name=name,
            lowest_order=order,
            highest_order=order,
            margin_threshold=margin,
        )


def compute(catalog: Any) -> pd.DataFrame:
    import dask

    with dask.config.set(scheduler="synchronous"):
        return catalog.compute(progress_bar=False)


def matched(rows: pd.DataFrame) -> set[tuple[int, int]]:
    rows = rows[rows["_dist_arcsec"].notna()]
    return set(zip(rows["number"], rows["number_right"], strict=True))


@pytest.mark.parametrize(
    ("orders", "places"), [((1, 1), PLACES), ((0, 3), PLACES[:2]), ((3, 1), PLACES[2:4])]
)
def test_pairs_over_the_edges_of_pixels_are_those_of_one_search(
    orders: tuple[int, int], places: list[tuple[float, float]]
) -> None:
    from skylake.sky.strip_crossmatch import StripCrossmatch

    tables = positions(3, 150, places), positions(4, 150, places)
    left, right = (catalog(*one) for one in zip(tables, ("left", "right"), orders, strict=True))
    vectors = [unit_vectors(table["ra"], table["dec"]) for table in tables]
    searches = {
        StripCrossmatch(RADIUS): nearest_within(*vectors, RADIUS),
        StripCrossmatch(RADIUS, 3): nearest_within(*vectors, RADIUS, 3),
        StripCrossmatch(RADIUS, None): pairs_within(*vectors, RADIUS),
    }
    for algorithm, (i, j, separation) in searches.items():
        rows = compute(left.crossmatch(right, algorithm=algorithm, **OPTIONS)).sort_values("number")
        assert matched(rows) == set(zip(i.tolist(), j.tolist(), strict=True))
        found = np.sort(rows["_dist_arcsec"].to_numpy(float))
        assert found == pytest.approx(np.sort(separation), abs=1e-8)


def test_the_nearest_are_those_of_the_algorithm_of_lsdb() -> None:
    from skylake.sky.strip_crossmatch import StripCrossmatch

    left, right = catalog(positions(1, 300), "left"), catalog(positions(2, 300), "right")
    ours = compute(left.crossmatch(right, algorithm=StripCrossmatch(RADIUS, 2), **OPTIONS))
    theirs = compute(left.crossmatch(right, radius_arcsec=RADIUS, n_neighbors=2, **OPTIONS))
    order = ["number", "number_right"]
    pd.testing.assert_frame_equal(ours.sort_values(order), theirs.sort_values(order))


def test_what_cannot_be_matched_is_one_sentence() -> None:
    from skylake.sky.strip_crossmatch import StripCrossmatch

    one = catalog(pd.DataFrame({"ra": [10.0], "dec": [5.0], "number": [1]}), "one")
    with pytest.raises(CatalogError, match="one: its margin of 360 arcsec is too narrow for a match of 361"):
        one.crossmatch(one, algorithm=StripCrossmatch(361.0), **OPTIONS)
    for radius, n_nearest in ((0.0, 1), (5.0, 0), (float("nan"), 1)):
        with pytest.raises(UsageError):
            StripCrossmatch(radius, n_nearest)


def test_null_and_nan_are_in_no_pair_and_whole_turns_are_the_same_place() -> None:
    from skylake.sky.strip_crossmatch import StripCrossmatch

    class Arguments:
        """What lsdb gives to an algorithm."""

        class Place:
            ra_column, dec_column = "ra", "dec"

        left_catalog_info = right_catalog_info = Place

        def __init__(self, left: list[Any], right: list[Any]) -> None:
            self.left_df, self.right_df = (
                pd.DataFrame({"ra": ra, "dec": [0.0] * len(ra)}).astype("double[pyarrow]")
                for ra in (left, right)
            )

    arguments = Arguments([None, 0.0, float("nan"), 360.0, -10.0], [350.0, None, 0.0, float("inf")])
    i, j, extra = StripCrossmatch(1.0).perform_crossmatch(arguments)
    assert (i.tolist(), j.tolist()) == ([1, 3, 4], [2, 2, 0])
    assert extra["_dist_arcsec"].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    for left, right in (([], [0.0]), ([0.0], []), ([], [])):
        assert len(StripCrossmatch(1.0).perform_crossmatch(Arguments(left, right))[0]) == 0
