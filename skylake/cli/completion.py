"""Completion in the shell: names from the lake that is already on the command line.

Names come from the folders of the lake, since opening a snapshot would take too long between two keys. Nothing is
offered if there is no lake, or it cannot be read; the command itself reports the error when it runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from skylake.lake.layout import Layout

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave it to the shell to offer files."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave it to the shell to offer folders."""
    return [CompletionItem(incomplete, type="dir")]


def tables(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the tables of a lake."""
    from skylake.schema import table_names

    return _starting(table_names(), incomplete) + _of_lake(ctx, _user_tables, incomplete)


def formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the formats of catalogs: surveys, also the user's own, and tables."""
    from skylake.sky.surveys import survey_names

    return _starting(["table", "hats", *survey_names()], incomplete) or files(ctx, param, incomplete)


def tables_with_positions(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the tables of which a cone can be asked."""
    from skylake.schema import load, table_names

    own = _starting((name for name in table_names() if load(name).layout.kind == "hats"), incomplete)
    return own + _of_lake(ctx, _user_tables_with_positions, incomplete)


def tables_of_batches(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the tables that can be compacted."""
    from skylake.schema import load, table_names

    own = _starting((name for name in table_names() if load(name).layout.batch), incomplete)
    return own + _of_lake(ctx, _user_tables, incomplete)


def maps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the kinds of HEALPix maps."""
    from skylake.table.combine_maps import MAPS

    return _starting(MAPS, incomplete)


def catalogs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the reference catalogs of the lake."""
    return _of_lake(ctx, _catalogs, incomplete)


def cameras(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the cameras whose frames the lake holds, or files where none begins so."""
    return _of_lake(ctx, _cameras, incomplete) or files(ctx, param, incomplete)


def profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the cameras that skylake and the lake know, or files where none begins so."""
    from skylake.cameras import names

    known = {item.value for item in _of_lake(ctx, _cameras, incomplete)}
    return _starting(known.union(names()), incomplete) or files(ctx, param, incomplete)


def masters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the masters of the lake: bias, dark, flat, masks of bad pixels and photon transfers."""
    return _of_lake(ctx, _masters, incomplete)


def watch_lists(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the watch lists of the lake."""
    return _of_lake(ctx, _watch_lists, incomplete)


def _starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def _of_lake(
    ctx: click.Context, find: Callable[[Layout], Iterable[str]], incomplete: str
) -> list[CompletionItem]:
    """Offer what is found in the lake of the command line; nothing if it has none."""
    import pyarrow as pa

    from skylake.lake.layout import Layout

    lake = _lake(ctx)
    if lake is None:
        return []
    try:
        # The shell gives its words as they were typed.
        root = Path(os.path.expandvars(lake)).expanduser()
        return _starting(find(Layout(root)), incomplete)
    except (OSError, RuntimeError, pa.ArrowException):
        # The folder or home is missing or not readable. An error would be printed into the line that is being typed.
        return []


def _lake(ctx: click.Context) -> str | Path | None:
    """Return the lake of a command line, None if it has none yet."""
    lake: Path | None = ctx.params.get("lake")
    if lake is not None or not ctx.args:
        return lake
    # Behind an option whose value is being typed, click leaves the arguments as they are.
    arguments = [param.name for param in ctx.command.params if isinstance(param, click.Argument)]
    return ctx.args[0] if arguments[:1] == ["lake"] else None


def _catalogs(layout: Layout) -> list[str]:
    return [path.parent.name for path in layout.catalogs.glob("*/collection.properties")]


def _user_tables(layout: Layout) -> list[str]:
    from skylake.schema import table_names

    return [
        path.name for path in layout.current.iterdir() if path.is_symlink() and path.name not in table_names()
    ]


def _user_tables_with_positions(layout: Layout) -> list[str]:
    return [name for name in _user_tables(layout) if (layout.current / name / "hats.properties").is_file()]


def _cameras(layout: Layout) -> list[str]:
    return [path.stem for path in layout.of_cameras() if path.suffix == ".json"]


def _watch_lists(layout: Layout) -> list[str]:
    from skylake.lake.storage.watch_lists import watch_list_names

    return watch_list_names(layout)


def _masters(layout: Layout) -> list[str]:
    import pyarrow.parquet as pq

    found = (layout.current / "masters" / "dataset").rglob("*.parquet")
    return [name for path in found for name in pq.ParquetFile(path).read(["name"])["name"].to_pylist()]
