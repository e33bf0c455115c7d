"""The step of ingest that measures targets with the point spread functions of their nights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from skylake.core.camera import Camera
from skylake.core.flags import FrameFlag
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import RowPart, Step
from skylake.core.reasons import Reason
from skylake.errors import FrameError
from skylake.flow.execution.task_guard import guard
from skylake.flow.forced.psf_pool import PsfKey, psf_for
from skylake.flow.forced.target_list import TargetList
from skylake.image.photometry.growth_curves import ApertureCorrections
from skylake.image.psf.default_growth import corrections_of
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import ForcedMeasurements, force_targets
from skylake.image.psf.psf_model import PsfModel
from skylake.image.psf.targets_on_frame import TargetFinder
from skylake.image.reduction.frame_record import Finisher


@dataclass(frozen=True, slots=True)
class Forcing:
    """What forced photometry needs: the targets, and the point spread functions of the nights."""

    targets: TargetList
    psfs: Mapping[PsfKey, PsfModel] = field(default_factory=dict)

    def usual(self, extracted: Extracted) -> PsfModel | None:
        """Return the point spread function of the night of a frame; None where it is not known."""
        row, (height, width) = extracted.row, extracted.signal.shape
        called = extracted.camera.called_filter(row.get("filter"))
        return psf_for(self.psfs, PsfKey(int(row["night"]), called, (height, width)))

    def corrections(self, extracted: Extracted) -> ApertureCorrections:
        """Return the aperture corrections of a frame, those of its night where its own stars are too few.

        A form that cannot be drawn leaves the assumed corrections: it spoils the targets, which state why, but not the
        detections.
        """
        own = guard(lambda: corrections_of(extracted, self.usual(extracted)))
        return extracted.corrections if isinstance(own, FrameError) else own

    def finisher(self, find_targets: TargetFinder) -> Finisher:
        """Return the function that measures the targets of a frame."""

        def finish(extracted: Extracted) -> Step[ForcedMeasurements | None]:
            row, version = extracted.row, self.targets.version
            if too_uncertain(row, extracted.camera):
                return Step(None, RowPart(_frame_row(version, None)))
            psf = self.usual(extracted)
            forced = guard(partial(force_targets, extracted, find_targets, psf))
            if isinstance(forced, FrameError):
                columns: FrameRow = {"targets_version": version}
                return Step(None, RowPart(columns | failure_row(row, forced)))
            return Step(forced, RowPart(_frame_row(version, forced)))

        return finish


def too_uncertain(row: FrameRow, camera: Camera) -> bool:
    """Return whether a frame was placed by interpolation, and not well enough to measure targets on it."""
    if not row["flags"] & FrameFlag.WCS_INTERPOLATED:
        return False
    most = camera.astrometry.interpolated_targets * camera.apertures.calibrated_radius_px
    err = row["wcs_err_px"]
    assert err is not None
    return not err <= most


def failure_row(row: FrameRow, error: FrameError) -> FrameRow:
    """Return the columns of a frame whose targets were not measured; its detections are as good as ever."""
    sentence = f"its targets were not measured: {error}"
    return {
        "message": "; ".join(part for part in (row.get("message"), sentence) if part),
        "reason": row.get("reason") or Reason.TARGETS_FAILED.value,
        "n_targets": None,
        "targets_dx_px": None,
        "targets_dy_px": None,
        "psf_stars": None,
        "psf_chi2": None,
    }


def _frame_row(version: int, forced: ForcedMeasurements | None) -> FrameRow:
    """Return what ``frames`` says of the targets of a frame."""
    row: FrameRow = {"targets_version": version, "n_targets": 0 if forced is None else len(forced)}
    if forced is not None:
        row |= {"targets_dx_px": forced.shift_px[0], "targets_dy_px": forced.shift_px[1]}
        row |= {"psf_stars": forced.quality.n_stars, "psf_chi2": forced.psf_chi2}
    return row
