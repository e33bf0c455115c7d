from __future__ import annotations

import os
from pathlib import Path

import pytest

from skylake.errors import UsageError
from skylake.flow.discover_files import find_frames, frames_beside

FRAMES = [
    "a.fits", "b.FIT", "c.fts", "d.fits.gz", "e.fit.bz2", "f.fits.fz", "night/g.Fits.GZ", "night/deep/h.fits",
    "with blank.fits",
]  # fmt: skip
OTHERS = [
    "a.txt", "b.fits.txt", "c.fits.zip", ".hidden.fits", "fits", "d.gz", "e.fits~", "night/f.fitsx",
    "lake/catalogs/stars/hats.properties", "lake/catalogs/stars/point_map.fits",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    for name in [*FRAMES, *OTHERS]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def names(paths: list[Path], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_files_that_look_like_fits_are_found_at_any_depth(folder: Path) -> None:
    found, complaints = find_frames([folder])
    assert names(found, folder) == sorted(FRAMES)
    assert complaints == []


def test_a_file_named_by_itself_is_taken_whatever_its_name(folder: Path) -> None:
    found, complaints = find_frames([folder / "a.txt", str(folder / ".hidden.fits"), folder / "night"])
    assert names(found, folder) == [".hidden.fits", "a.txt", "night/deep/h.fits", "night/g.Fits.GZ"]
    assert complaints == []


def test_paths_are_absolute_sorted_and_come_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found, _ = find_frames(["night", ".", folder, "a.fits", folder / "night" / "deep"])
    assert all(path.is_absolute() for path in found)
    assert names(found, folder) == sorted(FRAMES)


def test_links_are_followed_and_each_folder_is_walked_once(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "z.fits").write_text("z")
    (folder / "away").symlink_to(other)
    (folder / "again").symlink_to(other)
    (folder / "night" / "up").symlink_to("..")
    (folder / "self").symlink_to(".")
    (folder / "linked.fits").symlink_to(folder / "a.fits")
    found, complaints = find_frames([folder])
    assert names(found, folder) == sorted([*FRAMES, "again/z.fits", "linked.fits"])
    assert complaints == []


def test_the_name_of_a_folder_does_not_depend_on_order(tmp_path: Path) -> None:
    found = []
    for number, order in enumerate((["b", "a", "c"], ["c", "a", "b"])):
        root, real = tmp_path / f"root{number}", tmp_path / f"real{number}"
        root.mkdir()
        real.mkdir()
        (real / "x.fits").write_text("x")
        for name in order:
            (root / name).symlink_to(real)
        found.append(names(find_frames([root])[0], root))
    assert found == [["a/x.fits"], ["a/x.fits"]]


def test_a_broken_link_is_found_and_gets_a_row(folder: Path) -> None:
    (folder / "lost.fits").symlink_to("gone.fits")
    (folder / "round.fits").symlink_to("round.fits")
    found = names(find_frames([folder])[0], folder)
    assert {"lost.fits", "round.fits"} <= set(found)
    assert names(find_frames([folder / "lost.fits"])[0], folder) == ["lost.fits"]


def test_a_folder_without_frames_is_complained_of(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found, complaints = find_frames([tmp_path / "empty", folder])
    assert names(found, folder) == sorted(FRAMES)
    (complaint,) = complaints
    assert complaint.startswith(f"{tmp_path / 'empty'}: no FITS frame")


def test_a_path_that_is_not_there_is_wrong_use(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.fits: there is no such file or folder"):
        find_frames([folder, folder / "nothing.fits"])


def test_a_folder_that_cannot_be_read_is_complained_of(open_folder: Path) -> None:
    (open_folder / "shut").mkdir()
    (open_folder / "shut" / "a.fits").write_text("a")
    (open_folder / "b.fits").write_text("b")
    (open_folder / "shut").chmod(0o000)
    root = os.geteuid() == 0
    if root:  # root may read everything
        os.seteuid(65534)
    try:
        found, complaints = find_frames([open_folder])
    finally:
        if root:
            os.seteuid(0)
        (open_folder / "shut").chmod(0o755)
    assert names(found, open_folder) == ["b.fits"]
    (complaint,) = complaints
    assert complaint.startswith(f"{open_folder / 'shut'}: the folder cannot be read (Permission denied)")


def test_frames_beside_are_those_of_the_same_folder_alone(folder: Path) -> None:
    beside = [name for name in FRAMES if "/" not in name]
    assert frames_beside([folder / "a.fits"]) == sorted(str(folder / name) for name in beside)
    assert frames_beside([folder / "a.txt"]) == sorted(str(folder / name) for name in ["a.txt", *beside])
    both = frames_beside([folder / "a.fits", folder / "night" / "g.Fits.GZ"])
    assert both == sorted(str(folder / name) for name in [*beside, "night/g.Fits.GZ"])
    assert frames_beside([folder / "gone" / "x.fits"]) == [str(folder / "gone" / "x.fits")]
