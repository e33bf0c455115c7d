"""The order in which a commit reaches the disk, from the system calls that it makes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import skylake
from skylake.lake import Lake

pytestmark = pytest.mark.slow

SOURCE = Path(skylake.__file__).parents[1]

#: Calls that change nothing in a folder, whatever file they are given.
READING = {
    "access", "chdir", "close", "dup", "dup2", "dup3", "execve", "faccessat", "faccessat2", "fadvise64", "fcntl",
    "fdatasync", "flock", "fstat", "fstatfs", "fsync", "getcwd", "getdents64", "getxattr", "ioctl", "lgetxattr",
    "lseek", "lstat", "newfstatat", "pread64", "preadv", "read", "readlink", "readlinkat", "readv", "stat", "statfs",
    "statx", "sync", "syncfs",
}  # fmt: skip
RENAMING = {"rename", "renameat", "renameat2"}


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: the lines of the trace in which it begins and ends, and what it was given and gave."""

    begin: int
    end: int
    name: str
    arguments: str
    result: str

    @property
    def succeeded(self) -> bool:
        return not self.result.startswith(("-1", "?"))

    @property
    def quoted(self) -> list[str]:
        return re.findall(r'"([^"]*)"', self.arguments)

    def touches(self, root: Path) -> bool:
        """Tell whether any file that it names, or that a descriptor stands for, lies in a folder."""
        named = [*self.quoted, *re.findall(r"\d<([^>]*)>|AT_FDCWD<([^>]*)>", self.arguments + self.result)]
        paths = [path for one in named for path in ([one] if isinstance(one, str) else one)]
        return any(path == str(root) or path.startswith(f"{root}/") for path in paths)

    @property
    def changes(self) -> bool:
        """Tell whether it changes files or folders; what is not known to read counts as changing."""
        if not self.succeeded or self.name in READING:
            return False
        if self.name in ("open", "openat"):
            return re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", self.arguments) is not None
        if self.name == "mmap":
            return "MAP_SHARED" in self.arguments and "PROT_WRITE" in self.arguments
        return True


def parse(trace: Path) -> list[Call]:
    """Read what ``strace -f -y -o`` wrote; calls that other threads interrupt are put together again."""
    calls: list[Call] = []
    open_calls: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(trace.read_text(encoding="utf-8", errors="replace").splitlines()):
        process, _, rest = line.partition(" ")
        rest = rest.strip()
        begin = number
        if rest.startswith(("---", "+++")):
            continue
        if rest.endswith("<unfinished ...>"):
            open_calls[process] = (number, rest.removesuffix("<unfinished ...>"))
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>", rest)
        if resumed:
            begin, first = open_calls.pop(process)
            rest = first + rest[resumed.end() :]
        match = re.fullmatch(r"(\w+)\((.*)\)\s+= (.*)", rest)
        assert match is not None, f"a line that is not understood: {line}"
        calls.append(Call(begin, number, match[1], match[2], match[3]))
    assert all(name.startswith(("exit", "futex")) for _, name in open_calls.values()), open_calls
    return calls


def publications(calls: list[Call], lake: Path) -> list[Call]:
    """Return the calls that move the pointer of a lake."""
    pointer = str(lake / "current")
    return [call for call in calls if call.name in RENAMING and call.succeeded and call.quoted[-1] == pointer]


def offences(calls: list[Call], lake: Path) -> Iterator[str]:
    """Yield what is wrong with the order of calls around each move of the pointer.

    All that was changed in the lake is forced to disk before, but for the link that is to become the pointer; the
    folder of the pointer is forced to disk right after.
    """
    own = re.compile(rf"{re.escape(str(lake))}/\.current\.[0-9a-f]+\.tmp")
    changes = [call for call in calls if call.changes and call.touches(lake)]
    for move in publications(calls, lake):
        syncs = [
            call for call in calls
            if call.name == "syncfs" and call.result == "0" and call.touches(lake) and call.end < move.begin
        ]  # fmt: skip
        if not syncs:
            yield f"line {move.begin}: the pointer moves and nothing was forced to disk"
            continue
        for call in changes:
            if call.end > syncs[-1].begin and call.begin < move.begin and not own.fullmatch(call.quoted[-1]):
                told = f"{call.name}({call.arguments})"
                yield f"line {call.begin}: {told} is not forced to disk before the pointer moves"
        after = [
            call for call in calls
            if call.name == "fsync" and call.result == "0" and call.begin > move.end
            and re.match(rf"\d+<{re.escape(str(lake))}>$", call.arguments)
        ]  # fmt: skip
        if not after:
            yield f"line {move.begin}: the pointer is not forced to disk"
        elif any(move.end < call.begin < after[0].end for call in changes):
            yield f"line {move.begin}: the lake changes before the pointer is forced to disk"


_WORK = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from conftest import _make_rows as make_rows
from skylake.lake import Commit, Lake, stage_part
from skylake.settings import Settings
{spoil}
lake = Lake.create(sys.argv[1], Settings(pixel_order=1))
{between}
for name, seed in (("c-1", 1), ("c-2", 2), ("c-1", 3)):
    commit = Commit("test", name)
    with lake.stage("test") as staging:
        for table in ("frames", "sources"):
            tree = lake.tree if table == "sources" else None
            commit.replace(stage_part(make_rows(table, 30, seed), table, name, staging / table, tree), staging / table)
        lake.commit(commit)
