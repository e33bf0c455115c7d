"""The calibration library: the masters of a camera, and which one fits a frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from skylake.core.camera import ReductionSteps, Step
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed

#: Gives what a camera calls a filter that a header names; None for one that it does not know.
FilterKey = Callable[[str | None], str | None]
#: Kinds of masters, each named by the step that needs it.
KINDS = ("bias", "dark", "flat", "bad_pixels")
#: A dark is scaled up by so much at most: what is wrong with it, by noise or by its bias, grows along.
_LARGEST_SCALE = 10.0
#: Noise of a scaled dark that does no harm, in units of the read noise of a single frame.
_NO_HARM = 0.5
#: Darks whose noise differs by no more than this factor are as quiet as each other.
_AS_QUIET = 1.5
#: Masters that are so many days further from the frame than the nearest are as near: those of one night.
_SAME_NIGHT_D = 1.0
#: Degrees of which nothing is made among masters of one night; dark current changes by a twentieth of itself.
_SAME_DEGREES = 0.5
#: Gains of headers that differ by less are the same setting of the detector.
SAME_GAIN = 0.01
#: What hardly depends on how the detector was read out; one that the profile names is taken whatever that was.
_OF_LIGHT = ("flat", "bad_pixels")
#: Failures that no master fixes, and the keys of the profile that do.
_FIXES = {
    "is known to fit, since the frame's exposure is unknown": "name the card that holds it in "
    "header.exposure.cards of {0}, or correct the card (`skylake camera check` shows what was looked at)",
    "is known to fit, since the frame's filter is unknown": "give default_filter, or name the card that holds it "
    "in header.filter, of {0}",
}
_NO_EXPOSURE, _NO_FILTER = _FIXES


@dataclass(frozen=True, slots=True)
class Master:
    """A master of the library: the columns of ``masters`` by which it is chosen.

    ``valid_from_mjd`` and ``valid_to_mjd`` are None for ever; ``mjd_mid`` is the middle of the exposures that it was
    made of, None where they gave no time. Gain, read noise and linearity are what a photon transfer has measured;
    the frames of a bias give the read noise as well. ``header_gain`` and ``readout`` are what the headers of its
    frames give, and the raw size is theirs before trimming; None where unknown, as of masters that were made
    before these were kept.
    """

    name: str
    kind: str
    file: str
    sha256: str
    extension: int
    binning: str
    filter: str | None = None
    exposure_s: float | None = None
    temperature_c: float | None = None
    mjd_mid: float | None = None
    valid_from_mjd: float | None = None
    valid_to_mjd: float | None = None
    n_frames: int = 0
    gain_e_per_adu: float | None = None
    read_noise_e: float | None = None
    linearity_c2: float | None = None
    linearity_c2_err: float | None = None
    read_noise_err: float | None = None
    header_gain: float | None = None
    readout: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    raw_width_px: int | None = None
    raw_height_px: int | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Master:
        """Return the master of a row of ``masters``."""
        return cls(**{column.name: row[column.name] for column in fields(cls) if column.name in row})

    def holds_at(self, mjd: float) -> bool:
        """Return whether the master is valid at an instant (MJD, UTC)."""
        first = self.valid_from_mjd is None or mjd >= self.valid_from_mjd
        return first and (self.valid_to_mjd is None or mjd < self.valid_to_mjd)


@dataclass(frozen=True, slots=True)
class MasterQuery:
    """The properties that a master has to fit: time (MJD, UTC), chip, binning, filter, exposure, temperature, readout.

    Gain and readout are those of its header, None where it gives none; then any fits. Sizes are width and
    height, as the frame comes and as trimming leaves it; None if they do not matter.
    """

    mjd: float
    extension: int
    binning: str
    filter: str | None = None
    exposure_s: float | None = None
    temperature_c: float | None = None
    gain: float | None = None
    readout: str | None = None
    raw_size: tuple[int, int] | None = None
    trimmed_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class MasterRules:
    """How far a master may be from what is wanted.

    Attributes
    ----------
    exposure_tolerance : float
        Part of an exposure up to which two count as the same.
    temperature_tolerance_c : float
    scalable : bool
        Whether a dark of another exposure may be scaled, which it may if the bias was taken off before.
    flat_temperature_tolerance_c : float or None
        The tolerance for flats and photon transfers; None takes them at any temperature.
    filter_key : callable or None
        Gives what a camera calls a filter of some name, None for an unknown one; None takes names as they are.
    """

    exposure_tolerance: float = 0.01
    temperature_tolerance_c: float = 3.0
    scalable: bool = True
    flat_temperature_tolerance_c: float | None = None
    filter_key: FilterKey | None = None

    def same_filter(self, first: str | None, second: str | None) -> bool:
        """Return whether two names are those of one filter."""
        keys = [
            name if self.filter_key is None else self.filter_key(name) or name for name in (first, second)
        ]
        return keys[0] == keys[1]

    def degrees(self, kind: str) -> float:
        """Return the tolerance in temperature for masters of a kind."""
        # A photon transfer is measured by flats, at their temperature.
        if kind not in ("flat", "transfer"):
            return self.temperature_tolerance_c
        return math.inf if self.flat_temperature_tolerance_c is None else self.flat_temperature_tolerance_c


@dataclass(frozen=True, slots=True)
class Library:
    """The masters of a camera in a snapshot of a lake, whose files lie below `root`; without a lake there are none."""

    root: Path
    masters: tuple[Master, ...] = ()
    lake: str = ""

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each master by its name."""
        return {master.name: master.sha256 for master in self.masters}

    def how_to(self, make: str, profile: str) -> str:
        """Return how a master for the frames of a profile comes about, as part of a sentence."""
        if not self.lake:
            return f"name with --lake a lake whose `skylake calib build --camera {profile}` made one"
        return f"{make} with `skylake calib build {self.lake} --camera {profile} FILE…`, then try again"

    def pick(
        self,
        steps: ReductionSteps,
        wanted: MasterQuery,
        profile: str,
        filter_key: FilterKey | None = None,
        why_missing: Callable[[str], str | None] = lambda kind: None,
    ) -> dict[str, Master]:
        """Return the masters that the steps of a profile, as ``--camera`` takes it, need for a frame, by kind.

        A filter is what `filter_key` calls it, as in :class:`MasterRules`. Where none fits, the sentence begins with
        what `why_missing` says of its kind.

        Raises
        ------
        FrameFailed
            ``no_master`` if there is none that fits; the sentence says why, names the command to type, and the profile
            and the key that ask for it.
        """
        rules = replace(rules_of(steps), filter_key=filter_key)
        chosen: dict[str, Master] = {}
        for kind in needed(steps.steps):
            named = steps.use.get(kind)
            master = choose(self.masters, kind, wanted, rules, named)
            if isinstance(master, str):
                fix = self._fix(master, kind, profile, named is not None)
                fix = f"{fix}, or take {kind!r} out of reduction.steps of {profile}"
                cause = why_missing(kind)
                raise FrameFailed(
                    Reason.NO_MASTER,
                    "; ".join(clause for clause in (cause, master, fix) if clause is not None),
                )
            chosen[kind] = master
        return chosen

    def _fix(self, clause: str, kind: str, profile: str, named: bool) -> str:
        """Return how to fix that no master fits, for the reason that a clause gives."""
        fix = next((text for end, text in _FIXES.items() if clause.endswith(end)), None)
        if fix is not None:
            return fix.format(profile)
        if named:
            return f"name others in reduction.use.{kind} of {profile}, take that key out for whichever fits"
        return self.how_to("make one", profile)


