"""What makes a calibration out of date, what a catalog lacks, and how much is under way at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.cameras.profile import with_rotation
from skylake.core.camera import Camera, FilterBand
from skylake.core.flags import FrameFlag
from skylake.errors import ConfigurationError, LakeError
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution import cluster
from skylake.flow.execution.cluster import Inline, run_in_windows
from skylake.flow.execution.run_progress import Silent
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.flow.zeropoints.calibration_parameters import calibration_configuration
from skylake.flow.zeropoints.crossmatch_night import with_filters
from skylake.flow.zeropoints.neighbour_light import _aperture_radius_px
from skylake.lake import Lake
from skylake.report.collect import frames_of_concern
from skylake.sky.pixels import PixelTree

pytestmark = pytest.mark.xdist_group("lsdb")

Checksums = Callable[..., dict[tuple[str, str], str]]


@pytest.fixture
def edited(profile: Profile, tmp_path: Path) -> Callable[[str], Profile]:
    """A function that gives the profile with some lines more."""

    def edit(lines: str) -> Profile:
        path = tmp_path / "small.toml"
        path.write_text(Path(profile.source).read_text() + lines + "\n")
        return cameras.load(path)

    return edit


# What makes a calibration out of date.


@pytest.mark.parametrize(
    "lines",
    [
        "gates.fwhm_px.max = 9.0",
        "extraction.threshold_sigma = 2.0",
        "apertures.radii_px = [2.0, 4.0, 6.0]",
        "detector.gain_e_per_adu = 3.0",
        "[[period]]\nfrom = 2030-01-01\ncalibration.min_stars = 30",
    ],
)
def test_an_irrelevant_edit_leaves_a_published_calibration(
    calibrated: Lake,
    edited: Callable[[str], Profile],
    lines: str,
    digests: Callable[[Path], dict[str, str]],
) -> None:
    calibrated.keep_profile(edited(lines))
    before = digests(calibrated.root)
    assert calibrate(calibrated, Inline()).n_current == 2
    after = digests(calibrated.root)
    # The period takes the place of one with another detector, so stars that repeat are looked for once more.
    memory = "_cameras/small.unsolved"
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {memory}


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines",
    [
        "calibration.colour_range = [0.0, 1.0]",
        "filters.V.pivot_colour = 0.5",
        'apertures.flux = "aper1"',
        "[[period]]\nfrom = 2024-09-01\nuntil = 2024-12-01\ncalibration.colour_range = [0.0, 1.0]",
    ],
)
def test_other_parameters_renew_the_version_in_force(
    calibrated: Lake, edited: Callable[[str], Profile], lines: str, checksums: Checksums
) -> None:
    before, snapshot = checksums(calibrated, "zeropoints"), calibrated.snapshot()
    calibrated.keep_profile(edited(lines))
    assert calibrate(calibrated, Inline(), version=2).n_renewed == 0
    assert before.items() <= checksums(calibrated, "zeropoints").items(), "version 1 is as it was published"
    report = calibrate(calibrated, Inline(), version=1)
    assert (report.n_renewed, report.n_current) == (2, 0)
    after = checksums(calibrated, "zeropoints")
    assert not set(before.items()) & set(after.items())
    old = calibrated.snapshot(snapshot.number)
    assert {part.checksum for part in old.parts("zeropoints").values()} == set(before.values())


def test_a_period_matters_to_the_nights_that_it_touches(
    edited: Callable[[str], Profile], profile: Profile
) -> None:
    block = "[[period]]\nfrom = {}\nuntil = {}\ncalibration.min_stars = 9"
    plain = calibration_configuration(profile, 20241001)
    for first, last, same in (
        ("2024-08-01", "2024-09-30", True),
        ("2024-10-04", "2024-11-01", True),
        ("2024-09-01", "2024-11-01", False),
        ("2024-10-02", "2024-11-01", False),
    ):
        found = calibration_configuration(edited(block.format(first, last)), 20241001)
        assert (found == plain) == same, (first, last)
    edit = edited("calibration.min_stars = 9")
    assert calibration_configuration(edit, 0) != calibration_configuration(profile, 0)


def test_the_aperture_is_that_of_the_frames(ingested_once: Lake, profile: Profile) -> None:
    row = ingested_once.snapshot().read("frames").to_pylist()[0]
    camera = replace(profile.base, apertures=replace(profile.base.apertures, radii_px=(1.0, 2.0, 2.5)))
    assert _aperture_radius_px(row, camera) == row["aper2_radius_px"] != 2.0
    kron = replace(camera, apertures=replace(camera.apertures, flux="kron"))
    assert _aperture_radius_px(row, kron) == row["aper3_radius_px"]
    assert _aperture_radius_px(row | {"aper2_radius_px": None}, camera) == 2.0


# What a catalog lacks.


@pytest.mark.parametrize(
    ("magnitudes", "reason", "option"),
    [({"R": "V"}, "no_band", "--mag V=COLUMN"), ({"V": "V"}, "no_colour", "--colour B-V=COLUMN")],
)
def test_a_catalog_without_band_or_colour_names_the_option(
    lake: Lake,
    archive: Any,
    columns: Any,
    profile: Profile,
    magnitudes: dict[str, str],
    reason: str,
    option: str,
) -> None:
    lacking = replace(columns, magnitudes=magnitudes, magnitude_errors={}, colours={})
    import_catalog(lake, "bare", "table", [archive.catalog], lacking)
    ingest(lake, profile, archive.frames[:2], Inline())
    for _ in range(2):
        # The second time nothing is calibrated, and the frames still have no zeropoint.
        report = calibrate(lake, Inline())
        (sentence,) = report.warnings
        assert sentence.startswith("2 frames of small have no zeropoint") and f"`{option}`" in sentence
    assert set(lake.snapshot().read("zeropoints")["reason"].to_pylist()) == {reason}


class Listening(Silent):
    """Keeps the lines that are told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def test_a_lacking_catalog_is_named_although_a_night_fails(
    lake: Lake, archive: Any, columns: Any, profile: Profile
) -> None:
    import_catalog(
        lake, "bare", "table", [archive.catalog],
        replace(columns, magnitudes={"R": "V"}, magnitude_errors={}, colours={}),
    )  # fmt: skip
    ingest(lake, profile, [archive.frames[0], archive.frames[-1]], Inline())
    nights = sorted(part.night for part in lake.snapshot().parts("frames").values())
    for one in lake.snapshot().slices("sources", lambda part: part.night == nights[0]):
        one.path.unlink()
        one.path.write_bytes(b"PAR1 no more")
    told = Listening()
    with pytest.raises(LakeError, match=f"small-{nights[0]}: .*calibrated"):
        calibrate(lake, Inline(), progress=told)
    assert any(line.startswith("1 frame of small has no zeropoint") for line in told.lines)
    assert any(
        line.startswith(f"calibrate small-{nights[1]}: 0 of 1 frame, ") and line.endswith("; no_band: 1")
        for line in told.lines
    )


