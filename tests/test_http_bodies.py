from __future__ import annotations

import http.server
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from skylake.errors import CatalogError, LakeError
from skylake.http_bodies import MOST_BYTES
from skylake.places import Reaching, key, place, store
from skylake.sky.hats_in_place import columns_of

pytestmark = pytest.mark.full

BLOCK = b"hats_nrows=1\n" * 10_000


class Endless(http.server.BaseHTTPRequestHandler):
    """Sends text until nobody takes it any more, whatever part was asked for."""

    sent = 0

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        is_part = "Range" in self.headers
        self.send_response(206 if is_part else 200)
        if is_part:
            self.send_header("Content-Range", "bytes 0-99/1000000000000")
        self.end_headers()
        try:
            while True:
                type(self).sent += self.wfile.write(BLOCK)
        except OSError:
            return

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def endless() -> Iterator[str]:
    Endless.sent = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/catalog"
        server.shutdown()
        thread.join()


def test_a_body_without_an_end_is_refused(endless: str) -> None:
    tracemalloc.start()
    with pytest.raises((CatalogError, LakeError), match=f"sends more than {MOST_BYTES} bytes of {endless}/"):
        columns_of(endless)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MOST_BYTES


def test_of_a_part_no_more_is_read_than_was_asked_for(endless: str) -> None:
    where = place(endless)
    with pytest.raises(LakeError, match="sends more than 100 bytes of"), Reaching(endless):
        store(where).cat_file(key(where), start=0, end=100)
    assert Endless.sent < 64 << 20
