"""The table ``seeing``: the median width of stars by night and HEALPix pixel, from the widths of the frames."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.reasons import Status
from skylake.schema import conform, load
from skylake.table.aggregate import Aggregate, Given, Granularity, Input, merged_by
from skylake.table.maps import pixels_of_region

_KEY = ("camera", "night", "healpix_order", "healpix_pixel")
_COLUMNS = ("fwhm_px", "pixel_scale_arcsec", "s_region")
_FILTER = (pc.field("status") == Status.OK.value) & pc.field("s_region").is_valid()
_FILTER &= pc.is_finite(pc.field("fwhm_px")) & pc.is_finite(pc.field("pixel_scale_arcsec"))


def partial(given: Given) -> pa.Table:
    """Return the width of each frame, in arcseconds, at the pixels that it holds: lists of them can be merged."""
    frames, order = given["frames"], given.settings["map_order"]
    width = pc.multiply(frames["fwhm_px"].cast(pa.float64()), frames["pixel_scale_arcsec"]).combine_chunks()
    held = [pixels_of_region(region, order) for region in frames["s_region"].to_pylist()]
    pixel = np.concatenate([*held, np.zeros(0, np.int64)])
    widths = width.take(pa.array(np.repeat(np.arange(len(held)), [len(one) for one in held]), pa.int64()))
    columns = {
        "camera": pa.repeat(given.camera, len(pixel)),
        "night": np.full(len(pixel), given.night, np.int32),
    }
    columns |= {"healpix_order": np.full(len(pixel), order, np.int16), "healpix_pixel": pixel}
    lists = pa.ListArray.from_arrays(np.arange(len(pixel) + 1, dtype=np.int32), widths)
    return pa.table(columns | {"widths": lists})


def finish(rows: pa.Table) -> pa.Table:
    """Return the number of frames and the median of their widths."""
    widths = rows["widths"].to_pylist()
    columns = {name: rows[name] for name in _KEY} | {"n_frames": pc.list_value_length(rows["widths"])}
    medians = pa.array([float(np.median(one)) for one in widths], pa.float64())
    return conform(pa.table(columns | {"fwhm_arcsec": medians}), load("seeing"))


_MERGE = merged_by(_KEY, {"widths": "concat"})
_INPUTS = (Input("frames", _COLUMNS, _FILTER),)
AGGREGATE = Aggregate(
    "seeing", _INPUTS, _KEY, Granularity.BATCH, partial, _MERGE, finish, settings=("map_order",)
)
