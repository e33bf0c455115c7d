"""Nights of frames for any camera profile, with known truth."""

from skylake.simulate.calibrations import PlannedCalibration, plan_calibrations, simulate_calibration
from skylake.simulate.planning import PlannedFrame, plan
from skylake.simulate.scenario import (
    AtmosphereParams,
    CatalogParams,
    DetectorParams,
    HeaderParams,
    MosaicParams,
    OpticsParams,
    Scenario,
    ScheduleParams,
    SpecialParams,
    StarParams,
)
from skylake.simulate.several_chips import simulate_camera
from skylake.simulate.simulated_frame import simulate_frame
from skylake.simulate.stamps import Moffat, render
from skylake.simulate.truth import FrameTruth
from skylake.simulate.write_nights import SimulationResult, simulate

__all__ = [
    "AtmosphereParams",
    "CatalogParams",
    "DetectorParams",
    "FrameTruth",
    "HeaderParams",
    "Moffat",
    "MosaicParams",
    "OpticsParams",
    "PlannedCalibration",
    "PlannedFrame",
    "Scenario",
    "ScheduleParams",
    "SimulationResult",
    "SpecialParams",
    "StarParams",
    "plan",
    "plan_calibrations",
    "render",
    "simulate",
    "simulate_calibration",
    "simulate_camera",
    "simulate_frame",
]
