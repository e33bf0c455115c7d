"""Where a frame points: by its header, or found from its stars; refined by them, and judged by the catalog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.cameras import HeaderReading
from skylake.core.camera import Camera
from skylake.core.corrections import correction
from skylake.core.flags import FrameFlag, SourceFlag
from skylake.core.frame import Image
from skylake.core.reasons import Reason
from skylake.errors import FrameRejected
from skylake.image.allsky.allsky_pointing import SkyScene, place_by_geometry, place_by_stars
from skylake.image.distortion.distortion_epochs import Epoch, epoch_at
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.quality.cloud_cover import count_found
from skylake.image.quality.frame_verdicts import check_radius_arcsec, clear_sky_of, is_cloudy
from skylake.image.solving.catalog_crowding import catalog_crowding
from skylake.image.solving.expected_pointing import Guide, Seed
from skylake.image.solving.located_frame import Judged, Located
from skylake.image.solving.neighbour_frames import Prior
from skylake.image.solving.neighbour_pointing import few_stars, few_stars_row, note_between, pointing_of_lens
from skylake.image.solving.pointing_columns import pointing_row, refined_row
from skylake.image.solving.pointing_hints import (
    SCALE_FACTOR,
    attempts,
    contradicted,
    in_turn,
    of_profile,
    why_unsolved,
)
from skylake.image.solving.refined_wcs import refine_known
from skylake.image.solving.solution_header import wcs_header
from skylake.image.solving.solve_near_expected import seek, telescope_row
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, Unsolved
from skylake.image.solving.wcs_check import check_pointing
from skylake.image.wcs.field_refraction import Bending, bending_of
from skylake.image.wcs.header_wcs import (
    Pointing,
    StarFinder,
    describe_pointing,
    header_pointing,
    stars_inside,
    view_pointing,
)
from skylake.image.wcs.star_matching import Sources
from skylake.image.wcs.wcs_cards import SOLVE_FIRST

Floats = npt.NDArray[np.float64]

#: Tells where 0-based sources of some flux, on an image of some height and width, point.
Solver = Callable[[Floats, Floats, Floats, tuple[int, int], SolveParams], Solution | Unsolved]

#: Places of these are not those of stars.
_MISPLACED = SourceFlag.STREAK | SourceFlag.BAD_PIXEL | SourceFlag.CENTROID_FAILED
#: A source with more of its light in one pixel is a hot pixel or a hit by a particle.
_POINT = 0.8
#: A solution is right to so many pixels all over the image: its lens has two terms.
_SOLVED_PX = 20.0
#: What helps where the profile keeps the stars from being asked.
_ASK_STARS = "with astrometry.solve = true in the profile its stars show where it points"
#: A frame with so many sources of which hardly any is a star does not point where its neighbours say.
_MANY_SOURCES = 20


@dataclass(frozen=True, slots=True)
class Reference:
    """What a lake knows: stars, a solver by their patterns, the distortion of the camera, where it should point."""

    find_stars: StarFinder
    solver: Solver | None = None
    epochs: Sequence[Epoch] = ()
    guide: Guide = field(default_factory=Guide)
    catalog: str | None = None
    """Its name."""


def point(header: Any, camera: Camera, image: Image) -> tuple[Pointing | None, FrameRejected | None]:
    """Return the pointing of a header, or why it has none."""
    shape = (image.pixels.shape[0], image.pixels.shape[1])
    try:
        return header_pointing(header, camera, shape, image.offset, image.raw_step), None
    except FrameRejected as error:
        return None, error


def locate(
    row: dict[str, Any],
    reading: HeaderReading,
    header: Any,
    image: Image,
    told: tuple[Pointing | None, FrameRejected | None],
    measured: Measurements,
    reference: Reference | None,
    prior: Prior | None = None,
) -> Located:
    """Check what a header tells, solve the frame if that is nothing or wrong, and refine it where the profile asks.

    Parameters
    ----------
    row : dict
        The row of ``frames``, which gets what is found.
    reading : HeaderReading
    header : astropy.io.fits.Header
    image : Image
    told : tuple
        What :func:`point` gives.
    measured : Measurements
    reference : Reference or None
        None leaves the pointing of the header unchecked.
    prior : Prior or None
        What neighbours tell of a frame that did not tell itself where it points.
    """
    if reference is None:
        row["flags"] |= FrameFlag.WCS_UNCHECKED
        return Located(told[0], _without_stars(told[1], reading.camera))
    shape, camera = (image.pixels.shape[0], image.pixels.shape[1]), reading.camera
    row["wcs_catalog"] = reference.catalog
    frame = _Frame(row, camera, reading.exposure_s, shape, measured, reference, image.raw_step)
    if camera.astrometry.all_sky:
        return frame.in_the_sky()
    placed = None if prior is None else frame.between(prior)
    if placed is not None:
        return placed
    seeds = reference.guide.seeds(header, camera, shape, image.raw_step, row["mjd_mid"], str(row["file"]))
    return frame.placed(*told, seeds, partial(attempts, header, camera, image.raw_step, mjd=row["mjd_mid"]))


def _without_stars(lost: FrameRejected | None, camera: Camera) -> FrameRejected | None:
    """Return why a frame is lost where no catalog is at hand, with what helps if its header never does."""
    if lost is None or camera.header.wcs != "none":
        return lost
    mend = (
        "its stars tell where it points, given a lake with a catalog (--lake, and `skylake catalog import`)"
    )
    return _both(lost, FrameRejected(Reason.NO_WCS, mend))


def _asked(lost: FrameRejected) -> FrameRejected:
    """Return why a header tells nothing, without the advice to ask the stars, which was done."""
    return FrameRejected(lost.reason, str(lost).removesuffix(SOLVE_FIRST))


def _both(first: FrameRejected, then: FrameRejected) -> FrameRejected:
    return FrameRejected(Reason(first.reason), f"{first}; {then}")


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame whose sources are measured, with the sky that it may show."""

    row: dict[str, Any]
    camera: Camera
    exposure_s: float
    shape: tuple[int, int]
    measured: Measurements
    reference: Reference
    raw_step: int

    @property
    def epoch(self) -> Epoch | None:
        """What was learnt of the distortion of the camera at the time of the frame."""
        return epoch_at(self.reference.epochs, self.row["mjd_mid"], self.shape)

    def placed(
        self,
        pointing: Pointing | None,
        lost: FrameRejected | None,
        seeds: Sequence[Seed],
        tries: Callable[[Pointing | None], list[SolveParams]],
    ) -> Located:
        """Check what the header tells, look near the seeds or solve if that is nothing or wrong, and refine it."""
        judged = None if pointing is None else self.judge(pointing)
        if judged is None or (judged.wrong and not self.cloudy(judged)):
            solved, why = self.place(seeds), None
            if solved is None:
                solved, why = self.solve(tries(pointing))
            if solved is not None:
                judged, lost = solved, None
            elif why is not None:
                lost = why if lost is None else _both(_asked(lost), why)
            elif lost is not None and not self.camera.astrometry.solve:
                lost = _both(_asked(lost), FrameRejected(Reason.NO_WCS, _ASK_STARS))
        elif self.wants_refinement(judged):
            judged = self.refine(judged, "refined")
        if judged is None:
            self.row["flags"] |= FrameFlag.WCS_UNCHECKED
            return Located(None, lost)
        self.row.update(telescope_row(judged.pointing, judged.check.passed, seeds, self.shape))
        return self.noted(judged, lost)

    def judge(self, pointing: Pointing) -> Judged:
        """Look for catalog stars where a pointing puts them."""
        stars = self.reference.find_stars(
            pointing.ra_deg, pointing.dec_deg, pointing.radius_deg, self.row["mjd_mid"]
        )
        found, radius = (
            self.measured,
            check_radius_arcsec(self.camera, pointing.pixel_scale_arcsec),
        )
        places = found.x, found.y, found.flux["aper1"]
        inside, clear = stars_inside(pointing, self.shape, stars), clear_sky_of(self.row, self.camera)
        check = check_pointing(pointing, self.shape, *places, stars, radius, inside)
        counted = count_found(pointing, self.shape, *places, stars, radius, clear, inside)
        return Judged(pointing, stars, check, counted, radius)

    def cloudy(self, judged: Judged) -> bool:
        """Tell whether clouds explain that stars are not found."""
        return is_cloudy(self.row | _found_row(judged) | {"n_detected": len(self.measured)}, self.camera)

    def wants_refinement(self, judged: Judged) -> bool:
        """Tell whether the profile asks to refine a pointing that is not wrong."""
        wanted = self.camera.astrometry.refine
        far = judged.offset_px > self.camera.astrometry.refine_above_px
        return judged.check.passed and (wanted == "always" or (wanted == "needed" and far))

    def place(self, seeds: Sequence[Seed]) -> Judged | None:
        """Return where the frame points if its stars are near to where it should; None if they are not.

        What siblings tell stands if too few stars are there to say anything.
        """
        for seed in seeds:
            known = seed, self.reference.find_stars, self.sources(), self.shape, self.row["mjd_mid"]
            found = seek(*known, self.epoch, lambda pointing: self.refraction(pointing)[0])
            if found is None:
                continue
            judged = self.judge(found.pointing)
            if judged.check.passed or (seed.trusted and not judged.wrong):
                word = self.refraction(found.pointing)[1]
                numbers = {} if found.refined is None else refined_row(found.refined, self.shape, word)
                self.row.update(numbers, wcs_source=seed.source, wcs_geometry=found.geometry)
                return judged
        return None

    def solve(self, tries: list[SolveParams]) -> tuple[Judged | None, FrameRejected | None]:
        """Solve the frame by its sources; return what the catalog says of it, or why it is not solved."""
        solver = self.reference.solver
        if solver is None or not self.camera.astrometry.solve:
            return None, None
        found, stars = self.measured, self.stars()
        answers: list[Solution | Unsolved] = []
        refused: FrameRejected | None = None
        epoch, before = self.epoch, dict(self.row)
        places = found.x[stars], found.y[stars], found.flux["aper1"][stars]
        bent: dict[str, Any] = {} if epoch is None else {"distortion": epoch.radial(self.shape)}
        for _, answer in in_turn(tries, lambda params: solver(*places, self.shape, replace(params, **bent))):
            answers.append(answer)
            if isinstance(answer, Solution):
                judged = self.refine(self.judge(_pointing_of(answer)), "solved")
                if not judged.wrong:
                    wrong = contradicted(of_profile(tries), answer)
                    self.row["wcs_log_odds"] = answer.log_odds
                    self.row["message"] = (
                        wrong and f"solved, but the profile is wrong: {wrong}; {self.mend(answer)}"
                    )
                    return judged, None
                # What was refused leaves nothing in the row, and does not end the search.
                self.row.clear()
                self.row.update(before)
                refused = FrameRejected(
                    Reason.NO_WCS, "a star pattern fits that the other stars do not confirm"
                )
        if refused is None:
            refused = FrameRejected(Reason.NO_WCS, why_unsolved(answers, of_profile(tries)))
        return None, refused

    def mend(self, found: Solution) -> str:
        """Return the advice to give the profile the scale and the parity of a solution."""
        known, raw_scale = self.camera.optics.pixel_scale_arcsec, found.scale_arcsec / self.raw_step
        values: dict[str, float | bool] = {}
        if known is not None and not 1.0 / SCALE_FACTOR <= raw_scale / known <= SCALE_FACTOR:
            values["optics.pixel_scale_arcsec"] = raw_scale
        if self.camera.astrometry.mirrored not in (None, found.parity > 0):
            values["astrometry.mirrored"] = found.parity > 0
        return correction(values)

    def stars(self) -> npt.NDArray[np.intp]:
        """Return the sources that may be stars, and have their places."""
        found = self.measured
        sharp = found.flux_max > _POINT * found.flux["aper1"] * self.exposure_s
        return np.flatnonzero(((found.flags & int(_MISPLACED)) == 0) & ~sharp)

    def sources(self) -> Sources:
        """Return these sources, brightest first."""
        found, stars = self.measured, self.stars()
        return Sources.ranked(found.x[stars], found.y[stars], found.x_err[stars], found.flux["aper1"][stars])

    def between(self, prior: Prior) -> Located | None:
        """Place the frame by what its neighbours tell: by its few stars if that can be, else by interpolation."""
        sources = self.sources()
        for number, (lens, _) in enumerate(prior.hints):
            start = self.judge(pointing_of_lens(lens, self.shape))
            found = few_stars(prior, number, start.stars, sources, self.shape)
            if found is not None:
                self.row.update(few_stars_row(found))
                located = self.noted(self.judge(pointing_of_lens(found.lens, self.shape)), None)
                # Three stars are enough here, since they are looked for in one place only.
                self.row["flags"] &= ~FrameFlag.WCS_UNCHECKED
                return replace(located, lost=None)
        if prior.between is None:
            return None
        judged = self.judge(pointing_of_lens(prior.between.lens, self.shape))
        if judged.wrong and len(sources.x) >= _MANY_SOURCES and not self.cloudy(judged):
            return None
        note_between(self.row, prior.between)
        located = self.noted(judged, None)
        if not judged.check.passed:
            self.row["flags"] |= FrameFlag.WCS_UNCHECKED
        return replace(located, lost=None)

    def in_the_sky(self) -> Located:
        """Place a frame of the whole sky: by the geometry of its camera if its stars are there, else by them alone."""
        try:
            when, band = self.row["mjd_mid"], self.row.get("band")
            scene = SkyScene.of(self.measured, self.shape, when, self.camera, band, self.reference.find_stars)
            known = place_by_geometry(scene, self.reference.guide.geometries)
            judged = None if known is None else self.judge(view_pointing(known.view))
        except FrameRejected as error:
            self.row["flags"] |= FrameFlag.WCS_UNCHECKED
            return Located(None, error)
        confirmed = False
        if judged is None or (judged.wrong and not self.cloudy(judged)):
            try:
                known = place_by_stars(scene)
            except FrameRejected as error:
                # More of its stars are where the geometry has them than chance brings there, be they few in twilight.
                confirmed = known is not None and known.by_stars
                if not confirmed:
                    self.row["flags"] |= FrameFlag.WCS_UNCHECKED
                    return Located(None, error)
            else:
                judged = self.judge(view_pointing(known.view))
        assert known is not None and judged is not None
        self.row.update(known.row)
        if not known.by_stars:
            self.row["flags"] |= FrameFlag.WCS_UNCHECKED
        located = self.noted(judged, None)
        return replace(located, lost=None) if confirmed else located

    def refine(self, judged: Judged, source: str) -> Judged:
        """Fit a lens to the stars of the frame; a pointing that cannot be refined stays as it is."""
        radius = max(_SOLVED_PX, judged.radius_arcsec / judged.pointing.pixel_scale_arcsec)
        bending, word = self.refraction(judged.pointing)
        better, known = refine_known(
            judged.pointing, judged.stars, self.sources(), self.shape, radius, self.epoch, bending
        )
        if better is None:
            self.row["wcs_source"] = source if source == "solved" else "header"
            return judged
        geometry = None if known is None else known.name
        self.row.update(refined_row(better, self.shape, word), wcs_source=source, wcs_geometry=geometry)
        return self.judge(replace(better.pointing, lens=better.lens))

    def refraction(self, pointing: Pointing) -> tuple[Bending | None, str]:
        """Return the refraction over the field, and the word for whether it is known."""
        place = pointing.ra_deg, pointing.dec_deg
        return bending_of(self.camera, self.row.get("band"), self.row["mjd_mid"], *place)

    def noted(self, judged: Judged, lost: FrameRejected | None) -> Located:
        """Write what the catalog says into the row."""
        row, check = self.row, judged.check
        row.update(
            wcs_expected=check.n_expected,
            wcs_matched=check.n_matched,
            wcs_offset_arcsec=check.offset_arcsec,
            **_found_row(judged),
            **pointing_row(judged.pointing),
        )
        if not check.decisive:
            row["flags"] |= FrameFlag.WCS_UNCHECKED
        if not check.passed:
            return Located(judged.pointing, self.refusal(judged, lost))
        match_px = judged.radius_arcsec / judged.pointing.pixel_scale_arcsec
        reach, found = self.camera.apertures.total_radius_px, self.measured
        crowding = catalog_crowding(
            judged.pointing, found.x, found.y, judged.stars, match_px, reach, 0.25 * reach
        )
        return Located(judged.pointing, None, crowding, judged.stars, judged.found)

    def refusal(self, judged: Judged, lost: FrameRejected | None) -> FrameRejected | None:
        """Return why a frame whose stars are not where its WCS puts them is refused; None if it is not."""
        if not judged.wrong:
            return None
        check = judged.check
        why = _ASK_STARS if lost is None else str(lost)
        found = (
            f"{check.n_matched} of the {check.n_expected} brightest catalog stars are where the WCS puts them"
        )
        told = f"only {found}" if check.confirmed else f"{found}, no more than by chance"
        return FrameRejected(Reason.BAD_WCS, f"{told}; {why}")


def _found_row(judged: Judged) -> dict[str, Any]:
    return {"n_expected": judged.found.n_expected, "found_fraction": judged.found.fraction}


def _pointing_of(solution: Solution) -> Pointing:
    from astropy.wcs import WCS

    return describe_pointing(WCS(wcs_header(solution)), *solution.shape)


def require_right(located: Located, row: dict[str, Any], camera: Camera) -> Pointing:
    """Return where a frame points; raise if that is not known, or if its stars are not there."""
    if located.lost is not None:
        if located.pointing is not None and is_cloudy(row, camera):
            raise FrameRejected(Reason.CLOUDY, str(row["message"]))
        raise located.lost
    if located.pointing is None:
        raise FrameRejected(Reason.NO_WCS, "the frame has no WCS")
    return located.pointing
