"""The small tables of a lake in PostgreSQL, in a server of our own or in any other."""

from skylake.mirror.embedded import EmbeddedServer
from skylake.mirror.postgres import Mirror, Outcome

__all__ = ["EmbeddedServer", "Mirror", "Outcome"]
