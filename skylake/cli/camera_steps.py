"""The report of `skylake camera check` on a raw frame: its kind, and the steps and masters of its reduction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from skylake.cameras import HeaderReading, Reading
    from skylake.core.frame import StoredImage
    from skylake.image.masters.master_library import Library, MasterQuery

_Made = TypeVar("_Made")
#: Runs an action that may fail, and keeps the failure.
Attempt = Callable[[Callable[[], Any]], Any]


def note_masters(
    raw: StoredImage,
    reading: HeaderReading,
    rows: list[Reading],
    library: Library,
    file: Path,
    attempt: Attempt,
) -> list[Reading]:
    """Report as what a frame is taken, its steps and masters, and that gain and read noise are of a photon transfer.

    Without a lake it is only a note that there are no masters.
    """
    from skylake.cameras import Reading
    from skylake.image.detrend.frame_conditions import wanted_masters

    rows = [*rows, *_kind_of(raw, reading, file)]
    steps = reading.camera.reduction.steps
    rows.append(Reading("steps", len(steps), "profile", "ok", ", ".join(steps)))
    wanted = attempt(lambda: wanted_masters(raw, reading))
    if reading.mjd_mid is None or wanted is None:
        return rows
    return _chosen(
        raw, reading, _measured(reading, rows, wanted, library, attempt), wanted, library, file, attempt
    )


def _kind_of(raw: StoredImage, reading: HeaderReading, file: Path) -> list[Reading]:
    """Return a remark if a frame counts as one of the sky without a card, and whether it looks like another kind."""
    from skylake.cameras import Reading
    from skylake.cameras.calibration_suspects import suspected_kind

    if reading.kind is not None:
        return []
    suspicion = suspected_kind(raw.header, reading, file.name)
    if suspicion is not None:
        return [Reading("kind", None, "", "ambiguous", suspicion)]
    looked = ", ".join(reading.camera.header.kind) or "any card, as header.kind names none"
    return [Reading("kind", None, "", "ok", f"nothing in {looked}: a frame of the sky")]


def _measured(
    reading: HeaderReading, rows: list[Reading], wanted: MasterQuery, library: Library, attempt: Attempt
) -> list[Reading]:
    """Return the readings with gain and read noise of photon transfers, where the profile asks for them."""
    from skylake.cameras import Reading
    from skylake.image.masters.detector_properties import take_measured

    transfers = attempt(lambda: take_measured(reading, wanted, library)) if library.lake else None
    source = " ".join(transfer.name for transfer in transfers or ())
    for quantity, value in (("gain", reading.gain), ("read_noise", reading.read_noise)):
        if quantity in reading.camera.reduction.measured:
            lacks = "the library has none" if library.lake else "name the lake that has one with --lake"
            note = "from the photon transfer, as reduction.measured says" + (
                "" if transfers else f"; {lacks}"
            )
            replacement = Reading(
                quantity, value if transfers else None, source, "ok" if transfers else "missing", note
            )
            rows = [
                replacement if row.quantity == quantity and row.verdict != "ambiguous" else row
                for row in rows
            ]
    return rows


def _chosen(
    raw: StoredImage,
    reading: HeaderReading,
    rows: list[Reading],
    wanted: MasterQuery,
    library: Library,
    file: Path,
    attempt: Attempt,
) -> list[Reading]:
    """Return the readings with the masters that an ingest would take."""
    from skylake.cameras import Reading
    from skylake.image.masters.master_library import needed
    from skylake.image.masters.missing_master import why_missing

    camera = reading.camera
    kinds = needed(camera.reduction.steps)
    if not kinds:
        return rows
    if not library.lake:
        note = f"{', '.join(kinds)}: `skylake calib build` makes them in a lake; --lake shows which would be taken"
        return [*rows, Reading("masters", None, "", "missing", note)]
    chosen = attempt(
        lambda: library.pick(
            camera.reduction,
            wanted,
            reading.profile,
            camera.filter_key,
            lambda kind: why_missing(raw.header, reading, file.name, kind),
        )
    )
    if chosen:
        names = ", ".join(master.name for master in chosen.values())
        rows = [*rows, Reading("masters", len(chosen), library.lake, "ok", names)]
    return rows


def try_steps(
    raw: StoredImage, reading: HeaderReading, library: Library, file: Path, attempt: Attempt
) -> None:
    """Run the steps of a frame of the sky, as far as their masters are available."""
    from skylake.image.detrend.detrend_chain import Conditions, detrend_image
    from skylake.image.detrend.frame_conditions import conditions_of
    from skylake.image.detrend.mosaic_pattern import settle_pattern
    from skylake.image.masters.master_library import needed

    steps = reading.camera.reduction.steps
    masters = needed(steps)
    if masters and not library.lake:
        if attempt(lambda: settle_pattern(raw, reading)) is None:
            return
        alone = Conditions(reading.saturation_adu, reading.gain, reading.read_noise)
        first = next(step for step in steps if step in masters or step == "sky")
        attempt(lambda: detrend_image(raw, reading.camera, alone, until=first))
        return
    conditions = attempt(lambda: conditions_of(raw, reading, library, None, str(file))[0])
    # The sky that is subtracted in the near infrared is made from other frames.
    if conditions is not None:
        attempt(lambda: detrend_image(raw, reading.camera, conditions, until="sky"))
