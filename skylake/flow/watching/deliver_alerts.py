"""Deliver alerts, each once: to a command on its standard input, or to a webhook, as the user's configuration says."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from skylake.current_folder import environment_of_user
from skylake.errors import LakeError, reason_of
from skylake.lake import Lake
from skylake.lake.commits.file_lock import locked
from skylake.lake.storage.watch_lists import WatchList, delivered_alerts, note_delivered, watch_lists
from skylake.settings import Delivery, user_delivery, user_file

#: Seconds that a webhook and a command have to answer.
_WEBHOOK_SECONDS, _COMMAND_SECONDS = 10.0, 60.0
#: Pauses between the tries of a webhook, seconds.
_PAUSES = (1.0, 2.0)

Row = Mapping[str, Any]


class NotDelivered(LakeError):
    """A command or webhook has not taken what was sent."""


@dataclass(slots=True)
class DeliveryReport:
    """What was new.

    Attributes
    ----------
    counts : dict
        Number of new alerts by watch list, for lists that have any.
    failures : list of str
        A sentence for each list whose alerts could not be delivered; they are sent again by the next run.
    waiting : list of str
        A sentence for each list whose alerts are delivered by another user.
    """

    counts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The number of alerts in words; empty without any."""
        total, lists = sum(self.counts.values()), len(self.counts)
        if not total:
            return ""
        alerts = "1 alert" if total == 1 else f"{total} alerts"
        return f"{alerts} of {lists} watch list{'' if lists == 1 else 's'} ({', '.join(self.counts)})"


def deliver_alerts(lake: Lake) -> DeliveryReport:
    """Deliver the alerts of a lake that were not delivered yet, list by list.

    A list without command and webhook has its alerts in the report alone. What is delivered is noted at once, so a run
    that is killed before that delivers again, and one that is killed before the delivery leaves it to the next.

    Raises
    ------
    ConfigurationError
        If the configuration of the user cannot be used.
    LakeError
        If the lake cannot be read or written.
    """
    report = DeliveryReport()
    lists = watch_lists(lake.layout)
    if not lists:
        return report
    # One run at a time, so that none delivers what another is about to note.
    with locked(lake.layout.watch_lists / "lock"):
        for one in lists:
            _deliver_list(lake, one, report)
    return report


def _deliver_list(lake: Lake, one: WatchList, report: DeliveryReport) -> None:
    alerts = lake.snapshot().read("alerts", filter=pc.field("watch_list") == one.name)
    done = delivered_alerts(lake.layout, one.name)
    rows = [row for row in alerts.sort_by("mjd_mid").to_pylist() if row["alert_id"] not in done]
    if not rows:
        return
    delivery = user_delivery(lake.root, one.name)
    if delivery is None and one.is_delivered:
        report.waiting.append(
            f"{len(rows)} of {one.name} wait for whoever has its command or webhook in {user_file().name}"
        )
        return
    report.counts[one.name] = len(rows)
    try:
        if delivery is not None:
            send(delivery, lake.root, one.name, rows)
    except NotDelivered as error:
        report.failures.append(f"the alerts of {one.name} are sent again by the next run: {error}")
        return
    note_delivered(lake.layout, one.name, [row["alert_id"] for row in rows])


def send(
    delivery: Delivery,
    lake: Path,
    name: str,
    rows: Sequence[Row],
    is_test: bool = False,
) -> None:
    """Send alerts of a list as one JSON object: ``lake``, ``watch_list``, ``is_test`` and ``alerts``.

    Parameters
    ----------
    delivery : Delivery
    lake : Path
    name : str
        Of the watch list.
    rows : sequence of mapping
        Rows of ``alerts``.
    is_test : bool
        Whether the rows are made up.

    Raises
    ------
    NotDelivered
    """
    content = {
        "lake": str(lake),
        "watch_list": name,
        "is_test": is_test,
        "alerts": [dict(row) for row in rows],
    }
    text = json.dumps(content, allow_nan=False)
    if delivery.command:
        _run(delivery.command, text)
    else:
        _post(delivery.webhook, text)


def _run(command: str, text: str) -> None:
    """Run a command with a text on its standard input, without a shell."""
    try:
        done = subprocess.run(
            shlex.split(command),
            input=text,
            text=True,
            capture_output=True,
            env=environment_of_user(),
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except (OSError, ValueError) as error:
        raise NotDelivered(f"{command}: the command cannot be run ({reason_of(error)}); fix it") from error
    except subprocess.TimeoutExpired as error:
        raise NotDelivered(f"{command}: the command takes more than {_COMMAND_SECONDS:.0f} s") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        raise NotDelivered(f"{command}: the command ended with status {done.returncode} ({said}); fix it")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects lose what is posted, so they are errors."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def _post(url: str, text: str) -> None:
    """Post a text to a webhook, again if it does not answer or has an error of its own."""
    request = urllib.request.Request(url, text.encode(), {"Content-Type": "application/json"}, method="POST")
    opener = urllib.request.build_opener(_NoRedirects)
    for pause in (*_PAUSES, None):
        try:
            with opener.open(request, timeout=_WEBHOOK_SECONDS):
                return
        except (OSError, HTTPException, ValueError) as error:
            status = error.code if isinstance(error, urllib.error.HTTPError) else 0
            # What it refuses now it would refuse again.
            if pause is None or 300 <= status < 500:
                # Without its path, which is often a secret.
                where = "/".join(url.split("/")[:3])
                raise NotDelivered(f"{where}: the webhook does not take them ({_why(error)})") from error
        time.sleep(pause)


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    reason = getattr(error, "reason", error)
    return reason_of(reason) if isinstance(reason, BaseException) else str(reason)
