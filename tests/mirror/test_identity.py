"""Who runs PostgreSQL, tried in processes that really lack the right."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from skylake.errors import MirrorError
from skylake.mirror import EmbeddedServer
from skylake.mirror.binaries import bundled
from skylake.mirror.identity import choose

Python = Callable[..., subprocess.Popen[str]]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a choice")

#: Enters a user namespace in which root is root over all users, but may make no namespace of its own.
WITHOUT_NAMESPACES = """
import ctypes, os, sys
from pathlib import Path
inside, outside = os.pipe(), os.pipe()
child = os.fork()
if child:
    os.read(inside[0], 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{name}").write_text("0 0 4294967295")
    os.write(outside[1], b"x")
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(inside[1], b"x")
os.read(outside[0], 1)
Path("/proc/sys/user/max_user_namespaces").write_text("0")
"""

#: Drops the capabilities without which root can neither map itself into a namespace nor become another user.
POWERLESS = """
import ctypes
for capability in (7, 21, 31):  # CAP_SETUID, CAP_SYS_ADMIN, CAP_SETFCAP
    # PR_CAPBSET_DROP is in force from the next exec.
    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0
import os, sys
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
"""

CHOOSE = """
import os, sys
from pathlib import Path
from skylake.errors import MirrorError
from skylake.mirror import EmbeddedServer
from skylake.mirror.binaries import bundled
from skylake.mirror.identity import choose
folder = Path(sys.argv[1])
try:
    identity = choose(folder, bundled().program("postgres"))
    print(identity.mode, identity.uid)
    with EmbeddedServer(folder) as server:
        print(server.running, (folder / "data").stat().st_uid)
except MirrorError as error:
    print("refused:", error)
"""


def ordinary() -> pwd.struct_passwd:
    names = [entry.pw_name for entry in pwd.getpwall()]
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def said(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return out


def test_who_is_not_root_stays_itself(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("this is root")
    assert choose(folder / "postgres", bundled().program("postgres")).mode == "caller"


@as_root
def test_root_enters_a_namespace_below_a_closed_folder(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    identity = choose(closed / "postgres", bundled().program("postgres"))
    assert (identity.mode, identity.uid) == ("namespace", ordinary().pw_uid)
    with EmbeddedServer(closed / "postgres"):
        assert (closed / "postgres" / "data").stat().st_uid == 0
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_without_namespaces_a_user_serves_where_it_can_reach(folder: Path, python: Python) -> None:
    user = ordinary().pw_uid
    out = said(python(WITHOUT_NAMESPACES + CHOOSE, folder / "postgres"))
    if "refused" in out:
        pytest.skip(f"an ordinary user cannot reach the programs of PostgreSQL here: {out}")
    assert out == f"user {user}\nTrue {user}\n"
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (0, 0o755)
    # Where namespaces are allowed again, the folder stays with the user to whom it was given.
    with EmbeddedServer(folder / "postgres") as server:
        assert server.running
    assert {path.stat().st_uid for path in (folder / "postgres").rglob("*")} == {user}


@as_root
def test_without_namespaces_a_closed_folder_is_refused(folder: Path, python: Python) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    out = said(python(WITHOUT_NAMESPACES + CHOOSE, closed / "postgres"))
    assert out.startswith("refused: PostgreSQL runs neither as root")
    assert "user namespaces are forbidden here" in out
    assert "run skylake as an ordinary user, or give --to postgresql" in out
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_without_any_power_root_is_refused(folder: Path, python: Python) -> None:
    out = said(python(POWERLESS, CHOOSE, folder / "postgres"))
    if out.startswith("namespace"):
        pytest.skip("this kernel lets root map itself without CAP_SETFCAP")
    assert out.startswith("refused: PostgreSQL runs neither as root")
    assert "Operation not permitted" in out


@as_root
def test_an_unreachable_folder_of_a_user_is_kept(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "postgres").mkdir()
    os.chown(closed / "postgres", 12345, 12345)
    with pytest.raises(MirrorError, match="its owner, the user 12345"):
        EmbeddedServer(closed / "postgres").start()
    assert (closed / "postgres").stat().st_uid == 12345


@as_root
def test_a_user_without_a_name_enters_a_namespace(folder: Path, python: Python) -> None:
    lake = folder / "lake"
    lake.mkdir()
    os.chown(lake, 12345, 12345)
    out = said(python(CHOOSE, lake / "postgres", user=12345))
    if "Permission denied" in out:
        pytest.skip(f"other users cannot reach Python or PostgreSQL here: {out}")
    assert out == f"namespace {ordinary().pw_uid}\nTrue 12345\n"
