"""The record of all deployed schemas: ``schemas/deployed``.

It holds a copy of each version of each schema, which is never changed, and their checksums in the form of
``sha256sum``. Existing lakes were written with the deployed schemas.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import pairwise
from pathlib import Path

from skylake.errors import ConfigurationError
from skylake.resources import folder
from skylake.schema.evolution import flag_refusals, is_same, refusals
from skylake.schema.tables import ON_REQUEST, TABLES, TableSchema, load, read_schema, read_yaml

CHECKSUMS = "SHA256SUMS"
FLAGS = "flags"
#: All that is recorded: tables, also those made on request, reference catalogs, and the registry of flag bits.
RECORDED = (*TABLES, *ON_REQUEST, "catalog", FLAGS)
_COMMAND = "`make deployed-schemas`"


def deployed_files(name: str, root: Path | None = None) -> dict[int, Path]:
    """Return the recorded file of each version of a schema, the oldest first.

    Parameters
    ----------
    name : str
        A table, ``catalog`` or ``flags``.
    root : Path or None
        Folder of the schemas; None takes that of this skylake.
    """
    paths = ((root or folder("schemas")) / "deployed").glob(f"{name}.*.yaml")
    return dict(sorted((int(path.suffixes[-2][1:]), path) for path in paths))


@cache
def deployed_sha256(table: str) -> dict[int, str]:
    """Return the checksum of each version of a table's schema that lakes may have been written under."""
    return {version: read_schema(path).sha256 for version, path in deployed_files(table).items()}


def known_schemas(table: str) -> dict[str, TableSchema]:
    """Return the schemas under which files of a table may have been written, by checksum, the oldest first."""
    return _known_schemas(table) if table in TABLES else {load(table).sha256: load(table)}


@cache
def _known_schemas(table: str) -> dict[str, TableSchema]:
    schemas = [read_schema(path) for path in deployed_files(table).values()]
    return {schema.sha256: schema for schema in (*schemas, load(table))}


def problems(root: Path | None = None) -> list[str]:
    """Return the problems of the schemas of a folder, compared with its record, one sentence each.

    There is none if no recorded file has changed, each version is an allowed evolution of the one before, and the
    present schemas are recorded.
    """
    root = root or folder("schemas")
    sentences = _changed_files(root / "deployed")
    for name in RECORDED:
        sentences += _problems_of(name, root)
    return sentences


def record(root: Path | None = None) -> list[Path]:
    """Record the schemas that have a new version, and return the files that were written.

    Raises
    ------
    ConfigurationError
        If a recorded file has changed, or a schema has changed without a new version or in a way that is not
        allowed. Nothing is written then.
    """
    root = root or folder("schemas")
    known = [name for name in RECORDED if _version(root / f"{name}.yaml") in deployed_files(name, root)]
    sentences = _changed_files(root / "deployed")
    for name in RECORDED:
        sentences += _problems_of(name, root) if name in known else _problems_of_next(name, root)
    if sentences:
        raise ConfigurationError(sentences[0])
    written = []
    for name in RECORDED:
        if name not in known:
            source = root / f"{name}.yaml"
            target = root / "deployed" / f"{name}.{_version(source)}.yaml"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(source.read_bytes())
            written.append(target)
    if written:
        with (root / "deployed" / CHECKSUMS).open("a", encoding="utf-8") as stream:
            stream.writelines(f"{_sha256(path)}  {path.name}\n" for path in written)
    return written


def _version(path: Path) -> int:
    return int(read_yaml(path)["version"])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _changed_files(root: Path) -> list[str]:
    """Return a sentence for each recorded file that is not what its checksum says."""
    path = root / CHECKSUMS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    expected = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    files = {file.name: _sha256(file) for file in root.glob("*.yaml")}
    return [
        f"schemas/deployed/{name} is not what {CHECKSUMS} says was deployed; restore both from version control"
        for name in sorted(expected.keys() | files.keys())
        if expected.get(name) != files.get(name)
    ]


def _problems_of(name: str, root: Path) -> list[str]:
    """Return what is wrong with one schema and its record."""
    files = deployed_files(name, root)
    sentences = []
    if list(files) != list(range(1, len(files) + 1)):
        sentences.append(
            f"schemas/deployed lacks a version of {name} between 1 and {max(files, default=1)}; restore it"
        )
    versions = list(files.values())
    for old, new in pairwise(versions):
        sentences += _refusals(name, old, new)
    source = root / f"{name}.yaml"
    version = _version(source)
    if version in files:
        return sentences + _differences(name, files[version], source, max(files))
    return (
        sentences
        or _problems_of_next(name, root)
        or [
            f"version {version} of schemas/{name}.yaml is not recorded; run {_COMMAND} and commit what it writes"
        ]
    )


def _problems_of_next(name: str, root: Path) -> list[str]:
    """Return why a schema that is not recorded cannot be the next version."""
    files, source = deployed_files(name, root), root / f"{name}.yaml"
    last = max(files, default=0)
    version = _version(source)
    if version != last + 1:
        return [
            f"schemas/{name}.yaml has version {version} where {last} was the last; give it `version: {last + 1}`"
        ]
    return _refusals(name, files[last], source) if files else []


def _differences(name: str, recorded: Path, source: Path, last: int) -> list[str]:
    """Return what the present schema differs in from the record of its own version."""
    refused = _refusals(name, recorded, source)
    if refused or not _same(name, recorded, source):
        advice = f"give it `version: {last + 1}` and run {_COMMAND}"
        return refused or [f"schemas/{name}.yaml has changed since version {last} was deployed; {advice}"]
    if _version(source) != last:
        return [f"schemas/{name}.yaml is older than version {last}, which was deployed; restore it"]
    return []


def _refusals(name: str, old: Path, new: Path) -> list[str]:
    if name == FLAGS:
        return flag_refusals(_bits(old), _bits(new))
    return refusals(read_schema(old), read_schema(new))


def _same(name: str, old: Path, new: Path) -> bool:
    if name == FLAGS:
        return _bits(old) == _bits(new)
    return is_same(read_schema(old), read_schema(new))


def _bits(path: Path) -> dict[str, dict[int, str]]:
    data = read_yaml(path)
    return {table: {item["bit"]: item["name"] for item in data[table]} for table in ("sources", "frames")}
