"""Where the stars of a frame are, by one lens model, beside astropy's polynomials fitted to the same stars.

Needs: skylake alone; `wcs-xy2rd` of astrometry.net is asked too if it is installed. For the real frames:
SKYLAKE_REAL_DATA, a folder with `skycamz/*.fits.gz`, `widefield/*.fits.gz` and `catalogs/bigsky_v11.parquet`. Takes
about a minute on 2 cores.

Simulated: 1,000 stars with 0.1 px of noise in each coordinate on 1024 x 768 pixels, through lenses of 5 to 75 degrees
that map a plane to a plane, and a fisheye of 100 degrees that keeps areas. All have radial distortion of order 3 and 5
of two per cent at the corner, are decentred, stretched, and centred beside the middle of the image. What is fitted is
compared with the truth all over the image, corners included. The peer is `astropy.wcs.utils.fit_wcs_from_points`, with
the projection of the lens or the gnomonic one, whichever is better, at the better order of SIP of 3 and 5; it is told
which star is which. The bias is the mean error of the worst corner over the rounds.

Real: sources as `skylake ingest` finds them, the stars of the catalog moved to the epoch. SkyCamZ starts from the WCS
of its headers, the wide fields from a pointing to a tenth of a degree; again with the distortion that the other frames
tell. Distances are those of both coordinates together.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import fit_wcs_from_points
from claims import Claim, conclude
from pyarrow import parquet

from skylake.cameras.profile import load
from skylake.core.frame import Image
from skylake.core.sphere import apply_proper_motion, ra_dec, tangent_basis, unit_vectors
from skylake.image.detection.background import estimate_background
from skylake.image.detection.detect_sources import detect_sources
from skylake.image.distortion.distortion_model import learn_distortion
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.photometry.measure_sources import measure_sources
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.image.wcs.header_wcs import header_pointing
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.projections import PROJECTIONS
from skylake.image.wcs.refine_lens import Refinement, lens_of, refine
from skylake.image.wcs.sip import to_sip
from skylake.image.wcs.star_matching import Sources

SHAPE = (768, 1024)
NOISE_PX = 0.1
STARS = 1000
FIELDS = (
    (5, "rectilinear"),
    (21, "rectilinear"),
    (40, "rectilinear"),
    (75, "rectilinear"),
    (100, "equisolid"),
)
#: Right ascension and declination (degrees) of the wide fields, and the position angle of their y axis.
POINTINGS = ((355.2, 58.2, 127.0), (240.5, 28.9, -149.0), (314.7, 64.2, 91.0))
WIDE_FOCAL_PX = 5100.0
EPOCHS = {"skycamz": 2013.44, "widefield": 2019.57}

Places = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no peer")
    parser.add_argument("--only", choices=["simulated", "real"], help="one of the two parts")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    claims: list[Claim] = []
    if options.only != "real":
        claims += simulated(5, False) if options.quick else simulated(20, True)
    folder = os.environ.get("SKYLAKE_REAL_DATA")
    if options.only != "simulated" and folder is not None:
        claims += real(Path(folder))
    conclude(claims)


def drawn(width_deg: float, projection: str) -> Lens:
    """Return a lens with distortion of two per cent at the corner."""
    kind = PROJECTIONS[projection]
    focal = 0.5 * SHAPE[1] / float(kind.radius(math.radians(0.5 * width_deg)))
    rho = 0.5 * math.hypot(*SHAPE) / focal
    axis, up = unit_vectors(80.0, 35.0), unit_vectors(80.0, 89.0)
    values = Lens.aimed(axis, up, focal, (520.0, 371.0), projection).parameters()
    values[6:] = 0.032 / rho**2, -0.012 / rho**4, 0.0, 4e-4 / rho, -2e-4 / rho, 2e-4, -1e-4
    return Lens.from_parameters(values, projection, False)


def grid() -> Places:
    """Return places all over the image; the corners are the first and last of the first and last row."""
    y, x = np.mgrid[-0.5 : SHAPE[0] - 0.5 : 31j, -0.5 : SHAPE[1] - 0.5 : 41j]
    return x.ravel(), y.ravel()


CORNERS = [0, 40, -41, -1]


@dataclass(frozen=True, slots=True)
class Stars:
    """Directions, where they are seen, and their brightness."""

    vectors: np.ndarray
    x: np.ndarray
    y: np.ndarray
    mag: np.ndarray

    @classmethod
    def through(cls, lens: Lens, seed: int) -> Stars:
        """Draw the stars of a round."""
        random = np.random.default_rng(seed)
        x, y = random.uniform(-0.5, SHAPE[1] - 0.5, STARS), random.uniform(-0.5, SHAPE[0] - 0.5, STARS)
        off = NOISE_PX * random.standard_normal((2, STARS))
        return cls(lens.to_vectors(x, y), x + off[0], y + off[1], random.exponential(1.0, STARS))

    def sources(self) -> Sources:
        """Return them as sources of a frame."""
        return Sources.ranked(self.x, self.y, np.full(STARS, NOISE_PX), 10.0 ** (-0.4 * self.mag))


def rms(off: np.ndarray) -> float:
    """Return the root mean square length of vectors of shape (2, n)."""
    return float(np.sqrt(np.mean(np.sum(off**2, axis=0))))


def simulated(rounds: int, with_peer: bool) -> list[Claim]:
    """Fit lenses to drawn stars."""
    print(f"{rounds} rounds of {STARS} stars with {NOISE_PX} px; distances in px\n")
    print(
        "field [deg]    ours: rms, worst round, bias, CPU ms, stars   SIP: order, off   astropy: rms, CPU ms"
    )
    claims = []
    for width, projection in FIELDS:
        lens = drawn(width, projection)
        x, y = grid()
        start = _rough(lens)
        offs, seconds, matched = [], [], []
        for seed in range(rounds):
            stars = Stars.through(lens, seed)
            sources = stars.sources()
            begun = time.process_time()
            found = refine(start, stars.vectors, stars.mag, sources, SHAPE, 25.0)
            seconds.append(time.process_time() - begun)
            assert found is not None
            matched.append(len(found.stars))
            offs.append(np.array(found.lens.to_pixels(lens.to_vectors(x, y))) - [x, y])
        each = [rms(off) for off in offs]
        bias = float(np.hypot(*np.mean(offs, axis=0)[:, CORNERS]).max())
        exported = to_sip(found.lens, SHAPE)
        through = _off_in_astropy(found.lens, exported.header)
        peer = peer_seconds = math.nan
        if with_peer:
            peer, peer_seconds = _polynomials(Stars.through(lens, 0), lens, projection)
        fast = min(seconds)
        print(
            f"{width:4d} {projection:12s} {np.median(each):7.4f} {max(each):7.4f} {bias:7.4f} {1e3 * fast:6.0f}"
            f" {min(matched):6d}   {exported.order:6d} {through:8.4f}   {peer:8.3f} {1e3 * peer_seconds:6.0f}"
        )
        name = f"{width} degrees, {projection}"
        claims += [
            Claim(
                f"rms error over the frame, {name} [px]",
                float(np.median(each)),
                peer if with_peer else None,
                0.02,
            ),
            Claim(f"bias at the corners, {name} [px]", bias, None, 0.05),
            Claim(f"written WCS through astropy.wcs, {name} [px]", through, None, 0.02),
            Claim(
                f"CPU time of a refinement, {name} [ms]",
                1e3 * fast,
                1e3 * peer_seconds if with_peer else None,
                100.0,
            ),
        ]
    return claims + _other_reader()


def _rough(lens: Lens) -> Lens:
    """Return a lens without distortion that is some pixels off."""
    step = np.zeros(13)
    step[:4] = 6.0 / lens.focal_px, -5.0 / lens.focal_px, 0.004, 0.004
    values = lens.parameters()
    values[4:6] = 511.5, 383.5
    values[6:] = 0.0
    return Lens.from_parameters(values, lens.projection, lens.mirrored).moved(step)


def _off_in_astropy(lens: Lens, header: fits.Header) -> float:
    """Return the largest distance between a lens and astropy's reading of its header, both ways, pixels."""
    x, y = grid()
    wcs = WCS(header)
    there = np.array(lens.to_pixels(unit_vectors(*wcs.all_pix2world(x, y, 0)))) - [x, y]
    back = np.array(wcs.all_world2pix(*ra_dec(lens.to_vectors(x, y)), 0, tolerance=1e-6)) - [x, y]
    return float(max(np.hypot(*there).max(), np.hypot(*back).max()))


