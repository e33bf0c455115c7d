"""The data of the report, read from a snapshot."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import (
    FRAME_COLUMNS,
    ZEROPOINT_COLUMNS,
    Photometry,
    calibrate_matches,
)
from skylake.cameras.clock_times import iso_of_mjd
from skylake.core.batch import UNDATED
from skylake.core.flags import NO_STANDARD, SPOILED_OR_BLENDED
from skylake.core.reasons import Status
from skylake.core.robust import sigma_mad
from skylake.image.distortion.distortion_epochs import in_force as epochs_in_force
from skylake.lake import Lake, Snapshot
from skylake.lake.cameras.stored_distortions import read_epochs
from skylake.report.style import Floats
from skylake.table.matches import matches_name

#: Matches that are read for the pictures at most; more would not change a picture.
MAX_MATCHES = 200_000
#: A star needs so many measurements to be shown as a light curve.
_MIN_POINTS = 8
#: Single measurements are read for so many stars, those that scatter most for their brightness.
_MOST_CANDIDATES = 1000
#: Standard error of a robust scatter of Gaussian values, relative to it, times the square root of their number.
_SCATTER_OF_SCATTER = 1.17
#: By so many standard errors must a star scatter too much: of thousands that do not vary hardly one does.
_SURE = 5.0


@dataclass(frozen=True, slots=True)
class CalibratedMatches:
    """Matches of one camera with their photometry."""

    matches: pa.Table
    photometry: Photometry

    @property
    def clean(self) -> npt.NDArray[np.bool_]:
        """Which matches have photometry that can be trusted."""
        return np.asarray((self.matches["flags"].to_numpy() & int(NO_STANDARD)) == 0)

    @property
    def random_err(self) -> Floats:
        """Errors of magnitudes without the part that all stars share."""
        shared = self.photometry.zp_systematic_err
        return np.asarray(np.sqrt(np.maximum(self.photometry.mag_err**2 - shared**2, 0.0)))


def zeropoints_in_force(snapshot: Snapshot, catalog: str, columns: list[str] | None = None) -> pa.Table:
    """Return, for each frame, the row with the largest version of a catalog."""
    return in_force(snapshot.read("zeropoints", columns, filter=pc.field("catalog") == catalog))


def in_force(rows: pa.Table) -> pa.Table:
    """Return the row with the largest version of each frame, of zeropoints of one catalog."""
    if rows.num_rows == 0:
        return rows
    frame, version = rows["frame_id"].to_numpy(), rows["version"].to_numpy()
    order = np.lexsort((-version, frame))
    _, first = np.unique(frame[order], return_index=True)
    return rows.take(pa.array(order[first]))


def calibrated_matches(snapshot: Snapshot, catalog: str, camera: str) -> CalibratedMatches:
    """Return matches of the latest nights of a camera, as many as a picture needs."""
    chosen: list[str] = []
    n_rows = 0
    batches = [name for name, part in snapshot.parts("frames").items() if part.camera == camera]
    names = {matches_name(batch, catalog) for batch in batches}
    parts = [part for part in snapshot.parts("matches").values() if part.name in names]
    for part in sorted(parts, key=lambda one: -(one.night or 0)):
        if n_rows < MAX_MATCHES:
            chosen.append(part.name)
            n_rows += part.n_rows
    matches = snapshot.read("matches", where=lambda part: part.name in chosen)
    zeropoints = zeropoints_in_force(snapshot, catalog, [*ZEROPOINT_COLUMNS])
    frames = snapshot.read("frames", FRAME_COLUMNS, lambda part: part.camera == camera)
    return CalibratedMatches(matches, calibrate_matches(matches, frames, zeropoints))


def frames_of(snapshot: Snapshot, camera: str, columns: list[str]) -> pa.Table:
    """Return columns of the frames of a camera."""
    return snapshot.read("frames", columns, lambda part: part.camera == camera)


def cameras(snapshot: Snapshot) -> list[str]:
    """Return the cameras of a lake."""
    return sorted({part.camera for part in snapshot.parts("frames").values() if part.camera})


def undated_frames(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return how many frames without a time came on each day: camera, came, n_frames, the newest day first.

    They belong to no night, and so nobody would look for them there. ``came`` is the day of their files, ISO (UTC), as
    they lie where they were read from; None if that is not known.
    """
    undated = pc.field("night") == UNDATED
    rows = snapshot.read("frames", ["camera", "file_modified_ns"], filter=undated).to_pylist()
    counts = Counter((row["camera"], _day_of(row["file_modified_ns"])) for row in rows)
    days = [{"camera": camera, "came": came, "n_frames": count} for (camera, came), count in counts.items()]
    return sorted(
        sorted(days, key=lambda row: row["camera"]), key=lambda row: row["came"] or "9", reverse=True
    )


