"""A whole lake passes; each kind of damage is found, named, and reported with the command that repairs it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from archive.make_archive import make_archive
from archive.scenario import ArchiveScenario

from skylake.cameras.profile import load as load_profile
from skylake.core.ids import config_sha256
from skylake.core.sphere import healpix_centre, healpix_index
from skylake.errors import CatalogError, LakeError, UsageError
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.astrometry.solve_frames import index_catalog
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.ingest.known_files import write_repeats
from skylake.flow.maintenance.verify_lake import VerifyOptions, VerifyReport, open_facts, verify
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.image.allsky.geometry_epochs import Geometry
from skylake.image.wcs.lens import Lens
from skylake.lake import Lake
from skylake.lake.cameras.stored_geometries import write_geometries
from skylake.lake.commits.ledger import keep_configurations
from skylake.lake.storage.bundles import Bundle, read_members
from skylake.lake.storage.parts import Part, PartFile, file_sha256
from skylake.schema import load, table_names
from skylake.schema.digest import add_digests, rows_digest
from skylake.schema.parquet import stored_schema, write_parquet
from skylake.settings import Settings
from skylake.simulate import ScheduleParams, StarParams
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.hats import (
    Properties,
    leaf_folder,
    pixel_of,
    write_common_metadata,
    write_metadata,
    write_row_group_metadata,
)
from skylake.sky.join import join_catalog
from skylake.sky.lake_catalogs import ReferenceCatalog, StarField

SCENARIO = ArchiveScenario(
    camera="sim", nights=9, frames_per_night=6, stars=StarParams(per_frame=120.0, variable_fraction=0.0),
    schedule=ScheduleParams(fields=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with nine nights in bundles, two in parts of their own, and aggregates. Tests do not change it."""
    root = tmp_path_factory.mktemp("whole") / "lake"
    lake = Lake.create(root, Settings(pixel_order=4, map_order=3, cluster="inline"))
    make_archive(lake, SCENARIO, Inline(), Silent())
    compact(lake, Inline())
    make_archive(lake, dataclasses.replace(SCENARIO, nights=11), Inline(), Silent())
    aggregate(lake, (), Inline())
    return root


