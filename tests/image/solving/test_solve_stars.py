"""Plate solving on pictures drawn from a made-up sky."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.asterism_codes import AsterismBand
from skylake.core.reasons import Reason
from skylake.core.sphere import separation_deg, tangent_basis, unit_vectors
from skylake.image.solving.solution_header import wcs_header
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, solve, usable_sources
from skylake.sky.asterism_build import bands_of

Floats = npt.NDArray[np.float64]
SIDE = 1000
N_STARS = 30_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """A list of sources and the truth; `distortion` is that at the corner."""

    x: Floats
    y: Floats
    flux: Floats
    rotation: Floats
    focal: float
    parity: int
    distortion: float

    @property
    def params(self) -> SolveParams:
        """The scale to 20 %, and time enough for a busy machine."""
        scale = math.degrees(1.0 / self.focal) * 3600.0
        return SolveParams(scale_low=scale / 1.25, scale_high=scale * 1.15, seconds=30.0)

    def error_px(self, found: Solution) -> float:
        """Median distance of where a solution puts pixels from where they are."""
        x, y = (axis.ravel() for axis in np.meshgrid(*[np.linspace(0, SIDE - 1, 5)] * 2))
        true_x, true_y = place(self, unit_vectors(*found.to_sky(x, y)))
        return float(np.median(np.hypot(true_x - x, true_y - y)))


def place(drawn: Drawn, vectors: Floats) -> tuple[Floats, Floats]:
    camera = vectors @ drawn.rotation.T
    plane = drawn.focal * camera[:, :2] / np.where(camera[:, 2] > 0.05, camera[:, 2], np.nan)[:, None]
    # A polynomial would bring stars from far outside back into the picture.
    plane[(plane**2).sum(axis=1) > SIDE**2] = np.nan
    plane = plane * (1.0 + drawn.distortion * (plane**2).sum(axis=1) / (0.5 * SIDE**2))[:, None]
    return drawn.parity * plane[:, 0] + 0.5 * (SIDE - 1), plane[:, 1] + 0.5 * (SIDE - 1)


@pytest.fixture(scope="module")
def sky() -> tuple[Floats, Floats]:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(N_STARS, 3))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return vectors, 10.0 + 2.0 * np.log10(random.uniform(1e-4, 1.0, N_STARS))


@pytest.fixture(scope="module")
def bands(sky: tuple[Floats, Floats]) -> list[AsterismBand]:
    return bands_of(*sky, narrowest_deg=4.0)


def attitude(ra: float, dec: float, angle: float) -> Floats:
    """The camera's axes on the sky, its y axis at a position angle."""
    east, north = tangent_basis(ra, dec)
    up = math.cos(angle) * north + math.sin(angle) * east
    right = math.cos(angle) * east - math.sin(angle) * north
    return np.array([right, up, unit_vectors(ra, dec)])


