"""Whether a lake survives that the power fails in the midst of commits.

Needs: root, loop devices and mkfs.ext4. Takes about 3 minutes on 2 cores, 1 with --quick.

The lake lies on an ext4 of its own. At a random instant the file system is shut down (FS_IOC_SHUTDOWN without a flush
of its log, the way in which file systems themselves are tested): what had not reached the disk never will, files that
were not forced there are empty or missing. What the disk holds then is copied at once, since letting go of a file
system may still write to it, as no power failure would. The copy is mounted, which replays its log, and must hold

1. every commit that had returned, or more;
2. a lake that is readable and as it was published at one time or another;
3. after another run, what an undisturbed run makes.

Beside us runs the same code that forces nothing to disk: it shows that the trial can fail.

The claim is one line: cuts that did harm, those without forcing, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from claims import Claim, conclude
from operations import commit_nights
from states import Broken, State, findings, fits, must, state_of
from trials import Trials
from victims import Victim, run

from skylake.errors import SkylakeError
from skylake.lake import Lake

#: ``_IOR('X', 125, __u32)`` of linux/fs.h, and its flag that leaves the log where it is.
_SHUTDOWN, _NO_FLUSH = 0x8004587D, 2
_BYTES = 256 << 20


def main() -> None:
    """Cut the power, and print the claim."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=40, help="of the power")
    parser.add_argument("--seed", type=int, default=1, help="of the instants")
    parser.add_argument("--quick", action="store_true", help="8 cuts")
    options = parser.parse_args()
    why_not = obstacle()
    if why_not:
        print(f"the power cannot be cut here: {why_not}")
        return
    cuts = 8 if options.quick else options.cuts
    with tempfile.TemporaryDirectory(prefix="skylake-powercut-") as folder:
        trial = PowerCuts(Path(folder))
        ours = trial.cut_often(cuts, options.seed)
        peer = trial.cut_often(max(cuts // 4, 4), options.seed, forced=False)
    print(f"\nforced to disk: {len(ours)} of {cuts} cuts did harm")
    print(f"not forced: {len(peer)} of {max(cuts // 4, 4)}, for example: {next(iter(peer), 'none')}")
    conclude([Claim("share of cuts that did harm", len(ours) / cuts, len(peer) / max(cuts // 4, 4), 0.0)])


def obstacle() -> str | None:
    """Return why the power cannot be cut here; None if it can."""
    if os.geteuid() != 0:
        return "it takes root"
    if _mkfs() is None:
        return "there is no mkfs.ext4"
    with tempfile.TemporaryDirectory() as folder:
        try:
            image = _formatted(Path(folder) / "image")
            with _mounted(image, Path(folder) / "disk"):
                return None
        except subprocess.CalledProcessError as error:
            return str(error.stderr or error).strip()


def _mkfs() -> str | None:
    """Return the program that makes file systems; many have it outside the path that programs are looked for in."""
    return shutil.which("mkfs.ext4", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def _formatted(image: Path) -> Path:
    with image.open("wb") as stream:
        stream.truncate(_BYTES)
    options = "lazy_itable_init=0,lazy_journal_init=0"
    _call(_mkfs() or "mkfs.ext4", "-q", "-F", "-E", options, str(image))
    return image


def _copied(image: Path, copy: Path) -> None:
    _call("cp", "--sparse=always", str(image), str(copy))


def _call(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


@contextmanager
def _mounted(image: Path, place: Path, seconds: int = 300) -> Iterator[Path]:
    """Mount an image; its log is written every so many seconds, and renaming forces no data."""
    place.mkdir(exist_ok=True)
    _call("mount", "-o", f"loop,noauto_da_alloc,commit={seconds}", str(image), str(place))
    try:
        yield place
    finally:
        _call("umount", str(place))


def shut_down(place: Path) -> None:
    """Let a file system end here and now, as when the power fails."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_FLUSH))
    finally:
        os.close(descriptor)


def commits(root: Path, source: Path, told: Path, forced: bool) -> int:
    """Commit nights, as they are or without forcing anything to disk."""
    if not forced:
        import skylake.durable
        import skylake.lake.commits.commit

        for module in (skylake.durable, skylake.lake.commits.commit):
            module.sync_tree = module.sync_folder = lambda path: None
        os.fsync = lambda descriptor: None
    return commit_nights(root, source, told)


class PowerCuts:
    """Cuts of the power, all upon copies of one disk."""

    def __init__(self, folder: Path, table_nights: int = 12) -> None:
        self.trials = Trials(folder, table_nights=table_nights)
        self._image, self._cut, self._place = folder / "trial", folder / "cut", folder / "disk"
        self._told = folder / "told"
        self._fresh = _formatted(folder / "fresh")
        self.trials.lake("empty")
        with _mounted(self._fresh, self._place):
            self.trials.copy("empty", self._place / "lake")
        self._published: list[State] = []
        self._seconds = 0.0
        self._run_undisturbed()

    def _work(self, forced: bool = True) -> partial[int]:
        return partial(commits, self._place / "lake", self.trials.lake("tables"), self._told, forced)

    def _copy(self) -> None:
        _copied(self._fresh, self._image)
        self._told.write_text("", encoding="ascii")

    def _run_undisturbed(self) -> None:
        self._copy()
        with _mounted(self._image, self._place):
            run(self._work(), self.trials.root / "log")
            lake = Lake(self._place / "lake")
            last = lake.snapshot().number
            self._published = [state_of(lake.snapshot(number)) for number in range(1, last + 1)]
            del lake
        self._copy()
        with _mounted(self._image, self._place):
            self._seconds = run(self._work(), self.trials.root / "log").seconds

    def cut_often(self, cuts: int, seed: int, forced: bool = True) -> list[str]:
        """Cut the power so many times; return what harm was done."""
        found = ((number, self.cut(random.Random(f"{seed} {number}"), forced)) for number in range(cuts))
        harm = [f"cut {number}: {told}" for number, told in found if told]
        print(*(told if forced else f"not forced, {told}" for told in harm), sep="\n", flush=True)
        return harm

    def cut(self, dice: random.Random, forced: bool = True) -> str | None:
        """Cut the power once, and see what is left; return what harm was done, if any."""
        self._copy()
        # The log is written often or never by itself: both make trouble, of different kinds.
        seconds = dice.choice([1, 300])
        with _mounted(self._image, self._place, seconds):
            victim = Victim(self._work(forced), self.trials.root / "log")
            time.sleep(dice.uniform(0.0, self._seconds))
            shut_down(self._place)
            _copied(self._image, self._cut)
            told = [int(line) for line in self._told.read_text(encoding="ascii").split()]
            victim.kill()
        with _mounted(self._cut, self._place):
            # Caught in here, since an error keeps files open, with which no disk is let go.
            try:
                self._see(max(told, default=1), forced)
            except (Broken, SkylakeError, OSError) as error:
                return f"{type(error).__name__}: {error}"
        return None

    def _see(self, told: int, forced: bool) -> None:
        lake = Lake(self._place / "lake")
        number = lake.snapshot().number
        must(number >= told, f"snapshot {told} had been committed, and the lake is at {number}")
        must(
            fits(state_of(lake.snapshot()), self._published),
            f"snapshot {number} holds what never was published",
        )
        found = findings(lake.snapshot())
        must(not found, f"the checks find {found}")
        if forced:
            ended = run(self._work(), self.trials.root / "log")
            must(ended.status == 0, f"the next run ends with {ended.status}: {ended.said}")
            must(
                state_of(lake.snapshot()) == self._published[-1],
                "the content is not that of an undisturbed run",
            )


if __name__ == "__main__":
    main()
