"""New fields extend the star magnitudes in force, and all other nights keep their zeropoints and light curves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake import cameras
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibrate_nights import Choice, calibrate, plan_calibration, plan_solutions
from skylake.flow.zeropoints.season_plans import plan_seasons
from skylake.flow.zeropoints.solve_season import solve_planned
from skylake.flow.zeropoints.star_solutions import SolutionChain, solutions_in_force
from skylake.lake import Lake
from skylake.sky.lake_catalogs import ReferenceCatalog

pytestmark = pytest.mark.xdist_group("lsdb")

Checksums = Callable[..., dict[tuple[str, str], str]]
#: What is added to the numbers of the stars of another field.
OTHER = 5000
FIRST_NIGHTS, OTHER_NIGHTS = (20240401, 20240402, 20240403, 20240404), (20240409, 20240410)


class Lines(Silent):
    """Keeps the lines of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def with_other_stars(drift: Any, is_other: Callable[[int, np.ndarray], np.ndarray]) -> Any:
    """Return a field of which some stars are others; the function tells which, from a frame and their numbers."""

    class OtherField(type(drift)):  # type: ignore[misc]
        def match_rows(self, frame_id: int, *others: Any) -> pa.Table:
            rows = super().match_rows(frame_id, *others)
            star = rows["ref_id"].to_numpy()
            star = np.where(is_other(frame_id, star), star + OTHER, star)
            column = rows.schema.get_field_index("ref_id")
            return rows.set_column(column, rows.schema.field(column), pa.array(star, pa.int64()))

    return OtherField(**vars(drift))


def everywhere(_: int, star: np.ndarray) -> np.ndarray:
    return np.ones(len(star), bool)


