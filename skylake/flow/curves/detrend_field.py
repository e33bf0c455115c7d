"""Stars of a field detrended by all methods: rows of the table ``detrended``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.robust import MAD_TO_SIGMA
from skylake.curves.curve_block import CurveBlock, row_medians
from skylake.curves.decorrelation import signal_range
from skylake.curves.detrend_block import Detrended, DetrendOptions, detrend_block
from skylake.curves.found_signals import DURATIONS_DAYS
from skylake.curves.signals import Signal, figures_of
from skylake.flow.curves.curve_tables import Places, star_columns, table_of
from skylake.flow.curves.field_blocks import CurveSource, FieldBlock
from skylake.schema import TableSchema, arrow_schema

Floats = npt.NDArray[np.float64]
#: The ways in which light curves are detrended, as columns name them.
METHODS = ("ensemble", "epd", "joint", "tfa", "sysrem")
#: Fewer stars than these show less of what a field loses: a parabola of position, a slope, an offset.
_STARS_OF_DEGREE = ((2, 60), (1, 30), (0, 0))
_LEAST_TEMPLATES = 3
#: How far from a star its templates are, degrees.
EXCLUSION_DEG = 0.05
_MJD_OF_JD0 = 2_400_000.5


@dataclass(frozen=True, slots=True)
class DetrendChoice:
    """How the stars of a lake are detrended.

    Attributes
    ----------
    n_templates : int
        Of trend filtering; never more than one for 20 frames, and 0 for none.
    n_effects : int
        That SysRem takes off; 0 for none.
    least_points : int
        Stars with fewer measurements are not decorrelated.
    seed : int
        Of the choice of templates.
    durations_days : tuple of float
        Durations of the dips that are looked for beside waves; none for waves alone.
    """

    n_templates: int = 100
    n_effects: int = 4
    least_points: int = 100
    seed: int = 1
    durations_days: tuple[float, ...] = DURATIONS_DAYS

    def options(self, n_stars: int) -> DetrendOptions:
        """Return the options for a field of so many stars."""
        base = DetrendOptions()
        return replace(
            base,
            degree=next(degree for degree, least in _STARS_OF_DEGREE if n_stars >= least),
            decorrelation=replace(base.decorrelation, least_points=self.least_points),
            signals=replace(base.signals, durations_days=self.durations_days),
            n_templates=self.n_templates,
            n_effects=self.n_effects,
            exclusion=EXCLUSION_DEG,
            seed=self.seed,
        )


def detrend_field(field: FieldBlock, choice: DetrendChoice, signal: Signal | None = None) -> Detrended:
    """Return the curves of a field, detrended by all methods."""
    block = field.block
    options = choice.options(len(block.star_id))
    made = detrend_block(block.curves, block.parameters, block.stars, signal, options)
    if made.templates is not None and len(made.templates.star) < _LEAST_TEMPLATES:
        # What so few stars show is their own noise.
        made = replace(made, trend_filtered=None, without_effects=None, templates=None)
    return made


def magnitudes(made: Detrended) -> dict[str, Floats | None]:
    """Return the magnitudes of each method, of shape (n_stars, n_frames)."""
    return {
        "raw": made.raw,
        "ensemble": made.ensemble,
        "epd": made.alone.mag,
        "joint": made.joint.mag,
        "tfa": made.trend_filtered,
        "sysrem": made.without_effects,
    }


def detrended_rows(
    field: FieldBlock,
    made: Detrended,
    some: Places,
    source: CurveSource,
    choice: DetrendChoice,
    schema: TableSchema,
) -> pa.Table:
    """Return some stars of a field as rows of a table of detrended light curves."""
    n, curves = len(some), magnitudes(made)
    shown = figures_of(made.signal)
    flat = CurveBlock(field.block.curves.time, made.ensemble, field.block.curves.mag_err)
    amplitude, amplitude_err = signal_range(flat, made.signal, made.joint)
    columns = star_columns(field, some) | {
        "measured": pa.array([source.kind] * n, pa.string()),
        "flux": pa.array([source.flux] * n, pa.string()),
        "n_points": np.isfinite(made.raw[some]).sum(axis=1).astype(np.int32),
        "mag_median": row_medians(made.raw[some]),
        "n_lost_epd": made.alone.n_lost[some],
        "n_lost_joint": made.joint.n_lost[some],
        "chi2_joint": made.joint.chi2[some],
        "n_nights": made.n_nights[some].astype(np.int32),
        "method_joint": pa.array(np.where(made.is_joint[some], "joint", "ensemble").tolist(), pa.string()),
        "signal": pa.array([shown.kind[one] for one in some], pa.string()),
        "period_d": shown.period[some],
        "epoch_bjd": shown.middle[some] + _MJD_OF_JD0,
        "duration_d": shown.duration[some],
        "amplitude": amplitude[some],
        "amplitude_err": amplitude_err[some],
        "n_stars": np.full(n, len(field.is_wanted), np.int32),
    }
    for name, mag in curves.items():
        columns[f"scatter_{name}"] = np.full(n, np.nan) if mag is None else _scatter(mag[some])
    columns |= _of_templates(field, made, some)
    columns["n_effects"] = pa.array(
        [choice.n_effects if made.without_effects is not None else None] * n, pa.int32()
    )
    columns["lightcurve"] = _nested(field, curves, some, schema)
    return table_of(columns, schema)


def _scatter(mag: Floats) -> Floats:
    return MAD_TO_SIGMA * row_medians(np.abs(mag - row_medians(mag)[:, None]))


def _of_templates(field: FieldBlock, made: Detrended, some: Places) -> dict[str, Any]:
    """Return the number and the names of the templates of stars: those that are far enough away."""
    if made.trend_filtered is None or made.templates is None:
        none = pa.array([None] * len(some))
        kind = pa.struct([pa.field("object_id", pa.list_(pa.int64()))])
        return {"n_templates": none.cast(pa.int32()), "templates": none.cast(kind)}
    stars, chosen = field.block.stars, made.templates.star
    apart = np.hypot(*(one[some, None] - one[chosen] for one in (stars.x, stars.y)))
    far = apart > EXCLUSION_DEG
    counts = far.sum(axis=1)
    ids = field.rows["object_id"].to_numpy()[chosen]
    lists = _lists(np.broadcast_to(ids, far.shape)[far], counts)
    return {
        "n_templates": counts.astype(np.int32),
        "templates": pa.StructArray.from_arrays([lists], ["object_id"]),
    }


def _nested(
    field: FieldBlock, curves: dict[str, Floats | None], some: Places, schema: TableSchema
) -> pa.StructArray:
    """Return the measurements of stars as a nested column."""
    raw = curves["raw"]
    assert raw is not None
    star, frame = np.nonzero(np.isfinite(raw[some]))
    at = (some[star], frame)
    values: dict[str, npt.NDArray[Any]] = {
        "frame_id": field.block.frame_id[frame],
        "mjd_mid": field.mjd[frame],
        "bjd_tdb": field.bjd[at],
        "mag_random_err": field.block.curves.mag_err[at],
    }
    for name, mag in curves.items():
        values[f"mag_{name}"] = np.full(len(star), np.nan) if mag is None else mag[at]
    counts = np.bincount(star, minlength=len(some))
    kind = arrow_schema(schema).field("lightcurve").type
    lists = [_lists(values[inner.name], counts).cast(inner.type) for inner in kind]
    return pa.StructArray.from_arrays(lists, fields=list(kind))


def _lists(values: npt.NDArray[Any], counts: npt.NDArray[np.integer]) -> pa.ListArray:
    offsets = pa.array(np.append(0, np.cumsum(counts)), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values, from_pandas=True))
