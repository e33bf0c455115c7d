"""Frames that no catalog places are registered to one another, so that the sources of a star lie at one place.

A frame without a WCS that cannot be solved is kept where its telescope cards put it. Of the frames of a field, one is
the base: the frame in the lake on which most others lie, so that stars stay where they are, else the new one with most
sources. The others get its places by a rotation and a shift, found from their brightest sources. All stay rejected:
nothing is matched with a catalog.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.reasons import Reason
from skylake.core.sphere import healpix_index, ra_dec, separation_deg
from skylake.flow.ingest.chunk_rows import Chunk, read_rows, write_rows
from skylake.image.solving.located_frame import pointing_row
from skylake.image.solving.neighbour_pointing import pointing_of_lens
from skylake.image.solving.register_frames import (
    CARDS,
    KEPT_BY_CARDS,
    KEPT_REGISTERED,
    REGISTERED,
    Registration,
    register_frame,
)
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import lens_of_text
from skylake.lake import Snapshot

_COLUMNS = [
    "frame_id",
    "night",
    "reason",
    "ra_deg",
    "dec_deg",
    "pixel_scale_arcsec",
    "width_px",
    "height_px",
    "n_detected",
    "wcs_source",
    "wcs_lens",
    "message",
    "registered_to",
]
_PLACES = ["x_px", "y_px", "flux_aper1"]
#: Cards put frames of one field nearer together than this share of the longer side.
_SAME_FIELD = 0.5
#: Frames that are tried as the base of a field, in the lake and among the new ones.
_MOST_BASES = 3


@dataclass(frozen=True, slots=True)
class _Base:
    """A frame on whose places others are put: its sources, the brightest first."""

    frame_id: int
    lens: Lens
    places: npt.NDArray[np.float64]


def register_lost(
    chunks: Mapping[int, Sequence[Chunk]], snapshot: Snapshot, profile: Profile, staging: Path
) -> dict[int, list[Chunk]]:
    """Register frames that are kept at the place of their cards, and return the chunks of each night.

    Parameters
    ----------
    chunks : mapping
        New frames by night.
    snapshot : Snapshot
        Has frames of the same fields, on whose places new ones are put.
    profile : Profile
    staging : Path
        Folder for the rows of registered frames.
    """
    fresh = [(chunk, row) for some in chunks.values() for chunk in some for row in _kept(chunk.frames)]
    if not fresh:
        return {night: list(some) for night, some in chunks.items()}
    held = [row for row in _kept(_held(snapshot, profile)) if row["wcs_lens"] is not None]
    moved: dict[int, tuple[_Base, Registration]] = {}
    for field in _fields(fresh):
        moved |= _registered(field, held, snapshot, profile)
    return {
        night: [
            _moved_chunk(chunk, moved, staging / f"{night}-{number}.arrow")
            for number, chunk in enumerate(some)
        ]
        for night, some in chunks.items()
    }


def _kept(frames: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of frames that are kept without a place of their own."""
    chosen = pc.field("wcs_source").isin([CARDS, REGISTERED]) & (pc.field("reason") == Reason.NO_WCS.value)
    rows: list[dict[str, Any]] = frames.select(_COLUMNS).filter(chosen).to_pylist()
    return rows


def _held(snapshot: Snapshot, profile: Profile) -> pa.Table:
    words = pc.field("wcs_source").isin([CARDS, REGISTERED])
    return snapshot.read("frames", _COLUMNS, lambda part: part.camera == profile.name, words)


