"""Every command and every piece of Python in the documents runs as it stands.

A line of a ``console`` block that starts with ``$`` is a command; ``python`` blocks are programs; ``toml`` blocks are
profiles or parts of them. Blocks marked ``sh`` or ``text`` want what a test cannot have (a Slurm
cluster, a catalog of the world) and are checked for their options only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.cli.main import cli
from skylake.core.reasons import Reason
from skylake.simulate import Scenario
from skylake.sky.surveys import find_columns, load_survey

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    "docs/tutorial.md",
    "docs/cameras.md",
    "docs/calibrations.md",
    "docs/catalogs.md",
    "docs/astrometry.md",
    "docs/reading.md",
    "docs/zeropoints.md",
    "docs/operating.md",
    "docs/aggregates.md",
    "docs/transits.md",
    "docs/variables.md",
    "docs/watching.md",
]
#: Done for the tests by whoever runs them, and by .ci/run.
SET_UP = {"make demo", "make test", ". .venv/bin/activate"}
#: Commands that say with 1 that some frames of the simulation were rejected on purpose.
MAY_REJECT = re.compile(r"skylake (run|ingest) ")

#: The process that follows a document; each of these takes a minute or two. The others share one.
GROUPS = {"README.md": "docs-readme", "docs/tutorial.md": "docs-tutorial"}


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[str]:
    lines = [line for block in blocks(document, "console") for line in block.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ ")]


#: Followed to the letter: each command is an interpreter of its own, and what is asked of dask is asked of real worker
#: processes. Elsewhere, the README with the same commands included, it would be the same again.
ON_WORKERS = {"docs/tutorial.md"}
#: Documents of many commands, which the trials follow.
LONG = {
    "docs/tutorial.md",
    "docs/cameras.md",
    "docs/calibrations.md",
    "docs/astrometry.md",
    "docs/operating.md",
    "docs/reading.md",
    "docs/aggregates.md",
    "docs/transits.md",
    "docs/variables.md",
    "docs/watching.md",
}
#: Those whose programs do: each of many is an interpreter that imports lsdb.
LONG_PROGRAMS = {"docs/python.md", "docs/reading.md"}
#: Who begins is shown nights without any frame that is rejected.
FIRST_STEPS = {"README.md", "docs/tutorial.md"}


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def run(command: list[str], folder: Path, store: dict[str, str]) -> subprocess.CompletedProcess[str]:
    variables = environment() | store
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=900)


Run = Callable[[str, Path, dict[str, str]], "subprocess.CompletedProcess[str]"]


def run_in_shell(command: str, folder: Path, store: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of a document as people do."""
    line = command.replace("skylake ", f"{shlex.quote(sys.executable)} -m skylake ", 1)
    return run(["bash", "-c", line], folder, store)


@pytest.fixture(scope="session")
def run_forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A function that runs a command in a fork of an interpreter; what is more than a command goes to a shell."""
    out, err = (tmp_path_factory.mktemp("forked") / name for name in ("out", "err"))
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("command_server.py"))],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None and server.stdout is not None

    def go(command: str, folder: Path, store: dict[str, str]) -> subprocess.CompletedProcess[str]:
        unquoted = re.sub(r"\"[^\"$`\\]*\"|'[^']*'", "", command)
        if not command.startswith("skylake ") or re.search(r"[|<>;&*?$`\\\[{~]", unquoted):
            return run_in_shell(command, folder, store)
        words = shlex.split(command)[1:]
        wanted = {"words": words, "folder": str(folder), "environment": environment() | store}
        server.stdin.write(json.dumps(wanted | {"out": str(out), "err": str(err)}) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(words, status, out.read_text(), err.read_text())

    yield go
    server.communicate()


@pytest.fixture(scope="session")
def store(folder: Path, s3_environment: dict[str, str]) -> dict[str, str]:
    """The environment in which s3://observatory is a bucket, with the lake of the demo in it."""
    bucket = "import s3fs; s3fs.S3FileSystem().mkdir('observatory')"
    publish = ["-m", "skylake", "publish", "demo/lake", "s3://observatory/lake"]
    for command in (["-c", bucket], publish):
        done = run([sys.executable, *command], folder, s3_environment)
        assert done.returncode == 0, done.stderr
    return s3_environment


