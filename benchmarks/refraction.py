"""What differential refraction costs a lens, and what is left of it once it is taken off the stars.

Needs: skylake alone. Takes a quarter of a minute on 2 cores.

Simulated: a camera of 1024 x 768 pixels without distortion, 1 to 75 degrees wide, looks at several altitudes from a
site at 2,600 m. Its 600 stars are where the whole air and the motion of the Earth put them, and their places are off
by 0.01 px in each coordinate. `skylake.image.solving.refined_wcs.refine_pointing` fits a lens from a pointing that is
off, and it is compared with the truth on a grid over the image: root mean square distance, pixels.

Four ways: the lens of the frame alone, whose distortion may follow the air; and the pointing, scale and stretch alone,
as where the distortion of the camera was learned; each with the refraction left in (the peer) and taken off. The
median of several drawn frames counts. Behind each figure stands how many parameters were fitted.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import numpy as np
from claims import Claim, conclude

from skylake.core.camera import Site
from skylake.core.horizon import Horizon, horizontal_vectors
from skylake.core.refraction import Air
from skylake.core.sphere import ra_dec
from skylake.image.distortion.distortion_model import Distortion
from skylake.image.distortion.joint_fit import SHARED
from skylake.image.solving.refined_wcs import refine_pointing
from skylake.image.solving.solve_near_expected import pointing_of
from skylake.image.wcs.field_refraction import Bending
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.star_matching import Sources

SHAPE = (768, 1024)
AIR = Air(740.0, 5.0, 0.545, 2600.0)
HORIZON = Horizon.of(60400.2, Site("a hill", -70.4, -24.6, 2600.0), AIR)
AZIMUTH, STARS, NOISE_PX = 70.0, 600, 0.01
#: Width of the field and altitude of its middle, degrees; what may be left where the distortion was learned, pixels.
CASES = ((1.0, 30.0, 0.002), (11.0, 30.0, 0.003), (20.0, 30.0, 0.004), (20.0, 60.0, 0.005), (40.0, 45.0, 0.008),
         (75.0, 60.0, 0.014))  # fmt: skip
#: Where refraction matters: what is left in is at least so much, and that is what the claims are about.
FROM_DEG = 20.0


def main() -> None:
    """Print the table and the claims."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one frame of each kind, not five")
    frames = 1 if parser.parse_args().quick else 5
    print("error over the image [px] (parameters): lens of the frame alone, or distortion learned")
    print("field  altitude    alone: left in  taken off   learned: left in  taken off")
    claims = []
    for field, altitude, most in CASES:
        alone_in, alone_off, learned_in, learned_off = (
            median([fitted(field, altitude, seed, learned, off) for seed in range(frames)])
            for learned in (False, True)
            for off in (False, True)
        )
        cells = "".join(
            f"{error:12.4f} ({n:2d})" for error, n in (alone_in, alone_off, learned_in, learned_off)
        )
        print(f"{field:5.0f} {altitude:9.0f} {cells}")
        if field >= FROM_DEG:
            where = f"{field:.0f} degrees at an altitude of {altitude:.0f}"
            claims.append(
                Claim(f"{where}, distortion learned: error [px]", learned_off[0], learned_in[0], most)
            )
            claims.append(Claim(f"{where}, frame alone: error [px]", alone_off[0], alone_in[0], 0.003))
    conclude(claims)


def median(found: list[tuple[float, int]]) -> tuple[float, int]:
    """Return the median error, and the usual number of parameters."""
    errors, numbers = zip(*found, strict=True)
    return float(np.median(errors)), int(np.median(numbers))


def fitted(field_deg: float, altitude: float, seed: int, learned: bool, off: bool) -> tuple[float, int]:
    """Fit a lens to a drawn frame; return its error over the image, pixels, and its number of parameters."""
    random = np.random.default_rng(seed)
    middle = horizontal_vectors(altitude, AZIMUTH)
    focal = 0.5 * SHAPE[1] / math.tan(math.radians(0.5 * field_deg))
    lens = Lens.aimed(middle, [0.0, 0.0, 1.0], focal, (0.5 * (SHAPE[1] - 1), 0.5 * (SHAPE[0] - 1)))
    x, y = random.uniform(0.0, SHAPE[1] - 1.0, STARS), random.uniform(0.0, SHAPE[0] - 1.0, STARS)
    stars, mag = ra_dec(HORIZON.to_icrs(lens.to_vectors(x, y))), random.uniform(5.0, 9.0, STARS)
    moved = NOISE_PX * random.standard_normal((2, STARS))
    sources = Sources.ranked(x + moved[0], y + moved[1], np.full(STARS, NOISE_PX), 10.0 ** (-0.4 * mag))
    rough = pointing_of(replace(lens.turned(HORIZON.axes), x0=lens.x0 + 1.0), SHAPE)
    bending = Bending(tuple(HORIZON.axes[2].tolist()), tuple(HORIZON.to_icrs(middle).tolist()), AIR)
    known = Distortion(lens, 1e-12 * np.eye(len(SHARED)), 0.0, 30, 30 * STARS) if learned else None
    found = refine_pointing(
        rough, CatalogStars(*stars, mag), sources, SHAPE, 30.0, known, bending if off else None
    )
    if found is None:
        raise SystemExit(f"no lens was fitted to a field of {field_deg:g} degrees")
    grid_y, grid_x = (axis.ravel() for axis in np.mgrid[0 : SHAPE[0] - 1 : 16j, 0 : SHAPE[1] - 1 : 16j])
    there = found.lens.to_pixels(HORIZON.to_icrs(lens.to_vectors(grid_x, grid_y)))
    error = math.sqrt(float(np.mean((there[0] - grid_x) ** 2 + (there[1] - grid_y) ** 2)))
    return error, len(found.refinement.fit.freed)


if __name__ == "__main__":
    main()
