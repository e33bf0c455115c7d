"""Divide files into tasks so that all workers finish at about the same time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

#: A night, or another group that files belong to.
Night = TypeVar("Night")

#: Pieces of frames for each worker, at least; towards the end a piece is what remains divided by this number of pieces
#: for each worker.
_EACH, _LEFT_EACH = 4, 2


def shared_out(files: Sequence[str], count: int, most: int) -> list[Sequence[str]]:
    """Return files in pieces that give each worker the same number, to within one file per piece.

    Parameters
    ----------
    files : sequence of str
    count : int
        Number of workers.
    most : int
        Files in a piece, at most.
    """
    pieces = count * -(-len(files) // (most * count))
    ends = [len(files) * k // pieces for k in range(pieces + 1)] if files else [0]
    return [files[start:end] for start, end in pairwise(ends) if end > start]


def shrinking_pieces(
    nights: Mapping[Night, Sequence[str]], count: int, most: int, few: bool = False
) -> list[tuple[Night, list[str]]]:
    """Return the files of nights in pieces, each of one night, which become small towards the end.

    Parameters
    ----------
    nights : mapping to sequence of str
        Files of each night, or of each piece of one.
    count : int
        Number of workers.
    most : int
        Files in a piece, at most.
    few : bool
        Whether pieces are to be as few as there are workers, if they hold so many.
    """
    left = sum(len(files) for files in nights.values())
    largest = max(1, min(most, math.ceil(left / ((1 if few else _EACH) * count))))
    pieces = []
    for night, files in nights.items():
        start = 0
        while start < len(files):
            # A single worker does not wait for others.
            size = largest if few or count == 1 else min(largest, math.ceil(left / (_LEFT_EACH * count)))
            pieces.append((night, list(files[start : start + size])))
            left -= len(pieces[-1][1])
            start += size
    return pieces
