"""Group calibration frames into masters, with their validity and names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from skylake.cameras import Profile
from skylake.cameras.frame_kinds import CalibrationKind
from skylake.core.camera import ReductionSteps
from skylake.flow.masters.master_tasks import Exposure
from skylake.image.masters.master_library import SAME_GAIN

#: Flats that are so far apart in time, days, are of two series, such as those of dusk and dawn.
_SERIES_GAP_D = 2.0 / 24.0

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class MasterGroup:
    """Frames of one kind that become one master, in the order of their times."""

    kind: CalibrationKind
    frames: tuple[Exposure, ...]

    @property
    def first(self) -> Exposure:
        """The first frame."""
        return self.frames[0]

    @property
    def night(self) -> int:
        """Night of the frames; 0 if they are of several."""
        nights = {frame.night for frame in self.frames}
        return nights.pop() if len(nights) == 1 else 0

    @property
    def filter(self) -> str | None:
        """Filter, of flats."""
        return self.first.wanted.filter if self.kind == "flat" else None

    @property
    def mjd(self) -> float | None:
        """Mean time of the frames that have one, MJD, UTC."""
        times = [frame.wanted.mjd for frame in self.frames if math.isfinite(frame.wanted.mjd)]
        return float(np.mean(times)) if times else None

    @property
    def exposure_s(self) -> float | None:
        """Mean exposure of darks, and of flats that are all alike."""
        times = [frame.wanted.exposure_s for frame in self.frames]
        known = [time for time in times if time is not None]
        if self.kind == "bias" or len(known) < len(times) or max(known) > 1.01 * min(known):
            return None
        return float(np.mean(known))

    @property
    def temperature_c(self) -> float | None:
        """Median temperature of the detector."""
        temperatures = [
            frame.wanted.temperature_c for frame in self.frames if frame.wanted.temperature_c is not None
        ]
        return float(np.median(temperatures)) if temperatures else None

    @property
    def header_gain(self) -> float | None:
        """Median gain of the headers."""
        gains = [frame.wanted.gain for frame in self.frames if frame.wanted.gain is not None]
        return float(np.median(gains)) if gains else None

    @property
    def text(self) -> str:
        """What it is, for people."""
        parts: list[str] = [self.kind]
        if self.filter is not None:
            parts.append(self.filter)
        if self.exposure_s is not None and self.kind == "dark":
            parts.append(f"{self.exposure_s:g} s")
        return f"{' '.join(parts)} of night {self.night:08d}"


def group(
    frames: Sequence[Exposure], profile: Profile, by_night: bool = True, least: int = 1
) -> list[MasterGroup]:
    """Return the groups of frames that become masters, bias before darks before flats.

    Frames of one group are of one kind, chip, binning, gain and readout of their headers, night, period of the camera
    and temperature; darks also of one exposure, flats of one filter and, since dust and light change, of one dusk or
    dawn.

    Parameters
    ----------
    frames : sequence of Exposure
    profile : Profile
    by_night : bool
        Whether nights, and the hours of a night, are kept apart.
    least : int
        Frames that a master takes; the flats of a night are not divided into fewer.
    """
    frames_of_groups: dict[tuple[object, ...], list[Exposure]] = {}
    for frame in frames:
        wanted = frame.wanted
        key = (
            frame.kind,
            wanted.extension,
            wanted.binning,
            wanted.readout,
            frame.night if by_night else 0,
            frame.config_sha256,
            wanted.filter if frame.kind == "flat" else None,
        )
        frames_of_groups.setdefault(key, []).append(frame)
    groups = []
    for some in frames_of_groups.values():
        reduction = profile.at(_finite(some[0].wanted.mjd)).reduction
        for piece in _alike(some, reduction):
            order = sorted(piece, key=lambda frame: (_finite(frame.wanted.mjd) or 0.0, frame.file))
            series = _series(order, least) if some[0].kind == "flat" and by_night else [order]
            groups += [MasterGroup(some[0].kind, tuple(series_frames)) for series_frames in series]
    kinds = ("bias", "dark", "flat")
    return sorted(
        groups, key=lambda one: (kinds.index(one.kind), one.night, one.filter or "", one.first.file)
    )


def _series(order: list[Exposure], least: int) -> list[list[Exposure]]:
    """Return frames, in the order of time, in pieces between which hours passed, each of so many frames at least.

    They are divided at the longest pause first, so that too few frames stay with those nearest in time.
    """
    times = [frame.wanted.mjd for frame in order]
    pauses = [
        (times[number] - times[number - 1], number)
        for number in range(least, len(order) - least + 1)
        if number
    ]
    longest, number = max((pause for pause in pauses if pause[0] > _SERIES_GAP_D), default=(0.0, 0))
    if not longest:
        return [order]
    return [*_series(order[:number], least), *_series(order[number:], least)]


def _alike(frames: list[Exposure], reduction: ReductionSteps) -> list[list[Exposure]]:
    pieces = [
        same
        for piece in split(frames, lambda frame: frame.wanted.gain, lambda first: SAME_GAIN * first)
        for same in split(
            piece, lambda frame: frame.wanted.temperature_c, lambda _: reduction.temperature_tolerance_c
        )
    ]
    if frames[0].kind != "dark":
        return pieces
    tolerance = reduction.exposure_tolerance
    return [
        same
        for piece in pieces
        for same in split(piece, lambda frame: frame.wanted.exposure_s, lambda first: tolerance * first)
    ]


def split(
    frames: Sequence[Thing], value: Callable[[Thing], float | None], width: Callable[[float], float]
) -> list[list[Thing]]:
    """Return frames, or masters, in pieces whose values lie within a width; those without one are a piece too."""
    known = sorted(
        (frame for frame in frames if value(frame) is not None), key=lambda frame: value(frame) or 0.0
    )
    unknown = [frame for frame in frames if value(frame) is None]
    pieces: list[list[Thing]] = [unknown] if unknown else []
    start = math.inf
    for frame in known:
        here = value(frame) or 0.0
        if not pieces or pieces[-1] is unknown or here - start > width(start):
            pieces.append([])
            start = here
        pieces[-1].append(frame)
    return pieces


def validity(group: MasterGroup, profile: Profile) -> tuple[float | None, float | None]:
    """Return from when to when a master of a group is valid, MJD, UTC; None for ever.

    It reaches so many days as the profile says beyond its frames, and never beyond the period of the camera in which
    they were taken.
    """
    times = [frame.wanted.mjd for frame in group.frames if math.isfinite(frame.wanted.mjd)]
    if not times:
        return None, None
    first, last = _period(profile, times[0])
    days = profile.at(times[0]).reduction.validity_days
    if days is not None:
        first, last = max(first, min(times) - days), min(last, max(times) + days)
    return (first if math.isfinite(first) else None), (last if math.isfinite(last) else None)


def _period(profile: Profile, mjd: float) -> tuple[float, float]:
    """Return the period, from and to which instant, of the profile that holds at a time."""
    camera = profile.at(mjd)
    bounds = sorted(
        {bound for period in profile.periods for bound in (period.start, period.end) if abs(bound) < 1e9}
    )
    first, last = -math.inf, math.inf
    for bound in reversed([bound for bound in bounds if bound <= mjd]):
        first = bound
        if profile.at(math.nextafter(bound, -math.inf)) is not camera:
            break
        first = -math.inf
    for bound in [bound for bound in bounds if bound > mjd]:
        last = bound
        if profile.at(bound) is not camera:
            break
        last = math.inf
    return first, last


def _finite(mjd: float) -> float | None:
    return mjd if math.isfinite(mjd) else None
