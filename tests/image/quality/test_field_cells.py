"""Cells of a field show where stars are wide or long, and stand out only where they do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skylake import cameras
from skylake.core.flags import FrameFlag
from skylake.image.fitsio.read_fits import read_file
from skylake.image.quality.field_cells import cell_columns
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.simulate import Moffat

DATA = os.environ.get("SKYLAKE_REAL_DATA")
SHAPE = (512, 512)
FWHM = tuple(f"fwhm_cell{number}_px" for number in range(1, 10))
LONG = tuple(f"ellipticity_cell{number}" for number in range(1, 10))


@pytest.fixture(scope="module")
def noted(make_field: Callable[..., Any], measure: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """A function that draws stars, wider by a factor and longer in the last cell, or all around the middle one."""

    def go(
        wider: float = 1.0, ellipticity: float = 0.0, seed: int = 1, around: bool = False
    ) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        y, x = np.mgrid[20:500:24, 20:500:24].reshape(2, -1) + random.uniform(-4.0, 4.0, (2, 400))
        last = (x > 341.0) & (y > 341.0)
        if around:
            last = np.maximum(np.abs(x - 256.0), np.abs(y - 256.0)) > 85.0
        flux = np.exp(random.uniform(*np.log((2e4, 2e5)), x.size))
        psf = Moffat(np.where(last, 3.0 * wider, 3.0), np.where(last, ellipticity, 0.0), 35.0)
        columns = cell_columns(measure(make_field(x, y, flux, SHAPE, psf=psf, seed=seed)).sources, SHAPE)
        return dict(columns)

    return go


def test_an_even_field_has_none_that_stands_out(noted: Callable[..., dict[str, Any]]) -> None:
    rows = [noted(seed=seed) for seed in range(1, 6)]
    assert [row["n_uneven_cells"] for row in rows] == [0] * 5
    assert all(row["flags"] == 0 for row in rows)
    np.testing.assert_allclose([[row[name] for name in FWHM] for row in rows], 3.0, rtol=0.06)
    assert max(row[name] for row in rows for name in LONG) < 0.05


def test_a_corner_of_wide_stars_stands_out(noted: Callable[..., dict[str, Any]]) -> None:
    row = noted(wider=1.3)
    assert row["fwhm_cell9_px"] == pytest.approx(3.9, rel=0.06)
    assert row["fwhm_cell1_px"] == pytest.approx(3.0, rel=0.06)
    assert row["n_uneven_cells"] == 1 and row["flags"] & FrameFlag.UNEVEN_IMAGES


def test_a_corner_of_long_stars_stands_out(noted: Callable[..., dict[str, Any]]) -> None:
    row = noted(ellipticity=0.3)
    assert row["ellipticity_cell9"] == max(row[name] for name in LONG) > 0.15
    assert row["n_uneven_cells"] == 1 and row["flags"] & FrameFlag.UNEVEN_IMAGES


@pytest.mark.parametrize("change", [{"wider": 1.35}, {"ellipticity": 0.3}])
def test_eight_bad_cells_around_a_good_one_stand_out(
    noted: Callable[..., dict[str, Any]], change: dict[str, float]
) -> None:
    row = noted(**change, around=True)
    assert row["n_uneven_cells"] == 8 and row["flags"] & FrameFlag.UNEVEN_IMAGES


def test_stars_that_widen_over_the_field_are_flagged_by_cells(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    """As with a detector that is tilted in its focus."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[20:500:24, 20:500:24].reshape(2, -1) + random.uniform(-4.0, 4.0, (2, 400))
    flux = np.exp(random.uniform(*np.log((2e4, 2e5)), x.size))
    middle = np.array([0.5, 1.5, 2.5]) / 3.0 * 512.0
    widths = {tilt: 3.7 + tilt * (np.add.outer(middle, middle).ravel() / 512.0 - 1.0) for tilt in (0.0, 1.4)}
    rows = {}
    for tilt in widths:
        psf = Moffat(3.7 + tilt * ((x + y) / 512.0 - 1.0))
        sources = measure(make_field(x, y, flux, SHAPE, psf=psf, seed=3)).sources
        rows[tilt] = row = dict(cell_columns(sources, SHAPE))
        np.testing.assert_allclose([row[name] for name in FWHM], widths[tilt], rtol=0.06)
    assert rows[0.0]["n_uneven_cells"] == 0 and not rows[0.0]["flags"] & FrameFlag.UNEVEN_IMAGES
    assert rows[1.4]["n_uneven_cells"] >= 3 and rows[1.4]["flags"] & FrameFlag.UNEVEN_IMAGES


@pytest.mark.skipif(DATA is None, reason="SKYLAKE_REAL_DATA names no folder of real frames")
def test_a_real_lens_is_as_uneven_in_one_field_as_in_another() -> None:
    """The flag on these frames is no accident of the stars: another field shows the same cells."""
    paths = [Path(str(DATA)) / "skycamz" / f"z_e_20130610_{number}_1_1_1.fits.gz" for number in (215, 222)]
    rows = [reduce_frame(read_file(str(path)), cameras.load("skycam-z")).row for path in paths]
    for names, spread in ((FWHM, 1.5), (LONG, 0.2)):
        one, other = (np.array([row[name] for name in names]) for row in rows)
        assert min(np.ptp(one), np.ptp(other)) > spread
        assert np.corrcoef(one, other)[0, 1] > 0.95
    assert all(row["flags"] & FrameFlag.UNEVEN_IMAGES for row in rows)


def test_cells_are_counted_along_x_and_few_stars_give_none(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    y, x = np.mgrid[20:150:24, 180:330:24].reshape(2, -1).astype(float)
    row = dict(cell_columns(measure(make_field(x, y, np.full(x.size, 1e5), SHAPE)).sources, SHAPE))
    known = [name for name in FWHM if np.isfinite(row[name])]
    assert known == ["fwhm_cell2_px"] and row["n_uneven_cells"] == 0