def test_a_catalog_that_has_all_is_not_complained_about(calibrated: Lake) -> None:
    report = calibrate(calibrated, Inline(), version=5)
    assert report.warnings == []
    assert report.line == "calibrate: 2 nights against simcat, version 5; 12 of 12 frames have a zeropoint"


def test_which_cut_took_the_stars_is_told_once_for_all_frames(
    calibrated: Lake, edited: Callable[[str], Profile]
) -> None:
    calibrated.keep_profile(edited("calibration.max_mag_err = 0.0005"))
    told = Listening()
    report = calibrate(calibrated, Inline(), progress=told)
    assert report.n_zeropoints == 0 and report.warnings == []
    (sentence,) = [line for line in told.lines if "S/N" in line]
    assert sentence.startswith(
        "12 frames of small in V have too few stars for a zeropoint; the one with most matches, of"
    )
    assert (
        "matches can be used" in sentence
        and "min_stars is 10; " in sentence
        and "S/N < 2171 in an aperture of" in sentence
    )
    rows = calibrated.snapshot().read("zeropoints")
    assert set(rows["reason"].to_pylist()) == {"too_few_stars"}
    assert all("S/N" in message for message in rows["message"].to_pylist())
    again = Listening()
    calibrate(calibrated, Inline(), progress=again)
    assert again.lines == []
    found = frames_of_concern(calibrated.snapshot(), {"small": "simcat"}, 50)
    assert len(found) == 12 and all("S/N" in frame["message"] for frame in found)


