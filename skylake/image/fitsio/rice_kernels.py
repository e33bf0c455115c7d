"""Kernels of Rice decompression of the tiles of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

#: Zeros before the first one in each byte.
_ZEROS = np.array([8] + [8 - value.bit_length() for value in range(1, 256)], np.uint8)
#: Bits after the end of a tile of which a decoder may look at some ahead.
_AHEAD = 8
_BYTE, _TOP = np.uint64(8), np.uint64(56)


@kernel
def unpack_tiles(
    data: Bytes, starts: Places, lengths: Places, tile: tuple[int, int], block: int, bits: int, out: Any
) -> int:
    """Decode the tiles of an image, each from its own bytes (White & Becker 1998; FITS standard 4.0, 10.4.1).

    Parameters
    ----------
    data : ndarray of uint8, shape (n,)
    starts, lengths : ndarray of int64, shape (tiles,)
        Where in the data the bytes of each tile are, and how many; the caller makes sure that they are there.
    tile : tuple of int
        Rows and columns of a tile; those at the upper ends are smaller.
    block : int
        Pixels that have the number of their plain bits in common.
    bits : int
        Bits of a pixel: 8, 16 or 32.
    out : ndarray of uint8, uint16 or uint32, shape (height, width)
        Written: the bits of the pixels.

    Returns
    -------
    int
        The first tile whose bytes end too early, or -1.
    """
    height, width = out.shape
    across = -(-width // tile[1])
    line = np.empty(min(tile[0], height) * min(tile[1], width), np.int32)
    for number in range(starts.size):
        y, x = number // across * tile[0], number % across * tile[1]
        rows, columns = min(tile[0], height - y), min(tile[1], width - x)
        here = data[starts[number] : starts[number] + lengths[number]]
        if not _unpack(here, line[: rows * columns], block, bits):
            return number
        for row in range(rows):
            target, source = out[y + row, x : x + columns], line[row * columns : (row + 1) * columns]
            for k in range(columns):
                target[k] = source[k]
    return -1


@kernel
def _unpack(data: Bytes, out: Any, block: int, bits: int) -> bool:
    """Decode one tile; return whether its bytes were enough."""
    few = 3 if bits == 8 else 4 if bits == 16 else 5
    plain = 6 if bits == 8 else 14 if bits == 16 else 25
    # The next bits are the upper ones of a word, of which so many are known.
    word, known, place = _fill(data, np.uint64(0), 0, 0)
    last = np.int32(word >> np.uint64(64 - bits))
    word, known = word << np.uint64(bits), known - bits
    first = 0
    while first < out.size:
        word, known, place = _fill(data, word, known, place)
        split = int(word >> np.uint64(64 - few)) - 1
        word, known = word << np.uint64(few), known - few
        stop = min(first + block, out.size)
        if split < 0:
            out[first:stop] = last
        elif split >= plain:
            word, known, place, last = _plain_block(data, (word, known, place), bits, last, out[first:stop])
        else:
            word, known, place, last = _block(data, (word, known, place), split, last, out[first:stop])
        if 8 * place - known > 8 * data.size:
            return False
        first = stop
    return True


@kernel
def _fill(data: Bytes, word: Any, known: int, place: int) -> tuple[Any, int, int]:
    """Return the word with more than 32 bits known, how many, and where the next bytes are."""
    if known > 32:
        return word, known, place
    return word | (_four(data, place) << np.uint64(32 - known)), known + 32, place + 4


@kernel
def _four(data: Bytes, place: int) -> Any:
    """Return four bytes as a number; beyond the end of the data there are zeros."""
    four = np.uint64(0)
    if place + 4 <= data.size:
        for k in range(4):
            four = (four << _BYTE) | np.uint64(data[place + k])
        return four
    for k in range(4):
        four = (four << _BYTE) | np.uint64(data[place + k] if place + k < data.size else 0)
    return four


@kernel
def _plain_block(data: Bytes, state: Any, bits: int, last: Any, out: Any) -> Any:
    """Decode pixels whose differences are written with all bits."""
    word, known, place = state
    for k in range(out.size):
        word, known, place = _fill(data, word, known, place)
        value = np.int32(word >> np.uint64(64 - bits))
        word, known = word << np.uint64(bits), known - bits
        last = np.int32(last + _signed(value))
        out[k] = last
    return word, known, place, last


@kernel
def _block(data: Bytes, state: Any, split: int, last: Any, out: Any) -> Any:
    """Decode pixels whose differences are written as so many zeros, a one, and some plain bits."""
    word, known, place = state
    shift, rest, low_bit = split + 1, np.uint64(63 - split), np.int32(1 << split)
    for k in range(out.size):
        # What _fill does; as a call it would take twice as long.
        if known <= 32:
            word |= _four(data, place) << np.uint64(32 - known)
            known, place = known + 32, place + 4
        zeros, many = int(_ZEROS[word >> _TOP]), 0
        while zeros == 8:
            many += 8
            word, known, place = _fill(data, word << _BYTE, known - 8, place)
            if place > data.size + _AHEAD:
                return word, known, place, last
            zeros = int(_ZEROS[word >> _TOP])
        # The one and the plain bits; what is above the one is nothing.
        value = np.int32((word << np.uint64(zeros)) >> rest) ^ low_bit
        value |= np.int32((many + zeros) << split)
        word, known = word << np.uint64(zeros + shift), known - zeros - shift
        last = np.int32(last + _signed(value))
        out[k] = last
    return word, known, place, last


@kernel
def _signed(value: Any) -> Any:
    """Return 0, -1, 1, -2 … for 0, 1, 2, 3 …, which are the bits of a number without sign."""
    return np.int32(((value >> np.int32(1)) & np.int32(0x7FFFFFFF)) ^ -(value & np.int32(1)))