class Patient:
    """A copy of the lake, hard links and all, to be damaged."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, table: str) -> Path:
        return (self.root / "current" / table).resolve()

    def fresh(self, table: str = "sources") -> Path:
        """A file of a part that has files of its own."""
        return min(path for path in self._files(table) if not path.name.startswith("compacted"))

    def bundled(self, table: str = "sources") -> Path:
        """A file of a bundle."""
        return min(path for path in self._files(table) if path.name.startswith("compacted"))

    def _files(self, table: str) -> list[Path]:
        return list((self.folder(table) / "dataset").rglob("*.parquet"))

    def description(self, file: Path) -> Path:
        kind = "_bundles" if file.name.startswith("compacted") else "_parts"
        return self._version(file) / kind / f"{file.stem}.json"

    def _version(self, file: Path) -> Path:
        return next(one for one in file.parents if one.name == "dataset").parent

    def write(self, path: Path, content: bytes | str) -> None:
        """Give a file another content in this version alone: others may be links to the old one."""
        data = content.encode() if isinstance(content, str) else content
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def rewrite(self, path: Path, rows: pa.Table, honest: bool = True, **options: Any) -> None:
        """Give a file other rows; an honest writer shows them in the description too."""
        path.unlink()
        if options:
            pq.write_table(rows, path, **options)
        else:
            write_parquet(rows, path)
        if honest:
            self.tell(path, rows)

    def tell(self, path: Path, rows: pa.Table) -> None:
        """Let the description of a part say what its file holds now."""
        description = self.description(path)
        part = Part.from_json(description.read_text())
        name = str(path.relative_to(self._version(path)))
        told = PartFile(name, rows.num_rows, rows_digest(rows), path.stat().st_size, file_sha256(path))
        files = tuple(told if file.path == name else file for file in part.files)
        self.write(description, dataclasses.replace(part, files=files).to_json())
        if part.table == "sources":
            properties = self._version(path) / "hats.properties"
            n_rows = sum(part.n_rows for part in Lake(self.root).snapshot().parts("sources").values())
            self.write(properties, re.sub(r"hats_nrows=\d+", f"hats_nrows={n_rows}", properties.read_text()))

    def verify(self, deep: bool = False, **options: Any) -> VerifyReport:
        chosen = VerifyOptions(deep=deep, **options)
        return verify(open_facts(self.root, chosen), Inline(), chosen)


@pytest.fixture
def patient(whole: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path]) -> Patient:
    return Patient(copy_lake(whole, tmp_path / "lake"))


def told(report: VerifyReport, check: str) -> str:
    """What a check found and the repairs, as one text."""
    (found,) = [one for one in report.checks if one["name"] == check]
    return "\n".join(f"{one['says']} => {one['repair']}" for one in found["findings"])


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_lake_passes(whole: Path, deep: bool, digests: Callable[[Path], dict[str, str]]) -> None:
    before = digests(whole)
    report = Patient(whole).verify(deep)
    assert report.all_well, report.failed
    assert len(report.checks) >= (45 if deep else 25)
    assert digests(whole) == before, "nothing was written"


def test_a_lake_of_real_frames_passes(calibrated: Lake) -> None:
    report = Patient(calibrated.root).verify(deep=True)
    assert report.all_well, report.failed


def test_an_empty_lake_passes(tmp_path: Path) -> None:
    report = Patient(Lake.create(tmp_path / "lake").root).verify(deep=True)
    assert report.all_well, report.failed


# Each damage returns the name of what it broke.


def flip_a_bit(patient: Patient) -> str:
    path = patient.bundled()
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    patient.write(path, bytes(content))
    return path.name


def flip_a_bit_in_all_versions(patient: Patient) -> str:
    """As a failing disk would: every hard link leads to the same bytes."""
    path = patient.bundled()
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 3)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    return path.name


def lose_a_file(patient: Patient) -> str:
    path = patient.fresh()
    path.unlink()
    return path.name


def lose_a_bundled_file(patient: Patient) -> str:
    path = patient.bundled("matches")
    path.unlink()
    return path.name


def lose_a_pixel(patient: Patient) -> str:
    """The only folder of a pixel, with all its files."""
    path = patient.bundled("matches")
    shutil.rmtree(path.parent)
    return path.parent.name


def add_a_file(patient: Patient) -> str:
    path = patient.fresh()
    return Path(shutil.copy(path, path.with_name("stray.parquet"))).name


def swap_two_files(patient: Patient) -> str:
    first, second = patient.fresh(), patient.bundled()
    one, other = first.read_bytes(), second.read_bytes()
    patient.write(first, other)
    patient.write(second, one)
    return first.name


def truncate_a_file(patient: Patient) -> str:
    path = patient.bundled()
    patient.write(path, path.read_bytes()[:-1000])
    return path.name


def repeat_a_frame(patient: Patient) -> str:
    path = patient.fresh("frames")
    rows = pq.read_table(path)
    patient.rewrite(path, pa.concat_tables([rows, rows.slice(0, 1)]).sort_by("mjd_mid"))
    return str(rows["frame_id"][0].as_py())


def misplace_a_file(patient: Patient) -> str:
    """Rows of one pixel in the folder of another."""
    path = patient.fresh()
    donor = min(one for one in patient._files("sources") if one.parent != path.parent)
    patient.rewrite(path, pq.read_table(donor, partitioning=None))
    return path.name


def misplace_a_row(patient: Patient) -> str:
    """One row of another pixel, in a file whose statistics say nothing of it."""
    path = patient.fresh()
    rows = pq.read_table(path, partitioning=None)
    index = rows["_healpix_29"].to_numpy().copy()
    index[-1] = (int(index[-1]) + (1 << 58)) % (12 << 58)
    moved = rows.set_column(0, rows.schema.field(0), pa.array(np.sort(index)))
    patient.rewrite(
        path, moved, write_statistics=[name for name in rows.column_names if name != "_healpix_29"]
    )
    return path.name


def leave_metadata_stale(patient: Patient) -> str:
    properties = patient.folder("sources") / "partition_info.csv"
    lines = properties.read_text().splitlines()
    patient.write(properties, "\n".join([*lines[:-1], "0,11"]) + "\n")
    return "Npix=11"


def leave_row_groups_stale(patient: Patient) -> str:
    folder = patient.folder("sources")
    metadata = pq.read_metadata(patient.bundled())
    metadata.set_file_path("Norder=0/Dir=0/Npix=99/gone.parquet")
    schema = pq.read_schema(patient.bundled())
    pq.write_metadata(schema, folder / "dataset" / "_metadata", metadata_collector=[metadata])
    return "Npix=99/gone.parquet"


def leave_another_schema_told(patient: Patient) -> str:
    shutil.copy(
        patient.folder("frames") / "dataset" / patient.fresh("frames").name,
        patient.folder("sources") / "dataset" / "_common_metadata",
    )
    return "sources"


def orphan_rows(patient: Patient) -> str:
    """Frames whose detections stay behind."""
    path = patient.fresh("frames")
    rows = pq.read_table(path)
    frame = rows.filter(pc.equal(rows["status"], "ok"))["frame_id"][0].as_py()
    patient.rewrite(path, rows.filter(pc.not_equal(rows["frame_id"], frame)))
    return f"({frame}|night {rows['night'][0]})"


def orphan_a_night(patient: Patient) -> str:
    path = patient.fresh("frames")
    patient.description(path).unlink()
    path.unlink()
    return path.stem


def count_wrongly(patient: Patient) -> str:
    properties = patient.folder("matches") / "hats.properties"
    patient.write(properties, re.sub(r"hats_nrows=\d+", "hats_nrows=17", properties.read_text()))
    return "17 rows"


def tell_wrong_rows(patient: Patient) -> str:
    path = patient.fresh("zeropoints")
    description = patient.description(path)
    values = json.loads(description.read_text())
    values["files"][0]["n_rows"] += 1
    patient.write(description, json.dumps(values))
    return path.name


def widen_a_column(patient: Patient) -> str:
    path = patient.fresh()
    rows = pq.read_table(path, partitioning=None)
    place = rows.column_names.index("flags")
    patient.rewrite(path, rows.set_column(place, "flags", rows["flags"].cast(pa.int64())))
    return f"{path.name}.*the column flags is int64 instead of int32"


def lose_a_column(patient: Patient) -> str:
    path = patient.fresh("zeropoints")
    patient.rewrite(path, pq.read_table(path).drop_columns(["chi2"]))
    return f"{path.name}.*the column chi2 is missing"


def lose_the_pointer(patient: Patient) -> str:
    (patient.root / "current").unlink()
    return "current is missing"


def dangle_the_pointer(patient: Patient) -> str:
    (patient.root / "current").unlink()
    (patient.root / "current").symlink_to("_snapshots/000999")
    return "current leads to the snapshot 999, which is missing"


def make_the_pointer_a_file(patient: Patient) -> str:
    (patient.root / "current").unlink()
    (patient.root / "current").write_text("_snapshots/000001")
    return "current is a folder or file where a link should be"


def lose_the_link_of_a_table(patient: Patient) -> str:
    (patient.root / "sources").unlink()
    return "sources is missing"


def dangle_a_table(patient: Patient) -> str:
    (patient.root / "current" / "nights").unlink()
    (patient.root / "current" / "nights").symlink_to("../../_versions/nights/000777")
    return "link nights of snapshot .* leads to .*000777, which is missing"


def lose_a_table(patient: Patient) -> str:
    (patient.root / "_snapshots" / "000003" / "maps").unlink()
    return "link maps of snapshot 3 is missing"


def lose_a_record(patient: Patient) -> str:
    (patient.root / "_ledger" / "000004.json").unlink()
    return "record 4 of the ledger is missing"


def spoil_a_record(patient: Patient) -> str:
    patient.write(patient.root / "_ledger" / "000004.json", "{")
    return "_ledger/000004.json"


def lose_a_member(patient: Patient) -> str:
    path = patient.description(patient.bundled())
    patient.write(path, "".join(path.read_text().splitlines(keepends=True)[:-1]))
    return path.stem


def lose_a_description(patient: Patient) -> str:
    path = patient.fresh()
    patient.description(path).unlink()
    return path.name


def lose_a_name(patient: Patient) -> str:
    """A member that neither the list of names nor a line mentions; its rows are still in the files."""
    path = patient.description(patient.bundled())
    bundle, members = Bundle.read(path), list(read_members(path))
    patient.write(path, dataclasses.replace(bundle, names=bundle.names[1:]).to_json(members[1:]))
    return bundle.name


def describe_a_part_twice(patient: Patient) -> str:
    bundle = patient.description(patient.bundled())
    part = next(iter(read_members(bundle)))
    patient.write(patient.folder("sources") / "_parts" / f"{part.name}.json", part.to_json())
    return part.name


def spoil_a_description(patient: Patient) -> str:
    path = patient.description(patient.fresh())
    patient.write(path, path.read_text()[:100])
    return path.name


def spoil_the_properties(patient: Patient) -> str:
    (patient.folder("sources") / "hats.properties").unlink()
    return "hats.properties"


def spoil_the_settings(patient: Patient) -> str:
    (patient.root / "skylake.toml").write_text("pixel_order = [")
    return "skylake.toml"


def lose_a_profile(patient: Patient) -> str:
    next((patient.root / "_cameras").glob("*.json")).unlink()
    return "profile is missing"


def lose_the_catalog(patient: Patient) -> str:
    shutil.rmtree(patient.root / "catalogs" / "simcat")
    return "simcat"


def lose_stars_of_a_catalog(patient: Patient) -> str:
    root = patient.root / "catalogs" / "simcat" / "simcat"
    min(root.rglob("Npix=*/*.parquet"), default=min(root.rglob("*.parquet"))).unlink()
    return "simcat"


def hold_nan(patient: Patient) -> str:
    path = patient.fresh()
    rows = pq.read_table(path, partitioning=None)
    place = rows.column_names.index("flux_kron")
    values = rows["flux_kron"].to_numpy().copy()
    values[3] = np.nan
    patient.rewrite(path, rows.set_column(place, rows.schema.field(place), pa.array(values)))
    return f"flux_kron of .*{path.name}"


def sort_otherwise(patient: Patient) -> str:
    path = patient.fresh("matches")
    rows = pq.read_table(path, partitioning=None)
    patient.rewrite(path, rows.sort_by([("_healpix_29", "descending")]))
    return path.name


def lie_in_statistics(patient: Patient) -> str:
    """The rows of one file under the footer of another, which has other statistics and equal pages."""
    path = patient.fresh("frames")
    rows = pq.read_table(path)
    first = rows["mjd_mid"].to_numpy().copy()
    options = {
        "compression": "none",
        "use_dictionary": False,
        "store_schema": True,
        "row_group_size": 1 << 20,
    }
    pq.write_table(rows, path.with_name("honest"), **options)
    shifted = rows.set_column(
        rows.column_names.index("mjd_mid"), rows.schema.field("mjd_mid"), pa.array(first - 0.001)
    )
    pq.write_table(shifted, path.with_name("shifted"), **options)
    honest, other = (path.with_name(name).read_bytes() for name in ("honest", "shifted"))
    data = pq.read_metadata(path.with_name("honest")).serialized_size + 8
    assert len(honest) == len(other)
    for name in ("honest", "shifted"):
        path.with_name(name).unlink()
    patient.write(path, other[:-data] + honest[-data:])
    patient.tell(path, shifted)
    return f"{path.name} of frames states .* for mjd_mid"


def move_a_position(patient: Patient) -> str:
    path = patient.fresh()
    rows = pq.read_table(path, partitioning=None)
    place = rows.column_names.index("dec_deg")
    dec = rows["dec_deg"].to_numpy().copy()
    dec[5] += 0.001 if dec[5] < 0 else -0.001
    patient.rewrite(path, rows.set_column(place, rows.schema.field(place), pa.array(dec)))
    return f"1 rows of .*{path.name}"


def put_a_foreign_night_in(patient: Patient) -> str:
    """Rows of a night that the part is not of."""
    path = patient.fresh()
    rows = pq.read_table(path, partitioning=None)
    place = rows.column_names.index("night")
    night = rows["night"].to_numpy().copy()
    night[:4] = 19991231
    patient.rewrite(path, rows.set_column(place, rows.schema.field(place), pa.array(night)))
    return f"(4 rows of .*{path.name}|night 19991231)"


def repeat_a_detection(patient: Patient) -> str:
    path = patient.fresh()
    rows = pq.read_table(path, partitioning=None)
    patient.rewrite(path, pa.concat_tables([rows.slice(0, 1), rows]))
    return f"detection {rows['source_no'][0]} of frame {rows['frame_id'][0]} is 2 rows"


def change_a_value(patient: Patient) -> str:
    """Bytes, sizes, counts and checksum of the file agree; only the rows are not those that were ingested."""
    path = patient.fresh()
    rows = pq.read_table(path, partitioning=None)
    place = rows.column_names.index("flux_aper1")
    digests = Part.from_json(patient.description(path).read_text()).files
    changed = rows.set_column(
        place, rows.schema.field(place), pc.add(rows["flux_aper1"], pa.scalar(1, pa.float32()))
    )
    patient.rewrite(path, changed)
    values = json.loads(patient.description(path).read_text())
    for file, before in zip(values["files"], digests, strict=True):
        file["digest"] = before.digest
    patient.write(patient.description(path), json.dumps(values))
    return path.name


def match_a_star_twice(patient: Patient) -> str:
    path = patient.fresh("matches")
    rows = pq.read_table(path, partitioning=None)
    place = rows.column_names.index("ref_id")
    ids = rows["ref_id"].to_numpy().copy()
    same = np.flatnonzero(rows["frame_id"].to_numpy() == rows["frame_id"][0].as_py())
    ids[same] = ids[same[0]]
    patient.rewrite(path, rows.set_column(place, rows.schema.field(place), pa.array(ids)))
    return f"star {ids[same[0]]}"


Damage = Callable[[Patient], str]
LINK, ROLLBACK, INGEST = r"ln -f \S+ ", "skylake rollback ", "skylake ingest .* --redo --from 2024"
#: Damage, the check that names it, the repair. These are found in seconds, without reading rows.
FAST: list[tuple[Damage, str, str]] = [
    (lose_a_file, "file_present", LINK),
    (lose_a_bundled_file, "file_present", LINK),
    (lose_a_pixel, "file_present", "mkdir -p .* && ln -f "),
    (lose_a_pixel, "pixels_listed", "mkdir -p .* && ln -f "),
    (add_a_file, "file_expected", "rm "),
    (swap_two_files, "file_size", LINK),
    (truncate_a_file, "file_size", LINK),
    (truncate_a_file, "file_readable", LINK),
    (repeat_a_frame, "frame_once", INGEST),
    (misplace_a_file, "file_pixel", INGEST),
    (misplace_a_row, "file_pixel", INGEST),
    (leave_metadata_stale, "pixels_listed", ROLLBACK),
    (leave_row_groups_stale, "metadata_current", "rm .*_metadata"),
    (leave_another_schema_told, "table_schema", ROLLBACK),
    (orphan_rows, "zeropoint_of_frame", "skylake calibrate"),
    (orphan_rows, "night_counted", INGEST),
    (orphan_a_night, "batch_of_frames", "skylake (calibrate|aggregate|rollback)"),
    (count_wrongly, "table_counted", "sed -i"),
    (tell_wrong_rows, "file_counted", LINK),
    (widen_a_column, "file_schema", INGEST),
    (
        lose_a_column,
        "file_schema",
        "rm -f .*zeropoints.* && skylake calibrate .* --catalog simcat --version 1",
    ),
    (lose_the_pointer, "pointer", "ln -sfn _snapshots/"),
    (dangle_the_pointer, "pointer", "ln -sfn _snapshots/"),
    (make_the_pointer_a_file, "pointer", "mv .* && ln -sfn _snapshots/"),
    (lose_the_link_of_a_table, "pointer", "ln -sfn current/sources"),
    (dangle_a_table, "snapshot_whole", r"ln -sfn \.\./\.\./_versions/nights/"),
    (lose_a_table, "snapshot_whole", r"ln -sfn \.\./\.\./_versions/maps/.*000003/maps"),
    (lose_a_record, "snapshot_recorded", "restore .*_ledger/000004.json"),
    (spoil_a_record, "document_readable", "restore .*000004.json"),
    (lose_a_member, "document_readable", LINK),
    (lose_a_member, "bundle_whole", LINK),
    (lose_a_name, "bundle_whole", LINK),
    (lose_a_name, "bundle_file_whole", LINK),
    (describe_a_part_twice, "part_once", ROLLBACK),
    (spoil_a_description, "document_readable", LINK),
    (lose_a_description, "file_expected", LINK),
    (spoil_the_properties, "document_readable", ROLLBACK),
    (spoil_the_settings, "document_readable", "correct .*skylake.toml"),
    (lose_a_profile, "camera_profile", "skylake ingest"),
    (lose_the_catalog, "catalog_whole", "skylake catalog import .* simcat --replace"),
    (lose_stars_of_a_catalog, "catalog_whole", "skylake catalog import .* simcat --replace"),
]
#: These take a reading of every row.
DEEP: list[tuple[Damage, str, str]] = [
    (flip_a_bit, "file_sha256", LINK),
    (flip_a_bit_in_all_versions, "file_sha256", ROLLBACK),
    (misplace_a_row, "rows_of_pixel", INGEST),
    (misplace_a_row, "rows_placed", INGEST),
    (orphan_rows, "source_of_frame", INGEST),
    (hold_nan, "no_nan", INGEST),
    (sort_otherwise, "rows_sorted", "rm -f .* && skylake calibrate .* --catalog simcat"),
    (lie_in_statistics, "statistics_true", ROLLBACK),
    (move_a_position, "rows_placed", INGEST),
    (put_a_foreign_night_in, "rows_of_parts", INGEST),
    (put_a_foreign_night_in, "source_of_frame", "skylake ingest .* --from 19991231"),
    (repeat_a_detection, "source_once", INGEST),
    (change_a_value, "part_content", INGEST),
    (match_a_star_twice, "match_one_to_one", ROLLBACK),
]


@pytest.mark.parametrize(("damage", "check", "mend"), FAST, ids=lambda one: getattr(one, "__name__", None))
def test_damage_is_found_at_a_glance(damage: Damage, check: str, mend: str, patient: Patient) -> None:
    broken = damage(patient)
    report = patient.verify()
    assert check in report.failed
    assert re.search(f"{broken}.* => .*{mend}", told(report, check)), told(report, check)


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "check", "mend"), DEEP, ids=lambda one: getattr(one, "__name__", None))
def test_damage_is_found_by_reading_every_row(
    damage: Damage, check: str, mend: str, patient: Patient
) -> None:
    broken = damage(patient)
    report = patient.verify(deep=True, only=(check,))
    assert check in report.failed
    assert re.search(f"{broken}.* => .*{mend}", told(report, check)), told(report, check)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", [flip_a_bit, lose_the_pointer, spoil_a_description, truncate_a_file, dangle_a_table]
)
def test_verifying_a_damaged_lake_changes_nothing(
    damage: Damage, patient: Patient, digests: Callable[[Path], dict[str, str]]
) -> None:
    damage(patient)
    before = digests(patient.root)
    assert not patient.verify(deep=True).all_well
    assert digests(patient.root) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lose_a_file, flip_a_bit, lose_a_name, lose_the_pointer, lose_a_table,
        *(
            pytest.param(damage, marks=pytest.mark.slow)
            for damage in (
                lose_a_bundled_file, truncate_a_file, lose_a_member, spoil_a_description, lose_a_description,
                tell_wrong_rows, count_wrongly, dangle_the_pointer, make_the_pointer_a_file, dangle_a_table,
                add_a_file, lose_the_link_of_a_table, leave_row_groups_stale,
            )
        ),
    ],
)  # fmt: skip
def test_the_command_that_is_given_repairs_the_damage(damage: Damage, patient: Patient) -> None:
    damage(patient)
    report = patient.verify(deep=True)
    commands = {
        finding["repair"]
        for check in report.checks
        for finding in check["findings"]
        if finding["repair"].split()[0] in ("ln", "rm", "mv", "sed", "mkdir")
    }
    assert commands
    for command in sorted(commands):
        subprocess.run(command, shell=True, check=True)
    assert patient.verify(deep=True).failed == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lose_a_record, spoil_a_record])
def test_one_can_live_without_a_record_of_the_ledger(damage: Damage, patient: Patient) -> None:
    damage(patient)
    (mend,) = {finding["repair"] for check in patient.verify().checks for finding in check["findings"]}
    subprocess.run(mend.partition("only the history lacks it: ")[2], shell=True, check=True)
    assert patient.verify(deep=True).failed == []
    lake = Lake(patient.root)
    assert [entry.stage for entry in lake.history() if entry.snapshot == 4] == ["lost"]
    times = [entry.time_utc for entry in lake.history()]
    assert times == sorted(times)
    with lake.snapshot().duckdb() as connection:
        assert connection.sql("SELECT DISTINCT stage FROM ledger WHERE snapshot = 4").fetchall() == [
            ("lost",)
        ]


def test_a_night_with_a_lost_file_is_fixed_by_ingesting(
    ingested: Lake, run: Callable[..., Any], archive: Any
) -> None:
    patient = Patient(ingested.root)
    lost = max((patient.folder("sources") / "dataset").rglob("*.parquet"), key=lambda path: path.name)
    lost.unlink()
    report = patient.verify()
    assert re.search(r"--redo --from (\d+) --to \1 PATH", told(report, "file_present"))
    nights = [int(night) for night in re.findall(r"--from (\d+)", told(report, "file_present"))]
    run(ingested, archive.out / "frames", redo=True, first_night=nights[0], last_night=nights[0])
    assert patient.verify(deep=True).all_well


def test_a_snapshot_of_the_past_is_verified_as_it_was(patient: Patient) -> None:
    report = patient.verify(deep=True, as_of="5")
    assert (report.snapshot, report.all_well) == (5, True)
    lost = min((patient.root / "_snapshots" / "000005" / "sources" / "dataset").rglob("*.parquet"))
    lost.unlink()
    assert patient.verify().all_well
    assert "file_present" in patient.verify(as_of="5").failed


def test_all_tables_are_reported_though_one_is_lost(patient: Patient) -> None:
    dangle_a_table(patient)
    lose_a_file(patient)
    facts = open_facts(patient.root)
    assert set(facts.folders) == set(table_names()) - {"nights"}
    assert {"snapshot_whole", "file_present"} <= set(patient.verify().failed)


def test_only_so_many_things_are_shown_and_all_are_counted(patient: Patient) -> None:
    for path in (patient.folder("nights") / "dataset").glob("*.parquet"):
        path.unlink()
    report = patient.verify(show=2)
    (check,) = [one for one in report.checks if one["name"] == "file_present"]
    assert (check["n_found"], len(check["findings"])) == (11, 2)


def test_named_checks_run_alone(patient: Patient) -> None:
    report = patient.verify(only=("frame_once", "rows_sorted"))
    assert sorted(one["name"] for one in report.checks) == ["frame_once", "rows_sorted"]
    with pytest.raises(UsageError, match="there is no check 'frames'; the checks are"):
        open_facts(patient.root, VerifyOptions(only=("frames",)))


def test_no_lake_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="there is no lake"):
        open_facts(tmp_path)


@pytest.mark.slow
def test_digests_of_a_bundle_add_up_where_its_parts_are_thinned(patient: Patient) -> None:
    """A bundle from which a member was taken is as whole as before."""
    from skylake.lake import Commit

    lake = Lake(patient.root)
    bundle = Bundle.read(patient.description(patient.bundled()))
    commit = Commit("test", "-")
    for table in ("frames", "sources"):
        commit.remove(table, bundle.names[0])
    for table in ("matches", "zeropoints"):
        (name,) = [one for one in lake.snapshot().parts(table) if one.startswith(bundle.names[0])]
        commit.remove(table, name)
    lake.commit(commit)
    aggregate(lake, (), Inline())
    report = patient.verify(deep=True)
    assert report.all_well, report.failed
    parts = lake.snapshot().parts("sources").values()
    assert add_digests(part.checksum for part in parts) == rows_digest(lake.snapshot().read("sources"))


def test_row_groups_are_checked_where_each_pixel_has_one_file(patient: Patient) -> None:
    folder = patient.folder("sources")
    assert not write_row_group_metadata(folder), "two nights came after the compaction"
    compact(Lake(patient.root), Inline(), ["sources"], everything=True)
    folder = patient.folder("sources")
    assert write_row_group_metadata(folder)
    metadata = pq.read_metadata(folder / "dataset" / "_metadata")
    assert metadata.num_rows == Lake(patient.root).snapshot().n_rows("sources")
    found = {metadata.row_group(i).column(0).file_path for i in range(metadata.num_row_groups)}
    assert found == {str(path.relative_to(folder / "dataset")) for path in patient._files("sources")}
    schema = pq.read_schema(folder / "dataset" / "_common_metadata")
    # No frame has more than three apertures.
    stored = stored_schema(schema, ["more_apertures"])
    assert metadata.schema.to_arrow_schema().equals(stored, check_metadata=True)
    report = patient.verify(hats=True)
    assert report.all_well, report.failed


@pytest.mark.slow
@pytest.mark.parametrize("table", ["matches", "zeropoints", "nights", "lightcurves", "maps"])
def test_a_derived_part_with_a_lost_file_is_made_again(table: str, calibrated: Lake) -> None:
    """And nothing else is made, by the command that is given."""
    patient = Patient(calibrated.root)
    before = calibrated.snapshot().read(table)
    lost = max(patient._files(table), key=lambda path: path.name)
    lost.unlink()
    report = patient.verify()
    assert "file_present" in report.failed
    command = "calibrate" if table in ("matches", "zeropoints") else f"aggregate {patient.root} {table}"
    assert re.search(
        f"{lost.name}.* => rm -f .*{lost.name} && skylake {command}", told(report, "file_present")
    )
    assert list(outdated(calibrated)[table].why.values()) == [Why.LOST]
    if table in ("matches", "zeropoints"):
        done = calibrate(calibrated, Inline(), "simcat")
        assert len(done.batches) == 1
    else:
        assert aggregate(calibrated, [table], Inline()).refreshed == {table: 1}
    assert calibrated.snapshot().read(table).equals(before)
    assert patient.verify(deep=True).all_well
    assert not any(state.why for state in outdated(calibrated).values())


@dataclasses.dataclass(frozen=True)
class Kept:
    """A lake with a file of each kind that stands beside the tables, and what makes each again."""

    lake: Lake
    again: dict[str, Callable[[], object]]

    def failed(self, *checks: str) -> dict[str, str]:
        report = Patient(self.lake.root).verify(deep=True, only=checks)
        return {check: told(report, check) for check in report.failed}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    lake = Lake.create(folder / "lake", Settings(pixel_order=0, cluster="inline"))
    random = np.random.default_rng(8)
    n = 3000
    columns = {
        "ra": random.uniform(0, 360, n),
        "dec": random.uniform(-70, 70, n),
        "V": random.uniform(5, 12, n),
    }
    pq.write_table(pa.table(columns), folder / "stars.parquet")
    profile = load_profile("sim")
    configuration = {"stage": "test", "numbers": [1, 2.5], "names": {"b": None, "a": "é"}}
    lens = Lens.from_parameters(np.arange(13) / 7.0 + 0.1, "equisolid", True)
    geometry = Geometry(
        lens, (1040, 1392), 58000.1, 58000.5, 12, 9000, 0.34, 0.35, np.diag(np.arange(13) * 1e-7)
    )
    stars = CatalogColumns(ra="ra", dec="dec", magnitudes={"V": "V"})
    again: dict[str, Callable[[], object]] = {
        "catalogs/sky/": lambda: import_catalog(
            lake, "sky", "table", [folder / "stars.parquet"], stars, replace=True
        ),
        "catalogs/sky.asterisms": lambda: index_catalog(lake.snapshot(), "sky", None, 20.0, 60.0),
        "_cameras/sim.json": lambda: lake.keep_profile(profile),
        "_cameras/sim.geometries.parquet": lambda: write_geometries(lake.layout, "sim", [geometry]),
        "_cameras/sim.repeats.parquet": lambda: write_repeats(lake, "sim", {"a.fits": (1, 2, 3)}),
        "_ledger/configurations/": lambda: keep_configurations(
            lake.layout, {config_sha256(configuration): configuration}
        ),
    }
    for make in again.values():
        make()
    return Kept(lake, again)


#: What flips are tried in, the check that finds them, and the repair that it gives.
BESIDES = [
    (
        "catalogs/sky/sky/dataset/*/*/*/*.parquet",
        "catalog_sha256",
        r"skylake catalog import \S+ sky --replace …",
    ),
    ("catalogs/sky/sky_margin/dataset/*/*/*/*.parquet", "catalog_sha256", "skylake catalog import .* sky"),
    ("catalogs/sky/sky/hats.properties", "catalog_sha256", "skylake catalog import .* sky"),
    ("catalogs/sky/sky/dataset/_common_metadata", "catalog_sha256", "skylake catalog import .* sky"),
    (
        "catalogs/sky/_objects.json",
        "document_readable|catalog_files|catalog_sha256",
        "skylake catalog import .* sky",
    ),
    ("catalogs/sky.asterisms", "index_whole", r"skylake catalog index \S+ sky"),
    ("_cameras/sim.json", "document_readable", r"skylake ingest \S+ --camera"),
    ("_cameras/sim.geometries.parquet", "document_readable", "rm .* && skylake camera learn .* --camera sim"),
    ("_cameras/sim.repeats.parquet", "document_readable", "rm "),
    ("_ledger/configurations/*.json", "document_readable", "mv "),
]


@pytest.mark.slow
@pytest.mark.parametrize(("files", "checks", "mend"), BESIDES, ids=lambda one: one if "/" in one else "")
def test_a_bit_that_is_flipped_anywhere_is_found(files: str, checks: str, mend: str, kept: Kept) -> None:
    path = min(kept.lake.root.glob(files))
    whole, random, names = path.read_bytes(), np.random.default_rng(len(files)), checks.split("|")
    assert not kept.failed(*names)
    for place in random.choice(8 * len(whole), 16, replace=False):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        found = "\n".join(kept.failed(*names).values())
        name = "" if path.name == "_objects.json" else path.name  # one that names another file blames that
        assert re.search(f"{name}.*=> .*{mend}", found), (place, found)
    if mend in ("mv ", "rm "):
        command = found.partition("=> ")[2]
        subprocess.run(command.rpartition("again: ")[2], shell=True, check=True)
        assert not kept.failed(*names)
    [make] = [
        make for start, make in kept.again.items() if str(path.relative_to(kept.lake.root)).startswith(start)
    ]
    make()
    assert path.read_bytes() == whole
    assert not kept.failed(*names)


def test_a_catalog_of_an_older_skylake_is_read_by_its_pages(kept: Kept, tmp_path: Path) -> None:
    lake = Lake(shutil.copytree(kept.lake.root, tmp_path / "lake", symlinks=True))
    (lake.root / "catalogs/sky/_objects.json").unlink()
    mine = Kept(lake, {})
    assert list(mine.failed("catalog_files", "catalog_sha256", "catalog_listed")) == ["catalog_listed"]
    assert "imported before checksums" in mine.failed("catalog_listed")["catalog_listed"]
    path = min(lake.root.glob("catalogs/sky/sky/dataset/*/*/*/*.parquet"))
    flip_in_column(path, "mag_V")
    assert path.name in mine.failed("catalog_sha256")["catalog_sha256"]


def flip_in_column(path: Path, name: str) -> None:
    """Flip a bit in the values of a column."""
    group = pq.read_metadata(path).row_group(0)
    (column,) = [group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == name]
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 5] ^= 4
    path.unlink()
    path.write_bytes(content)


def test_no_wrong_magnitude_is_read_from_a_damaged_catalog(kept: Kept, tmp_path: Path) -> None:
    lake = Lake(shutil.copytree(kept.lake.root, tmp_path / "lake", symlinks=True))
    paths = [
        min(lake.root.glob(f"catalogs/sky/sky{kind}/dataset/*/*/*/*.parquet")) for kind in ("", "_margin")
    ]
    order, number = pixel_of(paths[0]) or (0, 0)
    ra, dec = (float(one[0]) for one in healpix_centre(np.array([number]), order))
    reference = ReferenceCatalog.open(lake.layout.catalog("sky"))
    assert reference.cone(ra, dec, 20.0).num_rows
    detections = tmp_path / "detections"
    table = pa.table(
        {"_healpix_29": healpix_index(np.array([ra]), np.array([dec])), "ra_deg": [ra], "dec_deg": [dec]}
        | {"frame_id": [1], "source_no": pa.array([1], pa.int32()), "mjd_mid": [60000.0]}
    )
    write_parquet(table, detections / leaf_folder(order, number) / "x.parquet")
    write_metadata(detections, load("sources"), Properties("detections", "object", 1), [(order, number)])
    write_common_metadata(detections, table.schema)
    uses: list[Callable[[], object]] = [
        lambda: reference.cone(ra, dec, 20.0, ["mag_V"]),
        lambda: StarField(reference, "V").at(ra, dec, 20.0, 60000.0),
        lambda: index_catalog(lake.snapshot(), "sky", None, 20.0, 60.0),
        lambda: join_catalog(detections, reference.collection, (), ("mag_V",), 5.0),
    ]
    for use in uses:
        use()
    flip_in_column(paths[0], "mag_V")
    for use in uses:
        with pytest.raises(CatalogError, match="the catalog is damaged") as error:
            use()
        assert str(error.value).startswith(str(paths[0]))
        assert f"skylake catalog import {lake.root} sky --replace" in str(error.value)
