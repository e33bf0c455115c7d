"""The choice of a master: a pure function with laws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import Camera, FilterBand, ReductionSteps
from skylake.errors import FrameFailed
from skylake.image.masters.master_library import Library, Master, MasterQuery, MasterRules, choose

WANTED = MasterQuery(60000.0, 0, "1x1", "V", 30.0, -20.0)
maybe = st.none() | st.floats(59990.0, 60010.0)
masters = st.lists(
    st.builds(
        Master,
        name=st.text("abc", min_size=1, max_size=4),
        kind=st.sampled_from(["bias", "dark", "flat"]),
        file=st.just("f"),
        sha256=st.just("0"),
        extension=st.integers(0, 1),
        binning=st.sampled_from(["1x1", "2x2"]),
        filter=st.sampled_from(["V", "R", None]),
        exposure_s=st.sampled_from([None, 10.0, 30.0, 30.2]),
        temperature_c=st.sampled_from([None, -20.0, -10.0]),
        mjd_mid=maybe,
        valid_from_mjd=maybe,
        valid_to_mjd=maybe,
        n_frames=st.integers(1, 20),
    ),
    max_size=12,
)


def master(**changes: object) -> Master:
    return replace(
        Master("m", "flat", "f", "0", 0, "1x1", "V", None, -20.0, 59999.0, None, None, 5),
        **changes,  # type: ignore[arg-type]
    )


@given(masters, st.sampled_from(["bias", "dark", "flat"]), st.booleans(), st.sampled_from([None, 3.0, 15.0]))
def test_what_is_chosen_fits_and_nothing_that_fits_is_nearer(
    some: list[Master], kind: str, scalable: bool, of_flats: float | None
) -> None:
    rules = MasterRules(0.01, 3.0, scalable, of_flats)
    warm = kind == "flat" and of_flats != 3.0

    def fits(one: Master) -> bool:
        return (
            one.kind == kind
            and one.holds_at(WANTED.mjd)
            and one.extension == 0
            and one.binning == "1x1"
            and (kind != "flat" or one.filter == "V")
            and one.temperature_c in (None, -20.0, -10.0 if warm else None)
            and (kind != "dark" or one.exposure_s in ((10.0, 30.0, 30.2) if scalable else (30.0, 30.2)))
        )

    found = choose(some, kind, WANTED, rules)
    fitting = [one for one in some if fits(one)]
    if isinstance(found, str):
        assert not fitting and kind in found
        return
    assert found in fitting
    if kind == "dark" and found.exposure_s == 10.0:
        assert all(one.exposure_s == 10.0 for one in fitting)
    same = [
        one for one in fitting if kind != "dark" or (one.exposure_s == 10.0) == (found.exposure_s == 10.0)
    ]
    # A dark that is scaled is as quiet as the others, nearly.
    noise = {one.n_frames: max(3.0 / one.n_frames**0.5, 0.5) for one in same}
    if kind == "dark" and found.exposure_s == 10.0:
        assert noise[found.n_frames] <= 1.5 * min(noise.values())
        same = [one for one in same if noise[one.n_frames] <= 1.5 * min(noise.values())]
    days = [abs(one.mjd_mid - WANTED.mjd) for one in same if one.mjd_mid is not None]
    if not days:
        return
    assert found.mjd_mid is not None
    far = abs(found.mjd_mid - WANTED.mjd)
    assert far <= min(days) + 1.0
    night = [
        one for one in same if one.mjd_mid is not None and abs(one.mjd_mid - WANTED.mjd) <= min(days) + 1.0
    ]
    if kind != "flat" or of_flats is not None:
        # The temperature of one that shows none may be anything.
        assert _off(found) == min(map(_off, night))
        night = [one for one in night if _off(one) == _off(found)]
    assert far == min(abs(one.mjd_mid - WANTED.mjd) for one in night if one.mjd_mid is not None)


def _off(one: Master) -> float:
    return {-20.0: 0.0, None: 1.0, -10.0: 2.0}[one.temperature_c]


@given(masters, st.randoms())
def test_the_order_of_the_library_does_not_matter(some: list[Master], random: object) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for kind in ("bias", "dark", "flat"):
        assert choose(some, kind, WANTED, MasterRules()) == choose(shuffled, kind, WANTED, MasterRules())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (master(name="a", mjd_mid=60001.0), master(name="b", mjd_mid=59999.0)),
        (master(name="a", n_frames=9), master(name="b", n_frames=5)),
        (master(name="b"), master(name="a")),
    ],
)  # fmt: skip
def test_ties_go_to_the_later_the_better_and_the_last_by_name(first: Master, second: Master) -> None:
    assert choose([second, first], "flat", WANTED, MasterRules()) is first
    assert choose([first, second], "flat", WANTED, MasterRules()) is first


def test_validity_is_half_open() -> None:
    one = master(valid_from_mjd=60000.0, valid_to_mjd=60001.0)
    assert one.holds_at(60000.0) and not one.holds_at(60001.0) and not one.holds_at(59999.999)


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (master(kind="bias"), "has no master of kind flat"),
        (master(extension=3), "is of extension 0"),
        (master(binning="2x2"), "has the binning 1x1"),
        (master(filter="R"), "is of filter V"),
        (master(temperature_c=5.0), "within 4 degrees of -20 C"),
        (master(valid_to_mjd=59999.5), "is valid at MJD 60000.0000"),
    ],
)
def test_the_reason_why_none_fits_is_reported(held: Master, why: str) -> None:
    found = choose([held], "flat", WANTED, MasterRules(flat_temperature_tolerance_c=4.0))
    assert isinstance(found, str) and why in found


def test_bias_and_dark_match_the_temperature_and_flats_need_not() -> None:
    """What a pixel makes of light hardly depends on temperature; its dark current doubles every six degrees."""
    warm = [master(kind=kind, temperature_c=5.0, exposure_s=30.0) for kind in ("bias", "dark", "flat")]
    for kind in ("bias", "dark"):
        found = choose(warm, kind, WANTED, MasterRules())
        assert isinstance(found, str) and "within 3 degrees of -20 C" in found
    assert choose(warm, "flat", WANTED, MasterRules()) is warm[2]


def test_a_frame_without_a_master_fails_with_the_command() -> None:
    library = Library(Path("/data/lake"), (), "/data/lake")
    told = (
        "the calibration library has no master of kind flat; make one with `skylake calib build /data/lake --camera "
        "my/cam.toml FILE…`, then try again, or take 'flat' out of reduction.steps of my/cam.toml"
    )
    with pytest.raises(FrameFailed) as caught:
        library.pick(ReductionSteps(("overscan", "flat")), WANTED, "my/cam.toml")
    assert str(caught.value) == told
    with pytest.raises(
        FrameFailed, match=r"name with --lake a lake whose .*, or take .flat. out of reduction\.steps"
    ):
        Library(Path()).pick(ReductionSteps(("flat",)), WANTED, "cam")
    assert caught.value.reason == "no_master"
    assert library.pick(ReductionSteps(("overscan", "trim")), WANTED, "cam") == {}


def test_a_dark_is_scaled_only_where_the_bias_is_taken_off() -> None:
    dark = master(kind="dark", exposure_s=100.0)
    library = Library(Path(), (dark, master(kind="bias", name="b")))
    assert library.pick(ReductionSteps(("bias", "dark")), WANTED, "c")["dark"] is dark
    with pytest.raises(FrameFailed, match="no bias by which to scale"):
        library.pick(ReductionSteps(("dark",)), WANTED, "c")


def dark(name: str, exposure_s: float, days: float = 0.0, **changes: object) -> Master:
    """A dark of ten frames, taken so many days before the frame."""
    known = {"kind": "dark", "exposure_s": exposure_s, "mjd_mid": WANTED.mjd - days, "n_frames": 10}
    return master(name=name, **(known | changes))


def chosen(wanted: MasterQuery, *some: Master) -> str:
    found = choose(some, "dark", wanted, MasterRules())
    return found if isinstance(found, str) else found.name


def test_noise_that_scaling_brings_goes_before_minutes() -> None:
    """Of a frame of 120 s: 20 s are scaled by 6, so ten of them add 1.9 times the read noise; 300 s add an eighth."""
    long = replace(WANTED, exposure_s=120.0)
    assert chosen(long, dark("short", 20.0, 0.01), dark("long", 300.0, 0.02)) == "long"
    assert chosen(long, dark("short", 20.0, 0.01), dark("long", 300.0, 20.0)) == "long"
    # Where the noise of both does no harm, or is much the same, the nearer one counts.
    assert chosen(long, dark("near", 100.0, 0.01), dark("long", 300.0, 20.0)) == "near"
    assert chosen(long, dark("near", 20.0, 0.01), dark("more", 20.0, 20.0, n_frames=12)) == "near"
    # Frames make up for what scaling does.
    assert chosen(long, dark("many", 30.0, 0.01, n_frames=64), dark("long", 300.0, 20.0)) == "many"
    assert chosen(long, dark("same", 120.0, 20.0), dark("long", 300.0, 0.01)) == "same"


def test_no_dark_is_scaled_by_more_than_ten_unless_it_is_named() -> None:
    long, short = replace(WANTED, exposure_s=120.0), dark("short", 1.0)
    told = chosen(long, short)
    assert told.startswith(
        "none of the 1 masters of kind dark is at least 1/10 of the exposure of 120 s long"
    )
    assert "reduction.use.dark" in told
    assert choose([short], "dark", long, MasterRules(), ["short"]) is short
    assert chosen(long, short, dark("tenth", 12.0, 9.0)) == "tenth"
    assert chosen(WANTED, dark("hour", 3600.0)) == "hour"


def test_the_master_nearest_in_temperature_is_taken() -> None:
    cold, warm = dark("cold", 30.0, 0.3), dark("warm", 30.0, 0.1, temperature_c=-17.5)
    assert chosen(WANTED, cold, warm) == "cold"
    assert chosen(replace(WANTED, temperature_c=-17.0), cold, warm) == "warm"
    assert chosen(replace(WANTED, temperature_c=None), cold, warm) == "warm"
    # Half a degree is nothing, a night a week earlier is another, and one that says nothing is the last.
    assert chosen(WANTED, cold, dark("near", 30.0, 0.1, temperature_c=-19.6)) == "near"
    assert chosen(WANTED, dark("cold", 30.0, 7.0), warm) == "warm"
    assert chosen(WANTED, dark("untold", 30.0, 0.01, temperature_c=None), warm) == "warm"


def test_undated_frames_take_masters_that_hold_for_ever() -> None:
    undated = replace(WANTED, mjd=float("nan"))
    assert choose([master(valid_from_mjd=1.0)], "flat", undated, MasterRules()) != master(valid_from_mjd=1.0)
    assert choose([master()], "flat", undated, MasterRules()) == master()


def test_named_masters_go_before_nearer_ones() -> None:
    near = master(name="near", mjd_mid=60000.0)
    other = master(name="other", mjd_mid=59000.0, valid_to_mjd=59500.0, temperature_c=0.0)
    red = master(name="red", filter="R")
    library = Library(Path(), (near, other, red))
    steps = ReductionSteps(("flat",))
    assert library.pick(steps, WANTED, "lab")["flat"] is near
    named = replace(steps, use={"flat": ("other", "red")})
    assert library.pick(named, WANTED, "lab")["flat"] is other
    assert library.pick(named, replace(WANTED, filter="R"), "lab")["flat"] is red
    with pytest.raises(
        FrameFailed, match=r"reduction\.use\.flat of the profile names no master of kind flat"
    ):
        library.pick(replace(steps, use={"flat": ("lost",)}), WANTED, "lab")
    with pytest.raises(
        FrameFailed,
        match=r"none of the 1 masters that reduction\.use\.flat names is of filter V; name others in reduction\.use",
    ):
        library.pick(replace(steps, use={"flat": ("red",)}), WANTED, "lab")


def test_a_flat_is_of_a_filter_by_any_of_its_names() -> None:
    names = {"V": ("V", "Johnson V", "vis"), "r": ("r",), "R": ("R", "vis")}
    known = Camera("lab", filters={key: FilterBand(key, aliases=some[1:]) for key, some in names.items()})
    steps = ReductionSteps(("flat",))

    def fits(of_master: str | None, of_frame: str | None) -> bool:
        library, wanted = Library(Path(), (master(filter=of_master),)), replace(WANTED, filter=of_frame)
        try:
            return library.pick(steps, wanted, "lab", known.filter_key)["flat"].filter == of_master
        except FrameFailed:
            return False

    assert fits("Johnson V", "V") and fits("V", "johnson v") and fits("v", "Johnson V") and fits("odd", "odd")
    assert fits(None, None)
    assert not fits("r", "R") and not fits("V", "R") and not fits("odd", "Odd") and not fits(None, "V")
    # A name that two filters have is neither.
    assert not fits("V", "vis") and not fits("R", "vis") and fits("vis", "vis")


@pytest.mark.parametrize(
    ("kind", "changes", "mend"),
    [
        ("dark", {"exposure_s": None}, "name the card that holds it in header.exposure.cards of own.toml"),
        (
            "flat",
            {"filter": None},
            "give default_filter, or name the card that holds it in header.filter, of own",
        ),
    ],
)
def test_what_no_build_fixes_is_fixed_in_the_profile(kind: str, changes: dict[str, None], mend: str) -> None:
    steps = ReductionSteps(("bias", "dark") if kind == "dark" else ("flat",))
    some = (master(kind="bias"), master(kind="dark", exposure_s=30.0), master())
    library = Library(Path(), some, "/data/lake")
    with pytest.raises(FrameFailed) as caught:
        library.pick(steps, replace(WANTED, **changes), "own.toml")  # type: ignore[arg-type]
    assert mend in str(caught.value) and "calib build" not in str(caught.value)
    assert library.pick(steps, WANTED, "own.toml")[kind].kind == kind
    # Where there is none at all, one has to be made.
    with pytest.raises(FrameFailed, match="make one with `skylake calib build /data/lake"):
        Library(Path(), some[:1], "/data/lake").pick(steps, replace(WANTED, **changes), "own.toml")  # type: ignore[arg-type]


def test_an_exposure_longer_than_all_darks_may_be_wrong() -> None:
    """A build of a dark of 60000 s is no fix for 60 s whose unit is taken for another."""
    told = choose(
        [master(kind="dark", exposure_s=60.0)], "dark", replace(WANTED, exposure_s=6e4), MasterRules()
    )
    assert isinstance(told, str) and "correct header.exposure of the profile" in told
