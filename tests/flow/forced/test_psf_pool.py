"""Which frames show the point spread function of a night, and which frames it is for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake.cameras import Profile
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.psf_pool import PsfKey, pool_psfs, psf_for
from skylake.simulate import Moffat, render


def write_frame(path: Path, minute: int, size: int = 160, fwhm: float | None = 3.0, **cards: Any) -> str:
    """Write a frame with stars on a grid; without a width it has no stars."""
    random = np.random.default_rng(minute)
    y, x = np.mgrid[24 : size - 16 : 28, 24 : size - 16 : 28].reshape(2, -1) + random.uniform(-6, 6, (2, 1))
    pixels = 3000.0 + random.normal(0.0, 10.0, (size, size))
    if fwhm is not None:
        pixels += render((size, size), x, y, np.full(x.size, 6e4), Moffat(fwhm))
    header = {
        "DATE-OBS": f"2024-04-08T{3 + minute // 60:02d}:{minute % 60:02d}:00", "EXPTIME": 20.0, "FILTER": "V",
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 120.0, "CRVAL2": -25.0, "CRPIX1": 80.5,
        "CRPIX2": 80.5, "CD1_1": -0.001, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.001,
    } | cards  # fmt: skip
    fits.PrimaryHDU(pixels.astype(np.float32), fits.Header(header)).writeto(path)
    return str(path)


def n_frames(files: list[str], plain_profile: Profile) -> dict[tuple[Any, ...], int]:
    return {
        tuple(key): one.quality.n_frames
        for key, one in pool_psfs({1: files}, plain_profile, Inline()).items()
    }


def test_calibration_frames_take_the_place_of_none(plain_profile: Profile, tmp_path: Path) -> None:
    files = [write_frame(tmp_path / f"light-{i}.fits", i) for i in range(4)]
    for i in range(60):
        cards = {"IMAGETYP": "bias", "EXPTIME": 0.0}
        files.append(write_frame(tmp_path / f"bias-{i:02d}.fits", i, 64, None, **cards))
    assert n_frames(files, plain_profile) == {(1, "V", (160, 160)): 4}


def test_a_copy_of_a_frame_does_not_count(plain_profile: Profile, tmp_path: Path) -> None:
    files = [write_frame(tmp_path / f"light-{i}.fits", i) for i in range(3)]
    copies = [shutil.copy2(file, tmp_path / f"again-{i}.fits") for i, file in enumerate(files)]
    assert n_frames([*files, *map(str, copies)], plain_profile) == {(1, "V", (160, 160)): 3}


def test_frames_of_one_moment_that_are_no_copies_count(plain_profile: Profile, tmp_path: Path) -> None:
    files = [write_frame(tmp_path / f"{i}.fits", i, **{"DATE-OBS": "2024-04-08T03:00:00"}) for i in range(3)]
    copy = str(shutil.copy2(files[1], tmp_path / "again.fits"))
    assert n_frames([*files, copy], plain_profile) == {(1, "V", (160, 160)): 3}


def test_each_filter_and_size_has_its_own(plain_profile: Profile, tmp_path: Path) -> None:
    files = [write_frame(tmp_path / f"v-{i}.fits", i) for i in range(3)]
    files += [write_frame(tmp_path / f"b-{i}.fits", 10 + i, fwhm=4.0, FILTER="B") for i in range(2)]
    files += [write_frame(tmp_path / f"w-{i}.fits", 20 + i, size=192) for i in range(2)]
    wanted = {(1, "V", (160, 160)): 3, (1, "B", (160, 160)): 2, (1, "V", (192, 192)): 2}
    assert n_frames(files, plain_profile) == wanted
    found = pool_psfs({1: files}, plain_profile, Inline())
    widths = {key.filter: one.shape.width for key, one in found.items() if key.size == (160, 160)}
    assert widths["B"] / widths["V"] == pytest.approx(4.0 / 3.0, rel=0.05)


def test_names_of_one_filter_share_one(plain_profile: Profile, tmp_path: Path) -> None:
    names = ["V", "johnson v", "Bessel V", "v"]
    files = [write_frame(tmp_path / f"{i}.fits", i, FILTER=name) for i, name in enumerate(names)]
    files.append(write_frame(tmp_path / "unknown.fits", 9, FILTER="none of them"))
    wanted = {(1, "V", (160, 160)): 4, (1, "none of them", (160, 160)): 1}
    assert n_frames(files, plain_profile) == wanted


def test_frames_that_say_nothing_are_replaced(plain_profile: Profile, tmp_path: Path) -> None:
    empty = {0, 3, 6, 9, 12, 15, 18, 21}
    files = [write_frame(tmp_path / f"{i:02d}.fits", i, fwhm=None if i in empty else 3.0) for i in range(25)]
    assert n_frames(files, plain_profile) == {(1, "V", (160, 160)): 17}


def test_a_filter_without_a_psf_takes_another_of_its_night(plain_profile: Profile, tmp_path: Path) -> None:
    files = [write_frame(tmp_path / f"v-{i}.fits", i) for i in range(3)]
    found = pool_psfs({1: files}, plain_profile, Inline())
    own = PsfKey(1, "V", (160, 160))
    assert psf_for(found, own) is found[own]
    assert psf_for(found, own._replace(filter="B")) is found[own]
    assert psf_for(found, own._replace(night=2)) is None
    assert psf_for(found, own._replace(size=(192, 192))) is None


def test_frames_without_a_wcs_show_it_as_well(plain_profile: Profile, tmp_path: Path) -> None:
    told = [write_frame(tmp_path / f"told-{i}.fits", i) for i in range(2)]
    blind = []
    for number, file in enumerate(told):
        blind.append(shutil.copy2(file, tmp_path / f"blind-{number}.fits"))
        with fits.open(blind[-1], mode="update") as frame:
            for card in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2"):
                del frame[0].header[card]
    key = PsfKey(1, "V", (160, 160))
    with_wcs, without = (
        pool_psfs({1: list(map(str, files))}, plain_profile, Inline()) for files in (told, blind)
    )
    assert without[key].quality.n_frames == 2
    assert without[key].shape == with_wcs[key].shape
