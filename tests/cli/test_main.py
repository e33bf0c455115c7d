from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from skylake import errors
from skylake.cli.arguments import Number
from skylake.cli.main import PlainErrors, cli

Run = Callable[..., Any]


def commands(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


COMMANDS = dict(commands(cli))

HELP = """
import contextlib, io, sys
from skylake.cli.main import main
for names in {commands!r}:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            main([*names, "--help"])
        except SystemExit as end:
            assert end.code == 0
    assert said.getvalue().startswith("Usage: skylake " + " ".join(names)), said.getvalue()
heavy = ("lsdb", "hats", "astropy", "dask", "distributed", "pandas", "sqlalchemy", "numpy", "pyarrow", "duckdb",
         "scipy", "matplotlib", "healpy", "rich")
print(*[name for name in heavy if name in sys.modules])
"""


def test_no_help_imports_anything_heavy(environment: dict[str, str]) -> None:
    code = HELP.format(commands=[(), *COMMANDS])
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_the_commands_of_the_contract_are_there() -> None:
    promised = {
        "demo", "init", "camera", "catalog", "ingest", "calibrate", "aggregate", "mirror", "run", "report",
        "status", "sql", "lc", "cone", "path", "map", "flags", "simulate",
    }  # fmt: skip
    assert promised <= set(cli.commands)
    assert {
        ("camera", "list"), ("camera", "show"), ("camera", "check"), ("catalog", "import"), ("catalog", "list"),
        ("catalog", "show"), ("catalog", "cone"), ("run", "nightly"),
    } <= set(COMMANDS)  # fmt: skip


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_command_and_option_shows_what_it_is_for(names: tuple[str, ...], skylake_command: Run) -> None:
    command = COMMANDS[names]
    short = command.get_short_help_str(limit=200)
    assert short.endswith(".") and "\n" not in short and not short.endswith("..")
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.endswith((".", ";")) or "(" in option.help
    answer = skylake_command(*names, "-h")
    assert (answer.status, answer.err) == (0, "")
    assert "\\" not in answer.out.replace(" \\\n", ""), "what is for click is not shown to people"


def test_the_group_lists_each_command_on_one_line(skylake_command: Run) -> None:
    lines = skylake_command("--help").out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == list(cli.commands)
    assert lines[0].split()[0] == "demo"


def test_the_version_is_reported(process: Run) -> None:
    answer = process("--version")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith("skylake 0.")


def test_results_go_to_stdout_and_failures_to_stderr(process: Run, tmp_path: Path) -> None:
    good = process("flags", "1", "--json")
    assert (good.status, good.err, good.json[0]["name"]) == (0, "", "SATURATED")
    bad = process("status", tmp_path / "none")
    assert bad.status == 3
    assert bad.sentence == f"{tmp_path}/none: there is no lake; make one with `skylake init {tmp_path}/none`"
    assert process("flags", "1", "--jsn").status == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nosuch", "no such command 'nosuch'; see `skylake --help`"),
        ("sql", "missing argument 'LAKE'; see `skylake sql --help`"),
        ("sql LAKE", "missing argument 'QUERY'; see `skylake sql --help`"),
        ("status LAKE more", "got unexpected extra argument (more); see `skylake status --help`"),
        ("status LAKE --jsn", "--jsn"),
        ("run nigtly LAKE", "no such command 'nigtly'"),
        ("ingest LAKE frames", "missing option '--camera'"),
        ("ingest LAKE --camera sim", "missing argument 'PATH…'"),
        ("catalog import LAKE c f.csv", "missing option '--format'"),
        ("init LAKE --pixel-order 9", "'--pixel-order': 9 is not in the range 0<=x<=8"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(
    line: str, words: str, skylake_command: Run, tmp_path: Path
) -> None:
    (tmp_path / "f.csv").write_text("ra,dec\n1,2\n")
    arguments = line.replace("LAKE", str(tmp_path)).replace("f.csv", str(tmp_path / "f.csv")).split()
    answer = skylake_command(*arguments)
    assert answer.status == 2
    assert words in answer.sentence
    assert "; see `skylake" in answer.sentence


@pytest.mark.parametrize("group", ["", "camera", "catalog", "run"])
def test_a_group_without_a_command_shows_its_help(group: str, skylake_command: Run) -> None:
    answer = skylake_command(*group.split())
    assert answer.status == 2
    assert answer.out == ""
    assert answer.err.startswith(f"Usage: skylake {group}".rstrip())
    assert "Commands:" in answer.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UsageError("x: fix it"), 2),
        (errors.LakeError("x: fix it"), 3),
        (errors.ConfigurationError("x: fix it"), 3),
        (errors.CatalogError("x: fix it"), 3),
        (errors.MirrorError("x: fix it"), 3),
        (errors.WorkerError("x: fix it"), 3),
        (click.UsageError("X:\n\tfix\nit."), 2),
        (click.ClickException("x: fix it"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (ZeroDivisionError("division by zero"), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_status_and_one_line(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, PlainErrors():
        raise error
    assert end.value.code == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("skylake: ") and err.count("\n") == 1
    if isinstance(error, errors.SkylakeError | click.ClickException):
        assert "x: fix it" in err
    if isinstance(error, ZeroDivisionError):
        assert (
            "internal error: ZeroDivisionError: division by zero (--debug shows where); please report it"
            in err
        )


def test_what_ends_well_passes_through(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainErrors():
        pass
    with pytest.raises(click.exceptions.Exit), PlainErrors():
        raise click.exceptions.Exit(1)
    with pytest.raises(SystemExit), PlainErrors():
        raise SystemExit(5)
    assert capsys.readouterr() == ("", "")


def test_debug_adds_the_traceback_and_the_sentence_stays(skylake_command: Run, tmp_path: Path) -> None:
    answer = skylake_command("--debug", "status", tmp_path)
    assert answer.status == 3
    assert answer.out == ""
    assert answer.err.startswith("Traceback (most recent call last):")
    assert answer.err.splitlines()[-1].startswith(f"skylake: {tmp_path}: there is no lake")
    assert skylake_command("status", tmp_path).sentence, "the next command is not debugged"


def test_a_reader_that_goes_away_is_no_error(environment: dict[str, str]) -> None:
    for command in (["camera", "show", "sim"], ["flags", "0"]):
        with subprocess.Popen(
            [sys.executable, "-m", "skylake", *command],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as running:  # fmt: skip
            assert running.stdout is not None and running.stderr is not None
            running.stdout.close()
            said = running.stderr.read()
        assert (running.returncode, said) == (0, b"")


def test_an_interrupt_is_one_sentence_and_status_130(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "skylake", "simulate", str(tmp_path / "sky"), "--workers", "1"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        deadline = time.monotonic() + 900
        while not (tmp_path / "sky" / "frames").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=900)
    assert (running.returncode, out) == (130, "")
    assert err == "skylake: interrupted; what was committed is safe\n"


def test_every_command_that_a_sentence_names_is_there() -> None:
    source = Path(errors.__file__).parent
    # Texts go on from line to line.
    texts = [re.sub(r'"\s*\n\s*f?"', "", file.read_text(encoding="utf-8")) for file in source.rglob("*.py")]
    named = {words for text in texts for words in re.findall(r"`skylake ([a-z]+(?: [a-z]+)?)", text)}
    assert len(named) > 20
    for words in named:
        first, _, second = words.partition(" ")
        command = cli.commands.get(first)
        assert command is not None, f"skylake {words}"
        assert not second or not isinstance(command, click.Group) or second in command.commands, (
            f"skylake {words}"
        )


def test_every_number_of_a_command_is_finite() -> None:
    """click's own types of numbers let NaN pass, so no option has them."""
    for names, command in COMMANDS.items():
        for option in command.params:
            kinds = option.type.types if isinstance(option.type, click.Tuple) else [option.type]
            assert all(
                isinstance(kind, Number) for kind in kinds if isinstance(kind, click.types.FloatParamType)
            ), (
                names,
                option.name,
            )


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "OUT", "--exposure", "VALUE"),
        ("simulate", "OUT", "--clouds", "VALUE"),
        ("solve", "FRAME", "--lake", "LAKE", "--scale", "VALUE", "VALUE"),
        ("solve", "FRAME", "--lake", "LAKE", "--rotation", "VALUE", "1"),
        ("solve", "FRAME", "--lake", "LAKE", "--centre", "VALUE", "1"),
        ("targets", "LAKE", "--camera", "sim", "--faint", "VALUE"),
    ],
)
def test_numbers_that_are_none_are_refused(
    skylake_command: Run, tmp_path: Path, arguments: tuple[str, ...], value: str
) -> None:
    (tmp_path / "frame.fits").touch()
    known = {"VALUE": value, "LAKE": tmp_path, "FRAME": tmp_path / "frame.fits", "OUT": tmp_path / "out"}
    answer = skylake_command(*(known.get(word, word) for word in arguments))
    assert answer.status == 2 and not (tmp_path / "out").exists()
    option = next(word for word in reversed(arguments) if word.startswith("--"))
    assert f"invalid value for '{option}'" in answer.sentence and "; see `skylake" in answer.sentence


LONG = "x" * 300


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("camera", "show", LONG), 2, "the name is longer than the disk allows; shorten it"),
        (("camera", "show", f"{LONG}.toml"), 2, "the name is longer than the disk allows; shorten it"),
        (("status", LONG), 2, "the name is longer than the disk allows; shorten it"),
        (("init", LONG), 2, "the name is longer than the disk allows; shorten it"),
        (("sql", "LAKE", "select 1", "-o", f"{LONG}.csv"), 2, "the name is longer than the disk allows; shorten it"),
        (("path", "LAKE", LONG), 2, "there is no table"),
        (("catalog", "import", "LAKE", LONG, "--format", "table", "FILE", "--ra", "a", "--dec", "b"), 2,
         "use letters, digits, '.', '_' and '-', at most 100 of them"),
        (("status", "FILE"), 3, "this is a file, and a lake is a folder; name the folder of the lake"),
        (("init", "FILE"), 2, "this is a file, and a lake is a folder; name a new folder"),
        (("sql", "LAKE", "select 1", "-o", "NEW/a.csv"), 2, "there is no folder NEW; make it first"),
        (("map", "LAKE", "visits", "-o", "NEW/a.fits"), 2, "there is no folder NEW; make it first"),
        (("map", "LAKE", "visits", "--plot", "NEW/a.png"), 2, "there is no folder NEW; make it first"),
        (("camera", "show", "DEEP"), 3, "nested too deeply to be read; write them as the documentation shows"),
        (("simulate", "NEW", "--scenario", "DEEP"), 3, "nested too deeply to be read"),
        (("status", "DEEPLAKE"), 3, "skylake.toml: its lists or tables are nested too deeply to be read"),
    ],
    ids=lambda value: " ".join(map(str, value)).replace(LONG, "LONG") if isinstance(value, tuple) else None,
)  # fmt: skip
def test_what_cannot_be_is_named_in_one_sentence(
    skylake_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], status: int, sentence: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("a,b\n1,2\n")
    Path("DEEP").with_suffix(".toml").write_text("a = " + "[" * 3000 + "]" * 3000)
    for name in ("LAKE", "DEEPLAKE"):
        if name in arguments:
            assert skylake_command("init", name).status == 0
    if "DEEPLAKE" in arguments:
        Path("DEEPLAKE/skylake.toml").write_text("a = " + "[" * 3000 + "]" * 3000)
    answer = skylake_command(
        *(word.replace("DEEP", "DEEP.toml") if word == "DEEP" else word for word in arguments)
    )
    assert answer.status == status and sentence in answer.sentence
    assert not Path("NEW").exists()


@pytest.mark.parametrize("arguments", ["camera list", "--version"])
@pytest.mark.parametrize(
    ("where", "status", "said"),
    [
        (
            ">/dev/full",
            3,
            "standard output cannot be written (No space left on device); send it elsewhere or free space",
        ),
        (">&-", 0, None),
        ("| true", 0, None),
        ("2>&- | cat", 0, None),
    ],
)
def test_standard_output_that_cannot_be_written(
    environment: dict[str, str], arguments: str, where: str, status: int, said: str | None
) -> None:
    # With and without a buffer Python says so at another place.
    known = environment | ({"PYTHONUNBUFFERED": "1"} if arguments == "--version" else {})
    command = f"{sys.executable} -m skylake {arguments} {where}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=known, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, f"skylake: {said}\n" if said else "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE])
