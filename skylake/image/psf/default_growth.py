"""Aperture corrections of frames with few stars, from the point spread function of their night."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from skylake.image.photometry.growth_curves import ApertureCorrections
from skylake.image.photometry.growth_field import FieldPlace, FieldTerms
from skylake.image.psf.circle_tables import Circles
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.psf_model import FramePsf, PsfModel, Shape
from skylake.image.psf.psf_stars import psf_of_frame

Floats = npt.NDArray[np.float64]
#: Gives the aperture corrections of a frame, those of its night where its own stars are too few.
UsualCorrections = Callable[[Extracted], ApertureCorrections]

#: Places along each axis of the image at which apertures are filled, and the order of the polynomials through them.
_PLACES, _ORDER = 7, 2
#: By so much the light outside of an aperture differs from frame to frame of one width, as a share of it.
_FORM_ERROR = 0.03
#: No width is known better.
_LEAST_WIDTH_ERROR = 0.005


def corrections_of(extracted: Extracted, model: PsfModel | None) -> ApertureCorrections:
    """Return the aperture corrections of a frame, those of its night where its own stars are too few.

    Parameters
    ----------
    extracted : Extracted
        With the corrections from its stars, or with assumed ones.
    model : PsfModel or None
        The form of the point spread function of its night, if it is known.

    Returns
    -------
    ApertureCorrections
        What was assumed is still marked as such. Its error is that of the width of the frame, as its stars give it,
        and of a form that differs from frame to frame.
    """
    corrections, (height, width) = extracted.corrections, extracted.signal.shape
    if model is None or not corrections.assumed or model.size != (height, width):
        return corrections
    apertures, psf = extracted.camera.apertures, psf_of_frame(model, extracted)
    radii = (*apertures.radii_px, round(apertures.kron_factor * psf.fwhm_px, 1))
    names = (*apertures.circles, "kron")
    place = _grid((height, width))
    design = place.design(_ORDER if model.quality.field_order else 0)
    error = max(psf.width_err, _LEAST_WIDTH_ERROR)
    solve = np.linalg.pinv(design)
    held, narrow, wide = (
        np.asarray(solve @ _held(_widened(psf, change), place, radii), float)
        for change in (1.0, 1.0 - error, 1.0 + error)
    )
    if not (np.stack([held[0], narrow[0], wide[0]]) > 0.0).all():
        return corrections
    factor, factor_err = dict(corrections.factor), dict(corrections.error)
    for number, name in enumerate(names):
        factor[name] = 1.0 / float(held[0, number])
        by_width = 0.5 * abs(1.0 / float(wide[0, number]) - 1.0 / float(narrow[0, number]))
        factor_err[name] = float(np.hypot(by_width, _FORM_ERROR * abs(factor[name] - 1.0)))
    terms = None
    if design.shape[1] > 1:
        whole = np.eye(design.shape[1])[0]
        terms = FieldTerms(place, _ORDER, {name: (whole, held[:, k]) for k, name in enumerate(names)})
    return replace(corrections, factor=factor, error=factor_err, terms=terms)


def _grid(shape: tuple[int, int]) -> FieldPlace:
    height, width = shape
    y, x = np.meshgrid(np.linspace(0, height - 1, _PLACES), np.linspace(0, width - 1, _PLACES), indexing="ij")
    return FieldPlace.of(x.ravel(), y.ravel(), shape)


def _widened(psf: FramePsf, change: float) -> FramePsf:
    shape = psf.shape
    return replace(psf, shape=Shape(shape.width * change, shape.plus, shape.cross))


def _held(psf: FramePsf, place: FieldPlace, radii: tuple[float, ...]) -> Floats:
    """Return the shares of stars at places that circles hold, shape (places, radii)."""
    height, width = psf.model.size
    coefficients = psf.coefficients(
        0.5 * ((place.u + 1.0) * width - 1.0), 0.5 * ((place.v + 1.0) * height - 1.0)
    )
    circles = Circles.of(radii, 0)
    light = circles.light(psf)[np.arange(len(radii)), circles.halves]
    return np.asarray(coefficients @ light.T, float)
