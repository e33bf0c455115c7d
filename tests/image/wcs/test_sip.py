import math
import shutil
import subprocess

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.core.sphere import ra_dec, unit_vectors
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.projections import PROJECTIONS
from skylake.image.wcs.sip import to_sip

SHAPE = (768, 1024)


def lens_of_field(width_deg, projection="rectilinear", ra=40.0, dec=30.0, mirrored=False, roll=0.4):
    """A lens with distortion of two per cent at the corner."""
    kind = PROJECTIONS[projection]
    focal = 0.5 * SHAPE[1] / float(kind.radius(math.radians(0.5 * width_deg)))
    rho = 0.5 * math.hypot(*SHAPE) / focal
    axis = unit_vectors(ra, dec)
    up = np.cross(axis, [math.cos(roll), math.sin(roll), 0.3])
    bare = Lens.aimed(axis, up, focal, (530.3, 371.8), projection, mirrored)
    values = bare.parameters()
    values[6:] = 0.03 / rho**2, -0.01 / rho**4, 0.0, 4e-4 / rho, -3e-4 / rho, 2e-4, -1e-4
    return Lens.from_parameters(values, projection, mirrored)


def places():
    random = np.random.default_rng(1)
    x, y = random.uniform(-0.5, SHAPE[1] - 0.5, 500), random.uniform(-0.5, SHAPE[0] - 0.5, 500)
    corners = np.array([[-0.5, -0.5], [1023.5, -0.5], [-0.5, 767.5], [1023.5, 767.5]]).T
    return np.append(x, corners[0]), np.append(y, corners[1])


def worst(lens, header):
    """How far from its direction astropy puts a pixel, and how far from the pixel that direction, pixels."""
    x, y = places()
    wcs = WCS(header)
    vectors = unit_vectors(*wcs.all_pix2world(x, y, 0))
    there = np.hypot(*(np.array(lens.to_pixels(vectors)) - [x, y])).max()
    back = wcs.all_world2pix(*ra_dec(lens.to_vectors(x, y)), 0, tolerance=1e-6)
    return there, np.hypot(back[0] - x, back[1] - y).max()


@pytest.mark.parametrize(
    ("width", "projection", "order"),
    [(1, "rectilinear", 7), (21, "rectilinear", 7), (75, "rectilinear", 7), (100, "equisolid", 8)],
)
def test_astropy_reads_the_geometry_of_the_lens(width, projection, order):
    lens = lens_of_field(width, projection)
    found = to_sip(lens, SHAPE)
    assert found.order <= order
    assert max(found.residual_px, found.inverse_px) <= 0.01
    assert max(worst(lens, found.header)) <= 0.011


@settings(max_examples=6, deadline=None)
@given(st.floats(0.5, 60.0), st.floats(0.0, 360.0), st.floats(-1.0, 1.0), st.floats(-3.0, 3.0), st.booleans())
def test_a_header_holds_anywhere_on_the_sky(width, ra, sine, roll, mirrored):
    lens = lens_of_field(width, "rectilinear", ra, math.degrees(math.asin(sine)), mirrored, roll)
    assert max(worst(lens, to_sip(lens, SHAPE).header)) <= 0.011


@pytest.mark.parametrize("dec", [-90.0, 90.0, 89.99])
def test_a_header_holds_at_the_poles(dec):
    lens = lens_of_field(20.0, dec=dec)
    assert max(worst(lens, to_sip(lens, SHAPE).header)) <= 0.011


def test_a_lens_without_distortion_needs_no_polynomials():
    lens = Lens.aimed(unit_vectors(10.0, 20.0), unit_vectors(10.0, 90.0), 3000.0, (511.5, 383.5))
    found = to_sip(lens, SHAPE)
    assert found.order == 1
    assert found.header["CTYPE1"] == "RA---TAN"
    assert (found.header["CRPIX1"], found.header["CRPIX2"]) == (512.5, 384.5)
    assert max(worst(lens, found.header)) < 1e-6


