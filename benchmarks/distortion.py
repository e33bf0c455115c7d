"""What the distortion of a camera is worth that was learned from other frames, and how soon its changes are found.

Needs: skylake alone. Takes two minutes on 2 cores.

Simulated: a camera of 1024 x 768 pixels over 22 degrees with a distortion of two per cent at the corners, decentred
and beside the middle of the image. Each frame looks somewhere else, with its own scale (2e-4) and stretch (2e-4), and
its stars are off by 0.15 px in each coordinate; a fifth of the catalog stars has no source, and as many sources are no
stars. The distortion is learned from 30 frames of 60 stars.

Few stars: frames of 8 to 15 stars are refined from a pointing that is off by some pixels, alone and with what was
learned, and compared with the truth all over the image, corners included. The peer is each frame alone.

Changes: k1 of the camera changes by so much that stars in the corners are 0.3 px off though pointing, scale and
stretch are fitted; after how many frames of 80 stars of 0.1 px is it found, and how many changes are found in 200
frames and more without one?

First frames: such a change after the second of the twelve frames from which a camera is first learned: in how many
cameras of 24 is it found, and how many are divided by one odd frame?

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from claims import Claim, conclude

from skylake.core.rotations import rotation_vector
from skylake.image.distortion.distortion_changes import displacement
from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.distortion.follow_camera import Follower, MatchedFrame, Origin, divided
from skylake.image.distortion.joint_fit import SHARED
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_fit import StarPairs
from skylake.image.wcs.refine_lens import refine
from skylake.image.wcs.star_matching import Sources

SHAPE = (768, 1024)
FOCAL = 2600.0
RHO = 0.5 * math.hypot(*SHAPE) / FOCAL
CAMERA = Lens(
    (0.0, 0.0, 0.0), FOCAL, 519.0, 377.0, (0.02 / RHO**2, -0.012 / RHO**4, 0.0), (4e-4 / RHO, -2e-4 / RHO)
)
ORIGIN = Origin(SHAPE, "simulated", "benchmark")
CORNER_PX = 0.3

Random = np.random.Generator


def main() -> None:
    """Print tables and claims."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer frames")
    quick = parser.parse_args().quick
    learned = ORIGIN.learn([drawn(CAMERA, number, 60, 0.15) for number in range(30)])
    print(f"learned from 30 frames: rms {learned.rms_px:.3f} px, held out {learned.held_out_px:.3f} px")
    claims = few_stars(learned, 6 if quick else 20) + changes(200 if quick else 1000, 4 if quick else 12)
    conclude(claims + first_frames(4 if quick else 24))


def camera_at(camera: Lens, random: Random) -> Lens:
    """Return the camera as it was for one frame."""
    turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
    return replace(
        camera,
        stretch=tuple(2e-4 * random.standard_normal(2)),
        rotation=rotation_vector(turn * np.linalg.det(turn)),
        focal_px=camera.focal_px * (1.0 + 2e-4 * random.standard_normal()),
    )


def drawn(camera: Lens, seed: int, stars: int, noise_px: float) -> MatchedFrame:
    """Draw a frame somewhere on the sky with its matched stars."""
    random = np.random.default_rng(seed)
    lens = camera_at(camera, random)
    x, y = random.uniform(-0.5, SHAPE[1] - 0.5, stars), random.uniform(-0.5, SHAPE[0] - 0.5, stars)
    off = noise_px * random.standard_normal((2, stars))
    pairs = StarPairs(lens.to_vectors(x, y), x + off[0], y + off[1], np.full(stars, noise_px))
    return MatchedFrame(seed, 60000.0 + seed, lens, pairs)


def away(lens: Lens, truth: Lens) -> float:
    """Root mean square distance over the image between two lenses, pixels; a grid to the very corners."""
    y, x = (axis.ravel() for axis in np.mgrid[0 : SHAPE[0] - 1 : 16j, 0 : SHAPE[1] - 1 : 16j])
    there = lens.to_pixels(truth.to_vectors(x, y))
    return math.sqrt(float(np.mean((there[0] - x) ** 2 + (there[1] - y) ** 2)))


def few_stars(learned: Epoch, rounds: int) -> list[Claim]:
    """Refine frames of few stars with and without what was learned."""
    print("\nstars  refined alone, learned   from the truth [px]: alone  learned   ideal")
    known, all_alone, all_held = learned.distortion.expected(SHAPE), [], []
    for stars in range(8, 16):
        alone, held = [], []
        for number in range(rounds):
            truth, vectors, mag, sources = _list(stars, 10_000 + 100 * stars + number)
            start = Lens(truth.rotation, truth.focal_px * 1.002, 0.5 * SHAPE[1], 0.5 * SHAPE[0])
            one = refine(start, vectors, mag, sources, SHAPE, 25.0)
            two = refine(
                learned.distortion.applied(start), vectors, mag, sources, SHAPE, 25.0, known, ["stretch"]
            )
            alone += [] if one is None else [away(one.lens, truth)]
            held += [] if two is None else [away(two.lens, truth)]
        ideal = 0.15 * math.sqrt(4.0 / stars)
        print(
            f"{stars:5d} {len(alone):8d} {len(held):8d} of {rounds} {np.median(alone):19.2f} {np.median(held):7.2f}"
            f" {ideal:7.2f}"
        )
        all_alone += alone
        all_held += held
    ours, peer = float(np.median(all_held)), float(np.median(all_alone))
    return [Claim("8 to 15 stars: median rms from the truth over the image [px]", ours, peer, 0.25)]


