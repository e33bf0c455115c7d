"""Find bias frames of several levels, as of two settings of the detector that no card distinguishes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skylake.core.robust import sigma_mad
from skylake.flow.masters.master_tasks import PreparedFile

#: Levels with a gap of so many times the noise of a pixel are of different settings; drifts leave no such gap.
_GAP = 10.0
#: Noise below that of rounding to whole ADU says nothing of it.
_LEAST_NOISE_ADU = 0.3
#: Pixels from which the noise is measured, about.
_SAMPLE = 200_000
#: Files of a level that a sentence names.
_NAMED = 3


def of_one_level(prepared: Mapping[str, PreparedFile]) -> list[list[str]]:
    """Return prepared bias frames in pieces of one level, the one of most frames first.

    Parameters
    ----------
    prepared : mapping
        By file.

    Returns
    -------
    list of list of str
        Files; levels of two pieces differ by more than ten times the noise of a pixel.
    """
    order = sorted(prepared, key=lambda file: prepared[file].level)
    pieces = [order[:1]] if order else []
    for before, file in itertools.pairwise(order):
        gap = prepared[file].level - prepared[before].level
        if gap > _GAP * _LEAST_NOISE_ADU and gap > _GAP * _noise(prepared, pieces[-1], before, file):
            pieces.append([])
        pieces[-1].append(file)
    return sorted(pieces, key=len, reverse=True)


def _noise(prepared: Mapping[str, PreparedFile], piece: Sequence[str], before: str, file: str) -> float:
    """Return the noise of a pixel of frames below a gap, ADU: by a pair of them, else by the two beside the gap.

    A difference of frames is free of the pattern that both have.
    """
    first = prepared[piece[-2] if len(piece) > 1 else file].open()
    second = prepared[before].open()
    step = max(1, math.isqrt(first.size // _SAMPLE))
    difference = np.asarray(second[::step, ::step] - first[::step, ::step], np.float64)
    finite = difference[np.isfinite(difference)]
    noise = sigma_mad(finite) / math.sqrt(2.0) if finite.size else math.inf
    return max(noise, _LEAST_NOISE_ADU)


def several_levels(prepared: Mapping[str, PreparedFile], pieces: Sequence[Sequence[str]]) -> str:
    """Return which frames have which level, as part of a sentence."""
    texts = []
    for piece in pieces:
        names = ", ".join(Path(file).name for file in piece[:_NAMED])
        more = f" and {len(piece) - _NAMED} more" if len(piece) > _NAMED else ""
        level = float(np.median([prepared[file].level for file in piece]))
        texts.append(f"{level:.0f} ADU ({names}{more})")
    return " and ".join(texts)
