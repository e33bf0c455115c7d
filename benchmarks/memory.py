"""Peak memory of one worker, from a file to measured sources and targets, on 4096 x 4096 pixels.

Needs: skylake alone. Takes about four minutes.

A frame of 10,000 stars with bias, dark and flat, their errors and a plane of variances is reduced three times in a
process of its own, with forced photometry of all of its stars, after a small frame has brought all that does not grow
with the image. The same is done with all steps that a camera may have, and for a colour camera. The claim is one line
for each form of the file and each camera: images of 32 bits per pixel, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from claims import Claim, conclude

ROOT = Path(__file__).parents[1]
SMALL = 256
FORMS = ("frame.fits", "frame.fits.fz")
#: Cameras of more steps.
FURTHER = ("infrared", "colour")


def main() -> None:
    """Measure the peak, and claim that it is no more than eight images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096, help="pixels along each side of the frame")
    side = parser.parse_args().side
    test = load_test()
    claims = []
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as name:
        folder = Path(name)
        for one, size in (("large", side), ("small", SMALL)):
            test.write_frames(folder / one, size)
        for form, camera in (*((form, "plain") for form in FORMS), *((FORMS[0], one) for one in FURTHER)):
            images = peak(test.SCRIPT, folder, form, camera) / (4.0 * side**2)
            name = f"peak memory of a worker, images, {side} x {side}, {form}, {' '.join(test.STEPS[camera])}"
            claims.append(Claim(name, images, None, test.MOST))
    conclude(claims)


def load_test() -> ModuleType:
    """Return the test that does the same on a smaller frame."""
    path = ROOT / "tests" / "image" / "test_memory.py"
    found = importlib.util.spec_from_file_location("test_memory", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def peak(script: str, folder: Path, form: str, camera: str) -> int:
    """Return by how many bytes a process grows at most."""
    command = [sys.executable, "-W", "ignore", "-c", script, str(folder), form, camera]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(done.stdout)


if __name__ == "__main__":
    main()