lake.rollback(2)
"""


Traced = Callable[..., tuple[Lake, list[Call]]]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """A function that makes a lake, commits three times and rolls back, and gives the system calls of all that."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trial = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if trial.returncode != 0:
        pytest.skip(f"strace is not allowed here: {trial.stderr.strip()}")

    def run(spoil: str = "", between: str = "") -> tuple[Lake, list[Call]]:
        folder = tmp_path_factory.mktemp("traced")
        root, trace = folder / "lake", folder / "trace"
        calls = "file,desc,mmap,syncfs,sync,fsync,fdatasync,io_uring_setup"
        command = ["strace", "-f", "-y", "-qq", "-s", "0", "-e", f"trace={calls}", "-o", str(trace)]
        code = [
            sys.executable,
            "-c",
            _WORK.format(spoil=spoil, between=between),
            str(root),
            str(Path(__file__).parents[1]),
        ]
        paths = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run([*command, *code], env=environment, check=True)
        return Lake(root), parse(trace)

    return run


@pytest.fixture(scope="module")
def well(traced: Traced) -> tuple[Lake, list[Call]]:
    """The lake and the calls of the code as it is."""
    return traced()


@pytest.mark.full
def test_all_of_a_commit_is_on_disk_before_it_counts(well: tuple[Lake, list[Call]]) -> None:
    lake, calls = well
    assert len(publications(calls, lake.root)) == lake.snapshot().number == 5
    assert list(offences(calls, lake.root)) == []
    assert not [call for call in calls if call.name == "io_uring_setup"], "writes that no trace shows"


@pytest.mark.full
def test_the_trace_shows_every_file_of_a_version(well: tuple[Lake, list[Call]]) -> None:
    """The rules above say nothing of files that the trace is blind to."""
    lake, calls = well
    made = {path for call in calls if call.changes and call.touches(lake.root) for path in call.quoted}
    for table in ("frames", "sources"):
        files = list(lake.snapshot(4).folder(table).rglob("*"))
        assert len(files) > 4
        assert [path for path in files if str(path) not in made] == []
    assert {str(path) for path in lake.layout.ledger.iterdir()} <= made


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than that of the tests."""
    shared = Path("/dev/shm")
    for place in (shared, Path("/var/tmp"), Path.home()):
        if place.is_dir() and os.access(place, os.W_OK) and place.stat().st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=place, prefix="skylake-other-disk-") as folder:
                yield Path(folder).resolve()
            return
    pytest.skip("there is one file system only")


_ON_ANOTHER_DISK = """
import shutil, subprocess
versions = lake.layout.root / "_versions"
shutil.move(versions, "{0}/_versions")
versions.mkdir()
subprocess.run(["mount", "--bind", "{0}/_versions", versions], check=True)
"""


@pytest.fixture
def mounted(traced: Traced, other_disk: Path) -> Iterator[tuple[Lake, list[Call]]]:
    """A lake whose versions are on another disk, and the calls."""
    (other_disk / "trial").mkdir()
    trial = ["mount", "--bind", other_disk / "trial", other_disk / "trial"]
    if shutil.which("mount") is None or subprocess.run(trial, capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    subprocess.run(["umount", other_disk / "trial"], check=True)
    lake, calls = traced(between=_ON_ANOTHER_DISK.format(other_disk))
    try:
        yield lake, calls
    finally:
        # A process that just ended may still keep the place busy.
        subprocess.run(["umount", "--lazy", lake.root / "_versions"], check=True)


@pytest.mark.full
def test_versions_on_another_disk_are_synced_before_a_commit(mounted: tuple[Lake, list[Call]]) -> None:
    lake, calls = mounted
    versions = lake.root / "_versions"
    own = re.compile(rf"\d+<{re.escape(str(versions))}(/[^>]*)?>")
    forced = [
        call for call in calls if call.name == "syncfs" and call.result == "0" and own.search(call.arguments)
    ]
    written = [call for call in calls if call.changes and call.touches(versions)]
    for number, move in enumerate(publications(calls, lake.root)[1:], start=2):
        before = [call for call in written if call.begin < move.begin]
        assert any(f"/{number:06d}/" in call.arguments for call in before) or number == 5, "nothing to force"
        last = max(call.end for call in before)
        assert any(last < call.begin and call.end < move.begin for call in forced), f"commit {number}"
    assert lake.snapshot().read("sources").num_rows == 30


LATE_FILE = """
import skylake.lake.commits.commit as c
before = c.sync_tree
def late(path):
    before(path)
    (path / "_ledger" / "late").write_text("x")
c.sync_tree = late
"""


@pytest.mark.full
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            "import skylake.lake.commits.commit as c; c.sync_tree = lambda path: None",
            "nothing was forced to disk",
        ),
        (
            "import skylake.lake.commits.commit as c; c.sync_folder = print",
            "the pointer is not forced to disk",
        ),
        (LATE_FILE, "late.* is not forced to disk before the pointer moves"),
    ],
    ids=["no syncfs", "no fsync", "a late file"],
)
def test_a_commit_in_the_wrong_order_is_found_out(traced: Traced, spoil: str, told: str) -> None:
    lake, calls = traced(spoil)
    found = list(offences(calls, lake.root))
    assert any(re.search(told, one) for one in found), found
