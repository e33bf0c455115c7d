"""How much memory the whole way of one frame takes, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from skylake.core.flags import PixelFlag
from skylake.image.masters.master_file import write_master
from skylake.simulate import Moffat, render

ROOT = Path(__file__).parents[3]
#: Images of 32 bits that a worker may need, and the sides of the frame that is measured and of one before it.
MOST, SIDES = 8.0, {"large": 2048, "small": 256}
#: Steps of a camera, by the names of its profiles.
STEPS = {
    "plain": ["bias", "dark", "flat"],
    "infrared": ["bias", "dark", "linearity", "flat", "bad_pixels", "cosmic_rays", "sky"],
    "colour": ["bias", "dark", "flat", "bad_pixels", "cosmic_rays", "bayer"],
}
#: glibc keeps what is given back of arrays of up to 32 MB, as images of this side, but not of those twice as wide.
#: Here it keeps as little of the image as there.
AS_IF_LARGE = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20)}
LEVELS = {"bias": 300.0, "dark": 2.0, "flat": 1.0, "sky": 1.0}
PROFILE = """
name = "{name}"
like = "sim"
detector.width_px = {side}
detector.height_px = {side}
detector.linearity = [1e-9]
{bayer}
reduction.steps = {steps}
optics.pixel_scale_arcsec = 3.6
gates.n_sources.min = 5
period = []
"""
SCRIPT = """
import gc, hashlib, re, sys
from pathlib import Path
import numpy as np
from skylake import cameras
from skylake.flow.sky.sky_files import read_sky
from skylake.image.psf.forced_photometry import force_targets
from skylake.image.masters.master_library import Library, Master
from skylake.image.psf.targets_on_frame import TargetStars
from skylake.image.psf.psf_model import PsfModel
from skylake.image.fitsio.read_fits import read_file
from skylake.core.frame_step import Step
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.image.reduction.frame_record import ReduceParams
from skylake.image.combine.sky_frame import subtracted_sky

def memory(name):
    found = re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1])

def reduce(folder, name, camera):
    number = int(name.endswith(".fz"))
    profile = cameras.load(folder / f"{camera}.toml")
    steps = profile.base.reduction.steps
    masters = tuple(
        Master(kind, kind, kind, hashlib.sha256((folder / kind).read_bytes()).hexdigest(), number, "1x1",
               "V" if kind == "flat" else None, 20.0 if kind == "dark" else None)
        for kind in steps
        if kind in ("bias", "dark", "flat", "bad_pixels")
    )
    x, y = np.load(folder / "targets.npy") / (2.0 if "bayer" in steps else 1.0)

    def sky(file, image):
        return subtracted_sky(image, read_sky(str(folder / "sky"), image.pixels.shape))

    def finish(extracted):
        ra, dec = extracted.pointing.to_sky(x, y)
        targets = TargetStars(np.arange(len(x)), ra, dec, ra, dec, 1)
        return Step(force_targets(extracted, lambda *_: targets, PsfModel.moffat(2.5, extracted.signal.shape)))

    params = ReduceParams(library=Library(folder, masters), sky=sky, finish=finish)
    found = reduce_frame(read_file(folder / name), profile, params)
    assert found.status == "ok", found.row["message"]
    assert len(found.finished) > 0.9 * len(x)
    assert found.row["masters"] == " ".join(master.kind for master in masters)

small, large = Path(sys.argv[1]) / "small", Path(sys.argv[1]) / "large"
reduce(small, *sys.argv[2:])
gc.collect()
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
for _ in range(3):
    reduce(large, *sys.argv[2:])
print(memory("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of two sizes with their masters."""
    folder = tmp_path_factory.mktemp("memory")
    for name, side in SIDES.items():
        write_frames(folder / name, side)
    return folder


def write_frames(folder: Path, side: int) -> None:
    folder.mkdir()
    for camera, steps in STEPS.items():
        bayer = 'detector.bayer_pattern = "RGGB"' if "bayer" in steps else ""
        text = PROFILE.format(name=camera, side=side, bayer=bayer, steps=steps)
        (folder / f"{camera}.toml").write_text(text)
    random = np.random.default_rng(side)
    shape = (side, side)
    for kind, level in LEVELS.items():
        plane = random.normal(level, 0.01, shape).astype(np.float32)
        write_master(folder / kind, {"KIND": kind, "EXPTIME": 20.0}, plane, np.full(shape, 0.002, np.float32))
    bad = np.where(random.random(shape) < 1e-3, np.uint8(PixelFlag.HOT), np.uint8(0))
    write_master(folder / "bad_pixels", {"KIND": "bad_pixels"}, mask=bad)
    # What sources need does not grow with the image: as many to a pixel as 10,000 on 4096 x 4096.
    n = round(10_000 * (side / 4096) ** 2)
    x, y = random.uniform(0.0, side, (2, n))
    np.save(folder / "targets.npy", np.stack([x, y]))
    light = render(shape, x, y, 10.0 ** random.uniform(2.5, 5.0, n), Moffat(2.5), 20.0, 1.5) + 500.0
    pixels = np.rint(random.poisson(1.5 * light) / 1.5 + random.normal(302.0, 5.0, shape)).clip(0, 65535)
    pixels[random.random(shape) < 1e-4] += 3000.0
    header = fits.Header(
        {"DATE-OBS": "2024-10-02T03:00:00", "EXPTIME": 20.0, "GAIN": 1.5, "RDNOISE": 8.0, "FILTER": "V"}
        | {"OBSTYPE": "EXPOSE", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 120.0, "CRVAL2": -25.0}
        | {
            "CRPIX1": side / 2,
            "CRPIX2": side / 2,
            "CD1_1": -0.001,
            "CD1_2": 0.0,
            "CD2_1": 0.0,
            "CD2_2": 0.001,
        }
    )
    fits.PrimaryHDU(pixels.astype(np.uint16), header).writeto(folder / "frame.fits")
    tiles = fits.CompImageHDU(pixels.astype(np.uint16), header)
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(folder / "frame.fits.fz")


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the system does not report its memory"
)
@pytest.mark.parametrize(
    ("name", "camera"),
    [
        ("frame.fits", "plain"),
        pytest.param("frame.fits.fz", "plain", marks=pytest.mark.slow),
        pytest.param("frame.fits", "infrared", marks=pytest.mark.slow),
        pytest.param("frame.fits", "colour", marks=pytest.mark.slow),
    ],
)
def test_a_frame_with_all_master_errors_takes_eight_images(folder: Path, name: str, camera: str) -> None:
    """From the file to measured sources and targets, with masters, their errors, and the file itself among it."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder), name, camera]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", **AS_IF_LARGE}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    images = int(done.stdout) / (4.0 * SIDES["large"] ** 2)
    print(f"{name}, {camera}: {images:.2f} images")
    assert images < MOST
