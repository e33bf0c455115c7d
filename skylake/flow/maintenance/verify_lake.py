"""Verify a lake: collect facts, then optionally read every row on the workers, then run the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask

from skylake.durable import in_use
from skylake.errors import LakeError, SkylakeError, UsageError
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.lake.cameras.master_files import add_master_scans
from skylake.lake.commits.snapshot_history import find_snapshot
from skylake.lake.integrity.check_queries import Check, CheckOutcome, load_checks
from skylake.lake.integrity.file_footers import add_catalog_scans
from skylake.lake.integrity.lake_facts import Facts, gather_facts
from skylake.lake.integrity.run_checks import (
    Files,
    chosen_checks,
    findings,
    readable_files,
    recorded_files,
    run_checks,
    run_shares,
    shares_of,
    together,
)
from skylake.lake.integrity.scan_files import RecordedFile, Scan, scan_files
from skylake.lake.layout import Layout
from skylake.sky.hats import SOURCE_FILE, validate
from skylake.sky.hats_coverage import uncovered

#: Bytes of the files that are scanned in one task; dask spends some milliseconds on each.
_TASK_BYTES = 64 << 20
#: Relations that only a scan of all rows fills.
_SCANS = ("file_scans", "part_scans", "nan_scans", "statistics_scans")


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What to verify.

    Attributes
    ----------
    as_of : str or None
        Snapshot or time; None is the current snapshot.
    deep : bool
        Read every row of every file.
    hats : bool
        Ask the hats package about HATS tables and reference catalogs; `deep` does so too.
    only : tuple of str
        Names of checks to run; none runs all that `deep` and `hats` allow.
    show : int
        Offending rows to show of each check.
    """

    as_of: str | None = None
    deep: bool = False
    hats: bool = False
    only: tuple[str, ...] = ()
    show: int = 5