@pytest.fixture(scope="session")
def folder(
    demo_folder: Path, copy_lake: Callable[[Path, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Where the commands run: beside a copy of the demo, with what the documents take for granted."""
    place = tmp_path_factory.mktemp("documents")
    copy_lake(demo_folder / "demo", place / "demo")
    (place / "sql").symlink_to(ROOT / "sql")
    (place / "my-camera.toml").write_text(blocks("docs/cameras.md", "toml")[0], encoding="utf-8")
    (place / "crowding.sql").write_text(blocks("docs/aggregates.md", "sql")[0], encoding="utf-8")
    chips = blocks("docs/astrometry.md", "toml")
    (place / "four-chips.toml").write_text(next(one for one in chips if "[[chip]]" in one), encoding="utf-8")
    return place


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(
            document,
            marks=[
                pytest.mark.xdist_group(GROUPS.get(document, "docs")),
                *([pytest.mark.slow] * (document in LONG)),
            ],
        )
        for document in DOCUMENTS
    ],
)
def test_the_commands_of_a_document_run_in_their_order(
    document: str, run_forked: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = [command for command in commands(document) if command not in SET_UP]
    assert wanted
    used = " ".join(wanted)
    # What begins with nothing needs no demo.
    folder = request.getfixturevalue("folder") if "demo/" in used or ".toml" in used else tmp_path
    to_the_letter = document in ON_WORKERS
    place = {} if to_the_letter else {"SKYLAKE_CLUSTER": "inline"}
    variables = place | store_of(used, request)
    for command in wanted:
        done = (run_in_shell if to_the_letter else run_forked)(command, folder, variables)
        accepted = (0, 1) if MAY_REJECT.match(command) and document not in FIRST_STEPS else (0,)
        assert done.returncode in accepted, f"$ {command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_documented_scenario_is_what_its_commands_make(run_forked: Run, tmp_path: Path) -> None:
    (scenario,) = blocks("docs/simulating.md", "toml")
    (tmp_path / "cloudy.toml").write_text(scenario, encoding="utf-8")
    for command in commands("docs/simulating.md"):
        done = run_forked(command, tmp_path, {})
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
    made = {
        name: pq.read_table(tmp_path / name / "truth" / "frames.parquet").to_pylist()
        for name in ("cloudy", "clear")
    }
    told = tomllib.loads(scenario)
    assert len(made["cloudy"]) == told["frames_per_night"] and len(made["clear"]) == 2
    assert {row["exposure_s"] for rows in made.values() for row in rows} == {told["exposure_s"]}


def test_the_simulation_page_names_every_scenario_table() -> None:
    page = (ROOT / "docs/simulating.md").read_text(encoding="utf-8")
    scenario = Scenario()
    tables = [
        one.name
        for one in dataclasses.fields(scenario)
        if dataclasses.is_dataclass(getattr(scenario, one.name))
    ]
    assert tables and [name for name in tables if f"| `{name}` |" not in page] == []


def store_of(text: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the environment for commands or programs, with the bucket where they speak of one."""
    return request.getfixturevalue("store") if "s3://" in text else {}


@pytest.mark.xdist_group("docs")
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(document, marks=[pytest.mark.slow] * (document in LONG_PROGRAMS))
        for document in ("README.md", "docs/reading.md", "docs/python.md", "docs/aggregates.md")
    ],
)
def test_the_python_of_a_document_runs(document: str, folder: Path, request: pytest.FixtureRequest) -> None:
    programs = blocks(document, "python")
    assert programs
    for program in programs:
        done = run([sys.executable, "-W", "ignore", "-c", program], folder, store_of(program, request))
        assert done.returncode == 0, f"{program}\n{done.stderr}"
        # The file of an aggregate prints nothing.
        assert done.stdout.strip() or "AGGREGATE =" in program


NOTEBOOK = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=900, resources={"metadata": {"path": "."}}).execute()
shown = [kind for cell in notebook.cells for output in cell.get("outputs", ()) for kind in output.get("data", ())]
print(shown.count("text/html"), shown.count("image/png"))
print(*[output["name"] for cell in notebook.cells for output in cell.get("outputs", ()) if "name" in output])
"""


@pytest.mark.xdist_group("docs")
def test_the_notebook_runs(folder: Path) -> None:
    path = ROOT / "docs" / "notebook.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [cell["outputs"] for cell in cells if cell.get("outputs")] == []
    done = run([sys.executable, "-c", NOTEBOOK, str(path)], folder, {})
    assert done.returncode == 0, done.stderr
    # Lake, tables and nights; light curve, map and residuals; and nothing on standard error.
    assert done.stdout.splitlines() == ["3 3", ""]


def test_an_aggregate_of_a_user_takes_ten_lines() -> None:
    (query,) = blocks("docs/aggregates.md", "sql")
    assert len(query.splitlines()) <= 10


@pytest.mark.parametrize("number", range(1, len(blocks("docs/cameras.md", "toml"))))
def test_each_part_of_a_profile_is_understood(number: int, tmp_path: Path) -> None:
    part = blocks("docs/cameras.md", "toml")[number]
    path = tmp_path / "part.toml"
    path.write_text(f'name = "part"\nlike = "generic"\n{part}', encoding="utf-8")
    profile = cameras.load_chips(path)[0]
    assert profile.sha256 != cameras.load("generic").sha256
    assert set(tomllib.loads(part)) <= {
        "header",
        "filters",
        "extraction",
        "apertures",
        "gates",
        "clear_sky",
        "reduction",
        "calibration",
        "catalog",
        "injection",
        "astrometry",
        "period",
        "optics",
        "chip",
        "detector",
    }


@pytest.mark.parametrize(
    ("document", "number"),
    [
        (document, number)
        for document in ("docs/astrometry.md", "docs/calibrations.md", "docs/catalogs.md")
        for number, part in enumerate(blocks(document, "toml"))
        if "form" not in tomllib.loads(part)
    ],
)
def test_profiles_of_other_pages_load_as_they_stand(document: str, number: int, tmp_path: Path) -> None:
    part = blocks(document, "toml")[number]
    path = tmp_path / "part.toml"
    whole = "name" in tomllib.loads(part)
    path.write_text(part if whole else f'name = "part"\nlike = "generic"\n{part}', encoding="utf-8")
    assert cameras.load_chips(path)[0].base != cameras.load("generic").base


def test_the_documented_survey_is_understood(tmp_path: Path) -> None:
    (text,) = (part for part in blocks("docs/catalogs.md", "toml") if "form" in tomllib.loads(part))
    path = tmp_path / "ours.toml"
    path.write_text(text, encoding="utf-8")
    names = ["objid", "RA", "DEC", "flux_g", "flux_g_err", "V", "V_flag", "n_obs"]
    found = find_columns(load_survey(str(path)), names, "a file")
    assert (found.absent, found.columns.bands) == ((), ("g", "V"))


@pytest.mark.parametrize(
    "document", ["docs/catalogs.md", "docs/operating.md", "docs/variables.md", *DOCUMENTS[:1]]
)
def test_commands_that_are_only_shown_have_options_that_exist(document: str) -> None:
    shown = "\n".join(blocks(document, "sh")).replace("\\\n", " ")
    lines = [line for line in shown.splitlines() if line.startswith("skylake ")]
    lines += [command for command in commands(document) if command.startswith("skylake ")]
    assert lines
    assert [option for line in lines for option in _unknown_options(shlex.split(line)[1:])] == []


def _unknown_options(words: list[str]) -> list[str]:
    """Return the options of a command line that its command does not have; files need not exist."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None
        command = found
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    options = [word for word in words if word.startswith("-") and not re.fullmatch(r"-[\d.]+", word)]
    return [f"{command.name} {option}" for option in options if option not in known]


