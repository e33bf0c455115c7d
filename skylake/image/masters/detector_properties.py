"""Gain, read noise and linearity of a detector, from the photon transfers of the calibration library."""

from __future__ import annotations

from dataclasses import replace

from skylake.cameras import HeaderReading
from skylake.core.camera import Measurable
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.image.masters.master_library import Library, Master, MasterQuery, choose, rules_of

_KIND = "transfer"
#: The brightest signal is corrected by no larger part, and this part of it is known no worse.
_LARGEST_CURVATURE, _LARGEST_ERROR = 0.25, 0.05
#: Where the profile does not say from where a pixel is saturated, ADU.
_FULL_RANGE = 65535.0
#: A curvature that is known worse, in standard errors, is none.
_LEAST_SIGNIFICANCE = 3.0


def take_measured(reading: HeaderReading, wanted: MasterQuery, library: Library) -> list[Master]:
    """Put measured values in place of those of header and profile, where the profile asks for them.

    Each comes from the photon transfer nearest in time, of those of the frame's chip and binning that have it. A
    curvature that no detector has, or that is hardly known, is none; one that is known and zero within three errors
    corrects nothing. It takes the place of c2 in the profile, and c3 and on stay.

    Parameters
    ----------
    reading : HeaderReading
        Its gain, read noise, flags and camera are changed.
    wanted : MasterQuery
        What the photon transfers of the frame have to fit.
    library : Library

    Returns
    -------
    list of Master
        The photon transfers that were used.

    Raises
    ------
    FrameFailed
        ``no_master`` if none fits that has the value.
    """
    used: dict[str, Master] = {}
    for quantity in reading.camera.reduction.measured:
        master = _choose(quantity, reading, wanted, library)
        used[master.name] = master
        _take(quantity, master, reading)
    return list(used.values())


def _choose(quantity: Measurable, reading: HeaderReading, wanted: MasterQuery, library: Library) -> Master:
    some = [
        master for master in library.masters if master.kind == _KIND and _is_usable(quantity, master, reading)
    ]
    chosen = choose(some, _KIND, wanted, rules_of(reading.camera.reduction))
    if isinstance(chosen, str):
        fix = library.how_to("measure it", reading.profile)
        raise FrameFailed(
            Reason.NO_MASTER,
            f"{chosen} that gives the {quantity.replace('_', ' ')}; {fix}, or leave {quantity!r} out of "
            f"reduction.measured of {reading.profile}",
        )
    return chosen


def _value(quantity: Measurable, master: Master) -> float | None:
    if quantity == "gain":
        return master.gain_e_per_adu
    return master.read_noise_e if quantity == "read_noise" else master.linearity_c2


def _is_usable(quantity: Measurable, master: Master, reading: HeaderReading) -> bool:
    """Return whether a photon transfer has a value that can be used."""
    value = _value(quantity, master)
    if value is None or quantity != "linearity":
        return value is not None
    brightest = reading.saturation_adu or _FULL_RANGE
    error = master.linearity_c2_err or 0.0
    return abs(value) * brightest <= _LARGEST_CURVATURE and error * brightest <= _LARGEST_ERROR


def _take(quantity: Measurable, master: Master, reading: HeaderReading) -> None:
    value = _value(quantity, master)
    assert value is not None
    if quantity == "gain":
        reading.gain = value
        reading.flags &= ~FrameFlag.GAIN_ASSUMED
    elif quantity == "read_noise":
        reading.read_noise = value
        reading.flags &= ~FrameFlag.READ_NOISE_ASSUMED
    else:
        is_curved = abs(value) >= _LEAST_SIGNIFICANCE * (master.linearity_c2_err or 0.0)
        # A photon transfer gives c2 of the signal before any correction, beside what the profile knows of c3 and on.
        higher = reading.camera.detector.linearity[1:]
        curve = (value, *higher) if is_curved else (0.0, *higher) if higher else ()
        reading.camera = replace(reading.camera, detector=replace(reading.camera.detector, linearity=curve))
