"""Join one night with a reference catalog: the pairs, and the matches among them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skylake.core.camera import Camera, FilterBand
from skylake.core.flags import FrameFlag
from skylake.flow.zeropoints.choose_matches import choose_matches, judging_columns, match_radius_arcsec
from skylake.flow.zeropoints.neighbour_light import with_neighbour_light
from skylake.lake import Part
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema import empty_table, load
from skylake.schema.aperture_columns import MORE
from skylake.schema.parquet import write_parquet
from skylake.scratch import scratch_folder
from skylake.sky.hats import Properties, write_metadata
from skylake.sky.in_place_copy import stars_around
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.matches import CARRIED, matches_table, numbers, reference_columns


def with_filters(frames: pa.Table, camera: Camera) -> pa.Table:
    """Return frames with the filters and bands that a profile gives to what their headers named.

    The profile may be another than that under which they were ingested. Where a header named no filter it is that
    which the profile assumes now.
    """
    named = zip(*(frames[name].to_pylist() for name in ("filter", "flags")), strict=True)
    filters = [filter_now(name, flags, camera) for name, flags in named]
    found = {name: camera.filter_band(name) for name in set(filters)}
    values = {"filter": filters, "band": [band and band.band for band in map(found.get, filters)]}
    for name, column in values.items():
        place = frames.schema.get_field_index(name)
        field = frames.schema.field(place)
        frames = frames.set_column(place, field, pa.array(column, field.type))
    return frames


def filter_now(name: str | None, flags: int, camera: Camera) -> str | None:
    """Return the filter of a frame as a profile has it now, from what its header named and the flags of the frame."""
    return camera.default_filter if name is None or flags & FrameFlag.FILTER_ASSUMED else name


def filters_of(frames: pa.Table, camera: Camera) -> dict[str, FilterBand]:
    """Return the band of each filter that occurs."""
    found = {name: camera.filter_band(name) for name in set(frames["filter"].to_pylist()) if name is not None}
    return {name: band for name, band in found.items() if band is not None}


def match_night(
    frames: pa.Table, sources: Part, slices: Sequence[Slice], camera: Camera, reference: ReferenceCatalog
) -> pa.Table:
    """Join a night's detections with a catalog and choose the matches among the pairs.

    Parameters
    ----------
    frames : pyarrow.Table
        Its frames with status ok, as :func:`with_filters` gives them.
    sources : Part
        Its detections.
    slices : sequence of Slice
        Where they are, file by file of `sources`.
    camera : Camera
    reference : ReferenceCatalog

    Returns
    -------
    pyarrow.Table
        Rows of ``matches``.
    """
    filters = filters_of(frames, camera)
    if frames.num_rows == 0 or not sources.files:
        return empty_table(load("matches"))
    from skylake.sky.join import join_catalog

    columns = reference_columns(list(filters.values()), reference.columns, reference.survey)
    radius = match_radius_arcsec(frames, camera)
    judging = judging_columns(camera)
    with (
        NightCatalog(sources, slices) as detections,
        stars_around(detections, reference, radius, columns) as stars,
    ):
        if stars is None:
            return empty_table(load("matches"))
        pairs = join_catalog(detections, stars, judging, columns, radius)
    if camera.astrometry.all_sky:
        pairs = _bright(pairs, columns, camera.astrometry.all_sky_mag)
    chosen = choose_matches(pairs, frames, reference.epoch, filters, camera, reference.survey)
    # Hardly any camera has more apertures than three, and a nested column is slow to carry.
    more = (MORE,) if frames[MORE].null_count < frames.num_rows else ()
    chosen = _carrying(chosen, slices, [*CARRIED, *more])
    matches = matches_table(
        chosen, reference.name, filters, camera.calibration.catalog_mag_err, reference.survey
    )
    return with_neighbour_light(matches, frames, slices, camera, reference)


def _carrying(chosen: pa.Table, slices: Sequence[Slice], columns: Sequence[str]) -> pa.Table:
    """Return chosen pairs with further columns of their detections, which the join has no use for.

    Carried through the join they would be copied at each of its steps, for all pairs.
    """
    lacking = [name for name in columns if name not in chosen.column_names]
    rows = read_files("sources", slices, ["frame_id", "source_no", *lacking])
    frames = pc.unique(rows["frame_id"])
    number, wanted = (one["source_no"].to_numpy() for one in (rows, chosen))
    frame, of_frame = (pc.index_in(one["frame_id"], frames).to_numpy() for one in (rows, chosen))
    # A detection has a place in a list that all numbers of all frames have one in.
    size = np.zeros(len(frames), np.int64)
    np.maximum.at(size, frame, number.astype(np.int64) + 1)
    start = np.cumsum(size) - size
    row = np.full(int(size.sum()), -1, np.int64)
    row[start[frame] + number] = np.arange(len(number))
    found = rows.select(lacking).take(pa.array(row[start[of_frame] + wanted]))
    for name in lacking:
        chosen = chosen.append_column(name, found[name])
    return chosen


def _bright(pairs: pa.Table, columns: Sequence[str], faintest: float) -> pa.Table:
    """Return pairs with stars that such large pixels show: a fainter one lies near any source."""
    magnitudes = [name for name in columns if name.startswith("mag_") and not name.endswith("_err")]
    kept = np.zeros(pairs.num_rows, bool)
    for name in magnitudes:
        kept |= numbers(pairs, name) <= faintest
    return pairs.filter(pa.array(kept))


def _has_carried(piece: Slice) -> bool:
    """Tell whether a file has all columns that matches carry along: one of an older schema may not."""
    return set(CARRIED) <= set(pq.read_schema(piece.path).names)


class NightCatalog:
    """The detections of one night as a HATS catalog of their own.

    It is made of links to its files; rows that lie in one file with other nights are copied out, and so are those of
    an older schema. Opening the whole table and filtering it would look into every file of every night.
    """

    def __init__(self, sources: Part, slices: Sequence[Slice]) -> None:
        self.sources, self.slices = sources, slices

    def __enter__(self) -> Path:
        with ExitStack() as opened:
            root = self._fill(opened.enter_context(scratch_folder("night")) / "sources")
            self._opened = opened.pop_all()
        return root

    def _fill(self, root: Path) -> Path:
        """Write the catalog into a folder and return it."""
        pixels = []
        for file, piece in zip(self.sources.files, self.slices, strict=True):
            target = root / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if piece.keys is None and _has_carried(piece):
                target.symlink_to(piece.path)
            else:
                write_parquet(read_files("sources", [piece]), target)
            if file.pixel is not None:
                pixels.append(file.pixel)
        properties = Properties("night", "source", self.sources.n_rows)
        write_metadata(root, load("sources"), properties, pixels)
        return root

    def __exit__(self, *_: object) -> None:
        self._opened.close()
