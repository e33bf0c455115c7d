"""Masks of bad pixels, and masters of a detector that was at two temperatures in one night."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.flow.execution.cluster import Inline
from skylake.flow.masters.build_masters import build_masters, library_of
from skylake.image.masters.master_file import load_master
from skylake.image.masters.master_library import Library, Master, MasterQuery, choose, rules_of
from skylake.lake import Lake
from skylake.settings import Settings

SHAPE, GAIN, READ_E, ZERO_ADU = (64, 96), 1.5, 6.0, 500.0
HOT, DEAD = (20, 30), (40, 50)
PROFILE = """
like = "sim"
name = "lab"
detector.width_px = 96
detector.height_px = 64
reduction.steps = ["bias", "dark", "flat", "bad_pixels"]
"""


def profile(folder: Path, more: str = "") -> Profile:
    path = folder / "lab.toml"
    path.write_text(PROFILE + more)
    return cameras.load(path)


def without_darks(folder: Path, more: str = "") -> Profile:
    """The same camera, of which no dark is taken off."""
    profile(folder)
    path = folder / "bare.toml"
    path.write_text(f'like = "lab.toml"\nreduction.steps = ["bias", "flat", "bad_pixels"]\n{more}')
    return cameras.load(path)


def frames(folder: Path, kind: str, temperature: float | None, count: int = 3, day: int = 4) -> list[Path]:
    """Frames of a detector with a pixel that is hot at -10 C, and one that sees no light."""
    paths = []
    for number in range(count):
        random = np.random.default_rng([day, number, len(kind), int(100.0 - (temperature or 0.0))])
        light = np.full(SHAPE, 2e4 if kind == "FLAT" else 0.0)
        light[DEAD] = 0.0
        exposure = {"BIAS": 0.0, "DARK": 60.0, "FLAT": 5.0}[kind]
        if temperature is not None and temperature > -15.0:
            light[HOT] += 50.0 * exposure
        pixels = ZERO_ADU + (random.poisson(light * GAIN) + random.normal(0.0, READ_E, SHAPE)) / GAIN
        unit = fits.PrimaryHDU(pixels.astype(np.float32))
        cards = {"OBSTYPE": kind, "EXPTIME": exposure, "FILTER": "V", "GAIN": GAIN, "RDNOISE": READ_E}
        unit.header.update(cards | ({} if temperature is None else {"CCD-TEMP": temperature}))
        unit.header["DATE-OBS"] = f"2024-10-{day:02d}T03:{number:02d}:00"
        paths.append(folder / f"{kind}-{temperature}-{day}-{number}.fits")
        unit.writeto(paths[-1])
    return paths


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake", Settings(cluster="inline"))


def build(lake: Lake, camera: Profile, paths: list[Path]) -> list[dict[str, Any]]:
    report = build_masters(lake, camera, paths, Inline())
    assert report.left_out == []
    return report.masters


def mask_at(library: Library, camera: Profile, temperature: float) -> np.ndarray:
    wanted = MasterQuery(60588.2, 0, "1x1", "V", 60.0, temperature)
    chosen = library.pick(camera.base.reduction, wanted, "lab")
    assert set(chosen) == {"bias", "dark", "flat", "bad_pixels"}
    mask = load_master(library.root, chosen["bad_pixels"]).mask
    assert mask is not None
    return mask


@pytest.mark.parametrize("flats_at", [(-10.0,), (-20.0, -10.0)])
def test_each_temperature_of_a_night_has_its_mask_and_any_flat(
    lake: Lake, tmp_path: Path, flats_at: tuple[float, ...]
) -> None:
    camera = profile(tmp_path)
    zeros = [frames(tmp_path, kind, degrees) for kind in ("BIAS", "DARK") for degrees in (-20.0, -10.0)]
    flats = [frames(tmp_path, "FLAT", degrees) for degrees in flats_at]
    rows = build(lake, camera, [path for some in (*zeros, *flats) for path in some])
    masks = sorted(row["temperature_c"] for row in rows if row["kind"] == "bad_pixels")
    assert masks == [-20.0, -10.0]
    library = library_of(lake.snapshot(), "lab")
    cold, warm = (mask_at(library, camera, degrees) for degrees in (-20.5, -9.0))
    assert cold[DEAD] and warm[DEAD] and warm[HOT] and not cold[HOT]


def test_masters_without_temperature_share_one_mask(lake: Lake, tmp_path: Path) -> None:
    paths = [
        *frames(tmp_path, "BIAS", None),
        *frames(tmp_path, "DARK", -10.0),
        *frames(tmp_path, "FLAT", None),
    ]
    rows = build(lake, profile(tmp_path), paths)
    (mask,) = [row for row in rows if row["kind"] == "bad_pixels"]
    assert mask["temperature_c"] == -10.0 and mask["n_hot_px"] == 1 and mask["n_dead_px"] == 1


def test_flats_are_separated_by_temperature_if_asked(lake: Lake, tmp_path: Path) -> None:
    camera = profile(tmp_path, "reduction.flat_temperature_tolerance_c = 3.0\n")
    paths = [frames(tmp_path, kind, degrees) for kind in ("BIAS", "DARK") for degrees in (-20.0, -10.0)]
    build(lake, camera, [path for some in (*paths, frames(tmp_path, "FLAT", -10.0)) for path in some])
    library = library_of(lake.snapshot(), "lab")
    assert mask_at(library, camera, -10.0)[DEAD]
    with pytest.raises(Exception, match="kind flat was taken within 3 degrees of -20 C"):
        mask_at(library, camera, -20.0)


def test_a_build_takes_the_masters_that_the_profile_names(lake: Lake, tmp_path: Path) -> None:
    plain = profile(tmp_path)
    (first,) = build(lake, plain, frames(tmp_path, "BIAS", -10.0, day=1))
    (nearer,) = build(lake, plain, frames(tmp_path, "BIAS", -10.0, day=4))
    flats, steps = frames(tmp_path, "FLAT", -10.0), 'reduction.steps = ["bias", "flat"]\n'
    path = tmp_path / "named.toml"
    for named in (first, nearer):
        path.write_text(f'like = "lab.toml"\n{steps}reduction.use.bias = ["{named["name"]}"]\n')
        rows = build(lake, cameras.load(path), flats)
        inputs = [json.loads(row["inputs"]) for row in rows if row["kind"] in ("flat", "transfer")]
        assert len(inputs) == 2
        for one in inputs:
            assert [name for name in one if "-bias-" in name] == [named["name"]]
    path.write_text(f'like = "lab.toml"\n{steps}reduction.use.bias = ["lost"]\n')
    report = build_masters(lake, cameras.load(path), flats, Inline())
    assert report.masters == [] and "fix reduction.use.bias" in report.left_out[0]["message"]


def flickering(folder: Path, pixels: tuple[np.ndarray, ...], count: int = 12) -> list[Path]:
    """Darks in which some pixels are bright every other time, and on average no more than others."""
    paths = frames(folder, "DARK", -10.0, count)
    for number, path in enumerate(paths):
        with fits.open(path, mode="update") as units:
            units[0].data[pixels] += 300.0 * (-1.0) ** number
            units[0].data[HOT] = ZERO_ADU
    return paths


def test_pixels_that_flickered_on_another_night_stay_masked(lake: Lake, tmp_path: Path) -> None:
    camera, where = profile(tmp_path), np.unravel_index(np.arange(25) * 203 + 700, SHAPE)
    early = [*frames(tmp_path, "BIAS", -10.0), *flickering(tmp_path, where), *frames(tmp_path, "FLAT", -10.0)]
    (first,) = [row for row in build(lake, camera, early) if row["kind"] == "bad_pixels"]
    late = [*frames(tmp_path, "BIAS", -10.0, day=6), *frames(tmp_path, "FLAT", -10.0, day=6)]
    later = [row for row in build(lake, camera, late) if row["kind"] == "bad_pixels"]
    assert first["n_unstable_px"] == 25
    assert [row["n_unstable_px"] for row in later] == [25] * len(later) and later
    library = library_of(lake.snapshot(), "lab")
    kept = {one.name: one for one in library.masters}[later[-1]["name"]]
    mask = load_master(library.root, kept).mask
    assert mask is not None and ((mask[where] & 32) > 0).all()


def test_flats_alone_make_a_mask_for_any_temperature(lake: Lake, tmp_path: Path) -> None:
    camera = without_darks(tmp_path)
    (alone,) = [
        row
        for row in build(lake, camera, frames(tmp_path, "BIAS", 5.0) + frames(tmp_path, "FLAT", 5.0))
        if row["kind"] == "bad_pixels"
    ]
    assert alone["temperature_c"] is None and alone["n_dead_px"] == 1
    zeros = [frames(tmp_path, kind, degrees) for kind in ("BIAS", "DARK") for degrees in (-20.0, -10.0)]
    build(lake, camera, [path for some in zeros for path in some])
    late = frames(tmp_path, "FLAT", -20.0, day=6)
    masks = {
        row["temperature_c"]: row["n_hot_px"]
        for row in build(lake, camera, late)
        if row["kind"] == "bad_pixels"
    }
    # Hot at -10 C alone: neither the mask of -20 C nor that of any temperature has it.
    assert masks == {None: 0, -20.0: 0, -10.0: 1}
    library = library_of(lake.snapshot(), "lab")
    cold, warm = (mask_at(library, profile(tmp_path), degrees) for degrees in (-20.5, -9.0))
    assert cold[DEAD] and warm[DEAD] and warm[HOT] and not cold[HOT]


def test_a_photon_transfer_is_of_any_temperature_as_flats_are(lake: Lake, tmp_path: Path) -> None:
    camera = without_darks(tmp_path, 'reduction.measured = ["gain"]\n')
    build(lake, camera, frames(tmp_path, "BIAS", 5.0) + frames(tmp_path, "FLAT", 5.0))
    library, wanted = library_of(lake.snapshot(), "lab"), MasterQuery(60588.2, 0, "1x1", "V", 60.0, -20.0)
    rules = rules_of(camera.base.reduction)
    found = choose(library.masters, "transfer", wanted, rules)
    assert isinstance(found, Master) and found.temperature_c == 5.0
    told = choose(library.masters, "transfer", wanted, replace(rules, flat_temperature_tolerance_c=3.0))
    assert told == "none of the 1 masters of kind transfer was taken within 3 degrees of -20 C"