@pytest.fixture(scope="module")
def one_field(empty_field: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four nights of a field, calibrated with its star magnitudes, and their light curves."""
    drift = empty_field(tmp_path_factory.mktemp("one"))
    for number in range(4):
        drift.add_night(number, n_frames=16 if number == 3 else 48)
    calibrate(drift.lake, Inline())
    aggregate(drift.lake, ["lightcurves"], Inline())
    return drift


def copy(drift: Any, folder: Path) -> Any:
    return replace(drift, lake=Lake(shutil.copytree(drift.lake.root, folder / "lake", symlinks=True)))


def add_other_nights(drift: Any, is_other: Callable[[int, np.ndarray], np.ndarray] = everywhere) -> Any:
    other = with_other_stars(drift, is_other)
    for number in (8, 9):
        other.add_night(number, n_frames=10)
    return other


@pytest.fixture(scope="module")
def extended(one_field: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two nights more, of another field, whose stars repeat only together."""
    drift = copy(one_field, tmp_path_factory.mktemp("extended"))
    add_other_nights(drift)
    calibrate(drift.lake, Inline())
    aggregate(drift.lake, ["lightcurves"], Inline())
    return drift


@pytest.fixture
def season(extended: Any, tmp_path: Path) -> Any:
    """A copy, to be changed."""
    return copy(extended, tmp_path)


def methods(drift: Any, nights: Iterable[int]) -> set[tuple[str, int | None]]:
    """Method and version of the star magnitudes of the frames of some nights."""
    rows = drift.lake.snapshot().read(
        "zeropoints", ["method", "reference_version"], lambda part: part.night in set(nights)
    )
    return {tuple(row.values()) for row in rows.to_pylist()}


def chain_of(drift: Any) -> SolutionChain | None:
    snapshot = drift.lake.snapshot()
    reference = ReferenceCatalog.open(snapshot.catalog("drifters"))
    return solutions_in_force(snapshot, drift.profile, reference).get("V")


def versions(chain: SolutionChain | None) -> list[int]:
    return [one.key.version for one in chain.members] if chain is not None else []


def off(drift: Any, nights: Iterable[int]) -> np.ndarray:
    """How far zeropoints of some nights are from the truth."""
    rows = drift.lake.snapshot().read(
        "zeropoints", ["frame_id", "zp"], lambda part: part.night in set(nights)
    )
    return np.array([row["zp"] - drift.zp[row["frame_id"]] for row in rows.to_pylist()])


@pytest.mark.slow
def test_nights_of_the_first_field_keep_zeropoints_and_light_curves(
    one_field: Any, extended: Any, checksums: Checksums
) -> None:
    tables = ("zeropoints", "lightcurves", "star_magnitudes", "global_solutions")
    before, after = (checksums(one.lake, *tables) for one in (one_field, extended))
    assert before.items() <= after.items()
    # Two nights and a solution more.
    assert len(after) == len(before) + 2 * 2 + 2
    assert methods(extended, FIRST_NIGHTS) == {("global", 1)}
    assert methods(extended, OTHER_NIGHTS) == {("global", 2)}
    assert plan_calibration(extended.lake, Choice()) == [] and plan_solutions(extended.lake, Choice()) == []
    state = outdated(extended.lake)
    assert not any(state[table].why for table in ("zeropoints", "star_magnitudes", "lightcurves"))
    assert state["star_magnitudes"].n_current == 2


def test_an_extension_has_new_stars_and_nights_alone(extended: Any) -> None:
    snapshot = extended.lake.snapshot()
    stars = snapshot.pandas("star_magnitudes")
    assert (stars.ref_id[stars.version == 1] < OTHER).all() and (
        stars.ref_id[stars.version == 2] >= OTHER
    ).all()
    first, second = sorted(snapshot.read("global_solutions").to_pylist(), key=lambda row: row["version"])
    assert (first["base_version"], second["base_version"]) == (None, 1)
    assert tuple(second["nights"]["night"]) == OTHER_NIGHTS and second["n_frames_used"] == 20
    assert second["n_stars"] == (stars.version == 2).sum()
    for name in ("colour_term", "colour_term_err", "floor_mag", "photon_scale", "catalog_scatter"):
        assert first[name] == pytest.approx(second[name])
    assert first["illumination"] == second["illumination"]


def test_stars_of_both_fields_are_those_of_the_sky(extended: Any) -> None:
    stars = extended.lake.snapshot().pandas("star_magnitudes")
    error = np.hypot(stars.mag_err, stars.mag_systematic_err)
    pull = (stars.mag - extended.mag[stars.ref_id % OTHER]) / error
    assert pull[stars.version == 2].abs().max() < 4.0
    assert np.std(off(extended, OTHER_NIGHTS)) < 0.006


def test_both_fields_are_in_one_chain_for_nights_to_come(season: Any) -> None:
    assert versions(chain_of(season)) == [1, 2]
    both = with_other_stars(season, lambda frame, star: np.full(len(star), frame % 2 == 0))
    both.add_night(11, n_frames=10)
    report = calibrate(season.lake, Inline())
    assert [batch["night"] for batch in report.batches] == [20240412] and report.solved == []
    assert methods(season, [20240412]) == {("global", 2)}
    assert np.std(off(season, [20240412])) < 0.03


def test_a_second_extension_leaves_the_nights_of_the_first(season: Any, checksums: Checksums) -> None:
    before = checksums(season.lake, "zeropoints", "star_magnitudes")
    with_other_stars(with_other_stars(season, everywhere), everywhere).add_night(12, n_frames=17)
    (report,) = calibrate(season.lake, Inline()).solved
    assert (report.version, report.base_version, report.n_nights) == (3, 1, 1)
    assert before.items() <= checksums(season.lake, "zeropoints", "star_magnitudes").items()
    assert methods(season, [20240413]) == {("global", 3)} and versions(chain_of(season)) == [1, 2, 3]
    assert plan_calibration(season.lake, Choice()) == []


@pytest.mark.parametrize("n_common", [4, 20])
def test_fields_with_common_stars_agree(one_field: Any, tmp_path: Path, n_common: int) -> None:
    """Frames with few of them are calibrated with the catalog at first, with all others they are known at once."""
    drift = copy(one_field, tmp_path)
    add_other_nights(drift, lambda _, star: star >= n_common)
    calibrate(drift.lake, Inline())
    known = n_common == 20
    assert versions(chain_of(drift)) == ([1] if known else [1, 2])
    assert methods(drift, OTHER_NIGHTS) == {("global", 1 if known else 2)}
    assert methods(drift, FIRST_NIGHTS) == {("global", 1)}
    stars = drift.lake.snapshot().pandas("star_magnitudes").set_index("ref_id")
    assert stars.index.is_unique


def test_what_is_planned_is_what_is_done(one_field: Any, tmp_path: Path) -> None:
    drift = copy(one_field, tmp_path)
    other = with_other_stars(drift, everywhere)
    other.add_night(8, n_frames=10)
    calibrate(drift.lake, Inline())
    other.add_night(9, n_frames=10)
    limited, progress = Choice(first_night=20240410), Lines()
    calibrate(drift.lake, Inline(), choice=limited, progress=progress)
    (line,) = [line for line in progress.lines if line.startswith("solve drift V")]
    assert "which 2 nights would then be calibrated with; run `skylake calibrate` without --from" in line
    assert methods(drift, OTHER_NIGHTS) == {("frame", None)}
    (plan,) = plan_solutions(drift.lake, Choice())
    assert (plan.key.version, plan.n_solved_frames) == (2, 20)
    planned = plan_calibration(drift.lake, Choice())
    assert [night.why_zeropoints for night in planned] == [Why.STAR_MAGNITUDES] * 2
    progress = Lines()
    report = calibrate(drift.lake, Inline(), progress=progress)
    assert sorted(batch["night"] for batch in report.batches) == [night.night for night in planned]
    (line,) = [line for line in progress.lines if line.startswith("solve drift V")]
    assert line.startswith("solve drift V: version 2 extends version 1 by the magnitudes of ")


def test_a_night_that_is_made_again_takes_all_stars(season: Any) -> None:
    season.add_night(3, n_frames=15)
    report = calibrate(season.lake, Inline())
    assert [batch["night"] for batch in report.batches] == [20240404] and report.solved == []
    assert methods(season, [20240404]) == {("global", 2)}
    assert methods(season, FIRST_NIGHTS[:3]) == {("global", 1)}
    # So does one of the extension, whose stars stay.
    with_other_stars(season, everywhere).add_night(8, n_frames=9)
    report = calibrate(season.lake, Inline())
    assert [batch["night"] for batch in report.batches] == [20240409] and report.solved == []
    assert methods(season, OTHER_NIGHTS) == {("global", 2)}


def test_extensions_end_in_a_full_solution(season: Any) -> None:
    """Their frames are new to the one that they extend."""
    season.add_night(11, n_frames=25)
    names = {"drift-V-drifters-v1", "drift-V-drifters-v2"}
    assert outdated(season.lake)["star_magnitudes"].why == dict.fromkeys(names, Why.INPUTS)
    (report,) = calibrate(season.lake, Inline()).solved
    assert (report.version, report.base_version, report.n_nights) == (3, None, 7)
    assert versions(chain_of(season)) == [3]
    assert methods(season, [*FIRST_NIGHTS, *OTHER_NIGHTS]) == {("global", 3)}
    assert plan_calibration(season.lake, Choice()) == []
    stars = season.lake.snapshot().pandas("star_magnitudes")
    mag = (
        stars[stars.version == 2]
        .set_index("ref_id")
        .join(stars[stars.version == 3].set_index("ref_id"), rsuffix="_3")
    )
    error = np.hypot(
        np.hypot(mag.mag_err, mag.mag_systematic_err), np.hypot(mag.mag_err_3, mag.mag_systematic_err_3)
    )
    assert ((mag.mag - mag.mag_3) / error).abs().max() < 3.0


def test_an_extension_is_withdrawn_with_the_solution_that_it_extends(season: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    # Fourteen stars are no solution.
    path.write_text("calibration.mag_range = [8.0, 8.8]\n" + Path(season.profile.source).read_text())
    season.lake.keep_profile(cameras.load(path))
    assert set(outdated(season.lake)["star_magnitudes"].why.values()) == {Why.PARAMETERS}
    snapshot, profile, progress = season.lake.snapshot(), cameras.load(path), Lines()
    (plan,) = plan_seasons(snapshot, profile, ReferenceCatalog.open(snapshot.catalog("drifters")))
    assert solve_planned(season.lake, snapshot, plan, profile, Inline(), progress) is None
    assert any("version 1 of the star magnitudes is withdrawn" in line for line in progress.lines)
    assert not outdated(season.lake)["star_magnitudes"].why
    # Neither comes back with the profile, and no number is used again.
    season.lake.keep_profile(season.profile)
    assert chain_of(season) is None
    (again,) = calibrate(season.lake, Inline()).solved
    assert (again.version, again.base_version) == (3, None)
    assert methods(season, [*FIRST_NIGHTS, *OTHER_NIGHTS]) == {("global", 3)}


def test_a_rollback_takes_extension_and_zeropoints_back_together(one_field: Any, tmp_path: Path) -> None:
    drift = copy(one_field, tmp_path)
    add_other_nights(drift)
    calibrate(drift.lake, Inline(), choice=Choice(last_night=20240410))
    number = drift.lake.snapshot().number
    assert calibrate(drift.lake, Inline()).solved
    drift.lake.rollback(number)
    assert versions(chain_of(drift)) == [1] and methods(drift, OTHER_NIGHTS) == {("frame", None)}
    (report,) = calibrate(drift.lake, Inline()).solved
    assert (report.version, report.base_version) == (2, 1)


def test_a_compacted_lake_has_the_same_chain(season: Any) -> None:
    before = chain_of(season).read()
    compact(season.lake, Inline(), everything=True)
    after = chain_of(season).read()
    np.testing.assert_array_equal(after.star, before.star)
    np.testing.assert_array_equal(after.mag, before.mag)
    assert (after.version, after.camera.floor) == (before.version, before.camera.floor) and after.version == 2
    assert plan_calibration(season.lake, Choice()) == []


@given(
    made_with=st.sets(st.integers(0, 3)),
    listed=st.lists(st.sets(st.integers(1, 3)), min_size=3, max_size=3),
    night=st.integers(1, 3),
)
def test_a_night_keeps_its_stars_until_an_extension_has_some_for_it(
    extended: Any, made_with: set[int], listed: list[set[int]], night: int
) -> None:
    chain = chain_of(extended)
    assert chain is not None
    one = chain.base
    members = [replace(one, key=replace(one.key, version=number + 1)) for number in range(4)]
    chain = SolutionChain(members[0], tuple(members[1:]), 4)
    chain.__dict__["extended"] = {
        extension.label: frozenset(nights) for extension, nights in zip(members[1:], listed, strict=True)
    }
    kept = chain.kept([members[number].label for number in made_with], night)
    others = [number for number in (1, 2, 3) if number not in made_with]
    keeps = 0 in made_with and not any(night in listed[number - 1] for number in others)
    assert [one.key.version - 1 for one in kept.members] == (sorted(made_with) if keeps else [0, 1, 2, 3])
    # What is gone from the chain cannot be kept, and other bands do not matter.
    assert chain.kept([members[0].label, "V:9:gone"], night) == chain
    assert chain.kept([members[0].label, "R:9:other", *(one.label for one in members[1:])], night) == chain
