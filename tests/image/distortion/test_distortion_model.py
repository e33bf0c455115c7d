import math
from dataclasses import replace

import numpy as np
import pytest

from skylake.core.rotations import rotation_vector
from skylake.core.sphere import ra_dec
from skylake.image.distortion.distortion_model import compare_distortion, counted_once, learn_distortion
from skylake.image.distortion.joint_fit import OWN, identities
from skylake.image.solving.refined_wcs import refine_pointing
from skylake.image.solving.solve_near_expected import pointing_of
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_fit import LensPrior, StarPairs, fit_lens
from skylake.image.wcs.lens_order import BASIC, fit_best_lens
from skylake.image.wcs.star_matching import Sources

SHAPE = (768, 1024)
FOCAL = 2600.0
RHO = 0.5 * math.hypot(*SHAPE) / FOCAL
CAMERA = Lens(
    (0.0, 0.0, 0.0),
    FOCAL,
    519.0,
    377.0,
    (0.02 / RHO**2, -0.012 / RHO**4, 0.0),
    (4e-4 / RHO, -2e-4 / RHO),
    (2e-4, 0.0),
)
NOISE_PX = 0.15


def frame(camera, seed, number=25):
    """A frame somewhere on the sky: its lens, and some stars."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
    lens = replace(
        camera,
        stretch=tuple(camera.stretch + 2e-4 * random.standard_normal(2)),
        rotation=rotation_vector(turn * np.linalg.det(turn)),
        focal_px=camera.focal_px * (1.0 + 2e-4 * random.standard_normal()),
    )
    x, y = random.uniform(-0.5, SHAPE[1] - 0.5, number), random.uniform(-0.5, SHAPE[0] - 0.5, number)
    off = NOISE_PX * random.standard_normal((2, number))
    return lens, StarPairs(lens.to_vectors(x, y), x + off[0], y + off[1], np.full(number, NOISE_PX))


def frames(camera, seeds, number=25):
    found = [frame(camera, seed, number) for seed in seeds]
    return [lens for lens, _ in found], [pairs for _, pairs in found]


def away(lens, truth, edge=0.0):
    """Root mean square distance over the image between two lenses, pixels."""
    y, x = (
        axis.ravel() for axis in np.mgrid[edge : SHAPE[0] - 1 - edge : 12j, edge : SHAPE[1] - 1 - edge : 12j]
    )
    there = lens.to_pixels(truth.to_vectors(x, y))
    return math.sqrt(np.mean((there[0] - x) ** 2 + (there[1] - y) ** 2))


def bare(lens):
    """The lens before its distortion is known."""
    return Lens(lens.rotation, lens.focal_px, 511.5, 383.5)


@pytest.fixture(scope="module")
def learned():
    lenses, pairs = frames(CAMERA, range(30))
    return learn_distortion([bare(lens) for lens in lenses], pairs, SHAPE)


@pytest.mark.parametrize("number", [15, 150])
def test_errors_of_frames_include_those_of_the_distortion(number):
    """Three frames of 25 stars show it worse than many stars of a frame show all else."""
    pulls = []
    for camera in range(8):
        lenses, pairs = frames(CAMERA, range(3000 + 3 * camera, 3003 + 3 * camera))
        distortion, _ = learn_distortion([bare(lens) for lens in lenses], pairs, SHAPE)
        for seed in range(2):
            lens, mine = frame(CAMERA, 4000 + 2 * camera + seed, number)
            mag = np.linspace(6.0, 9.0, number)
            sources = Sources.ranked(mine.x, mine.y, mine.sigma, 10.0 ** (-0.4 * mag))
            stars, start = CatalogStars(*ra_dec(mine.vectors), mag), pointing_of(lens, SHAPE)
            found = refine_pointing(start, stars, sources, SHAPE, distortion=distortion)
            # In the middles of cells, as errors are stated of the image.
            pulls.append(away(found.lens, lens, 37.0) / found.refinement.err_px)
    assert 0.75 < np.sqrt(np.mean(np.square(pulls))) < 1.35


def test_many_frames_of_few_stars_show_the_distortion(learned):
    distortion, lenses = learned
    truths, _ = frames(CAMERA, range(30))
    assert distortion.n_frames == 30
    assert distortion.n_stars == 750
    # Six parameters of 50 coordinates are the frame's own, so some noise is left.
    expected = NOISE_PX * math.sqrt(len(OWN) / 25.0)
    assert np.median([away(lens, truth) for lens, truth in zip(lenses, truths, strict=True)]) < 1.3 * expected


def test_a_frame_of_few_stars_is_pointed_with_it(learned):
    distortion, _ = learned
    found, alone = [], []
    for seed in range(100, 112):
        truth, pairs = frame(CAMERA, seed, 16)
        known = LensPrior.default(truth, SHAPE)
        found.append(
            away(
                fit_best_lens(
                    distortion.applied(bare(truth)), pairs, distortion.expected(SHAPE), ["stretch"]
                )[0].lens,
                truth,
            )
        )
        alone.append(away(fit_lens(bare(truth), pairs, BASIC, known).lens, truth))
    assert np.median(found) < 1.3 * NOISE_PX * math.sqrt(len(OWN) / 16.0)
    assert np.median(found) < 0.5 * np.median(alone)


def test_the_direction_of_a_camera_ignores_its_centre(learned):
    truth, _ = frame(CAMERA, 5)
    applied = learned[0].applied(bare(truth))
    there = applied.to_pixels(bare(truth).to_vectors([519.0, 519.0], [377.0, 378.0]))
    assert np.hypot(there[0] - 519.0, there[1] - [377.0, 378.0]).max() < 1.5


def test_a_camera_that_stays_as_it_was_has_not_changed(learned):
    said = [
        compare_distortion(learned[0], lens, pairs, SHAPE)
        for lens, pairs in zip(*frames(CAMERA, range(200, 230), 80), strict=True)
    ]
    assert [change.changed for change in said] == [False] * 30
    # The chances are those of chance: spread over 0 to 1. The mean of thirty is known to 0.053.
    chances = np.sort([change.chance for change in said])
    assert np.mean(chances) == pytest.approx(0.5, abs=0.16)
    steps = np.arange(1, 31) / 30.0
    assert max(np.max(steps - chances), np.max(chances - steps + 1.0 / 30.0)) < 1.63 / math.sqrt(30.0)


def test_repeated_false_stars_have_no_weight():
    """Forty stars whose places are off by 0.3 px in all of a dozen frames; of each frame three are two pixels off."""
    random, pairs, lenses = np.random.default_rng(3), [], []
    x, y = random.uniform(0.0, SHAPE[1] - 1.0, 40), random.uniform(0.0, SHAPE[0] - 1.0, 40)
    wrong = 0.3 * random.standard_normal((2, 40))
    vectors = CAMERA.to_vectors(x, y)
    for _ in range(12):
        off = wrong + 0.05 * random.standard_normal((2, 40))
        off[:, random.choice(40, 3, replace=False)] += [[2.4], [0.0]]
        pairs.append(StarPairs(vectors, x + off[0], y + off[1], np.full(40, 0.05)))
        lenses.append(CAMERA)
    distortion, _ = learn_distortion(lenses, pairs, SHAPE)
    stars = identities(pairs)
    shares = counted_once(pairs, stars, distortion.scatter_px)
    assert distortion.n_stars == 40 and distortion.scatter_px == pytest.approx(0.3, rel=0.3)
    assert np.concatenate(shares) == pytest.approx(1.0 / 12.0, rel=0.05)
    # The outliers lie to the right; what is left of them in places is what the stars themselves have.
    held = fit_lens(distortion.applied(CAMERA), pairs[0], OWN, distortion.expected(SHAPE)).lens
    there = held.to_pixels(vectors)
    assert abs(np.median(there[0] - x - wrong[0].mean())) < 0.12


@pytest.mark.parametrize(
    "moved", [replace(CAMERA, x0=560.0), replace(CAMERA, radial=(0.012 / RHO**2, 0.0, 0.0))]
)
def test_a_camera_that_was_changed_is_reported(learned, moved):
    for lens, pairs in zip(*frames(moved, range(300, 306), 80), strict=True):
        change = compare_distortion(learned[0], lens, pairs, SHAPE)
        assert change.changed
        assert change.shift_px > 0.1


def test_too_few_stars_do_not_show_changes(learned):
    lens, pairs = frame(CAMERA, 7, 12)
    assert compare_distortion(learned[0], lens, pairs, SHAPE) is None


def test_frames_of_two_cameras_have_no_distortion_in_common():
    lenses, pairs = frames(CAMERA, range(2))
    with pytest.raises(ValueError, match="one parity"):
        learn_distortion([lenses[0], replace(lenses[1], mirrored=True)], pairs, SHAPE)
