from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits

from skylake.cameras import Profile
from skylake.core.camera import Apertures, Camera, Extraction, FilterBand, HeaderDialect, Site, TimeCards
from skylake.core.flags import PixelFlag
from skylake.core.frame import FileContent, Image
from skylake.image.detection.background import Background, estimate_background, refine_background
from skylake.image.detection.detect_sources import Detections, detect_sources
from skylake.image.photometry.measure_sources import Measurements, measure_sources
from skylake.image.psf.psf_kernels import draw_stamps
from skylake.image.psf.psf_model import FramePsf, PsfModel, Shape
from skylake.simulate import Moffat, render

Floats = npt.NDArray[np.float64]

GAIN = 2.0
READ_NOISE_E = 6.0
SKY_ADU = 300.0
EXPOSURE_S = 20.0


@dataclass(frozen=True, slots=True)
class Field:
    """Stars on noise and what is true of them: positions, flux in ADU, the level and noise of the sky."""

    pixels: npt.NDArray[np.float32]
    x: Floats
    y: Floats
    flux: Floats
    psf: Moffat
    sky: npt.NDArray[np.float32]

    @property
    def sky_noise(self) -> float:
        """Noise of a pixel without stars, ADU."""
        return float(np.sqrt(np.median(self.sky) / GAIN + (READ_NOISE_E / GAIN) ** 2))

    def held(self, radius: float) -> Floats:
        """Share of each star's flux that an aperture holds.

        Pixels widen the star twice, once when it is exposed and once when the aperture cuts them.
        """
        alpha, beta = self.psf.alpha_px, self.psf.beta
        u = (radius / alpha) ** 2
        slope = -2.0 * beta * radius / alpha**2 * self.psf.peak * (1.0 + u) ** (-beta - 1.0)
        share = 1.0 - (1.0 + u) ** (1.0 - beta) + 2.0 * np.pi * radius * slope / 12.0
        return np.broadcast_to(share, self.x.shape)

    def nearest(self, x: Floats, y: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
        """Return which measured source is nearest to each star, and how far it is."""
        from scipy.spatial import cKDTree

        distance, index = cKDTree(np.column_stack([x, y])).query(np.column_stack([self.x, self.y]))
        return index, distance


@dataclass(frozen=True, slots=True)
class Measured:
    """A field on its way through the rooms of the reduction."""

    field: Field
    image: Image
    background: Background
    signal: npt.NDArray[np.float32]
    detections: Detections
    sources: Measurements


@pytest.fixture(scope="session")
def camera() -> Camera:
    """A camera with a site and one filter, whose headers show DATE-OBS and EXPTIME."""
    return Camera(
        name="lab",
        site=Site("a hill", -70.4, -24.6, 2600.0),
        header=HeaderDialect(time=(TimeCards(("DATE-OBS",)),), kind=("OBSTYPE",)),
        filters={"V": FilterBand("V", "B-V", 0.7)},
        default_filter="V",
        extraction=Extraction(background_mesh_px=64),
        apertures=Apertures((3.0, 5.0, 8.0), None, total_radius_px=14.0),
    )


@pytest.fixture(scope="session")
def profile(camera: Camera) -> Profile:
    return Profile(camera, (), "lab.toml")


@pytest.fixture(scope="session")
def make_field() -> Callable[..., Field]:
    """A function that makes a field from positions, fluxes and a profile of stars."""

    def make(
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        flux: npt.ArrayLike,
        shape: tuple[int, int] = (512, 512),
        psf: Moffat | None = None,
        sky: npt.ArrayLike = SKY_ADU,
        seed: int = 1,
    ) -> Field:
        psf = psf or Moffat(3.0)
        random = np.random.default_rng(seed)
        x, y, flux = (np.atleast_1d(np.asarray(values, float)) for values in (x, y, flux))
        level = np.broadcast_to(np.asarray(sky, np.float32), shape)
        light = render(shape, x, y, flux, psf) + level
        electrons = random.poisson(light * GAIN) + random.normal(0.0, READ_NOISE_E, shape)
        return Field((electrons / GAIN).astype(np.float32), x, y, flux, psf, level)

    return make


@pytest.fixture(scope="session")
def grid_field(make_field: Callable[..., Field]) -> Callable[..., Field]:
    """A function that makes a field of stars far from one another, of fluxes over a range."""

    def make(
        seed: int = 1,
        flux: tuple[float, float] = (3e3, 3e5),
        step: int = 40,
        shape: tuple[int, int] = (512, 512),
        **options: Any,
    ) -> Field:
        random = np.random.default_rng(1000 + seed)
        y, x = np.mgrid[30 : shape[0] - 30 : step, 30 : shape[1] - 30 : step].reshape(2, -1)
        x, y = (values + random.uniform(-3.0, 3.0, x.size) for values in (x, y))
        fluxes = np.exp(random.uniform(*np.log(flux), x.size))
        return make_field(x, y, fluxes, shape, seed=seed, **options)

    return make


@pytest.fixture(scope="session")
def as_image() -> Callable[..., Image]:
    """A function that takes pixels for an image, of which some may be masked or saturated."""

    def image(pixels: npt.ArrayLike, saturation: float = np.inf, linearity: float = np.inf) -> Image:
        pixels = np.ascontiguousarray(pixels, np.float32)
        masked = ~np.isfinite(pixels)
        filled = np.where(masked, np.float32(np.nanmedian(pixels)), pixels)
        mask = masked * np.uint8(PixelFlag.INVALID) | (filled >= saturation) * np.uint8(PixelFlag.SATURATED)
        return Image(filled, mask | (filled >= linearity) * np.uint8(PixelFlag.NEAR_SATURATED), (0, 0))

    return image


@pytest.fixture(scope="session")
def measure(camera: Camera, as_image: Callable[..., Image]) -> Callable[..., Measured]:
    """A function that detects and measures the stars of a field; options replace apertures or extraction."""

    def go(
        field: Field,
        image: Image | None = None,
        apertures: dict[str, Any] | None = None,
        extraction: dict[str, Any] | None = None,
    ) -> Measured:
        here = replace(
            camera,
            apertures=replace(camera.apertures, **(apertures or {})),
            extraction=replace(camera.extraction, **(extraction or {})),
        )
        image = image or as_image(field.pixels)
        background = estimate_background(image, here.extraction)
        signal = image.pixels - background.level
        found = detect_sources(signal, background.rms, image.mask, here.extraction, GAIN)
        background = refine_background(image, background, found, here.extraction)
        signal = image.pixels - background.level
        sources = measure_sources(image, background, signal, found, here, GAIN, EXPOSURE_S)
        return Measured(field, image, background, signal, found, sources)

    return go


@pytest.fixture(scope="session")
def with_variance() -> Callable[..., Image]:
    """A function that gives an image of plain fields the plane of variances of its photons and read noise, ADU^2."""

    def give(image: Image) -> Image:
        read = np.float32((READ_NOISE_E / GAIN) ** 2)
        variance = np.maximum(image.pixels, 0.0) / np.float32(GAIN) + read
        return replace(image, variance=variance, read_variance=float(read))

    return give


@pytest.fixture(scope="session")
def lengthened_psf() -> Callable[..., FramePsf]:
    """A function that makes a point spread function of stars that are a little longer than wide."""

    def make(shape: tuple[int, int], fwhm: float = 2.6, radius: float = 12.0) -> FramePsf:
        model = PsfModel.moffat(fwhm, shape)
        return FramePsf(model, Shape(model.shape.width, 0.06, -0.04), radius)

    return make


@pytest.fixture(scope="session")
def drawn_light() -> Callable[..., Floats]:
    """A function that draws stars as the model has them, on a sky without light or noise."""

    def draw(psf: FramePsf, shape: tuple[int, int], x: Floats, y: Floats, flux: Floats) -> Floats:
        half, pad = 20, 24
        canvas = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad))
        columns, rows = np.rint(x).astype(int), np.rint(y).astype(int)
        dx, dy = (x - columns).astype(np.float32), (y - rows).astype(np.float32)
        side = 2 * half + 1
        stamps = draw_stamps(dx, dy, psf.coefficients(x, y), psf.inverse, half)[:, : side * side]
        for stamp, column, row, total in zip(stamps, columns, rows, flux, strict=True):
            canvas[
                row + pad - half : row + pad + half + 1, column + pad - half : column + pad + half + 1
            ] += total * stamp.reshape(side, side)
        return canvas[pad:-pad, pad:-pad]

    return draw


