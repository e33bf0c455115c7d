"""Find keys of a profile that no step of its reduction uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from skylake.cameras.header_values import Reading
from skylake.core.camera import Camera, ReductionSteps
from skylake.errors import ConfigurationError

#: Steps that use a key; without one of them it has no effect.
_USED_BY: dict[str, tuple[str, ...]] = {
    # Flats are made, and pixels filled, colour by colour, even if no plane is taken.
    "detector.bayer_pattern": ("bayer", "flat", "bad_pixels", "cosmic_rays"),
    "detector.trim_x": ("trim",),
    "detector.trim_y": ("trim",),
    "detector.overscan_x": ("overscan",),
    "detector.overscan_y": ("overscan",),
    "detector.unlit": ("unlit",),
    "detector.reference_border_px": ("reference",),
    "reduction.colour": ("bayer",),
    # Hiding sources is used for flats of the sky as well.
    "reduction.sky.file": ("sky",),
    "reduction.sky.n_frames": ("sky",),
    "reduction.sky.min_frames": ("sky",),
    "reduction.sky.within_minutes": ("sky",),
}
#: Steps that take the zero level off, so that the signal is proportional to light.
_ZERO = ("overscan", "unlit", "reference", "bias", "dark")


def refuse_unused(written: Mapping[str, Any], resolved: Mapping[str, Any], place: str) -> None:
    """Refuse keys that a file sets itself and that do nothing, since no step of it uses them.

    Keys from a parent profile may be for the steps of that one, and are only noted.

    Parameters
    ----------
    written : mapping
        The content of the file.
    resolved : mapping
        The same with what it has from other files; its periods and chips may name steps of their own.
    place : str
        The file.

    Raises
    ------
    ConfigurationError
    """
    named = {step for block in _blocks(resolved) for step in _value(block, "reduction.steps") or ()}
    if _value(resolved, "reduction.steps") is None:
        named |= set(ReductionSteps().steps)
    for key, steps in _USED_BY.items():
        if not named & set(steps) and any(_value(block, key) is not None for block in _blocks(written)):
            raise ConfigurationError(
                f"{place}: {key}: it does nothing, since reduction.steps does not name {steps[0]}; add that step, or "
                "take the key out"
            )


def _blocks(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Return a profile as it is written, its periods and its chips."""
    yield data
    for name in ("period", "chip"):
        for block in data.get(name, []):
            yield from _blocks(block)


def _value(block: Mapping[str, Any], key: str) -> Any:
    value: Any = block
    for name in key.split("."):
        value = value.get(name, {})
    return value or None


def keys_without_effect(cameras: Sequence[Camera]) -> frozenset[str]:
    """Return the keys that no step of a camera, in any period of its life, uses."""
    named = {step for camera in cameras for step in camera.reduction.steps}
    return frozenset(key for key, steps in _USED_BY.items() if not named & set(steps))


def unused_readings(camera: Camera) -> list[Reading]:
    """Return the notes of `camera check` on keys without effect, and on steps that lack another one."""
    steps, plain, readings = camera.reduction.steps, Camera("plain"), []
    for key, (step, *_) in _USED_BY.items():
        value, default = attrgetter(key)(camera), attrgetter(key)(plain)
        if step not in steps and value != default:
            note = f"reduction.steps does not name {step}; add the step, unless what it does is not wanted"
            readings.append(Reading(key, value, "profile", "ambiguous", note))
    if "linearity" in steps and not set(steps[: steps.index("linearity")]) & set(_ZERO):
        note = "no step before linearity takes the zero level off, which passes for light where there is one"
        readings.append(Reading("reduction.steps", " ".join(steps), "profile", "ambiguous", note))
    return readings
