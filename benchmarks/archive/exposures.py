"""What the frames of one field have in common with their detections: projection, light and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archive.night_plan import Fate, NightPlan
from archive.scenario import ArchiveScenario
from archive.season import season
from skylake.core.camera import Apertures, Camera
from skylake.core.ephemeris import barycentric_jd
from skylake.core.sphere import tangent_basis, unit_vectors
from skylake.simulate.optics import SimulatedPointing
from skylake.simulate.stamps import Moffat

_Array = npt.NDArray[np.float64]
_Float32 = npt.NDArray[np.float32]

_NEWTON_STEPS = 3
#: Semi-major axis of the Kron aperture, in units of the rms width of a star.
_KRON_REACH = 3.6
_FWHM_PER_RMS = 2.3548


@dataclass(frozen=True, slots=True)
class Projection:
    """The gnomonic projections of frames, vectorised; see :class:`skylake.simulate.optics.SimulatedPointing`.

    Attributes
    ----------
    centre : ndarray, shape (frames, 3)
        Unit vectors to the centres of the images.
    along_x, along_y : ndarray, shape (frames, 3)
        What a pixel along x and y adds to the centre on the tangent plane.
    to_x, to_y : ndarray, shape (frames, 3)
        The dual vectors: their products with a direction, over its product with the centre, are pixels.
    middle_px : tuple of float
        X and y of the centre of the image.
    cubic : float
        Distortion, per square pixel.
    """

    centre: _Array
    along_x: _Array
    along_y: _Array
    to_x: _Array
    to_y: _Array
    middle_px: tuple[float, float]
    cubic: float

    @classmethod
    def of(cls, pointings: list[SimulatedPointing]) -> Projection:
        """Return the projections of frames of one camera."""
        ra, dec = np.array([(one.ra_deg, one.dec_deg) for one in pointings]).T
        east, north = tangent_basis(ra, dec)
        matrix = np.radians(np.stack([one.matrix for one in pointings]))
        inverse = np.linalg.inv(matrix)

        def combined(first: _Array, second: _Array) -> _Array:
            return first[:, None] * east + second[:, None] * north

        return cls(
            unit_vectors(ra, dec),
            combined(matrix[:, 0, 0], matrix[:, 1, 0]),
            combined(matrix[:, 0, 1], matrix[:, 1, 1]),
            combined(inverse[:, 0, 0], inverse[:, 0, 1]),
            combined(inverse[:, 1, 0], inverse[:, 1, 1]),
            pointings[0].centre_px,
            pointings[0].cubic,
        )

    def pixels(self, places: _Array) -> tuple[_Array, _Array]:
        """Return x and y of directions on all frames, shape (places, frames); NaN far from the centre."""
        depth = places @ self.centre.T
        depth = np.where(depth > 0.1, depth, np.nan)
        u, v = places @ self.to_x.T / depth, places @ self.to_y.T / depth
        if self.cubic:
            factor = self._undistorted(u * u + v * v)
            u *= factor
            v *= factor
        return u + self.middle_px[0], v + self.middle_px[1]

    def _undistorted(self, squared: _Array) -> _Array:
        """Solve r (1 + k r^2) = R for r / R by Newton's method."""
        strength = self.cubic * squared
        ratio = 1.0 - strength
        for _ in range(_NEWTON_STEPS):
            square = strength * ratio * ratio
            ratio -= (ratio * (1.0 + square) - 1.0) / (1.0 + 3.0 * square)
        return ratio

    def directions(self, frame: npt.NDArray[np.intp], x: _Array, y: _Array) -> _Array:
        """Return unit vectors to pixels of frames, shape (n, 3)."""
        u, v = x - self.middle_px[0], y - self.middle_px[1]
        factor = 1.0 + self.cubic * (u * u + v * v)
        found = self.centre.take(frame, axis=0)
        found += (u * factor)[:, None] * self.along_x.take(frame, axis=0)
        found += (v * factor)[:, None] * self.along_y.take(frame, axis=0)
        found /= np.sqrt(np.einsum("ij,ij->i", found, found))[:, None]
        return found


