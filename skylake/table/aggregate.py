"""What an aggregate is: a table that sums up others, made batch by batch and merged.

A table of skylake is one file here with an :class:`Aggregate` of the name ``AGGREGATE``, and one schema. Its functions
know no lake and no scheduler: ``skylake.flow.aggregates`` plans, runs and commits them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skylake.core.camera import Camera
from skylake.schema import load, table_names
from skylake.table.blocks import merge_rows

if TYPE_CHECKING:
    from skylake.cameras import Profile

#: The name of the input of magnitudes and colours that reference catalogs give the stars of ``targets``.
REFERENCE = "reference"
#: Tables whose parts are of the calibration in force.
CALIBRATED = ("matches", "zeropoints")
#: Tables that are made from others, so that parts made from theirs wait for them.
DERIVED = (*CALIBRATED, "nights")


class Granularity(StrEnum):
    """What a row of an aggregate is of."""

    BATCH = "batch"
    """A night of a camera: its key has both, and rows are complete as they are."""
    PIXEL = "pixel"
    """A HEALPix pixel."""
    OBJECT = "object"
    """A star: the rows lie in pixels of the sky."""
    SEASON = "camera and season"
    """A camera, and all nights or some of them."""


@dataclass(frozen=True, slots=True)
class Input:
    """A table that an aggregate reads, batch by batch.

    Attributes
    ----------
    table : str
        One of the lake that has batches, ``targets``, or :data:`REFERENCE`. Of ``matches`` and ``zeropoints`` the rows
        of the calibration in force are given. Bands of ``frames`` are those that they were calibrated in, for an
        aggregate that also reads ``zeropoints``.
    columns : tuple of str or None
        None reads all.
    filter : pyarrow.compute.Expression or None
        Chooses rows.
    is_needed : bool
        Whether a batch has no part of the aggregate without one of this table.
    is_followed : bool
        Whether parts are made anew when the rows of this table change; not where other inputs follow from all that is
        read of it.
    nights_around : int
        Nights of the same camera before the batch, and as many after it, of which rows are given beside those of the
        batch; their column ``night`` tells them apart. Parts of the aggregate are made anew when one of these changes.
        Once there are so many in all, further nights after the batch are added when their number has doubled, so that
        a new night changes few parts.
    days_around : int
        How far away these nights are at most.
    """

    table: str
    columns: tuple[str, ...] | None = None
    filter: Any = None
    is_needed: bool = False
    is_followed: bool = True
    nights_around: int = 0
    days_around: int = 60


@dataclass(frozen=True, slots=True)
class Given:
    """What a partial is made from: the inputs of one batch, or some of their rows.

    Attributes
    ----------
    camera, night : str, int
    tables : mapping
        Rows of each input, by table.
    profile : Profile or None
        Of the camera; given to aggregates that name sections of it.
    settings : mapping
        The settings of the lake that the aggregate names.
    """

    camera: str
    night: int
    tables: Mapping[str, pa.Table]
    profile: Profile | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, table: str) -> pa.Table:
        return self.tables[table]

    @property
    def base(self) -> Camera:
        """The camera, whatever it was at the time."""
        if self.profile is None:
            raise ValueError("the aggregate names no section of the profile, so it is given none")
        return self.profile.base

    @property
    def configured(self) -> Camera:
        """The camera as it was in the middle of the frames that are given; without frames the base."""
        frames = self.tables["frames"]
        if self.profile is None or not frames.num_rows:
            return self.base
        return self.profile.at(float(np.mean(frames["mjd_mid"].to_numpy())))


Partial = Callable[[Given], pa.Table]
MergeTables = Callable[[Sequence[pa.Table]], pa.Table]
Finish = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A table that sums up others.

    Attributes
    ----------
    name : str
        Of the table and of its schema.
    inputs : tuple of Input
    key : tuple of str
        Columns of which merged rows have each combination once.
    granularity : Granularity
    partial : callable
        Makes rows from the inputs of a batch, or of some of them.
    merge : callable
        Makes the rows of several partials those of one: associative and commutative, and a table without rows changes
        nothing. What it gives it can merge again. That of a table in blocks is one of :func:`merged_by`, since readers
        merge the nights as the schema says for each column.
    finish : callable
        Makes merged rows those of the schema. The rows of a table that is kept in blocks can be merged afterwards,
        and finished again.
    profile, settings : tuple of str
        Sections of the camera's profile, and settings of the lake, that the rows depend on.
    version : str
        What else distinguishes one definition from another, such as the SHA-256 of the file of a user.
    finish_reads : mapping
        Inner columns that `finish` of a table in blocks computes from, by nested column: readers who want no more of
        the measurements read these alone.
    """

    name: str
    inputs: tuple[Input, ...]
    key: tuple[str, ...]
    granularity: Granularity
    partial: Partial
    merge: MergeTables
    finish: Finish
    profile: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    version: str = ""
    finish_reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_calibrated(self) -> bool:
        """Whether it needs the calibration in force."""
        return any(one.table in CALIBRATED for one in self.inputs)


def merged_by(key: Sequence[str], merging: Mapping[str, str], order: Sequence[str] = ()) -> MergeTables:
    """Return a merge of columns as :func:`skylake.table.blocks.merge_rows` does it.

    Parameters
    ----------
    key : sequence of str
    merging : mapping
        How each other column is merged: ``sum``, ``min``, ``max``, ``last``, or ``concat`` for a nested one; ``count``
        adds counts, as ``sum`` does.
    order : sequence of str
        Columns that say which row of a key is the last.
    """
    adding = {name: "sum" if how == "count" else how for name, how in merging.items()}
    return _Merged(tuple(key), adding, tuple(order))


@dataclass(frozen=True, slots=True)
class _Merged:
    """A function with its arguments, which workers can be sent."""

    key: tuple[str, ...]
    merging: dict[str, str]
    order: tuple[str, ...]

    def __call__(self, tables: Sequence[pa.Table]) -> pa.Table:
        return merge_rows(
            pa.concat_tables(tables, promote_options="permissive"), self.key, self.merging, self.order
        )


def merged_by_schema(name: str) -> MergeTables:
    """Return the merge that the schema of a table in blocks declares."""
    schema = load(name)
    return merged_by(schema.primary_key, schema.merging, [one for one in schema.names if one == "mjd_last"])


@cache
def built_in() -> dict[str, Aggregate]:
    """Return the aggregates of skylake by name, in the order in which they are made."""
    folder = Path(__file__).parent
    modules = [
        import_module(f"skylake.table.{name}") for name in table_names() if (folder / f"{name}.py").is_file()
    ]
    found = [module.AGGREGATE for module in modules if hasattr(module, "AGGREGATE")]
    return {one.name: one for one in found}


def aggregate_of(table: str) -> Aggregate:
    """Return the aggregate of one of skylake's tables; the modules of the others are not imported."""
    aggregate: Aggregate = import_module(f"skylake.table.{table}").AGGREGATE
    return aggregate
