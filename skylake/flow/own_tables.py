"""Tables that a command makes on request: made in one commit, and again only where their inputs have changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skylake.core.ids import config_sha256
from skylake.errors import ConfigurationError, UsageError
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress
from skylake.flow.execution.task_guard import value_of
from skylake.lake import Commit, Lake, Part, Snapshot
from skylake.lake.storage.parts import PartFile
from skylake.schema import TableSchema
from skylake.schema.tables import in_force, require_plain_names


@dataclass(frozen=True, slots=True)
class TableRequest:
    """A table that is to be made.

    Attributes
    ----------
    kind : str
        What makes it, as crossmatch: the name of its one part.
    schema : TableSchema
        Its name is that of the table.
    configuration : dict
        How it is made.
    identities : dict of str to str
        Checksums of what it is made from.
    """

    kind: str
    schema: TableSchema
    configuration: Mapping[str, Any]
    identities: Mapping[str, str]

    @property
    def inputs(self) -> dict[str, str]:
        """What the part is made from, the configuration included."""
        return {"configuration": config_sha256({self.kind: self.configuration}), **self.identities}


def held_part(snapshot: Snapshot, request: TableRequest, replace: bool) -> Part | None:
    """Return the part that the lake has already, if it was made in the same way of the same rows.

    Parameters
    ----------
    snapshot : Snapshot
    request : TableRequest
    replace : bool
        Whether a table that another request has made may be replaced.

    Raises
    ------
    UsageError
        If the name cannot be used.
    """
    schema, inputs = request.schema, request.inputs
    name = schema.name
    try:
        require_plain_names(schema)
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    if name not in snapshot.tables:
        if name in _views(snapshot):
            raise UsageError(f"the name {name!r} is that of a view of skylake; give another name")
        return None
    part = snapshot.part(name, request.kind)
    if part is None:
        raise UsageError(
            f"the lake has a table {name!r} that `skylake {request.kind}` has not made; give another name"
        )
    if part.inputs["configuration"] == inputs["configuration"]:
        is_same = part.inputs == inputs and part.schema_sha256 == schema.sha256
        return part if is_same and snapshot.version(name).has_whole(part) else None
    if not replace:
        raise UsageError(
            f"the lake has a table {name!r} that was made with other options; give another name or --replace"
        )
    return None


def _views(snapshot: Snapshot) -> set[str]:
    """Return the names that SQL has besides those of tables."""
    query = """SELECT table_name FROM information_schema.tables
        UNION SELECT schema_name FROM information_schema.schemata"""
    return {name for (name,) in snapshot.duckdb().execute(query).fetchall()}


def commit_table(
    lake: Lake,
    base: Snapshot,
    request: TableRequest,
    made_of: str,
    tasks: Any,
    workers: Workers,
    progress: Progress,
) -> tuple[Part, Snapshot]:
    """Make a table in one commit.

    Parameters
    ----------
    lake : Lake
    base : Snapshot
    request : TableRequest
    made_of : str
        For the ledger.
    tasks : callable
        Given the staging folder, returns delayed tasks; each gives a PartFile, or None for no rows.
    workers : Workers
    progress : Progress

    Raises
    ------
    SkylakeError
        If a task fails, or the lake cannot be written.
    """
    schema = request.schema
    configuration = {request.kind: dict(request.configuration)}
    commit = Commit(f"{request.kind} {schema.name}", made_of, base=base.number)
    commit.configure([configuration])
    with in_force(schema), lake.stage(f"{request.kind}-{schema.name}") as staging:
        files = _files(tasks(staging), request, workers, progress)
        part = Part(schema.name, request.kind, files, inputs=request.inputs, schema_sha256=schema.sha256)
        commit.replace(part, staging)
        return part, lake.commit(commit)


def _files(
    tasks: Sequence[Any], request: TableRequest, workers: Workers, progress: Progress
) -> tuple[PartFile, ...]:
    """Run the tasks that write the files of a table."""
    name = request.schema.name
    progress.begin(f"{request.kind} {name}", len(tasks))
    results = workers.run(tasks, lambda *_: progress.advance())
    progress.end()
    files = [value_of(result, f"{name} could not be made") for result in results]
    return tuple(sorted((file for file in files if file is not None), key=lambda file: file.path))
