"""Detrending of raw frames: the steps that a camera profile names, in its order.

Saturation is judged on raw pixels. Steps that are linear in the pixels are gathered and done in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from skylake.core.camera import Camera, Step
from skylake.core.corrections import correction, corrections_of
from skylake.core.flags import PixelFlag
from skylake.core.frame import Image, MaskPlane, Pixels, RawImage, SkyPlane, StoredImage, TakenSky, Unread
from skylake.core.reasons import Reason
from skylake.core.response_settings import ResponseError
from skylake.errors import FrameFailed
from skylake.image.detrend.bayer_planes import bayer_cells, take_mask, take_plane
from skylake.image.detrend.blank_blocks import blank_unread
from skylake.image.detrend.cosmic_rays import find_cosmic_rays, find_in_bayer
from skylake.image.detrend.detrend_steps import (
    linearise,
    overscan_level,
    reference_correction,
    trim_window,
    unlit_level,
)
from skylake.image.detrend.linear_pass import LinearPass, decode, run_again, run_pass, unlit_variance
from skylake.image.detrend.linear_pass_kernels import mark_invalid
from skylake.image.detrend.repair_pixels import repair
from skylake.image.fitsio.memory_maps import give_back
from skylake.image.masters.master_file import MasterFrame

_BAD = PixelFlag.HOT | PixelFlag.DEAD | PixelFlag.UNSTABLE
_ZERO_STEPS = ("overscan", "unlit", "reference", "bias")
#: With one of these, and a zero level that is taken off, the photons in a pixel are known, and so is its variance.
_VARIANCE_STEPS = ("bias", "dark", "flat")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the steps need of a frame apart from its pixels.

    Attributes
    ----------
    saturation_adu : float or None
        Raw level from which a pixel counts as saturated.
    gain : float
        Electrons per ADU of a raw pixel.
    read_noise : float
        Electrons, rms, of a raw pixel.
    gain_known : bool
        Whether the gain is known: from the header, the profile or a photon transfer.
    exposure_s : float or None
    masters : mapping
        Masters by kind.
    sky : callable or None
        Gives the sky of the frame from the frame as it is before that step.
    """

    saturation_adu: float | None = None
    gain: float = 1.0
    read_noise: float = 0.0
    exposure_s: float | None = None
    masters: Mapping[str, MasterFrame] = field(default_factory=dict)
    sky: Callable[[Image], SkyPlane] | None = None
    gain_known: bool = False


def detrend_image(
    raw: RawImage | StoredImage,
    camera: Camera,
    conditions: Conditions | float | None,
    until: Step | None = None,
) -> Image:
    """Prepare the raw image of a camera for measurement. The raw image is not changed.

    A pixel that is not finite, beyond all measure or not read out, or whose row has no overscan that is finite, is
    masked and filled with the median of the image.

    Parameters
    ----------
    raw : RawImage or StoredImage
    camera : Camera
    conditions : Conditions, float or None
        A number is the saturation level alone.
    until : str or None
        Step before which to end.

    Raises
    ------
    FrameFailed
        ``wrong_size`` if the image has not the size in the profile or a master does not cover it,
        ``no_valid_pixels`` if no pixel is finite, ``no_master`` if a step lacks its master.
    """
    if not isinstance(conditions, Conditions):
        conditions = Conditions(saturation_adu=conditions)
    source = raw if isinstance(raw, StoredImage) else StoredImage(raw.pixels, raw.header, raw.extension)
    refuse_other_size(source.shape, camera)
    steps = camera.reduction.steps
    if until is not None and until in steps:
        steps = steps[: steps.index(until)]
    return _Chain(source, camera, conditions, steps).run()


def refuse_other_size(shape: tuple[int, int], camera: Camera) -> None:
    """Refuse a raw image, by its height and width, that has not the size in the profile.

    Raises
    ------
    FrameFailed
        ``wrong_size``.
    """
    if camera.image_shape is not None and shape != camera.image_shape:
        (height, width), detector = shape, camera.detector
        values = corrections_of({"detector.width_px": width, "detector.height_px": height})
        raise FrameFailed(
            Reason.WRONG_SIZE,
            f"the image has {width} x {height} pixels and {camera.name} has {detector.width_px} x "
            f"{detector.height_px}; use the profile of its camera, or "
            f"{correction(values)}",
            values,
        )


