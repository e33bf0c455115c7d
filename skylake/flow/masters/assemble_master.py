"""Combine prepared frames into the file and the row of a master."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import dask
import numpy as np

from skylake.core.camera import Camera
from skylake.core.frame import MaskPlane, Pixels
from skylake.core.response_settings import Gradient
from skylake.errors import LakeError, reason_of
from skylake.flow.execution.cluster import run_in_windows
from skylake.flow.masters.master_entries import BuiltMaster, MasterBuilder, describe, write_entry
from skylake.flow.masters.master_groups import MasterGroup
from skylake.flow.masters.master_tasks import PreparedFile, Term, coarse_term, combine_rows, hide_sources
from skylake.image.combine.bad_pixels import dead_pixels, hot_pixels, unstable_pixels
from skylake.image.combine.combine_frames import Combined, block_rows, join
from skylake.image.combine.flat_gradients import chance_gradient
from skylake.image.combine.make_masters import FlatForm, Quality, combine_options, differences, median_level
from skylake.image.masters.master_file import gradient_cards, read_master
from skylake.image.masters.master_library import rules_of

#: Differences of flats behind a master, at least: a single one would give no error.
_LEAST_DIFFERENCES = 2
#: Flats of which there are so many.
DIFFERENCE_FLATS = 2 * _LEAST_DIFFERENCES
#: Of the variance of a flat so much is noise of its pixels, whatever its gradients.
_LEAST_NOISE = 0.1
#: Frames and rows, or twice as many, from which the noise is measured.
_SAMPLES, _SAMPLE_ROWS = 9, 128


def image_master(
    builder: MasterBuilder, group: MasterGroup, prepared: Mapping[str, PreparedFile]
) -> BuiltMaster:
    """Combine prepared frames to a master, and write its file."""
    camera, files = builder.camera(group), list(prepared.values())
    form: FlatForm = builder.form if group.kind == "flat" else "plain"
    terms = _terms(group, prepared, form)
    combined = _combine(builder, group, terms, form)
    if form == "super":
        terms = _masked(builder, group, terms, combined.mean)
        combined = _combine(builder, group, terms, form)
    mean, variance = combined.mean, combined.error**2
    variance += _variance_of_masters(builder, terms, files[0].used, mean.shape, camera)
    cards: dict[str, Any] = {}
    if group.kind == "flat":
        # Neighbours have it in common, so it is no noise of pixels, though the scatter of flats holds it too.
        gradient = _chance_gradient(builder, group, terms)
        cards = gradient_cards(gradient)
        y, x = (np.linspace(-1.0, 1.0, size, dtype=np.float32) for size in mean.shape)
        shared = mean**2 * gradient.variance(x[None, :], y[:, None]).astype(np.float32)
        variance = np.maximum(variance - shared, np.float32(_LEAST_NOISE) * variance)
        # The median of the combined response is one, whatever the shapes of the single flats.
        level = np.float32(median_level(mean))
        mean, variance = mean / level, variance / level**2
    error = np.asarray(np.sqrt(variance), np.float32)
    quality = Quality.of(combined)
    row = describe(builder, group, prepared, kind=group.kind)
    row |= {
        "form": form if group.kind == "flat" else None,
        "filter": group.filter,
        "exposure_s": group.exposure_s,
        "n_used": quality.n_used,
        "rejected_fraction": quality.rejected_fraction,
        "level": 1.0 if group.kind == "flat" else quality.level,
        "noise": median_level(error),
        "flat_level_adu": float(np.median([file.level for file in files])) if group.kind == "flat" else None,
        "n_bad_px": quality.n_invalid_px,
    }
    bad = _bad_bits(group, combined, camera)
    # A later mask cannot see from the mean which pixels were unstable.
    write_entry(builder, row, files[0].offset, files[0].used, cards, pixels=mean, error=error, bad=bad)
    mask = builder.staging / f"{row['name']}.npy"
    np.save(mask, bad)
    return BuiltMaster(group, prepared, mask, row)


def _variance_of_masters(
    builder: MasterBuilder, terms: Sequence[Term], used: Iterable[str], shape: tuple[int, ...], camera: Camera
) -> Pixels:
    """Return the variance that a master has from those that all its frames were reduced with.

    A master that is subtracted from all frames counts as often as it is in the terms, so that the bias does not count
    at all in differences of flats.
    """
    weights = [term.weight for term in terms]
    zero = float(np.average([term.zero for term in terms], weights=weights))
    seconds = float(np.average([term.seconds for term in terms], weights=weights))
    folder = builder.layout.calibrations(builder.profile.name)
    masters = [read_master((folder / f"{name}.fits").read_bytes(), name) for name in used]
    darks = [master for master in masters if master.kind == "dark"]
    scalable = rules_of(camera.reduction).scalable
    total = np.zeros(shape, np.float32)
    for master, name in zip(masters, used, strict=True):
        if master.error is None or master.error.shape != shape:
            continue
        weight = zero**2
        if master.kind == "dark" and scalable:
            weight = (seconds / master.exposure_s) ** 2 if master.exposure_s else 0.0
        elif master.kind == "bias":
            # A bias that is in the dark as well partly cancels; the error of the dark contains the rest.
            part = sum(seconds / dark.exposure_s for dark in darks if name in dark.used and dark.exposure_s)
            weight = zero**2 - 2.0 * zero * part
        total += np.float32(weight) * master.error**2
    return np.maximum(total, np.float32(0.0), out=total)


def _chance_gradient(builder: MasterBuilder, group: MasterGroup, terms: Sequence[Term]) -> Gradient:
    """Return what the mean of flats has of a gradient by chance, since the light of each has another one."""
    step = _step(terms)
    task = dask.delayed(coarse_term, pure=False)
    maps = results_of(builder, group, [partial(task, term, step) for term in terms])
    return chance_gradient(maps, [term.weight for term in terms])


def _bad_bits(group: MasterGroup, combined: Combined, camera: Camera) -> MaskPlane:
    """Return the bits of the pixels that a combination shows to be bad."""
    limits = camera.reduction.bad_pixels
    mask = unstable_pixels(combined, limits)
    if group.kind == "flat":
        mask |= dead_pixels(combined.mean, limits)
    elif group.kind == "dark":
        mask |= hot_pixels(combined.mean, limits, combined.error)
    return mask


def _terms(group: MasterGroup, prepared: Mapping[str, PreparedFile], form: FlatForm) -> list[Term]:
    """Return the terms to combine; the noise of flats is that of their light, so their weight is their level."""
    if group.kind != "flat":
        return [Term(file.path) for file in prepared.values()]
    exposures = {frame.file: frame.wanted.exposure_s or 0.0 for frame in group.frames}
    files, seconds = list(prepared.values()), [exposures[file] for file in prepared]
    if form != "difference":
        return [
            Term(file.path, file.levels, None, file.level, 1.0 / file.level, time / file.level)
            for file, time in zip(files, seconds, strict=True)
        ]
    terms = []
    for bright, faint in differences([file.level for file in files]):
        levels = tuple(a - b for a, b in zip(files[bright].levels, files[faint].levels, strict=True))
        if min(levels) > 0.1 * min(files[bright].levels):
            level, light = sum(levels) / len(levels), files[bright].level + files[faint].level
            time = (seconds[bright] - seconds[faint]) / level
            terms.append(Term(files[bright].path, levels, files[faint].path, level**2 / light, 0.0, time))
    if len(terms) < _LEAST_DIFFERENCES:
        raise LakeError(
            f"{group.text}: the flats give fewer than {_LEAST_DIFFERENCES} differences of a bright and a faint one; "
            "give more of both, or leave --form difference out"
        )
    return terms


def _step(terms: Sequence[Term]) -> int:
    """Return the step between the rows of a sample."""
    return int(np.load(terms[0].path, mmap_mode="r").shape[0] // _SAMPLE_ROWS * 2 + 1)


def _combine(builder: MasterBuilder, group: MasterGroup, terms: Sequence[Term], form: FlatForm) -> Combined:
    """Combine rows on the workers; memory is bounded by a block, and by the master itself."""
    shape = np.load(terms[0].path, mmap_mode="r").shape
    samples = [term.sample(_step(terms)) for term in terms[:_SAMPLES]]
    options = combine_options(group.kind, samples, group.first.gain, form)
    task = dask.delayed(combine_rows, pure=False)
    makers = [partial(task, terms, rows, options) for rows in block_rows(len(terms), (shape[0], shape[1]))]
    return join(results_of(builder, group, makers))


def _masked(builder: MasterBuilder, group: MasterGroup, terms: Sequence[Term], first: Pixels) -> list[Term]:
    """Return frames of the sky without their sources, which are found by the flat that they gave at first."""
    folder = builder.staging / "masked" / terms[0].path.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    flat, params = folder / "flat.npy", builder.camera(group).reduction.sky
    np.save(flat, first)
    task = dask.delayed(hide_sources, pure=False)
    makers = [partial(task, term.path, flat, params, folder / term.path.name) for term in terms]
    paths = results_of(builder, group, makers)
    return [replace(term, path=path) for term, path in zip(terms, paths, strict=True)]


def results_of(builder: MasterBuilder, group: MasterGroup, makers: Sequence[Callable[[], Any]]) -> list[Any]:
    """Return the results of tasks.

    Raises
    ------
    LakeError
        If one of them fails, or its worker dies.
    """
    results = run_in_windows(builder.workers, makers)
    for result in results:
        if isinstance(result, BaseException):
            raise LakeError(
                f"{group.text}: the frames could not be combined ({reason_of(result, with_file=True)}); run again"
            ) from result
    return results
