"""What changes among watched stars has a row, and nothing else has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from watching_sky import CENTRE, JUNK, LAST, MADE_BEFORE, NEW, NIGHTS, UNSEEN, Change, Sky

from skylake.core.batch import Batch
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.maintenance.forget_frames import find, forget
from skylake.flow.staleness import Why
from skylake.flow.watching.episodes import Episodes
from skylake.flow.watching.make_alerts import plan_alerts
from skylake.flow.watching.night_frames import NightDetections, NightFrames
from skylake.flow.watching.night_tables import DETECTED, MOST_NIGHTS, tonight
from skylake.flow.watching.vanished_stars import vanished_since
from skylake.lake import Commit, stage_part
from skylake.lake.storage.watch_lists import remove_watch_list
from skylake.report.page import _render
from skylake.sky.sky_region import SkyRegion


def test_a_star_that_is_brighter_or_fainter_has_a_row_and_the_others_have_none(sky: Sky) -> None:
    # All stars are fainter, as behind a thin cloud, and two have changed.
    sky.night(LAST, Change(stars={3: -0.4, 20: 0.3}, shift=0.2))
    sky.watch(3, 20, 21, 40)
    sky.aggregate()
    found = {row["star"]: row for row in sky.alerts()}
    assert set(found) == {"3", "20"}
    for star, kind, change in ((3, "brighter", -0.4), (20, "fainter", 0.3)):
        row = found[str(star)]
        assert (row["kind"], row["night"], row["object_id"], row["measured"]) == (
            kind,
            LAST,
            star,
            "detected",
        )
        assert abs(row["difference"] - change) < 4 * row["difference_err"] < 0.2
        assert row["mag"] == pytest.approx(sky.mag[star] + change + 0.2, abs=0.05)
        assert row["past_mag"] == pytest.approx(sky.mag[star], abs=0.03)
        assert abs(row["significance"]) > 5 and row["false_alarm"] < 6e-7
        assert (row["n_past_nights"], row["n_good"], row["separation_arcsec"]) == (
            5,
            5,
            pytest.approx(0, abs=0.01),
        )
        assert row["frame_id"] // 100 == LAST and row["n_comparison"] >= 8


def test_a_coverage_map_watches_all_stars_in_it_and_what_appears(sky: Sky) -> None:
    sky.night(LAST, Change(stars={3: -0.4}, gone=(30,), new=((*NEW, 12.5),)))
    sky.watch(moc=SkyRegion.of_cone(*CENTRE, 1.0).moc_text)
    sky.aggregate()
    found = {row["kind"]: row for row in sky.alerts()}
    assert len(sky.alerts()) == 3 and set(found) == {"brighter", "vanished", "appeared"}
    assert all(row["star"] is None and row["separation_arcsec"] is None for row in found.values())
    assert found["brighter"]["object_id"] == 3
    gone = found["vanished"]
    assert gone["object_id"] == 30 and gone["mag"] is None and gone["n_points"] == 5
    assert gone["past_mag"] == pytest.approx(sky.mag[30], abs=0.03)
    # Half of the light of a star at the limit.
    assert gone["mag_limit"] == pytest.approx(14.75) and gone["difference"] > 1.7
    new = found["appeared"]
    assert new["catalog"] == "sources" and new["mag"] == pytest.approx(12.5, abs=0.01)
    assert (new["ra_deg"], new["dec_deg"]) == pytest.approx(NEW, abs=1e-4)
    assert new["past_mag"] is None and new["n_past_nights"] == 5


def test_what_appeared_is_no_news_in_the_next_night(sky: Sky) -> None:
    sky.watch(NEW)
    for night in (LAST, LAST + 1):
        sky.night(night, Change(new=((*NEW, 12.5),)))
    sky.aggregate()
    assert [row["night"] for row in sky.alerts()] == [LAST]


@pytest.mark.slow
def test_what_appeared_rings_again_when_it_vanishes_and_returns_under_the_identifier_of_its_object(
    sky: Sky,
) -> None:
    sky.watch(NEW, name="mine")
    sky.watch(moc=SkyRegion.of_cone(*CENTRE, 1.0).moc_text, name="all")
    # A nova of some nights, which fades below the limit, and comes again, fainter.
    course = [12.0, 12.5, None, 12.3, None]
    for step, mag in enumerate(course):
        sky.night(LAST + step, Change(new=() if mag is None else ((*NEW, mag),)))
    sky.aggregate("clusters", "objects", *MADE_BEFORE, "alerts")
    rung = {(row["watch_list"], row["night"] - LAST): row for row in sky.alerts()}
    assert {key: row["kind"] for key, row in rung.items()} == {
        (name, step): kind
        for name in ("mine", "all")
        for step, kind in ((0, "appeared"), (2, "vanished"), (3, "returned"), (4, "vanished"))
    }
    objects = sky.lake.snapshot().read("objects").to_pylist()
    (seen,) = (row for row in objects if row["ref_id"] is None)
    assert {row["object_id"] for row in rung.values()} == {seen["object_id"]}
    gone, again = rung["mine", 2], rung["mine", 3]
    assert (gone["star"], gone["catalog"], gone["mag"], gone["past_scatter"]) == (
        str(NEW),
        "sources",
        None,
        None,
    )
    assert gone["past_mag"] == pytest.approx(12.0, abs=0.01) and gone["mag_limit"] == pytest.approx(14.75)
    assert again["mag"] == pytest.approx(12.3, abs=0.01) and again["past_mag"] is None
    # Forced photometry knows better, as soon as it measures the object as a target.
    (night,) = (one.night for one in plan_alerts(sky.lake) if one.night.night == LAST + 2)
    night = replace(night, episodes=Episodes.of(sky.alerts(), night.night))
    given = night, NightFrames.read(night), NightDetections.read(night)
    stars = tonight(night.snapshot, DETECTED, night.part)
    assert len(vanished_since(*given, stars, ())) == 2
    assert vanished_since(*given, stars, [("detections", seen["object_id"], "V")]) == []


def test_a_star_of_the_catalog_that_is_seen_for_some_nights_only_vanishes(sky: Sky) -> None:
    for night in NIGHTS:
        sky.night(night, Change(gone=(30,)))
    sky.night(LAST, Change(stars={30: -2.0}))
    for night in (LAST + 1, LAST + 2):
        sky.night(night, Change(gone=(30,)))
    sky.watch(30)
    sky.aggregate()
    assert [(row["night"], row["kind"], row["object_id"]) for row in sky.alerts()] == [
        (LAST, "appeared", 30),
        (LAST + 1, "vanished", 30),
    ]


def test_what_is_brighter_than_all_stars_near_by_rings_when_it_appears_and_when_it_vanishes(sky: Sky) -> None:
    bright, new = int(np.argmin(sky.mag)), (*NEW, float(sky.mag.min()) - 2.5)
    for night in (*NIGHTS, LAST):
        shift = {bright: -2.0} if night < LAST else {}
        sky.night(
            night, Change(stars=shift, gone=() if night < LAST else (bright,), new=(new,) * (night == LAST))
        )
    sky.watch(NEW, bright)
    sky.aggregate()
    assert {row["kind"]: row["n_comparison"] for row in sky.alerts()} == {"appeared": 20, "vanished": 20}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        *(Change(new=((*NEW, 12.5),), new_flags=int(flag)) for flag in JUNK),
        Change(new=((*NEW, 12.5),), new_frames=1),
        Change(new=((*NEW, 15.2),)),
        Change(new=((UNSEEN[0], UNSEEN[1], 12.0),)),
        Change(gone=tuple(range(64))),
        Change(gone=(0,), new=((119.7794, -25.2, 11.0),)),
    ],
    ids=[*(flag.name for flag in JUNK), "once", "at the limit", "of the catalog", "all gone", "merged"],
)
def test_junk_does_not_ring(sky: Sky, change: Change) -> None:
    sky.night(LAST, change)
    sky.watch(moc=SkyRegion.of_cone(*CENTRE, 1.0).moc_text)
    sky.aggregate()
    assert sky.alerts() == []


def test_a_star_that_varies_rings_only_beyond_what_it_did_before(sky: Sky) -> None:
    for night in NIGHTS:
        sky.night(night, Change(stars={3: 0.3 * (-1) ** night}))
    sky.night(LAST, Change(stars={3: 0.4}))
    sky.night(LAST + 1, Change(stars={3: -4.0}))
    sky.watch(3)
    sky.aggregate()
    assert [row["night"] for row in sky.alerts()] == [LAST + 1]


def test_nights_before_the_first_are_not_watched_and_new_ones_cost_themselves_only(sky: Sky) -> None:
    sky.night(LAST, Change(stars={20: -0.4}))
    sky.watch(3, 20, from_night=LAST + 1)
    sky.aggregate()
    assert sky.lake.snapshot().parts("alerts") == {}
    sky.night(LAST + 1, Change(stars={3: -0.4}))
    assert outdated(sky.lake)["alerts"].nights == {LAST + 1}
    sky.aggregate()
    assert [row["night"] for row in sky.alerts()] == [LAST + 1]
    made = aggregate(sky.lake, ["alerts"], Inline())
    assert (made.refreshed["alerts"], made.current["alerts"]) == (0, 1)
    # The tables that they are made of were not calibrated here, but drawn.
    assert set(outdated(sky.lake)["alerts"].why.values()) == {Why.UPSTREAM}


def test_alerts_outlive_their_list_and_go_with_their_night(sky: Sky) -> None:
    sky.night(LAST, Change(stars={3: -0.4, 20: 0.3}))
    sky.watch(3, name="one")
    sky.watch(20, name="two")
    sky.aggregate()
    remove_watch_list(sky.lake.layout, "one")
    sky.aggregate()
    before = sky.alerts()
    assert {row["watch_list"] for row in before} == {"one", "two"}
    # Judged again, the night keeps them.
    sky.night(LAST, Change(stars={3: -0.4, 20: 0.31}))
    sky.aggregate()
    after = sky.alerts()
    assert [row["alert_id"] for row in after] == [row["alert_id"] for row in before]
    assert after != before
    assert compact(sky.lake, Inline(), ["alerts"], everything=True).tables
    assert sky.alerts() == after
    forget(sky.lake, find(sky.lake.snapshot(), (), [Batch("lab", LAST)]), Inline())
    sky.aggregate()
    assert sky.alerts() == []
    assert Why.ORPHANED not in outdated(sky.lake)["alerts"].why.values()


def test_what_appeared_keeps_its_identifier_when_its_night_is_judged_again(sky: Sky) -> None:
    sky.watch(NEW)
    sky.night(LAST, Change(new=((*NEW, 12.5),), new_frames=3))
    sky.aggregate()
    (first,) = sky.alerts()
    sky.night(LAST, Change(new=((*NEW, 12.5),)))
    sky.aggregate()
    (second,) = sky.alerts()
    assert second["alert_id"] == first["alert_id"] and second["n_good"] == 5 > first["n_good"]


def test_constant_stars_do_not_ring(sky: Sky) -> None:
    for night in range(LAST, LAST + 6):
        sky.night(night, Change(shift=0.05 * np.sin(night)))
    sky.watch(moc=SkyRegion.of_cone(*CENTRE, 1.0).moc_text, sigma=4.0, by_mag=0.0)
    sky.aggregate()
    assert sky.alerts() == []


def test_a_lake_without_lists_has_no_alerts(sky: Sky) -> None:
    sky.aggregate()
    assert sky.lake.snapshot().parts("alerts") == {} and "alerts" in outdated(sky.lake)


def test_the_report_names_what_has_changed(sky: Sky) -> None:
    sky.night(LAST, Change(stars={3: -0.4}, gone=(30,), new=((*NEW, 12.5),)))
    sky.watch(3, 30, NEW)
    sky.aggregate()
    text = _render(sky.lake, sky.lake.snapshot(), [])
    assert "Alerts of watch lists" in text
    for said in ("brighter by 0.", "fainter than 14.75 mag", "appeared at 12.5"):
        assert said in text


def test_a_star_that_stays_changed_rings_once_and_again_when_it_changes_or_returns(sky: Sky) -> None:
    # An outburst that lasts longer than the nights before it, fades once and ends; and a second one.
    course = [-1.0, -1.02, -0.98, -1.0, -1.0, -1.01, -0.5, -0.5, 0.0, 0.01, -1.0]
    for step, change in enumerate(course):
        sky.night(LAST + step, Change(stars={3: change}, gone=(30,) if 2 <= step < 7 else ()))
    sky.watch(3, 30, 40)
    sky.aggregate()
    rung = [(row["night"] - LAST, row["star"], row["kind"]) for row in sky.alerts()]
    assert sorted(rung) == [
        (0, "3", "brighter"), (2, "30", "vanished"), (6, "3", "brighter"), (7, "30", "returned"),
        (8, "3", "returned"), (10, "3", "brighter"),
    ]  # fmt: skip
    for row in sky.alerts():
        if row["star"] == "3":
            # What the star was before its first outburst is its past throughout.
            assert row["past_mag"] == pytest.approx(sky.mag[3], abs=0.03)
            assert row["difference"] == pytest.approx(course[row["night"] - LAST], abs=0.06)


@pytest.mark.slow
def test_a_star_is_held_against_what_it_was_however_long_its_change_lasts(sky: Sky) -> None:
    last = LAST + 3 * MOST_NIGHTS
    fainter = Change(stars={3: 2.0, 20: 1.0, 40: 1.0})
    sky.night(LAST, fainter)
    sky.night(last, Change(stars={20: 1.0}, gone=(40,)))
    sky.aggregate(*MADE_BEFORE)
    repeat_night(sky, LAST, range(LAST + 1, LAST + 1 + MOST_NIGHTS))
    sky.watch(3, 20, 40)
    sky.aggregate("alerts")
    rung = {(row["night"], row["star"]): row for row in sky.alerts()}
    assert {key: row["kind"] for key, row in rung.items()} == {
        (LAST, "3"): "fainter", (LAST, "20"): "fainter", (LAST, "40"): "fainter",
        (last, "3"): "returned", (last, "40"): "vanished",
    }  # fmt: skip
    for row in rung.values():
        assert row["past_mag"] == pytest.approx(sky.mag[int(row["star"])], abs=0.03)
        assert row["n_past_nights"] == len(NIGHTS)


def repeat_night(sky: Sky, night: int, others: range) -> None:
    """Put the statistics of the stars of a night into the lake as those of other nights too."""
    rows, commit = sky.lake.snapshot().read_part("star_statistics", f"lab-{night}"), Commit("test", "-")
    column = rows.schema.get_field_index("night")
    with sky.lake.stage("test") as staging:
        for other in others:
            same = rows.set_column(
                column, rows.schema.field(column), pa.array([other] * rows.num_rows, pa.int32())
            )
            name = f"lab-{other}"
            commit.replace(
                stage_part(same, "star_statistics", name, staging, sky.lake.tree, "lab", other), staging
            )
        sky.lake.commit(commit)


def test_night_by_night_the_same_alerts_are_made_as_all_at_once(sky: Sky) -> None:
    course = [0.4, 0.4, 0.4, 0.0]
    sky.watch(3, 20)
    for step, change in enumerate(course):
        sky.night(LAST + step, Change(stars={3: change}))
        sky.aggregate()
    each = [row["alert_id"] for row in sky.alerts()]
    assert [(row["night"] - LAST, row["kind"]) for row in sky.alerts()] == [(0, "fainter"), (3, "returned")]
    remove_watch_list(sky.lake.layout, "mine")
    sky.watch(3, 20, by_mag=0.11)
    sky.aggregate()
    assert [row["alert_id"] for row in sky.alerts()] == each


def test_each_band_is_compared_with_itself(sky: Sky) -> None:
    both = ("V", "V", "V", "B", "B")
    # In B all stars are half a magnitude fainter, as no catalog says.
    redder = dict.fromkeys(range(64), 0.5)
    for night in NIGHTS[-3:]:
        sky.night(night, Change(bands=both, in_band={"B": redder}))
    sky.night(LAST, Change(bands=both, in_band={"B": redder | {3: 0.1}, "V": {20: 0.4}}))
    sky.watch(3, 20, 21)
    sky.aggregate()
    rung = {(row["star"], row["band"], row["kind"]) for row in sky.alerts()}
    assert rung == {("3", "B", "brighter"), ("20", "V", "fainter")}
    assert {row["n_past_nights"] for row in sky.alerts() if row["band"] == "B"} == {3}


@pytest.mark.slow
def test_a_fisheye_whose_frames_have_no_outline_rings_too(fisheye: Sky) -> None:
    new = (CENTRE[0] + 2.0, CENTRE[1] + 2.0)
    fisheye.night(LAST, Change(stars={3: -0.4, 60: 0.3}, gone=(30,), new=((*new, 12.0),)))
    fisheye.watch(3, 30, 40, 60, new, radius_arcsec=600.0)
    fisheye.aggregate()
    rung = {(row["star"], row["kind"]) for row in fisheye.alerts()}
    assert rung == {("3", "brighter"), ("60", "fainter"), ("30", "vanished"), (str(new), "appeared")}
