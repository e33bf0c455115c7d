"""Where a frame of the whole sky points, by its stars or by the geometry alone, under the air of its site."""

from dataclasses import fields, replace

import numpy as np
import pytest

from skylake import cameras
from skylake.core.horizon import Horizon
from skylake.core.refraction import Air
from skylake.core.rotations import rotation_matrix
from skylake.core.sphere import ra_dec
from skylake.image.allsky.allsky_pointing import SkyScene, place_by_geometry
from skylake.image.allsky.geometry_epochs import Geometry, night_geometry
from skylake.image.allsky.refine_geometry import DetectedPlaces
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import view_text
from skylake.image.wcs.sky_view import SkyView

SHAPE, MJD = (600, 800), 60000.2
CAMERA = cameras.load("sim-fisheye").base
LENS = Lens.aimed([0.0, 0.0, 1.0], [0.0, 1.0, 0.0], 250.0, (400.0, 300.0), "equidistant")
HORIZON = Horizon.of(MJD, CAMERA.site)


@pytest.fixture(scope="module")
def stars():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(1200, 3))
    return CatalogStars(
        *ra_dec(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)), random.uniform(1, 6, 1200)
    )


def placed(stars, places):
    seen = DetectedPlaces(places, np.full(len(places), 0.1), np.linspace(2.0, 1.0, len(places)))
    scene = SkyScene(seen, 2.2, SHAPE, MJD, HORIZON, stars)
    known = Geometry(LENS, SHAPE, MJD - 0.1, MJD + 0.1, 5, 500, 0.2, 0.2)
    return place_by_geometry(scene, [known]), known


@pytest.mark.parametrize("number", [0, 200, 1500])
def test_a_frame_of_no_stars_says_that_the_geometry_places_it(stars, number):
    random = np.random.default_rng(number)
    places = random.uniform(0.0, 1.0, (number, 2)) * (SHAPE[1] - 1, SHAPE[0] - 1)
    found, known = placed(stars, places)
    lens = view_text(SkyView(LENS, HORIZON, SHAPE))
    told = {"wcs_source": "geometry", "wcs_geometry": known.name, "wcs_lens": lens}
    # This geometry does not know its errors.
    assert found.row == told | {"wcs_err_px": None}
    assert not found.by_stars and found.view.lens == LENS


@pytest.mark.parametrize("number", [14, 150])
def test_a_frame_with_stars_says_so(stars, number):
    scene = SkyScene(
        DetectedPlaces(np.zeros((0, 2)), np.zeros(0), np.zeros(0)), 2.2, SHAPE, MJD, HORIZON, stars
    )
    above = scene.above
    high = above[np.argsort(above.mag)]
    high = high[high.directions[:, 2] > 0.3][:number]
    noise = np.random.default_rng(1).normal(0.0, 0.1, (number, 2))
    found, known = placed(stars, np.stack(LENS.to_pixels(high.directions), axis=1) + noise)
    assert (found.row["wcs_source"], found.geometry, found.by_stars) == ("refined", known.name, True)
    assert found.row["astrom_n"] > 0.7 * number


def truth_px(lens, turn):
    """How far a lens is from the true one, turned, root mean square over the image above five degrees."""
    y, x = (axis.ravel() for axis in np.mgrid[10.0:600.0:20.0, 10.0:800.0:20.0])
    sky = LENS.to_vectors(x, y)
    known = sky[:, 2] > np.sin(np.radians(5.0))
    there = np.array(lens.to_pixels(sky[known] @ turn))
    return np.sqrt(np.mean(np.sum((there - [x[known], y[known]]) ** 2, axis=0)))


@pytest.mark.slow
@pytest.mark.parametrize(("few", "own"), [(30, False), (200, False), (200, True)])
def test_errors_of_places_are_those_that_there_are(stars, few, own):
    """Of a frame that its geometry places, which was learned from a frame and has errors, and of one by itself."""
    empty = SkyScene(
        DetectedPlaces(np.zeros((0, 2)), np.zeros(0), np.zeros(0)), 0.01, SHAPE, MJD, HORIZON, stars
    )
    above, pulls = empty.above, []
    high = above[np.argsort(above.mag)]
    high = high[high.directions[:, 2] > 0.15]
    for seed in range(16):
        random = np.random.default_rng(seed)

        def seen(number, turn, random=random):
            places = np.stack(LENS.to_pixels(high.directions @ turn.T), axis=1)
            shown = ((places > 0.0) & (places < (SHAPE[1] - 1, SHAPE[0] - 1))).all(axis=1)
            places = places[np.flatnonzero(shown)[:number]]
            errors = np.full(len(places), 0.3)
            return DetectedPlaces(
                places + random.normal(0.0, 0.3, places.shape), errors, np.linspace(9.0, 1.0, len(places))
            )

        night = night_geometry(LENS, [(MJD, seen(100, np.eye(3)), above)], SHAPE, 0.01)
        turn = rotation_matrix(random.normal(0.0, 0.7 / 250.0, 3))
        scene = replace(empty, detected=seen(few, turn))
        known = replace(night, lens=night.lens.moved(np.eye(13)[4] * 3.0)) if own else night
        found = place_by_geometry(scene, [known])
        assert (found.geometry is None) == own and found.by_stars
        pulls.append(truth_px(found.view.lens, turn) / found.row["wcs_err_px"])
    assert 0.8 < np.sqrt(np.mean(np.square(pulls))) < 1.25


def test_a_frame_without_stars_is_as_well_known_as_its_geometry(stars):
    scene = SkyScene(
        DetectedPlaces(np.zeros((0, 2)), np.zeros(0), np.zeros(0)), 2.2, SHAPE, MJD, HORIZON, stars
    )
    covariance = np.zeros((13, 13))
    covariance[4, 4] = 0.3**2
    known = Geometry(LENS, SHAPE, MJD - 0.1, MJD + 0.1, 5, 500, 0.2, 0.2, covariance)
    found = place_by_geometry(scene, [known])
    assert found.row["wcs_source"] == "geometry"
    assert found.row["wcs_err_px"] == pytest.approx(0.3, rel=1e-6)


def test_stars_are_lifted_by_the_air_for_the_band(stars):
    camera = replace(CAMERA, site=replace(CAMERA.site, pressure_hpa=640.0, temperature_c=-60.0))
    none = {
        field.name: np.zeros(0, int if field.name == "flags" else float) for field in fields(Measurements)
    }
    measured = Measurements(**none | {"flux": {"aper1": np.zeros(0)}})
    scene = SkyScene.of(measured, SHAPE, MJD, camera, "K", lambda *_: stars)
    assert (
        scene.horizon.refraction
        == Horizon.of(MJD, camera.site, Air(640.0, -60.0, 2.159, CAMERA.site.height_m)).refraction
    )
