"""The small tables of a lake in PostgreSQL, in a server of our own or in any other."""

from skylake.mirror.embedded import EmbeddedServer
from skylake.mirror.postgres import CopyCounts, Mirror

__all__ = ["CopyCounts", "EmbeddedServer", "Mirror"]
