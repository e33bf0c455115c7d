"""The SQL that people run: questions of analysts, and checks that find what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import duckdb
import pytest

from skylake.lake import Lake
from skylake.lake.integrity.check_queries import fill, load_checks
from skylake.lake.integrity.lake_facts import Facts, gather_facts
from skylake.lake.integrity.repairs import Repairs
from skylake.lake.integrity.run_checks import recorded_files
from skylake.lake.integrity.scan_files import scan_files
from skylake.lake.layout import Layout
from skylake.lake.storage.fact_relations import RELATIONS
from skylake.resources import folder as declarations
from skylake.schema import empty_table, load

TABLES = (
    "frames",
    "sources",
    "matches",
    "zeropoints",
    "nights",
    "lightcurves",
    "targets",
    "forced_sources",
    "forced_lightcurves",
)
#: A table that a lake of reduced frames has no rows of, and a row of it.
UNFILLED = ("masters",)
FILLING = (
    """INSERT INTO masters BY NAME SELECT 'c-bias' AS name, 'c' AS camera, 'calibrations/c/c-bias.fits' AS file,
       80 AS file_bytes, 'abc' AS sha256, 60000.0 AS valid_from_mjd, 60010.0 AS valid_to_mjd, 60001.0 AS mjd_mid""",
    "INSERT INTO master_files SELECT file, file_bytes FROM masters",
    "INSERT INTO master_scans SELECT file, sha256 FROM masters",
)
#: For each check a damage that it must find.
DAMAGE = {
    "batch_of_frames": "DELETE FROM lake_parts WHERE table_name = 'frames'",
    "bundle_file_whole": "UPDATE lake_files SET kind = 'bundle', n_rows = n_rows + 1",
    "bundle_whole": "INSERT INTO lake_bundles VALUES ('sources', 'b', 1, 8, 7, 0, 0, '_bundles/b.json')",
    "camera_profile": "DELETE FROM cameras",
    "catalog_files": "UPDATE catalog_files SET n_bytes = n_bytes - 1",
    "catalog_listed": "UPDATE lake_catalogs SET is_listed = false",
    "catalog_sha256": "INSERT INTO catalog_scans SELECT file, 'another', NULL FROM catalog_files",
    "catalog_whole": "UPDATE lake_catalogs SET n_rows = n_rows - 1",
    "document_readable": "INSERT INTO documents VALUES ('_ledger/000001.json', 'record', NULL, 'it is empty')",
    "file_counted": "UPDATE disk_files SET n_rows = n_rows + 1",
    "file_expected": "DELETE FROM lake_files WHERE table_name = 'frames'",
    "file_pixel": "UPDATE disk_files SET index_max = index_max + 400000000000000000",
    "file_present": "DELETE FROM disk_files WHERE table_name = 'frames'",
    "file_readable": "UPDATE disk_files SET problem = 'no footer'",
    "file_schema": "UPDATE disk_files SET drift = 'the column night is missing'",
    "file_sha256": "UPDATE file_scans SET sha256 = 'another'",
    "file_size": "UPDATE disk_files SET n_bytes = n_bytes - 1",
    "frames_counted": "DELETE FROM frames WHERE frame_id = (SELECT min(frame_id) FROM frames)",
    "hats_valid": "INSERT INTO hats_validations VALUES ('sources', '_versions/sources/000002', 'it is not valid')",
    "metadata_current": "INSERT INTO metadata_files VALUES ('sources', 'dataset/gone.parquet', 3)",
    "night_counted": "UPDATE frames SET n_detected = n_detected + 1",
    "no_nan": "INSERT INTO nan_scans VALUES ('sources', 'dataset/a.parquet', 'flux_kron', 1)",
    "part_content": "UPDATE part_scans SET digest = digest - 1",
    "part_once": "INSERT INTO lake_parts FROM lake_parts LIMIT 1",
    "pixels_apart": "INSERT INTO pixels SELECT table_name, norder + 1, npix * 4 + 2, true, 1 FROM pixels",
    "pixels_listed": "UPDATE pixels SET is_listed = false",
    "pointer": "UPDATE pointers SET problem = 'is missing'",
    "rows_of_parts": "UPDATE file_scans SET n_foreign = 1",
    "rows_of_pixel": "UPDATE file_scans SET n_outside = 1",
    "rows_placed": "UPDATE file_scans SET n_misplaced = 1",
    "rows_readable": "UPDATE file_scans SET problem = 'corrupt'",
    "rows_sorted": "UPDATE file_scans SET n_unsorted = 1",
    "snapshot_recorded": "DELETE FROM ledger WHERE snapshot = 2",
    "snapshot_whole": "UPDATE snapshot_tables SET problem = 'is missing' WHERE snapshot = 2",
    "statistics_true": "INSERT INTO statistics_scans VALUES ('sources', 'a.parquet', 0, 'night', '1 to 2', '1 to 3')",
    "table_counted": "UPDATE lake_tables SET n_rows_recorded = n_rows_recorded + 1",
    "table_schema": "UPDATE lake_tables SET schema_common = 'another'",
    "forced_counted": "UPDATE frames SET n_targets = n_targets + 1",
    "forced_lightcurve_once": "UPDATE forced_lightcurves SET lightcurve = "
    "struct_update(lightcurve, frame_id := [1, 1])",
    "forced_of_frame": "UPDATE forced_sources SET night = night + 1 "
    "WHERE star_id = (SELECT min(star_id) FROM targets)",
    "forced_of_target": "UPDATE forced_sources SET _healpix_29 = _healpix_29 + 1",
    "forced_once": "INSERT INTO forced_sources FROM forced_sources LIMIT 1",
    "frame_once": "INSERT INTO frames FROM frames LIMIT 1",
    "frame_status": "UPDATE frames SET reason = 'trailed' WHERE status = 'ok'",
    "index_whole": "INSERT INTO index_scans VALUES ('c', 'catalogs/c.asterisms', 'its header has changed')",
    "lightcurve_point_once": "UPDATE lightcurves SET lightcurve = struct_update(lightcurve, frame_id := "
    "list_concat(lightcurve.frame_id, lightcurve.frame_id))",
    "lightcurve_once": "UPDATE lightcurves SET n_points = n_points + 1",
    "master_interval": "UPDATE masters SET valid_to_mjd = valid_from_mjd",
    "master_once": "INSERT INTO masters FROM masters",
    "master_present": "UPDATE master_files SET n_bytes = n_bytes - 1",
    "master_sha256": "UPDATE master_scans SET sha256 = NULL",
    "match_of_source": "DELETE FROM sources WHERE source_no = 7",
    "match_one_to_one": "UPDATE matches SET ref_id = 1",
    "nights_counted": "DELETE FROM frames WHERE frame_id = (SELECT min(frame_id) FROM frames)",
    "source_in_range": "UPDATE sources SET mjd_mid = mjd_mid + 1e-6 WHERE source_no = 7",
    "source_of_frame": "DELETE FROM frames WHERE status = 'ok'",
    "source_once": "INSERT INTO sources FROM sources LIMIT 1",
    "sources_counted": "DELETE FROM sources WHERE source_no = 7",
    "target_in_range": "UPDATE targets SET dec_deg = 91",
    "target_once": "INSERT INTO targets FROM targets LIMIT 1",
    "zeropoint_of_frame": "DELETE FROM frames WHERE status = 'ok'",
    "zeropoint_once": "INSERT INTO zeropoints FROM zeropoints LIMIT 1",
}

pytestmark = pytest.mark.xdist_group("docs-sql")


@pytest.fixture(scope="module")
def tables(demo_folder: Path, facts: Facts) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables of a lake, in memory. Tests do not change them."""
    with Lake(demo_folder / "demo" / "lake").snapshot().duckdb() as lake, duckdb.connect() as connection:
        for name in TABLES:
            rows = lake.table(f"blocks.{name}" if load(name).in_blocks else name).to_arrow_table()
            connection.execute(f"CREATE TABLE {name} AS FROM rows")
            assert len(rows) > 0
        for name in RELATIONS:
            rows = facts.relations.table(name)
            connection.execute(f"CREATE TABLE {name} AS FROM rows")
        for name in UNFILLED:
            rows = empty_table(load(name))
            connection.execute(f"CREATE TABLE {name} AS FROM rows")
        for statement in FILLING:
            connection.execute(statement)
        yield connection


