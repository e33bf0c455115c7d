"""Conditions of a frame for its detrending: gain, exposure, temperature, and the masters that fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from skylake.cameras import HeaderReading
from skylake.cameras.frame_kinds import read_binning
from skylake.core.camera import Detector
from skylake.core.flags import FrameFlag
from skylake.core.frame import Image, SkyPlane, StoredImage
from skylake.image.detrend.detrend_chain import Conditions, refuse_other_size
from skylake.image.detrend.detrend_steps import trim_window
from skylake.image.detrend.mosaic_pattern import settle_pattern
from skylake.image.masters.detector_properties import take_measured
from skylake.image.masters.master_file import load_master
from skylake.image.masters.master_library import Library, MasterQuery, needed
from skylake.image.masters.missing_master import why_missing

#: Gives the sky of a frame (its file, the image before that step), made from its neighbours.
SkyFinder = Callable[[str, Image], SkyPlane]


def stated_exposure(reading: HeaderReading) -> float | None:
    """Return the exposure by which darks are scaled, seconds: that of the header, or None."""
    return None if FrameFlag.EXPOSURE_ASSUMED in reading.flags else reading.exposure_s


def gain_known(reading: HeaderReading) -> bool:
    """Return whether header, profile or a photon transfer gives the gain; that of a profile is 1 by default."""
    return FrameFlag.GAIN_ASSUMED not in reading.flags or reading.gain != Detector().gain_e_per_adu


def wanted_masters(raw: StoredImage, reading: HeaderReading) -> MasterQuery:
    """Return what the masters of a frame have to fit; the time is NaN where it is unknown.

    Raises
    ------
    FrameFailed
        ``wrong_size`` if the image has not the size in the profile, or trimming leaves nothing of it.
    """
    camera = reading.camera
    refuse_other_size(raw.shape, camera)
    height, width = raw.shape
    rows, columns = slice(0, height), slice(0, width)
    if "trim" in camera.reduction.steps:
        rows, columns = trim_window(raw.shape, camera.detector)
    return MasterQuery(
        float("nan") if reading.mjd_mid is None else reading.mjd_mid,
        raw.extension,
        read_binning(raw.header, camera.header),
        reading.filter,
        stated_exposure(reading),
        reading.ccd_temperature_c,
        reading.header_gain,
        reading.readout,
        (width, height),
        (columns.stop - columns.start, rows.stop - rows.start),
    )


def conditions_of(
    raw: StoredImage, reading: HeaderReading, library: Library | None, sky: SkyFinder | None, file: str
) -> tuple[Conditions, list[str]]:
    """Return what the steps of a camera need to know of a frame, and the names of the masters that they use.

    Where the profile asks for measured values of the detector, they are put into the reading, and so is the pattern of
    a mosaic where header and profile contradict one another.

    Raises
    ------
    FrameFailed
        ``ambiguous_header`` as in :func:`settle_pattern`, ``no_master`` if a step needs one and none fits,
        ``bad_master`` if it is damaged, ``wrong_size`` as in :func:`wanted_masters`.
    """
    settle_pattern(raw, reading)
    library = library or Library(Path())
    wanted = wanted_masters(raw, reading)
    transfers = take_measured(reading, wanted, library)
    camera = reading.camera
    chosen = {}
    if needed(camera.reduction.steps):
        why = partial(why_missing, raw.header, reading, Path(file).name)
        chosen = library.pick(camera.reduction, wanted, reading.profile, camera.filter_key, why)
    conditions = Conditions(
        reading.saturation_adu,
        reading.gain,
        reading.read_noise,
        stated_exposure(reading),
        {kind: load_master(library.root, master) for kind, master in chosen.items()},
        None if sky is None else partial(sky, file),
        gain_known(reading),
    )
    return conditions, [master.name for master in (*chosen.values(), *transfers)]