# How much is under way at once.


class Watched(Inline):
    """Tasks run in this process; how many came at once, and how large they were, is written down."""

    def __init__(self) -> None:
        self.together: list[int] = []
        self.bytes: list[int] = []

    def run(self, tasks: Sequence[Any], done: Any = None) -> list[Any]:
        graph: dict[Any, Any] = {}
        for task in tasks:
            graph.update(dict(task.__dask_graph__()))
        self.together.append(len(tasks))
        self.bytes.append(sum(len(cloudpickle.dumps(value)) for value in graph.values()))
        return super().run(tasks, done)


def test_many_tasks_run_in_windows_and_keep_their_numbers() -> None:
    import dask

    watched, seen = Watched(), []
    task = dask.delayed(abs, pure=False)
    makers = [lambda number=number: task(-number) for number in range(2 * cluster.WINDOW + 3)]
    results = run_in_windows(watched, makers, lambda *news: seen.append(news))
    assert results == list(range(len(makers)))
    assert seen == list(enumerate(results))
    assert watched.together == [cluster.WINDOW, cluster.WINDOW, 3]


def test_nights_and_pixels_are_not_all_under_way_at_once(
    ingested: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "WINDOW", 1)
    watched = Watched()
    calibrate(ingested, watched)
    aggregate(ingested, [], watched)
    assert len(watched.together) > 4
    assert set(watched.together) == {1}


def test_the_pixel_tree_is_sent_once_and_not_with_every_task(
    lake: Lake, frames: list[Path], archive: Any, columns: Any, profile: Profile
) -> None:
    size = len(cloudpickle.dumps(PixelTree.uniform(lake.settings.pixel_order)))
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    watched = Watched()
    ingest(lake, profile, [frames[0], frames[6]], watched)
    calibrate(lake, watched)
    aggregate(lake, ["lightcurves"], watched)
    assert sum(number > 1 for number in watched.together) >= 3
    assert np.max(watched.bytes) < 1.5 * size


# A profile that is edited after the ingest.


@pytest.fixture
def own(calibrated: Lake, profile: Profile, tmp_path: Path) -> Path:
    """The file of the profile of a lake that is calibrated and aggregated, to be edited."""
    path = tmp_path / "own.toml"
    path.write_text(Path(profile.source).read_text())
    calibrated.keep_profile(cameras.load(path))
    return path


def add(path: Path, lines: str) -> None:
    path.write_text(f"{path.read_text()}{lines}\n")


def test_an_edited_profile_is_in_force_without_an_ingest(calibrated: Lake, own: Path) -> None:
    assert calibrate(calibrated, Inline()).n_current == 2
    add(own, "filters.V.pivot_colour = 0.5")
    assert outdated(calibrated)["zeropoints"].counts == {"parameters": 2}
    assert calibrate(calibrated, Inline()).n_renewed == 2
    assert set(calibrated.snapshot().read("zeropoints")["pivot_colour"].to_pylist()) == {0.5}
    aggregate(calibrated, [], Inline())
    assert {name: state.why for name, state in outdated(calibrated).items() if state.why} == {}
    own.unlink()
    assert calibrate(calibrated, Inline()).n_current == 2, "what the lake has kept is in force"
    assert calibrated.profile("small").base.filters["V"].pivot_colour == 0.5


def test_a_relative_profile_path_is_found_from_elsewhere(
    calibrated: Lake, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.parent)
    calibrated.keep_profile(cameras.load(own.name))
    monkeypatch.chdir("/")
    add(own, "filters.V.pivot_colour = 0.5")
    assert calibrated.profile("small").base.filters["V"].pivot_colour == 0.5


