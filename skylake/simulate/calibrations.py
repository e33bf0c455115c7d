"""Bias, dark and twilight-flat frames for raw frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from skylake.cameras.compose_header import FrameFacts, compose_header
from skylake.core.camera import Camera
from skylake.simulate.detector import detector_maps, read_out
from skylake.simulate.fits_file import Card, write_frame
from skylake.simulate.observatory import Observatory, saturation_level
from skylake.simulate.optics import field_radius
from skylake.simulate.random_streams import generator
from skylake.simulate.scenario import Scenario
from skylake.simulate.schedule import dark_hours
from skylake.simulate.world import world

CalibrationKind = Literal["bias", "dark", "flat"]

_KINDS: tuple[CalibrationKind, ...] = ("bias", "dark", "flat")
_FLAT_EXPOSURE_S = 5.0
#: Level of flats in units of the saturation level, and how far twilight lets it vary.
_FLAT_LEVEL = (0.3, 0.55)
#: Calibration frames are taken in the dusk, one a minute, the last so long before the first dark minute.
_BEFORE_DARK_D = 10.0 / 1440.0


@dataclass(frozen=True, slots=True)
class PlannedCalibration:
    """One calibration frame.

    Attributes
    ----------
    night, number : int
        Night as YYYYMMDD and number among the frames of its kind, from 1.
    kind : {'bias', 'dark', 'flat'}
        What it is.
    file : str
        Path relative to the folder of the simulation.
    mjd_start, exposure_s : float
        Start (MJD, UTC) and length of the exposure; 0 s for bias frames.
    """

    night: int
    number: int
    kind: CalibrationKind
    file: str
    mjd_start: float
    exposure_s: float


def plan_calibrations(scenario: Scenario) -> list[PlannedCalibration]:
    """Return the calibration frames of all nights; none unless the frames are raw."""
    if not scenario.raw:
        return []
    here = world(scenario)
    profile, count = here.observatory.profile, scenario.calibration_frames
    exposures = {"bias": 0.0, "dark": scenario.exposure_s, "flat": _FLAT_EXPOSURE_S}
    planned = []
    for night in sorted({slot.night for slot in here.slots}):
        dark, _ = dark_hours(night, profile.base.site, scenario.schedule)
        start = dark - _BEFORE_DARK_D - len(_KINDS) * count / 1440.0
        for i in range(len(_KINDS) * count):
            kind, number = _KINDS[i // count], i % count + 1
            name = f"{profile.name}_{night:08d}_{kind}_{number:04d}.{scenario.file_form}"
            file = f"calibration/{night:08d}/{name}"
            planned.append(PlannedCalibration(night, number, kind, file, start + i / 1440.0, exposures[kind]))
    return planned


def simulate_calibration(item: PlannedCalibration, scenario: Scenario, out: Path) -> None:
    """Make one calibration frame below `out`; its pixels follow from the arguments alone."""
    place = world(scenario).observatory
    camera = place.profile.at(item.mjd_start)
    random = generator(scenario.seed, "calibration", item.night, item.kind, item.number)
    light = np.zeros(place.shape, np.float32)
    if item.kind == "flat":
        x, y, _ = field_radius(place.shape)
        level = (
            saturation_level(camera, scenario) * random.uniform(*_FLAT_LEVEL) * camera.detector.gain_e_per_adu
        )
        slope_x, slope_y = random.normal(0.0, 0.003, 2)
        light += np.float32(level) * (1.0 + slope_x * x + slope_y * y).astype(np.float32)
        light *= detector_maps(scenario).response
    stored = read_out(light, item.exposure_s, camera, scenario, random)
    cards = _cards(item, place, camera)
    write_frame(
        out / item.file, stored, cards, scenario.file_form, scenario.pixel_form, camera.header.extension
    )


def _cards(item: PlannedCalibration, place: Observatory, camera: Camera) -> list[Card]:
    facts = FrameFacts(item.mjd_start, item.exposure_s, place.filter_name, item.kind.upper(), None)
    name = camera.header.kind[0] if camera.header.kind else "IMAGETYP"
    return [*compose_header(camera, facts), (name, item.kind.upper(), "kind of frame")]
