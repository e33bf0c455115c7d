"""Links and locks, on file systems that have fewer of them than one would like."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from skylake.durable import (
    Linker,
    content_of,
    exchange,
    open_in_place,
    replace_durably,
    replace_text,
    replacing,
)

Link = Callable[[Path, Path], None]


def refusing(code: int, names: set[str]) -> Link:
    """Stand in for the system's link on a file system that refuses some names."""
    real = os.link

    def link(source: Path, target: Path) -> None:
        if target.name in names:
            raise OSError(code, os.strerror(code), str(source))
        real(source, target)

    return link


def put(linker: Linker, folder: Path, names: str) -> list[bool]:
    """Put a file at some names; return for each whether it became a link."""
    source = folder / "source"
    source.write_text("rows")
    for name in names:
        linker(source, folder / name)
        assert (folder / name).read_text() == "rows"
    return [(folder / name).samefile(source) for name in names]


def test_files_are_linked(tmp_path: Path) -> None:
    assert put(Linker(), tmp_path, "abc") == [True, True, True]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP])
def test_without_links_all_is_copied_and_said_once(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "link", refusing(code, {"b"}))
    with caplog.at_level(logging.WARNING, "skylake"):
        assert put(Linker(), tmp_path, "abc") == [True, False, False]
    assert [record.getMessage().count("no hard links") for record in caplog.records] == [1]


def test_a_file_with_too_many_names_is_copied_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.EMLINK, {"b"}))
    with caplog.at_level(logging.WARNING, "skylake"):
        assert put(Linker(), tmp_path, "abc") == [True, False, True]
    assert not caplog.records


def test_other_failures_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.ENOSPC, {"b"}))
    with pytest.raises(OSError, match="No space left"):
        put(Linker(), tmp_path, "ab")


def test_a_text_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    for text in ("one", "ä longer one"):
        replace_durably(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [one.name for one in tmp_path.iterdir()] == ["settings.toml"]


def test_two_folders_change_names_in_one_step(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    assert exchange(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "content").read_text() == "new"
    assert (tmp_path / "new" / "content").read_text() == "old"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        exchange(tmp_path / "new", tmp_path / "nowhere")


@pytest.mark.parametrize("write", [replace_text, replace_durably])
def test_no_file_is_written_through_a_link(write: Callable[[Path, str], None], tmp_path: Path) -> None:
    lake, precious = tmp_path / "lake", tmp_path / "bashrc"
    lake.mkdir()
    precious.write_text("mine")
    for name in ("skylake.toml", ".skylake.toml.tmp"):
        (lake / name).symlink_to(precious)
    write(lake / "skylake.toml", "workers = 1\n")
    assert precious.read_text() == "mine"
    assert (lake / "skylake.toml").read_text() == "workers = 1\n" and not (lake / "skylake.toml").is_symlink()


def test_two_writers_do_not_share_a_file_and_an_error_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path) as second:
        assert first.name != second.name
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first", "that which ends last"
    with pytest.raises(KeyboardInterrupt), replacing(path) as stream:
        stream.write(b"cut short")
        raise KeyboardInterrupt
    assert [one.name for one in tmp_path.iterdir()] == ["file"] and path.read_bytes() == b"first"


def test_what_is_opened_in_place_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "new")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError):
            open_in_place(tmp_path / name)
    os.close(open_in_place(tmp_path / "lock"))
    assert (tmp_path / "lock").is_file() and not (tmp_path / "new").exists()


def test_a_file_of_a_lake_is_not_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("not of the lake")
    link = tmp_path / "record.json"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="it is a link") as refused:
        content_of(link)
    assert isinstance(refused.value, ValueError)
