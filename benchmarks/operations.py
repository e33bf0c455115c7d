"""The operations that are killed: each an entry in a table, on which lake it works and where it is to be hit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trials import Trials, store_of
from victims import Work, command


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that changes a lake, or its mirror.

    Attributes
    ----------
    name : str
    lake : str
        Prepared lake that it begins with.
    work : callable
        Gives the work to do, from the prepared things and the lake.
    weight : int
        Share of the kills.
    aims : tuple of str
        Patterns of paths below the lake: half of the kills come right after one of them has changed.
    of_mirror : bool
        Whether it is the mirror that changes.
    of_store : bool
        Whether it is the published lake inside the lake that changes.
    needs : str or None
        Command of skylake that it takes.
    worker : bool
        Whether a worker alone is killed, and the run goes on.
    stepwise : bool
        Whether half of the kills come at one of its system calls, since it is too fast for a clock.
    """

    name: str
    lake: str
    work: Callable[[Trials, Path], Work]
    weight: int
    aims: tuple[str, ...] = ()
    of_mirror: bool = False
    of_store: bool = False
    needs: str | None = None
    worker: bool = False
    stepwise: bool = False


def _skylake(*arguments: str) -> Callable[[Trials, Path], Work]:
    """Return what gives a command; the words LAKE, FRAMES, SKIES, PROFILE, CHOOSY and PAIR stand for paths."""

    def work(trials: Trials, lake: Path) -> Work:
        paths = {"LAKE": lake, "PROFILE": trials.profile, "CHOOSY": trials.choosy, "PAIR": trials.pair}
        # Frames are drawn when an operation asks for them.
        if "FRAMES" in arguments:
            paths["FRAMES"] = trials.archive / "frames"
        if "SKIES" in arguments:
            paths["SKIES"] = trials.skies / "frames"
        return partial(command, [str(paths.get(word, word)) for word in arguments])

    return work


def commit_nights(root: Path, source: Path, told: Path | None = None) -> int:
    """Commit the nights of another lake one by one, each over four tables, if they are not there; a bare commit.

    The number of each snapshot is added to the file `told` once it is committed.
    """
    from skylake.core.batch import Batch
    from skylake.lake import Commit, Lake, stage_part
    from skylake.schema import load

    lake, nights = Lake(root), Lake(source).snapshot()
    for batch in nights.parts("frames").values():
        commit = Commit(
            "trial", str(Batch(batch.camera or "", batch.night or 0)), base=lake.snapshot().number
        )
        with lake.stage("trial") as staging:
            for table in ("frames", "sources", "matches", "zeropoints"):
                for part in nights.parts(table).values():
                    held = lake.snapshot().part(table, part.name)
                    if part.night != batch.night or (held is not None and held.checksum == part.checksum):
                        continue
                    tree = lake.tree if load(table).layout.kind == "hats" else None
                    rows = nights.read_part(table, part.name)
                    commit.replace(
                        stage_part(
                            rows,
                            table,
                            part.name,
                            staging / table,
                            tree,
                            part.camera,
                            part.night,
                            part.inputs,
                        ),
                        staging / table,
                    )
            made = lake.commit(commit)
        if told is not None:
            with told.open("a", encoding="ascii") as stream:
                stream.write(f"{made.number}\n")
    return 0


def _commits(trials: Trials, lake: Path) -> Work:
    return partial(commit_nights, lake, trials.lake("tables"))


def forget_night(root: Path, batch: str) -> int:
    """Forget a night, unless it is forgotten already."""
    from skylake.lake import Lake

    if Lake(root).snapshot().part("frames", batch) is None:
        return 0
    return command(["forget", str(root), "--batch", batch, "--yes"])


