"""Answers of web servers, which end where they should: a body without an end would fill the memory."""

from __future__ import annotations

import re
from typing import Any

import aiohttp

#: Bytes of a file that is read whole, as lists of files, pixels and properties are; those of the largest catalogs have
#: a tenth of it. Rows of tables are read in parts of a size that is asked for.
MOST_BYTES = 128 << 20


class BoundedResponse(aiohttp.ClientResponse):
    """An answer whose body is at most the part that was asked for, or `MOST_BYTES` where it is read at once."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Begin to read."""
        await super().start(connection)
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.request_info.headers.get("Range", ""))
        most = int(part[2]) - int(part[1]) + 1 if part and self.status == 206 else MOST_BYTES
        self.content: Any = _Body(self.content, most, str(self.url))
        return self


class _Body:
    """A stream that is read whole only if it is short."""

    def __init__(self, stream: aiohttp.StreamReader, most: int, url: str) -> None:
        self._stream, self._most, self._url = stream, most, url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, size: int = -1) -> bytes:
        if size >= 0:
            return await self._stream.read(size)
        blocks, n_bytes = [], 0
        while block := await self._stream.readany():
            blocks.append(block)
            n_bytes += len(block)
            if n_bytes > self._most:
                raise OSError(f"the server sends more than {self._most} bytes of {self._url}")
        return b"".join(blocks)
