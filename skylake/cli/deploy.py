"""Record the schemas that are about to be deployed; ``make deployed-schemas`` runs it in a source tree."""

from __future__ import annotations

import click

from skylake.errors import ConfigurationError
from skylake.schema.deployed import record


def main() -> None:
    """Record each schema that has a new version, or say why one cannot be."""
    try:
        written = record()
    except ConfigurationError as error:
        raise SystemExit(f"skylake: {error}") from error
    for path in written:
        click.echo(f"recorded {path.name}")
    if not written:
        click.echo("every schema is recorded")


if __name__ == "__main__":
    main()