@pytest.fixture
def copy(tables: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same, to be damaged: what a test does to them is undone."""
    tables.begin()
    yield tables
    tables.rollback()


@pytest.fixture(scope="module")
def facts(demo_folder: Path) -> Facts:
    """What is known of the lake, every row of its files read."""
    found = gather_facts(Layout(demo_folder / "demo" / "lake"))
    for scan in scan_files(recorded_files(found)):
        for relation, row in scan.relations():
            found.relations.extend(relation, [row])
    return found


def check(name: str) -> str:
    return (declarations("sql") / "checks" / f"{name}.sql").read_text(encoding="utf-8")


def test_every_check_states_its_law_search_and_fix(
    copy: duckdb.DuckDBPyConnection,
) -> None:
    """Templates name columns of the offending rows, or repairs that are worked out from these."""
    for one in load_checks():
        columns = {column[0] for column in copy.execute(one.sql).description or ()}
        asked = {name for _, name, _, _ in Formatter().parse(one.says + one.repair) if name}
        repairs = {name for name in asked if name == "lake" or name.endswith("_repair")}
        assert asked - repairs <= columns, one.name
        row = dict.fromkeys(columns)
        assert repairs <= Repairs.NAMES
        assert one.sentence.endswith(".")
        assert fill(one.says, row)


def test_every_check_has_its_damage() -> None:
    assert {path.stem for path in (declarations("sql") / "checks").glob("*.sql")} == set(DAMAGE)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_check_passes_a_whole_lake_and_finds_a_damage(name: str, copy: duckdb.DuckDBPyConnection) -> None:
    assert copy.execute(check(name)).fetchall() == []
    copy.execute(DAMAGE[name])
    assert copy.execute(check(name)).fetchall() != []


def test_the_questions_of_analysts_have_answers(demo_folder: Path) -> None:
    text = (declarations("sql") / "duckdb" / "questions.sql").read_text(encoding="utf-8")
    questions = [question for question in text.split(";") if "SELECT" in question]
    assert len(questions) == 15
    with Lake(demo_folder / "demo" / "lake").snapshot().duckdb() as connection:
        answers = [connection.execute(question).fetchall() for question in questions]
    assert sum(bool(answer) for answer in answers) >= 12
