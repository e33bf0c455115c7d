"""A description that is lost without a copy is made again from the files and the ledger, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.errors import LakeError
from skylake.lake import Lake, Snapshot
from skylake.lake.integrity.lake_facts import gather_facts
from skylake.lake.integrity.recover_part import recover
from skylake.lake.integrity.repairs import Repairs
from skylake.schema.parquet import write_parquet

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
NAME = "c-20240401"


@pytest.fixture
def night(lake: Lake, make_rows: MakeRows, put: Put) -> Lake:
    """A lake of one night."""
    for table in ("frames", "sources"):
        rows = make_rows(table, 60, 1, camera=["c"] * 60, night=pa.array([20240401] * 60, pa.int32()))
        put(lake, (table, NAME, rows), camera="c", night=20240401, inputs={"files": "abc", "other": "1"})
    return lake


def lose(lake: Lake, table: str) -> tuple[Path, str, str]:
    """Lose the description of the night; its path and content, and the repair of one of its files."""
    folder = lake.snapshot().folder(table)
    description = folder / "_parts" / f"{NAME}.json"
    text = description.read_text()
    for version in lake.layout.versions(table).iterdir():
        (version / "_parts" / f"{NAME}.json").unlink(missing_ok=True)
    file = min((folder / "dataset").rglob("*.parquet"))
    return description, text, Repairs(gather_facts(lake.layout)).file(table, str(file.relative_to(folder)))


@pytest.mark.parametrize("table", ["frames", "sources"])
def test_the_command_that_is_given_restores_the_description(night: Lake, table: str) -> None:
    description, text, mend = lose(night, table)
    assert mend == f"skylake verify {night.root} --recover {table} {NAME}"
    assert recover(night, table, NAME) == description
    assert description.read_text() == text
    with pytest.raises(LakeError, match="is described already"):
        recover(night, table, NAME)


@pytest.mark.parametrize("damage", ["rows", "file", "record"])
def test_rows_without_a_ledger_record_are_not_described(night: Lake, damage: str) -> None:
    folder = night.snapshot().folder("sources")
    path = min((folder / "dataset").rglob("*.parquet"))
    if damage == "rows":
        write_parquet(pq.read_table(path, partitioning=None).slice(1), path)
    elif damage == "file":
        path.write_bytes(path.read_bytes()[:-50])
    else:
        for record in night.layout.ledger.glob("*.json"):
            record.write_text(record.read_text().replace(NAME, "c-20240402"))
    _, _, mend = lose(night, "sources")
    assert mend.startswith("rm " if damage == "record" else "skylake rollback "), mend
    with pytest.raises(LakeError, match="do not hold what the ledger says of it"):
        recover(night, "sources", NAME)
