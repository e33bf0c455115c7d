"""The programs that are compared: each takes a frame and gives a catalog. Settings are those of their manuals."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from drawn import GAIN, READ_NOISE_E, SATURATION, Drawn

from skylake.cameras import Profile
from skylake.core.camera import (
    Apertures,
    Camera,
    Detector,
    Extraction,
    FilterBand,
    HeaderDialect,
    Optics,
    TimeCards,
)
from skylake.core.flags import UNCLEAN
from skylake.core.frame import FileContent
from skylake.core.frame_step import Step
from skylake.image.photometry.kron_ellipses import kron_ellipses, plain_snr
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import measure_targets
from skylake.image.psf.psf_model import PsfModel, PsfSums, solve_psf
from skylake.image.psf.psf_stars import psf_of_frame, sums_of_frame
from skylake.image.psf.targets_on_frame import TargetStars
from skylake.image.reduction.frame_record import ReduceParams
from skylake.image.reduction.reduce_frame import reduce_frame

RADII = (3.0, 5.0, 8.0)
MESH_PX, TOTAL_PX = 64, 14.0
_CIRCLES = tuple(f"aper{number + 1}" for number in range(len(RADII)))
_SCALE_DEG = 8.0 / 3600.0


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a program found.

    Attributes
    ----------
    x, y, x_err : ndarray, shape (n,)
        Centroids, 0-based pixels, and the error of x.
    clean : ndarray of bool
        Sources without any flag of the program.
    flux : dict
        Name of an aperture to fluxes and errors, ADU.
    centre : tuple of ndarray
        Centres of the circular apertures.
    ellipse : ndarray, shape (5, n)
        The Kron apertures: x, y, half axes and angle in radians.
    """

    x: np.ndarray
    y: np.ndarray
    x_err: np.ndarray
    clean: np.ndarray
    flux: dict[str, tuple[np.ndarray, np.ndarray]]
    centre: tuple[np.ndarray, np.ndarray]
    ellipse: np.ndarray


