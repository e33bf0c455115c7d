"""Which stars are detected on the frames of a field, and what is measured of them.

Stars are taken block by block, each with all frames of the field: a block stays in the cache of the
processor, and the rows come out in the order of the catalog's positions, then of time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from archive.exposures import Exposures, half_light_px
from archive.field_stars import FieldStars
from archive.scenario import TableParams
from skylake.core.ellipses import shape_terms
from skylake.core.flags import SourceFlag
from skylake.core.sphere import arcsec_of_chord, ra_dec
from skylake.simulate.variables import magnitude_change

_Array = npt.NDArray[np.float64]
_Float32 = npt.NDArray[np.float32]
_Index = npt.NDArray[np.intp]
Columns = dict[str, npt.NDArray[Any]]

#: Stars times frames in a block.
_BLOCK = 1 << 15
_THRESHOLD_SNR = 5.0
_THRESHOLD_SIGMA = np.float32(1.5)
_FWHM_PER_RMS = np.float32(2.3548)
#: Centroids are no better than this.
_CENTROID_FLOOR_PX = np.float32(0.01)
#: The Kron aperture shares most of its noise with the second one.
_SHARED_NOISE = np.float32(0.9)
#: Ratio of axes of trailed images, and of others.
_TRAIL, _ROUND = np.float32(2.4), np.float32(1.08)
#: Direction of trails, degrees, and its spread.
_TRAIL_ANGLE, _TRAIL_SPREAD = np.float32(20.0), np.float32(6.0)
_KRON_RADIUS = np.float32(1.45)
_UNIFORM_TO_UNIT = np.float32(np.sqrt(12.0))


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What is above the threshold; shape (n,). `star` is -1 for what is no star."""

    frame: _Index
    star: _Index
    x: _Array
    y: _Array
    electrons: _Float32
    crowding: _Float32
    blended: npt.NDArray[np.bool_]


