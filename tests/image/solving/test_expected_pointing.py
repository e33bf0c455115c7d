"""Where detectors should point, and how far frames are from there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.core.astrometry_settings import Astrometry
from skylake.core.attitudes import attitude_of, matrix_of_place, place_of_matrix, pointing_of_attitude
from skylake.core.camera import Camera
from skylake.core.detector_place import DetectorPlace
from skylake.core.sphere import offset, ra_dec, separation_deg
from skylake.image.solving.expected_pointing import (
    Attitude,
    Guide,
    PlacedChip,
    frame_matrix,
    moved_to,
    placed_lens,
    position_angle_deg,
)
from skylake.image.solving.pointing_offset import find_shift
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.star_matching import Sources

Floats = npt.NDArray[np.float64]
SHAPE = (400, 500)
CENTRED = DetectorPlace()
SIM = cameras.load("sim").base
KNOWN = Astrometry(ra=("RA",), dec=("DEC",), rotation=("ROT",), mirrored=False)


def camera_with(place: DetectorPlace = CENTRED, astrometry: Astrometry = KNOWN) -> Camera:
    return replace(
        SIM, place=place, astrometry=astrometry, optics=replace(SIM.optics, pixel_scale_arcsec=2.0)
    )


def header_of(ra: float, dec: float, rotation: object) -> fits.Header:
    return fits.Header([("RA", ra), ("DEC", dec), ("ROT", rotation)])


def centre_of(lens: Lens) -> tuple[float, float, float]:
    return pointing_of_attitude(frame_matrix(lens, SHAPE))


@pytest.mark.parametrize(("angle", "direction"), [(0.0, 270.0), (90.0, 0.0), (180.0, 90.0)])
def test_x_of_the_focal_plane_runs_west_and_turns(angle: float, direction: float) -> None:
    seed = Guide().seeds(
        header_of(40.0, -10.0, angle), camera_with(DetectorPlace(x_arcsec=600.0)), SHAPE, 1, 6e4, ""
    )[0]
    ra, dec, turn = centre_of(seed.lens)
    wanted = offset(40.0, -10.0, 600.0 / 3600.0, direction)
    assert separation_deg(ra, dec, *wanted) * 3600.0 < 0.01
    assert turn == pytest.approx(angle, abs=0.05)


def test_place_and_attitude_go_both_ways() -> None:
    place = -700.0, 1500.0, 123.0
    assert place_of_matrix(matrix_of_place(*place)) == pytest.approx(place, abs=1e-8)
    assert pointing_of_attitude(attitude_of(301.0, 67.0, 200.0)) == pytest.approx(
        (301.0, 67.0, 200.0), abs=1e-9
    )
    lens = placed_lens(camera_with(DetectorPlace(*place[:2], angle_deg=place[2])), SHAPE)
    assert lens is not None
    np.testing.assert_allclose(frame_matrix(lens, SHAPE), matrix_of_place(*place), atol=1e-12)
    shifted = replace(lens, x0=lens.x0 + 40.0, y0=lens.y0 - 25.0, stretch=(0.01, 0.002))
    matrix = attitude_of(10.0, 20.0, 30.0)
    np.testing.assert_allclose(frame_matrix(moved_to(shifted, SHAPE, matrix), SHAPE), matrix, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "card", "wanted"),
    [
        ({}, 30.0, 30.0), ({"rotation_sign": -1}, 30.0, 330.0), ({"rotation_zero_deg": 48.0}, 30.0, 78.0),
        ({"rotation_unit": "arcsec", "rotation_zero_deg": -48.0}, 172800.0, 0.0),
        ({"rotation_unit": "rad"}, math.pi, 180.0), ({"rotation_unit": "hour"}, "02:00:00", 30.0),
        ({"rotation_deg": 48.0}, 30.0, 48.0), ({"rotation_deg": 48.0}, "broken", 48.0), ({}, "broken", None),
        ({}, float("inf"), None),
    ],
)  # fmt: skip
def test_rotation_cards_have_a_unit_a_sign_and_a_zero(
    changes: dict[str, object], card: object, wanted: float
) -> None:
    known = replace(KNOWN, **changes)  # type: ignore[arg-type]
    header = {"ROT": card}
    found = position_angle_deg(header, camera_with(astrometry=known))
    assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-9))


def test_siblings_come_first_and_are_as_sure_as_they_say() -> None:
    lens = placed_lens(camera_with(DetectorPlace(x_arcsec=500.0)), SHAPE)
    assert lens is not None
    chip = PlacedChip(lens, SHAPE, 6e4, 6e4, (5.9e4, 6.1e4), 9, 900, (0.1, 0.1), 0.01, 1.0, 0.02)
    true = attitude_of(10.0, 20.0, 30.0)
    guide = Guide((chip,), {"a": Attitude(true, 0.5, 0.01)})
    seeds = guide.seeds(header_of(10.0, 20.0, 30.0), camera_with(), SHAPE, 1, 6e4, "a")
    assert [(one.source, one.trusted) for one in seeds] == [("mosaic", True), ("seeded", False)]
    assert seeds[0].radius_px == 4.0 and seeds[0].turn_deg == pytest.approx(
        5.0 * math.hypot(0.01, 0.01, 0.02)
    )
    assert seeds[1].radius_px == pytest.approx(60.0, rel=1e-6)
    np.testing.assert_allclose(
        seeds[0].lens.to_vectors(10.0, 20.0), seeds[1].lens.to_vectors(10.0, 20.0), atol=1e-9
    )
    # Outside its epoch a place is that of the profile, and siblings say nothing.
    later = guide.seeds(header_of(10.0, 20.0, 30.0), camera_with(), SHAPE, 1, 7e4, "a")
    assert [one.source for one in later] == ["seeded"]


def sky(
    seed: int, n_true: int, n_false: int, off: tuple[float, float], turn: float
) -> tuple[Lens, Floats, Floats, Sources]:
    """A lens that is off, the stars of a catalog, and sources: some of them, and others that are no stars."""
    random = np.random.default_rng(seed)
    lens = placed_lens(camera_with(), SHAPE)
    assert lens is not None
    lens = lens.turned(attitude_of(80.0, 30.0, 15.0))
    x, y = random.uniform(-150, 650, 200), random.uniform(-150, 550, 200)
    vectors, mag = lens.to_vectors(x, y), random.uniform(8.0, 14.0, 200)
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    # An image turned so that y goes further to the east shows its stars turned the other way.
    u, v = x - 249.5, y - 199.5
    seen_x, seen_y = 249.5 + cosine * u + sine * v + off[0], 199.5 - sine * u + cosine * v + off[1]
    inside = np.flatnonzero((seen_x > 0) & (seen_x < 500) & (seen_y > 0) & (seen_y < 400))
    some = inside[np.argsort(mag[inside])][:n_true]
    all_x = np.concatenate([seen_x[some] + random.normal(0, 0.2, len(some)), random.uniform(0, 500, n_false)])
    all_y = np.concatenate([seen_y[some] + random.normal(0, 0.2, len(some)), random.uniform(0, 400, n_false)])
    order = random.permutation(len(all_x))
    flux = np.arange(len(all_x), 0, -1.0)
    return lens, vectors, mag, Sources.ranked(all_x[order], all_y[order], np.full(len(order), 0.2), flux)


@pytest.mark.parametrize("turn", [0.0, 0.8, -1.5])
def test_shift_and_turn_are_found_among_false_sources(turn: float) -> None:
    for seed in range(3):
        lens, vectors, mag, sources = sky(seed, 25, 40, (-55.0, 72.0), turn)
        found = find_shift(lens, vectors, mag, sources, SHAPE, 120.0, 2.0)
        assert found is not None
        assert (
            math.hypot(found[1].dx + 55.0, found[1].dy - 72.0) < 5.0 and abs(found[1].turn_deg - turn) < 1.0
        )
        # The lens that comes back puts the stars where the sources are, to what a fit begins from.
        x, y = found[0].to_pixels(vectors)
        near = np.hypot(x[:, None] - sources.x, y[:, None] - sources.y).min(axis=1)
        assert (near < 6.0).sum() >= 22


def test_no_shift_is_believed_where_sources_are_no_stars() -> None:
    believed = 0
    for seed in range(20):
        lens, vectors, mag, sources = sky(seed, 0, 65, (0.0, 0.0), 0.0)
        believed += find_shift(lens, vectors, mag, sources, SHAPE, 120.0, 2.0) is not None
    assert believed == 0


@pytest.mark.parametrize("blob", [40.0, 60.0, 100.0])
def test_no_shift_is_believed_where_a_clump_lies_on_a_clump(blob: float) -> None:
    lens, believed = Lens.aimed([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], 4000.0, (249.5, 199.5)), 0
    for seed in range(8):
        random = np.random.default_rng(seed)
        x, y = (random.normal(middle, blob, (2, 150)) for middle in (249.5, 199.5))
        off = random.uniform(-60.0, 60.0, 2)
        sources = Sources.ranked(x[0], y[0], np.full(150, 0.2), random.random(150))
        vectors = lens.to_vectors(x[1] + off[0], y[1] + off[1])
        believed += find_shift(lens, vectors, random.random(150), sources, SHAPE, 120.0, 1.0) is not None
        # The same clump, seen again, is.
        again = Sources.ranked(x[1], y[1], np.full(150, 0.2), random.random(150))
        found = find_shift(lens, vectors, random.random(150), again, SHAPE, 120.0, 1.0)
        assert found is not None and math.hypot(found[1].dx + off[0], found[1].dy + off[1]) < 3.0
    assert believed == 0


def test_few_stars_suffice_where_there_is_little_else() -> None:
    found = sum(
        find_shift(*sky(seed, 9, 3, (30.0, -40.0), 0.0), SHAPE, 80.0, 0.0) is not None for seed in range(10)
    )
    assert found >= 8


def test_centres_by_pixels_are_those_of_the_lens() -> None:
    lens = placed_lens(camera_with(), SHAPE)
    assert lens is not None
    ra, dec = ra_dec(lens.turned(attitude_of(5.0, 6.0, 7.0)).to_vectors(249.5, 199.5))
    assert (float(ra), float(dec)) == pytest.approx((5.0, 6.0), abs=1e-9)
