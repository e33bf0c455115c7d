"""From prepared frames to the file and the row of a master."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np

from skylake.cameras import Profile
from skylake.core.camera import Camera
from skylake.core.flags import PixelFlag
from skylake.core.frame import MaskPlane, Pixels
from skylake.core.ids import config_sha256
from skylake.errors import LakeError, reason_of
from skylake.flow.calibration import PreparedFile, Term, combine_rows
from skylake.flow.cluster import Workers, run_in_windows
from skylake.flow.groups import Group, validity
from skylake.image.badpix import dead_pixels, hot_pixels, unstable_pixels
from skylake.image.combine import Combined, block_rows, join
from skylake.image.library import Library, Master, Rules, choose
from skylake.image.masterfile import MasterFrame, load_master, read_master, write_master
from skylake.image.masters import FlatForm, Quality, combine_options, differences, median_level
from skylake.image.skyframe import without_sources
from skylake.image.transfer import linearity, photon_transfer
from skylake.lake.layout import Layout
from skylake.revision import code_version

_DIGITS = 12
#: Pairs of frames behind a photon transfer, at most.
_PAIRS = 8
#: Differences of flats behind a master, at least: a single one would tell nothing of its error.
_LEAST_DIFFERENCES = 2
#: Parts of a flat's level by which the level of another lamp or twilight may differ.
_LEVEL_ERROR = 1e-3


@dataclass(frozen=True, slots=True)
class Maker:
    """What the making of masters shares."""

    layout: Layout
    profile: Profile
    workers: Workers
    form: FlatForm
    staging: Path

    def camera(self, group: Group) -> Camera:
        """Return the camera as it was when the frames of a group were taken."""
        return self.profile.at(group.mjd)


@dataclass(frozen=True, slots=True)
class Made:
    """A master that was made.

    Attributes
    ----------
    group : Group
    prepared : mapping
        The frames behind it, by file; their pixels may be gone.
    mask : Path
        Array of the bits of the pixels that it shows to be bad.
    row : dict
        Its row of ``masters``.
    """

    group: Group
    prepared: Mapping[str, PreparedFile]
    mask: Path
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def use(self) -> tuple[Any, ...]:
        """What masks and photon transfers have in common: chip, binning, night, period."""
        first = self.group.first
        return first.wanted.extension, first.wanted.binning, self.group.night, first.config_sha256


def image_master(maker: Maker, group: Group, prepared: Mapping[str, PreparedFile]) -> Made:
    """Combine prepared frames to a master, and write its file."""
    camera, files = maker.camera(group), list(prepared.values())
    form: FlatForm = maker.form if group.kind == "flat" else "plain"
    terms = _terms(group, files, form)
    combined = _combine(maker, group, terms, form)
    if form == "super":
        terms = _masked(maker, files, combined.mean, camera)
        combined = _combine(maker, group, terms, form)
    mean, error = combined.mean, combined.error
    if group.kind == "flat":
        # The median of the combined response is one, whatever the shapes of the single flats.
        level = np.float32(median_level(mean))
        mean, error = mean / level, error / level
    error = _with_errors_of_masters(maker, group, files, mean, error)
    quality = Quality.of(combined)
    row = _row(maker, group, prepared, kind=group.kind)
    row |= {
        "form": form if group.kind == "flat" else None,
        "filter": group.filter,
        "exposure_s": group.exposure_s,
        "n_used": quality.n_used,
        "rejected_fraction": quality.rejected_fraction,
        "level": 1.0 if group.kind == "flat" else quality.level,
        "noise": quality.noise,
        "flat_level_adu": float(np.median([one.level for one in files])) if group.kind == "flat" else None,
        "n_bad_px": quality.n_invalid_px,
    }
    _write(maker, row, files[0].offset, files[0].used, pixels=mean, error=error)
    mask = maker.staging / f"{row['name']}.npy"
    np.save(mask, _bad_bits(group, combined, camera))
    return Made(group, prepared, mask, row)


def _with_errors_of_masters(
    maker: Maker, group: Group, files: Sequence[PreparedFile], mean: Pixels, error: Pixels
) -> Pixels:
    """Return the error of a master with those of the masters that all its frames were reduced with."""
    total = error.astype(np.float32) ** 2
    level = float(np.median([one.level for one in files])) if group.kind == "flat" else 1.0
    for name in files[0].used:
        master = read_master(
            (maker.layout.calibrations(maker.profile.name) / f"{name}.fits").read_bytes(), name
        )
        if master.error is None or master.error.shape != mean.shape:
            continue
        scale = (
            (group.exposure_s or 0.0) / master.exposure_s
            if master.kind == "dark" and master.exposure_s
            else 1.0
        )
        total += (np.float32(scale / level) * master.error) ** 2
    return np.asarray(np.sqrt(total), np.float32)


def _bad_bits(group: Group, combined: Combined, camera: Camera) -> MaskPlane:
    """Return the bits of the pixels that a combination shows to be bad."""
    limits = camera.reduction.bad_pixels
    mask = unstable_pixels(combined, limits)
    if group.kind == "flat":
        mask |= dead_pixels(combined.mean, limits)
    elif group.kind == "dark":
        mask |= hot_pixels(combined.mean, limits)
    return mask


def _terms(group: Group, files: Sequence[PreparedFile], form: FlatForm) -> list[Term]:
    if group.kind != "flat":
        return [Term(one.path) for one in files]
    if form != "difference":
        return [Term(one.path, one.levels) for one in files]
    pairs = differences([one.level for one in files])
    terms = []
    for bright, faint in pairs:
        levels = tuple(a - b for a, b in zip(files[bright].levels, files[faint].levels, strict=True))
        if min(levels) > 0.1 * min(files[bright].levels):
            terms.append(Term(files[bright].path, levels, files[faint].path))
    if len(terms) < _LEAST_DIFFERENCES:
        raise LakeError(
            f"{group.text}: the flats give fewer than {_LEAST_DIFFERENCES} differences of a bright and a faint one; "
            "give more of both, or leave --form difference out"
        )
    return terms


def _combine(maker: Maker, group: Group, terms: Sequence[Term], form: FlatForm) -> Combined:
    """Combine rows on the workers; memory is bounded by a block, and by the master itself."""
    shape = np.load(terms[0].path, mmap_mode="r").shape
    step = shape[0] // 128 * 2 + 1
    samples = [term.rows(0, shape[0])[::step] for term in terms[:9]]
    options = combine_options(group.kind, samples, group.first.gain, form)
    task = dask.delayed(combine_rows, pure=False)
    makers = [partial(task, terms, rows, options) for rows in block_rows(len(terms), (shape[0], shape[1]))]
    pieces = run_in_windows(maker.workers, makers)
    for piece in pieces:
        if isinstance(piece, BaseException):
            raise LakeError(
                f"{group.text}: the frames could not be combined ({reason_of(piece, with_file=True)}); run again"
            ) from piece
    return join(pieces)


def _masked(maker: Maker, files: Sequence[PreparedFile], first: Pixels, camera: Camera) -> list[Term]:
    """Return frames of the sky without their sources, which are found by the flat that they gave at first."""
    terms = []
    for number, one in enumerate(files):
        pixels = without_sources(np.asarray(one.open()), first, camera.reduction.sky)
        path = maker.staging / "masked" / f"{one.path.parent.name}-{number:05d}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, pixels)
        terms.append(Term(path, one.levels))
    return terms


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
        row = _row(maker, some[-1].group, prepared, kind="bad_pixels", used=used)
        for name, bit in (("hot", PixelFlag.HOT), ("dead", PixelFlag.DEAD), ("unstable", PixelFlag.UNSTABLE)):
            row[f"n_{name}_px"] = int(np.count_nonzero(mask & np.uint8(bit)))
        row["n_bad_px"] = int(np.count_nonzero(mask))
        _write(maker, row, next(iter(prepared.values())).offset, mask=mask)
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
        return hot_pixels(master.pixels, limits)
    with np.errstate(divide="ignore"):
        return dead_pixels(np.asarray(np.float32(1.0) / master.pixels, np.float32), limits)


def transfer_row(maker: Maker, flat: Made, made: Sequence[Made]) -> dict[str, Any] | None:
    """Measure gain, read noise and linearity by the frames of a flat and the bias frames that go with it."""
    files = list(flat.prepared.values())
    biases = [
        file.path
        for one in made
        if one.group.kind == "bias" and one.use == flat.use
        for file in one.prepared.values()
    ]
    task = dask.delayed(measure_transfer, pure=False)
    (found,) = maker.workers.run([task([one.path for one in files], biases)])
    if isinstance(found, BaseException):
        raise LakeError(
            f"{flat.group.text}: gain and read noise could not be measured ({reason_of(found)}); run again"
        )
    if found is None:
        return None
    row = _row(maker, flat.group, flat.prepared, kind="transfer")
    row |= {name: found[name] for name in ("gain_e_per_adu", "gain_err", "read_noise_e", "read_noise_err")}
    row["filter"] = flat.group.filter
    row["flat_level_adu"] = float(np.median([one.level for one in files]))
    row |= _linearity(flat, files)
    _write(maker, row, files[0].offset, tables={"TRANSFER": found["curve"]})
    return row


def drop_pixels(made: Made) -> None:
    """Remove prepared pixels that are needed no more; a few bias frames wait for a photon transfer."""
    kept = 2 * _PAIRS if made.group.kind == "bias" else 0
    for one in list(made.prepared.values())[kept:]:
        one.path.unlink(missing_ok=True)


def _linearity(made: Made, files: Sequence[PreparedFile]) -> dict[str, float | None]:
    exposures = {one.file: one.wanted.exposure_s for one in made.group.frames}
    times = [exposures[file] for file in made.prepared]
    known = [time for time in times if time is not None]
    levels = np.array([one.level for one in files])
    found = linearity(levels, known, _LEVEL_ERROR * levels) if len(known) == len(times) else None
    if found is None:
        return {}
    return {"linearity_c2": found.coefficient, "linearity_c2_err": found.coefficient_err}


def measure_transfer(flats: Sequence[Path], biases: Sequence[Path]) -> dict[str, Any] | None:
    """Measure gain and read noise by pairs of prepared frames; the task of a worker."""

    def pairs(paths: Sequence[Path]) -> list[tuple[Pixels, Pixels]]:
        there = [path for path in paths if path.exists()]
        some = [np.load(path, mmap_mode="r") for path in there[: 2 * _PAIRS]]
        return list(zip(some[0::2], some[1::2], strict=False))

    found = photon_transfer(pairs(flats), pairs(biases))
    if found is None:
        return None
    return {
        "gain_e_per_adu": found.gain,
        "gain_err": found.gain_err,
        "read_noise_e": _number(found.read_noise),
        "read_noise_err": _number(found.read_noise_err),
        "curve": {"LEVEL": found.levels, "VARIANCE": found.variances},
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _row(
    maker: Maker,
    group: Group,
    prepared: Mapping[str, PreparedFile],
    kind: str,
    used: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what the row of every master tells."""
    used = {name: sha256 for one in prepared.values() for name, sha256 in one.used.items()} | dict(used or {})
    inputs = {file: one.sha256 for file, one in sorted(prepared.items())} | dict(sorted(used.items()))
    first = group.first
    valid_from, valid_to = validity(group, maker.profile)
    return {
        "camera": maker.profile.name,
        "kind": kind,
        "night": group.night,
        "extension": first.wanted.extension,
        "binning": first.wanted.binning,
        "filter": None,
        "exposure_s": None,
        "temperature_c": group.temperature_c,
        "mjd_mid": group.mjd,
        "valid_from_mjd": valid_from,
        "valid_to_mjd": valid_to,
        "n_frames": len(prepared),
        "inputs": json.dumps(inputs, sort_keys=True),
        # Paths change when an archive is moved; what a frame holds does not.
        "inputs_sha256": config_sha256({"inputs": sorted(inputs.values())}),
        "config_sha256": first.config_sha256,
        "software_version": code_version(),
    }


