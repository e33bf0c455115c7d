"""Commands as a victim runs them on what an attacker has left, and what they did that they should not."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from hostile.every_command import Stage
from hostile.hostile_lakes import SECRET, Victim

#: The console script that users start.
SKYLAKE = Path(sys.executable).with_name("skylake")
#: Modules that Python or a worker might import from the current folder.
MODULES = (
    "multiprocessing", "numpy", "dask", "distributed", "skylake", "sitecustomize", "usercustomize", "pickle", "json",
    "readline", "pyarrow", "runpy",
)  # fmt: skip
#: Peak memory of a command and each of its children, in bytes.
MEMORY_LIMIT = 2_000_000_000
#: A command that waits for longer is taken to wait for ever, in seconds.
PATIENCE_S = 300


@dataclass(slots=True)
class Listener:
    """A server of the attacker that counts who connects, and says nothing.

    Attributes
    ----------
    port : int
    connections : list of str
        Addresses that connected.
    """

    port: int
    connections: list[str] = field(default_factory=list)


def make_whole_lake(demo: Path, folder: Path) -> None:
    """Copy the demo, and add masters, a catalog in place and a watch list to its lake."""
    for name in ("archive", "lake"):
        subprocess.run(["cp", "-a", str(demo / name), str(folder / name)], check=True)
    shutil.rmtree(folder / "lake" / "_postgres", ignore_errors=True)
    lake, raw = folder / "lake", folder / "raw.toml"
    raw.write_text(
        'like = "sim"\nname = "raw"\ndetector.width_px = 128\ndetector.height_px = 128\n'
        'reduction.steps = ["bias", "dark", "flat"]\n'
    )
    subprocess.run(["cp", "-a", str(lake / "catalogs" / "simcat"), str(folder / "elsewhere")], check=True)
    stars = Stage(str(lake), folder / "archive", folder).stars
    for words in (
        ["simulate", folder / "night", "--camera", raw, "--raw", "--nights", 1, "--frames", 1, "--stars", 20],
        ["calib", "build", lake, "--camera", raw, folder / "night" / "calibration", "--workers", 1],
        ["catalog", "import", lake, "stars", "--format", "hats", folder / "elsewhere", "--ra", "ra_deg",
         "--dec", "dec_deg", "--id", "ref_id", "--mag", "V=mag_V", "--mag-err", "V=mag_V_err", "--colour",
         "B-V=colour_B_V", "--no-index"],
        ["watch", "add", lake, "novae", stars],
    ):  # fmt: skip
        done = subprocess.run([SKYLAKE, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@dataclass(frozen=True, slots=True)
class Trial:
    """What a command did.

    Attributes
    ----------
    status : int
    said : str
        Standard output and standard error.
    opened : list of str
        Files and folders of the victim that it opened.
    memory : int
        Largest memory of a process, in bytes.
    """

    status: int
    said: str
    opened: list[str]
    memory: int


def state(folder: Path) -> dict[str, str]:
    """Return the content of all that lies below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def try_command(words: list[str], victim: Victim, folder: Path) -> Trial:
    """Run a command as the victim does, in a folder whose modules are the attacker's."""
    cwd, log = folder / "cwd", folder / "calls"
    if not cwd.is_dir():
        cwd.mkdir()
        note = f"open({str(folder / 'ran')!r}, 'a').write(__name__ + '\\n')\n"
        for module in MODULES:
            (cwd / module).mkdir()
            (cwd / module / "__init__.py").write_text(note)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SKYLAKE", "XDG"))
    }
    environment |= {"HOME": str(victim.home), "SKYLAKE_CLUSTER": "inline"}
    if words[0] == "compact":
        environment["SKYLAKE_CLUSTER"] = "local"  # workers are what the modules wait for
    traced = ["strace", "-f", "-qq", "-y", "-e", "trace=open,openat,openat2,creat", "-o", str(log)]
    process = subprocess.Popen(
        [*traced, str(SKYLAKE), *words], cwd=cwd, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    waiting = threading.Timer(PATIENCE_S, os.killpg, (process.pid, signal.SIGKILL))
    waiting.start()
    said = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    waiting.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    aims = re.compile(rf"= \d+<({re.escape(str(victim.home))}/(?:keys|documents|\.bashrc)[^>]*)>")
    opened = [
        found[1] for line in log.read_text(errors="replace").splitlines() if (found := aims.search(line))
    ]
    return Trial(process.returncode, said, opened, usage.ru_maxrss * 1024)


def problems_of(
    words: list[str], trial: Trial, victim: Victim, folder: Path, before: dict[str, str], listener: Listener
) -> list[str]:
    """Return what a command did that it should not, each with the command."""
    after = {name: content for name, content in state(victim.home).items() if name in before}
    ran = folder / "ran"
    connections, listener.connections = listener.connections, []
    leaked = [
        str(path)
        for path in (folder / "out").rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    problems = {
        "changed files of the victim": after != before,
        f"opened {trial.opened}": bool(trial.opened),
        f"ran modules of the current folder: {ran.read_text() if ran.exists() else ''}": ran.exists(),
        f"wrote the secret into {leaked} or said it": bool(leaked) or SECRET in trial.said,
        f"took {trial.memory / 1e9:.1f} GB": trial.memory > MEMORY_LIMIT,
        "had an internal error": "internal error" in trial.said or "Traceback" in trial.said,
        "waited for ever": trial.status < 0,
        f"connected to the attacker: {connections}": bool(connections),
    }
    ran.unlink(missing_ok=True)
    return [
        f"skylake {' '.join(words)} {what}\n{trial.said[-2000:]}" for what, is_so in problems.items() if is_so
    ]
