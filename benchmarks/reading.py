"""How long it takes to read a frame and to take bias and flat off it, beside astropy.

Needs: skylake alone. Takes about 20 seconds on 2 cores, 5 with --quick.

Frames of 2048 x 2048 pixels, as uint16, int16 and float32, plain and tile-compressed, lie in memory as the bytes of
their files. Both sides go from these bytes to native float32 less bias over flat; ours also marks the pixels that are
saturated, beyond linearity, or without a value. "all steps" is the whole of the reduction's first room, which carries
the variance of each pixel besides, with and without the errors of masters. The fastest of some runs counts, as CPU
time. The claim is of uint16, in which cameras write: FITS keeps it as int16 with a BZERO. Where there is none astropy
has less to do, and only the bytes to swap of floats.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from astropy.io import fits
from claims import Claim, conclude

from skylake.core.camera import Camera, ReductionSteps
from skylake.core.frame import FileContent, Image
from skylake.image.detrend.detrend_chain import Conditions, detrend_image
from skylake.image.detrend.linear_pass import LinearPass, run_pass
from skylake.image.fitsio.read_fits import open_stored
from skylake.image.masters.master_file import MasterFrame

SHAPE = (2048, 2048)
MPIX = SHAPE[0] * SHAPE[1] / 1e6
#: Part of astropy's time that we may take.
TARGET = 0.4


def frame(kind: str, compressed: bool = False) -> FileContent:
    """Return the file of a frame of a sky of 1,000 ADU."""
    pixels = np.random.default_rng(1).normal(1000.0, 25.0, SHAPE).astype(kind)
    unit = fits.CompImageHDU(pixels, compression_type="RICE_1") if compressed else fits.PrimaryHDU(pixels)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), unit] if compressed else [unit]).writeto(buffer)
    return FileContent("frame.fits", len(buffer.getvalue()), 0, buffer.getvalue())


def masters() -> dict[str, MasterFrame]:
    """Return a bias and a flat, without errors."""
    random = np.random.default_rng(2)
    bias = random.normal(300.0, 2.0, SHAPE).astype(np.float32)
    inverse = (1.0 / random.normal(1.0, 0.02, SHAPE)).astype(np.float32)
    return {
        "bias": MasterFrame("bias", bias, None, None, (0, 0)),
        "flat": MasterFrame("flat", inverse, None, None, (0, 0)),
    }


def by_astropy(content: FileContent, held: dict[str, MasterFrame], number: int) -> np.ndarray:
    """Return the pixels less bias over flat as one would write it with astropy."""
    with fits.open(io.BytesIO(content.data), memmap=False) as units:
        pixels = np.asarray(units[number].data, np.float32)
    pixels = pixels - held["bias"].pixels
    pixels *= held["flat"].pixels
    return pixels


def by_skylake(content: FileContent, held: dict[str, MasterFrame], steps: ReductionSteps) -> Image:
    """Return the image by the steps of a camera."""
    raw = open_stored(content)
    return detrend_image(raw, Camera("bench", reduction=steps), Conditions(60000.0, 1.5, 8.0, 30.0, held))


def in_one_pass(content: FileContent, held: dict[str, MasterFrame], steps: ReductionSteps) -> np.ndarray:
    """Return the pixels less bias over flat by the kernel that the steps use."""
    raw = open_stored(content)
    work = LinearPass(60000.0, 50000.0, bias=held["bias"].pixels, inverse_flat=held["flat"].pixels)
    whole = slice(0, raw.shape[0]), slice(0, raw.shape[1])
    return run_pass(raw, whole, work, np.zeros(raw.shape, np.uint8), None)[0]


def fastest(work: Callable[[], object], runs: int) -> float:
    """Return the CPU time of the fastest run, in ms per million pixels; the first, which compiles, does not count."""
    work()
    found = []
    for _ in range(runs):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1e3 * min(found) / MPIX


def main() -> None:
    """Time both, and print a table and the claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few runs")
    runs = 5 if parser.parse_args().quick else 30
    held, claims = masters(), []
    print(f"{'frame':24s} {'skylake':>9s} {'astropy':>9s} {'ratio':>6s}   ms of CPU per Mpix")
    for kind, compressed in (("uint16", False), ("int16", False), ("float32", False), ("int16", True)):
        content, number = frame(kind, compressed), int(compressed)
        steps = ReductionSteps(("bias", "flat"))
        exact = by_astropy(content, held, number)
        np.testing.assert_allclose(by_skylake(content, held, steps).pixels, exact, rtol=1e-5, atol=1e-2)
        theirs = fastest(lambda: by_astropy(content, held, number), runs)  # noqa: B023
        name = f"{kind}{' Rice' if compressed else ''}"
        for what, work in (("bias, flat", in_one_pass), ("all steps", by_skylake)):
            ours = fastest(lambda: work(content, held, steps), runs)  # noqa: B023
            print(f"{f'{name} {what}':24s} {ours:9.3f} {theirs:9.3f} {ours / theirs:6.2f}")
            if kind == "uint16" and work is in_one_pass:
                claims.append(Claim(f"bias and flat of {name} [ms/Mpix]", ours, theirs, TARGET * theirs))
    last = frame("uint16")
    errors = {name: replace(one, error=np.ones(SHAPE, np.float32)) for name, one in held.items()}
    ours = fastest(lambda: by_skylake(last, errors, ReductionSteps(("bias", "flat"))), runs)
    print(f"{'uint16 errors of masters':24s} {ours:9.3f}")
    conclude(claims)


if __name__ == "__main__":
    main()
