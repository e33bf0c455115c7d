"""From light to numbers: charge, its noise and overflow, and the electronics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Camera
from skylake.simulate.observatory import observatory, saturation_level
from skylake.simulate.optics import field_radius
from skylake.simulate.random_streams import generator
from skylake.simulate.scenario import Scenario
from skylake.simulate.stamps import Image

_ROWS_AT_ONCE = 128
#: The electronics of reduced frames overflow this much above the profile's level, so that errors of the
#: flat field leave no saturated pixel below it.
_PLATEAU = 1.02
#: Spread of the dark current of hot pixels, as a natural logarithm.
_HOT_SPREAD = 1.0
_COLUMN_BIAS_ADU = 1.5


@dataclass(frozen=True, slots=True)
class DetectorMaps:
    """Maps of properties that differ between pixels of the image.

    Attributes
    ----------
    response : ndarray
        Part of the light that is caught: vignetting and, in raw frames, the pixels' own response.
    inverse_flat : ndarray
        One over the flat field that reduced frames are divided by, its error included.
    dark_e_per_s : ndarray
        Dark current.
    bias_adu : ndarray, stored shape
        Level without light, of the stored array; the pedestal in reduced frames.
    """

    response: Image
    inverse_flat: Image
    dark_e_per_s: Image
    bias_adu: Image


@lru_cache(maxsize=2)
def detector_maps(scenario: Scenario) -> DetectorMaps:
    """Return the maps of a scenario's camera."""
    place, params = observatory(scenario), scenario.detector
    shape = place.shape
    *_, squared = field_radius(shape)
    vignetting = (1.0 - scenario.optics.vignetting * squared).astype(np.float32)
    response = vignetting
    if scenario.raw:
        noise = generator(scenario.seed, "pixel response").standard_normal(shape, np.float32)
        response = vignetting * (1.0 + np.float32(params.pixel_response_rms) * noise)
    flat = vignetting * (1.0 + np.float32(params.flat_error) * _smooth_map(scenario, shape))
    inverse = (1.0 / flat).astype(np.float32, copy=False)
    return DetectorMaps(
        response, inverse, _dark_map(scenario, shape), _bias_map(scenario, place.stored_shape)
    )


def _smooth_map(scenario: Scenario, shape: tuple[int, int]) -> Image:
    """Return a smooth map of mean 0 and standard deviation 1: a few waves longer than half the image."""
    random = generator(scenario.seed, "flat error")
    x, y, _ = field_radius(shape)
    smooth = np.zeros(shape, np.float32)
    for _ in range(4):
        wave_x, wave_y, phase = (
            random.uniform(-3.0, 3.0),
            random.uniform(-3.0, 3.0),
            random.uniform(0.0, 2.0 * np.pi),
        )
        smooth += np.cos((x * wave_x + phase).astype(np.float32) + (y * wave_y).astype(np.float32))
    smooth -= smooth.mean(dtype=float)
    return smooth / np.float32(smooth.std(dtype=float) or 1.0)


def _dark_map(scenario: Scenario, shape: tuple[int, int]) -> Image:
    params, random = scenario.detector, generator(scenario.seed, "hot pixels")
    dark = np.full(shape, params.dark_e_per_s, np.float32)
    count = random.poisson(params.hot_fraction * dark.size)
    where = random.integers(0, dark.size, count)
    dark.reshape(-1)[where] += params.hot_e_per_s * random.lognormal(0.0, _HOT_SPREAD, count)
    return dark


def _bias_map(scenario: Scenario, shape: tuple[int, int]) -> Image:
    if not scenario.raw:
        return np.full(shape, scenario.detector.pedestal_adu, np.float32)
    columns = generator(scenario.seed, "bias").standard_normal(shape[1]) * _COLUMN_BIAS_ADU
    _, y, _ = field_radius(shape)
    return (scenario.detector.bias_adu + columns[None, :] + 2.0 * _COLUMN_BIAS_ADU * y).astype(np.float32)


