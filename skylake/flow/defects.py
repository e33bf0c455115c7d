"""Masks of bad pixels, as masters show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skylake.core.camera import Camera
from skylake.core.flags import PixelFlag
from skylake.core.frame import MaskPlane
from skylake.flow.entries import Made, Maker, describe, write_entry
from skylake.image.badpix import dead_pixels, hot_pixels
from skylake.image.library import Library, Master, Rules, choose
from skylake.image.masterfile import MasterFrame, load_master


def bad_pixel_rows(maker: Maker, made: Sequence[Made], library: Library) -> list[dict[str, Any]]:
    """Make the masks of bad pixels that follow from masters.

    Hot pixels are those of darks, dead ones those of flats; unstable ones show in whatever has frames enough. Of a
    kind that was not made now the library's master counts, or the mask would be of half of the bad pixels.
    """
    rows = []
    by_use: dict[tuple[Any, ...], list[Made]] = {}
    for one in made:
        by_use.setdefault(one.use, []).append(one)
    for some in by_use.values():
        if not any(one.group.kind in ("dark", "flat") for one in some):
            continue
        mask: MaskPlane = np.load(some[-1].mask)
        same = [one for one in some if np.load(one.mask, mmap_mode="r").shape == mask.shape]
        for one in same:
            mask |= np.load(one.mask)
        held = _masters_of_other_kinds(some, library)
        for master in held:
            mask |= _bits_of_held(load_master(library.root, master), maker.camera(some[-1].group), mask.shape)
        prepared = {file: one for each in same for file, one in each.prepared.items()}
        used = {master.name: master.sha256 for master in held}
        row = describe(maker, some[-1].group, prepared, kind="bad_pixels", used=used)
        for name, bit in (("hot", PixelFlag.HOT), ("dead", PixelFlag.DEAD), ("unstable", PixelFlag.UNSTABLE)):
            row[f"n_{name}_px"] = int(np.count_nonzero(mask & np.uint8(bit)))
        row["n_bad_px"] = int(np.count_nonzero(mask))
        write_entry(maker, row, next(iter(prepared.values())).offset, mask=mask)
        rows.append(row)
    return rows


def _masters_of_other_kinds(some: Sequence[Made], library: Library) -> list[Master]:
    """Return the masters of the library that show bad pixels of the kinds that were not made."""
    wanted = some[-1].group.first.wanted
    found: list[Master] = []
    for kind in {"dark", "flat"} - {one.group.kind for one in some}:
        filters = sorted({one.filter or "" for one in library.masters if one.kind == kind})
        chosen = [
            choose(library.masters, kind, replace(wanted, filter=name or None, exposure_s=1.0), Rules())
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
