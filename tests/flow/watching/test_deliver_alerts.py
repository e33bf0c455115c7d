"""Alerts go once to a command or webhook: a real program, and a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from watching_sky import LAST, Change, Sky

from skylake.errors import ConfigurationError, LakeError
from skylake.flow.watching import deliver_alerts as delivering
from skylake.flow.watching.deliver_alerts import deliver_alerts
from skylake.settings import Delivery, set_user_delivery, user_delivery, user_file


class Hook:
    """A web server that takes what is posted with the statuses that it is given, then with 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.tries, self.taken = 0, []  # type: ignore[var-annotated]
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.tries += 1
                status = hook.statuses.pop(0) if hook.statuses else 200
                if status == 200:
                    hook.taken.append((self.headers["Content-Type"], body))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setattr(delivering, "_PAUSES", (0.0, 0.0))
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def rung(sky: Sky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sky:
    """A lake with two alerts of the list mine."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    sky.night(LAST, Change(stars={3: -0.4, 20: 0.3}))
    sky.watch(3, 20, is_delivered=True)
    sky.aggregate()
    return sky


def command(tmp_path: Path, ends: str = "") -> tuple[str, Path]:
    """Return a command that appends what it reads to a file."""
    script, out = tmp_path / "take it.sh", tmp_path / "taken"
    script.write_text(f"#!/bin/sh\ncat >> '{out}'\necho >> '{out}'\n{ends}\n")
    script.chmod(0o755)
    return f"'{script}'", out


def test_a_command_gets_each_alert_once(rung: Sky, tmp_path: Path) -> None:
    run, out = command(tmp_path)
    set_user_delivery(rung.lake.root, "mine", Delivery(command=run))
    first, second = deliver_alerts(rung.lake), deliver_alerts(rung.lake)
    assert (first.line, first.failures, second.line) == ("2 alerts of 1 watch list (mine)", [], "")
    (call,) = out.read_text().splitlines()
    sent = json.loads(call)
    assert (sent["watch_list"], sent["lake"], sent["is_test"]) == ("mine", str(rung.lake.root), False)
    assert sent["alerts"] == rung.alerts()
    # A night that is judged again has the same alerts; a further change is news, and so is a star that is as before.
    rung.night(LAST, Change(stars={3: -0.4, 20: 0.31}))
    rung.night(LAST + 1, Change(stars={3: -3.0}))
    rung.aggregate()
    assert deliver_alerts(rung.lake).counts == {"mine": 2}
    news = json.loads(out.read_text().splitlines()[1])["alerts"]
    assert {(row["night"], row["star"], row["kind"]) for row in news} == {
        (LAST + 1, "3", "brighter"),
        (LAST + 1, "20", "returned"),
    }


def test_a_command_that_fails_is_tried_again_by_the_next_run(rung: Sky, tmp_path: Path) -> None:
    run, _ = command(tmp_path, "echo no mail today >&2; exit 4")
    set_user_delivery(rung.lake.root, "mine", Delivery(command=run))
    (sentence,) = deliver_alerts(rung.lake).failures
    assert "status 4 (no mail today)" in sentence and "sent again by the next run" in sentence
    run, out = command(tmp_path)
    assert deliver_alerts(rung.lake).failures == []
    assert len(out.read_text().splitlines()) == 2
    set_user_delivery(rung.lake.root, "mine", Delivery(command="/nowhere/program"))
    assert deliver_alerts(rung.lake).failures == []


def test_a_command_is_run_without_a_shell(rung: Sky, tmp_path: Path) -> None:
    made = tmp_path / "made"
    set_user_delivery(rung.lake.root, "mine", Delivery(command=f"echo x > {made}; touch {made}"))
    assert deliver_alerts(rung.lake).failures == []
    assert not made.exists()


def test_a_webhook_is_posted_to_three_times_and_again_by_the_next_run(rung: Sky, hook: Hook) -> None:
    set_user_delivery(rung.lake.root, "mine", Delivery(webhook=hook.url))
    hook.statuses = [503, 500, 503]
    (sentence,) = deliver_alerts(rung.lake).failures
    assert hook.tries == 3 and "HTTP status 503" in sentence and "secret" not in sentence
    hook.statuses = [503]
    assert deliver_alerts(rung.lake).failures == []
    assert hook.tries == 5
    ((kind, body),) = hook.taken
    assert kind == "application/json" and body["alerts"] == rung.alerts()
    assert deliver_alerts(rung.lake).counts == {} and hook.tries == 5


@pytest.mark.parametrize("status", [404, 302])
def test_what_a_webhook_refuses_is_not_tried_at_once(rung: Sky, hook: Hook, status: int) -> None:
    set_user_delivery(rung.lake.root, "mine", Delivery(webhook=hook.url))
    hook.statuses = [status]
    assert f"HTTP status {status}" in deliver_alerts(rung.lake).failures[0] and hook.tries == 1
    assert deliver_alerts(rung.lake).failures == [] and hook.tries == 2


def test_a_webhook_that_is_not_there_is_one_sentence(rung: Sky, hook: Hook) -> None:
    set_user_delivery(rung.lake.root, "mine", Delivery(webhook=hook.url))
    hook.server.shutdown()
    hook.server.server_close()
    assert "Connection refused" in deliver_alerts(rung.lake).failures[0]


def test_what_is_delivered_and_not_noted_is_delivered_again(
    rung: Sky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = command(tmp_path)
    set_user_delivery(rung.lake.root, "mine", Delivery(command=run))
    # As a loss of power leaves it: a line that is cut short.
    deliver_alerts(rung.lake)
    noted = rung.lake.layout.watch_lists / "mine.delivered"
    ids = sorted(row["alert_id"] for row in rung.alerts())
    noted.write_text(f"\n{ids[0]}\n\n{str(ids[1])[:5]}")
    assert deliver_alerts(rung.lake).counts == {"mine": 1}
    assert deliver_alerts(rung.lake).counts == {}
    sent = [row["alert_id"] for row in json.loads(out.read_text().splitlines()[1])["alerts"]]
    assert sent == [ids[1]]


def test_alerts_wait_for_the_user_who_has_the_command(rung: Sky, tmp_path: Path) -> None:
    report = deliver_alerts(rung.lake)
    assert report.counts == {} and "2 of mine wait" in report.waiting[0]
    run, out = command(tmp_path)
    set_user_delivery(rung.lake.root, "mine", Delivery(command=run))
    assert deliver_alerts(rung.lake).counts == {"mine": 2} and out.exists()


def test_a_list_without_a_command_is_news_once(sky: Sky) -> None:
    sky.night(LAST, Change(stars={3: -0.4}))
    sky.watch(3)
    sky.aggregate()
    assert [deliver_alerts(sky.lake).line for _ in range(2)] == ["1 alert of 1 watch list (mine)", ""]


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["command = 5", 'command = "x"\nwebhook = "http://x"', 'webhook = "ftp://x"', 'mail = "me"']
)
def test_a_configuration_that_is_wrong_names_the_list(rung: Sky, text: str) -> None:
    user_file().parent.mkdir(parents=True)
    user_file().write_text(f'["{rung.lake.root}"]\n["{rung.lake.root}".watch.mine]\n{text}\n')
    with pytest.raises(ConfigurationError, match="mine"):
        deliver_alerts(rung.lake)


def test_the_configuration_keeps_what_else_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    lake, other = tmp_path / "lake", tmp_path / "other"
    user_file().parent.mkdir()
    text = f'# Mine.\n["{lake}"]\ncluster = "local"  # here\n'
    user_file().write_text(text)
    user_file().chmod(0o640)
    one, two = Delivery(command="mail -s 'new' me"), Delivery(webhook="https://x.org/y")
    set_user_delivery(lake, "one", one)
    set_user_delivery(lake, "two", two)
    set_user_delivery(other, "one", two)
    assert user_file().read_text().startswith(text)
    assert user_file().stat().st_mode & 0o777 == 0o640
    assert [user_delivery(lake, name) for name in ("one", "two", "three")] == [one, two, None]
    assert user_delivery(other, "one") == two
    set_user_delivery(lake, "one", None)
    assert [user_delivery(lake, name) for name in ("one", "two")] == [None, two]


def test_a_damaged_list_names_its_file(sky: Sky) -> None:
    sky.watch(3)
    path = sky.lake.layout.watch_lists / "mine.json"
    path.write_text("{")
    with pytest.raises(LakeError, match=r"mine\.json.*add the list again"):
        deliver_alerts(sky.lake)
    path.unlink()
    sky.watch(3)
    assert deliver_alerts(sky.lake).line == ""
