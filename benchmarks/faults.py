"""Whether a lake survives ``kill -9``, whatever runs and whenever it comes.

Needs: skylake alone. Takes about 40 minutes on 2 cores, 4 with --quick.

A run is killed with all its processes at a random instant, or right after something appeared in the lake, or, where
strace is installed and the run is short, as it makes one of its system calls that change what is on disk. Then

1. the last snapshot is read, every table in three ways: it holds what an undisturbed run has published at one time or
   another, and nothing in between; the queries of ``sql/checks`` find nothing; all older snapshots are whole; a mirror
   shows one of the snapshots; what was learned of cameras can be read;
2. the same command is run again and must succeed;
3. every table, and what is learned of cameras, then has the content that it has after an undisturbed run, row by row,
   column by column;
4. after a vacuum nothing lies about that belongs to no snapshot.

The claim is one line: kills of which one of these did not hold, peer, ratio, target, met or missed.

With --nightly FRAMES it is the nightly run of a night of so many frames, with targets, on two workers that is killed,
at random instants and several times before it may end; about 20 minutes for 300 frames and 100 kills. Besides the
above, frames of chunks that were finished must not be reduced again: all that workers begin are counted. Four of five
kills come while frames are reduced.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from claims import Claim, conclude
from operations import LOCAL, Operation, available
from states import (
    Broken,
    State,
    broken_rules,
    fits,
    learned,
    litter,
    mirrored,
    must,
    small_tables,
    state_of,
    store_litter,
    tables_of,
)
from trials import Trials, store_of
from victims import Blow, Victim, Work, calls_of, can_follow, command, count_frames, killing, kin_of, run

from skylake.errors import SkylakeError
from skylake.lake import Lake, Snapshot

#: A kill that is aimed comes up to so many seconds after the change that it waits for.
_AFTER_S = (0.0, 0.001, 0.02)
#: For fewer kills the length of a run need not be known well.
_FEW = 6
#: Instants that are tried until one comes before the end of the run.
_ATTEMPTS = 12
#: Kills of one nightly run, at most; the share of them that hits the process which leads alone.
_IN_A_ROW, _ALONE = 5, 0.25
#: Share of them that comes before the frames are committed.
_EARLY = 0.8
#: Frames that two workers may have in hand, with those of chunks that are not finished: some seconds' work.
_AGAIN = 60


@dataclass(slots=True)
class Reference:
    """What an undisturbed run does: states it publishes, what it learns, exit status, rules it breaks, its length."""

    published: list[State]
    learned: dict[str, str]
    status: int
    rules: set[str]
    seconds: float
    before: dict[int, dict[tuple[str, str], str]]
    calls: dict[str, list[tuple[str, int]]]


@dataclass(slots=True)
class Score:
    """What the kills of one operation met.

    ``hit`` counts kills by how far the run had come: before its first commit, between two, after its last, for runs
    that commit. ``litter`` is what all of them left lying about, which the next run or a vacuum sweeps away.
    """

    operation: Operation
    seconds: float
    kills: int = 0
    hit: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("before", "between", "after"), 0))
    litter: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        hit = " ".join(f"{count:8d}" for count in self.hit.values())
        well = self.kills - len(self.failures)
        return (
            f"{self.operation.name:24s} {self.seconds:8.2f} {self.kills:6d} {hit} {self.litter:8d} {well:6d}"
        )


def main() -> None:
    """Kill, and print a table and the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--seed", type=int, default=1, help="of the instants")
    parser.add_argument("--quick", action="store_true", help="26 kills")
    parser.add_argument("--only", metavar="NAME", help="operations whose names begin so")
    parser.add_argument("--nightly", type=int, metavar="FRAMES", help="kill nightly runs of so many frames")
    options = parser.parse_args()
    if options.nightly:
        conclude(kill_nights(options.nightly, options.kills, options.seed))
    there, missing = available()
    for operation in missing:
        print(f"{operation.name}: left out, since skylake has no command {operation.needs}")
    chosen = [one for one in there if one.name.startswith(options.only or "")]
    shares = share(chosen, 26 if options.quick else options.kills)
    with tempfile.TemporaryDirectory(prefix="skylake-faults-") as folder:
        trials = Trials(Path(folder))
        scores = [
            kill_often(trials, one, count, options.seed) for one, count in zip(chosen, shares, strict=True)
        ]
    print(f"\n{'operation':24s} {'run [s]':>8s} {'kills':>6s} {'before':>8s} {'between':>8s} {'after':>8s} "
          f"{'litter':>8s} {'well':>6s}")  # fmt: skip
    print(*scores, sep="\n")
    kills, failures = sum(one.kills for one in scores), sum(len(one.failures) for one in scores)
    print(f"{kills - failures} of {kills} kills did no harm")
    missed = sum(shares) - kills
    conclude(
        [
            Claim("kills that did harm", float(failures), None, 0.0),
            Claim("kills that were asked for and always came too late", float(missed), None, 0.0),
        ]
    )