def _fields(fresh: Sequence[tuple[Chunk, dict[str, Any]]]) -> list[list[tuple[Chunk, dict[str, Any]]]]:
    """Return new frames by field, those with most sources first."""
    fields: list[list[tuple[Chunk, dict[str, Any]]]] = []
    for one in sorted(fresh, key=lambda pair: (-(pair[1]["n_detected"] or 0), pair[1]["frame_id"])):
        same = next((field for field in fields if _is_same(field[0][1], one[1])), None)
        if same is None:
            fields.append([one])
        else:
            same.append(one)
    return fields


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two frames may show the same field."""
    sizes = [(row["width_px"], row["height_px"]) for row in (one, other)]
    reach = _SAME_FIELD * max(sizes[0]) * one["pixel_scale_arcsec"] / 3600.0
    places = one["ra_deg"], one["dec_deg"], other["ra_deg"], other["dec_deg"]
    return sizes[0] == sizes[1] and float(separation_deg(*places)) <= reach


def _registered(
    field: Sequence[tuple[Chunk, dict[str, Any]]],
    held: Iterable[dict[str, Any]],
    snapshot: Snapshot,
    profile: Profile,
) -> dict[int, tuple[_Base, Registration]]:
    """Return how the new frames of a field lie on frames of the lake, or else on one another."""
    found: dict[int, tuple[_Base, Registration]] = {}
    left = list(field)
    for row in _ranked(field[0][1], held)[:_MOST_BASES]:
        left = _register(_held_base(row, snapshot, profile), left, found)
    for _ in range(_MOST_BASES):
        if len(left) < 2:
            break
        # What is on no other frame, such as clouds that were taken for stars, is no base.
        (chunk, first), *others = left
        base = _Base(first["frame_id"], lens_of_text(first["wcs_lens"]), _places(_rows_of(chunk, first)))
        left = _register(base, others, found)
    return found


def _register(
    base: _Base,
    frames: Iterable[tuple[Chunk, dict[str, Any]]],
    found: dict[int, tuple[_Base, Registration]],
) -> list[tuple[Chunk, dict[str, Any]]]:
    """Register frames to a base; return those that do not lie on it."""
    left = []
    for chunk, row in frames:
        shape = row["height_px"], row["width_px"]
        one = register_frame(base.lens, base.places, _places(_rows_of(chunk, row)), shape)
        if one is None:
            left.append((chunk, row))
        else:
            found[row["frame_id"]] = base, one
    return left


def _ranked(first: Mapping[str, Any], held: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the frames of a field in the lake, those first on which most others lie."""
    mine = [row for row in held if _is_same(first, row)]
    named = Counter(row["registered_to"] for row in mine)

    def rank(row: dict[str, Any]) -> tuple[int, bool, int, int]:
        is_alone = row["wcs_source"] != REGISTERED
        return -named[row["frame_id"]], is_alone, -(row["n_detected"] or 0), row["frame_id"]

    return sorted(mine, key=rank)


def _held_base(row: Mapping[str, Any], snapshot: Snapshot, profile: Profile) -> _Base:
    rows = snapshot.read(
        "sources",
        _PLACES,
        lambda part: part.camera == profile.name and part.night == row["night"],
        pc.field("frame_id") == row["frame_id"],
    )
    return _Base(row["frame_id"], lens_of_text(row["wcs_lens"]), _places(rows))


def _rows_of(chunk: Chunk, row: Mapping[str, Any]) -> pa.Table:
    assert chunk.sources is not None
    rows = read_rows(chunk.sources)
    return rows.filter(pc.equal(rows["frame_id"], row["frame_id"]))


def _places(rows: pa.Table) -> npt.NDArray[np.float64]:
    """Return the places of sources, shape (n, 2), the brightest first."""
    ordered = rows.select(_PLACES).sort_by([("flux_aper1", "descending")])
    return np.column_stack([ordered[name].to_numpy() for name in _PLACES[:2]])


def _moved_chunk(chunk: Chunk, moved: Mapping[int, tuple[_Base, Registration]], out: Path) -> Chunk:
    """Return a chunk with the rows of registered frames and of their sources changed."""
    ids = chunk.frames["frame_id"].to_pylist()
    mine = [frame for frame in ids if frame in moved]
    if not mine:
        return chunk
    assert chunk.sources is not None
    frames = pa.Table.from_pylist(
        [_registered_row(row, moved) for row in chunk.frames.to_pylist()], chunk.frames.schema
    )
    rows = read_rows(chunk.sources)
    others = rows.filter(pc.invert(pc.is_in(rows["frame_id"], pa.array(mine, pa.int64()))))
    pieces = [others]
    for frame in mine:
        own = rows.filter(pc.equal(rows["frame_id"], frame))
        vectors = moved[frame][1].lens.to_vectors(own["x_px"].to_numpy(), own["y_px"].to_numpy())
        ra, dec = ra_dec(vectors)
        for name, values in (("ra_deg", ra), ("dec_deg", dec), ("_healpix_29", healpix_index(ra, dec))):
            place = own.schema.get_field_index(name)
            own = own.set_column(place, own.schema.field(place), pa.array(values))
        pieces.append(own)
    return replace(chunk, frames=frames, sources=write_rows(pieces, "sources", out))


def _registered_row(row: dict[str, Any], moved: Mapping[int, tuple[_Base, Registration]]) -> dict[str, Any]:
    if row["frame_id"] not in moved:
        return row
    base, found = moved[row["frame_id"]]
    pointing = pointing_of_lens(found.lens, (row["height_px"], row["width_px"]))
    message = row["message"].replace(KEPT_BY_CARDS, KEPT_REGISTERED.format(base.frame_id))
    return row | pointing_row(pointing) | found.columns | {"registered_to": base.frame_id, "message": message}
