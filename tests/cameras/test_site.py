from __future__ import annotations

from pathlib import Path

import pytest

from skylake import cameras
from skylake.errors import ConfigurationError


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("[site]\nlatitude_deg = 128.76", "site.latitude_deg"),
        ("[site]\nlongitude_deg = 400.0", "site.longitude_deg"),
        ("[site]\nheight_m = 23630.0", "site.height_m"),
        ("[optics]\npixel_scale_arcsec = 0.0", "optics.pixel_scale_arcsec"),
    ],
)
def test_a_place_that_there_cannot_be_is_refused(line: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(f'name = "odd"\nlike = "generic"\n{line}\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"{path}: {key}: give"):
        cameras.load(path)
