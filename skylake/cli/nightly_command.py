"""The nightly pipeline: the stages that ``pipelines/nightly.toml`` declares, in its order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skylake import cameras, logs
from skylake.core.counted import counted
from skylake.declared import read_toml
from skylake.errors import ConfigurationError, SkylakeError
from skylake.flow.aggregates import aggregate
from skylake.flow.astrometry.learn_distortion import learn
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.run_progress import Progress
from skylake.flow.forced.extend_targets import extend_targets
from skylake.flow.ingest.backfill import backfill_nightly
from skylake.flow.ingest.ingest_frames import ingest_frames
from skylake.flow.ingest.ingest_report import IngestReport
from skylake.flow.watching.deliver_alerts import deliver_alerts
from skylake.flow.zeropoints.calibrate_nights import calibrate, calibrating_catalogs, no_catalog
from skylake.lake import Lake
from skylake.mirror.mirror_lake import mirror_lake
from skylake.report.page import write_report
from skylake.resources import folder

_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class NightlyOptions:
    """The options of the nightly pipeline."""

    camera: str
    paths: tuple[Path, ...]
    report: Path
    mirror_url: str | None = None
    mirror_schema: str | None = None
    aggregates: tuple[Path, ...] = ()


@dataclass(slots=True)
class NightlyOutcome:
    """The results of the stages: the report of the ingest, a line of text and values per stage, and failures."""

    ingest: IngestReport = field(default_factory=IngestReport)
    lines: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """3 if a stage failed, 1 if one had nothing to work with or some frames were not used, else 0."""
        if self.failures:
            return SkylakeError.exit_status
        return 0 if self.ingest.all_well and not self.warnings else 1

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome for JSON."""
        said = {"warnings": self.warnings, "failures": self.failures}
        return {"ingest": dataclasses.asdict(self.ingest), **self.values, **said}


@dataclass(frozen=True, slots=True)
class NightlyRun:
    """What the stages share."""

    lake: Lake
    options: NightlyOptions
    workers: Workers
    progress: Progress
    outcome: NightlyOutcome


def run_nightly(
    lake: Lake,
    options: NightlyOptions,
    workers: Workers,
    progress: Progress,
    without: Collection[str] = (),
) -> NightlyOutcome:
    """Run the stages of the pipeline, all but those in `without`.

    A later stage that fails, as the mirror does when the database is down, is reported in the outcome and takes
    nothing along: what was committed stays, and the other stages run.

    Raises
    ------
    ConfigurationError
        If the declaration names a stage that there is not.
    SkylakeError
        If the frames could not be ingested.
    """
    run = NightlyRun(lake, options, workers, progress, NightlyOutcome())
    for stage in declared_stages():
        if stage in without:
            continue
        try:
            STAGES[stage](run)
        except SkylakeError as error:
            if stage == "ingest":
                raise
            _log.debug("the stage %s failed", stage, exc_info=True)
            run.outcome.failures.append(f"{stage}: {error}")
    return run.outcome


def declared_stages() -> list[str]:
    """Return the stages of ``pipelines/nightly.toml``."""
    path = folder("pipelines") / "nightly.toml"
    stages: list[str] = read_toml(path)["stages"]
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise ConfigurationError(
            f"{path}: there is no stage {unknown[0]!r}; the stages are {', '.join(STAGES)}"
        )
    return stages


def _ingest(run: NightlyRun) -> None:
    chips = cameras.load_chips(run.options.camera)
    run.outcome.ingest = ingest_frames(run.lake, chips, run.options.paths, run.workers, progress=run.progress)


def _backfill(run: NightlyRun) -> None:
    """Measure targets of earlier runs on some earlier frames, which the next stages then take in with the new ones."""
    most = run.lake.settings.objects.backfill_frames
    chips = [chip.name for chip in cameras.load_chips(run.options.camera)] if most else []
    listed = {part.camera for part in run.lake.snapshot().parts("targets").values()}
    reports = [
        backfill_nightly(run.lake, name, run.workers, run.progress, most) for name in chips if name in listed
    ]
    run.outcome.values["backfill"] = [dataclasses.asdict(report) for report in reports]
    run.outcome.lines += [
        report.line for report in reports if report.n_frames or report.n_left or report.n_unseen
    ]


def _learn(run: NightlyRun) -> None:
    chips = [chip.name for chip in cameras.load_chips(run.options.camera)]
    reports = {name: learn(run.lake, name, run.workers, progress=run.progress) for name in chips}
    learned = {name: dataclasses.asdict(report) for name, report in reports.items()}
    run.outcome.values["learn"] = learned if len(chips) > 1 else learned[chips[0]]
    for report in reports.values():
        run.outcome.lines += [report.line] * bool(report.n_frames) + report.sentences


def _calibrate(run: NightlyRun) -> None:
    if not calibrating_catalogs(run.lake):
        run.outcome.warnings.append(f"nothing was calibrated: {no_catalog(run.lake)}")
        return
    report = calibrate(run.lake, run.workers, progress=run.progress)
    run.outcome.values["calibrate"] = dataclasses.asdict(report)
    run.outcome.lines += [f"calibrate: {sentence}" for sentence in report.chosen.values()]
    run.outcome.lines.append(report.line)
    run.outcome.warnings += report.warnings


def _aggregate(run: NightlyRun) -> None:
    report = aggregate(run.lake, [], run.workers, run.progress, run.options.aggregates)
    run.outcome.values["aggregate"] = dataclasses.asdict(report)
    made = ", ".join(f"{name} {count}" for name, count in report.refreshed.items())
    run.outcome.lines.append(f"aggregate: parts made: {made}")
    run.outcome.lines += [f"aggregate: {sentence}" for sentence in report.left]
    run.outcome.warnings += [f"aggregate: {sentence}" for sentence in report.failed]
    news = deliver_alerts(run.lake)
    run.outcome.values["alerts"] = dataclasses.asdict(news)
    run.outcome.lines += [f"alerts: {news.line}"] * bool(news.line)
    run.outcome.lines += [f"alerts: {sentence}" for sentence in news.waiting]
    run.outcome.warnings += [f"alerts: {sentence}" for sentence in news.failures]
    chips = [chip.name for chip in cameras.load_chips(run.options.camera)]
    run.outcome.lines += [one.line for one in extend_targets(run.lake, chips)]


def _compact(run: NightlyRun) -> None:
    report = compact(run.lake, run.workers, progress=run.progress)
    run.outcome.values["compact"] = dataclasses.asdict(report)
    merged = [
        f"{name} {done['files_before']} to {done['files_after']}" for name, done in report.tables.items()
    ]
    if merged:
        run.outcome.lines.append(f"compact: files: {', '.join(merged)}")


def _mirror(run: NightlyRun) -> None:
    report = mirror_lake(run.lake, run.options.mirror_url, run.options.mirror_schema)
    run.outcome.values["mirror"] = dataclasses.asdict(report)
    run.outcome.lines.append(
        f"mirror: {counted(report.outcome.n_rows_copied, 'row')} copied to {report.where}"
    )


def _report(run: NightlyRun) -> None:
    files = write_report(run.lake, run.options.report)
    run.outcome.values["report"] = [str(file) for file in files]
    run.outcome.lines.append(f"report: {files[0]}")


STAGES: dict[str, Callable[[NightlyRun], None]] = {
    "ingest": _ingest,
    "backfill": _backfill,
    "learn": _learn,
    "calibrate": _calibrate,
    "aggregate": _aggregate,
    "compact": _compact,
    "mirror": _mirror,
    "report": _report,
}
