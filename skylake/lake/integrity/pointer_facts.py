"""Collect the targets of the links of a lake and the records of its ledger, even if it cannot be opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skylake.durable import text_of
from skylake.lake.commits.internal_links import leads_to, pointed_back
from skylake.lake.commits.new_tables import is_addition, linked_tables
from skylake.lake.layout import Layout
from skylake.lake.storage.fact_relations import UNREADABLE, Relations
from skylake.schema import table_names


def add_snapshots(layout: Layout, relations: Relations, number: int | None) -> int | None:
    """Add where the links lead; return the snapshot to verify."""
    links_of: dict[int, list[tuple[str, str | None, str | None]]] = {}
    for folder in sorted(layout.snapshots.glob("[0-9]*")):
        if folder.name.isdecimal() and folder.is_dir():
            links_of[int(folder.name)] = [
                (name, *_link_of_table(folder / name))
                for name in linked_tables(folder)
                if not is_addition(layout, int(folder.name), name)
            ]
    current, problem = _current(layout)
    whole = [
        folder_number for folder_number, links in links_of.items() if not any(broken for *_, broken in links)
    ]
    newest = max(whole or links_of, default=None)
    wanted = f"_snapshots/{newest:06d}" if newest is not None else None
    relations.add("pointers", link="current", target=_target(layout.current), wanted=wanted, problem=problem)
    for name in _tables_of(layout, current):
        link, wanted = layout.root / name, f"current/{name}"
        relations.add(
            "pointers", link=name, target=_target(link), wanted=wanted, problem=_link_problem(link, wanted)
        )
    chosen = number or (newest if problem else current)
    for folder_number, links in links_of.items():
        if current is not None and folder_number > current and not problem:
            continue  # of a commit that was interrupted; the next one clears it
        relations.add(
            "snapshots",
            snapshot=folder_number,
            is_current=folder_number == current,
            is_verified=folder_number == chosen,
        )
        for name, target, broken in links:
            relations.add(
                "snapshot_tables",
                snapshot=folder_number,
                table_name=name,
                target=target,
                is_verified=folder_number == chosen,
                problem=broken,
            )
    return chosen


def _tables_of(layout: Layout, current: int | None) -> list[str]:
    """Return the tables of the current snapshot, or all where that is not known."""
    if current is None:
        return list(table_names())
    tables = linked_tables(layout.snapshot(current))
    return [name for name in tables if not is_addition(layout, current, name)]


def _target(link: Path) -> str | None:
    return str(link.readlink()) if link.is_symlink() else None


def _current(layout: Layout) -> tuple[int | None, str | None]:
    """Return the number of the current snapshot, and what is wrong with the pointer."""
    link = layout.current
    if not link.is_symlink():
        return None, "is a folder or file where a link should be" if link.exists() else "is missing"
    name = link.readlink().name
    if not leads_to(link, layout.snapshots) or not name.isdecimal():
        return None, f"leads to {link.readlink()}, which is no snapshot"
    if not layout.snapshot(int(name)).is_dir():
        return int(name), f"leads to the snapshot {int(name)}, which is missing"
    newer = pointed_back(layout, int(name))
    if newer is not None:
        return int(name), f"leads back to the snapshot {int(name)}, though {newer} was current since"
    return int(name), None


def _link_problem(link: Path, wanted: str) -> str | None:
    if not link.is_symlink():
        return "is a folder or file where a link should be" if link.exists() else "is missing"
    return None if str(link.readlink()) == wanted else f"leads to {link.readlink()}"


def _link_of_table(link: Path) -> tuple[str | None, str | None]:
    """Return where the link of a table leads, and what is wrong with it."""
    if not link.is_symlink():
        return None, "is no link" if link.exists() else "is missing"
    target = link.readlink()
    if not leads_to(link, link.parents[2] / "_versions" / link.name):
        return str(target), f"leads to {target}, which is no version of the table"
    return str(target), None if link.is_dir() else f"leads to {target}, which is missing"


def add_ledger(layout: Layout, relations: Relations) -> None:
    """Add every record of the ledger."""
    for path in sorted(layout.ledger.glob("[0-9]*.json")):
        name = str(path.relative_to(layout.root))
        try:
            record: dict[str, Any] = json.loads(text_of(path))
            relations.add(
                "ledger",
                snapshot=int(path.stem),
                record=int(record["snapshot"]),
                base=record["base"],
                time_utc=record["time_utc"],
                stage=record["stage"],
                batch=record["batch"],
            )
        except UNREADABLE as error:
            relations.problem(name, "record of the ledger", error)
