"""``skylake publish``, and reading commands that are given a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("s3")

#: Reading commands with LAKE in place of the lake; what they print does not name it.
READING = [
    ["sql", "LAKE", "SELECT * FROM calibrated_frames ORDER BY frame_id", "--format", "csv"],
    ["sql", "LAKE", "SELECT count(*), min(ref_id) FROM catalogs.sky", "--format", "json"],
    ["cone", "LAKE", "sources", "RA", "DEC", "600"],
    ["lc", "LAKE", "--ra", "RA", "--dec", "DEC", "--radius", "3600"],
    ["map", "LAKE", "visits"],
    ["catalog", "list", "LAKE", "--json"],
    ["catalog", "show", "LAKE", "CATALOG", "--json"],
    ["catalog", "cone", "LAKE", "CATALOG", "RA", "DEC", "600"],
    ["catalog", "box", "LAKE", "CATALOG", "8", "9", "-20", "-19", "--mag", "V=:12"],
    ["catalog", "coverage", "LAKE", "CATALOG"],
]


@pytest.fixture
def url(well: Any, lake: Path, s3: Any) -> str:
    """The URL of a small survey on S3; it has to be quoted everywhere."""
    url = f"{s3.url}/it's a lake"
    assert "snapshot" in well("publish", lake, url).out
    return url


def test_reading_commands_take_a_url(url: str, lake: Path, well: Any) -> None:
    catalog = well("status", lake, "--json").json["catalogs"][0]
    star = "SELECT ra_deg, dec_deg FROM lightcurves ORDER BY n_points DESC, object_id LIMIT 1"
    place = well("sql", lake, star, "--format", "json").json[0]
    words = {"RA": place["ra_deg"], "DEC": place["dec_deg"], "CATALOG": catalog}
    for command in READING:
        filled = [
            str(words.get(word, word)).replace("catalogs.sky", f"catalogs.{catalog}") for word in command
        ]
        here, there = (well(*(where if word == "LAKE" else word for word in filled)) for where in (lake, url))
        assert there.out == here.out, filled
    here, there = (well("status", where, "--json").json for where in (lake, url))
    assert there.pop("lake") == url and here.pop("lake")
    assert there == here


@pytest.mark.slow
def test_a_lake_is_matched_with_tables_behind_urls(
    url: str, lake: Path, new_lake: Path, well: Any, skylake_command: Any
) -> None:
    sources, stars = well("path", url, "sources").out.strip(), f"{url}/catalogs/simcat"
    columns = ("--left-columns", "frame_id,source_no", "--right-columns", "ref_id")
    far = well("crossmatch", new_lake, sources, stars, "-o", "far", "--radius", 20, *columns, "--json").json
    near = (well("path", lake, "sources").out.strip(), lake / "catalogs" / "simcat")
    assert (
        well("crossmatch", new_lake, *near, "-o", "near", "--radius", 20, *columns, "--json").json["n_rows"]
        > 20
    )
    query = "SELECT count(*) AS n FROM (FROM far INTERSECT FROM near)"
    assert well("sql", new_lake, query, "--format", "json").json == [{"n": far["n_rows"]}]
    answer = skylake_command("crossmatch", new_lake, sources, f"{url}/catalogs/none", "-o", "x")
    assert "catalogs/none: no HATS catalog can be read there" in answer.sentence


@pytest.mark.slow
def test_the_path_of_a_table_is_what_lsdb_opens(url: str, well: Any) -> None:
    import lsdb
    from upath import UPath

    path = well("path", url, "sources").out.strip()
    assert path.startswith(f"{url}/_versions/sources/")
    assert (
        len(lsdb.open_catalog(UPath(path), columns=["frame_id"]))
        == well("status", url, "--json").json["tables"]["sources"]
    )


@pytest.mark.slow
def test_history_shows_what_can_be_read(url: str, lake: Path, well: Any, skylake_command: Any) -> None:
    commits = well("history", url, "--json").json
    assert [one["snapshot"] for one in commits] == [
        one["snapshot"] for one in well("history", lake, "--json").json
    ]
    assert [one["kept"] for one in commits] == [False] * (len(commits) - 1) + [True]
    assert well("history", url).out.count("not published") == len(commits) - 1
    answer = skylake_command("status", url, "--as-of", "1")
    assert answer.status == 2 and "not among the published" in answer.sentence


@pytest.mark.slow
def test_a_report_is_made_from_a_url(url: str, well: Any, tmp_path: Path) -> None:
    well("report", url, tmp_path / "report")
    assert "it's a lake" in (tmp_path / "report" / "index.html").read_text().replace("&#39;", "'")


@pytest.mark.parametrize(
    "command",
    [["init", "URL"], ["vacuum", "URL"], ["rollback", "URL", "1"], ["compact", "URL"], ["mirror", "URL"],
     ["aggregate", "URL"], ["run", "nightly", "URL", "-c", "sim", "x"], ["publish", "URL", "URL"]],
)  # fmt: skip
def test_writing_commands_refuse_a_url(command: list[str], skylake_command: Any) -> None:
    url = "s3://bucket/lake"
    answer = skylake_command(*(url if word == "URL" else word for word in command))
    assert answer.status == 2
    assert "a published lake can only be read" in answer.sentence


def test_publish_shows_what_it_did(lake: Path, s3: Any, well: Any) -> None:
    url = f"{s3.url}/lake"
    told = well("publish", lake, url, "--dry-run", "--json").json
    assert told["dry_run"] and told["n_sent"] > 0
    assert "would be sent" in well("publish", lake, url, "--dry-run").out
    done = well("publish", lake, url, "--json").json
    assert {**done, "dry_run": True} == told
    assert " 0 files with 0.0 MB sent" in well("publish", lake, url).out


def test_what_is_wrong_is_reported_in_a_sentence(lake: Path, s3: Any, skylake_command: Any) -> None:
    for command, status, words in [
        (["publish", lake, "s3://no-such-bucket/lake"], 3, "check the name of the bucket"),
        (["publish", lake, "there"], 2, "published to a URL"),
        (["publish", lake, "nonsense://there"], 2, "nonsense://"),
        (["status", f"{s3.url}/nothing"], 3, "skylake publish LAKE"),
        (["sql", "nonsense://there", "SELECT 1"], 2, "nonsense://"),
    ]:
        answer = skylake_command(*command)
        assert answer.status == status and words in answer.sentence


@pytest.mark.slow
def test_a_snapshot_that_is_gone_is_reported_while_it_is_read(
    url: str, s3: Any, well: Any, skylake_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    store = s3fs.S3FileSystem()
    store.rm(f"{well('path', url, 'sources').out.strip()}/_objects.json")
    answer = skylake_command("cone", url, "sources", "10", "10", "60")
    assert answer.status == 3
    assert answer.sentence.startswith(f"{url}/_versions/sources/") and "no longer exists" in answer.sentence
