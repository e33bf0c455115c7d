"""A lake that was published behind a web server, which knows neither times of files nor, often, parts of them."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skylake
from skylake.errors import LakeError
from skylake.lake import Lake, publish_snapshot
from skylake.places import Reaching, place, store


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL of a folder behind a server that sends whole files only."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_queries_are_answered(tmp_path: Path, served: str, make_rows: Any, put: Any) -> None:
    lake = Lake.create(tmp_path / "lake")
    put(lake, ("frames", "night-1", make_rows("frames", 60)))
    publish_snapshot(lake.snapshot(), (tmp_path / "published").as_uri())
    query = "SELECT frame_id, status FROM frames ORDER BY ALL"
    there, here = (skylake.open(one).sql(query).arrow() for one in (f"{served}/published", lake.root))
    assert there.equals(here) and here.num_rows == 60


def test_a_server_that_sends_no_parts_is_named_with_the_fix(tmp_path: Path, served: str) -> None:
    (tmp_path / "large").write_bytes(bytes(100_000))
    large = place(f"{served}/large")
    with (
        pytest.raises(
            LakeError, match=f"{served}/large: the server gives whole files only, .* use one that answers"
        ),
        Reaching(large),
        store(large).open(f"{served}/large", block_size=1000) as stream,
    ):
        stream.seek(50_000)
        stream.read(10)
