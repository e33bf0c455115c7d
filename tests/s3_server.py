"""An S3 server on this machine, ``python s3_server.py LOG``, which prints its address and notes what it was asked.

Each request is a line of JSON: method, path, query and the bytes of the answer.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Told:
    """Writes every request that passes through to a file."""

    def __init__(self, application: Callable[..., Iterable[bytes]], log: Path) -> None:
        self.application, self.log, self.lock = application, log, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = [bytes(piece) for piece in self.application(environ, start_response)]
        told = {
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"],
            "query": environ["QUERY_STRING"],
            "copy": "HTTP_X_AMZ_COPY_SOURCE" in environ,
            "bytes": sum(map(len, answer)) if environ["REQUEST_METHOD"] == "GET" else 0,
        }
        with self.lock, self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(told) + "\n")
        return answer


class Silent(WSGIRequestHandler):
    """Says nothing on standard error, and keeps connections open as S3 does."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


def end_with_who_started_it() -> None:
    """Wait until standard input is closed, as it is however the tests come to an end, and end too."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_who_started_it, daemon=True).start()
    application = Told(DomainDispatcherApplication(create_backend_app), Path(sys.argv[1]))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()