def kill_nights(frames: int, kills: int, seed: int) -> list[Claim]:
    """Kill nightly runs, some times each, let them end, and return the claims on what is lost and done twice."""
    failures: list[str] = []
    reduced = finished = nights = came = 0
    with tempfile.TemporaryDirectory(prefix="skylake-faults-") as folder:
        told = Path(folder) / "reduced"
        told.touch()
        count_frames(told)
        trials = Trials(Path(folder), nights=1, frames=frames)
        night = Operation("nightly", "begun", nightly_run, 1)
        place = trials.root / "trial"
        reference = undisturbed(trials, night, place, 2)
        n_new = len(_lines(told)) // 2
        seconds = _seconds_of_ingest(trials, night, place)
        print(
            f"undisturbed: {n_new} frames in {reference.seconds:.1f} s, committed after {seconds:.1f} s",
            flush=True,
        )
        dice, began = random.Random(seed), time.perf_counter()
        while came < kills:
            told.write_text("")
            lake = trials.copy(night.lake, place)
            nights += 1
            try:
                for _ in range(min(_IN_A_ROW, kills - came)):
                    # Commits come after the frames, and are not to be missed.
                    span = seconds if dice.random() < _EARLY else reference.seconds
                    if not _kill_night(trials, night, reference, lake, told, dice, span):
                        break
                    came += 1
                ended = run(night.work(trials, place), trials.root / "log")
                must(ended.status == reference.status, f"the last run ends with {ended.status}: {ended.said}")
                must(
                    state_of(lake.snapshot()) == reference.published[-1],
                    "the content is not that of an undisturbed run",
                )
                lake.vacuum()
                must(not litter(lake), f"after a vacuum there lies about: {', '.join(litter(lake)[:5])}")
            except (Broken, SkylakeError, OSError) as error:
                failures.append(f"night {nights}: {type(error).__name__}: {error}")
                print(failures[-1], flush=True)
            finally:
                kill_server(place)
                shutil.rmtree(place, ignore_errors=True)
            reduced, finished = reduced + len(_lines(told)), finished + n_new
            print(
                f"{came} kills in {time.perf_counter() - began:.0f} s: {finished} frames of {nights} nights were "
                f"reduced {reduced} times, {100 * (reduced / finished - 1):.1f} % too often", flush=True,
            )  # fmt: skip
    print(f"{(reduced - finished) / came:.2f} frames begun again for each kill")
    return [
        Claim("nights that are not as after an undisturbed run", float(len(failures)), None, 0.0),
        Claim("frames begun again for each kill", (reduced - finished) / came, None, float(_AGAIN)),
    ]


def nightly_run(trials: Trials, lake: Path) -> Work:
    """Return the nightly run of the frames of the trials."""
    words = ["run", "nightly", lake, "--camera", trials.profile, trials.archive / "frames", *LOCAL]
    return partial(command, [str(word) for word in words])


def _seconds_of_ingest(trials: Trials, night: Operation, place: Path) -> float:
    """Return how long a nightly run takes until its frames are committed."""
    lake = trials.copy(night.lake, place)
    victim = Victim(night.work(trials, place), trials.root / "log")
    victim.strike(place, Blow(0.0, "current"))
    kill_server(place)
    seconds = time.perf_counter() - victim.begin
    must(lake.snapshot().n_rows("frames") == trials.frames, "the first commit is not that of the frames")
    shutil.rmtree(place)
    return seconds


def _kill_night(
    trials: Trials,
    night: Operation,
    reference: Reference,
    lake: Lake,
    told: Path,
    dice: random.Random,
    seconds: float,
) -> bool:
    """Kill a nightly run once, and see what is left; tell whether the kill came in time."""
    done = _finished(lake)
    before = len(_lines(told))
    victim = Victim(night.work(trials, lake.root), trials.root / "log")
    time.sleep(dice.uniform(0.0, seconds))
    lived = victim.kill(alone=dice.random() < _ALONE)
    again = done & set(_lines(told)[before:])
    must(not again, f"{len(again)} frames of chunks that were finished are reduced again")
    snapshot = lake.snapshot()
    must(
        fits(state_of(snapshot), reference.published),
        f"snapshot {snapshot.number} holds what never was published",
    )
    must(broken_rules(snapshot) <= reference.rules, f"the checks find {broken_rules(snapshot)}")
    return lived


def _finished(lake: Lake) -> set[str]:
    """Return the files of the chunks that a run which was killed has finished."""
    notes = [json.loads(note.read_text()) for note in lake.layout.staging.glob("lasting-*/[!.]*/chunk.json")]
    return {file for note in notes for file, *_ in note["files"]}


