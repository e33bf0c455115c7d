"""What users say of their lakes in a file of their own, since a lake may be somebody else's."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skylake.errors import ConfigurationError
from skylake.lake import Lake
from skylake.settings import Catalogs, Settings, misplaced, user_file, user_setting

Run = Callable[..., Any]
ADDRESSES = {"cluster": "tcp://192.0.2.1:8786", "mirror_url": "postgresql://me:secret@192.0.2.1/sky"}


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own file, which is not there yet; its folder is."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    user_file().parent.mkdir(parents=True)
    return user_file()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake whose path has to be quoted."""
    return Lake.create(tmp_path / 'my "lake"', Settings(cluster="inline"))


def name_in_lake(lake: Lake, name: str) -> str:
    """Write an address into a lake as it was done in former days; return the line."""
    line = f'{name} = "{ADDRESSES[name]}"'
    file = lake.layout.settings_file
    others = [one for one in file.read_text().splitlines() if not one.startswith(name)]
    file.write_text("\n".join([line, *others, ""]))
    return line


def follow(sentence: str, line: str) -> None:
    """Do what the sentence says."""
    found = re.search(
        r"^(?P<lake>.*skylake\.toml): .*; move that line below (?P<section>\[.*\]) in (?P<file>.*), or delete",
        sentence,
    )
    assert found is not None, sentence
    old, new = Path(found["lake"]), Path(found["file"])
    old.write_text(old.read_text().replace(line, ""))
    new.write_text(f"{found['section']}\n{line}\n")
    new.chmod(0o600)


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_in_a_lake_is_not_obeyed_and_can_be_moved(lake: Lake, name: str) -> None:
    line = name_in_lake(lake, name)
    assert ADDRESSES[name] not in str(Lake(lake.root).settings)
    assert user_setting(lake.root, name) == ""
    sentence = misplaced(lake.root, name) or ""
    assert "secret" not in sentence
    follow(sentence, line)
    assert misplaced(lake.root, name) is None
    assert user_setting(lake.root, name) == ADDRESSES[name]
    assert user_setting(lake.root.parent, name) == "", "it is that of this lake only"


def test_settings_of_former_days_that_name_no_address_are_read(lake: Lake) -> None:
    file = lake.layout.settings_file
    file.write_text('mirror_url = ""\n' + file.read_text())
    assert Lake(lake.root).settings == lake.settings
    assert [misplaced(lake.root, name) for name in ADDRESSES] == [None, None]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mirror_url = 'host=192.0.2.1 dbname=sky'", "mirror_url is no address"),
        ("mirror_url = 'http://192.0.2.1/sky'", "mirror_url is no address"),
        ("mirror_url = 42", "mirror_url is no address"),
        ("cluster = 'ssh://192.0.2.1'", "cluster must be one of local, inline, slurm"),
        ("cluster = ['local']", "cluster must be one of"),
        ("workers = -1", "workers must be 0"),
        ("workers = '2'", "workers must be of type int"),
        ("wokers = 2", "there is no setting 'wokers'"),
        ("[catalog]\nsolve = '../../home'", "catalog.solve is the name of a catalog"),
    ],
)
def test_values_that_cannot_be_are_refused_in_a_sentence(lake: Lake, line: str, said: str) -> None:
    good = lake.layout.settings_file.read_text()
    lake.layout.settings_file.write_text(line + "\n")
    with pytest.raises(ConfigurationError, match=rf"skylake\.toml: {re.escape(said)}"):
        Lake(lake.root)
    lake.layout.settings_file.write_text(good)


def test_a_setting_that_cannot_be_leaves_the_file_as_it_was(lake: Lake) -> None:
    good = lake.layout.settings_file.read_text()
    for name, value in (("workers", -3), ("catalog.solve", "a/b"), ("mirror_url", "sky")):
        with pytest.raises(ConfigurationError):
            lake.set(name, value)
    assert lake.layout.settings_file.read_text() == good


