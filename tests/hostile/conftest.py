"""A lake of everything, and a server of the attacker."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile.attacks_tried import Listener, make_whole_lake


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A server on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = Listener(server.getsockname()[1])

        def listen() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                listening.connections.append(str(address))
                connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield listening
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def whole_lake(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake that has something of everything, and its archive."""
    folder = tmp_path_factory.mktemp("whole")
    make_whole_lake(demo_folder / "demo", folder)
    return folder
