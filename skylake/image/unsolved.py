"""Why a picture was not solved, in words: how far the search came, and what may help."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skylake.image.solve import SolveParams

#: Wider pictures are tried, but star patterns are not made for them; degrees.
WIDEST_DEG = 60.0


def explanation(
    params: SolveParams, shape: tuple[int, int], n_guesses: int, best: float, timed_out: bool, tried: bool
) -> str:
    """Return how far a search came, and what may help.

    Parameters
    ----------
    params : SolveParams
    shape : tuple of int
        Height and width of the picture.
    n_guesses : int
    best : float
        Log odds of the best guess; minus infinity if there was none.
    timed_out : bool
    tried : bool
        Whether the index has patterns for such pictures, and the picture enough sources for them.
    """
    spent = f"within {params.seconds:g} s" if timed_out else f"among {n_guesses} guesses"
    odds = "no guess came near"
    if math.isfinite(best):
        odds = f"the best guess has log odds of {best:.1f}, {params.log_odds:g} are needed"
    return f"no star pattern fits {spent}; {odds}; {_mend(params, shape, timed_out, tried)}"


def _mend(params: SolveParams, shape: tuple[int, int], timed_out: bool, tried: bool) -> str:
    longest = max(shape) / 3600.0
    # A scale is told to a fifth.
    if params.scale_low and params.scale_low * longest > WIDEST_DEG / 1.2:
        return (
            f"pictures of {params.scale_low * longest:.3g} degrees and more are wider than patterns are made for, "
            f"{WIDEST_DEG:g}; for a camera that looks up tell site and time, and --all-sky or astrometry.all_sky"
        )
    if timed_out:
        return "allow more seconds, or tell scale or centre more closely"
    if not tried:
        told = "" if not params.scale_high else f" of {params.scale_high * longest:.3g} degrees and less"
        return f"the index has too few stars for pictures{told}; make it with --scales for them, of a deeper catalog"
    return "check the scale, and that the catalog is as deep as the frame"