def test_the_inverse_polynomials_lead_back_at_once():
    lens = lens_of_field(40.0)
    found = to_sip(lens, SHAPE)
    x, y = places()
    wcs = WCS(found.header)
    linear = wcs.wcs_world2pix(*ra_dec(lens.to_vectors(x, y)), 1)
    reference = wcs.wcs.crpix
    u, v = linear[0] - reference[0], linear[1] - reference[1]
    terms = {
        name: value
        for name, value in found.header.items()
        if name[:3] in ("AP_", "BP_") and "ORDER" not in name
    }
    back = [
        sum(value * u ** int(name[3]) * v ** int(name[5]) for name, value in terms.items() if name[0] == part)
        for part in "AB"
    ]
    assert np.hypot(linear[0] + back[0] - 1.0 - x, linear[1] + back[1] - 1.0 - y).max() <= 0.011


def test_other_programs_read_the_same_pixel_convention(tmp_path):
    program = shutil.which("wcs-xy2rd")
    if program is None:
        pytest.skip("wcs-xy2rd of astrometry.net is not installed")
    lens = lens_of_field(21.0)
    header = to_sip(lens, SHAPE).header
    header["IMAGEW"], header["IMAGEH"] = SHAPE[1], SHAPE[0]
    fits.PrimaryHDU(header=header).writeto(tmp_path / "lens.wcs")
    for x, y in ((0.0, 0.0), (1023.0, 767.0), (100.25, 700.5)):
        said = subprocess.run(
            [program, "-w", tmp_path / "lens.wcs", "-x", str(x + 1.0), "-y", str(y + 1.0)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        ra, dec = (float(number) for number in said[said.rindex("(") + 1 : said.rindex(")")].split(","))
        there = lens.to_pixels(unit_vectors(ra, dec))
        assert math.hypot(there[0] - x, there[1] - y) <= 0.02


@pytest.mark.parametrize("mirrored", [False, True])
def test_source_extractor_reads_the_same_pixel_convention(tmp_path, mirrored):
    program = shutil.which("source-extractor") or shutil.which("sex")
    if program is None:
        pytest.skip("Source Extractor is not installed")
    # It reads no SIP, so the lens has no distortion; what is half a pixel off would be so by half a pixel.
    lens = Lens.aimed(
        unit_vectors(40.0, 30.0), [0.4, 0.9, 0.3], 3000.0, (140.3, 81.8), "rectilinear", mirrored
    )
    random = np.random.default_rng(5)
    column, row = np.meshgrid(np.arange(20.0, 281.0, 40.0), np.arange(20.0, 181.0, 40.0))
    x, y = ((places + random.uniform(-4.0, 4.0, places.shape)).ravel() for places in (column, row))
    across, along = np.arange(300.0), np.arange(200.0)
    light = sum(
        np.exp(-((along - b) ** 2)[:, None] / 8.0) * np.exp(-((across - a) ** 2) / 8.0)
        for a, b in zip(x, y, strict=True)
    )
    pixels = (5000.0 * light + random.normal(0.0, 2.0, (200, 300))).astype(np.float32)
    header = to_sip(lens, pixels.shape).header
    assert header["CTYPE1"] == "RA---TAN"
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / "stars.fits")
    (tmp_path / "wanted").write_text("ALPHAWIN_J2000\nDELTAWIN_J2000\n")
    (tmp_path / "settings").write_text("")
    subprocess.run(
        [program, "stars.fits", "-c", "settings", "-PARAMETERS_NAME", "wanted", "-CATALOG_NAME", "found", "-FILTER",
         "N", "-CATALOG_TYPE", "ASCII", "-DETECT_THRESH", "10"],
        cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    ra, dec = np.loadtxt(tmp_path / "found", unpack=True)
    found_x, found_y = lens.to_pixels(unit_vectors(ra, dec))
    away = np.hypot(found_x[:, None] - x, found_y[:, None] - y)
    assert len(ra) == len(x) and sorted(away.argmin(axis=1)) == list(range(len(x)))
    nearest = away.argmin(axis=1)
    assert away.min(axis=1).max() < 0.05
    assert abs(np.mean(found_x - x[nearest])) < 0.005 and abs(np.mean(found_y - y[nearest])) < 0.005