@dataclass(slots=True)
class VerifyReport:
    """The report of a verification.

    Attributes
    ----------
    lake : str
    snapshot : int or None
    deep : bool
        Whether every row was read.
    checks : list of dict
        Name, sentence, kind, passed, n_found, seconds and findings of each check; a finding says what is
        broken, and the command that repairs it.
    """

    lake: str
    snapshot: int | None
    deep: bool
    checks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def all_well(self) -> bool:
        """Whether every check passed."""
        return all(check["passed"] for check in self.checks)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that found something."""
        return [check["name"] for check in self.checks if not check["passed"]]


def open_facts(root: Path, options: VerifyOptions = VerifyOptions()) -> Facts:
    """Gather the facts of a lake, which may be broken.

    Raises
    ------
    LakeError
        If there is no lake, or no such snapshot.
    UsageError
        If there is no check of a name in `only`.
    """
    known = {check.name for check in load_checks()}
    unknown = [name for name in options.only if name not in known]
    if unknown:
        raise UsageError(f"there is no check {unknown[0]!r}; the checks are {', '.join(sorted(known))}")
    layout = Layout(root.resolve())
    number = None if options.as_of is None else find_snapshot(layout, options.as_of)
    return gather_facts(layout, number)


def verify(
    facts: Facts,
    workers: Workers,
    options: VerifyOptions = VerifyOptions(),
    progress: Progress | None = None,
) -> VerifyReport:
    """Run the checks over the facts of a lake. Nothing in the lake is changed.

    Parameters
    ----------
    facts : Facts
        From :func:`open_facts`.
    workers : Workers
        Where rows are read; without `deep` nothing runs there.
    options : VerifyOptions
    progress : Progress or None

    Raises
    ------
    LakeError
        If a worker was lost with its task.
    """
    progress = progress or Silent()
    checks = chosen_checks(options.only, options.deep, options.hats)
    report = VerifyReport(str(facts.layout.root), facts.snapshot, options.deep)
    with ExitStack() as stack:
        if facts.snapshot is not None:
            # A vacuum leaves the snapshot alone in the meantime.
            stack.enter_context(in_use(facts.layout.snapshot(facts.snapshot)))
        if any(relation in check.sql for check in checks for relation in _SCANS):
            _scan(facts, workers, progress)
        if any("master_scans" in check.sql for check in checks):
            add_master_scans(facts.layout, facts.relations)
        if any("catalog_scans" in check.sql or "index_scans" in check.sql for check in checks):
            add_catalog_scans(facts.layout, facts.relations)
        if any(check.kind == "hats" for check in checks):
            _ask_hats(facts)
        files = readable_files(facts)
        outcomes = list(
            run_checks(facts, [check for check in checks if not check.share], files, options.show)
        )
        shared = [check for check in checks if check.share]
        outcomes += _run_shares(facts, shared, files, workers, options.show, progress)
    report.checks = [_as_dict(facts, outcome) for outcome in outcomes]
    return report


def _scan(facts: Facts, workers: Workers, progress: Progress) -> None:
    """Read every row of every file, and add what was found to the facts."""
    groups = list(_together(facts, recorded_files(facts)))
    progress.begin("files", sum(len(group) for group in groups))
    task = dask.delayed(scan_files, pure=False)
    makers = [partial(task, group) for group in groups]
    results = run_in_windows(workers, makers, lambda number, _: progress.advance(len(groups[number])))
    for group, result in zip(groups, results, strict=True):
        for scan in _scans(group, result):
            for relation, row in scan.relations():
                facts.relations.extend(relation, [row])
    progress.end()


def _scans(group: Sequence[RecordedFile], result: Any) -> list[Scan]:
    """Return the scans of a task; files at which a worker was lost cannot be read."""
    if isinstance(result, BaseException):
        return [Scan(file, problem=f"{type(result).__name__}: {result}") for file in group]
    return list(result)


def _together(facts: Facts, files: Sequence[RecordedFile]) -> Iterable[list[RecordedFile]]:
    """Yield files that make one task."""
    sizes = {
        (table, path): n_bytes or 0
        for table, path, n_bytes in facts.relations.values("disk_files", "table_name", "path", "n_bytes")
    }
    group: list[RecordedFile] = []
    n_bytes = 0
    for file in files:
        group.append(file)
        n_bytes += sizes[file.table, file.path] + _TASK_BYTES // 256
        if n_bytes >= _TASK_BYTES:
            yield group
            group, n_bytes = [], 0
    if group:
        yield group


def _ask_hats(facts: Facts) -> None:
    """Ask the hats package about tables and catalogs."""
    tables = facts.relations.values("lake_tables", "table_name", "kind", "folder")
    names = [(table, folder) for table, kind, folder in tables if kind == "hats"]
    collections = [(table, facts.layout.margin(table, Path(folder).name)) for table, folder in names]
    names += [
        (table, str(path.relative_to(facts.layout.root))) for table, path in collections if path.is_dir()
    ]
    names += [
        (f"the catalog {path.name}", str(path.relative_to(facts.layout.root)))
        for path in sorted(facts.layout.catalogs.glob("[!.]*"))
        if path.is_dir() and not (path / SOURCE_FILE).is_file()
    ]
    for name, folder in names:
        root = facts.layout.root / folder
        problem = validate(root) or uncovered(root)
        facts.relations.add("hats_validations", name=name, folder=folder, problem=problem)


def _run_shares(
    facts: Facts, checks: Sequence[Check], files: Files, workers: Workers, show: int, progress: Progress
) -> list[CheckOutcome]:
    """Run checks that read tables, share by share on the workers."""
    groups = together([share for check in checks for share in shares_of(facts, check, files, show)])
    progress.begin("checks", sum(len(group) for group in groups))
    task: Callable[..., Any] = dask.delayed(run_shares, pure=False)
    makers = [partial(task, group) for group in groups]
    results = run_in_windows(workers, makers, lambda number, _: progress.advance(len(groups[number])))
    progress.end()
    outcomes = {check.name: CheckOutcome(check) for check in checks}
    for group, result in zip(groups, results, strict=True):
        if isinstance(result, SkylakeError):
            raise result
        if isinstance(result, BaseException):
            raise LakeError(
                f"the check {group[0].check.name} ended ({type(result).__name__}: {result}); verify again"
            ) from result
        for share, share_outcome in zip(group, result, strict=True):
            _add(outcomes[share.check.name], share_outcome, show)
    return list(outcomes.values())


def _add(outcome: CheckOutcome, share: CheckOutcome, show: int) -> None:
    """Add the findings in a share to those of a check."""
    outcome.rows = [*outcome.rows, *share.rows][:show]
    outcome.n_found += share.n_found
    outcome.error = outcome.error or share.error
    outcome.seconds += share.seconds


def _as_dict(facts: Facts, outcome: CheckOutcome) -> dict[str, Any]:
    return {
        "name": outcome.check.name,
        "sentence": outcome.check.sentence,
        "kind": outcome.check.kind,
        "passed": outcome.passed,
        "n_found": outcome.n_found,
        "seconds": round(outcome.seconds, 3),
        "findings": findings(facts, outcome),
    }