@dataclass(slots=True)
class Skylake:
    """The whole way of a frame, from the bytes of a file to sources; detection by one of the engines."""

    engine: str
    sums: list[PsfSums] = field(default_factory=list)
    _last: tuple[Drawn, Extracted] | None = None

    @property
    def camera(self) -> Camera:
        """A camera of its own."""
        return Camera(
            "lab",
            header=HeaderDialect(time=(TimeCards(("DATE-OBS",)),)),
            detector=Detector(gain_e_per_adu=GAIN, read_noise_e=READ_NOISE_E, saturation_adu=SATURATION),
            optics=Optics(_SCALE_DEG * 3600.0),
            filters={"V": FilterBand("V")},
            default_filter="V",
            extraction=Extraction(engine=self.engine, background_mesh_px=MESH_PX),
            apertures=Apertures(RADII, total_radius_px=TOTAL_PX),
        )

    def extract(self, frame: Drawn) -> Extracted:
        """Bring a frame to where its sources are measured; the last one is kept."""
        if self._last is not None and self._last[0] is frame:
            return self._last[1]
        file = io.BytesIO()
        fits.PrimaryHDU(frame.pixels.astype(np.uint16), _header(frame)).writeto(file)
        content = FileContent("/frame.fits", file.tell(), 0, file.getvalue())
        reduced = reduce_frame(content, Profile(self.camera, (), "lab.toml"), ReduceParams(finish=Step))
        if not isinstance(reduced.finished, Extracted):
            raise SystemExit(f"a frame of the trial was not reduced: {reduced.row['message']}")
        self._last = frame, reduced.finished
        return reduced.finished

    def learn(self, frame: Drawn) -> None:
        """Take the stars of a frame for the point spread function."""
        sums = sums_of_frame(self.extract(frame))
        if sums is not None:
            self.sums.append(sums)

    @property
    def model(self) -> PsfModel:
        """The point spread function of the frames so far."""
        total = self.sums[0]
        for one in self.sums[1:]:
            total = total + one
        return solve_psf(total)

    def run(self, frame: Drawn) -> Catalog:
        """Detect and measure."""
        extracted = self.extract(frame)
        found, apertures = extracted.measured, extracted.camera.apertures
        a, b = np.maximum(found.a, 0.3), np.maximum(found.b, 0.3)
        snr, clean = (
            plain_snr(found.flux["aper1"], RADII[0], found.sky_rms, GAIN),
            (found.flags & int(UNCLEAN)) == 0,
        )
        a, b = kron_ellipses(a, b, found.kron_radius, snr, clean, apertures)
        ellipse = np.array([found.x, found.y, a, b, np.radians(found.theta)])
        flux = {name: (found.flux[name], found.flux_err[name]) for name in (*_CIRCLES, "kron")}
        return Catalog(found.x, found.y, found.x_err, found.flags == 0, flux, (found.x, found.y), ellipse)

    def force(self, frame: Drawn) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Measure all stars where they are, found or not."""
        extracted, n = self.extract(frame), len(frame.x)
        nothing = np.zeros(n)
        targets = TargetStars(np.arange(n), nothing, nothing, nothing, nothing, 1)
        found = measure_targets(extracted, targets, frame.x, frame.y, psf_of_frame(self.model, extracted))
        return {name: (found.flux[name], found.flux_err[name]) for name in found.flux}


def _header(frame: Drawn) -> fits.Header:
    height, width = frame.pixels.shape
    cards = {
        "DATE-OBS": "2024-04-08T03:00:00", "EXPTIME": 1.0, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
        "CRVAL1": 10.0, "CRVAL2": -25.0, "CRPIX1": 0.5 * width, "CRPIX2": 0.5 * height,
        "CDELT1": -_SCALE_DEG, "CDELT2": _SCALE_DEG,
    }  # fmt: skip
    return fits.Header(list(cards.items()))


_COLUMNS = (
    "X_IMAGE", "Y_IMAGE", "XWIN_IMAGE", "YWIN_IMAGE", "ERRX2WIN_IMAGE", "FLAGS", "A_IMAGE", "B_IMAGE", "THETA_IMAGE",
    "KRON_RADIUS", "FLUX_AUTO", "FLUXERR_AUTO", "FLUX_APER(3)", "FLUXERR_APER(3)",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceExtractor:
    """Source Extractor with the filter and settings that come with it, at one threshold."""

    program: str
    folder: Path
    sigma: float

    @classmethod
    def installed(cls, folder: Path, sigma: float = 1.5) -> SourceExtractor | None:
        """Return the program, or None where there is none."""
        program = shutil.which("source-extractor") or shutil.which("sex")
        if program is None:
            print("Source Extractor is not installed: it is left out")
            return None
        (folder / "columns").write_text("\n".join(_COLUMNS) + "\n")
        (folder / "kernel").write_text("CONV NORM\n1 2 1\n2 4 2\n1 2 1\n")
        diameters = ",".join(f"{2 * radius:g}" for radius in RADII)
        (folder / "settings").write_text(
            f"PARAMETERS_NAME {folder}/columns\nFILTER_NAME {folder}/kernel\nCATALOG_NAME {folder}/catalog\n"
            f"VERBOSE_TYPE QUIET\nDETECT_MINAREA 5\nMEMORY_PIXSTACK 3000000\nPHOT_APERTURES {diameters}\n"
            f"SATUR_LEVEL {SATURATION}\nGAIN {GAIN}\nBACK_SIZE {MESH_PX}\nDETECT_THRESH {sigma}\n"
        )
        return cls(program, folder, sigma)

    def run(self, frame: Drawn) -> Catalog:
        """Run the program on a file."""
        path = self.folder / "frame.fits"
        fits.PrimaryHDU(frame.pixels.astype(np.uint16)).writeto(path, overwrite=True)
        command = [self.program, str(path), "-c", str(self.folder / "settings")]
        subprocess.run(command, check=True, capture_output=True)
        rows = np.loadtxt(self.folder / "catalog", comments="#", ndmin=2).T
        x, y, x_win, y_win, variance, flags, a, b, theta, kron, auto, auto_err = rows[:12]
        flux = {name: (rows[12 + k], rows[15 + k]) for k, name in enumerate(_CIRCLES)}
        flux["kron"] = auto, auto_err
        ellipse = np.array([x - 1.0, y - 1.0, a * kron, b * kron, np.radians(theta)])
        # Its apertures lie about the isophotal centroids.
        centre = x - 1.0, y - 1.0
        return Catalog(x_win - 1.0, y_win - 1.0, np.sqrt(variance), flags == 0, flux, centre, ellipse)


@dataclass(frozen=True, slots=True)
class Photutils:
    """photutils as its guide to segmentation shows it."""

    sigma: float = 1.5

    def run(self, frame: Drawn) -> Catalog:
        """Detect and measure."""
        from photutils.segmentation import SourceCatalog, SourceFinder
        from photutils.utils import calc_total_error
        from scipy.ndimage import convolve

        signal, rms = self._signal(frame)
        kernel = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
        smooth = convolve(signal, (kernel / kernel.sum()).astype(np.float32))
        segments = SourceFinder(5, progress_bar=False)(smooth, self.sigma * rms)
        error = calc_total_error(signal, rms, GAIN)
        found = SourceCatalog(signal, segments, convolved_data=smooth, error=error)
        flux = {name: found.circular_photometry(r) for name, r in zip(_CIRCLES, RADII, strict=True)}
        flux["kron"] = found.kron_flux, found.kron_flux_err
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x_win, y_win = np.transpose(found.centroid_win)
        x, y = np.transpose(found.centroid)
        ellipse = np.array([_ellipse(one) for one in found.kron_aperture]).T
        nothing = np.full(len(x), np.nan)
        return Catalog(x_win, y_win, nothing, np.ones(len(x), bool), flux, (x, y), ellipse)

    def force(self, frame: Drawn) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Measure all stars where they are."""
        from photutils.aperture import CircularAperture, aperture_photometry
        from photutils.utils import calc_total_error

        signal, rms = self._signal(frame)
        circles = [CircularAperture(np.transpose([frame.x, frame.y]), radius) for radius in RADII]
        table = aperture_photometry(signal, circles, error=calc_total_error(signal, rms, GAIN))
        return {
            name: (np.asarray(table[f"aperture_sum_{k}"]), np.asarray(table[f"aperture_sum_err_{k}"]))
            for k, name in enumerate(_CIRCLES)
        }

    def _signal(self, frame: Drawn) -> tuple[np.ndarray, np.ndarray]:
        from photutils.background import Background2D

        sky = Background2D(frame.pixels, MESH_PX, filter_size=3)
        return frame.pixels - sky.background, sky.background_rms


def _ellipse(aperture: Any) -> tuple[float, ...]:
    """Return x, y, half axes and angle of an aperture; there is none where a source has no shape."""
    if aperture is None:
        return (0.0, 0.0, 1.0, 1.0, 0.0)
    angle = aperture.theta
    return (
        *aperture.positions,
        aperture.a,
        aperture.b,
        float(angle.to_value("rad") if hasattr(angle, "unit") else angle),
    )
