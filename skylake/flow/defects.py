"""Masks of bad pixels, as masters show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skylake.core.camera import Camera, Step
from skylake.core.flags import PixelFlag
from skylake.core.frame import MaskPlane
from skylake.flow.entries import Made, Maker, describe, write_entry
from skylake.flow.groups import split
from skylake.image.badpix import dead_pixels, hot_pixels
from skylake.image.library import Library, Master, choose, rules_of
from skylake.image.masterfile import MasterFrame, load_master


def bad_pixel_rows(maker: Maker, made: Sequence[Made], library: Library) -> list[dict[str, Any]]:
    """Make the masks of bad pixels that follow from masters.

    Hot pixels are those of darks, dead ones those of flats; unstable ones show in whatever has frames enough. Of a
    kind that was not made now the library's master counts, or the mask would be of half of the bad pixels. Each
    temperature of the detector has a mask of its own, since hot pixels depend on it.
    """
    by_use: dict[tuple[Any, ...], list[Made]] = {}
    for one in made:
        by_use.setdefault(one.use, []).append(one)
    return [
        _row_of_mask(maker, piece, temperature_c, library)
        for some in by_use.values()
        for temperature_c, piece in _of_one_temperature(some, maker.camera(some[0].group))
        if any(one.group.kind in ("dark", "flat") for one in piece)
    ]


def _of_one_temperature(some: Sequence[Made], camera: Camera) -> list[tuple[float | None, list[Made]]]:
    """Return masters in pieces of one temperature, each with it.

    What fits every temperature, as flats do as a rule, is in every piece.
    """
    reduction = camera.reduction
    any_flat = reduction.flat_temperature_tolerance_c is None

    def told(one: Made) -> float | None:
        return None if any_flat and one.group.kind == "flat" else one.group.temperature_c

    known = [one for one in some if told(one) is not None]
    if not known:
        return [(some[-1].group.temperature_c, list(some))]
    pieces = split(known, told, lambda _: reduction.temperature_tolerance_c)
    return [
        (
            float(np.median([degrees for one in piece if (degrees := told(one)) is not None])),
            [one for one in some if told(one) is None or one in piece],
        )
        for piece in pieces
    ]


def _row_of_mask(
    maker: Maker, some: Sequence[Made], temperature_c: float | None, library: Library
) -> dict[str, Any]:
    """Write the mask that follows from masters of one temperature and return its row."""
    mask: MaskPlane = np.load(some[-1].mask)
    same = [one for one in some if np.load(one.mask, mmap_mode="r").shape == mask.shape]
    for one in same:
        mask |= np.load(one.mask)
    camera = maker.camera(some[-1].group)
    held = _masters_of_other_kinds(some, temperature_c, library, camera)
    for master in held:
        mask |= _bits_of_held(load_master(library.root, master), camera, mask.shape)
    prepared = {file: one for each in same for file, one in each.prepared.items()}
    used = {master.name: master.sha256 for master in held}
    row = describe(maker, some[-1].group, prepared, kind="bad_pixels", used=used)
    row["temperature_c"] = temperature_c
    for name, bit in (("hot", PixelFlag.HOT), ("dead", PixelFlag.DEAD), ("unstable", PixelFlag.UNSTABLE)):
        row[f"n_{name}_px"] = int(np.count_nonzero(mask & np.uint8(bit)))
    row["n_bad_px"] = int(np.count_nonzero(mask))
    write_entry(maker, row, next(iter(prepared.values())).offset, mask=mask)
    return row


def _masters_of_other_kinds(
    some: Sequence[Made], temperature_c: float | None, library: Library, camera: Camera
) -> list[Master]:
    """Return the masters of the library that show bad pixels of the kinds that were not made."""
    wanted = replace(some[-1].group.first.wanted, exposure_s=0.0, temperature_c=temperature_c)
    # Hot pixels are seen whatever the exposure, and nothing is scaled.
    rules = replace(rules_of(camera.reduction), scalable=True)
    found: list[Master] = []
    kinds: set[Step] = {"dark", "flat"}
    for kind in kinds - {one.group.kind for one in some}:
        filters = sorted({one.filter or "" for one in library.masters if one.kind == kind})
        named = camera.reduction.use.get(kind)
        chosen = [
            choose(library.masters, kind, replace(wanted, filter=name or None), rules, named)
            for name in filters
        ]
        found += [one for one in chosen if isinstance(one, Master)][:1]
    return found


def _bits_of_held(master: MasterFrame, camera: Camera, shape: tuple[int, ...]) -> MaskPlane:
    if master.pixels is None or master.shape != shape:
        return np.zeros(shape, np.uint8)
    limits = camera.reduction.bad_pixels
    if master.kind == "dark":
        return hot_pixels(master.pixels, limits, master.error)
    with np.errstate(divide="ignore"):
        return dead_pixels(np.asarray(np.float32(1.0) / master.pixels, np.float32), limits)
