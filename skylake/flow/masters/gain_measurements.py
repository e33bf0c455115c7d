"""Gain, read noise and linearity of a camera, measured by its flats and bias frames: rows of the library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np

from skylake.core.camera import Camera
from skylake.core.frame import Pixels
from skylake.errors import LakeError, reason_of
from skylake.flow.masters.master_entries import BuiltMaster, MasterBuilder, describe, write_entry
from skylake.image.combine.make_masters import steps_for
from skylake.image.combine.photon_transfer import Floats, Linearity, bias_variance, linearity, photon_transfer
from skylake.image.detrend.detrend_steps import delinearised
from skylake.image.masters.master_library import Library, Master, MasterRules, choose, same_gain, same_readout

#: Pairs of frames behind a photon transfer, at most.
_PAIRS = 8
#: Parts of a flat's level by which the level of another lamp or twilight may differ.
_LEVEL_ERROR = 1e-3
#: Relative nonlinearity assumed for an unknown response, at the level of the brightest flat.
_UNKNOWN_RESPONSE = 0.01


def transfer_row(
    builder: MasterBuilder, flat: BuiltMaster, made: Sequence[BuiltMaster], library: Library
) -> dict[str, Any] | None:
    """Measure gain, read noise and linearity by the frames of a flat, and bias frames or a master of such."""
    files = list(flat.prepared.values())
    biases = _biases(flat, made)
    held = None if biases else _held_bias(flat, library, builder.camera(flat.group).reduction.use.get("bias"))
    task = dask.delayed(measure_transfer, pure=False)
    camera = builder.camera(flat.group)
    response = _linearity(flat, camera)
    linear = _linearity_row(response)
    curvature = _curvature(linear, camera, max(file.level for file in files))
    paths = [file.path for file in files]
    (transfer,) = builder.workers.run([task(paths, biases, _read_variance(held, flat), curvature)])
    if isinstance(transfer, BaseException):
        raise LakeError(
            f"{flat.group.text}: gain and read noise could not be measured ({reason_of(transfer)}); run again"
        )
    if transfer is None:
        return None
    used = {} if held is None else {held.name: held.sha256}
    row = describe(builder, flat.group, flat.prepared, kind="transfer", used=used)
    row |= {name: transfer[name] for name in ("gain_e_per_adu", "gain_err", "read_noise_e", "read_noise_err")}
    row["filter"] = flat.group.filter
    row["flat_level_adu"] = float(np.median([file.level for file in files]))
    row |= linear
    tables = transfer["tables"] | ({} if response is None else {"LINEARITY": _response_table(response)})
    write_entry(builder, row, files[0].offset, tables=tables)
    return row


def _biases(flat: BuiltMaster, made: Sequence[BuiltMaster]) -> list[Path]:
    """Return the prepared bias frames nearest in time that are of the chip, readout and period of a flat."""

    def alike(master: BuiltMaster) -> bool:
        here, there = master.group.first, flat.group.first
        same = here.wanted.extension == there.wanted.extension and here.wanted.binning == there.wanted.binning
        gain = same_gain(master.group.header_gain, flat.group.header_gain)
        readout = same_readout(here.wanted.readout, there.wanted.readout)
        return same and gain and readout and here.config_sha256 == there.config_sha256

    def distance(master: BuiltMaster) -> tuple[bool, float]:
        away = abs((master.group.mjd or 0.0) - (flat.group.mjd or 0.0))
        return master.group.night != flat.group.night, away

    fit = [master for master in made if master.group.kind == "bias" and alike(master)]
    return [file.path for file in min(fit, key=distance).prepared.values()] if fit else []


def _held_bias(flat: BuiltMaster, library: Library, named: Sequence[str] | None) -> Master | None:
    """Return the master bias of the library that fits a flat and gives the noise of its frames."""
    measured = [master for master in library.masters if master.read_noise_e and master.read_noise_err]
    bias = choose(measured, "bias", flat.group.first.wanted, MasterRules(), named)
    return bias if isinstance(bias, Master) else None


def _read_variance(bias: Master | None, flat: BuiltMaster) -> tuple[float, float] | None:
    """Return the variance of a pixel of the frames behind a master bias, and its error, ADU^2."""
    if bias is None or not bias.read_noise_e or not bias.read_noise_err:
        return None
    variance = (bias.read_noise_e / flat.group.first.gain) ** 2
    return variance, 2.0 * variance * bias.read_noise_err / bias.read_noise_e


def read_noise(builder: MasterBuilder, bias: BuiltMaster) -> dict[str, float | None]:
    """Return the read noise that the frames of a master bias show, by the gain in header or profile."""
    task = dask.delayed(measure_bias, pure=False)
    (result,) = builder.workers.run([task([file.path for file in bias.prepared.values()])])
    if isinstance(result, BaseException):
        raise LakeError(
            f"{bias.group.text}: the read noise could not be measured ({reason_of(result)}); run again"
        )
    variance, error = result
    if not variance > 0.0:
        return {}
    noise = float(np.sqrt(variance)) * bias.group.first.gain
    return {"read_noise_e": noise, "read_noise_err": 0.5 * noise * error / variance}


def drop_pixels(made: BuiltMaster) -> None:
    """Remove prepared pixels that are no longer needed; a few bias frames are kept for a photon transfer."""
    needed = 2 * _PAIRS if made.group.kind == "bias" else 0
    for file in list(made.prepared.values())[needed:]:
        file.path.unlink(missing_ok=True)


def _curvature(linear: dict[str, float | None], camera: Camera, brightest: float) -> tuple[float, float]:
    """Return c2 that prepared flats still have, and its error: as measured, or as in the profile, or unknown.

    The error of an unknown c2 is the nonlinearity that detectors may have at the level of the brightest flat: the gain
    is then known to three times that share, unless flats of other levels show more.
    """
    curve = camera.detector.linearity
    applied = curve[0] if curve and "linearity" in steps_for("flat", camera.reduction) else 0.0
    c2, error = linear.get("linearity_c2"), linear.get("linearity_c2_err")
    if c2 is not None and error is not None:
        return c2 - applied, error
    if curve:
        return curve[0] - applied, 0.0
    return 0.0, _UNKNOWN_RESPONSE / brightest if brightest > 0.0 else 0.0


def _linearity(made: BuiltMaster, camera: Camera) -> Linearity | None:
    """Return the response to light before any correction, whatever the profile had the flats corrected by."""
    exposures = {frame.file: frame.wanted.exposure_s for frame in made.group.frames}
    times = [exposures[file] for file in made.prepared]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return None
    curve = camera.detector.linearity
    applied = curve if "linearity" in steps_for("flat", camera.reduction) else ()
    seen = np.array([delinearised(file.levels, applied).mean() for file in made.prepared.values()])
    return linearity(seen, known, _LEVEL_ERROR * seen, curve[1:]) if np.isfinite(seen).all() else None


def _linearity_row(fit: Linearity | None) -> dict[str, float | None]:
    if fit is None:
        return {}
    return {"linearity_c2": fit.coefficient, "linearity_c2_err": fit.coefficient_err}


def _response_table(fit: Linearity) -> dict[str, Floats]:
    order = np.argsort(fit.levels, kind="stable")
    columns = {"LEVEL": fit.levels, "RATIO": fit.ratios, "RATIO_ERR": fit.errors, "FIT": fit.fitted}
    return {name: values[order] for name, values in columns.items()}


def _pairs(paths: Sequence[Path]) -> list[tuple[Pixels, Pixels]]:
    some = [np.load(path, mmap_mode="r") for path in [path for path in paths if path.exists()][: 2 * _PAIRS]]
    return list(zip(some[0::2], some[1::2], strict=False))


def measure_bias(paths: Sequence[Path]) -> tuple[float, float]:
    """Return the variance of a pixel of prepared bias frames and its error; the task of a worker."""
    return bias_variance(_pairs(paths))


def measure_transfer(
    flats: Sequence[Path],
    biases: Sequence[Path],
    read_variance: tuple[float, float] | None = None,
    curvature: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any] | None:
    """Measure gain and read noise by pairs of prepared frames; the task of a worker."""
    transfer = photon_transfer(_pairs(flats), _pairs(biases), read_variance, curvature)
    if transfer is None:
        return None
    curve = transfer.curve
    return {
        "gain_e_per_adu": transfer.gain,
        "gain_err": transfer.gain_err,
        "read_noise_e": _number(transfer.read_noise),
        "read_noise_err": _number(transfer.read_noise_err),
        "tables": {
            "TRANSFER": {"LEVEL": transfer.levels, "VARIANCE": transfer.variances},
            "TILES": {
                "LEVEL": curve.level,
                "VARIANCE": curve.variance,
                "VARIANCE_ERR": curve.variance_err,
                "FIT": curve.fitted,
            },
        },
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
