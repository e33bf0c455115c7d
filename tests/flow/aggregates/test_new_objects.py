"""A source of one night is found among all that a camera sees, alone; what only looks like one has a reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from archive.make_archive import make_archive
from archive.scenario import ArchiveScenario

from skylake.cameras import Profile
from skylake.core.flags import SourceFlag
from skylake.core.sphere import healpix_index, offset, separation_deg
from skylake.flow.aggregates import aggregate
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.extend_targets import extend_targets
from skylake.flow.forced.target_list import TargetList
from skylake.lake import Commit, Lake, stage_part
from skylake.settings import Settings
from skylake.simulate import ScheduleParams, StarParams

N_NIGHTS = 20
#: What is added to one night: a transient, and others with a flag, a motion in arcseconds per day, or a width; a halo
#: is beside what is bright.
ADDED: dict[str, dict[str, Any]] = {
    "transient": {},
    "streak": {"flags": int(SourceFlag.STREAK)},
    "edge": {"flags": int(SourceFlag.EDGE)},
    "narrow": {"width": 0.4},
    "moves": {"rate": 300.0},
    "bright": {"flags": int(SourceFlag.STREAK | SourceFlag.SATURATED)},
    "halo": {},
}


@pytest.fixture(scope="module")
def season(
    profile: Profile, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lake, dict[str, tuple[float, float]]]:
    """Twenty nights of a field, and the places of what is seen in one of them only."""
    scenario = ArchiveScenario(
        camera=profile.source, nights=N_NIGHTS, frames_per_night=15, stars=StarParams(per_frame=60.0),
        schedule=ScheduleParams(fields=1),
    )  # fmt: skip
    lake = Lake.create(tmp_path_factory.mktemp("season") / "lake", Settings(cluster="inline", pixel_order=1))
    make_archive(lake, scenario, Inline())
    places = add_sources(lake)
    # Candidates are variable stars too, of which these nights have none.
    aggregate(lake, ["clusters", "star_statistics", "objects"], Inline())
    return lake, places


def good_nights(lake: Lake) -> list[tuple[int, int]]:
    """Nights with good frames, and their number: some are cloudy."""
    found = lake.snapshot().read("frames", ["night"], filter=pc.field("status") == "ok")["night"].to_pylist()
    return sorted(Counter(found).items())


def night_of(lake: Lake) -> int:
    """The last night but two that has enough good frames."""
    return [night for night, count in good_nights(lake)[:-2] if count >= 10][-1]


def add_sources(lake: Lake) -> dict[str, tuple[float, float]]:
    """Add detections to one night, on each of its good frames."""
    snapshot = lake.snapshot()
    name = f"small-{night_of(lake)}"
    frames, rows = snapshot.read_part("frames", name), snapshot.read_part("sources", name)
    frames = frames.filter(pc.equal(frames["status"], "ok"))
    centre = float(pc.mean(frames["ra_deg"]).as_py()), float(pc.mean(frames["dec_deg"]).as_py())
    known = snapshot.read("sources", ["ra_deg", "dec_deg"])
    places, pieces = {}, [rows]
    for angle, (kind, how) in enumerate(ADDED.items()):
        if kind == "halo":
            width = np.median(frames["fwhm_px"].to_numpy() * frames["pixel_scale_arcsec"].to_numpy())
            ra, dec = offset(*places["bright"], 4.0 * width / 3600.0, 0.0)
            places[kind] = float(ra), float(dec)
        elif kind == "bright":
            places[kind] = empty_place(centre, known, 180.0, 350.0)
        else:
            places[kind] = empty_place(centre, known, 72.0 * angle)
        pieces.append(detections(frames, rows, places[kind], 10_000 + angle, **how))
    part = snapshot.parts("sources")[name]
    commit = Commit("test", "-")
    with lake.stage("test") as staging:
        added = pa.concat_tables(pieces)
        commit.replace(
            stage_part(
                added, "sources", name, staging, lake.tree_of("sources"), part.camera, part.night, part.inputs
            ),
            staging,
        )
        lake.commit(commit)
    return places


def empty_place(
    centre: tuple[float, float], known: pa.Table, angle: float, nearest: float = 150.0
) -> tuple[float, float]:
    """Return a place near the centre that is 40 arcseconds from whatever is detected in any night."""
    for distance in np.arange(nearest, nearest + 250.0, 10.0):
        ra, dec = (float(one) for one in offset(*centre, distance / 3600.0, angle))
        away = separation_deg(ra, dec, known["ra_deg"].to_numpy(), known["dec_deg"].to_numpy()) * 3600.0
        if away.min() > 40.0:
            return ra, dec
    raise AssertionError("the field is too crowded for this test")


def detections(
    frames: pa.Table,
    rows: pa.Table,
    place: tuple[float, float],
    number: int,
    flags: int = 0,
    rate: float = 0.0,
    width: float = 1.0,
) -> pa.Table:
    """Return one detection on each frame, which is like another one of the frame but for its place."""
    random = np.random.default_rng(number)
    first = pc.index_in(frames["frame_id"], rows["frame_id"].combine_chunks())
    made = rows.take(first)
    mjd = made["mjd_mid"].to_numpy()
    off = random.normal(0.0, 0.5, (2, len(mjd)))
    off[1] += rate * (mjd - mjd.min())
    ra, dec = offset(*place, np.hypot(*off) / 3600.0, np.degrees(np.arctan2(*off)))
    values = {
        "_healpix_29": healpix_index(ra, dec), "ra_deg": ra, "dec_deg": dec,
        "source_no": np.full(len(mjd), number, np.int32), "flags": np.full(len(mjd), flags, np.int32),
        "fwhm_px": (width * frames["fwhm_px"].to_numpy()).astype(np.float32),
        "crowding": np.zeros(len(mjd), np.float32),
    }  # fmt: skip
    for name, column in values.items():
        made = made.set_column(made.schema.get_field_index(name), made.schema.field(name), pa.array(column))
    return made


def test_a_transient_of_one_night_is_found_alone(
    season: tuple[Lake, dict[str, tuple[float, float]]],
) -> None:
    lake, places = season
    with lake.snapshot().duckdb() as connection:
        found = connection.sql("FROM new_objects").to_arrow_table().to_pylist()
        assert connection.sql("SELECT count(*) FROM objects_in_force").fetchall()[0][0] > 50
        (candidate,) = connection.sql("FROM candidates").to_arrow_table().to_pylist()
        connection.execute("SET VARIABLE new_nights = 2")
        assert connection.sql("FROM new_objects WHERE reason IS NULL").fetchall() == []
    (new,) = (row for row in found if row["reason"] is None)
    assert separation_deg(new["ra_deg"], new["dec_deg"], *places["transient"]) * 3600.0 < 1.0
    assert (candidate["kind"], candidate["object_id"], candidate["camera"]) == (
        "new",
        new["object_id"],
        "small",
    )
    assert (candidate["n_points"], candidate["n_nights_before"]) == (
        new["n_detections"],
        new["n_nights_before"],
    )
    nights, at = [night for night, _ in good_nights(lake)], night_of(lake)
    before = sum(night < at for night in nights)
    assert (new["night_first"], new["n_nights"], new["n_nights_before"]) == (at, 1, before)
    assert new["n_nights_covered"] == len(nights) - before
    assert new["n_frames"] == new["n_frames_possible"] > 10
    for kind in ("streak", "edge", "narrow", "moves"):
        near = [
            row
            for row in found
            if separation_deg(row["ra_deg"], row["dec_deg"], *places[kind]) * 3600.0 < 90.0
        ]
        assert near, kind
        # What moves may be divided into several, not all of them long enough to show it.
        assert any(kind in row["reason"] for row in near), kind


def test_what_a_reason_speaks_against_becomes_no_target(
    season: tuple[Lake, dict[str, tuple[float, float]]],
) -> None:
    lake, places = season
    (made,) = extend_targets(lake, ["small"])
    listed = TargetList.in_force(lake.snapshot(), "small")
    assert listed is not None
    rows = listed.rows(["star_id", "ra_deg", "dec_deg"])
    assert made.n_new == rows.num_rows
    targets = set(rows["star_id"].to_pylist())
    with lake.snapshot().duckdb() as connection:
        reasons = dict(connection.execute("SELECT object_id, reason FROM object_vetoes").fetchall())
    told = {name for reason in reasons.values() if reason for name in reason.split(", ")}
    assert {"edge", "streak", "narrow", "moves", "saturated neighbour"} <= told
    assert targets == {number for number, reason in reasons.items() if reason is None}
    away = {
        kind: separation_deg(*place, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()).min() * 3600.0
        for kind, place in places.items()
    }
    assert away["transient"] < 1.0
    assert min(away[kind] for kind in ("streak", "edge", "narrow", "halo", "bright")) > 5.0
