from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from skylake.simulate.fits_file import quantised, write_frame

IMAGE = np.random.default_rng(1).normal(500.0, 30.0, (60, 50)).astype(np.float32)
IMAGE[10, 10], IMAGE[20, 20] = 59000.0, -7.4
CARDS = [("EXPTIME", 30.0, "seconds"), ("OBJECT", "M 67", "target"), ("EXPTIME", 31.0, "the last one counts")]
FORMS = [
    (form, pixels) for form in ("fits", "fits.gz", "fits.fz") for pixels in ("uint16", "int32", "float32")
]


def image_hdu(path: Path):
    with fits.open(path) as hdus:
        hdu = next(hdu for hdu in hdus if hdu.data is not None)
        return hdu.data.astype(float), hdu.header.copy()


@pytest.mark.parametrize(("form", "pixels"), [*FORMS, ("fits", "scaled16"), ("fits.gz", "scaled16")])
def test_what_is_written_is_read_again(tmp_path: Path, form, pixels) -> None:
    path = tmp_path / "a" / f"frame.{form}"
    write_frame(path, IMAGE, CARDS, form, pixels, None)
    data, header = image_hdu(path)
    if pixels == "float32":
        # Floating-point pixels are compressed with a loss far below the noise.
        np.testing.assert_allclose(data, IMAGE, atol=8.0 if form == "fits.fz" else 0.0)
    elif pixels == "scaled16":
        np.testing.assert_allclose(data, IMAGE, atol=0.51 * np.ptp(IMAGE) / 65000.0 + 0.01)
    else:
        np.testing.assert_array_equal(data, np.rint(np.maximum(IMAGE, 0.0) if pixels == "uint16" else IMAGE))
    assert header["EXPTIME"] == 31.0 and header["OBJECT"] == "M 67"
    assert not [name for name in header if name.startswith(("DATE", "CHECKSUM"))]
    assert [item.name for item in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("form", "pixels"), FORMS)
def test_bytes_depend_on_nothing_else(tmp_path: Path, form, pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    write_frame(tmp_path / f"one.{form}", IMAGE, CARDS, form, pixels, None)
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_frame(tmp_path / f"two.{form}", IMAGE, CARDS, form, pixels, None)
    assert (tmp_path / f"one.{form}").read_bytes() == (tmp_path / f"two.{form}").read_bytes()


@pytest.mark.parametrize("form", ["fits", "fits.fz"])
@pytest.mark.parametrize("extension", [0, 1, 2, "SCI"])
def test_the_image_is_where_the_profile_says(tmp_path: Path, form, extension) -> None:
    path = tmp_path / f"frame.{form}"
    write_frame(path, IMAGE, CARDS, form, "uint16", extension)
    wanted = 1 if (form, extension) == ("fits.fz", 0) else extension
    with fits.open(path) as hdus:
        assert hdus[wanted].data.shape == (60, 50)
        assert hdus[wanted].header["OBJECT"] == "M 67"
        assert sum(hdu.data is not None for hdu in hdus) == 1


def test_integers_are_clipped_to_their_range() -> None:
    wild = np.array([[-5.0, 0.4, 0.6, 70000.0, 1e12]], np.float32)
    np.testing.assert_array_equal(quantised(wild, "uint16")[0], [[0, 0, 1, 65535, 65535]])
    stored, _ = quantised(wild, "int32")
    assert stored[0, 0] == -5 and stored[0, -1] > 2e9


def test_a_constant_image_can_be_scaled() -> None:
    stored, cards = quantised(np.full((3, 3), 7.0, np.float32), "scaled16")
    scale, zero = (value for _, value, _ in cards)
    np.testing.assert_allclose(zero + scale * stored, 7.0)
