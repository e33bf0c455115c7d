"""Linear detrending in one pass over the pixels: decoding, zero level, bias, dark and flat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.frame import FileContent, MaskPlane, Pixels, RawImage, StoredImage
from skylake.image.detrend.linear_pass_kernels import reduce_floats, reduce_integers
from skylake.image.fitsio.memory_maps import give_back
from skylake.image.fitsio.read_fits import open_stored

_NOTHING = np.zeros((0, 0), np.float32)
_NO_LEVELS = np.zeros(0, np.float32)
#: Rows that are done at a time: what masters take of memory is given back after each.
_STRIP_ROWS = 512
#: Of so many rows and columns one is enough to give the usual variance of an image; fewer rows of a large one.
_SAMPLE_PX, _SAMPLE_ROWS = 8, 64


@dataclass(slots=True)
class LinearPass:
    """The operations of one pass over the pixels; planes have the shape of the window.

    Attributes
    ----------
    saturation_adu, linearity_adu : float
        Raw levels from which pixels are marked; infinite for none.
    levels : ndarray of float32, shape (rows,), or None
        Zero level of each row; None for none, as all that follow.
    bias, bias_err, dark, dark_err, inverse_flat, flat_err : ndarray of float32 or None
        Masters and their errors; the flat is given as 1/flat, with the error of the flat itself.
    dark_scale : float
        Exposure of the frame in units of that of the dark.
    bias_weight : float
        Weight of the squared error of the bias in the variance: 1, but where the dark was made with the same bias.
    read_variance : float
        Square of the read noise, ADU^2.
    inverse_gain : float
        ADU per electron.
    begins : bool
        Whether the variance begins with this pass: read noise, and photons of what is above the zero level.
    """

    saturation_adu: float = np.inf
    linearity_adu: float = np.inf
    levels: Pixels | None = None
    bias: Pixels | None = None
    bias_err: Pixels | None = None
    dark: Pixels | None = None
    dark_err: Pixels | None = None
    inverse_flat: Pixels | None = None
    flat_err: Pixels | None = None
    dark_scale: float = 0.0
    bias_weight: float = 1.0
    read_variance: float = 0.0
    inverse_gain: float = 0.0
    begins: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether pixels that are decoded already stay as they are."""
        planes = (self.levels, self.bias, self.dark, self.inverse_flat)
        return all(plane is None for plane in planes) and not self.begins

    @property
    def numbers(self) -> tuple[np.float32, ...]:
        """The numbers as the kernels want them."""
        values = (
            self.saturation_adu,
            self.linearity_adu,
            self.dark_scale,
            self.read_variance,
            self.inverse_gain,
            float(self.begins),
            self.bias_weight,
        )
        return tuple(np.float32(value) for value in values)

    @property
    def planes(self) -> tuple[Pixels, ...]:
        """The planes as the kernels want them."""
        planes = (
            self.bias,
            self.bias_err,
            self.dark,
            self.dark_err,
            self.inverse_flat,
            self.flat_err,
        )
        levels = _NO_LEVELS if self.levels is None else self.levels
        return levels, *(_NOTHING if plane is None else plane for plane in planes)

    def strips(self, out: tuple[Any, ...]) -> Iterator[tuple[int, tuple[Pixels, ...], tuple[Any, ...]]]:
        """Yield the first row, the planes and the output of one strip of rows after the other."""
        planes = self.planes
        for start in range(0, out[0].shape[0], _STRIP_ROWS):
            rows = slice(start, start + _STRIP_ROWS)
            yield start, tuple(plane[rows] for plane in planes), tuple(part[rows] for part in out)
            for plane in planes:
                give_back(plane)


def run_pass(
    source: StoredImage,
    window: tuple[slice, slice],
    work: LinearPass,
    mask: MaskPlane,
    variance: Pixels | None,
) -> tuple[Pixels, int]:
    """Decode a window of stored pixels and do the work on them.

    Parameters
    ----------
    source : StoredImage
        It is not changed.
    window : tuple of slice
        Rows and columns that are wanted.
    work : LinearPass
    mask : ndarray of uint8, shape of the window
        Gets the bits SATURATED, NEAR_SATURATED and INVALID.
    variance : ndarray of float32 or None
        Changed in place.

    Returns
    -------
    pixels : ndarray of float32
        NaN where the file says so, or a master has no value.
    n_rows : int
        Rows with pixels that are invalid.
    """
    rows, columns = window
    pixels = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    out = (pixels, mask, _NOTHING if variance is None else variance)
    stored, corner = source.stored, (rows.start, columns.start)
    if stored.dtype.kind in "iu" and stored.dtype.itemsize == 2:
        blank = (0.0, 0.0) if source.blank is None else (1.0, float(source.blank))
        form = _singles(_swapped(stored), stored.dtype.kind == "i", source.scale, source.zero, *blank)
        words = _bits(stored, np.uint16)
        count = 0
        for start, planes, part in work.strips(out):
            here = corner[0] + start, corner[1]
            count += reduce_integers(words, form, here, work.numbers, planes, part)
        return pixels, count
    if stored.dtype.kind != "f" or stored.dtype.itemsize != 4:
        source, stored = _converted(source)
    form = _singles(_swapped(stored), source.scale, source.zero)
    return pixels, _reduce_floats(_bits(stored, np.uint32), form, corner, work, out)


