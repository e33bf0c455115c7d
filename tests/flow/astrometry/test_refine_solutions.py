"""A solved frame is refined by the stars and the air of the band that it was taken in."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from skylake import cameras
from skylake.core.bands import BANDS
from skylake.core.refraction import Air
from skylake.core.sphere import ra_dec
from skylake.flow.astrometry.refine_solutions import Refiner
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.image.solving.source_list import StarList
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.sip import to_sip
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog

SHAPE = (400, 500)
#: The field is 40 degrees above the horizon of the simulated camera then.
SIM, MJD = cameras.load("sim").base, 60400.2
CAMERA = replace(SIM, astrometry=replace(SIM.astrometry, refraction=True))
NOISE_PX = 0.05


@pytest.fixture(scope="module")
def lens() -> Lens:
    from skylake.core.ephemeris import horizon_axes

    zenith, north, _ = horizon_axes(MJD, CAMERA.site)
    axis = np.sin(np.radians(40.0)) * zenith + np.cos(np.radians(40.0)) * north
    return Lens.aimed(axis, zenith, 2000.0, (249.5, 199.5))


@pytest.fixture(scope="module")
def places() -> np.ndarray:
    return np.random.default_rng(2).uniform(10.0, 389.0, (2, 120))


@pytest.fixture(scope="module")
def catalog(lens: Lens, places: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> ReferenceCatalog:
    """Stars of which those that are bright in one band are faint in the other."""
    folder = tmp_path_factory.mktemp("bands")
    ra, dec = ra_dec(lens.to_vectors(*places))
    mag = np.linspace(8.0, 12.0, len(ra))
    table = pd.DataFrame({"id": np.arange(len(ra)) + 1, "ra": ra, "dec": dec, "V": mag, "I": mag[::-1]})
    table.to_parquet(folder / "stars.parquet")
    lake = Lake.create(folder / "lake", Settings(cluster="inline", pixel_order=2))
    columns = CatalogColumns(ra="ra", dec="dec", id="id", magnitudes={"V": "V", "I": "I"})
    import_catalog(lake, "two", "table", [folder / "stars.parquet"], columns)
    return ReferenceCatalog.open(lake.layout.catalog("two"))


def found(places: np.ndarray, band: str | None = "V") -> StarList:
    """Sources whose order is that of the stars in a band."""
    x, y = places + np.random.default_rng(3).normal(0.0, NOISE_PX, places.shape)
    flux = np.linspace(2.0, 1.0, x.size)
    return StarList(x, y, flux[::-1] if band == "I" else flux, np.full(x.size, NOISE_PX), SHAPE)


@pytest.mark.parametrize("band", ["V", "K", None])
def test_refraction_is_that_of_the_band_of_the_frame(
    catalog: ReferenceCatalog, lens: Lens, places: np.ndarray, band: str | None
) -> None:
    header = to_sip(lens, SHAPE).header
    better = Refiner(catalog, "V").refine(header, found(places), MJD, camera=CAMERA, band=band)
    assert better is not None and better.refraction == "applied"
    bending = better.pointing.lens.bending
    assert bending is not None and bending.air == Air.above(CAMERA.site, band)
    assert bending.air.wavelength_um == (0.55 if band is None else BANDS[band].wavelength_nm / 1000.0)


@pytest.mark.parametrize("band", ["V", "I"])
def test_stars_are_ranked_by_the_band_that_was_asked_for(
    catalog: ReferenceCatalog, lens: Lens, places: np.ndarray, band: str
) -> None:
    better = Refiner(catalog, band).refine(to_sip(lens, SHAPE).header, found(places, band), MJD)
    assert better is not None and better.refraction == "off"
    x, _ = lens.to_pixels(better.pointing.refinement.pairs.vectors)
    number = np.abs(x[:, None] - places[0]).argmin(axis=1)
    mag = better.stars.mag[better.pointing.refinement.stars]
    rank = number if band == "V" else len(places[0]) - 1 - number
    assert mag == pytest.approx(8.0 + 4.0 * rank / (len(places[0]) - 1), abs=1e-3)