@dataclass(frozen=True, slots=True)
class Exposures:
    """The frames of one field in one night; arrays of shape (frames,) unless told otherwise.

    Attributes
    ----------
    camera : Camera
    shape : tuple of int
        Height and width of the image.
    saturation_adu : float
    projection : Projection
    time_bjd : ndarray
        Middle of the exposure at the barycentre, TDB.
    electrons : ndarray of float32
        Electrons of a star of flux 1; see :class:`archive.field_stars.FieldStars`.
    adu_per_s : float
        ADU per second in an electron.
    variance : ndarray of float32
        Of the background per pixel, square electrons.
    sky_adu : ndarray of float32
        Background per pixel.
    noise_pixels, peak, alpha_px, fwhm_px, scintillation : ndarray of float32
        Of the point spread function: pixels whose noise counts, central pixel of a star of flux 1, scale
        radius and full width; and the relative noise of every star.
    beta : float
        Exponent of the point spread function.
    share : ndarray of float32, shape (4, frames)
        Part of a star's total flux that each aperture holds.
    area_px : ndarray of float32, shape (4, frames)
        Area of each aperture.
    field : ndarray of float32, shape (4,)
        Part by which the aperture correction of each flux is larger in the corners than at the centre.
    trailed : ndarray of bool
    """

    camera: Camera
    shape: tuple[int, int]
    saturation_adu: float
    projection: Projection
    time_bjd: _Array
    electrons: _Float32
    adu_per_s: float
    variance: _Float32
    sky_adu: _Float32
    noise_pixels: _Float32
    peak: _Float32
    alpha_px: _Float32
    beta: float
    fwhm_px: _Float32
    scintillation: _Float32
    share: _Float32
    area_px: _Float32
    field: _Float32
    trailed: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return self.electrons.size


def exposures(scenario: ArchiveScenario, plan: NightPlan, which: npt.NDArray[np.intp]) -> Exposures:
    """Return some frames of a night, all of one field."""
    here, camera, optics = season(scenario), plan.camera, scenario.optics
    place, detector = here.observatory, plan.camera.detector
    gain, time_s = detector.gain_e_per_adu, scenario.exposure_s
    pointings = [
        SimulatedPointing(ra, dec, turn, place.scale_arcsec, place.shape, optics.distortion, optics.mirrored)
        for ra, dec, turn in zip(
            *(values[which].tolist() for values in (plan.ra_deg, plan.dec_deg, plan.rotation_deg)),
            strict=True,
        )
    ]
    fwhm = plan.fwhm_px[which]
    moffat = Moffat(fwhm, beta=optics.beta)
    share, area = aperture_shares(camera.apertures, fwhm, optics.beta)
    middle = here.fields[int(plan.field[which[0]])]
    sky = plan.sky_adu_per_s[which] * time_s
    dark = scenario.detector.dark_e_per_s * time_s
    level = detector.saturation_adu
    return Exposures(
        camera=camera,
        shape=place.shape,
        saturation_adu=scenario.detector.saturation_adu if level is None else level,
        projection=Projection.of(pointings),
        time_bjd=barycentric_jd(plan.mjd_mid[which], middle.ra_deg, middle.dec_deg, camera.site),
        electrons=_single(10.0 ** (0.4 * plan.zeropoint[which]) * gain * time_s),
        adu_per_s=1.0 / (gain * time_s),
        variance=_single(sky * gain + dark + detector.read_noise_e**2),
        sky_adu=_single(sky + scenario.detector.pedestal_adu),
        noise_pixels=_single(moffat.noise_pixels),
        peak=_single(moffat.peak),
        alpha_px=_single(moffat.alpha_px),
        beta=optics.beta,
        fwhm_px=_single(fwhm),
        scintillation=_single(plan.scintillation[which]),
        share=_single(share),
        area_px=_single(area),
        field=_single(_field_terms(share, scenario.tables.field_fraction)),
        trailed=plan.fate[which] == Fate.TRAILED,
    )


def _field_terms(share: _Array, first: float) -> _Array:
    """Return by how much aperture corrections grow to the corners: in proportion to what an aperture leaves out."""
    outside = 1.0 - np.minimum(share.mean(axis=1), 1.0)
    return np.asarray(first * outside / max(float(outside[0]), 1e-3))


def _single(values: npt.ArrayLike) -> _Float32:
    return np.asarray(values, np.float32)


def aperture_shares(apertures: Apertures, fwhm_px: _Array, beta: float) -> tuple[_Array, _Array]:
    """Return the part of the total flux in each aperture, and its area, shape (fluxes, frames); NaN for none.

    A Moffat profile holds 1 - (1 + r^2 / alpha^2)^(1 - beta) of its light within r (Trujillo et al. 2001,
    MNRAS 328, 977); what is within `total_radius_px` counts as all of it.
    """
    radii = np.full((len(apertures.fluxes), fwhm_px.size), np.nan)
    for number, radius in enumerate(apertures.radii_px):
        radii[number] = radius
    radii[-1] = _KRON_REACH * fwhm_px / _FWHM_PER_RMS

    def within(radius: npt.ArrayLike) -> _Array:
        alpha = Moffat(fwhm_px, beta=beta).alpha_px
        return np.asarray(1.0 - (1.0 + (np.asarray(radius) / alpha) ** 2) ** (1.0 - beta))

    return within(radii) / within(apertures.total_radius_px), np.pi * radii**2


def half_light_px(fwhm_px: float, beta: float) -> float:
    """Return the radius that holds half of the light of a Moffat profile."""
    return float(Moffat(fwhm_px, beta=beta).alpha_px * np.sqrt(2.0 ** (1.0 / (beta - 1.0)) - 1.0))