def rules_of(steps: ReductionSteps) -> MasterRules:
    """Return the rules that follow from the steps of a camera."""
    scalable = "bias" in steps.steps
    return MasterRules(
        steps.exposure_tolerance, steps.temperature_tolerance_c, scalable, steps.flat_temperature_tolerance_c
    )


def needed(steps: Sequence[Step]) -> list[Step]:
    """Return the kinds of masters that some steps need, in their order."""
    return [step for step in steps if step in KINDS]


def choose(
    masters: Iterable[Master],
    kind: str,
    wanted: MasterQuery,
    rules: MasterRules,
    named: Sequence[str] | None = None,
) -> Master | str:
    """Return the master that fits best, or a clause that says why none does.

    A master fits that is valid at the time of the frame and is of its chip, binning, size (photon transfers have
    none), gain and readout, filter (flats), exposure (darks) and temperature (flats and photon transfers only where
    the rules say how far they may be off). A dark that has to be scaled is at least a tenth as long as the frame. A
    dark of the same exposure goes before one that has to be scaled, and of these those go first whose noise, as it is
    scaled, is little or near the least. Of what is left the nearest in time is taken, among masters of one night one
    that gives gain and readout, and the nearest in temperature. Ties go to the later one, then to that of more frames,
    then to the last by name. Where some are named, only these are looked at, and neither when they are valid, nor how
    warm the detector was, nor by how much they have to be scaled; flats and masks of another readout are taken where
    none of those named is of the frame's.
    """
    left = [master for master in masters if master.kind == kind]
    if not left:
        return f"the calibration library has no master of kind {kind}"
    if named is not None:
        left = [master for master in left if master.name in named]
        if not left:
            return f"reduction.use.{kind} of the profile names no master of kind {kind} that the library has"
    for fits, failure in _criteria(kind, wanted, rules, named is None):
        fitting = [master for master in left if fits(master)]
        if not fitting:
            those = f"masters of kind {kind}" if named is None else f"masters that reduction.use.{kind} names"
            return f"none of the {len(left)} {those} {failure}"
        left = fitting
    if named is not None and kind in _OF_LIGHT:
        alike = [candidate for candidate in left if same_gain(candidate.header_gain, wanted.gain)]
        left = [candidate for candidate in alike if same_readout(candidate.readout, wanted.readout)] or left
    noise = [_scaled_noise(master, kind, wanted, rules) for master in left]
    left = [master for master, level in zip(left, noise, strict=True) if level <= _AS_QUIET * min(noise)]
    nearest = min(_days(master, wanted) for master in left)
    night = [master for master in left if _days(master, wanted) <= nearest + _SAME_NIGHT_D]
    return min(night, key=lambda master: _distance(master, kind, wanted, rules))


