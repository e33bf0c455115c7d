"""The ledger: the command, inputs, configuration, code and changes of each commit.

There is one record per commit. The resolved configurations that records and tables name by their SHA-256 are kept
beside them, each once: the name of the file is the SHA-256 of its content as JSON without blanks, keys sorted.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from skylake import logs
from skylake.durable import content_of, replace_text, text_of
from skylake.errors import LakeError
from skylake.inside import inside, named
from skylake.lake.commits.changes import Commit
from skylake.lake.commits.ledger_records import INSTANT, is_recorded, read_entry
from skylake.lake.layout import Layout
from skylake.lake.storage.parts import Part
from skylake.revision import code_version

_log = logs.get(__name__)

#: Clocks of machines may differ, and be set back, by so much without harm.
_SMALL_STEP = timedelta(minutes=1)
#: A record names each input of a part up to this number.
_FEW_INPUTS = 16


def write_record(
    layout: Layout,
    number: int,
    base: int | None,
    commit: Commit,
    tables: Sequence[str],
    token: str | None = None,
) -> None:
    """Write the record of a commit that makes a snapshot with some tables from another snapshot.

    The token distinguishes its writer from all others.
    """
    record = {
        "snapshot": number,
        "base": base,
        "time_utc": _time_after(layout, base).isoformat(timespec="microseconds"),
        "stage": commit.stage,
        "batch": commit.batch,
        "run": commit.run,
        "software_version": code_version(),
        "host": socket.gethostname(),
        "token": token,
        "tables": list(tables),
        "replaced": {
            table: {
                part.name: {
                    "rows": part.n_rows,
                    "checksum": part.checksum,
                    "software_version": part.software_version,
                }
                | _made_from(part)
                for part, _ in parts
                if part.name not in commit.unbundled.get(table, ())
            }
            for table, parts in commit.staged.items()
            if len(parts) > len(commit.unbundled.get(table, ()))
        },
        "removed": {table: sorted(names) for table, names in commit.removed.items()},
        "merged": {
            table: {
                bundle.bundle.name: {"rows": bundle.bundle.n_rows, "parts": len(bundle.members)}
                for bundle in bundles
            }
            for table, bundles in commit.merged.items()
        },
        "loosened": {table: sorted(names) for table, names in commit.unbundled.items()},
    }
    layout.ledger.mkdir(exist_ok=True)
    replace_text(layout.record(number), json.dumps(record, indent=1) + "\n")


def _time_after(layout: Layout, base: int | None) -> datetime:
    """Return the time, or an instant after that of the base if the clock is behind, so that times always grow."""
    now = datetime.now(UTC)
    if base is None or not is_recorded(layout, base):
        return now
    try:
        earlier = read_entry(layout, base).time_utc
    except LakeError as error:
        # The rows are not affected; `skylake verify` reports it as well.
        _log.warning("%s; the commit after it takes the time of this machine", error)
        return now
    if now > earlier:
        return now
    if earlier - now > _SMALL_STEP:
        _log.warning(
            "%s: the clock of this machine says %s, but snapshot %d was made at %s; this commit counts as made right "
            "after it: set the clocks of all machines that write to the lake",
            layout.root,
            now.isoformat(timespec="seconds"),
            base,
            earlier.isoformat(timespec="seconds"),
        )
    return earlier + INSTANT


def _made_from(part: Part) -> dict[str, Any]:
    """Return the inputs of a part for a record: their digest, and the inputs themselves only if they are few.

    Otherwise a part that is made from all nights would make each record longer than the one before.
    """
    return {
        "inputs": part.inputs if len(part.inputs) <= _FEW_INPUTS else None,
        "inputs_sha256": part.inputs_sha256,
        "configuration_sha256": part.inputs.get("configuration"),
    }


def keep_configurations(layout: Layout, configurations: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep resolved configurations, given by their SHA-256; one that is kept already does not change.

    The commit that names them forces them to disk with all the rest.
    """
    for sha256, configuration in configurations.items():
        path = inside(layout.root, f"{layout.ledger.name}/configurations/{sha256}.json")
        text = json.dumps(configuration, sort_keys=True, indent=1, default=str) + "\n"
        # A file from a commit that a power failure interrupted may be cut short.
        if not path.is_file() or content_of(path) != text.encode():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, text)


def read_configuration(layout: Layout, sha256: str) -> dict[str, Any]:
    """Return a resolved configuration by its SHA-256.

    Raises
    ------
    LakeError
        If the ledger does not have it.
    """
    path = named(layout.configurations, f"{sha256}.json")
    try:
        if why := damage_of_configuration(path):
            raise ValueError(why)
        configuration: dict[str, Any] = json.loads(text_of(path))
    except (OSError, ValueError) as error:
        raise LakeError(
            f"{path}: the configuration cannot be read ({error}); restore it from a copy"
        ) from error
    return configuration


def damage_of_configuration(path: Path) -> str | None:
    """Return what is wrong with a kept configuration, whose name is its SHA-256; None if nothing is."""
    try:
        text = text_of(path)
        configuration = json.loads(text)
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error})"
    # In the order in which they are read: keys that were numbers were sorted as numbers, and are strings now.
    plain = json.dumps(configuration, separators=(",", ":"))
    is_same = hashlib.sha256(plain.encode()).hexdigest() == path.stem
    if not is_same or json.dumps(configuration, indent=1) + "\n" != text:
        return "its content is not that of the SHA-256 in its name"
    return None
