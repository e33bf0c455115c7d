"""Cards of the primary header that an image in an extension has too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from skylake.image.fitsio.read_fits import open_stored, peek_header, read_file


def written(path: Path, inherit: bool | None, with_image: bool = False) -> Path:
    primary = fits.PrimaryHDU(np.zeros((4, 4), np.int16) if with_image else None)
    primary.header.update(
        {"DATE-OBS": "2024-05-01", "EXPTIME": 5.0, "GAIN": 1.0, "CRVAL1": 3.0, "CTYPE1": "RA---TAN"}
    )
    image = fits.ImageHDU(np.arange(20, dtype=np.uint16).reshape(4, 5), name="C1")
    image.header["GAIN"] = 2.5
    if inherit is not None:
        image.header["INHERIT"] = inherit
    fits.HDUList([primary, image]).writeto(path)
    return path


@pytest.mark.parametrize(
    ("inherit", "with_image", "taken"),
    [
        (None, False, True),
        (True, False, True),
        (False, False, False),
        (None, True, False),
        (True, True, True),
    ],
)
def test_primary_header_cards_are_inherited_where_meant(
    inherit: bool | None, with_image: bool, taken: bool, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.fits", inherit, with_image)
    found = open_stored(read_file(path), "C1")
    for header in (found.header, peek_header(path, 1)):
        assert ("DATE-OBS" in header) == taken == (header.get("EXPTIME") == 5.0)
        # Its own cards stand, and where it points is no matter of another header.
        assert header["GAIN"] == 2.5 and "CTYPE1" not in header and "CRVAL1" not in header
        assert header["NAXIS1"] == 5 and header["BZERO"] == 32768
    assert found.extension == 1 and found.zero == 32768.0


@pytest.mark.parametrize("kind", ["int16", "float32"])
@pytest.mark.parametrize("packed", [False, True])
def test_cards_that_stand_twice_are_inherited_twice(kind: str, packed: bool, tmp_path: Path) -> None:
    """Tiles of floats are unpacked by astropy, whose header of the image knows no other one."""
    pixels = np.random.default_rng(3).normal(900.0, 20.0, (16, 24)).astype(kind)
    primary = fits.PrimaryHDU(header=fits.Header([("EXPTIME", 5.0), ("GAIN", 1.5)]))
    primary.header.append(("EXPTIME", 9.0))
    image = fits.CompImageHDU(pixels) if packed else fits.ImageHDU(pixels)
    fits.HDUList([primary, image]).writeto(tmp_path / "a.fits")
    header = open_stored(read_file(tmp_path / "a.fits")).header
    assert [header["EXPTIME", 0], header["EXPTIME", 1]] == [5.0, 9.0] and header["GAIN"] == 1.5
    assert (header["NAXIS1"], header["NAXIS2"]) == (24, 16)