def _criteria(kind: str, wanted: MasterQuery, rules: MasterRules, valid: bool) -> list[tuple[Any, str]]:
    """Return what a master has to fulfil, the most lasting first, each with what is said where none does."""
    criteria: list[tuple[Any, str]] = [
        (lambda master: master.extension == wanted.extension, f"is of extension {wanted.extension}"),
        (lambda master: master.binning == wanted.binning, f"has the binning {wanted.binning}"),
    ]
    if kind != "transfer" and wanted.raw_size is not None:
        text = (
            f"is of raw frames of {wanted.raw_size[0]} x {wanted.raw_size[1]} pixels (a window has masters of its "
            "own, and so has a binning, which header.binning of the profile gives)"
        )
        criteria.append((lambda master: same_size(master, wanted), text))
    if valid or kind not in _OF_LIGHT:
        even_so = f" (one that reduction.use.{kind} names is taken even so)" if kind in _OF_LIGHT else ""
        if not valid:
            even_so = (
                ", and at another gain ADU are others (if its card is no setting of the detector, leave it aside "
                "by header.gain.cards = [] in the profile)"
            )
        text = f"was taken with the gain of {wanted.gain or 0.0:g} in the header{even_so}"
        criteria.append((lambda master: same_gain(master.header_gain, wanted.gain), text))
        text = f"has the readout {wanted.readout}, by header.readout of the profile{even_so if valid else ''}"
        criteria.append((lambda master: same_readout(master.readout, wanted.readout), text))
    if kind == "flat":
        text = _NO_FILTER if wanted.filter is None else f"is of filter {wanted.filter}"
        criteria.append((lambda master: rules.same_filter(master.filter, wanted.filter), text))
    if kind == "dark":
        if wanted.exposure_s is None:
            criteria.append((lambda master: False, _NO_EXPOSURE))
        elif not rules.scalable:
            text = f"has the exposure of {wanted.exposure_s:g} s, and the steps take off no bias by which to scale it"
            criteria.append((lambda master: _same_exposure(master, wanted, rules), text))
        else:
            criteria.append(
                (lambda master: (master.exposure_s or 0.0) > 0.0, "has an exposure to scale it by")
            )
    if not valid:
        return criteria
    if kind == "dark" and rules.scalable and wanted.exposure_s is not None:
        text = (
            f"is at least 1/{_LARGEST_SCALE:g} of the exposure of {wanted.exposure_s:g} s long (scaled by more, its "
            "noise would swamp the frame; one that reduction.use.dark names is taken even so; if the frame was not "
            "exposed for so long, correct header.exposure of the profile)"
        )
        shortest = wanted.exposure_s / _LARGEST_SCALE
        criteria.append((lambda master: master.exposure_s >= shortest, text))
    if wanted.temperature_c is not None:
        text = f"was taken within {rules.degrees(kind):g} degrees of {wanted.temperature_c:g} C"
        criteria.append((lambda master: _same_temperature(master, wanted, rules.degrees(kind)), text))
    criteria.append((lambda master: master.holds_at(wanted.mjd), f"is valid at MJD {wanted.mjd:.4f}"))
    return criteria