def _write(
    maker: Maker, row: dict[str, Any], offset: tuple[int, int], used: Iterable[str] = (), **content: Any
) -> None:
    """Write the file of a master into the library, and complete its row."""
    cards = {
        "KIND": (row["kind"], "kind of master"),
        "CAMERA": row["camera"],
        "FILTER": row["filter"],
        "EXPTIME": (row["exposure_s"], "[s] exposure of the frames"),
        "BINNING": row["binning"],
        "CCDTEMP": (row["temperature_c"], "[deg C] median temperature"),
        "MJD-AVG": (row["mjd_mid"], "mean time of the frames, UTC"),
        "NFRAMES": row["n_frames"],
        "OFFSETX": (offset[0], "raw pixel of the first pixel"),
        "OFFSETY": (offset[1], "raw pixel of the first pixel"),
        "INPUTS": row["inputs_sha256"],
        **{f"MASTER{number}": name for number, name in enumerate(used, start=1)},
    }
    plane = content.get("pixels") if content.get("pixels") is not None else content.get("mask")
    if plane is not None:
        row["height_px"], row["width_px"] = plane.shape
    folder = maker.layout.calibrations(maker.profile.name)
    partial_file = maker.staging / "master.fits"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        row["sha256"] = write_master(partial_file, cards, **content)
        row["name"] = f"{row['camera']}-{row['kind']}-{row['night']:08d}-{row['sha256'][:_DIGITS]}"
        target = folder / f"{row['name']}.fits"
        partial_file.replace(target)
    except OSError as error:
        raise LakeError(
            f"{folder}: the masters cannot be written ({reason_of(error)}); mend permissions or free space"
        ) from error
    row["file"] = target.relative_to(maker.layout.root).as_posix()
    row["file_bytes"] = target.stat().st_size