def _list(stars: int, seed: int) -> tuple[Lens, npt.NDArray[np.float64], npt.NDArray[np.float64], Sources]:
    """Draw the truth, catalog stars and their magnitudes, and the sources of a frame."""
    random = np.random.default_rng(seed)
    lens = camera_at(CAMERA, random)
    missing = spurious = round(0.2 * stars)
    number = stars + missing
    x, y = random.uniform(-0.5, SHAPE[1] - 0.5, number), random.uniform(-0.5, SHAPE[0] - 0.5, number)
    mag = np.sort(random.uniform(6.0, 9.0, number))
    vectors = lens.to_vectors(x, y)
    kept = np.sort(random.permutation(number)[:stars])
    off = 0.15 * random.standard_normal((2, stars))
    other = random.uniform(0.0, 1.0, (2, spurious)) * [[SHAPE[1]], [SHAPE[0]]]
    flux = np.concatenate([10.0 ** (-0.4 * mag[kept]), 10.0 ** (-0.4 * random.uniform(7.0, 9.0, spurious))])
    places = np.concatenate([[x[kept] + off[0], y[kept] + off[1]], other], axis=1)
    return lens, vectors, mag, Sources.ranked(*places, np.full(stars + spurious, 0.15), flux)


def first_frames(trials: int) -> list[Claim]:
    """Divide the first twelve frames of cameras that change after the second, and of those with one odd frame."""
    step = k1_step(CORNER_PX)
    found = divided_odd = 0
    for trial in range(trials):
        first, sign = 400_000 + 1000 * trial, 1.0 if trial % 2 else -1.0
        now = with_k1(sign * step)
        frames = [drawn(CAMERA if place < 2 else now, first + place, 80, 0.1) for place in range(12)]
        found += [len(part) for part in divided(frames, ORIGIN)] == [2, 10]
        odd, many = (0, 1, 10, 11)[trial % 4], (1.0, 2.0, 10.0)[trial % 3]
        spoilt = with_k1(sign * step * many)
        frames = [drawn(spoilt if place == odd else CAMERA, first + place, 80, 0.1) for place in range(12)]
        divided_odd += len(divided(frames, ORIGIN)) > 1
    print(f"\nchanges of {CORNER_PX} px after two of twelve frames: {found} of {trials} found")
    return [
        Claim(
            f"changes of {CORNER_PX} px missed of {trials}, two frames before",
            trials - found,
            None,
            0.5 * trials,
        ),
        Claim(f"divisions of {trials} cameras by one odd frame", divided_odd, None, 0),
    ]


def k1_step(corner_px: float) -> float:
    """Return the change of k1 that moves stars in the corners so far though frames are pointed anew."""
    away_px = np.zeros(len(SHARED))
    away_px[SHARED.index(6)] = 1e-3
    return 1e-3 * corner_px / displacement(CAMERA, away_px, SHAPE)[1]


def with_k1(step: float) -> Lens:
    """Return the camera with another k1."""
    return replace(CAMERA, radial=(CAMERA.radial[0] + step, *CAMERA.radial[1:]))


def changes(without: int, trials: int) -> list[Claim]:
    """Follow a camera that does not change, and others that do."""
    learned = ORIGIN.learn([drawn(CAMERA, number, 80, 0.1) for number in range(30)])
    follower = Follower(ORIGIN, learned)
    false = sum(
        follower.take(drawn(CAMERA, 100_000 + number, 80, 0.1)) is not None for number in range(without)
    )
    print(f"\n{without} frames without a change: {false} found")
    step, after = k1_step(CORNER_PX), []
    for trial in range(trials):
        sign = 1.0 if trial % 2 else -1.0
        now = with_k1(sign * step)
        follower, first = Follower(ORIGIN, learned), 200_000 + 1000 * trial
        for number in range(first, first + 16):
            follower.take(drawn(CAMERA, number, 80, 0.1))
        for place in range(40):
            if follower.take(drawn(now, first + 16 + place, 80, 0.1)) is not None:
                after.append(place + 1)
                break
        else:
            after.append(41)
    print(f"changes of {CORNER_PX} px in the corners found after {', '.join(map(str, after))} frames")
    return [
        Claim(f"changes found in {without} frames without one", float(false), None, 0.0),
        Claim(
            f"frames until {CORNER_PX} px in the corners are found, median",
            float(np.median(after)),
            None,
            5.0,
        ),
    ]


if __name__ == "__main__":
    main()
