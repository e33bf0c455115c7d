"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from skylake.flow.cluster import Workers
    from skylake.lake import Lake

Command = TypeVar("Command", bound=Callable[..., Any])

lake_argument = click.argument("lake", type=click.Path(path_type=Path))
files_argument = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…"
)
camera_option = click.option(
    "--camera",
    "-c",
    "camera_name",
    required=True,
    metavar="C",
    help="Name of a camera profile, or a .toml file.",
)


def cluster_options(command: Command) -> Command:
    """Add --cluster and --workers."""
    for option in (
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Worker processes; one per core by default.",
        ),
        click.option(
            "--cluster",
            metavar="WHERE",
            help="local (processes on this machine), inline (in this process), slurm, or the tcp://host:port of a "
            "dask scheduler; the lake's settings tell the default.",
        ),
    ):
        command = option(command)
    return command


def open_lake(path: Path) -> Lake:
    """Open the lake of an argument."""
    from skylake.lake import Lake

    return Lake(path)


@contextmanager
def start_workers(lake: Lake, cluster: str | None, count: int | None) -> Iterator[Workers]:
    """Start the workers of the options, or of the lake's settings."""
    from skylake.flow.cluster import workers

    with workers(cluster or lake.settings.cluster, count or lake.settings.workers) as started:
        yield started
