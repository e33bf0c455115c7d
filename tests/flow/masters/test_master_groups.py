from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake import cameras
from skylake.cameras import Profile
from skylake.flow.masters.master_groups import MasterGroup, group, validity
from skylake.flow.masters.master_tasks import Exposure
from skylake.image.masters.master_library import Master, MasterQuery, MasterRules, choose

PROFILE = """
like = "generic"
name = "g"
[reduction]
validity_days = 30.0
[[period]]
from = 2024-01-01
until = 2024-07-01
detector.read_noise_e = 4.0
"""
#: 2024-01-01 and 2024-07-01.
START, END = 60310.0, 60492.0


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    path = tmp_path_factory.mktemp("p") / "g.toml"
    path.write_text(PROFILE)
    return cameras.load(path)


def exposure(kind: str = "bias", mjd: float = 60400.1, night: int = 20240401, **wanted: object) -> Exposure:
    made = Exposure("f", kind, MasterQuery(mjd, 0, "1x1"), night, 1.0, "c")  # type: ignore[arg-type]
    return replace(made, wanted=replace(made.wanted, **wanted))


exposures = st.builds(
    lambda number, kind, mjd, night, name, seconds, degrees, chip: replace(
        exposure(kind, mjd, night, filter=name, exposure_s=seconds, temperature_c=degrees, extension=chip),
        file=f"{number:04d}",
    ),
    st.integers(0, 9999),
    st.sampled_from(["bias", "dark", "flat"]),
    st.floats(60400.0, 60402.0),
    st.sampled_from([20240401, 20240402]),
    st.sampled_from(["V", "R"]),
    st.sampled_from([10.0, 10.05, 30.0]),
    st.sampled_from([None, -20.0, -19.0, -10.0]),
    st.integers(0, 1),
)


@given(st.lists(exposures, max_size=25), st.booleans())
def test_groups_hold_every_frame_once(profile: Profile, frames: list[Exposure], by_night: bool) -> None:
    groups = group(frames, profile, by_night)
    assert sorted(one.file for some in groups for one in some.frames) == sorted(one.file for one in frames)
    kinds = [("bias", "dark", "flat").index(some.kind) for some in groups]
    assert kinds == sorted(kinds)
    for some in groups:
        wanted = [one.wanted for one in some.frames]
        assert len({(one.kind, one.wanted.extension, one.wanted.binning) for one in some.frames}) == 1
        assert not by_night or len({one.night for one in some.frames}) == 1
        if some.kind == "flat":
            assert len({one.filter for one in wanted}) == 1
        if some.kind == "dark":
            times = [one.exposure_s for one in wanted]
            assert max(times) <= 1.01 * min(times)
        degrees = [one.temperature_c for one in wanted]
        known = [one for one in degrees if one is not None]
        assert len(known) in (0, len(degrees)) and (not known or max(known) - min(known) <= 3.0)
        assert [one.wanted.mjd for one in some.frames] == sorted(one.wanted.mjd for one in some.frames)


def flats(*hours: float) -> list[Exposure]:
    """Flats of one night, so many hours after its beginning."""
    return [
        replace(exposure("flat", 60400.0 + hour / 24.0, filter="V"), file=f"{number:04d}")
        for number, hour in enumerate(hours)
    ]


@pytest.mark.parametrize(
    ("hours", "least", "sizes"),
    [
        ((1.0, 1.1, 1.2, 11.0, 11.1, 11.2), 3, [3, 3]),
        ((1.0, 1.1, 1.2, 11.0, 11.1), 3, [5]),
        ((1.0, 1.1, 11.0, 11.1, 11.2), 3, [5]),
        ((1.0, 2.0, 3.5, 5.0, 6.9, 8.0), 1, [6]),
        ((-6.0, -5.9, -5.8, 1.0, 1.1, 11.0, 11.1, 11.2), 3, [5, 3]),
    ],
)
def test_flats_of_dusk_and_dawn_are_apart_where_both_are_enough(
    profile: Profile, hours: tuple[float, ...], least: int, sizes: list[int]
) -> None:
    found = group(flats(*hours), profile, least=least)
    assert [len(one.frames) for one in found] == sizes
    assert [len(one.frames) for one in group(flats(*hours), profile, by_night=False, least=least)] == [
        len(hours)
    ]
    darks = [replace(one, kind="dark") for one in flats(*hours)]
    assert [len(one.frames) for one in group(darks, profile, least=least)] == [len(hours)]


def test_a_frame_takes_the_flat_of_its_twilight(profile: Profile) -> None:
    dusk, dawn = group(flats(1.0, 1.1, 1.2, 11.0, 11.1, 11.2), profile, least=3)
    masters = [
        Master(name, "flat", "f", "s", 0, "1x1", filter="V", mjd_mid=one.mjd)
        for name, one in (("dusk", dusk), ("dawn", dawn))
    ]
    chosen = [
        choose(masters, "flat", MasterQuery(60400.0 + hour / 24.0, 0, "1x1", "V"), MasterRules())
        for hour in (2.0, 5.9, 6.3, 10.0)
    ]
    assert [one.name for one in chosen if isinstance(one, Master)] == ["dusk", "dusk", "dawn", "dawn"]


@given(st.lists(exposures, max_size=15), st.randoms())
def test_the_order_of_files_does_not_matter(profile: Profile, frames: list[Exposure], random: object) -> None:
    frames = list({one.file: one for one in frames}.values())
    shuffled = list(frames)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (sorted(map(repr, group(some, profile))) for some in (frames, shuffled))
    assert first == second


@pytest.mark.parametrize(
    ("mjd", "expected"),
    [
        (60400.0, (60370.0, 60430.0)),
        (START + 5.0, (START, START + 35.0)),
        (END - 5.0, (END - 35.0, END)),
        (START - 5.0, (START - 35.0, START)),
        (END, (END, END + 30.0)),
        (float("nan"), (None, None)),
    ],
)
def test_masters_are_valid_for_a_while_within_their_period(
    profile: Profile, mjd: float, expected: tuple[float | None, float | None]
) -> None:
    assert validity(MasterGroup("bias", (exposure(mjd=mjd),)), profile) == expected


def test_without_days_masters_are_valid_while_the_camera_stays(tmp_path: Path) -> None:
    path = tmp_path / "g.toml"
    path.write_text(PROFILE.replace("validity_days = 30.0", ""))
    profile = cameras.load(path)
    spans = [
        validity(MasterGroup("bias", (exposure(mjd=mjd),)), profile) for mjd in (60000.0, 60400.0, 61000.0)
    ]
    assert spans == [(None, START), (START, END), (END, None)]


def test_a_group_says_what_it_is() -> None:
    flat = MasterGroup(
        "flat", (exposure("flat", filter="V", exposure_s=5.0), exposure("flat", filter="V", exposure_s=9.0))
    )
    assert flat.text == "flat V of night 20240401" and flat.exposure_s is None and flat.filter == "V"
    dark = MasterGroup("dark", (exposure("dark", exposure_s=30.0, temperature_c=-20.0),))
    assert (
        dark.text == "dark 30 s of night 20240401" and dark.exposure_s == 30.0 and dark.temperature_c == -20.0
    )
    assert MasterGroup("bias", (exposure(), exposure(night=20240402))).night == 0