def _begin_after(steps: tuple[Step, ...], camera: Camera) -> tuple[int, bool]:
    """Return the step after which the photons in a pixel are known, and whether it is a dark with that level in it.

    Where no step takes the zero level off, it is the number of steps: a pedestal must not pass for photons.
    """
    detector = camera.detector
    has_overscan = detector.overscan_x is not None or detector.overscan_y is not None
    zero = [
        number
        for number, step in enumerate(steps)
        if step in _ZERO_STEPS and (step != "overscan" or has_overscan)
    ]
    if zero and set(steps) & set(_VARIANCE_STEPS):
        return max(zero), False
    if not zero and "dark" in steps:
        return steps.index("dark"), True
    return len(steps), False


class _Chain:
    """An image on its way through the steps."""

    def __init__(
        self, source: StoredImage, camera: Camera, conditions: Conditions, steps: tuple[Step, ...]
    ) -> None:
        self.source, self.camera, self.conditions, self.steps = source, camera, conditions, steps
        height, width = source.shape
        # Trimming costs nothing if it comes first; no other step that is linear in the pixels looks beside its pixel.
        whole = slice(0, height), slice(0, width)
        self.window = trim_window(source.shape, camera.detector) if "trim" in steps else whole
        rows, columns = self.window
        self.offset: tuple[float, float] = (columns.start, rows.start)
        self.raw_step, self.begun = 1, False
        self.mask: MaskPlane = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        self.pixels: Pixels | None = None
        self.variance: Pixels | None = None
        self.read_variance: float | None = None
        self.response_error: ResponseError | None = None
        self.taken = TakenSky()
        self.begin_after, self.zero_in_dark = _begin_after(steps, camera)
        #: Squared error of the zero level of a row, ADU^2, and what of it each row has for itself.
        self.level_variance, self.row_variance, self.invalid_rows = 0.0, 0.0, 0
        self.unread: Unread | None = None
        # Whether something else than a pass, which marks what is no number, has changed the pixels since.
        self.touched = False
        self.work = self._fresh_work(first=True)

    def run(self) -> Image:
        """Do all steps and return the image."""
        for number, step in enumerate(self.steps):
            # Only steps at or after the last that changes the zero level know the photons in a pixel.
            if number >= self.begin_after and not self.begun and step not in (*_ZERO_STEPS, "trim"):
                self._begin()
            getattr(self, f"_{step}")()
            if number == self.begin_after and not self.begun:
                self._begin()
        pixels = self._finished()
        return self._image(pixels)

    def _image(self, pixels: Pixels) -> Image:
        return Image(
            pixels,
            self.mask,
            self.offset,
            self.variance,
            self.raw_step,
            self.read_variance,
            self.taken,
            self.response_error,
            self.row_variance,
            self.unread,
        )

    def _fresh_work(self, first: bool = False) -> LinearPass:
        if not first:
            return LinearPass()
        levels = self.conditions.saturation_adu, self.camera.detector.linearity_adu
        saturation, linearity = (np.inf if level is None else level for level in levels)
        return LinearPass(saturation, linearity)

    def _begin(self) -> None:
        """Let the variance begin with the pass that is being gathered."""
        gain = self.conditions.gain
        self.begun = True
        self.work.begins = True
        self.work.inverse_gain = 1.0 / gain
        self.work.read_variance = (self.conditions.read_noise / gain) ** 2 + self.level_variance
        self.variance = np.empty(self.mask.shape, np.float32)
        if self.conditions.gain_known:
            self.read_variance = self.work.read_variance

    def _flushed(self) -> Pixels:
        """Do the pass that was gathered, and return the pixels."""
        if self.pixels is None:
            self.pixels, self.invalid_rows = run_pass(
                self.source, self.window, self.work, self.mask, self.variance
            )
            self.unread = blank_unread(self.pixels, self.source, self.window, self.conditions.saturation_adu)
            self.touched = self.unread is not None
        elif not self.work.is_empty:
            self.invalid_rows = run_again(self.pixels, self.work, self.mask, self.variance)
            self.touched = False
        if self.read_variance is not None:
            self.read_variance = unlit_variance(self.read_variance, self.pixels, self.work)
        self.work = self._fresh_work()
        return self.pixels

    def _touch(self) -> Pixels:
        """Do the pass that was gathered, and return the pixels to be changed in place."""
        pixels = self._flushed()
        self.touched = True
        return pixels

    def _finished(self) -> Pixels:
        """Do what was gathered, and return pixels that are finite everywhere."""
        pixels = self._flushed()
        if self.touched:
            self.invalid_rows = mark_invalid(pixels, self.mask)
        if self.invalid_rows:
            invalid = (self.mask & np.uint8(PixelFlag.INVALID)) != 0
            if invalid.all():
                raise FrameFailed(
                    Reason.NO_VALID_PIXELS,
                    f"no pixel holds a valid number in HDU {self.source.extension}; the exposure was not read out: "
                    "leave the file out, or correct its BSCALE, BZERO and BLANK",
                )
            pixels[invalid] = np.median(pixels[~invalid])
            if self.variance is not None:
                self.variance[invalid] = np.median(self.variance[~invalid])
        return pixels

    def _master(self, kind: str) -> MasterFrame:
        """Return a master cut to the window.

        Raises
        ------
        FrameFailed
            ``no_master`` if there is none; ``wrong_size`` if it does not cover the image.
        """
        master = self.conditions.masters.get(kind)
        if master is None:
            raise FrameFailed(
                Reason.NO_MASTER,
                f"the step {kind} has no master; make one with `skylake calib build`, or take the step out of "
                "reduction.steps",
            )
        rows, columns = self.window
        height, width = master.shape
        y, x = rows.start - master.offset[1], columns.start - master.offset[0]
        if y < 0 or x < 0 or y + self.mask.shape[0] > height or x + self.mask.shape[1] > width:
            raise FrameFailed(
                Reason.WRONG_SIZE,
                f"the master of kind {kind} has {width} x {height} pixels and does not cover the image; build it anew "
                "under the present profile",
            )
        here = slice(y, y + self.mask.shape[0]), slice(x, x + self.mask.shape[1])
        return replace(
            master,
            pixels=None if master.pixels is None else master.pixels[here],
            error=None if master.error is None else master.error[here],
            mask=None if master.mask is None else master.mask[here],
        )

    def _trim(self) -> None:
        """Nothing is left to do: the window is that of the trimmed image from the beginning."""

    def _overscan(self) -> None:
        zero = overscan_level(self.source, self.camera.detector)
        if zero is not None:
            self.work.levels, self.level_variance = zero.levels[self.window[0]], zero.error**2
            self.row_variance = zero.own_error**2

    def _unlit(self) -> None:
        zero = unlit_level(self.source, self.camera.detector)
        self.work.levels, self.level_variance = zero.levels[self.window[0]], zero.error**2

    def _reference(self) -> None:
        detector = self.camera.detector
        level = reference_correction(
            decode(self.source), detector.reference_border_px, detector.reference_channels
        )
        pixels = self._touch()
        pixels -= level[self.window]

    def _bias(self) -> None:
        master = self._master("bias")
        self.work.bias, self.work.bias_err = _plane(master.pixels), _plane(master.error)

    def _dark(self) -> None:
        master, scale = self._master("dark"), 1.0
        if "bias" in self.steps:
            if not master.exposure_s or self.conditions.exposure_s is None:
                raise FrameFailed(
                    Reason.NO_MASTER,
                    "the exposure of the frame or of its dark is unknown, so the dark cannot be scaled",
                )
            scale = self.conditions.exposure_s / master.exposure_s
        elif self.zero_in_dark:
            # It is zero level and dark current in one, and what is above it is light.
            self.work.bias, self.work.bias_err = _plane(master.pixels), self._error_of_zero(master)
            return
        self.work.dark, self.work.dark_err = _plane(master.pixels), _plane(master.error)
        self.work.dark_scale = scale
        bias = self.conditions.masters.get("bias")
        if bias is not None and bias.name and bias.name in master.used:
            # raw - bias - s (dark frames - bias): the error of the bias counts with 1 - s, and is in that of the dark.
            self.work.bias_weight = 1.0 - 2.0 * scale

    def _error_of_zero(self, master: MasterFrame) -> Pixels | None:
        """Return the error of a dark that has the zero level in it, with the shot noise of the frame's own current.

        The excess of the noise of single darks over read noise gives the current that all pixels have; what a pixel
        exceeds the others by gives the rest.
        """
        if master.pixels is None:
            return None
        gain, read = self.conditions.gain, self.conditions.read_noise / self.conditions.gain
        square = np.zeros(1, np.float32) if master.error is None else master.error**2
        shared = max(float(np.nanmedian(square)) * master.n_frames - read**2, 0.0)
        excess = np.maximum(master.pixels - np.float32(np.nanmedian(master.pixels)), 0.0) / np.float32(gain)
        return np.ascontiguousarray(np.sqrt(square + np.float32(shared) + excess), np.float32)

    def _linearity(self) -> None:
        linearise(self._touch(), self.variance, self.camera.detector.linearity)

    def _flat(self) -> None:
        master = self._master("flat")
        self.work.inverse_flat, self.work.flat_err = _plane(master.pixels), _plane(master.error)
        whole = self.conditions.masters["flat"]
        if whole.gradient is not None:
            self.response_error = ResponseError(whole.gradient, whole.offset, whole.shape)

    def _bad_pixels(self) -> None:
        master = self._master("bad_pixels")
        assert master.mask is not None
        pixels = self._touch()
        mark_invalid(pixels, self.mask)
        self.mask |= master.mask
        give_back(master.mask)
        repair(pixels, self.mask, _BAD, self._stride())

    def _stride(self) -> int:
        """Return how far apart pixels of one colour are, along rows and columns."""
        return 2 if self.camera.detector.bayer_pattern and self.raw_step == 1 else 1

    def _bayer(self) -> None:
        pixels = self._touch()
        mark_invalid(pixels, self.mask)
        detector, colour = self.camera.detector, self.camera.reduction.colour
        cells = bayer_cells(detector.bayer_pattern or "", colour, self.offset)
        self.pixels, (x, y) = take_plane(pixels, cells)
        self.mask = take_mask(self.mask, cells)
        if self.variance is not None:
            self.variance = take_plane(self.variance, cells)[0] / np.float32(len(cells))
        if self.read_variance is not None:
            self.read_variance /= len(cells)
        self.row_variance /= len(cells)
        # The mean has the electrons of all these pixels in it, and fewer ADU than their sum.
        gain, noise = self.conditions.gain * len(cells), self.conditions.read_noise * len(cells) ** 0.5
        self.conditions = replace(self.conditions, gain=gain, read_noise=noise)
        self.offset, self.raw_step = (self.offset[0] + x, self.offset[1] + y), 2

    def _cosmic_rays(self) -> None:
        pixels = self._finished()
        image = self._image(pixels)
        conditions, params = self.conditions, self.camera.reduction.cosmic_rays
        find = find_in_bayer if self._stride() > 1 else find_cosmic_rays
        hits = find(image, params, conditions.gain, conditions.read_noise)
        self.mask |= hits * np.uint8(PixelFlag.COSMIC_RAY)
        repair(pixels, self.mask, PixelFlag.COSMIC_RAY, self._stride())

    def _sky(self) -> None:
        pixels = self._finished()
        if self.conditions.sky is None:
            raise FrameFailed(
                Reason.NO_SKY_FRAME,
                "the step sky needs the neighbours of the frame; ingest the night as a whole",
            )
        sky = self.conditions.sky(self._image(pixels))
        self.touched, self.taken = True, TakenSky(sky.level, sky.one_sided)
        pixels -= sky.pixels
        if self.variance is not None:
            square = sky.error**2
            self.variance += square
            if self.read_variance is not None:
                self.read_variance += float(np.median(square, overwrite_input=True))
        self.mask |= sky.unknown * np.uint8(PixelFlag.REPAIRED)


def _plane(pixels: Pixels | None) -> Pixels | None:
    return None if pixels is None else np.ascontiguousarray(pixels, np.float32)
