"""The reduction of one frame: file in, a row of ``frames`` and measured sources out."""

from __future__ import annotations

from dataclasses import replace

from skylake.cameras import Profile
from skylake.core.doubts import doubted
from skylake.core.frame import FileContent, Image
from skylake.core.frame_row import FrameRow
from skylake.errors import FrameError, FrameRejected
from skylake.image.fitsio.read_fits import open_stored
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.photometry.response_errors import with_response_error
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.quality.airmass_card import airmass_doubts
from skylake.image.quality.frame_verdicts import flags_of_all, judge_frame
from skylake.image.quality.gain_evidence import ShownGain, contradicted_gain
from skylake.image.quality.star_injection import Frame
from skylake.image.reduction.frame_record import PLAIN, FrameRecord, ReducedFrame, ReduceParams, new_row
from skylake.image.reduction.frame_stages import (
    detect,
    detrend,
    extract,
    extract_nothing,
    interpret_header,
    measure,
    subtract_background,
)
from skylake.image.solving.locate_frame import locate, point
from skylake.image.solving.located_frame import require_right
from skylake.image.solving.neighbour_frames import Prior

#: A frame is reduced so many times at most: places and fluxes depend a little on the gain that they show.
_GAIN_ROUNDS = 4


def reduce_frame(
    content: FileContent,
    profile: Profile,
    params: ReduceParams = PLAIN,
    prior: Prior | None = None,
    row: FrameRow | None = None,
) -> ReducedFrame:
    """Reduce one frame.

    Parameters
    ----------
    content : FileContent
        The file.
    profile : Profile
        The camera.
    params : ReduceParams
        What frames of the camera are reduced with; nothing by default.
    prior : Prior or None
        What its neighbours say of a frame that does not say itself where it points; needs ``params.reference``.
    row : FrameRow or None
        What :func:`~skylake.image.reduction.frame_record.new_row` gives for the file, if that is known already: it
        takes the hash of all bytes.

    Returns
    -------
    ReducedFrame
        Always, whatever the frame: a :class:`~skylake.errors.FrameError` becomes its status and reason, and what the
        stages before it gave stays in the row.
    """
    row = new_row(profile, content.path, content) if row is None else row
    row = row | {"wcs_neighbours": None if prior is None else prior.text}
    record, shown = FrameRecord(row), None
    try:
        for rounds in range(_GAIN_ROUNDS):
            record = FrameRecord(row)
            last = rounds == _GAIN_ROUNDS - 1
            other = _reduce(record, content, profile, params, prior, shown, judges_gain=not last)
            if other is None:
                break
            # All errors, and what was detected by them, are others with another gain.
            shown = other
            if params.keeper is not None:
                params.keeper.recall(row["frame_id"])
    except FrameError as error:
        record.refuse(error)
    if shown is not None and params.keeper is not None:
        # What was detected by the gain of the pixels is no beginning for who finds that gain anew.
        params.keeper.recall(row["frame_id"])
    return record.reduced()


def _reduce(
    record: FrameRecord,
    content: FileContent,
    profile: Profile,
    params: ReduceParams,
    prior: Prior | None,
    shown: ShownGain | None,
    judges_gain: bool,
) -> ShownGain | None:
    """Run the stages in their order: each gives a value to the next ones, and columns to the record.

    Those are read, header, detrend, background, detect, measure, locate, quality and forced. If the noise of the
    frame contradicts its gain, which is that in `shown` where it did so before, it ends after measure and returns the
    one that the noise shows.
    """
    take, file, reference = record.take, record.row["file"], params.reference
    stored = open_stored(content, profile.base.header.extension)
    reading, header = take(interpret_header(stored, profile, file)), stored.header
    record.keep_doubts(reading.doubts)
    if shown is not None:
        record.add(shown.taken(reading))
    image = take(detrend(stored, reading, params, file))
    # The unpacked pixels are half as large as the image, and are no longer needed.
    del stored
    given = take(point(header, reading, image))
    picture = take(subtract_background(record.row, image, reading))
    try:
        detected = take(detect(record.row, picture, given.pointing, params, prior))
    except FrameRejected as error:
        # A frame that its neighbours place has targets even so.
        record.refuse(error)
        _force(record, extract_nothing(record.row, picture, prior, params.usual), params)
        raise
    found = take(measure(record.row, picture, detected, params.keeper))
    other = contradicted_gain(reading, found.kept.measured, record.row) if judges_gain else None
    if other is not None:
        return other
    located = take(locate(record.row, reading, header, image, given, found.kept.measured, reference, prior))
    if located.lost is None:
        record.add(doubted(airmass_doubts(header, record.row, reading)))
    extracted = extract(record.row, picture, found, located, params.usual)
    record.add(judge_frame(record.row, _injectable(extracted, image), extracted.corrections, located.found))
    record.keep_sources(_with_response_error(extracted.measured, image))
    if located.cards is not None and located.lost is not None and not params.unplaced:
        # Where the cards put it is good enough to compare the frames of a field, but not to match a catalog.
        record.refuse(located.lost)
        record.place_sources(located.cards)
        raise located.lost
    pointing = located.pointing if params.unplaced else require_right(located, record.row, reading.camera)
    record.place_sources(pointing)
    # The pixels with their sky have done their part too.
    del image, picture, detected, found
    _force(record, replace(extracted, pointing=pointing), params)
    return None


def _force(record: FrameRecord, extracted: Extracted | None, params: ReduceParams) -> None:
    """Do what is asked for with a frame that is placed, such as forced photometry."""
    if params.finish is None or extracted is None:
        return
    row, measured = record.row, extracted.measured
    flags = measured.flags | int(flags_of_all(row))
    step = params.finish(replace(extracted, row=row, measured=replace(measured, flags=flags)))
    record.keep_finished(record.take(step))


def _injectable(extracted: Extracted, image: Image) -> Frame:
    """Return a frame into which stars can be injected; the image has its sky."""
    return Frame(
        image,
        extracted.background,
        extracted.measured,
        extracted.camera,
        extracted.gain,
        extracted.exposure_s,
        extracted.corrections.factor,
    )


def _with_response_error(measured: Measurements, image: Image) -> Measurements:
    flux_err = with_response_error(image, measured.x, measured.y, measured.flux, measured.flux_err)
    return replace(measured, flux_err=flux_err)
