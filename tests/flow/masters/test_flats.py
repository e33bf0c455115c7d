"""Master flats of drawn frames: what they count, what their errors are, and what goes on where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.flow.execution.cluster import Inline
from skylake.flow.masters.build_masters import BuildOptions, build_masters, library_of
from skylake.flow.masters.master_tasks import Term
from skylake.image.masters.master_file import MasterFrame, load_master
from skylake.image.masters.master_library import MasterQuery, choose, rules_of
from skylake.lake import Lake
from skylake.settings import Settings

SHAPE, GAIN, READ_E, ZERO_ADU = (128, 192), 1.5, 9.0, 500.0
PROFILE = """
like = "sim"
name = "lab"
detector.width_px = 192
detector.height_px = 128
"""
Y, X = np.meshgrid(np.linspace(-1.0, 1.0, SHAPE[0]), np.linspace(-1.0, 1.0, SHAPE[1]), indexing="ij")


@dataclass(frozen=True)
class Dome:
    """A detector with a response and a dark current, before a twilight with gradients."""

    folder: Path
    seed: int = 1
    gradient: float = 0.0
    dark_e_per_s: float = 0.0
    response: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(99)
        response = (1.0 - 0.2 * (X**2 + Y**2)) * random.normal(1.0, 0.01, SHAPE)
        object.__setattr__(self, "response", response / np.median(response))

    def flat(self, number: int, level: float, exposure: float = 5.0, hour: float = 0.0) -> Path:
        random = np.random.default_rng([self.seed, number])
        slopes = random.normal(0.0, self.gradient, 2)
        return self._write(
            "FLAT", random, number, level * (1.0 + slopes[0] * X + slopes[1] * Y), exposure, hour
        )

    def zeros(self, kind: str, count: int, exposure: float = 0.0) -> list[Path]:
        randoms = [np.random.default_rng([self.seed, number, kind == "BIAS", 7]) for number in range(count)]
        return [
            self._write(kind, random, number, 0.0, exposure, 0.0) for number, random in enumerate(randoms)
        ]

    def _write(self, kind: str, random: Any, number: int, light: Any, exposure: float, hour: float) -> Path:
        electrons = random.poisson(light * self.response * GAIN + self.dark_e_per_s * exposure)
        pixels = ZERO_ADU + (electrons + random.normal(0.0, READ_E, SHAPE)) / GAIN
        unit = fits.PrimaryHDU(pixels.astype(np.float32))
        unit.header.update(
            {"OBSTYPE": kind, "EXPTIME": exposure, "FILTER": "V", "GAIN": GAIN, "RDNOISE": READ_E}
        )
        hours, minutes = divmod(int(60.0 * hour) + number, 60)
        # Local midnight is at 4:42 UTC.
        unit.header["DATE-OBS"] = f"2024-10-04T{hours:02d}:{minutes:02d}:00"
        path = self.folder / f"{kind}-{number:02d}.fits"
        unit.writeto(path, overwrite=True)
        return path


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake", Settings(cluster="inline"))


def profile(folder: Path, *steps: str) -> Profile:
    path = folder / "lab.toml"
    path.write_text(f"{PROFILE}reduction.steps = {list(steps)}\n")
    return cameras.load(path)


def flat_of(lake: Lake) -> MasterFrame:
    library = library_of(lake.snapshot(), "lab")
    (one,) = [one for one in library.masters if one.kind == "flat"]
    return load_master(library.root, one)


def pulls(flat: MasterFrame, truth: np.ndarray) -> np.ndarray:
    assert flat.gradient is not None
    response = 1.0 / flat.pixels
    error = np.sqrt(flat.error**2 + flat.gradient.variance(X, Y) * response**2)
    return np.asarray((response - truth) / error)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [0.0, 0.005])
def test_errors_of_flats_of_many_levels_are_real(tmp_path: Path, gradient: float) -> None:
    square = []
    for seed in range(3 if gradient else 1):
        dome = Dome(tmp_path, seed, gradient)
        paths = [
            dome.flat(number, level) for number, level in enumerate([2e3, 4e3, 1e4, 2e4, 3e4, 35e3, 4e4, 4e4])
        ]
        here = Lake.create(tmp_path / f"lake-{seed}", Settings(cluster="inline"))
        report = build_masters(
            here, profile(tmp_path, "bias", "flat"), [*dome.zeros("BIAS", 6), *paths], Inline()
        )
        assert report.all_well
        square.append(pulls(flat_of(here), dome.response))
    width = float(np.std(square))
    assert width == pytest.approx(1.0, abs=0.05 if gradient == 0.0 else 0.25)
    assert abs(float(np.mean(square))) < 0.1
    noise, flat = 1.0 / np.sqrt(GAIN * 181e3), flat_of(here)
    assert float(np.median(flat.error)) < 1.15 * noise
    # What neighbours have in common is stated beside it.
    assert flat.gradient is not None
    slopes = np.sqrt([flat.gradient.xx, flat.gradient.yy])
    assert np.all((slopes > 0.3 * gradient / np.sqrt(8.0)) & (slopes < 2.5 * gradient / np.sqrt(8.0) + 1e-3))


def test_a_bias_that_cancels_in_differences_adds_no_error(lake: Lake, tmp_path: Path) -> None:
    dome = Dome(tmp_path)
    levels = [100.0] * 8 + [400.0] * 8
    paths = [*dome.zeros("BIAS", 3), *(dome.flat(number, level) for number, level in enumerate(levels))]
    build_masters(lake, profile(tmp_path, "bias", "flat"), paths, Inline(), BuildOptions(form="difference"))
    flat = flat_of(lake)
    assert pulls(flat, dome.response).std() == pytest.approx(1.0, abs=0.06)


def test_flats_of_other_exposures_have_the_error_of_their_dark(lake: Lake, tmp_path: Path) -> None:
    dome = Dome(tmp_path, dark_e_per_s=40.0)
    darks, biases = dome.zeros("DARK", 3, 30.0), dome.zeros("BIAS", 3)
    flats = [dome.flat(number, 700.0, exposure) for number, exposure in enumerate([50.0, 60.0, 70.0] * 2)]
    build_masters(lake, profile(tmp_path, "bias", "dark", "flat"), [*biases, *darks, *flats], Inline())
    assert pulls(flat_of(lake), dome.response).std() == pytest.approx(1.0, abs=0.06)


def test_frames_take_the_flats_of_dusk_or_of_dawn(lake: Lake, tmp_path: Path) -> None:
    dome, camera = Dome(tmp_path), profile(tmp_path, "bias", "flat")
    dusk = [dome.flat(number, 2e4, hour=0.0) for number in range(4)]
    dawn = [dome.flat(number, 2e4, hour=9.0) for number in range(4, 9)]
    report = build_masters(lake, camera, [*dome.zeros("BIAS", 3), *dusk, *dawn], Inline())
    flats = [row for row in report.masters if row["kind"] == "flat"]
    assert sorted(row["n_frames"] for row in flats) == [4, 5]
    library, rules = library_of(lake.snapshot(), "lab"), rules_of(camera.base.reduction)
    start = min(row["mjd_mid"] for row in flats)
    for hours, count in ((1.0, 4), (8.0, 5)):
        one = choose(library.masters, "flat", MasterQuery(start + hours / 24.0, 0, "1x1", "V"), rules)
        assert not isinstance(one, str) and one.n_frames == count


def test_too_few_dusk_and_dawn_flats_count_as_one_night(lake: Lake, tmp_path: Path) -> None:
    dome = Dome(tmp_path)
    levels = (100.0, 400.0, 100.0, 400.0, 100.0, 400.0)
    flats = [dome.flat(number, level, hour=9.0 * (number // 3)) for number, level in enumerate(levels)]
    paths = [*dome.zeros("BIAS", 3), *flats]
    report = build_masters(
        lake, profile(tmp_path, "bias", "flat"), paths, Inline(), BuildOptions(form="difference")
    )
    assert [row["n_frames"] for row in report.masters if row["kind"] == "flat"] == [6]


def test_bias_frames_alone_make_no_mask(lake: Lake, tmp_path: Path) -> None:
    report = build_masters(lake, profile(tmp_path, "bias", "flat"), Dome(tmp_path).zeros("BIAS", 4), Inline())
    assert [row["kind"] for row in report.masters] == ["bias"] and report.all_well


def test_sources_of_the_sky_leave_no_trace_in_its_flat(lake: Lake, tmp_path: Path) -> None:
    random, paths = np.random.default_rng(5), []
    dome = Dome(tmp_path)
    for number in range(7):
        path = dome.flat(number, 3000.0)
        with fits.open(path, mode="update") as units:
            for x, y in random.uniform(10.0, 118.0, (12, 2)):
                units[0].data += 4000.0 * np.exp(
                    -0.5 * (((X + 1) * 95.5 - x * 1.5) ** 2 + ((Y + 1) * 63.5 - y) ** 2) / 2.0
                ).astype(np.float32)
        paths.append(path)
    options = BuildOptions(form="super")
    build_masters(
        lake, profile(tmp_path, "bias", "flat"), [*dome.zeros("BIAS", 6), *paths], Inline(), options
    )
    ratio = 1.0 / flat_of(lake).pixels / dome.response
    assert np.abs(ratio / np.median(ratio) - 1.0).max() < 0.1


@pytest.mark.parametrize("levels", [(200.0,), (200.0, 300.0, 150.0, 250.0)])
def test_a_sample_is_every_so_manieth_row_of_the_whole(tmp_path: Path, levels: tuple[float, ...]) -> None:
    random, paths = np.random.default_rng(6), [tmp_path / "bright.npy", tmp_path / "faint.npy"]
    for path in paths:
        np.save(path, random.uniform(100.0, 400.0, (41, 30)).astype(np.float32))
    for term in (Term(paths[0], levels), Term(paths[0], levels, paths[1])):
        np.testing.assert_array_equal(term.sample(3), term.rows(0, 41)[::3])
        np.testing.assert_array_equal(term.rows(7, 20), term.rows(0, 41)[7:20])


def test_flats_of_several_names_of_one_filter_make_one_master(lake: Lake, tmp_path: Path) -> None:
    dome = Dome(tmp_path)
    paths = [dome.flat(number, 2e4) for number in range(6)]
    for path in paths[::2]:
        fits.setval(path, "FILTER", value="v")
    camera = profile(tmp_path, "bias", "flat")
    assert build_masters(lake, camera, [*dome.zeros("BIAS", 3), *paths], Inline()).all_well
    (flat,) = [one for one in library_of(lake.snapshot(), "lab").masters if one.kind == "flat"]
    assert (flat.filter, flat.n_frames) == ("V", 6)
