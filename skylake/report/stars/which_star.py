"""Which star a light curve is of, for headers of files and for who asked by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Catalogs that stand for none: of detections, and of targets that no catalog has.
_NO_CATALOG = ("sources", "detections")
#: A star farther than this from a position may be another one than was meant.
_DOUBTFUL_ARCSEC = 3.0
#: What is said of light curves that are relative.
RELATIVE_NOTE = (
    "light curves are relative to the stars of each field, as no catalog places the frames: magnitudes have no zero "
    "point, and places are about where the cards of the telescope put the frames"
)
#: So many identifiers that are unknown are named.
_NAMED = 5


def which_star(curve: Mapping[str, Any]) -> str:
    """Return identifier, catalog and position of the star of a light curve in words.

    Parameters
    ----------
    curve : dict
        As of :func:`skylake.report.curves.curve_of_object`.
    """
    relative = (
        ", magnitudes relative to the stars of its field" if curve.get("measured") == "relative" else ""
    )
    return f"{_named(curve)} at {curve['ra_deg']:.5f} {curve['dec_deg']:+.5f}{relative}"


def found_at_position(curve: Mapping[str, Any]) -> str:
    """Return which star was found at the position that was asked for; empty for a star that was named."""
    separation = curve.get("separation_arcsec")
    if separation is None:
        return ""
    words = [_named(curve)]
    if magnitude := _magnitude(curve):
        words.append(magnitude)
    words.append(f"{separation:.1f} arcsec from the position")
    return ", ".join(words)


def doubt_about_star(curve: Mapping[str, Any]) -> str:
    """Return what is doubtful about the star that was found; empty if it is at the position, or alone."""
    others = curve.get("n_others", 0)
    if curve.get("separation_arcsec", 0.0) <= _DOUBTFUL_ARCSEC or not others:
        return ""
    stars = "another star is" if others == 1 else f"{others} other stars are"
    return (
        f"{stars} within the radius; if you mean one of them, write its position or identifier more exactly"
    )


def unknown_identifiers(unknown: Sequence[str], n_all: int, reach_arcsec: float) -> str:
    """Return of which stars of a table the positions count, although it has identifiers."""
    more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
    return (
        f"{len(unknown)} of {n_all} identifiers in the column object_id name no star of the lake within "
        f"{reach_arcsec:g} arcsec of the position beside them, so there the position counts: "
        f"{', '.join(unknown[:_NAMED])}{more}"
    )


def best_fluxes(curve: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each band whose magnitudes are not from the flux of the zeropoints.

    Only of a curve whose flux was chosen as ``best``.
    """
    used = [(band.get("camera"), band["band"], band.get("flux_used")) for band in curve["bands"]]
    return [
        f"{'' if camera is None else f'{camera} '}{band}: magnitudes from flux_{flux}, the most repeatable flux for "
        "stars this bright"
        for camera, band, flux in used
        if flux is not None
    ]


def _named(curve: Mapping[str, Any]) -> str:
    catalog = curve["catalog"]
    return f"star {curve['object_id']} of {'no catalog' if catalog in _NO_CATALOG else catalog}"


def _magnitude(curve: Mapping[str, Any]) -> str:
    """Return how bright the star is in its first band, as measured or else as its catalog has it."""
    for band in curve["bands"]:
        for name in ("mag_median", "ref_mag"):
            if band.get(name) is not None:
                return f"{band['band']} {band[name]:.2f} mag"
    return ""
