"""Why no pattern of stars fits a picture, in a sentence with what may help."""

from __future__ import annotations

import math

from skylake.image.solving.solve_parameters import SolveParams

#: Width of the widest pictures that patterns are made for.
WIDEST_DEG = 60.0


def too_few(n_sources: int, n_needed: int) -> str:
    """Return why so few usable sources are not searched for."""
    sources = {0: "no usable source is", 1: "1 usable source is"}.get(
        n_sources, f"{n_sources} usable sources are"
    )
    return (
        f"{sources} too few to find where the frame points, {n_needed} are needed: "
        "clouds, a short exposure, or too high a threshold of detection"
    )


def why_no_pattern(
    params: SolveParams, n_guesses: int, best: float, timed_out: bool, beyond: str | None
) -> str:
    """Return how far a search came, and what may help.

    Parameters
    ----------
    params : SolveParams
    n_guesses : int
    best : float
        Log odds of the best guess; minus infinity if there was none.
    timed_out : bool
    beyond : str or None
        What :func:`beyond_patterns` says.
    """
    spent = f"among {n_guesses} guesses"
    advice = beyond or "check the scale, and that the catalog is as deep as the frame"
    if timed_out:
        spent = f"within {params.seconds:g} s"
        advice = beyond or "allow more seconds, or give scale or centre more closely"
    odds = "no guess came near"
    if math.isfinite(best):
        odds = f"the best guess has log odds of {best:.1f}, {params.log_odds:g} are needed"
    return f"no star pattern fits {spent}; {odds}; {advice}"


def beyond_patterns(
    params: SolveParams, shape: tuple[int, int], narrowest_deg: float, tried: bool, index: str = ""
) -> str | None:
    """Return what to do about pictures that are wider or narrower than the patterns are for; None if they fit.

    Parameters
    ----------
    params : SolveParams
    shape : tuple of int
        Height and width of the picture.
    narrowest_deg : float
        Width of the narrowest pictures that the index is made for.
    tried : bool
        Whether any pattern was looked up.
    index : str
        The lake and the catalog of the index, as a command takes them; empty if unknown.
    """
    longest, side = max(shape) / 3600.0, math.sqrt(shape[0] * shape[1]) / 3600.0
    if params.scale_low and params.scale_low * longest > WIDEST_DEG / 1.2:
        return (
            f"pictures of {params.scale_low * longest:.3g} degrees and more are wider than patterns are made for, "
            f"{WIDEST_DEG:g}; for a camera that looks up give site and time, and --all-sky or astrometry.all_sky"
        )
    if params.scale_high and params.scale_high * side < narrowest_deg:
        low, high = (params.scale_low or 0.0) * side, params.scale_high * side
        width = f"{low:.2g} to {high:.2g}" if low else f"at most {high:.2g}"
        return (
            f"the picture is {width} degrees wide, and the index has stars for those from {narrowest_deg:.2g}; if the "
            f"catalog is deep enough, `skylake catalog index {index or 'LAKE NAME'} --scales {low or high:.2g} "
            f"{WIDEST_DEG:g}` makes one for it"
        )
    if not tried:
        width = "" if not params.scale_high else f" of {params.scale_high * longest:.3g} degrees and less"
        return f"the index has too few stars for pictures{width}; make it with --scales for them, of a deeper catalog"
    return None
