"""Gain, read noise and linearity of a detector as its photon transfers in the library tell them."""

from __future__ import annotations

from dataclasses import replace

from skylake.cameras import HeaderReading
from skylake.core.camera import Measurable
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.image.library import Library, Master, Wanted, choose, rules_of

_KIND = "transfer"


def take_measured(reading: HeaderReading, wanted: Wanted, library: Library) -> list[Master]:
    """Put measured values in place of those of header and profile, where the profile asks for them.

    Each comes from the photon transfer nearest in time, of those of the frame's chip and binning that have it.

    Parameters
    ----------
    reading : HeaderReading
        Its gain, read noise, flags and camera are changed.
    wanted : Wanted
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


def _choose(quantity: Measurable, reading: HeaderReading, wanted: Wanted, library: Library) -> Master:
    some = [one for one in library.masters if one.kind == _KIND and _value(quantity, one) is not None]
    found = choose(some, _KIND, wanted, rules_of(reading.camera.reduction))
    if isinstance(found, str):
        raise FrameFailed(
            Reason.NO_MASTER,
            f"{found} that tells the {quantity.replace('_', ' ')}; measure it with `skylake calib build "
            f"{library.lake} --camera {reading.camera.name} FILE…`, or leave it out of reduction.measured",
        )
    return found


def _value(quantity: Measurable, master: Master) -> float | None:
    if quantity == "gain":
        return master.gain_e_per_adu
    return master.read_noise_e if quantity == "read_noise" else master.linearity_c2


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
        reading.camera = replace(
            reading.camera, detector=replace(reading.camera.detector, linearity=(value,))
        )
