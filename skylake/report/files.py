"""Write maps and light curves in formats of astronomy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.durable import replacing
from skylake.revision import VERSION


def write_healpix_fits(
    path: Path,
    values: npt.NDArray[np.float64],
    order: int,
    name: str,
    unit: str,
    cards: Sequence[tuple[str, Any, str]],
) -> None:
    """Write a NESTED map in equatorial coordinates as healpy reads it; NaN becomes UNSEEN.

    The cards follow the HEALPix convention for FITS: PIXTYPE, ORDERING, NSIDE, INDXSCHM, COORDSYS.
    """
    import healpy
    from astropy.io import fits

    nside = 2**order
    filled = np.where(np.isfinite(values), values, healpy.UNSEEN).astype(np.float32)
    column = fits.Column(name=name.upper(), format="E", array=filled, unit=unit or None)
    table = fits.BinTableHDU.from_columns([column], name=name.upper())
    standard = (
        ("PIXTYPE", "HEALPIX", "HEALPix pixels"),
        ("ORDERING", "NESTED", "order of the pixels"),
        ("NSIDE", nside, "resolution"),
        ("FIRSTPIX", 0, "first pixel"),
        ("LASTPIX", 12 * nside**2 - 1, "last pixel"),
        ("INDXSCHM", "IMPLICIT", "the row number is the pixel"),
        ("OBJECT", "FULLSKY", "the whole sky"),
        ("COORDSYS", "C", "equatorial coordinates, ICRS"),
        ("BAD_DATA", float(np.float32(healpy.UNSEEN)), "value of pixels without data"),
        ("CREATOR", f"skylake {VERSION}", "software"),
    )
    for card in (*standard, *cards):
        table.header[card[0]] = card[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as stream:
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(stream)
