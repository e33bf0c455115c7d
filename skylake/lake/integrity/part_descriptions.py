"""Collect what the descriptions of a version list: parts, bundles, and the files with their rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from skylake.durable import text_of
from skylake.lake.commits.table_version import Version
from skylake.lake.layout import Layout
from skylake.lake.storage.bundles import Bundle, read_members
from skylake.lake.storage.fact_relations import UNREADABLE, Relations
from skylake.lake.storage.parts import Part, PartFile
from skylake.sky.pixels import pixel_range


def add_descriptions(layout: Layout, relations: Relations, table: str, folder: Path) -> None:
    """Add the parts, bundles and files that the descriptions of a version list."""
    version = Version(folder)
    for name, path in version.fresh.items():
        document = str(path.relative_to(layout.root))
        try:
            part = Part.from_json(text_of(path))
            if (part.table, part.name) != (table, name):
                raise ValueError(f"it describes {part.name} of {part.table}")
            _add_part(relations, part, None, document)
        except UNREADABLE as error:
            relations.problem(document, "description of a part", error, table)
            continue
        _add_files(relations, table, part.files, "fresh", name, part)
    for name, path in version.bundle_descriptions.items():
        document = str(path.relative_to(layout.root))
        members = 0
        try:
            bundle = Bundle.read(path)
            if (bundle.table, bundle.name) != (table, name):
                raise ValueError(f"it describes {bundle.name} of {bundle.table}")
            checksum = sum(int(file.digest, 16) for file in bundle.files) % (1 << 64)
        except UNREADABLE as error:
            relations.problem(document, "description of a bundle", error, table)
            continue
        try:
            for part in read_members(path):
                _add_part(relations, part, name, document)
                members += 1
        except UNREADABLE as error:
            relations.problem(document, "description of a bundle", error, table)
        relations.add(
            "lake_bundles",
            table_name=table,
            bundle=name,
            level=bundle.level,
            n_named=len(bundle.names),
            n_members=members,
            n_rows=bundle.n_rows,
            checksum=checksum,
            document=document,
        )
        _add_files(relations, table, bundle.files, "bundle", name, None)


def _add_part(relations: Relations, part: Part, bundle: str | None, document: str) -> None:
    digests = [int(file.digest, 16) for file in part.files]
    key = json.dumps(dict(part.key))
    relations.add(
        "lake_parts",
        table_name=part.table,
        part=part.name,
        camera=part.camera,
        night=part.night,
        batch_key=key,
        n_rows=part.n_rows,
        checksum=sum(digests) % (1 << 64),
        # Of the frames that it was made from.
        frames_checksum=int(frames, 16) if (frames := part.inputs.get("frames")) else None,
        software_version=part.software_version,
        schema_sha256=part.schema_sha256,
        bundle=bundle,
        document=document,
    )
    relations.extend(
        "part_files",
        (
            (part.table, part.name, file.path, file.n_rows, digest, bundle)
            for file, digest in zip(part.files, digests, strict=True)
        ),
    )


def _add_files(
    relations: Relations, table: str, files: Iterable[PartFile], kind: str, owner: str, part: Part | None
) -> None:
    for file in files:
        pixel = file.pixel
        low, high = (None, None) if pixel is None else pixel_range(*pixel)
        relations.add(
            "lake_files",
            table_name=table,
            path=file.path,
            kind=kind,
            owner=owner,
            camera=part.camera if part else None,
            night=part.night if part else None,
            n_rows=file.n_rows,
            n_bytes=file.n_bytes,
            sha256=file.sha256,
            digest=int(file.digest, 16),
            schema_sha256=part.schema_sha256 if part else None,
            norder=pixel[0] if pixel else None,
            npix=pixel[1] if pixel else None,
            index_from=low,
            index_to=high,
        )
