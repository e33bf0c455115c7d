"""``skylake watch`` as people use it: lists, what they say of a night, and who hears of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from watching_sky import CENTRE, LAST, MADE_BEFORE, Change, Sky, quiet_lake
from watching_sky import sky as watched

from skylake.cli.nightly_command import STAGES, NightlyOptions, NightlyOutcome, NightlyRun
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.lake.storage.watch_lists import read_watch_list
from skylake.settings import Delivery, set_user_delivery, user_file
from skylake.sky.sky_region import SkyRegion

Run = Callable[..., Any]
__all__ = ["quiet_lake", "watched"]


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SKYLAKE_CLUSTER", "inline")


def stars(watched: Sky, folder: Path) -> Path:
    """A file with a star by position and name, and one by its identifier in the catalog."""
    path = folder / "stars.csv"
    path.write_text(f"name,ra,dec\nNova,{watched.ra[3]:.6f},{watched.dec[3]:.6f}\n")
    return path


def test_a_star_of_a_table_is_watched_where_the_lake_has_its_identifier(
    watched: Sky, tmp_path: Path, well: Run
) -> None:
    file, ra, dec = tmp_path / "stars.csv", watched.ra, watched.dec
    off = 8.0 / 3600.0
    rows = [(20, ra[20], dec[20] + off), (20, ra[21], dec[21] + off), (12345, ra[3], dec[3] + off)]
    lines = [",".join(map(str, row)) for row in rows]
    file.write_text("\n".join(["object_id,ra,dec", *lines]))
    added = well("watch", "add", watched.lake.root, "mine", file, "--radius", 10)
    assert "2 of 3 identifiers in the column object_id name no star of the lake within 10 arcsec" in added.err
    assert "so there the position counts: 20, 12345\n" in added.err
    places = [(one.ra_deg, one.dec_deg) for one in read_watch_list(watched.lake.layout, "mine").places]
    expected = [(ra[20], dec[20]), *(row[1:] for row in rows[1:])]
    assert places == [pytest.approx(one, abs=1e-6) for one in expected]


def test_an_observer_hears_once_of_what_has_changed(
    watched: Sky, tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    root, out = watched.lake.root, tmp_path / "heard"
    added = well("watch", "add", root, "mine", stars(watched, tmp_path), "--command", f"tee -a {out}")
    assert added.out == f"watch: mine watches 1 place from night {LAST - 1} on\n"
    watched.night(LAST, Change(stars={3: -0.4, 20: 0.4}))
    watched.aggregate(*MADE_BEFORE)
    done = skylake_command("aggregate", root, "alerts")
    assert (done.status, done.out.splitlines()[-1]) == (0, "aggregate: 1 alert of 1 watch list (mine)")
    again = skylake_command("aggregate", root, "alerts", "--json")
    assert again.json["refreshed"] == {"alerts": 0}
    assert again.json["alerts"] == {"counts": {}, "failures": [], "waiting": []}
    sent = json.loads(out.read_text())
    assert [(row["star"], row["kind"]) for row in sent["alerts"]] == [("Nova", "brighter")]
    rows = well("sql", root, "SELECT star, kind, night FROM alerts", "--format", "csv").out.splitlines()
    assert rows[1:] == [f'"Nova","brighter",{LAST}']
    (listed,) = well("watch", "list", root, "--json").json
    assert (listed["alerts"], listed["new"], listed["sent_to"]) == (1, 0, f"tee -a {out}")


def test_a_command_that_fails_ends_with_1_and_is_run_again(
    watched: Sky, tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    root = watched.lake.root
    well("watch", "add", root, "mine", stars(watched, tmp_path), "--command", "false")
    watched.night(LAST, Change(stars={3: -0.4}))
    watched.aggregate(*MADE_BEFORE)
    for _ in range(2):
        done = skylake_command("aggregate", root, "alerts")
        assert done.status == 1 and "false: the command ended with status 1" in done.err
    assert skylake_command("watch", "test", root, "mine").status == 3


def test_names_are_those_of_the_catalog_and_files_may_be_maps(
    watched: Sky, tmp_path: Path, well: Run
) -> None:
    root = watched.lake.root
    listed, moc = tmp_path / "stars.txt", tmp_path / "moc.txt"
    listed.write_text("# mine\n20\n120.0 -25.0\n")
    moc.write_text(SkyRegion.of_cone(*CENTRE, 0.5).moc_text)
    well("watch", "add", root, "some", listed, "--from", "2024-04-02", "--radius", 20, "--by", 0.3)
    well("watch", "add", root, "all", "--moc", moc)
    places = json.loads((root / "_watch" / "some.json").read_text())["places"]
    assert [place["star"] for place in places] == ["20", "120.0 -25.0"]
    assert places[0]["ra_deg"] == pytest.approx(watched.ra[20], abs=1e-5)
    shown = well("watch", "list", root).out
    assert "2 places" in shown and "square degrees" in shown
    well("watch", "remove", root, "some")
    assert "some" not in well("watch", "list", root).out
    assert not user_file().exists()


def test_a_made_up_alert_is_sent_as_a_test(
    watched: Sky, tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    root, out = watched.lake.root, tmp_path / "heard"
    file = stars(watched, tmp_path)
    well("watch", "add", root, "mine", file, "--command", f"tee {out}")
    well("watch", "test", root, "mine")
    sent = json.loads(out.read_text())
    assert sent["is_test"] is True and sent["alerts"][0]["star"] == "Nova"
    well("watch", "add", root, "silent", file)
    assert skylake_command("watch", "test", root, "silent").sentence.endswith("with --command or --webhook")
    assert user_file().stat().st_mode & 0o777 == 0o600
    well("watch", "remove", root, "mine")
    assert "mine" not in user_file().read_text()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "name a file of stars, or a coverage map"),
        (("{stars}", "--moc", "{stars}"), "one of both"),
        (("{stars}", "--by", "0.2mag"), "'0.2mag' is no number; write a number of magnitudes"),
        (("{stars}", "--command", "x", "--webhook", "http://x"), "exclude each other"),
        (("{stars}", "--webhook", "x.org"), "no URL"),
        (("{stars}", "--command", "mail 'x"), "close its quotation marks"),
        (("{stars}", "--command", "no-such-program -x"), "no program no-such-program; name its whole path"),
        (("{stars}", "--radius", "nan"), "finite"),
        (("{unknown}",), "no catalog of the lake has T CrB"),
        (("{empty}",), "names no star"),
    ],
)
def test_wrong_use_is_one_sentence(
    watched: Sky, tmp_path: Path, skylake_command: Run, options: tuple[str, ...], why: str
) -> None:
    names = {"stars": stars(watched, tmp_path)}
    for name, text in (("unknown", "T CrB\n"), ("empty", "# nothing\n")):
        names[name] = tmp_path / f"{name}.txt"
        names[name].write_text(text)
    done = skylake_command(
        "watch", "add", watched.lake.root, "mine", *(one.format(**names) for one in options)
    )
    assert done.status == 2 and why in done.sentence
    assert not (watched.lake.root / "_watch" / "mine.json").exists()


def test_a_list_that_is_there_or_is_not_is_named(
    watched: Sky, tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    root, file = watched.lake.root, stars(watched, tmp_path)
    well("watch", "add", root, "mine", file)
    taken = skylake_command("watch", "add", root, "mine", file)
    assert taken.status == 2 and "skylake watch remove LAKE mine" in taken.sentence
    for command in ("remove", "test"):
        absent = skylake_command("watch", command, root, "other")
        assert absent.status == 2 and "the lists are mine" in absent.sentence
    assert skylake_command("watch", "add", root, "../mine", file).status == 2


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_delivers_delivers_later(
    watched: Sky, tmp_path: Path, well: Run, environment: dict[str, str]
) -> None:
    root, out = watched.lake.root, tmp_path / "heard"
    well("watch", "add", root, "mine", stars(watched, tmp_path), "--command", "sh -c 'kill -9 $PPID'")
    watched.night(LAST, Change(stars={3: -0.4}))
    watched.aggregate(*MADE_BEFORE)
    own = environment | {name: os.environ[name] for name in ("XDG_CONFIG_HOME", "SKYLAKE_CLUSTER")}
    command = [sys.executable, "-m", "skylake", "aggregate", str(root), "alerts"]
    assert subprocess.run(command, env=own, capture_output=True, check=False).returncode == -9
    assert [row["kind"] for row in watched.alerts()] == ["brighter"]
    set_user_delivery(root, "mine", Delivery(command=f"tee {out}"))
    assert well("aggregate", root, "alerts").out.endswith("aggregate: 1 alert of 1 watch list (mine)\n")
    assert len(json.loads(out.read_text())["alerts"]) == 1


def test_the_stage_of_a_nightly_run_says_how_many_alerts_are_new(
    watched: Sky, tmp_path: Path, well: Run
) -> None:
    root, out = watched.lake.root, tmp_path / "heard"
    well("watch", "add", root, "mine", stars(watched, tmp_path), "--command", f"tee -a {out}")
    watched.night(LAST, Change(stars={3: -0.4}))
    watched.aggregate()
    run = NightlyRun(
        watched.lake, NightlyOptions("sim", (), root / "report"), Inline(), Silent(), NightlyOutcome()
    )
    for line in (["alerts: 1 alert of 1 watch list (mine)"], []):
        run.outcome.lines.clear()
        STAGES["aggregate"](run)
        assert [one for one in run.outcome.lines if one.startswith("alerts")] == line
    (alert,) = json.loads(out.read_text())["alerts"]
    assert (alert["star"], alert["kind"], alert["night"]) == ("Nova", "brighter", LAST)