def test_an_older_restored_profile_stays_until_edited(calibrated: Lake, own: Path) -> None:
    kept = calibrated.layout.profile("small")
    older = kept.read_text()
    add(own, "filters.V.pivot_colour = 0.5")
    calibrate(calibrated, Inline())
    kept.write_text(older)
    assert calibrated.profile("small").base.filters["V"].pivot_colour == 0.7
    assert calibrate(calibrated, Inline()).n_renewed == 2
    assert calibrate(calibrated, Inline()).n_current == 2
    add(own, "filters.V.clear_zeropoint = 20.0")
    assert calibrated.profile("small").base.filters["V"].pivot_colour == 0.5


def test_a_rotation_told_at_the_ingest_is_no_edit(calibrated: Lake, own: Path) -> None:
    calibrated.keep_profile(with_rotation(cameras.load(own), 30.0))
    assert calibrated.profile("small").base.astrometry.rotation_deg == 30.0


def test_a_file_that_became_another_camera_is_left_alone(calibrated: Lake, own: Path) -> None:
    own.write_text(own.read_text().replace('"small"', '"large"') + "filters.V.pivot_colour = 0.5\n")
    assert calibrated.profile("small").base.filters["V"].pivot_colour == 0.7


def test_an_edited_profile_that_is_none_is_named(calibrated: Lake, own: Path) -> None:
    add(own, "filters.V.pivot_color = 0.5")
    with pytest.raises(ConfigurationError, match=r"own\.toml: filters\.V\.pivot_color: there is no such key"):
        calibrate(calibrated, Inline())


@pytest.mark.slow
def test_a_filter_mapped_to_another_band_keeps_its_frames(calibrated: Lake, own: Path) -> None:
    add(own, 'filters.V.band = "B"\nfilters.V.colour = "B-V"')
    report = calibrate(calibrated, Inline())
    assert (report.n_zeropoints, report.warnings) == (12, [])
    zeropoints = calibrated.snapshot().read("zeropoints")
    assert (set(zeropoints["band"].to_pylist()), zeropoints["reason"].null_count) == ({"B"}, 12)
    aggregate(calibrated, [], Inline())
    for table in ("matches", "nights", "lightcurves", "maps"):
        assert set(calibrated.snapshot().read(table, ["band"])["band"].to_pylist()) == {"B"}
    assert {name: state.why for name, state in outdated(calibrated).items() if state.why} == {}
    options = VerifyOptions(deep=True)
    assert verify(open_facts(calibrated.root, options), Inline(), options).failed == []


def test_a_filter_that_the_profile_knows_no_more_is_a_warning(calibrated: Lake, own: Path) -> None:
    renamed = Path(cameras.load("sim").source).read_text().replace("filters.V]", "filters.green]")
    (own.parent / "renamed.toml").write_text(
        renamed.replace('default_filter = "V"', 'default_filter = "green"')
    )
    own.write_text(own.read_text().replace('like = "sim"', 'like = "renamed.toml"'))
    (warning,) = calibrate(calibrated, Inline()).warnings
    assert warning.startswith("12 frames of small have no zeropoint: the profile ")
    assert "own.toml knows no filter 'V' any more; name it in [filters] or among the aliases" in warning
    add(own, 'filters.green.aliases = ["V"]')
    report = calibrate(calibrated, Inline())
    assert (report.n_zeropoints, report.warnings) == (12, [])


def test_frames_without_a_filter_follow_the_assumed_one() -> None:
    camera = Camera("lab", filters={"V": FilterBand("V"), "red": FilterBand("R")}, default_filter="red")
    frames = pa.table(
        {
            "filter": ["V", "V", None, "blue"],
            "band": ["V", "V", None, None],
            "flags": [0, int(FrameFlag.FILTER_ASSUMED), int(FrameFlag.FILTER_UNKNOWN), 0],
        }
    )
    found = with_filters(frames, camera)
    assert found["filter"].to_pylist() == ["V", "red", "red", "blue"]
    assert found["band"].to_pylist() == ["V", "R", "R", None]