def poisson_noise(mean_e: Image, random: np.random.Generator) -> Image:
    """Replace expected by random numbers of electrons, in place and by rows; return the image."""
    for first in range(0, mean_e.shape[0], _ROWS_AT_ONCE):
        rows = mean_e[first : first + _ROWS_AT_ONCE]
        rows[:] = random.poisson(rows)
    return mean_e


def bleed(charge: Image, full_well: float) -> Image:
    """Let charge above the full well run over into the neighbours above and below, in place.

    Half of the excess of every pixel runs up its column and half down, each filling the room that it finds.
    What meets the end of the column turns back; only what finds no room at all is lost.

    Parameters
    ----------
    charge : ndarray of float32, shape (height, width)
        Charge per pixel; columns run along the first axis.
    full_well : float
        What a pixel can hold, in the same unit.

    Returns
    -------
    ndarray
        The same array.
    """
    columns = np.flatnonzero((charge > full_well).any(axis=0))
    if not columns.size:
        return charge
    level = charge[:, columns].astype(float)
    half = 0.5 * np.maximum(level - full_well, 0.0)
    level = np.minimum(level, full_well)
    level, over_top = _pour(level, half, full_well)
    down = half[::-1].copy()
    down[0] += over_top
    level, over_bottom = _pour(level[::-1], down, full_well)
    up = np.zeros_like(level)
    up[0] = over_bottom
    level, _ = _pour(level[::-1], up, full_well)
    charge[:, columns] = level
    return charge


def _pour(
    level: npt.NDArray[np.float64], added: npt.NDArray[np.float64], full_well: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Add charge to columns and let the excess of each pixel run on to the next one.

    The charge carried from pixel to pixel is c[y] = max(0, c[y - 1] + level + added - full well), the
    waiting time of a queue (Lindley 1952), which has a closed form in cumulated sums.

    Returns
    -------
    level : ndarray
        The new levels, none above the full well.
    left : ndarray, shape (columns,)
        What runs out of the end.
    """
    total = np.cumsum(level + added - full_well, axis=0)
    carried = total - np.minimum(np.minimum.accumulate(total, axis=0), 0.0)
    arriving = np.concatenate([np.zeros((1, level.shape[1])), carried[:-1]])
    return np.minimum(level + added + arriving - carried, full_well), carried[-1]


def read_out(
    expected_e: Image, exposure_s: float, camera: Camera, scenario: Scenario, random: np.random.Generator
) -> Image:
    """Turn expected charge by light into the array that is stored, ADU, not yet rounded.

    Parameters
    ----------
    expected_e : ndarray of float32
        Expected electrons by light that the pixels of the image catch. Used up.
    exposure_s : float
        For the dark current.
    camera : Camera
        The camera in the period of the frame.
    scenario : Scenario
        Raw or reduced, and the detector.
    random : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    ndarray of float32, stored shape
        Raw frames hold bias and dark current. Reduced ones are free of them, divided by the flat field
        and lifted by the pedestal. Pixels outside the image hold bias and noise.
    """
    place, maps, gain = observatory(scenario), detector_maps(scenario), camera.detector.gain_e_per_adu
    saturation, read_noise = saturation_level(camera, scenario), camera.detector.read_noise_e / gain
    top = saturation - scenario.detector.bias_adu if scenario.raw else _PLATEAU * saturation
    dark = maps.dark_e_per_s * np.float32(exposure_s)
    charge = poisson_noise(np.add(expected_e, dark, out=expected_e), random)
    # The wells hold more than the converter can represent: saturated pixels all read the same.
    image = bleed(charge, (top + 10.0 * read_noise + 20.0) * gain)
    image /= np.float32(gain)
    stored = random.standard_normal(place.stored_shape, np.float32)
    stored *= np.float32(read_noise)
    lit = stored[place.lit]
    lit += image
    if scenario.raw:
        stored += maps.bias_adu
        return np.minimum(stored, np.float32(saturation), out=stored)
    np.minimum(lit, np.float32(top), out=lit)
    lit -= dark / np.float32(gain)
    lit *= maps.inverse_flat
    stored += maps.bias_adu
    return stored
