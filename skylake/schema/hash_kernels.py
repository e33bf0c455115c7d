"""Compiled hash functions for digests of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Words = npt.NDArray[np.uint64]

# Multipliers and shifts of the finalizer of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195).
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


@kernel
def scramble(words: Words, salt: np.uint64) -> Words:
    """Return each word, after it met the salt and was spread and mixed; all words of one salt stay apart.

    Parameters
    ----------
    words : ndarray of uint64, shape (rows,)
    salt : uint64
        The same word gives another one under another salt.

    Returns
    -------
    ndarray of uint64, shape (rows,)
    """
    mixed = np.empty(words.size, np.uint64)
    for row in range(words.size):
        word = (words[row] ^ salt) * _SPREAD
        word = (word ^ (word >> _SHIFTS[0])) * _FIRST
        word = (word ^ (word >> _SHIFTS[1])) * _SECOND
        mixed[row] = word ^ (word >> _SHIFTS[2])
    return mixed


@kernel
def mix(words: Words) -> Words:
    """Return each word mixed; zero stays zero.

    Parameters
    ----------
    words : ndarray of uint64, shape (rows,)

    Returns
    -------
    ndarray of uint64, shape (rows,)
    """
    mixed = np.empty(words.size, np.uint64)
    for row in range(words.size):
        word = words[row]
        word = (word ^ (word >> _SHIFTS[0])) * _FIRST
        word = (word ^ (word >> _SHIFTS[1])) * _SECOND
        mixed[row] = word ^ (word >> _SHIFTS[2])
    return mixed