def run_again(pixels: Pixels, work: LinearPass, mask: MaskPlane, variance: Pixels | None) -> int:
    """Do more work on pixels, in place; return the number of rows with pixels that are invalid."""
    out = (pixels, mask, _NOTHING if variance is None else variance)
    return _reduce_floats(pixels.view(np.uint32), _singles(0.0, 1.0, 0.0), (0, 0), work, out)


def _reduce_floats(bits: Any, form: Any, corner: tuple[int, int], work: LinearPass, out: Any) -> int:
    count = 0
    for start, planes, part in work.strips(out):
        here = corner[0] + start, corner[1]
        count += reduce_floats(bits, form, here, work.numbers, planes, part, part[0].view(np.uint32))
    return count


def unlit_variance(before: float, pixels: Pixels, work: LinearPass) -> float:
    """Return what the usual variance of a pixel has after a pass that is not photons of its light.

    That is read noise and the errors of masters, of which that of a flat goes with the square of the sky.

    Parameters
    ----------
    before : float
        The same before the pass, ADU^2.
    pixels : ndarray of float32
        After the pass.
    work : LinearPass
        The operations that were done.
    """
    step = max(_SAMPLE_PX, pixels.shape[0] // _SAMPLE_ROWS)
    some = slice(step // 2 if pixels.shape[0] > step else 0, None, step), slice(None, None, _SAMPLE_PX)

    def square(plane: Pixels | None) -> Any:
        if plane is None:
            return 0.0
        sample = plane[some].astype(float) ** 2
        give_back(plane)
        return sample

    dark = work.dark_scale**2 * square(work.dark_err)
    unlit = before + work.bias_weight * square(work.bias_err) + dark
    if work.inverse_flat is not None:
        unlit = (unlit + square(pixels) * square(work.flat_err)) * square(work.inverse_flat)
    finite = np.asarray(unlit)[np.isfinite(unlit)]
    return float(np.median(finite)) if finite.size else before


def decode(source: StoredImage, window: tuple[slice, slice] | None = None) -> Pixels:
    """Return stored pixels as native float32, all of them or a window."""
    height, width = source.shape
    rows, columns = window or (slice(0, height), slice(0, width))
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    return run_pass(source, (rows, columns), LinearPass(), mask, None)[0]


def open_image(content: FileContent, extension: int | str | None = None) -> RawImage:
    """Decode the image of a file to native float32; parameters and errors are those of `open_stored`."""
    stored = open_stored(content, extension)
    return RawImage(decode(stored), stored.header, stored.extension, stored.n_further)


def _converted(source: StoredImage) -> tuple[StoredImage, Any]:
    """Return an image of other numbers as one of native floats: 32-bit integers need the longer mantissa."""
    work = np.float32 if source.stored.dtype.itemsize <= 2 else np.float64
    # What does not fit becomes infinite or NaN, and is masked.
    with np.errstate(over="ignore", invalid="ignore"):
        pixels: npt.NDArray[np.floating[Any]] = source.stored.astype(work)
        if source.scale != 1.0:
            pixels *= work(source.scale)
        if source.zero != 0.0:
            pixels += work(source.zero)
        if source.blank is not None:
            pixels[source.stored == source.blank] = np.nan
        floats = pixels.astype(np.float32, copy=False)
    return StoredImage(floats, source.header, source.extension, source.n_further), floats


def _swapped(stored: Any) -> bool:
    return bool(stored.dtype.newbyteorder("=") != stored.dtype)


def _bits(stored: Any, kind: Any) -> Any:
    """Return the bits of an array as native unsigned integers that lie as they did."""
    return np.ascontiguousarray(stored).view(kind)


def _singles(*values: float) -> tuple[np.float32, ...]:
    return tuple(np.float32(value) for value in values)