def same_gain(first: float | None, second: float | None) -> bool:
    """Return whether two gains of headers are one setting of the detector; an unknown one may be any."""
    if first is None or second is None:
        return True
    return abs(first - second) <= SAME_GAIN * max(abs(first), abs(second))


def same_readout(first: str | None, second: str | None) -> bool:
    """Return whether two readouts of headers are the same; an unknown one may be any."""
    return first is None or second is None or first == second


def same_size(master: Master, wanted: MasterQuery) -> bool:
    """Return whether a master is of frames of the size of a frame, so that no window is taken for a corner.

    Of one that does not give the size of its frames its own counts, which is that before or after trimming.
    """
    if master.raw_width_px is not None and master.raw_height_px is not None:
        return (master.raw_width_px, master.raw_height_px) == wanted.raw_size
    if master.width_px is None or master.height_px is None:
        return True
    return (master.width_px, master.height_px) in (wanted.raw_size, wanted.trimmed_size)


def _same_exposure(master: Master, wanted: MasterQuery, rules: MasterRules) -> bool:
    if master.exposure_s is None or wanted.exposure_s is None:
        return False
    return abs(master.exposure_s - wanted.exposure_s) <= rules.exposure_tolerance * wanted.exposure_s


def _same_temperature(master: Master, wanted: MasterQuery, degrees: float) -> bool:
    if master.temperature_c is None or wanted.temperature_c is None:
        return True
    return abs(master.temperature_c - wanted.temperature_c) <= degrees


def _scaled_noise(master: Master, kind: str, wanted: MasterQuery, rules: MasterRules) -> float:
    """Return the noise of a dark as it is scaled, in read noises of a frame; 0 for what is not scaled.

    What does no harm is as good as the least.
    """
    if kind != "dark" or _same_exposure(master, wanted, rules):
        return 0.0
    assert master.exposure_s is not None and wanted.exposure_s is not None
    noise = wanted.exposure_s / master.exposure_s / math.sqrt(max(master.n_frames, 1))
    return max(noise, _NO_HARM)


def _days(master: Master, wanted: MasterQuery) -> float:
    unknown = master.mjd_mid is None or math.isnan(wanted.mjd)
    return math.inf if unknown else abs((master.mjd_mid or 0.0) - wanted.mjd)


def _distance(master: Master, kind: str, wanted: MasterQuery, rules: MasterRules) -> tuple[Any, ...]:
    degrees, later = _degrees(master, wanted, rules.degrees(kind)), -(master.mjd_mid or 0.0)
    # What gives no gain may be of several, as one that was made before headers were asked for it.
    pairs = ((master.header_gain, wanted.gain), (master.readout, wanted.readout))
    untold = sum((first is None) != (second is None) for first, second in pairs)
    # Two of one name are no library of ours; which is taken shall not depend on their order even so.
    return (
        untold,
        degrees,
        _days(master, wanted),
        later,
        -master.n_frames,
        _last_first(master.name),
        repr(master),
    )


def _degrees(master: Master, wanted: MasterQuery, tolerance: float) -> float:
    """Return how far a master is off in temperature, as far as that matters; an unknown one the most."""
    if wanted.temperature_c is None or math.isinf(tolerance):
        return 0.0
    if master.temperature_c is None:
        return max(tolerance, _SAME_DEGREES)
    return max(abs(master.temperature_c - wanted.temperature_c), _SAME_DEGREES)


def _last_first(name: str) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in name)
