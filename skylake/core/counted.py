"""Numbers of things in words."""

from __future__ import annotations


def counted(count: int, what: str, many: str | None = None) -> str:
    """Return how many there are of something, in words: 1 night, 2 nights; `many` is a plural of another form."""
    return f"{count} {what}" if count == 1 else f"{count} {many or what + 's'}"
