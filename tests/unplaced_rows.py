"""A lake of a narrow camera: no catalog places its frames, and their cards say about where they point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.time import Time

from skylake import cameras
from skylake.core.sphere import unit_vectors
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.image.wcs.lens import Lens
from skylake.lake import Lake

Floats = npt.NDArray[np.float64]
SIZE, SCALE_ARCSEC, WIDTH_PX = 256, 8.0, 1.3
CENTRE, START_MJD = (12.0, -24.6), 60585.2
N_NIGHTS, FRAMES_PER_NIGHT = 4, 10
#: Noise of each star on each frame beside that of photons, as of scintillation, magnitudes.
SCINTILLATION_MAG = 0.008
#: The star that varies: its number, full amplitude (magnitudes) and period (days).
VARIABLE, AMPLITUDE_MAG, PERIOD_D = 37, 0.30, 0.3713
PROFILE = """
like = "sim"
name = "narrow"
detector.width_px = 256
detector.height_px = 256
header.wcs = "none"
astrometry.ra = ["OBJCTRA"]
astrometry.dec = ["OBJCTDEC"]
gates.n_sources.min = 5
"""


@dataclass(frozen=True, slots=True)
class Unplaced:
    """The lake, and the true places of its stars on the first frame, pixels, with their light, ADU."""

    lake: Lake
    x: Floats
    y: Floats
    flux: Floats
    profile: Path
    frames: Path


def _stars(random: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return places and light of stars that are far from each other."""
    y, x = np.mgrid[14:SIZE:25, 14:SIZE:25].reshape(2, -1).astype(float)
    x, y = (values + random.uniform(-4.0, 4.0, x.size) for values in (x, y))
    flux = 10.0 ** random.uniform(3.5, 5.4, x.size)
    flux[VARIABLE] = 10.0**4.8
    return x, y, flux


def _write(path: Path, pixels: Floats, mjd: float, random: np.random.Generator) -> None:
    header = fits.Header()
    header["DATE-OBS"], header["EXPTIME"] = Time(mjd, format="mjd").isot, 10.0
    header["FILTER"], header["GAIN"], header["RDNOISE"], header["OBSTYPE"] = "V", 1.5, 8.0, "expose"
    ra, dec = np.array(CENTRE) + random.normal(0.0, 0.02, 2)
    header["OBJCTRA"], header["OBJCTDEC"] = ra, dec
    noisy = random.normal(pixels, np.sqrt(pixels / 1.5 + (8.0 / 1.5) ** 2))
    fits.writeto(path, np.clip(np.rint(noisy), 0, 65535).astype(np.uint16), header)


def write_frames(folder: Path) -> tuple[Floats, Floats, Floats]:
    """Write frames of some nights, through changing haze and by a mount that is never quite on its field."""
    random = np.random.default_rng(3)
    x, y, flux = _stars(random)
    focal = np.degrees(1.0) * 3600.0 / SCALE_ARCSEC
    middle = ((SIZE - 1) / 2, (SIZE - 1) / 2)
    first = Lens.aimed(unit_vectors(*CENTRE), unit_vectors(CENTRE[0], 60.0), focal, middle)
    towards, grid = first.to_vectors(x, y), np.arange(SIZE)
    for night in range(N_NIGHTS):
        for number in range(FRAMES_PER_NIGHT):
            mjd = START_MJD + night + number * 0.015
            aim = np.array(CENTRE) + random.normal(0.0, 0.004, 2) * (night + number > 0)
            lens = Lens.aimed(unit_vectors(*aim), unit_vectors(aim[0], 60.0), focal, middle)
            mag = random.normal(0.0, SCINTILLATION_MAG, x.size)
            mag[VARIABLE] += 0.5 * AMPLITUDE_MAG * np.sin(2.0 * np.pi * mjd / PERIOD_D)
            light = random.uniform(0.4, 1.0) * flux * 10.0 ** (-0.4 * mag)
            column, row = lens.to_pixels(towards)
            across, along = (
                np.exp(-0.5 * ((grid - place[:, None]) / WIDTH_PX) ** 2) for place in (column, row)
            )
            drawn = np.einsum("s,sy,sx->yx", light / (2.0 * np.pi * WIDTH_PX**2), along, across)
            _write(folder / f"{night}-{number:02d}.fits", drawn + 800.0, mjd, random)
    return x, y, flux


@pytest.fixture(scope="session")
def unplaced(tmp_path_factory: pytest.TempPathFactory) -> Unplaced:
    """A lake that has all frames of the narrow camera. Tests do not change it."""
    folder = tmp_path_factory.mktemp("unplaced")
    frames, profile = folder / "frames", folder / "narrow.toml"
    frames.mkdir()
    profile.write_text(PROFILE)
    x, y, flux = write_frames(frames)
    lake = Lake.create(folder / "lake")
    ingest(lake, cameras.load(profile), sorted(frames.iterdir()), Inline())
    return Unplaced(lake, x, y, flux, profile, frames)
