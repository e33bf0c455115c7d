from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import skylake
from skylake.cameras import load
from skylake.image.reduction.frame_record import new_row
from skylake.revision import checked_out, code_version


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "one")
    return folder


def test_the_commit_of_a_checkout_is_found_in_any_git_layout(checkout: Path, tmp_path: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert checked_out(checkout) == head
    git(checkout, "pack-refs", "--all")
    assert not (checkout / ".git" / "refs" / "heads" / "main").exists()
    assert checked_out(checkout) == head
    git(checkout, "checkout", "-q", "--detach")
    assert checked_out(checkout) == head
    git(checkout, "worktree", "add", "-q", "-b", "other", str(tmp_path / "beside"))
    git(tmp_path / "beside", "commit", "-q", "--allow-empty", "-m", "two")
    assert checked_out(tmp_path / "beside") == git(tmp_path / "beside", "rev-parse", "HEAD") != head


def test_what_is_no_checkout_has_no_commit(tmp_path: Path) -> None:
    assert checked_out(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert checked_out(tmp_path) is None, "nothing was committed yet"
    (tmp_path / ".git" / "HEAD").write_text("not a commit")
    assert checked_out(tmp_path) is None
    inner = tmp_path / "venv" / "site-packages"
    inner.mkdir(parents=True)
    assert checked_out(inner) is None, "a package installed inside of somebody's checkout"


def test_the_version_of_the_code_begins_with_the_package() -> None:
    commit = checked_out(Path(skylake.__file__).parents[1])
    assert code_version() == skylake.__version__ + (f"+g{commit[:7]}" if commit else "")


def test_the_row_of_a_frame_shows_the_code_that_made_it() -> None:
    assert new_row(load("sim"), "night/frame.fits")["software_version"] == code_version()