def _lines(told: Path) -> list[str]:
    return told.read_text().splitlines()


def share(operations: Sequence[Operation], kills: int) -> list[int]:
    """Divide kills among operations by their weights; the remainders go to the first."""
    total = sum(one.weight for one in operations)
    counts = [kills * one.weight // total for one in operations]
    for number in range(kills - sum(counts)):
        counts[number % len(counts)] += 1
    return counts


def kill_often(trials: Trials, operation: Operation, kills: int, seed: int) -> Score:
    """Kill an operation so many times; tell what happened."""
    place = trials.root / "trial"
    reference = undisturbed(trials, operation, place, 1 if kills < _FEW else 2)
    score = Score(operation, reference.seconds)
    begin = time.perf_counter()
    for number in range(kills):
        dice = random.Random(f"{seed} {operation.name} {number}")
        try:
            if not kill_once(trials, operation, reference, place, dice, score):
                continue
        except (Broken, SkylakeError, OSError) as error:
            score.failures.append(f"kill {number}: {type(error).__name__}: {error}")
            print(f"{operation.name}: {score.failures[-1]}", flush=True)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        score.kills += 1
    print(f"{operation.name}: {score.kills} kills in {time.perf_counter() - begin:.0f} s", flush=True)
    return score


def undisturbed(trials: Trials, operation: Operation, place: Path, runs: int) -> Reference:
    """Run an operation to its end; the first run of all takes longer than later ones."""
    for _ in range(runs):
        shutil.rmtree(place, ignore_errors=True)
        lake = trials.copy(operation.lake, place)
        base = lake.snapshot().number
        before = {entry.snapshot: _outline(lake.snapshot(entry.snapshot)) for entry in lake.history()}
        ended = run(operation.work(trials, place), trials.root / "log")
        must(ended.status in (0, 1), f"{operation.name} fails undisturbed: {ended.said}")
    last = lake.snapshot().number
    published = [state_of(lake.snapshot(number)) for number in range(base, last + 1)]
    rules, known = broken_rules(lake.snapshot()), learned(lake)
    del lake
    shutil.rmtree(place)
    calls = {}
    if operation.stepwise and can_follow():
        trials.copy(operation.lake, place)
        calls = calls_of(operation.work(trials, place), trials.root / "log", place)
        shutil.rmtree(place)
    return Reference(published, known, ended.status or 0, rules, ended.seconds, before, calls)


def kill_once(
    trials: Trials, operation: Operation, reference: Reference, place: Path, dice: random.Random, score: Score
) -> bool:
    """Kill one run, and see what is left and what becomes of it; tell whether the kill came in time."""
    log = trials.root / "log"
    for attempt in range(_ATTEMPTS):
        shutil.rmtree(place, ignore_errors=True)
        base = trials.copy(operation.lake, place).snapshot().number
        blow = _draw(operation, reference, dice, attempt)
        victim = Victim(operation.work(trials, place), log, killing(blow.call) if blow.call else None)
        if _strike_worker(victim, place, blow, dice) if operation.worker else victim.strike(place, blow):
            break
    else:
        return False
    if operation.worker:
        _see_survivor(victim, Lake(place), reference)
    else:
        if operation.of_mirror and dice.random() < 0.5:
            kill_server(place)
        _see_remains(operation, Lake(place), reference, base, score)
    ended = run(operation.work(trials, place), log)
    must(ended.status in (0, reference.status), f"the next run ends with {ended.status}: {ended.said}")
    _see_end(operation, Lake(place), reference)
    return True


def _draw(operation: Operation, reference: Reference, dice: random.Random, attempt: int) -> Blow:
    """Choose an instant: of those that miss, the next one is earlier and not aimed."""
    if reference.calls and attempt == 0 and dice.random() < 0.5:
        return Blow(0.0, call=dice.choice(reference.calls[dice.choice(sorted(reference.calls))]))
    if operation.aims and attempt == 0 and dice.random() < 0.5:
        return Blow(dice.uniform(0.0, dice.choice(_AFTER_S)), dice.choice(operation.aims))
    # The run that was timed may have had to share its processor, so that others are much shorter.
    return Blow(dice.uniform(0.0, reference.seconds * 0.75**attempt))


def _strike_worker(victim: Victim, lake: Path, blow: Blow, dice: random.Random) -> bool:
    """Kill one worker of a run that is at work; tell whether there was one."""
    while victim.alive and not list(lake.glob("_staging/*")):
        time.sleep(0.01)
    time.sleep(blow.seconds / 3.0)
    workers = [one for one in kin_of(victim.pid)[1:] if _is_worker(one)]
    if not workers or not victim.alive:
        victim.kill()
        return False
    with suppress(ProcessLookupError):
        os.kill(dice.choice(workers), signal.SIGKILL)
    return True


def _is_worker(process: int) -> bool:
    with suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def _see_survivor(victim: Victim, lake: Lake, reference: Reference) -> None:
    """Look at a run that lost a worker: it ends well, or tells which frames were lost with it."""
    ended = victim.wait()
    must(ended.status in (0, 1), f"a run that lost a worker ends with {ended.status}: {ended.said}")
    rows = lake.snapshot().read("frames", ["status", "reason"]).to_pylist()
    lost = [row for row in rows if row["reason"] == "worker_lost"]
    must((ended.status == 1) == bool(lost), f"status {ended.status} with {len(lost)} frames lost")
    must(bool(lost) or state_of(lake.snapshot()) == reference.published[-1], "frames are lost without a word")


def kill_server(lake: Path) -> None:
    """Kill the embedded server of a lake with all its processes, as a loss of power would."""
    with suppress(OSError, ValueError, IndexError):
        number = int((lake / "_postgres" / "data" / "postmaster.pid").read_text().split()[0])
        if Path(f"/proc/{number}/cwd").samefile(lake / "_postgres" / "data"):
            for one in kin_of(number):
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)


