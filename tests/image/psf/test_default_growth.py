"""Frames of few stars take the aperture corrections of their night, with the width that their own stars show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from skylake.core.camera import Camera
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.psf.default_growth import corrections_of
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.psf_model import PsfModel, solve_psf
from skylake.image.psf.psf_stars import psf_of_frame, sums_of_frame
from skylake.simulate import Moffat

Floats = npt.NDArray[np.float64]

SHAPE, BETA, EXPOSURE_S = (400, 400), 2.6, 20.0
WIDTHS = (2.5, 2.8, 3.1, 3.4)
#: Stars of a frame that clouds have left few of, and their S/N.
N_FEW = 4


@dataclass(frozen=True, slots=True)
class Bench:
    """Draws and measures frames of one night."""

    make_field: Callable[..., Any]
    measure: Callable[..., Any]
    camera: Camera

    def frame(self, width: float, n: int, flux: tuple[float, float], seed: int) -> tuple[Any, Extracted]:
        """Return a field of stars far from one another, and what was extracted."""
        random = np.random.default_rng([seed, 5])
        y, x = np.mgrid[40 : SHAPE[0] - 30 : 40, 40 : SHAPE[1] - 30 : 40].reshape(2, -1).astype(float)
        chosen = random.permutation(x.size)[:n]
        x, y = (values[chosen] + random.uniform(-3.0, 3.0, n) for values in (x, y))
        light = np.exp(random.uniform(np.log(flux[0]), np.log(flux[1]), n))
        field = self.make_field(x, y, light, SHAPE, Moffat(width, beta=BETA), seed=seed)
        done = self.measure(field)
        corrections = aperture_corrections(
            done.image, done.background, done.signal, done.detections, done.sources, self.camera.apertures
        )
        nowhere: Any = None
        return field, Extracted(
            {"status": "ok", "night": 20240408}, self.camera, 2.0, EXPOSURE_S, done.image, done.background,
            done.signal, done.detections, done.sources, corrections, nowhere,
        )  # fmt: skip


@pytest.fixture(scope="module")
def bench(make_field: Callable[..., Any], measure: Callable[..., Any], camera: Camera) -> Bench:
    return Bench(make_field, measure, camera)


@pytest.fixture(scope="module")
def model(bench: Bench) -> PsfModel:
    """The point spread function of a night of some widths, of stars with more light in their wings than is assumed."""
    told = [sums_of_frame(bench.frame(width, 60, (2e4, 3e5), 50)[1]) for width in WIDTHS]
    sums = [one for one in told if one is not None]
    assert len(sums) == len(WIDTHS)
    return solve_psf(sum(sums[1:], sums[0]))


@pytest.fixture(scope="module")
def few(bench: Bench) -> list[tuple[Any, Extracted]]:
    """Frames of few stars, of all widths."""
    frames = [bench.frame(width, N_FEW, (2.5e3, 6e3), seed) for width in WIDTHS for seed in range(6)]
    assert all(one.corrections.assumed for _, one in frames)
    return frames


def pulls(
    few: Sequence[tuple[Any, Extracted]], model: PsfModel, name: str, radius: float
) -> tuple[Floats, Floats]:
    """Return by how much factors are off, and that in units of their errors."""
    off, error = [], []
    for field, one in few:
        found = corrections_of(one, model)
        true = field.held(14.0)[0] / field.held(radius)[0]
        off.append(found.factor[name] / true - 1.0)
        error.append(found.error[name] / true)
    return np.array(off), np.array(off) / np.array(error)


@pytest.mark.parametrize(("name", "radius"), [("aper1", 3.0), ("aper2", 5.0), ("aper3", 8.0)])
def test_few_stars_take_the_wings_of_their_night(few: Any, model: PsfModel, name: str, radius: float) -> None:
    off, pull = pulls(few, model, name, radius)
    before = np.array(
        [
            one.corrections.factor[name] * field.held(radius)[0] / field.held(14.0)[0] - 1.0
            for field, one in few
        ]
    )
    assert abs(off.mean()) < 0.4 * abs(before.mean())
    assert abs(pull.mean()) < 0.7 and 0.5 < np.sqrt(np.mean(pull**2)) < 1.2


def test_a_frame_that_measures_its_corrections_keeps_them(bench: Bench, model: PsfModel) -> None:
    _, one = bench.frame(2.8, 60, (2e4, 3e5), 3)
    assert not one.corrections.assumed
    assert corrections_of(one, model) is one.corrections


def test_a_night_that_says_nothing_leaves_what_is_assumed(few: Any, model: PsfModel) -> None:
    _, one = few[0]
    assert corrections_of(one, None) is one.corrections
    assert corrections_of(one, replace(model, size=(300, 300))) is one.corrections


def test_what_is_taken_from_the_night_is_marked_as_assumed(few: Any, model: PsfModel) -> None:
    found = corrections_of(few[0][1], model)
    assert found.assumed and found.n_stars == 0
    assert all(found.error[name] > 0.0 for name in ("aper1", "aper2", "aper3", "kron"))


def test_few_stars_show_the_width_with_its_error(few: Any, model: PsfModel) -> None:
    bright = [psf_of_frame(model, one) for _, one in few]
    off = np.array(
        [np.log(psf.fwhm_px / field.psf.fwhm_px) for psf, (field, _) in zip(bright, few, strict=True)]
    )
    error = np.array([psf.width_err for psf in bright])
    assert off.std() < 0.06
    assert 0.6 < np.std((off - off.mean()) / error) < 1.4


def test_without_stars_the_width_is_as_uncertain_as_any(bench: Bench, model: PsfModel) -> None:
    _, one = bench.frame(2.8, N_FEW, (400.0, 500.0), 9)
    psf = psf_of_frame(model, one)
    assert psf.shape == model.shape and psf.width_err == pytest.approx(0.15)
    assert corrections_of(one, model).error["aper1"] > 0.05
