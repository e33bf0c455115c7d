"""Quantities that come with each measurement and that magnitudes may depend on: the terms of a decorrelation.

The twenty terms of external parameter decorrelation as HATNet and HATSouth use it (Bakos et al. 2010, ApJ 710, 1724,
appendix): the width S of the star image and the parameters D and K of its elongation with all their squares and
products, sines and cosines of the position within the pixel, the background and its error. To these come position,
airmass, hour angle and the temperature of the camera where they are known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Columns that vary by less than this have nothing to explain.
_LEAST_SPREAD = 1e-9


@dataclass(frozen=True, slots=True)
class ExternalParameters:
    """What is known of each measurement; arrays of shape (n_frames,) or (n_stars, n_frames), None if not known.

    NaN counts as the mean of the star: it explains nothing there.

    Attributes
    ----------
    x_px, y_px : ndarray
        Position; its fraction is the place within the pixel.
    fwhm_px : ndarray
        Width of star images, S.
    elongation_d, elongation_k : ndarray
        D and K: second moments along the axes and along the diagonals.
    background, background_err : ndarray
        Of the sky under the star.
    airmass, hour_angle, temperature : ndarray
        Hour angle in any unit, temperature of the camera in degrees.
    """

    x_px: Floats | None = None
    y_px: Floats | None = None
    fwhm_px: Floats | None = None
    elongation_d: Floats | None = None
    elongation_k: Floats | None = None
    background: Floats | None = None
    background_err: Floats | None = None
    airmass: Floats | None = None
    hour_angle: Floats | None = None
    temperature: Floats | None = None

    def of(self, stars: slice | npt.NDArray[np.int64]) -> ExternalParameters:
        """Return the parameters of some of the stars."""
        chosen = {
            one.name: value[stars] if value is not None and value.ndim == 2 else value
            for one, value in ((one, getattr(self, one.name)) for one in fields(self))
        }
        return ExternalParameters(**chosen)


def parameter_terms(parameters: ExternalParameters, weight: Floats) -> tuple[list[str], Floats]:
    """Return the names and values of the terms of stars, each with mean 0 and variance 1 over the curve of a star.

    A term that does not vary is 0 throughout. The constant is not among them.

    Parameters
    ----------
    parameters : ExternalParameters
    weight : ndarray, shape (n_stars, n_frames)
        Weights of the measurements, 0 for gaps.

    Returns
    -------
    names : list of str
        n_terms of them.
    terms : ndarray, shape (n_stars, n_terms, n_frames)
    """
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    plain = {
        one.name: _scaled(np.asarray(value, float), share)
        for one, value in ((one, getattr(parameters, one.name)) for one in fields(parameters))
        if value is not None
    }
    made = dict(plain)
    shape = [name for name in ("fwhm_px", "elongation_d", "elongation_k") if name in plain]
    places = [name for name in ("x_px", "y_px") if name in plain]
    for group in (shape, places):
        for number, first in enumerate(group):
            for second in group[number:]:
                made[f"{first} {second}"] = _scaled(plain[first] * plain[second], share)
    for name in places:
        made |= _waves(name, np.asarray(getattr(parameters, name), float), share)
    terms = np.empty((len(weight), len(made), weight.shape[1]))
    for number, row in enumerate(made.values()):
        terms[:, number] = row
    return list(made), terms


def _waves(name: str, place: Floats, share: Floats) -> dict[str, Floats]:
    """Return sines and cosines of the position within the pixel, once and twice around."""
    angle = 2.0 * np.pi * (place - np.floor(place))
    sine, cosine = np.sin(angle), np.cos(angle)
    waves = {"sin": sine, "cos": cosine, "sin 2": sine * cosine, "cos 2": sine * sine}
    return {f"{kind} {name}": _scaled(values, share) for kind, values in waves.items()}


def _scaled(values: Floats, share: Floats) -> Floats:
    """Return values with mean 0 and variance 1 for each star; `share` has the sum 1 along a curve."""
    values = np.broadcast_to(values, share.shape)
    known = np.isfinite(values)
    if not known.all():
        share = np.where(known, share, 0.0)
        share = share / np.maximum(share.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        values = np.where(known, values, 0.0)
    mean = np.einsum("st,st->s", share, values)[:, None]
    off = np.where(known, values - mean, 0.0)
    spread = np.sqrt(np.einsum("st,st,st->s", share, off, off))[:, None]
    least = _LEAST_SPREAD * np.maximum(np.abs(mean), 1.0)
    return np.where(spread > least, off / np.where(spread > least, spread, 1.0), 0.0)