def test_an_unexpected_error_prints_nothing_on_stdout(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, PlainErrors():
        raise OSError(number, os.strerror(number))
    out, err = capfd.readouterr()
    assert (end.value.code, out) == (3, "")
    assert err.startswith("skylake: internal error: OSError: ")


@pytest.mark.parametrize(
    "line",
    [
        "camera show none",
        "ingest LAKE -c none FILE",
        "calibrate LAKE --camera none",
        "calibrate LAKE --catalog none",
        "calib list LAKE --camera none",
        "plot LAKE -c none -o OUT",
        "map LAKE visits --camera none",
        "catalog cone LAKE none 1 1 1",
        "catalog coverage LAKE none",
        "catalog index LAKE none",
        "targets LAKE -c small --catalog none",
        "solve FILE --lake LAKE --catalog none",
        "crossmatch LAKE none simcat -o x",
        "path LAKE none",
        "cone LAKE none 1 1 1",
        "history LAKE --table none",
        "compact LAKE none",
        "aggregate LAKE none",
        "sql LAKE 'FROM none'",
        "lc LAKE --object 5",
        "lc LAKE --ra 1 --dec 89",
        "status LAKE --as-of 99",
        "verify LAKE --as-of 99",
    ],
)
def test_what_is_not_there_is_wrong_use(
    line: str, lake: Path, sky: Path, tmp_path: Path, skylake_command: Run
) -> None:
    places = {"LAKE": lake, "OUT": tmp_path, "FILE": next((sky / "frames").rglob("*.fits*"))}
    answer = skylake_command(*(places.get(word, word) for word in shlex.split(line)))
    assert answer.status == 2, answer
    assert answer.sentence
