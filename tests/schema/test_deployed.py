"""What was deployed is known for ever, and no schema changes without a word."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from skylake.errors import ConfigurationError
from skylake.resources import folder
from skylake.schema import load
from skylake.schema.deployed import RECORDED, deployed_files, deployed_sha256, problems, record
from skylake.schema.tables import read_schema

Edit = Callable[[dict[str, Any]], None]


def edit(path: Path, change: Edit) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")


def version(number: int) -> Edit:
    return lambda data: data.update(version=number)


def column(name: str, /, **changes: Any) -> Edit:
    def change(data: dict[str, Any]) -> None:
        next(one for one in data["columns"] if one["name"] == name).update(changes)

    return change


def another(data: dict[str, Any]) -> None:
    data["columns"].insert(4, {"name": "snr", "datatype": "float", "nullable": True, "description": "new"})


def test_the_schemas_of_this_tree_follow_the_deployed_ones() -> None:
    assert problems() == [], "a schema has changed; CONTRIBUTING.md says what to do"


def test_every_schema_is_recorded() -> None:
    names = {path.stem for path in folder("schemas").glob("*.yaml")}
    assert names == set(RECORDED)
    for name in names - {"flags"}:
        assert deployed_sha256(name)[load(name).version] == load(name).sha256


def test_the_checksums_are_those_of_sha256sum() -> None:
    where = folder("schemas") / "deployed"
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=where, capture_output=True)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(list(where.glob("*.yaml")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        another,
        column("flux_aper2", datatype="double"),
        column("filter", length=80),
        column("crowding", nullable=False),
    ],
)
def test_a_schema_that_changes_under_its_version_is_found(change: Edit, schemas: Path) -> None:
    before = list(deployed_files("sources", schemas))
    edit(schemas / "sources.yaml", change)
    (sentence,) = problems(schemas)
    assert "sources" in sentence
    with pytest.raises(ConfigurationError) as caught:
        record(schemas)
    assert str(caught.value) == sentence
    assert list(deployed_files("sources", schemas)) == before


@pytest.mark.slow
@pytest.mark.full
def test_the_fix_is_a_new_version_and_its_record(schemas: Path) -> None:
    path, last = schemas / "sources.yaml", max(deployed_files("sources", schemas))
    edit(path, another)
    (sentence,) = problems(schemas)
    assert sentence.startswith(f"schemas/sources.yaml has changed since version {last} was deployed")
    assert sentence.endswith(f"; give it `version: {last + 1}` and run `make deployed-schemas`")
    edit(path, version(last + 1))
    (sentence,) = problems(schemas)
    assert sentence == (
        f"version {last + 1} of schemas/sources.yaml is not recorded; run `make deployed-schemas` and commit what it "
        "writes"
    )
    assert [one.name for one in record(schemas)] == [f"sources.{last + 1}.yaml"]
    assert problems(schemas) == []
    assert record(schemas) == []
    files = deployed_files("sources", schemas)
    assert files[last + 1].read_bytes() == path.read_bytes()
    assert [read_schema(one).version for one in files.values()] == list(range(1, last + 2))
    edit(path, column("snr", datatype="double"))
    wanted = f"has changed since version {last + 1} was deployed; give it `version: {last + 2}`"
    assert wanted in problems(schemas)[0]


def test_texts_change_without_a_version(schemas: Path) -> None:
    edit(schemas / "sources.yaml", column("flux_aper2", description="Light"))
    edit(schemas / "catalog.yaml", lambda data: data.update(description="Stars"))
    edit(schemas / "flags.yaml", lambda data: data["frames"][0].update(description="Other words"))
    assert problems(schemas) == []
    assert record(schemas) == []


def test_a_new_version_that_is_no_evolution_is_not_recorded(schemas: Path) -> None:
    last = max(deployed_files("frames", schemas))
    edit(schemas / "frames.yaml", version(last + 1))
    edit(schemas / "frames.yaml", column("airmass", datatype="float"))
    (sentence,) = problems(schemas)
    assert sentence.startswith("table frames: the column 'airmass' was double and is float")
    with pytest.raises(ConfigurationError, match="airmass"):
        record(schemas)
    assert max(deployed_files("frames", schemas)) == last


@pytest.mark.parametrize("beyond", [False, True])
def test_versions_are_counted_without_a_gap(beyond: bool, schemas: Path) -> None:
    last = max(deployed_files("maps", schemas))
    number = last + 2 if beyond else 0
    edit(schemas / "maps.yaml", version(number))
    assert problems(schemas) == [
        f"schemas/maps.yaml has version {number} where {last} was the last; give it `version: {last + 1}`"
    ]


def test_an_old_schema_does_not_come_back(schemas: Path) -> None:
    path, last = schemas / "maps.yaml", max(deployed_files("maps", schemas))
    before = path.read_text(encoding="utf-8")
    edit(path, version(last + 1))
    edit(path, column("n_visits", datatype="long"))
    record(schemas)
    path.write_text(before, encoding="utf-8")
    assert problems(schemas) == [
        f"schemas/maps.yaml is older than version {last + 1}, which was deployed; restore it"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["edited", "missing", "added"])
def test_the_record_itself_cannot_change(damage: str, schemas: Path) -> None:
    path = schemas / "deployed" / "nights.1.yaml"
    if damage == "edited":
        edit(path, column("fwhm_px", **{"ivoa:unit": "arcsec"}))
    elif damage == "missing":
        path.unlink()
    else:
        path.with_name("weather.1.yaml").write_bytes(path.read_bytes())
    found = problems(schemas)
    name = "weather.1.yaml" if damage == "added" else "nights.1.yaml"
    assert found[0].startswith(
        f"schemas/deployed/{name} is not what SHA256SUMS says was deployed; restore both"
    )
    with pytest.raises(ConfigurationError, match=name):
        record(schemas)


@pytest.mark.full
def test_a_flag_bit_needs_a_version_and_keeps_its_meaning(schemas: Path) -> None:
    path = schemas / "flags.yaml"
    last = max(deployed_files("flags", schemas))
    edit(path, lambda data: data["sources"].append({"bit": 30, "name": "STREAK", "description": "new"}))
    assert f"schemas/flags.yaml has changed since version {last} was deployed" in problems(schemas)[0]
    edit(path, version(last + 1))
    assert [one.name for one in record(schemas)] == [f"flags.{last + 1}.yaml"]
    edit(path, lambda data: data["sources"][0].update(name="FULL"))
    assert problems(schemas)[0].startswith("flags of sources: the bit 0 was SATURATED and is FULL")


def test_a_first_record_takes_every_schema(schemas: Path) -> None:
    for path in (schemas / "deployed").iterdir():
        path.unlink()
    for name in RECORDED:
        edit(schemas / f"{name}.yaml", version(1))
    assert len(problems(schemas)) == len(RECORDED)
    assert {path.name for path in record(schemas)} == {f"{name}.1.yaml" for name in RECORDED}
    assert problems(schemas) == []