def _see_remains(operation: Operation, lake: Lake, reference: Reference, base: int, score: Score) -> None:
    """Look at a lake whose writer was killed."""
    snapshot = lake.snapshot()
    done, all_of_it = snapshot.number - base, len(reference.published) - 1
    if all_of_it:
        score.hit["before" if done == 0 else "after" if done >= all_of_it else "between"] += 1
    score.litter += len(litter(lake))
    must(
        fits(state_of(snapshot), reference.published),
        f"snapshot {snapshot.number} holds what never was published",
    )
    must(learned(lake).keys() <= reference.learned.keys(), "files of cameras are there that no run leaves")
    must(broken_rules(snapshot) <= reference.rules, f"the checks find {broken_rules(snapshot)}")
    for entry in lake.history():
        if entry.kept and entry.snapshot in reference.before:
            found = _outline(lake.snapshot(entry.snapshot))
            must(
                found == reference.before[entry.snapshot], f"the snapshot {entry.snapshot} is not what it was"
            )
    if operation.of_mirror:
        _see_mirror(lake)
    if operation.of_store:
        see_store(lake)


def _see_mirror(lake: Lake) -> None:
    """Look at a mirror: it shows one of the snapshots, all of it."""
    number, shown = mirrored(lake)
    must(
        number is None or shown == small_tables(lake.snapshot(number)),
        f"the mirror is not as snapshot {number}",
    )


def see_store(lake: Lake) -> int:
    """Look at a published lake: it shows one of the snapshots, all of it; return which."""
    there = Lake(store_of(lake.root))
    shown, told = there.snapshot(), [entry.snapshot for entry in there.history() if entry.kept]
    must(
        tables_of(shown) == tables_of(lake.snapshot(shown.number)),
        f"what is published is not as snapshot {shown.number}",
    )
    must(shown.number in told, f"the history of what is published does not tell of snapshot {shown.number}")
    return shown.number


def _see_end(operation: Operation, lake: Lake, reference: Reference) -> None:
    """Look at a lake after the next run: it is as if nothing had happened."""
    snapshot = lake.snapshot()
    must(state_of(snapshot) == reference.published[-1], "the content is not that of an undisturbed run")
    must(learned(lake) == reference.learned, "what is learned of cameras is not as after an undisturbed run")
    must(broken_rules(snapshot) == reference.rules, f"the checks find {broken_rules(snapshot)}")
    if operation.of_mirror:
        number, _ = mirrored(lake)
        must(
            number == snapshot.number, f"the mirror shows snapshot {number}, the lake is at {snapshot.number}"
        )
        _see_mirror(lake)
    if operation.of_store:
        must(see_store(lake) == snapshot.number, "what is published is not the current snapshot")
        must(not store_litter(store_of(lake.root)), "objects are published that are not as they are listed")
    del snapshot
    lake.vacuum()
    must(not litter(lake), f"after a vacuum there lies about: {', '.join(litter(lake)[:5])}")


def _outline(snapshot: Snapshot) -> dict[tuple[str, str], str]:
    """Return the checksums of the parts of a snapshot, whose files must all be there."""
    from skylake.schema import table_names

    for table in table_names():
        must(snapshot.folder(table).is_dir(), f"the table {table} of snapshot {snapshot.number} is not there")
        for path in snapshot.version(table).whole_files():
            must(path.is_file(), f"{path} of snapshot {snapshot.number} is not there")
    return {
        (table, name): part.checksum
        for table in table_names()
        for name, part in snapshot.parts(table).items()
    }


if __name__ == "__main__":
    main()