def _forgets(trials: Trials, lake: Path) -> Work:
    from skylake.lake import Lake

    nights = sorted(Lake(trials.lake("merged")).snapshot().parts("frames"))
    return partial(forget_night, lake, nights[len(nights) // 2])


def _publishes(trials: Trials, lake: Path) -> Work:
    return partial(command, ["publish", str(lake), store_of(lake), "--keep", "1"])


LOCAL = ("--cluster", "local", "--workers", "2")
_BUILDING = ("_staging/*", "_versions/*/*", "_snapshots/*", "_ledger/*", "current")
_LEARNING = ("_cameras/*", "_cameras/.*")
_STORE = tuple(
    f"published/{name}" for name in ("_versions/*/*", "_unfinished/*/*", "_snapshots/*", "current")
)
_INGEST = ("ingest", "LAKE", "--camera", "PROFILE", "FRAMES")
_REDO = ("ingest", "LAKE", "--camera", "CHOOSY", "FRAMES", "--redo")

OPERATIONS = (
    Operation("ingest", "half", _skylake(*_INGEST), 32, _BUILDING),
    Operation("ingest, 2 workers", "half", _skylake(*_INGEST, *LOCAL), 8, _BUILDING),
    Operation("ingest, a worker dies", "half", _skylake(*_INGEST, *LOCAL), 6, worker=True),
    Operation("ingest --redo", "ingested", _skylake(*_REDO), 8, _BUILDING),
    Operation("redo of what is compacted", "compacted", _skylake(*_REDO), 6, _BUILDING),
    Operation("calibrate", "ingested", _skylake("calibrate", "LAKE"), 14, _BUILDING),
    Operation("calibrate, 2 workers", "ingested", _skylake("calibrate", "LAKE", *LOCAL), 3, _BUILDING),
    Operation("aggregate", "calibrated", _skylake("aggregate", "LAKE"), 22, _BUILDING, stepwise=True),
    Operation("commit", "empty", _commits, 36, _BUILDING, stepwise=True),
    Operation("compact", "tables", _skylake("compact", "LAKE"), 20, _BUILDING, needs="compact", stepwise=True),
    Operation(
        "learn", "complete", _skylake("camera", "learn", "LAKE", "--camera", "small"), 10, _LEARNING, stepwise=True
    ),
    Operation(
        "mosaic", "mosaic", _skylake("camera", "mosaic", "LAKE", "--camera", "PAIR"), 10, _LEARNING, stepwise=True
    ),
    Operation(
        "ingest, whole sky", "sky", _skylake("ingest", "LAKE", "--camera", "sim-fisheye", "SKIES"), 6,
        (*_BUILDING, *_LEARNING),
    ),
    Operation(
        "learn, whole sky", "skies", _skylake("camera", "learn", "LAKE", "--camera", "sim-fisheye", "--anew"), 4,
        _LEARNING, stepwise=True,
    ),
    Operation("vacuum", "tables", _skylake("vacuum", "LAKE", "--keep", "2"), 22, _BUILDING, stepwise=True),
    Operation("forget", "merged", _forgets, 14, _BUILDING, stepwise=True),
    Operation("publish", "published", _publishes, 14, _STORE, of_store=True, stepwise=True),
    Operation("rollback", "tables", _skylake("rollback", "LAKE", "3"), 16, _BUILDING, stepwise=True),
    Operation(
        "mirror", "mirrored", _skylake("mirror", "LAKE"), 16, ("_postgres/stop*", "_postgres/.s.*"), of_mirror=True
    ),
    Operation(
        "mirror, the first time", "complete", _skylake("mirror", "LAKE"), 10,
        ("_postgres", "_postgres/init*", "_postgres/data", "_postgres/.s.*"), of_mirror=True,
    ),
)  # fmt: skip


def available() -> tuple[list[Operation], list[Operation]]:
    """Return the operations that there are, and those whose command skylake does not have."""
    from skylake.cli.main import cli

    there = [one for one in OPERATIONS if one.needs is None or one.needs in cli.commands]
    return there, [one for one in OPERATIONS if one not in there]
