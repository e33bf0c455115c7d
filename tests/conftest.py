"""What tests of several folders share."""

from __future__ import annotations

import fcntl
import gc
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings

from skylake.core.sphere import healpix_index, offset
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.schema import arrow_schema, conform, load

#: Fixtures of drawn nights.
pytest_plugins = ["night_rows", "season_rows", "overlap_rows", "unplaced_rows"]

# A fifth of the examples that hypothesis draws by itself find what a change breaks, the same ones in every run; trials
# draw them all, and others each time. The first call may import astropy or compile, so there is no deadline.
settings.register_profile("usual", deadline=None, max_examples=20, derandomize=True)
settings.register_profile("trials", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))

ROOT = Path(__file__).parent.parent
#: Around a corner of four pixels of order 1 at RA 0.
PLACE = (0.0, 0.0)

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell that runs the tests in the background lets them ignore interrupts, and so would all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# What the collection makes, some thousands of tests and all modules, stays: to look through it again and again for
# what could go would take a third of the collection, and some of each test.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect from now on what tests leave behind, and nothing else."""
    gc.freeze()
    gc.enable()


#: What the names of groups begin with that take minutes.
LONG = ("docs", "lsdb")
#: Files whose trials share nothing and take minutes together, so that each goes to any process.
APART = {"tests/test_benchmarks.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Make the demo before processes share all tests, so that they find compiled what else each would wait for."""
    config = session.config
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.collectonly
    if everything and config.getoption("numprocesses", None):
        config.get_terminal_writer().line("making the demo that tests share, which compiles most kernels")
        _make_demo(_demo_made(config._tmp_path_factory.getbasetemp()))


#: What the names of variables begin with that users set for skylake, databases, stores, terminals and networks.
SET_BY_USERS = (
    *("SKYLAKE_", "PG", "AWS_", "SLURM_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
    *("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
)
#: Variables that are meant for tests.
SET_FOR_TESTS = ("SKYLAKE_REAL_DATA", "SKYLAKE_TRIAL_FRAMES")


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the user of this machine has set and noted out of the tests, and the other way round."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [
            name for name in os.environ if name.startswith(SET_BY_USERS) and name not in SET_FOR_TESTS
        ]:
            patch.delenv(name)
        for name in ("config", "state"):
            (home / name).mkdir()
            patch.setenv(f"XDG_{name.upper()}_HOME", str(home / name))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one process, where they share its fixtures; what takes long comes first."""
    long = set()
    for item in items:
        group, file = item.get_closest_marker("xdist_group"), str(item.path.relative_to(ROOT))
        if item.get_closest_marker("slow") or (group is not None and group.args[0].startswith(LONG)):
            long.add(item)
        if group is None and file not in APART:
            item.add_marker(pytest.mark.xdist_group(file))
    items.sort(key=lambda item: item not in long)


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory, copy_lake: Callable[[Path, Path], Path]) -> Path:
    """A folder as `make demo` leaves it, with fewer frames and stars, and what it printed; each process has a copy."""
    base = tmp_path_factory.getbasetemp()
    made = _demo_made(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
    with made.with_suffix(".lock").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not made.is_dir():
            _make_demo(made)
    folder = tmp_path_factory.mktemp("demo")
    copy_lake(made / "demo", folder / "demo")
    # A database is not started in another place than its own.
    shutil.rmtree(folder / "demo" / "lake" / "_postgres")
    return folder


#: The demo on a smaller sky, with a catalog that is imported and indexed in a sixth of the time.
_SMALL_DEMO = """
from skylake.cli.demo_command import SCENARIO
from skylake.cli.main import main
SCENARIO["schedule.fields"] = 12
main()
"""


def _demo_made(base: Path) -> Path:
    """Where the demo stands that all processes copy."""
    return base / "demo-made"


def _make_demo(made: Path) -> None:
    making = made.with_suffix(".making")
    making.mkdir()
    home = {f"XDG_{name}_HOME": str(making / "home" / name.lower()) for name in ("CONFIG", "STATE")}
    environment = os.environ | home | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _SMALL_DEMO, "demo", "--frames", "12", "demo"]
    done = subprocess.run(command, cwd=making, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (making / "demo" / "printed.txt").write_text(done.stdout, encoding="utf-8")
    making.rename(made)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove what a run has written that passed.

    Not test by test, as pytest can: the next would get the same folder, of which skylake has said or read something.
    """
    if exitstatus == 0 and session.config.option.basetemp is None:
        shutil.rmtree(session.config._tmp_path_factory.getbasetemp(), ignore_errors=True)


@pytest.fixture(scope="session")
def copy_lake() -> Callable[[Path, Path], Path]:
    """A function that copies a lake, with its links, hard ones too, as they are, and returns the copy."""

    def copy(root: Path, target: Path) -> Path:
        subprocess.run(["cp", "-a", str(root), str(target)], check=True)
        return target

    return copy


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder with a short path that any user can enter, as /tmp is; pytest's own is neither."""
    path = Path(tempfile.mkdtemp(prefix="sky-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """A function that gives the content of every file below a folder, and where links lead."""

    def of(folder: Path) -> dict[str, str]:
        found = {}
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                found[str(path.relative_to(folder))] = f"-> {path.readlink()}"
            elif path.is_file():
                found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    return of


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """A function (table, count, seed, **columns) that makes rows with anything in them."""
    return _make_rows


def _make_rows(table: str, count: int, seed: int = 0, **columns: Any) -> pa.Table:
    schema, random = load(table), np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for column, field in zip(schema.columns, arrow_schema(schema), strict=True):
        values[column.name] = _values(field.type, count, column.nullable, random)
    for key in ("frame_id", "object_id"):
        if key in values:
            values[key] = 1000 * seed + np.arange(count)
    if "ra_deg" in values:
        where = random.uniform(0, 8, count), random.uniform(0, 360, count)
        ra, dec = offset(*(np.full(count, one) for one in PLACE), *where)
        values |= {"ra_deg": ra, "dec_deg": dec}
        if "_healpix_29" in values:
            values["_healpix_29"] = healpix_index(ra, dec)
    return conform(pa.table(values | columns), schema)


def _values(kind: pa.DataType, count: int, nullable: bool, random: np.random.Generator) -> pa.Array:
    missing = random.random(count) < 0.1 if nullable else None
    if pa.types.is_struct(kind):
        # The nested columns of a row are as long as each other.
        lengths = np.random.default_rng(count).integers(1, 5, count)
        offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
        lists = [
            pa.ListArray.from_arrays(
                offsets, _values(field.type.value_type, int(lengths.sum()), True, random), type=field.type
            )
            for field in kind
        ]
        return pa.StructArray.from_arrays(lists, fields=list(kind))
    numbers = random.integers(0, 100, count)
    if pa.types.is_floating(kind):
        return pa.array((numbers / 7).astype(kind.to_pandas_dtype()), mask=missing)
    if pa.types.is_boolean(kind):
        return pa.array(numbers > 50, mask=missing)
    if pa.types.is_string(kind):
        return pa.array(numbers.astype(str), kind, mask=missing)
    return pa.array(numbers.astype(kind.to_pandas_dtype()), mask=missing)


@pytest.fixture(scope="session")
def put() -> Put:
    """A function (lake, (table, name, rows), …) that commits parts together."""

    def commit(lake: Lake, *parts: tuple[str, str, pa.Table], **options: Any) -> Snapshot:
        wanted = Commit("test", "-")
        with lake.stage("test") as staging:
            for table, name, rows in parts:
                tree = lake.tree if load(table).layout.kind == "hats" else None
                folder = staging / table
                wanted.replace(stage_part(rows, table, name, folder, tree, **options), folder)
            return lake.commit(wanted)

    return commit


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 server in a process of its own.

    Attributes
    ----------
    url : str
        An empty bucket.
    environment : dict
        What a process needs in its environment to reach it.
    """

    url: str
    environment: dict[str, str]
    log: Path

    def requests(self) -> list[dict[str, Any]]:
        """What the server was asked, from the beginning."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Endpoint and log of an S3 server that runs for as long as the tests."""
    log = tmp_path_factory.mktemp("s3") / "requests.jsonl"
    log.touch()
    command = [sys.executable, str(Path(__file__).with_name("s3_server.py")), str(log)]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    try:
        endpoint = server.stdout.readline().strip()
        assert endpoint, "the S3 server did not start"
        yield endpoint, log
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="session")
def s3_environment(s3_server: tuple[str, Path]) -> dict[str, str]:
    """What a process needs in its environment to reach the S3 server."""
    return {
        "AWS_ENDPOINT_URL": s3_server[0],
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.fixture
def s3(
    s3_server: tuple[str, Path], s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3]:
    """An empty bucket on the server, which the environment leads to as it does people."""
    import s3fs

    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{time.monotonic_ns()}"
    s3fs.S3FileSystem().mkdir(name)
    yield S3(f"s3://{name}", s3_environment, s3_server[1])
    s3fs.S3FileSystem.clear_instance_cache()
