from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from skylake.core.camera import Calibration, FilterBand
from skylake.core.sphere import healpix_index, offset
from skylake.schema import conform
from skylake.sky.catalog_build import build_catalog
from skylake.sky.catalog_choice import NONE_MAG, FieldOfFrame, rank_catalogs
from skylake.sky.catalog_columns import catalog_schema
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import PixelTree

Floats = np.ndarray
#: Fields of the camera, degrees; stars lie around both.
FIELDS = ((150.0, 20.0), (200.0, -40.0))
RADIUS = 2.5
V, R = FilterBand("V", "B-V", 0.7), FilterBand("R", "B-V", 0.7)


@pytest.fixture(scope="module")
def truth() -> dict[str, Floats]:
    """Stars down to magnitude 19 in two fields, three times more per magnitude."""
    random, n = np.random.default_rng(3), 30_000
    start = np.repeat(np.array(FIELDS), n // 2, axis=0).T
    ra, dec = offset(*start, 1.2 * RADIUS * np.sqrt(random.uniform(size=n)), random.uniform(0.0, 360.0, n))
    return {
        "ra": ra,
        "dec": dec,
        "V": 19.0 + np.log10(random.uniform(size=n)) / 0.4,
        "B-V": random.normal(0.7, 0.2, n),
    }


Make = Callable[..., ReferenceCatalog]


@pytest.fixture(scope="module")
def make(truth: dict[str, Floats], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function (name, bands, brightest, faintest, error, survey, chosen) that builds a catalog of the stars."""
    v, b = truth["V"], truth["V"] + truth["B-V"]
    # Near enough: what counts is where the stars are, and which bands there are.
    mags = {"V": v, "B": b, "VT": v + 0.07, "BT": b + 0.15, "g": v + 0.3, "r": v - 0.25, "I": v - 0.8}

    def build(
        name: str,
        bands: tuple[str, ...],
        limits: tuple[float, float],
        error: float,
        survey: str = "",
        chosen: Floats | None = None,
    ) -> ReferenceCatalog:
        kept = (v > limits[0]) & (v < limits[1]) & (True if chosen is None else chosen)
        ra, dec = truth["ra"][kept], truth["dec"][kept]
        values = {
            "_healpix_29": healpix_index(ra, dec),
            "ref_id": np.flatnonzero(kept),
            "ra_deg": ra,
            "dec_deg": dec,
        }
        for band in bands:
            values |= {f"mag_{band}": mags[band][kept], f"mag_{band}_err": np.full(ra.size, error)}
        schema = catalog_schema(bands, ())
        target: Path = tmp_path_factory.mktemp(name) / name
        properties = {"skylake_epoch": "2000.0", "skylake_origin": "a test", "skylake_survey": survey}
        rows = conform(pa.table(values), schema)
        build_catalog([rows], schema, target, PixelTree.uniform(3), 60.0, properties)
        return ReferenceCatalog.open(target)

    return build


@pytest.fixture(scope="module")
def catalogs(make: Make) -> dict[str, ReferenceCatalog]:
    """What an observatory may have, each with its depth, saturation and errors."""
    return {
        "tycho2": make("tycho2", ("BT", "VT"), (-9.0, 12.0), 0.05, "tycho2"),
        "apass": make("apass", ("B", "V", "g", "r"), (10.0, 16.5), 0.04, "apass"),
        "ps1": make("ps1", ("g", "r"), (14.5, 19.0), 0.01, "ps1"),
        "infrared": make("infrared", ("I",), (-9.0, 19.0), 0.01),
    }


def fields(
    truth: dict[str, Floats], faintest: float, brightest: float, band: FilterBand = V
) -> list[FieldOfFrame]:
    """What a camera sees that finds stars down to one magnitude, and saturates at another."""
    inside = 1.0 / 1.2**2 / len(FIELDS)
    count, saturated = (int(inside * np.sum(truth["V"] < limit)) for limit in (faintest, brightest))
    return [FieldOfFrame(*place, RADIUS, count, saturated, band) for place in FIELDS]


def best(known: dict[str, ReferenceCatalog], seen: list[FieldOfFrame], *bands: FilterBand) -> str:
    return rank_catalogs(list(known.values()), bands or [seen[0].band], seen, Calibration())[0].name


@pytest.mark.parametrize(
    ("faintest", "brightest", "wanted"),
    [
        # A wide-field lens, a telescope of 20 cm, and one that saturates beyond the stars of APASS.
        (12.5, 3.0, "tycho2"),
        (15.5, 9.0, "apass"),
        (20.0, 17.0, "ps1"),
    ],
)
def test_depth_and_saturation_decide(
    catalogs: dict[str, ReferenceCatalog],
    truth: dict[str, Floats],
    faintest: float,
    brightest: float,
    wanted: str,
) -> None:
    seen = fields(truth, faintest, brightest)
    assert best(catalogs, seen) == wanted
    assert best(dict(reversed(catalogs.items())), seen) == wanted, "the order of names is no reason"


def test_stars_that_are_all_saturated_calibrate_nothing(
    catalogs: dict[str, ReferenceCatalog], truth: dict[str, Floats]
) -> None:
    deep = fields(truth, 20.0, 15.0)
    (tycho,) = rank_catalogs([catalogs["tycho2"]], [V], deep, Calibration())
    assert (tycho.error_mag, tycho.n_covered, tycho.n_stars) == (NONE_MAG, 0, 0)
    # Bad pixels are no reason to leave all stars out.
    spoiled = [dataclasses.replace(field, n_saturated=field.n_sources) for field in fields(truth, 15.5, 9.0)]
    (apass,) = rank_catalogs([catalogs["apass"]], [V], spoiled, Calibration())
    assert apass.n_covered == 2


def test_a_catalog_of_other_bands_is_the_last(
    catalogs: dict[str, ReferenceCatalog], truth: dict[str, Floats]
) -> None:
    *_, last = rank_catalogs(list(catalogs.values()), [V], fields(truth, 15.5, 9.0), Calibration())
    assert (last.name, last.error_mag, last.how, last.text) == ("infrared", NONE_MAG, "", "has not the bands")


def test_a_catalog_that_does_not_cover_the_fields_is_not_chosen(
    catalogs: dict[str, ReferenceCatalog], make: Make, truth: dict[str, Floats]
) -> None:
    north = make("north", ("B", "V"), (5.0, 19.0), 0.01, chosen=truth["dec"] > 0.0)
    seen = fields(truth, 15.5, 9.0)
    first, *others = rank_catalogs([north, catalogs["apass"]], [V], seen, Calibration())
    assert (first.name, first.n_covered, first.n_fields) == ("apass", 2, 2)
    assert (others[0].name, others[0].n_covered) == ("north", 1)
    assert best({"north": north, "apass": catalogs["apass"]}, seen[:1]) == "north", (
        "where it is, it is the better"
    )


def test_a_column_is_better_than_a_transformation_of_stars_as_good(
    make: Make, catalogs: dict[str, ReferenceCatalog], truth: dict[str, Floats]
) -> None:
    own = make("own", ("B", "V"), (14.5, 19.0), 0.02)
    seen = fields(truth, 20.0, 15.5)
    assert best({"ps1": catalogs["ps1"], "own": own}, seen) == "own"
    red = fields(truth, 20.0, 15.5, R)
    ranked = rank_catalogs([own, catalogs["ps1"]], [R], red, Calibration())
    assert [one.how for one in ranked] == ["R from PS1_r, PS1_g", ""]


@pytest.mark.parametrize("n_sources", [3, 400, 20_000])
@pytest.mark.parametrize("radius", [0.1, 3.0, 80.0])
def test_what_is_looked_at_is_enough_and_little(n_sources: int, radius: float) -> None:
    field = FieldOfFrame(0.0, 0.0, radius, n_sources, 0, V)
    assert field.cone_deg <= radius
    assert n_sources * field.share >= min(n_sources, 40.0) - 1e-6
    assert field.cone_deg <= 5.0 or n_sources * field.share <= 40.0 + 1e-6
    # 9,000 stars of the sky are brighter than 6.5, 2.5 million than 11.5.
    assert FieldOfFrame(0.0, 0.0, 80.0, 4500, 0, V).faintest_mag > 6.5 + 2.0
    assert FieldOfFrame(0.0, 0.0, 1.0, 190, 0, V).faintest_mag > 11.5 + 2.0


def test_without_frames_bands_and_numbers_decide(catalogs: dict[str, ReferenceCatalog]) -> None:
    names = [one.name for one in rank_catalogs(list(catalogs.values()), [V], [], Calibration())]
    assert names == ["apass", "ps1", "tycho2", "infrared"]


def test_the_expected_error_is_that_of_zeropoints(
    catalogs: dict[str, ReferenceCatalog], truth: dict[str, Floats]
) -> None:
    """Of a thousand zeropoints from stars whose catalog magnitudes scatter as they should."""
    seen = dataclasses.replace(fields(truth, 15.5, 9.0)[0], n_saturated=0)
    (apass,) = rank_catalogs([catalogs["apass"]], [V], [seen], Calibration())
    random = np.random.default_rng(1)
    spread = np.hypot(0.04, 0.02)
    zeropoints = [np.mean(random.normal(0.0, spread, apass.n_stars)) for _ in range(1000)]
    assert apass.error_mag == pytest.approx(np.std(zeropoints), rel=0.1)
    stars = catalogs["apass"].cone(seen.ra_deg, seen.dec_deg, RADIUS, ["mag_V"])["mag_V"].to_numpy()
    # It shows stars down to 15.5, and those are good of which the signal is four times as large.
    assert apass.n_stars == pytest.approx(np.sum(stars < 14.0), rel=0.3)
