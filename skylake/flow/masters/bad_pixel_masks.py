"""Make masks of bad pixels from masters of darks, flats and other frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skylake.core.camera import Camera, Step
from skylake.core.flags import PixelFlag
from skylake.core.frame import MaskPlane
from skylake.flow.masters.master_entries import BuiltMaster, MasterBuilder, describe, write_entry
from skylake.flow.masters.master_groups import split
from skylake.image.combine.bad_pixels import dead_pixels, hot_pixels
from skylake.image.masters.master_file import load_bad, load_master
from skylake.image.masters.master_library import SAME_GAIN, Library, Master, MasterQuery, choose, rules_of

#: Divides masters into pieces that state the same.
_Divide = Callable[[Sequence[BuiltMaster]], Sequence[Sequence[BuiltMaster]]]
#: Kinds of masters that show bad pixels.
_SHOWING: tuple[Step, ...] = ("bias", "dark", "flat")


@dataclass(frozen=True, slots=True)
class _Mask:
    """A mask that is to be made: of masters that were made now, and of some that the library holds.

    It is for one temperature of the detector, or for any where that is None.
    """

    made: list[BuiltMaster]
    temperature_c: float | None
    held: list[Master]


def bad_pixel_rows(
    builder: MasterBuilder, made: Sequence[BuiltMaster], library: Library
) -> list[dict[str, Any]]:
    """Make the masks of bad pixels that follow from masters.

    Hot pixels are those of darks, dead ones those of flats; unstable ones show in whatever has frames enough. Of a
    kind that was not made now the library's master counts, or the mask would be of half of the bad pixels. Each
    temperature of the detector has a mask of its own, since hot pixels depend on it, and so have gain and readout.
    """
    by_use: dict[tuple[Any, ...], list[BuiltMaster]] = {}
    for master in made:
        by_use.setdefault(master.use, []).append(master)
    return [
        _row_of_mask(builder, mask, library)
        for some in by_use.values()
        for piece in _of_one_readout(some)
        if any(master.group.kind in ("dark", "flat") for master in piece)
        for mask in _masks(piece, builder.camera(piece[0].group), library)
    ]


def _pieces(
    some: Sequence[BuiltMaster], value: Callable[[BuiltMaster], Any], divide: _Divide
) -> list[tuple[list[BuiltMaster], list[BuiltMaster]]]:
    """Return masters in pieces of one value, each with and without the masters that have none."""
    known = [master for master in some if value(master) is not None]
    if not known:
        return [([], list(some))]
    return [
        (list(piece), [master for master in some if value(master) is None or master in piece])
        for piece in divide(known)
    ]


def _of_one_readout(some: Sequence[BuiltMaster]) -> Iterator[list[BuiltMaster]]:
    """Return masters in pieces of one readout and gain; those that do not state theirs are in every piece."""

    def readout(master: BuiltMaster) -> str | None:
        return master.group.first.wanted.readout

    def gain(master: BuiltMaster) -> float | None:
        return master.group.header_gain

    def by_readout(known: Sequence[BuiltMaster]) -> list[list[BuiltMaster]]:
        return [
            [master for master in known if readout(master) == name]
            for name in sorted({readout(master) or "" for master in known})
        ]

    def by_gain(known: Sequence[BuiltMaster]) -> list[list[BuiltMaster]]:
        return split(known, gain, lambda first: SAME_GAIN * first)

    for _, piece in _pieces(some, readout, by_readout):
        for _, alike in _pieces(piece, gain, by_gain):
            yield alike


def _masks(some: Sequence[BuiltMaster], camera: Camera, library: Library) -> Iterator[_Mask]:
    """Return the masks of masters of one readout, one for each temperature.

    Darks have a temperature, and flats where the profile says so. Without any the mask is for every temperature, and
    where the library has darks there is one for each of theirs as well, since hot pixels are those of a temperature.
    """
    wanted = _wanted(some)
    reduction = camera.reduction

    def degrees(master: BuiltMaster) -> float | None:
        has = master.group.kind == "dark" or (
            master.group.kind == "flat" and reduction.flat_temperature_tolerance_c is not None
        )
        return master.group.temperature_c if has else None

    def divide(known: Sequence[BuiltMaster]) -> list[list[BuiltMaster]]:
        return split(known, degrees, lambda _: reduction.temperature_tolerance_c)

    for known, piece in _pieces(some, degrees, divide):
        temperatures = [temperature for master in known if (temperature := degrees(master)) is not None]
        here = float(np.median(temperatures)) if temperatures else None
        missing = [kind for kind in _SHOWING if kind not in {master.group.kind for master in piece}]
        if here is not None or "dark" not in missing:
            held = [_held(kind, replace(wanted, temperature_c=here), camera, library) for kind in missing]
            yield _Mask(piece, here, [master for master in held if master is not None])
            continue
        held = [_held(kind, wanted, camera, library) for kind in missing if kind != "dark"]
        others = [master for master in held if master is not None]
        darks = _darks_by_temperature(wanted, camera, library)
        # What is hot in the coldest dark is hot at all temperatures.
        yield _Mask(piece, None, others + [dark for _, dark in darks[:1]])
        for temperature, dark in darks:
            if temperature is not None:
                yield _Mask(piece, temperature, [*others, dark])


def _wanted(some: Sequence[BuiltMaster]) -> MasterQuery:
    """Return what masters of the library have to fit that show bad pixels of the detector of some masters."""
    prepared = next(iter(some[-1].prepared.values()))
    height, width = prepared.shape
    gains = [master.group.header_gain for master in some if master.group.header_gain is not None]
    readouts = [readout for master in some if (readout := master.group.first.wanted.readout) is not None]
    # Hot pixels are seen whatever the exposure.
    return replace(
        some[-1].group.first.wanted,
        exposure_s=0.0,
        temperature_c=None,
        gain=float(np.median(gains)) if gains else None,
        readout=readouts[-1] if readouts else None,
        raw_size=prepared.raw_size,
        trimmed_size=(width, height),
    )


def _darks_by_temperature(
    wanted: MasterQuery, camera: Camera, library: Library
) -> list[tuple[float | None, Master]]:
    """Return the dark of the library for each temperature at which it has some, the coldest first.

    Those that state no temperature, and so are for any, come before.
    """
    darks = [master for master in library.masters if master.kind == "dark"]
    pieces = split(darks, lambda one: one.temperature_c, lambda _: camera.reduction.temperature_tolerance_c)
    darks_by_temperature = []
    for piece in pieces:
        chosen = _held("dark", wanted, camera, replace(library, masters=tuple(piece)))
        if chosen is not None:
            darks_by_temperature.append((chosen.temperature_c, chosen))
    return darks_by_temperature


def _held(kind: Step, wanted: MasterQuery, camera: Camera, library: Library) -> Master | None:
    """Return the master of a kind that the library has for some use, of any filter; of another readout if need be."""
    # Nothing is scaled.
    rules = replace(rules_of(camera.reduction), scalable=True)
    filters = sorted({master.filter or "" for master in library.masters if master.kind == kind})
    named = camera.reduction.use.get(kind)
    for here in (wanted, replace(wanted, gain=None, readout=None)):
        for name in filters:
            choice = choose(library.masters, kind, replace(here, filter=name or None), rules, named)
            if isinstance(choice, Master):
                return choice
    return None


def _row_of_mask(builder: MasterBuilder, plan: _Mask, library: Library) -> dict[str, Any]:
    """Write a mask and return its row."""
    last = plan.made[-1]
    mask: MaskPlane = np.load(last.mask)
    same = [master for master in plan.made if np.load(master.mask, mmap_mode="r").shape == mask.shape]
    for built in same:
        mask |= np.load(built.mask)
    camera = builder.camera(last.group)
    for master in plan.held:
        mask |= _bits_of_held(master, camera, mask.shape, library)
    prepared = {file: prepared_file for master in same for file, prepared_file in master.prepared.items()}
    used = {master.name: master.sha256 for master in plan.held}
    row = describe(builder, last.group, prepared, kind="bad_pixels", used=used)
    wanted = _wanted(plan.made)
    row |= {"temperature_c": plan.temperature_c, "header_gain": wanted.gain, "readout": wanted.readout}
    for name, bit in (("hot", PixelFlag.HOT), ("dead", PixelFlag.DEAD), ("unstable", PixelFlag.UNSTABLE)):
        row[f"n_{name}_px"] = int(np.count_nonzero(mask & np.uint8(bit)))
    row["n_bad_px"] = int(np.count_nonzero(mask))
    write_entry(builder, row, next(iter(prepared.values())).offset, mask=mask)
    return row


def _bits_of_held(master: Master, camera: Camera, shape: tuple[int, ...], library: Library) -> MaskPlane:
    """Return the bits of the pixels that a master of the library shows to be bad, by the limits of the camera now.

    Which were unstable only its frames could show, so that is as it was found then.
    """
    frame = load_master(library.root, master)
    if frame.pixels is None or frame.shape != shape:
        return np.zeros(shape, np.uint8)
    unstable = load_bad(library.root, master)
    bits: MaskPlane = (
        np.zeros(shape, np.uint8) if unstable is None else unstable & np.uint8(PixelFlag.UNSTABLE)
    )
    limits = camera.reduction.bad_pixels
    if master.kind == "dark":
        return bits | hot_pixels(frame.pixels, limits, frame.error)
    if master.kind == "flat":
        with np.errstate(divide="ignore"):
            response = np.asarray(np.float32(1.0) / frame.pixels, np.float32)
        return bits | dead_pixels(response, limits)
    return bits