def _polynomials(stars: Stars, lens: Lens, projection: str) -> tuple[float, float]:
    """Fit astropy's WCS; return the least error all over the image (pixels), and the time of that."""
    x, y = grid()
    sky, pole = SkyCoord(*ra_dec(stars.vectors), unit="deg"), SkyCoord(80.0 * u.deg, 35.0 * u.deg)
    best = math.inf, math.nan
    for code, order in product({PROJECTIONS[projection].code, "TAN"}, (3, 5)):
        begun = time.process_time()
        try:
            wcs = fit_wcs_from_points((stars.x, stars.y), sky, pole, code, order)
        except ValueError as error:
            print(f"astropy, {code} of order {order}: {error}")
            continue
        seconds = time.process_time() - begun
        there = np.array(lens.to_pixels(unit_vectors(*wcs.all_pix2world(x, y, 0)))) - [x, y]
        # Where polynomials run away there may be no pixel at all.
        best = min(best, (rms(np.nan_to_num(there, nan=max(SHAPE))), seconds))
    return best


def _other_reader() -> list[Claim]:
    """Ask another program for positions of pixels."""
    name = "written WCS through wcs-xy2rd, half a pixel would be 0.7 [px]"
    program = shutil.which("wcs-xy2rd")
    if program is None:
        return [Claim(name, math.nan, None, 0.02, "wcs-xy2rd is not installed")]
    lens, worst = drawn(21, "rectilinear"), 0.0
    header = to_sip(lens, SHAPE).header
    header["IMAGEW"], header["IMAGEH"] = SHAPE[1], SHAPE[0]
    with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
        path = Path(folder) / "lens.wcs"
        fits.PrimaryHDU(header=header).writeto(path)
        for x, y in ((0.0, 0.0), (1023.0, 767.0), (0.0, 767.0), (1023.0, 0.0), (400.25, 500.5)):
            command = [program, "-w", str(path), "-x", str(x + 1.0), "-y", str(y + 1.0)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            ra, dec = (float(number) for number in said[said.rindex("(") + 1 : said.rindex(")")].split(","))
            there = lens.to_pixels(unit_vectors(ra, dec))
            worst = max(worst, math.hypot(there[0] - x, there[1] - y))
    return [Claim(name, worst, None, 0.02)]


@dataclass(frozen=True, slots=True)
class Catalog:
    """A catalog with proper motions."""

    columns: tuple[np.ndarray, ...]

    @classmethod
    def read(cls, path: Path) -> Catalog:
        """Read it."""
        table = parquet.read_table(path)
        return cls(tuple(table[name].to_numpy() for name in ("ra", "dec", "pmra", "pmdec", "V")))

    def near(self, lens: Lens, shape: tuple[int, int], epoch: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the stars about a field at an epoch (Julian year), and their magnitudes."""
        ra, dec, pm_ra, pm_dec, mag = self.columns
        radius = 1.1 * math.atan(0.5 * math.hypot(*shape) / lens.focal_px)
        near = unit_vectors(ra, dec) @ lens.axis > math.cos(radius)
        moved = apply_proper_motion(ra[near], dec[near], pm_ra[near], pm_dec[near], epoch - 2000.0)
        return unit_vectors(*moved), mag[near]


@dataclass(frozen=True, slots=True)
class Frame:
    """A real frame: its sources, and where it is believed to point."""

    name: str
    sources: Sources
    start: Lens
    shape: tuple[int, int]


def _skycamz(path: Path) -> Frame:
    content, profile = read_file(path), load("skycam-z")
    found = reduce_frame(content, profile).sources
    shape = (1024, 1024)
    pointing = header_pointing(open_stored(content).header, profile.base, shape, (0.0, 0.0))
    start = lens_of(lambda x, y: unit_vectors(*pointing.to_sky(x, y)), shape)
    assert found is not None and start is not None
    return Frame(
        path.name[:16], Sources.ranked(found.x, found.y, found.x_err, found.flux["aper2"]), start, shape
    )


def _widefield(path: Path, pointing: tuple[float, float, float]) -> Frame:
    pixels, camera = fits.getdata(path).astype(np.float32), load("generic").base
    image = Image(pixels, np.zeros(pixels.shape, np.uint8), (0, 0))
    background = estimate_background(image, camera.extraction)
    signal = pixels - background.level
    detections = detect_sources(signal, background.rms, image.mask, camera.extraction, 1.0, None)
    found = measure_sources(image, background, signal, detections, camera, 1.0, 1.0)
    ra, dec, angle = pointing
    east, north = tangent_basis(ra, dec)
    up = math.sin(math.radians(angle)) * east + math.cos(math.radians(angle)) * north
    centre = 0.5 * (pixels.shape[1] - 1), 0.5 * (pixels.shape[0] - 1)
    start = Lens.aimed(unit_vectors(ra, dec), up, WIDE_FOCAL_PX, centre, mirrored=True)
    sources = Sources.ranked(found.x, found.y, found.x_err, found.flux["aper2"])
    return Frame(path.name[16:28], sources, start, pixels.shape)


def real(folder: Path) -> list[Claim]:
    """Refine real frames, each alone and with the distortion that all have in common."""
    catalog, claims = Catalog.read(folder / "catalogs" / "bigsky_v11.parquet"), []
    wide = sorted((folder / "widefield").glob("*.fits.gz"))
    kinds = {
        "skycamz": ([_skycamz(path) for path in sorted((folder / "skycamz").glob("*.fits.gz"))], 0.25),
        "widefield": ([_widefield(path, place) for path, place in zip(wide, POINTINGS, strict=True)], 0.35),
    }
    print(
        "\nframe             stars  rms [px]  rms [arcsec]  held out [px]  completeness  CPU ms  parameters"
    )
    for kind, (frames, target) in kinds.items():
        found, seconds = [], []
        for frame in frames:
            stars = catalog.near(frame.start, frame.shape, EPOCHS[kind])
            refine(frame.start, *stars, frame.sources, frame.shape)
            begun = time.process_time()
            found.append(refine(frame.start, *stars, frame.sources, frame.shape))
            seconds.append(time.process_time() - begun)
            _tell(frame.name, found[-1], seconds[-1])
        held, common = [one.held_out_px for one in found], []
        for number, (frame, one) in enumerate(zip(frames, found, strict=True)):
            others = [other for other in found if other is not one]
            distortion, _ = learn_distortion(
                [other.lens for other in others], [other.pairs for other in others], frame.shape
            )
            stars = catalog.near(one.lens, frame.shape, EPOCHS[kind])
            known, applied = distortion.expected(frame.shape), distortion.applied(frames[number].start)
            begun = time.process_time()
            again = refine(applied, *stars, frame.sources, frame.shape, 20.0, known, ["stretch"])
            _tell(frame.name + " common", again, time.process_time() - begun)
            common.append(again.held_out_px)
        claims += [
            Claim(f"largest rms, {kind} [px]", max(one.rms_px for one in found), None, target),
            Claim(f"CPU time of a refinement, {kind} [ms]", 1e3 * float(np.median(seconds)), None, 100.0),
            Claim(
                f"median held-out distance, distortion of the other frames, beside its own, {kind} [px]",
                float(np.median(common)), float(np.median(held)), 1.05 * float(np.median(held)),
            ),
        ]  # fmt: skip
    return claims


def _tell(name: str, found: Refinement, seconds: float) -> None:
    print(
        f"{name:25s} {len(found.stars):5d} {found.rms_px:7.3f} {found.rms_arcsec:9.2f} {found.held_out_px:9.3f}"
        f" {found.completeness:9.2f} {1e3 * seconds:8.0f} {len(found.fit.freed):6d}"
    )


if __name__ == "__main__":
    main()