@pytest.fixture(scope="session", params=["skylake", "sep"])
def fields(
    grid_field: Callable[..., Field], measure: Callable[..., Measured], request: pytest.FixtureRequest
) -> list[Measured]:
    """Three fields of lonely stars, some 430 of them, measured with each engine."""
    return [measure(grid_field(seed), extraction={"engine": request.param}) for seed in (1, 2, 3)]


WCS_CARDS = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 120.0,
    "CRVAL2": -25.0,
    "CRPIX1": 128.5,
    "CRPIX2": 128.5,
    "CD1_1": -8.0 / 3600.0,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 8.0 / 3600.0,
}
CARDS: dict[str, Any] = {
    "DATE-OBS": "2024-04-08T03:10:20.0",
    "EXPTIME": EXPOSURE_S,
    "GAIN": GAIN,
    "RDNOISE": READ_NOISE_E,
    "FILTER": "V",
    "OBSTYPE": "EXPOSE",
    **WCS_CARDS,
}


@pytest.fixture(scope="session")
def fits_bytes() -> Callable[..., bytes]:
    """A function that makes a FITS file of one image; cards given as None are left out."""

    def make(pixels: npt.NDArray[Any], extension: bool = False, **cards: Any) -> bytes:
        header = fits.Header()
        for name, value in (
            CARDS | {name.replace("_OBS", "-OBS"): value for name, value in cards.items()}
        ).items():
            if value is not None:
                header[name] = value
        units = (
            [fits.PrimaryHDU(), fits.ImageHDU(pixels, header)]
            if extension
            else [fits.PrimaryHDU(pixels, header)]
        )
        buffer = io.BytesIO()
        fits.HDUList(units).writeto(buffer)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def content_of() -> Callable[..., FileContent]:
    """A function that takes bytes for the content of a file."""

    def make(data: bytes, path: str = "/nowhere/frame.fits") -> FileContent:
        return FileContent(path, len(data), 0, data)

    return make


@pytest.fixture(scope="session")
def night_sky(grid_field: Callable[..., Field]) -> Field:
    """A small field that passes as a frame."""
    return grid_field(7, shape=(256, 256), step=24, flux=(5e3, 2e5))


@pytest.fixture()
def written(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes bytes to a file."""

    def write(data: bytes, name: str = "frame.fits") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write