def test_a_default_catalog_beside_others_is_refused(lake: Lake) -> None:
    lake.set("catalog.solve", "deep")
    lake.set("catalog.calibrate", "deep")
    file = lake.layout.settings_file
    good = file.read_text()
    file.write_text(f'default_catalog = "deep"\n{good}')
    assert Lake(lake.root).settings == lake.settings
    file.write_text(f'default_catalog = "wide"\n{good}')
    with pytest.raises(
        ConfigurationError, match=r'skylake.toml: default_catalog = "wide" .* delete the line'
    ):
        Lake(lake.root)
    file.write_text(good)
    assert Lake(lake.root).settings == lake.settings
    file.write_text('default_catalog = "deep"\n')
    Lake(lake.root).set("catalog.calibrate", "wide")
    assert Lake(lake.root).settings.catalog == Catalogs("deep", "wide")


def test_verify_does_not_go_to_the_cluster_of_a_lake(
    lake: Lake, skylake_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_in_lake(lake, "cluster")
    verified = skylake_command("verify", lake.root, "--deep", "--workers", 1)
    assert (verified.status, "all well" in verified.out) == (0, True), verified.err
    assert "cluster is not taken from a lake" in verified.err
    monkeypatch.setenv("SKYLAKE_CLUSTER", "inline")
    verified = skylake_command("verify", lake.root, "--deep")
    assert (verified.status, verified.err) == (0, "")


def test_the_cluster_of_the_user_is_that_of_their_lake(
    lake: Lake, configuration: Path, skylake_command: Run
) -> None:
    configuration.write_text(f"['{lake.root}']\ncluster = 'nowhere'\n")
    verified = skylake_command("verify", lake.root, "--deep")
    assert (verified.status, "there is no cluster 'nowhere'" in verified.err) == (2, True)


def test_the_mirror_does_not_go_to_the_database_of_a_lake(lake: Lake, skylake_command: Run) -> None:
    name_in_lake(lake, "mirror_url")
    mirrored = skylake_command("mirror", lake.root)
    assert (mirrored.status, "mirror_url is not taken from a lake" in mirrored.err) == (3, True)
    assert "secret" not in mirrored.err


def test_init_keeps_no_address(tmp_path: Path, skylake_command: Run) -> None:
    made = skylake_command("init", tmp_path / "lake", "--cluster", "tcp://host:8786")
    assert made.status == 2
    assert 'write `cluster = "tcp://host:8786"` below ["' in made.err
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("url", "mode", "refused"),
    [
        ("postgresql://me:secret@localhost:1/sky", 0o644, True),
        ("postgresql://me:secret@localhost:1/sky", 0o640, True),
        ("postgresql://me@localhost:1/sky?password=secret", 0o644, True),
        ("postgresql://me:secret@localhost:1/sky", 0o600, False),
        ("postgresql://me@localhost:1/sky", 0o644, False),
    ],
)
def test_a_password_that_others_may_read_is_refused(
    url: str,
    mode: int,
    refused: bool,
    lake: Lake,
    configuration: Path,
    skylake_command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configuration.write_text(f"['{lake.root}']\nmirror_url = '{url}'\n")
    configuration.chmod(mode)
    mirrored = skylake_command("mirror", lake.root)
    assert "secret" not in mirrored.err
    assert ("others may read the password" in mirrored.err) == refused
    if refused:
        command = re.findall("`(chmod .*?)`", mirrored.err)[0]
        subprocess.run(shlex.split(command), check=True)
        mirrored = skylake_command("mirror", lake.root)
    assert (
        mirrored.status,
        "the database postgresql://me@localhost:1/sky: connection" in mirrored.err,
    ) == (3, True)
    assert "secret" not in mirrored.err
    monkeypatch.setenv("SKYLAKE_MIRROR_URL", "postgresql://you@localhost:2/sky")
    elsewhere = skylake_command("mirror", lake.root)
    assert "the database postgresql://you@localhost:2/sky: connection" in elsewhere.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "cluster = 'inline'",
            r"cluster is of no lake; write it below the folder of one, as \[\"/data/lake\"\]",
        ),
        (
            "['/lake']\nworkers = 3",
            "workers cannot be set for a lake here; the settings are cluster, mirror_url",
        ),
        ("['/lake']\ncluster = 3", "cluster cannot be set"),
        ("['/lake'", "config.toml: not valid TOML"),
    ],
)
def test_what_the_file_cannot_mean_is_one_sentence(
    text: str, words: str, lake: Lake, configuration: Path
) -> None:
    configuration.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        user_setting(lake.root, "cluster")