def test_links_lead_somewhere() -> None:
    for document in [
        *DOCUMENTS,
        "docs/simulating.md",
        "docs/python.md",
        "docs/architecture.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ]:
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document} links to {target}"


def test_the_readme_commands_are_those_of_makefile_and_ci() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    for command in ("make demo", "make test"):
        assert command in commands("README.md")
        assert command.split()[1] in targets
        assert command in script


def test_the_page_on_operating_names_every_reason() -> None:
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    assert [reason.value for reason in Reason if f"`{reason.value}`" not in rows] == []


def test_advice_to_install_names_what_there_is() -> None:
    """skylake is on no registry: its extras come from a checkout, and single packages are those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    packages = {re.split(r"[\[<>=]", one)[0] for some in extras.values() for one in some}
    written = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for folder in ("docs", "skylake", "benchmarks", "pipelines"):
        written += [
            path for path in (ROOT / folder).rglob("*") if path.suffix in (".md", ".py", ".toml", ".yaml")
        ]
    texts = {path: path.read_text(encoding="utf-8") for path in written}
    assert [path.name for path, text in texts.items() if re.search(r"skylake\[\w+\]", text)] == []
    asked = [extra for text in texts.values() for extra in re.findall(r'pip install -e "\.\[(\w+)\]"', text)]
    assert set(asked) == {"s3", "slurm", "polars"} <= set(extras)
    code = [text for path, text in texts.items() if path.is_relative_to(ROOT / "skylake")]
    named = [name for text in code for name in re.findall(r"`pip install ([\w-]+)`", text)]
    assert set(named) == {"s3fs", "dask-jobqueue"} <= packages
