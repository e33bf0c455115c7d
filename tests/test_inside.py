"""Names and folders that could lead out of a folder are refused; what links lead to stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skylake.errors import LakeError
from skylake.inside import inside, links_below, read_regular, relative_name, remove_tree

OUTSIDE = (
    "",
    ".",
    "..",
    "/etc/passwd",
    "../home/id",
    "a/../../b",
    "a/..",
    "a//b",
    "a/",
    "./a",
    "a\0b",
    None,
    7,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with files in it, beside others that it has links to."""
    for name in ("lake/night/deep/a.json", "elsewhere/precious/mine.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("content")
    (tmp_path / "lake" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "lake" / "night" / "up").symlink_to("../../elsewhere/precious")
    return tmp_path / "lake"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_is_no_path(name: object, root: Path) -> None:
    with pytest.raises(ValueError, match="no path below a folder"):
        relative_name(name)
    with pytest.raises(LakeError, match=r"lake: the table t names .* correct the name"):
        inside(root, name, "the table t")  # type: ignore[arg-type]
    with pytest.raises(LakeError, match=r"lake: the name .* leads out of this folder; correct the name"):
        inside(root, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["away", "away/precious/mine.txt", "night/up/mine.txt", "night/up"])
def test_a_link_on_the_way_is_refused_with_a_repair(name: str, root: Path) -> None:
    with pytest.raises(LakeError, match=r"this is a link to .*replace the link with `rm"):
        inside(root, name)
    with pytest.raises(LakeError, match="this is a link to"):
        read_regular(root / name, root)


def test_other_names_are_paths_whether_they_are_there_or_not(root: Path) -> None:
    assert inside(root, "night/deep/a.json").read_text() == "content"
    assert inside(root, "night/..a/b..c") == root / "night" / "..a" / "b..c"
    assert read_regular(root / "night/deep/a.json", root) == b"content"


@pytest.mark.parametrize(
    "name", ["away/precious", "night/up/mine.txt", "../elsewhere", "night/../../elsewhere", "."]
)
@pytest.mark.parametrize("ignore_errors", [False, True])
def test_nothing_outside_is_removed(name: str, ignore_errors: bool, root: Path) -> None:
    with pytest.raises(LakeError):
        remove_tree(root / name, root, ignore_errors)
    assert (root.parent / "elsewhere" / "precious" / "mine.txt").read_text() == "content"
    assert (root / "night" / "deep" / "a.json").exists()


def test_of_a_link_only_the_link_is_removed(root: Path) -> None:
    remove_tree(root / "away", root)
    remove_tree(root / "night", root)
    assert not list(root.iterdir())
    assert (root.parent / "elsewhere" / "precious" / "mine.txt").read_text() == "content"
    remove_tree(root / "night", root, ignore_errors=True)
    with pytest.raises(FileNotFoundError):
        remove_tree(root / "night", root)


def test_links_are_found_and_none_is_followed(root: Path) -> None:
    (root.parent / "elsewhere" / "again").symlink_to(root)
    assert sorted(links_below(root)) == [root / "away", root / "night" / "up"]


def test_a_pipe_is_no_file(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(LakeError, match="no file"):
        read_regular(root / "pipe", root)
