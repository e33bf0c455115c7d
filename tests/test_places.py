"""Which addresses are used."""

from __future__ import annotations

from pathlib import Path

import pytest

from skylake.errors import UsageError
from skylake.places import place


@pytest.mark.parametrize(
    "url",
    [
        "dask://127.0.0.1:8996/x::file:///x", "simplecache::http://127.0.0.1:9/x", "ftp://127.0.0.1/x", "ssh://host/x",
        "github://owner:name@/x", "reference://", "zip://x::file:///y", "FILE:///x", "s3://bucket/x::memory://y", "://x",
        "jupyter://127.0.0.1/x", "file:///x::memory://y",
    ],
)  # fmt: skip
def test_urls_that_lead_elsewhere_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="such a URL is not used; write one that begins with s3://"):
        place(url)


def test_paths_and_urls_of_files_and_servers_are_used(tmp_path: Path) -> None:
    assert place(tmp_path / "a") == tmp_path / "a"
    for url in (f"file://{tmp_path}/a", "memory://a/b", "http://127.0.0.1:9/a", "https://127.0.0.1:9/a"):
        assert str(place(url)) == url
