"""Options that name a part of the sky: a cone, or a coverage map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion
from skylake.cli.arguments import declination, radius_arcsec, right_ascension

if TYPE_CHECKING:
    from skylake.sky.sky_region import SkyRegion

Cone = tuple[float, float, float]
Option = Callable[[Any], Any]


def cone(text: Any) -> Cone:
    """Read a cone: right ascension and declination in degrees, and a radius in arcseconds."""
    words = str(text).replace(",", " ").split()
    if len(words) != 3:
        raise click.BadParameter(f"{text!r} is no cone; write RA,DEC,ARCSEC, as in 188.7,-1.4,1800")
    return right_ascension(words[0]), declination(words[1]), radius_arcsec(words[2])


def cone_option(help_text: str) -> Option:
    """Return the option --cone."""
    return click.option("--cone", type=cone, metavar="RA,DEC,ARCSEC", help=help_text)


def moc_option(help_text: str) -> Option:
    """Return the option --moc."""
    return click.option(
        "--moc",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help=help_text,
        shell_complete=completion.files,
    )


def sky_region(cone: Cone | None, moc: Path | None) -> SkyRegion:
    """Return the part of the sky that is named; all of it if none is.

    Raises
    ------
    UsageError
        If two are, or a coverage map cannot be read.
    """
    from skylake.errors import UsageError
    from skylake.sky.sky_region import SkyRegion

    if cone is not None and moc is not None:
        raise UsageError("--cone and --moc name two parts of the sky; give one of them")
    if cone is not None:
        return SkyRegion.of_cone(cone[0], cone[1], cone[2] / 3600.0)
    return SkyRegion.whole() if moc is None else SkyRegion.of_moc(moc)
