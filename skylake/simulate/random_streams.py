"""Random numbers that follow from names, so that any piece can be made alone and in any order."""

from __future__ import annotations

import numpy as np

from skylake.core.ids import content_id


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of one piece of a simulation.

    Parameters
    ----------
    seed : int
        Seed of the scenario.
    *names : str or int
        What the numbers are for, such as ``"noise", 20240407, 12``. Different names give independent
        numbers; the same names always give the same.
    """
    entropy = content_id(str(seed), *(str(name) for name in names))
    return np.random.Generator(np.random.SFC64(entropy))
