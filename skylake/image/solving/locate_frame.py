"""Where a frame points: by its header, or found from its stars; refined by them, and judged by the catalog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from skylake.cameras import HeaderReading
from skylake.core.camera import Camera
from skylake.core.corrections import correction, corrections_of
from skylake.core.doubts import doubted
from skylake.core.flags import FrameFlag
from skylake.core.frame import Image
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import Notes, RowPart, Step, joined
from skylake.core.reasons import Reason
from skylake.errors import Corrections, FrameRejected
from skylake.image.allsky.allsky_pointing import SkyScene, place_by_geometry, place_by_stars
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.solving.expected_pointing import Seed
from skylake.image.solving.located_frame import (
    ASK_STARS,
    HeaderPointing,
    Judged,
    Located,
    MeasuredField,
    Reference,
    pointing_row,
    refined_row,
    sky_row,
)
from skylake.image.solving.neighbour_frames import Prior
from skylake.image.solving.neighbour_pointing import (
    few_stars,
    few_stars_row,
    interpolated_row,
    pointing_of_lens,
)
from skylake.image.solving.pointing_hints import (
    SCALE_FACTOR,
    attempts,
    contradicted,
    in_turn,
    of_profile,
    why_unsolved,
)
from skylake.image.solving.register_frames import KEPT_BY_CARDS, cards_row, lens_of_cards
from skylake.image.solving.solution_header import wcs_header
from skylake.image.solving.solve_near_expected import seek, telescope_row
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, Unsolved
from skylake.image.wcs.agreed_cards import agreed_cards
from skylake.image.wcs.header_wcs import Pointing, describe_pointing, header_pointing, view_pointing
from skylake.image.wcs.wcs_cards import SOLVE_FIRST, left_out

#: A frame with so many sources of which hardly any is a star does not point where its neighbours say.
_MANY_SOURCES = 20
_UNCHECKED = RowPart({"flags": FrameFlag.WCS_UNCHECKED})


def point(header: Any, reading: HeaderReading, image: Image) -> Step[HeaderPointing]:
    """Return where a header puts a frame, which is worth knowing even of one without sources."""
    shape = (image.pixels.shape[0], image.pixels.shape[1])
    try:
        pointing = header_pointing(header, reading.camera, shape, image.offset, image.raw_step)
    except FrameRejected as error:
        return Step(HeaderPointing(None, error), RowPart(sky_row(reading, None)))
    columns: FrameRow = {"wcs_source": "header"}
    part = RowPart(columns | pointing_row(pointing) | sky_row(reading, pointing))
    doubts = agreed_cards(header)[1]
    reading.doubts += doubts
    return Step(HeaderPointing(pointing), joined(part, doubted(doubts)))


def locate(
    row: FrameRow,
    reading: HeaderReading,
    header: Any,
    image: Image,
    given: HeaderPointing,
    measured: Measurements,
    reference: Reference | None,
    prior: Prior | None = None,
) -> Step[Located]:
    """Check what a header says, solve the frame if that is nothing or wrong, and refine it where the profile asks.

    Parameters
    ----------
    row : FrameRow
        The row of ``frames`` so far.
    reading : HeaderReading
    header : astropy.io.fits.Header
    image : Image
    given : HeaderPointing
        What :func:`point` gives.
    measured : Measurements
    reference : Reference or None
        None leaves the pointing of the header unchecked.
    prior : Prior or None
        What neighbours say of a frame that did not say itself where it points.
    """
    camera, shape = reading.camera, (image.pixels.shape[0], image.pixels.shape[1])
    if reference is None:
        found = Step(Located(given.pointing, _without_stars(given.lost, camera)), _UNCHECKED)
        return _kept_by_cards(found, reading, header, shape, image.raw_step)
    field = MeasuredField(row, camera, reading.exposure_s, shape, measured, reference, image.raw_step)
    found = _located(field, header, given, prior)
    parts = [RowPart({"wcs_catalog": reference.catalog}), found.part]
    if found.value.pointing is not given.pointing:
        parts.append(RowPart(sky_row(reading, found.value.pointing)))
        if not found.value.lost and camera.header.wcs != "none":
            unused = left_out(header, given.lost)
            reading.doubts += unused
            parts.append(doubted(unused))
    whole = Step(found.value, joined(*parts))
    return _kept_by_cards(whole, reading, header, shape, image.raw_step)


def _kept_by_cards(
    found: Step[Located], reading: HeaderReading, header: Any, shape: tuple[int, int], raw_step: int
) -> Step[Located]:
    """Put a frame without a WCS where its telescope cards say, so that its sources are kept."""
    located, camera = found.value, reading.camera
    is_lost = located.lost is not None and located.lost.reason == Reason.NO_WCS
    if located.pointing is not None or not is_lost or camera.astrometry.all_sky or reading.mjd_mid is None:
        return found
    lens = lens_of_cards(header, camera, shape, raw_step, reading.mjd_mid)
    if lens is None:
        return found
    pointing = pointing_of_lens(lens, shape)
    columns = cards_row(lens, camera) | pointing_row(pointing) | sky_row(reading, pointing)
    part = RowPart(columns, notes=Notes(if_refused=(KEPT_BY_CARDS,)))
    return Step(replace(located, cards=pointing), joined(found.part, part))


def _located(field: MeasuredField, header: Any, given: HeaderPointing, prior: Prior | None) -> Step[Located]:
    """Locate a frame in the way of its camera."""
    camera, mjd, reference = field.camera, field.mjd, field.reference
    if camera.astrometry.all_sky:
        return _in_the_sky(field)
    placed = None if prior is None else _between(field, prior)
    if placed is not None:
        return placed
    seeds = reference.guide.seeds(header, camera, field.shape, field.raw_step, mjd, str(field.row["file"]))
    return _placed(field, given, seeds, partial(attempts, header, camera, field.raw_step, mjd=mjd))


def _without_stars(lost: FrameRejected | None, camera: Camera) -> FrameRejected | None:
    """Return why a frame is lost without a catalog, with advice if its header never has a WCS."""
    if lost is None or camera.header.wcs != "none":
        return lost
    advice = (
        "its stars show where it points, given a lake with a catalog (--lake, and `skylake catalog import`)"
    )
    return _both(lost, FrameRejected(Reason.NO_WCS, advice))


def _asked(lost: FrameRejected) -> FrameRejected:
    """Return why a header does not say where it points, without the advice to ask the stars, which was done."""
    return FrameRejected(lost.reason, str(lost).removesuffix(SOLVE_FIRST), lost.corrections)


def _both(first: FrameRejected, then: FrameRejected) -> FrameRejected:
    corrections = first.corrections or then.corrections
    return FrameRejected(Reason(first.reason), f"{first}; {then}", corrections)


def _placed(
    field: MeasuredField,
    given: HeaderPointing,
    seeds: Sequence[Seed],
    tries: Callable[[Pointing | None], list[SolveParams]],
) -> Step[Located]:
    """Check what the header says, look near the seeds or solve if that is nothing or wrong, and refine it."""
    pointing, lost = given.pointing, given.lost
    judged = None if pointing is None else field.judge(pointing)
    if judged is None or (judged.wrong and not field.cloudy(judged)):
        solved, why = _place(field, seeds), None
        if solved is None:
            solved, why = _solve(field, tries(pointing))
        if solved is not None:
            judged, lost = solved, None
        elif why is not None:
            lost = why if lost is None else _both(_asked(lost), why)
        elif lost is not None and not field.camera.astrometry.solve:
            lost = _both(_asked(lost), FrameRejected(Reason.NO_WCS, ASK_STARS))
    elif _wants_refinement(judged, field.camera):
        judged = field.refine(judged, "refined")
    if judged is None:
        return Step(Located(None, lost), _UNCHECKED)
    telescope = telescope_row(judged.pointing, judged.check.passed, seeds, field.shape)
    return field.located(replace(judged, columns=judged.columns | telescope), lost)


def _wants_refinement(judged: Judged, camera: Camera) -> bool:
    """Return whether the profile asks to refine a pointing that is not wrong."""
    wanted = camera.astrometry.refine
    far = judged.offset_px > camera.astrometry.refine_above_px
    return judged.check.passed and (wanted == "always" or (wanted == "needed" and far))


def _place(field: MeasuredField, seeds: Sequence[Seed]) -> Judged | None:
    """Return where the frame points if its stars are near to where it should; None if they are not.

    What siblings say stands if too few stars are there to say anything.
    """
    for seed in seeds:
        known = seed, field.reference.find_stars, field.sources(), field.shape, field.mjd
        found = seek(*known, field.epoch, lambda pointing: field.refraction(pointing)[0])
        if found is None:
            continue
        judged = field.judge(found.pointing)
        if judged.check.passed or (seed.trusted and not judged.wrong):
            columns: FrameRow = {"wcs_source": seed.source, "wcs_geometry": found.geometry}
            if found.refined is not None:
                word = field.refraction(found.pointing)[1]
                columns = refined_row(found.refined, field.shape, word) | columns
            return replace(judged, columns=columns)
    return None


def _solve(field: MeasuredField, tries: list[SolveParams]) -> tuple[Judged | None, FrameRejected | None]:
    """Solve the frame by its sources; return what the catalog says of it, or why it is not solved."""
    solver = field.reference.solver
    if solver is None or not field.camera.astrometry.solve:
        return None, None
    found, stars, epoch = field.measured, field.stars(), field.epoch
    answers: list[Solution | Unsolved] = []
    refused: FrameRejected | None = None
    places = found.x[stars], found.y[stars], found.flux["aper1"][stars]
    bent: dict[str, Any] = {} if epoch is None else {"distortion": epoch.radial(field.shape)}
    for _, answer in in_turn(tries, lambda params: solver(*places, field.shape, replace(params, **bent))):
        answers.append(answer)
        if isinstance(answer, Solution):
            judged = field.refine(field.judge(_pointing_of(answer)), "solved")
            if not judged.wrong:
                return _solved(field, judged, answer, of_profile(tries)), None
            # A solution that was refused does not end the search.
            refused = FrameRejected(Reason.NO_WCS, "a star pattern fits that the other stars do not confirm")
    return None, refused or FrameRejected(Reason.NO_WCS, why_unsolved(answers, of_profile(tries)))


def _solved(field: MeasuredField, judged: Judged, answer: Solution, profile: SolveParams) -> Judged:
    """Return a pointing that was solved, with what its solution says against the profile."""
    columns: FrameRow = {"wcs_log_odds": answer.log_odds, "message": None}
    corrections: Corrections = {}
    wrong = contradicted(profile, answer)
    if wrong:
        corrections = _profile_corrections(field, answer)
        columns["message"] = f"solved, but the profile is wrong: {wrong}; {correction(corrections)}"
    return replace(judged, columns=judged.columns | columns, corrections=corrections)


def _profile_corrections(field: MeasuredField, found: Solution) -> Corrections:
    """Return the scale and the parity of a solution where the profile has others."""
    known, raw_scale = field.camera.optics.pixel_scale_arcsec, found.scale_arcsec / field.raw_step
    values: dict[str, float | bool] = {}
    if known is not None and not 1.0 / SCALE_FACTOR <= raw_scale / known <= SCALE_FACTOR:
        values["optics.pixel_scale_arcsec"] = raw_scale
    if field.camera.astrometry.mirrored not in (None, found.parity > 0):
        values["astrometry.mirrored"] = found.parity > 0
    return corrections_of(values)


def _between(field: MeasuredField, prior: Prior) -> Step[Located] | None:
    """Place the frame by what its neighbours say: by its few stars if that can be, else by interpolation."""
    sources, shape = field.sources(), field.shape
    for number, (lens, _) in enumerate(prior.hints):
        start = field.judge(pointing_of_lens(lens, shape))
        found = few_stars(prior, number, start.stars, sources, shape)
        if found is not None:
            judged = field.judge(pointing_of_lens(found.lens, shape))
            step = field.located(replace(judged, columns=few_stars_row(found)), None)
            # Three stars are enough here, since they are looked for in one place only.
            checked = RowPart(cleared=FrameFlag.WCS_UNCHECKED)
            return Step(replace(step.value, lost=None), joined(step.part, checked))
    if prior.between is None:
        return None
    judged = field.judge(pointing_of_lens(prior.between.lens, shape))
    if judged.wrong and len(sources.x) >= _MANY_SOURCES and not field.cloudy(judged):
        return None
    step = field.located(judged, None)
    part = joined(RowPart(interpolated_row(prior.between)), step.part)
    if not judged.check.passed:
        part = joined(part, _UNCHECKED)
    return Step(replace(step.value, lost=None), part)


def _in_the_sky(field: MeasuredField) -> Step[Located]:
    """Place a frame of the whole sky: by the geometry of its camera if its stars are there, else by them alone."""
    find_stars, band = field.reference.find_stars, field.row.get("band")
    try:
        scene = SkyScene.of(field.measured, field.shape, field.mjd, field.camera, band, find_stars)
        known = place_by_geometry(scene, field.reference.guide.geometries)
        judged = None if known is None else field.judge(view_pointing(known.view))
    except FrameRejected as error:
        return Step(Located(None, error), _UNCHECKED)
    confirmed = False
    if judged is None or (judged.wrong and not field.cloudy(judged)):
        try:
            known = place_by_stars(scene)
        except FrameRejected as error:
            # More of its stars are where the geometry has them than chance brings there, be they few in twilight.
            confirmed = known is not None and known.by_stars
            if not confirmed:
                return Step(Located(None, error), _UNCHECKED)
        else:
            judged = field.judge(view_pointing(known.view))
    assert known is not None and judged is not None
    step = field.located(replace(judged, columns=cast("FrameRow", known.row)), None)
    part = step.part if known.by_stars else joined(step.part, _UNCHECKED)
    return Step(replace(step.value, lost=None) if confirmed else step.value, part)


def _pointing_of(solution: Solution) -> Pointing:
    from astropy.wcs import WCS

    return describe_pointing(WCS(wcs_header(solution)), *solution.shape)