def draw(
    sky: tuple[Floats, Floats], seed: int, rotation: Floats | None = None, width: float | None = None
) -> Drawn:
    """A picture with 30 % of its stars missing and 30 % of its sources spurious."""
    random = np.random.default_rng(seed)
    width = width or float(np.exp(random.uniform(np.log(5.0), np.log(40.0))))
    if rotation is None:
        ra, dec = random.uniform(0, 360), math.degrees(math.asin(random.uniform(-1, 1)))
        rotation = attitude(ra, dec, random.uniform(0, 2 * math.pi))
    focal = 0.5 * SIDE / math.tan(math.radians(0.5 * width))
    nothing = np.zeros(0)
    drawn = Drawn(nothing, nothing, nothing, rotation, focal, (-1) ** seed, 0.02 * (-1) ** (seed // 2))
    x, y = place(drawn, sky[0])
    inside = np.flatnonzero((np.abs(x - 0.5 * SIDE) < 0.5 * SIDE) & (np.abs(y - 0.5 * SIDE) < 0.5 * SIDE))
    magnitudes = sky[1][inside] + random.normal(0.0, 0.3, len(inside))
    order = np.argsort(magnitudes)[:150]
    order = order[random.random(len(order)) > 0.3]
    seen, told = inside[order], magnitudes[order]
    n_false = round(0.3 / 0.7 * len(seen))
    false_x, false_y = random.uniform(0, SIDE - 1, (2, n_false))
    return replace(
        drawn,
        x=np.append(x[seen] + random.normal(0, 0.15, len(seen)), false_x),
        y=np.append(y[seen] + random.normal(0, 0.15, len(seen)), false_y),
        flux=10.0 ** (-0.4 * np.append(told, random.choice(told, n_false))),
    )


def test_pictures_of_all_widths_are_solved(sky: tuple[Floats, Floats], bands: list[AsterismBand]) -> None:
    errors, parities, skews = [], [], []
    for seed in range(40):
        drawn = draw(sky, seed)
        found = solve(bands, drawn.x, drawn.y, drawn.flux, (SIDE, SIDE), drawn.params)
        errors.append(drawn.error_px(found) if isinstance(found, Solution) else math.inf)
        parities.append(isinstance(found, Solution) and found.parity == drawn.parity)
        if isinstance(found, Solution):
            skews.append(np.abs(found.rotation @ found.rotation.T - np.eye(3)).max())
    assert max(errors) < 2.0 and np.median(errors) < 0.5
    assert all(parities)
    assert max(skews) < 1e-9


@pytest.mark.parametrize(
    ("ra", "dec"), [(0.0, 90.0), (123.0, -89.9), (0.01, 0.0), (359.99, 45.0)], ids=["north", "south", "zero", "turn"]
)  # fmt: skip
def test_poles_and_zero_right_ascension_are_like_any_place(
    ra: float, dec: float, sky: tuple[Floats, Floats], bands: list[AsterismBand]
) -> None:
    drawn = draw(sky, 1, attitude(ra, dec, 0.7), 12.0)
    found = solve(bands, drawn.x, drawn.y, drawn.flux, (SIDE, SIDE), drawn.params)
    assert isinstance(found, Solution)
    assert float(separation_deg(*found.centre, ra, dec)) < 0.01
    assert found.scale_arcsec == pytest.approx(math.degrees(1.0 / drawn.focal) * 3600.0, rel=2e-3)


def test_nothing_need_be_known_and_hints_only_narrow_the_search(
    sky: tuple[Floats, Floats], bands: list[AsterismBand]
) -> None:
    drawn = draw(sky, 4, attitude(200.0, -30.0, 1.0), 8.0)
    blind = SolveParams(seconds=60.0)
    hinted = replace(
        drawn.params,
        centre=(203.0, -30.0),
        radius_deg=4.0,
        rotation_deg=math.degrees(1.0),
        parity=drawn.parity,
    )
    far = replace(drawn.params, centre=(20.0, 30.0), radius_deg=4.0)
    turned, mirrored = replace(drawn.params, rotation_deg=200.0), replace(drawn.params, parity=-drawn.parity)
    answers = [
        solve(bands, drawn.x, drawn.y, drawn.flux, (SIDE, SIDE), params)
        for params in (blind, hinted, far, turned, mirrored)
    ]
    assert [isinstance(answer, Solution) for answer in answers] == [True, True, False, False, False]
    assert isinstance(answers[0], Solution) and drawn.error_px(answers[0]) < 1.0
    assert answers[1].n_guesses < answers[0].n_guesses
    assert isinstance(answers[1], Solution) and answers[1].rotation_deg == pytest.approx(
        math.degrees(1.0), abs=0.1
    )


def test_random_points_and_hot_pixels_are_never_solved(
    bands: list[AsterismBand],
) -> None:
    random = np.random.default_rng(5)
    verdicts = []
    for seed in range(15):
        n = int(random.integers(10, 100))
        x, y = random.uniform(0, SIDE - 1, (2, n))
        if seed % 3 == 0:
            # Hot pixels, many of them in a few columns, lie on whole pixels.
            x, y = np.rint(x), np.rint(y)
            x[: n // 3] = 100.0 * (1 + seed % 5)
        flux = 10.0 ** random.uniform(2, 5, n)
        params = SolveParams(scale_low=20.0, scale_high=60.0)
        verdicts.append(solve(bands, x, y, flux, (SIDE, SIDE), params))
    assert not any(isinstance(verdict, Solution) for verdict in verdicts)
    assert max(verdict.log_odds for verdict in verdicts) < 8.0
    messages = [verdict.message for verdict in verdicts if not isinstance(verdict, Solution)]
    assert not any("inf" in message or "1000" in message for message in messages)
    assert {verdict.reason for verdict in verdicts if not isinstance(verdict, Solution)} <= {
        Reason.NO_WCS, Reason.TOO_FEW_SOURCES,
    }  # fmt: skip


def test_a_frame_of_clouds_is_recognised_at_once(bands: list[AsterismBand]) -> None:
    few = np.arange(4.0)
    found = solve(bands, few, few, few + 1.0, (SIDE, SIDE), SolveParams())
    assert not isinstance(found, Solution) and found.reason == Reason.TOO_FEW_SOURCES
    assert "4 usable sources" in found.message and "6 are needed" in found.message
    assert found.n_guesses == 0 and found.log_odds == -math.inf
    for number, words in ((0, "no usable source is too few"), (1, "1 usable source is too few")):
        less = solve(bands, few[:number], few[:number], few[:number] + 1.0, (SIDE, SIDE), SolveParams())
        assert not isinstance(less, Solution) and less.message.startswith(words)


def test_pictures_too_wide_or_too_narrow_are_named(bands: list[AsterismBand]) -> None:
    x, y = np.random.default_rng(12).uniform(0, SIDE - 1, (2, 30))
    told = []
    # A catalog that has not as many stars as the index wants for its narrowest pictures.
    thin = [band._replace(density=25.0 * band.density) for band in bands]
    for degrees, index in ((90.0, bands), (0.2, bands), (2.0, thin)):
        scale = degrees * 3600.0 / SIDE
        params = SolveParams(scale_low=scale / 1.2, scale_high=scale * 1.2, seconds=0.1)
        found = solve(index, x, y, np.arange(30.0, 0.0, -1.0), (SIDE, SIDE), params, "my/lake gaia")
        assert not isinstance(found, Solution) and found.without_patterns
        told.append(found.message)
    assert (
        "75 degrees and more are wider than patterns are made for, 60" in told[0] and "--all-sky" in told[0]
    )
    assert "0.17 to 0.24 degrees wide, and the index has stars for those from 4; " in told[1]
    assert "`skylake catalog index my/lake gaia --scales 0.17 60`" in told[1]
    assert "too few stars for pictures of 2.4 degrees and less" in told[2] and "--scales" in told[2]


def test_an_index_damaged_while_mapped_does_no_harm(
    sky: tuple[Floats, Floats], bands: list[AsterismBand]
) -> None:
    drawn = draw(sky, 4, width=12.0)
    spoilt = []
    for band in bands:
        stars, starts = band.quads.stars.copy(), band.quads.starts.copy()
        stars[::2] += np.uint32(2**31)
        starts[1::7] += np.uint32(2**28)
        zones = band.zones.starts.copy()
        zones[-1] += 10**9
        for values in (stars, starts, zones):
            values.setflags(write=False)
        quads = band.quads._replace(stars=stars, starts=starts)
        spoilt.append(band._replace(quads=quads, zones=band.zones._replace(starts=zones)))
    params = replace(drawn.params, seconds=2.0)
    found = solve(spoilt, drawn.x, drawn.y, drawn.flux, (SIDE, SIDE), params)
    assert not isinstance(found, Solution) or drawn.error_px(found) < 2.0


#: A process that has compiled nothing yet solves a picture of a small sky, and gets the time that took.
FRESH = """
import numpy as np
from skylake.core.sphere import tangent_basis, unit_vectors
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import solve
from skylake.sky.asterism_build import bands_of

random = np.random.default_rng(8)
sky = random.normal(size=(4000, 3))
sky /= np.linalg.norm(sky, axis=1)[:, None]
bright = random.uniform(1.0, 6.0, len(sky))
bands = bands_of(sky, bright, narrowest_deg=12.0)
east, north = tangent_basis(80.0, 20.0)
depth = sky @ unit_vectors(80.0, 20.0)
x, y = (1500.0 * (sky @ way) / depth + 300.0 for way in (east, north))
seen = (depth > 0.5) & (abs(x - 300.0) < 300.0) & (abs(y - 300.0) < 300.0)
params = SolveParams(scale_low=120.0, scale_high=150.0, seconds=0.2)
found = solve(bands, x[seen], y[seen], 10.0 ** (-0.4 * bright[seen]), (600, 600), params)
print(type(found).__name__, found.seconds)
"""


def test_the_first_frame_of_a_process_has_all_its_time() -> None:
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    verdict, seconds = done.stdout.split()
    assert verdict == "Solution" and float(seconds) < 0.3


def test_sources_of_a_bad_column_or_without_flux_take_no_part() -> None:
    random = np.random.default_rng(2)
    x, y = random.uniform(0, SIDE, (2, 100))
    x[:20] = 500.2
    flux = np.linspace(1000.0, 1.0, 100)
    flux[40], x[41] = -1.0, np.nan
    assert usable_sources(x, y, flux).tolist() == [*range(20, 40), *range(42, 100)]


def test_the_written_wcs_says_what_the_solution_says(
    sky: tuple[Floats, Floats], bands: list[AsterismBand]
) -> None:
    from astropy.wcs import WCS

    drawn = draw(sky, 6, width=25.0)
    found: Any = solve(bands, drawn.x, drawn.y, drawn.flux, (SIDE, SIDE), drawn.params)
    x, y = (axis.ravel() for axis in np.meshgrid(*[np.linspace(0, SIDE - 1, 9)] * 2))
    ra, dec = found.to_sky(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wcs = WCS(wcs_header(found))
    off = separation_deg(ra, dec, *wcs.all_pix2world(x, y, 0)) * 3600.0 / found.scale_arcsec
    assert off.max() < 0.02
    # From the plane to pixels the polynomials are those of the solution.
    header, plane = wcs_header(found), np.column_stack(wcs.wcs_world2pix(ra, dec, 0)) - 0.5 * (SIDE - 1)
    for axis, name, true in ((0, "AP", x), (1, "BP", y)):
        terms = {
            key: value for key, value in header.items() if key.startswith(f"{name}_") and key[3:4].isdigit()
        }
        bent = sum(
            value * plane[:, 0] ** int(key.split("_")[1]) * plane[:, 1] ** int(key.split("_")[2])
            for key, value in terms.items()
        )
        assert np.abs(plane[:, axis] + bent + 0.5 * (SIDE - 1) - true).max() < 0.001