def detect(
    stars: FieldStars, shots: Exposures, params: TableParams, random: np.random.Generator
) -> Iterator[Columns]:
    """Yield the detections on all frames of a field, piece by piece.

    Parameters
    ----------
    stars : FieldStars
    shots : Exposures
    params : TableParams
    random : numpy.random.Generator

    Yields
    ------
    dict of ndarray, shape (n,)
        The columns of ``sources`` that differ from row to row, by name, but for index and number; and ``frame``
        (index into `shots`), ``star`` (index into `stars`, -1 for what is no star) and ``separation_arcsec``
        (from the catalog's position of the star). Stars come first, in the order of `stars` and then of
        frames.
    """
    step = max(1, _BLOCK // len(shots))
    counts = np.zeros(len(shots), np.int64)
    for start in range(0, max(len(stars), 1), step):
        found = _visible(stars, slice(start, start + step), shots, params, random)
        counts += np.bincount(found.frame, minlength=len(shots))
        yield _measured(found, stars, shots, random)
    yield _measured(_spurious(counts, shots, params, random), stars, shots, random)


def _visible(
    stars: FieldStars, block: slice, shots: Exposures, params: TableParams, random: np.random.Generator
) -> _Candidates:
    """Return the stars of a block that are on the image and above the threshold."""
    some = stars.take(block)
    x, y = shots.projection.pixels(some.place)
    (height, width), shape = shots.shape, x.shape
    light = some.flux.astype(np.float32)[:, None] * shots.electrons
    varying = np.flatnonzero(some.kind)
    if varying.size:
        one = some.take(varying[:, None])
        change = magnitude_change(one.kind, one.period_d, one.amplitude_mag, one.epoch_bjd, shots.time_bjd)
        light[varying] *= 10.0 ** (-0.4 * change)
    snr = light / np.sqrt(light + shots.noise_pixels * shots.variance)
    seen = snr + random.standard_normal(shape) > _THRESHOLD_SNR
    seen &= random.random(shape, np.float32) >= params.missing_fraction
    with np.errstate(invalid="ignore"):
        seen &= (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    star, frame = np.nonzero(seen)
    return _Candidates(
        frame,
        star + block.start,
        x[seen],
        y[seen],
        light[seen],
        some.crowding.take(star),
        some.blended.take(star),
    )


def _spurious(
    counts: npt.NDArray[np.int64], shots: Exposures, params: TableParams, random: np.random.Generator
) -> _Candidates:
    """Return detections of no star, anywhere on the frames and little above the threshold."""
    share = params.spurious_fraction
    number = random.poisson(counts * share / (1.0 - share) if share < 1.0 else counts)
    frame = np.repeat(np.arange(len(shots)), number)
    count = frame.size
    (height, width), draws = shots.shape, random.random((2, count))
    snr = (_THRESHOLD_SNR + random.standard_exponential(count)).astype(np.float32)
    # The flux F of a given S/N, from F / sqrt(F + n sigma^2).
    half = 0.5 * snr * snr
    light = half + np.sqrt(half * half + snr * snr * (shots.noise_pixels * shots.variance).take(frame))
    return _Candidates(
        frame,
        np.full(count, -1),
        draws[0] * width - 0.5,
        draws[1] * height - 0.5,
        light,
        np.zeros(count, np.float32),
        np.zeros(count, bool),
    )


def _measured(
    found: _Candidates, stars: FieldStars, shots: Exposures, random: np.random.Generator
) -> Columns:
    """Return what is measured of candidates."""
    frame, count = found.frame, found.frame.size
    noise = np.asarray(random.standard_normal((3 + len(shots.share), count)), np.float32)
    light = found.electrons * (1.0 + shots.scintillation.take(frame) * noise[0])
    variance = (shots.noise_pixels * shots.variance).take(frame)
    inverse = np.asarray(np.sqrt(found.electrons + variance) / found.electrons, np.float32)
    columns = _positions(found, stars, shots, inverse, noise[1:3])
    columns |= _corrections(columns["x_px"], columns["y_px"], shots)
    columns |= _fluxes(found, light, columns, shots, noise[3:])
    columns |= _shapes(found, light, inverse, shots, random)
    columns["flags"] = _flags(found, columns, shots)
    return columns


def _positions(
    found: _Candidates, stars: FieldStars, shots: Exposures, inverse: _Float32, noise: _Float32
) -> Columns:
    """Return centroids with errors of fwhm / 2.35 / (S/N), and where they are on the sky."""
    height, width = shots.shape
    error = (shots.fwhm_px / _FWHM_PER_RMS).take(found.frame) * inverse + _CENTROID_FLOOR_PX
    stretch = np.where(shots.trailed, _TRAIL, np.float32(1.0)).take(found.frame)
    x_err = error * stretch
    x = np.clip(found.x + x_err * noise[0], -0.5, width - 0.5)
    y = np.clip(found.y + error * noise[1], -0.5, height - 0.5)
    direction = shots.projection.directions(found.frame, x, y)
    ra, dec = ra_dec(direction)
    apart = direction - stars.catalog_place.take(found.star, axis=0) if len(stars) else direction
    return {
        "frame": found.frame,
        "star": found.star,
        "ra_deg": ra,
        "dec_deg": dec,
        "x_px": x,
        "y_px": y,
        "x_err_px": x_err,
        "y_err_px": error,
        "edge_distance_px": np.minimum(
            np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)
        ).astype(np.float32) + np.float32(0.5),
        "separation_arcsec": arcsec_of_chord(np.sqrt(np.einsum("ij,ij->i", apart, apart))),
    }  # fmt: skip


def _corrections(x: _Array, y: _Array, shots: Exposures) -> Columns:
    """Return the factors of aperture corrections on top of those at the centre; they grow with distance squared."""
    (height, width), reach = shots.shape, np.float32(0.5 * np.hypot(*shots.shape))
    along = (x.astype(np.float32) - np.float32(0.5 * width - 0.5)) / reach
    across = (y.astype(np.float32) - np.float32(0.5 * height - 0.5)) / reach
    along *= along
    across *= across
    along += across
    return {
        f"apcor_rel_{name}": term * along + np.float32(1.0)
        for name, term in zip(shots.camera.apertures.fluxes, shots.field, strict=True)
        if term > 0.0
    }


def _fluxes(
    found: _Candidates, light: _Float32, columns: Columns, shots: Exposures, noise: _Float32
) -> Columns:
    """Return the flux in each aperture: each holds the noise of the smaller one and that of its own ring."""
    apertures = shots.camera.apertures
    variance, factor = shots.variance.take(found.frame), np.float32(shots.adu_per_s)
    fluxes: Columns = {}
    deviation = np.zeros(light.size, np.float32)
    before: _Float32 | np.float32 = np.float32(0.0)
    calibrated = apertures.calibrated_radius_px
    for number, name in enumerate(apertures.fluxes):
        kron = name == "kron"
        if not kron and number >= len(apertures.radii_px):
            continue
        radius = apertures.radii_px[-1 if kron else number]
        signal = light * shots.share[number].take(found.frame)
        if f"apcor_rel_{name}" in columns:
            signal /= columns[f"apcor_rel_{name}"]
        signal *= 1.0 + found.crowding * np.float32((radius / calibrated) ** 2)
        total = signal + shots.area_px[number].take(found.frame) * variance
        if kron:
            alone = np.sqrt(np.float32(1.0) - _SHARED_NOISE**2)
            deviation = np.sqrt(total) * (_SHARED_NOISE * deviation / np.sqrt(before) + alone * noise[number])
        else:
            deviation = deviation + np.sqrt(np.maximum(total - before, 0.0)) * noise[number]
            before = total
        fluxes[f"flux_{name}"] = (signal + deviation) * factor
        fluxes[f"flux_{name}_err"] = np.sqrt(total) * factor
    return fluxes


def _shapes(
    found: _Candidates,
    light: _Float32,
    inverse: _Float32,
    shots: Exposures,
    random: np.random.Generator,
) -> Columns:
    """Return widths, axes, peak, isophotal area and local background."""
    frame, gain = found.frame, np.float32(shots.camera.detector.gain_e_per_adu)
    trailed = shots.trailed.take(frame)
    # Even noise of unit variance costs a fifth of normal noise, and nobody fits these columns.
    noise = (random.random((3, frame.size), np.float32) - np.float32(0.5)) * _UNIFORM_TO_UNIT
    fwhm = shots.fwhm_px.take(frame) * (1.0 + (0.3 * inverse + np.float32(0.02)) * noise[0])
    root = np.sqrt(np.where(trailed, _TRAIL, _ROUND)) * (1.0 + 0.1 * inverse * np.abs(noise[1]))
    rms = (np.sqrt(shots.variance) / gain).take(frame)
    peak = np.maximum(light * (shots.peak / gain).take(frame), _THRESHOLD_SIGMA * rms)
    sky = shots.sky_adu.take(frame) + np.float32(0.1) * rms * noise[2]
    # Where the profile falls to the threshold: (peak / threshold)^(1 / beta) = 1 + (r / alpha)^2.
    reach = np.power(np.maximum(peak / (_THRESHOLD_SIGMA * rms), 1.3), np.float32(1.0 / shots.beta)) - 1.0
    area = (np.float32(np.pi) * shots.alpha_px**2).take(frame) * reach
    theta = np.float32(180.0) * random.random(frame.size, np.float32) - np.float32(90.0)
    theta = np.where(trailed, _TRAIL_ANGLE + _TRAIL_SPREAD * noise[1], theta)
    fwhm = np.maximum(fwhm, np.float32(0.5))
    a, b = fwhm / _FWHM_PER_RMS * root, fwhm / _FWHM_PER_RMS / root
    s, d, k = shape_terms(fwhm, a, b, theta)
    return {
        "kron_radius": _KRON_RADIUS * (1.0 + np.float32(0.3) * np.minimum(inverse, 0.3) * noise[1]),
        "crowding": found.crowding,
        "flux_max": np.minimum(peak + rms * np.abs(noise[2]), np.float32(shots.saturation_adu) - sky),
        "sky_adu": sky,
        "sky_rms_adu": rms,
        "n_pixels": np.maximum(area, 5.0).astype(np.int32),
        "fwhm_px": fwhm,
        "half_light_px": fwhm * np.float32(half_light_px(1.0, shots.beta)),
        "a_px": a,
        "b_px": b,
        "theta_deg": theta,
        "shape_s": s,
        "shape_d": d,
        "shape_k": k,
    }


def _flags(found: _Candidates, columns: Columns, shots: Exposures) -> npt.NDArray[np.int32]:
    """Return the bits of detections, but for that of rejected frames."""
    detector, extraction = shots.camera.detector, shots.camera.extraction
    level = columns["flux_max"] + columns["sky_adu"]
    linear = shots.saturation_adu if detector.linearity_adu is None else detector.linearity_adu
    reach = max(extraction.edge_margin_px, *shots.camera.apertures.radii_px)
    flags = np.where(found.blended, np.int32(SourceFlag.BLENDED), np.int32(0))
    flags |= np.where(level >= shots.saturation_adu, np.int32(SourceFlag.SATURATED), np.int32(0))
    flags |= np.where(level > linear, np.int32(SourceFlag.NEAR_SATURATED), np.int32(0))
    flags |= np.where(columns["edge_distance_px"] < reach, np.int32(SourceFlag.EDGE), np.int32(0))
    return flags


def number_by_position(frame: _Index, x_px: _Array, y_px: _Array) -> npt.NDArray[np.int32]:
    """Return the number of each detection in its frame, from 0, in the order of y then x."""
    number = np.empty(frame.size, np.int32)
    # Frames of a night fit into 16 bits, which numpy sorts in one pass.
    by_frame = np.argsort(frame.astype(np.uint16), kind="stable")
    starts = np.searchsorted(frame.take(by_frame), np.arange(int(frame.max(initial=-1)) + 2))
    for first, last in pairwise(starts.tolist()):
        mine = by_frame[first:last]
        y = y_px.take(mine)
        order = np.argsort(y)
        if (np.diff(y.take(order)) == 0.0).any():
            order = np.lexsort((x_px.take(mine), y))
        number[mine.take(order)] = np.arange(mine.size, dtype=np.int32)
    return number