def _day_of(modified_ns: int | None) -> str | None:
    return None if modified_ns is None else f"{datetime.fromtimestamp(modified_ns / 1e9, UTC):%Y-%m-%d}"


def nights(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the rows of ``nights``, the newest first, with those of ``photometric_nights`` where there are some.

    That of frames without a time is left out; see :func:`undated_frames`.
    """
    key = ("camera", "night", "band")
    names = ("extinction", "extinction_err", "transparency", "transparency_err", "p_photometric", "reason")
    judged = snapshot.read("photometric_nights", [*key, *names]).to_pylist()
    known = {tuple(row[name] for name in key): row for row in judged}
    rows = [
        row
        | {name: None for name in names if name not in row}
        | known.get(tuple(row[name] for name in key), {})
        for row in snapshot.read("nights", filter=pc.field("night") != UNDATED).to_pylist()
    ]
    return sorted(rows, key=lambda row: (row["camera"], -row["night"], row["band"]))


def newest_alerts(snapshot: Snapshot, most: int) -> list[dict[str, Any]]:
    """Return what has changed on watch lists, the newest first, with the column ``what`` in words."""
    rows = snapshot.read("alerts").sort_by([("mjd_mid", "descending"), ("alert_id", "ascending")])
    return [row | {"what": _what_changed(row)} for row in rows.slice(0, most).to_pylist()]


def _what_changed(row: Mapping[str, Any]) -> str:
    mag, past = _mag(row["mag"]), _mag(row["past_mag"])
    if row["kind"] == "appeared":
        return f"appeared at {mag} mag"
    if row["kind"] == "vanished":
        return f"vanished: fainter than {_mag(row['mag_limit'], 2)} mag, was {past}"
    if row["kind"] == "returned":
        return f"as before again: {mag} mag, was {past}"
    size = None if row["difference"] is None else abs(row["difference"])
    return f"{row['kind']} by {_mag(size)} ± {_mag(row['difference_err'])} mag: {mag}, was {past}"


def _mag(value: float | None, digits: int = 3) -> str:
    """Return a magnitude in words: any may be null, as in the table of another program."""
    return "unknown" if value is None else f"{value:.{digits}f}"


def epochs_of_cameras(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the present epochs of the distortion of each camera."""
    rows = []
    for camera in cameras(snapshot):
        for one in epochs_in_force(read_epochs(snapshot.layout, camera)):
            learned = one.distortion
            rows.append(
                {
                    "camera": camera,
                    "name": one.name,
                    "n_frames": learned.n_frames,
                    "n_stars": learned.n_stars,
                    "since": iso_of_mjd(one.valid_from)[:16] if math.isfinite(one.valid_from) else None,
                    "rms_px": one.rms_px,
                    "why": one.why,
                    "held_out_px": one.held_out_px if math.isfinite(one.held_out_px) else None,
                }
            )
    return rows


def counts_of_status(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the number of frames by camera, status and reason."""
    rows = snapshot.read("frames", ["camera", "status", "reason"])
    grouped = rows.group_by(["camera", "status", "reason"]).aggregate([([], "count_all")])
    return sorted(grouped.to_pylist(), key=lambda row: (row["camera"], row["status"], row["reason"] or ""))


def frames_without_zeropoint(snapshot: Snapshot) -> dict[str, int]:
    """Return how many good frames of each camera have no zeropoint; cameras whose frames all have one are left out."""
    good = snapshot.read("frames", ["camera", "frame_id"], filter=pc.field("status") == Status.OK.value)
    known = snapshot.read("zeropoints", ["frame_id"], filter=pc.field("zp").is_valid())
    lacking = good.filter(pc.invert(pc.is_in(good["frame_id"], known["frame_id"].combine_chunks())))
    counts = Counter(lacking["camera"].to_pylist())
    return dict(sorted(counts.items()))


def frames_of_concern(snapshot: Snapshot, catalogs: Mapping[str, str], how_many: int) -> list[dict[str, Any]]:
    """Return frames that were not used or got no zeropoint, the newest night first, with the reason as a sentence.

    Those without a time stand before the others of the day they came, ``came`` as in :func:`undated_frames`.
    Zeropoints are those from the catalog of each camera.
    """
    query = """
        SELECT f.camera, f.status, f.night, parse_filename(f.file) AS file, coalesce(f.reason, z.reason) AS reason,
            coalesce(f.message, z.message, 'no zeropoint against ' || z.catalog) AS message,
            CASE WHEN f.night = 0 THEN strftime(make_timestamp(f.file_modified_ns // 1000), '%Y-%m-%d') END AS came
        FROM frames AS f
        LEFT JOIN (
            SELECT * FROM zeropoints_in_force WHERE list_contains(?, [camera, catalog]) AND zp IS NULL
        ) AS z USING (frame_id)
        WHERE f.status IN ('failed', 'rejected') OR (f.status = 'ok' AND z.frame_id IS NOT NULL)
        ORDER BY coalesce(replace(came, '-', '')::INTEGER, nullif(f.night, 0), 99999999) DESC, f.night <> 0,
            f.camera, file
        LIMIT ?
    """
    with snapshot.duckdb() as connection:
        found = connection.execute(query, [[["", ""], *map(list, catalogs.items())], how_many])
        names = [column[0] for column in found.description or []]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def floats(table: pa.Table, name: str) -> Floats:
    """Return a column as floats, NaN for null."""
    return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)


def most_variable(lake: Lake, snapshot: Snapshot, how_many: int) -> list[dict[str, Any]]:
    """Return the stars that surely scatter more than expected, each in its worst band, the surest first.

    Expected are the random errors of the measurements, or what is usual for stars of that brightness in that band (the
    running median) where that is more. Only measurements that are clean and not blended count; a star of which these
    are few, or less than half, does not count. ``excess`` is how many times the expected a star scatters.
    """
    columns = ["object_id", "catalog", "band", "ra_deg", "dec_deg", "n_points", "mag_median", "mag_scatter"]
    rows = snapshot.merged("lightcurves", columns, filter=pc.field("n_points") >= _MIN_POINTS)
    rows = rows.filter(pc.and_(pc.is_valid(rows["mag_scatter"]), pc.is_valid(rows["mag_median"])))
    if rows.num_rows == 0:
        return []
    mag, scatter = floats(rows, "mag_median"), floats(rows, "mag_scatter")
    band = np.asarray(rows["band"].to_pylist(), object)
    usual = np.empty(len(mag))
    for name in set(band.tolist()):
        mine = np.flatnonzero(band == name)
        usual[mine] = np.maximum(_usual_scatter(mag[mine], scatter[mine]), 1e-4)
    # Single measurements are read only for stars that may be among the most variable.
    first = np.argsort(-scatter / usual, kind="stable")[:_MOST_CANDIDATES]
    candidates = rows.take(pa.array(first)).append_column("usual", pa.array(usual[first])).to_pylist()
    points = _points_of(snapshot, [row["object_id"] for row in candidates])
    sure: list[tuple[float, dict[str, Any]]] = []
    for row in candidates:
        found = _excess(points.get((row["catalog"], row["object_id"], row["band"]), {}), row.pop("usual"))
        if found is not None and found[1] > _SURE:
            sure.append((found[1], row | {"excess": found[0]}))
    stars: dict[tuple[str, int], dict[str, Any]] = {}
    for _, row in sorted(sure, key=lambda one: -one[0]):
        stars.setdefault((row["catalog"], row["object_id"]), row)
    return list(stars.values())[:how_many]


def _points_of(snapshot: Snapshot, stars: list[int]) -> dict[tuple[str, int, str], dict[str, list[Any]]]:
    """Return the measurements of some stars by catalog, star and band."""
    columns = ["object_id", "catalog", "band", "lightcurve", "lightcurve_errors"]
    rows = snapshot.merged("lightcurves", columns, of=pc.field("object_id").isin(stars))
    return {
        (row["catalog"], row["object_id"], row["band"]): row["lightcurve"] | (row["lightcurve_errors"] or {})
        for row in rows.to_pylist()
    }


def _excess(points: dict[str, list[Any]], usual: float) -> tuple[float, float] | None:
    """Return how many times the expected a star scatters, and by how many standard deviations that is too much.

    None for a star of too few clean measurements.
    """
    flags = np.array(points.get("flags", []), np.int64)
    mag, random_err = (
        np.array(points.get(name) or np.full(flags.size, np.nan), float) for name in ("mag", "mag_random_err")
    )
    clean = np.isfinite(mag) & ((flags & int(SPOILED_OR_BLENDED)) == 0)
    count = int(np.count_nonzero(clean))
    if count < max(_MIN_POINTS, flags.size / 2):
        return None
    errors = random_err[clean & np.isfinite(random_err)]
    expected = max(usual, float(np.median(errors)) if errors.size else 0.0)
    excess = sigma_mad(mag[clean]) / expected
    return excess, (excess - 1.0) * np.sqrt(count) / _SCATTER_OF_SCATTER


def _usual_scatter(mag: Floats, scatter: Floats) -> Floats:
    """Return the running median of the scatter over magnitude."""
    order = np.argsort(mag)
    half = max(5, min(50, len(order) // 10))
    usual = np.empty(len(order))
    for place, star in enumerate(order):
        low = max(0, min(place - half, len(order) - 2 * half - 1))
        usual[star] = np.median(scatter[order[low : low + 2 * half + 1]])
    return usual
