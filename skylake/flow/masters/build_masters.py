"""``skylake calib build``: build masters from frames and commit them to the library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask

from skylake.cameras import Profile
from skylake.cameras.frame_kinds import CalibrationKind
from skylake.core.counted import counted
from skylake.core.ids import config_sha256
from skylake.core.reasons import Reason
from skylake.errors import FrameError, LakeError, reason_of
from skylake.flow.discover_files import find_frames
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.retry_commit import retry_superseded
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.masters.assemble_master import DIFFERENCE_FLATS, image_master
from skylake.flow.masters.bad_pixel_masks import bad_pixel_rows
from skylake.flow.masters.bias_levels import of_one_level, several_levels
from skylake.flow.masters.gain_measurements import drop_pixels, read_noise, transfer_row
from skylake.flow.masters.master_entries import BuiltMaster, MasterBuilder
from skylake.flow.masters.master_groups import MasterGroup, group
from skylake.flow.masters.master_tasks import Exposure, PreparedFile, look_at, prepare_file
from skylake.flow.masters.sky_masks import MASK_FRAMES, sky_mask_row, thinned
from skylake.image.combine.make_masters import FlatForm
from skylake.image.masters.master_library import Library, Master
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.lake.storage.slices import read_verified
from skylake.table.masters import masters_table, with_new

_LOOK_CHUNK = 16


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How masters are made.

    Attributes
    ----------
    kind : {'bias', 'dark', 'flat'} or None
        What all frames are; None goes by their headers.
    form : {'plain', 'difference', 'super', 'mask'}
        How flats are made: of flats, of the differences of bright and faint flats, or of frames of the sky; with
        'mask' frames of the sky make no flat but a mask of bad pixels.
    min_frames : int
        Fewer frames make no master.
    by_night : bool
        Whether each night has masters of its own.
    valid_from_mjd, valid_to_mjd : float or None
        Validity, in place of that which the profile gives.
    """

    kind: CalibrationKind | None = None
    form: FlatForm = "plain"
    min_frames: int = 3
    by_night: bool = True
    valid_from_mjd: float | None = None
    valid_to_mjd: float | None = None


@dataclass(slots=True)
class MasterBuildReport:
    """What a build did.

    Attributes
    ----------
    masters : list of dict
        The rows of ``masters`` that were made.
    left_out : list of dict
        file, reason and message of each frame that was left out.
    warnings : list of str
        What else is worth knowing, a sentence each.
    """

    masters: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def all_well(self) -> bool:
        """Whether every frame went into a master."""
        return not self.left_out and not self.warnings

    def leave_out(self, file: str, reason: str, message: str) -> None:
        """Note that a frame was left out."""
        self.left_out.append({"file": file, "reason": reason, "message": message})


def build_masters(
    lake: Lake,
    profile: Profile,
    paths: Iterable[str | Path],
    workers: Workers,
    options: BuildOptions = BuildOptions(),
    progress: Progress | None = None,
) -> MasterBuildReport:
    """Make masters of calibration frames and add them to the library of a lake.

    Bias frames are combined first, so that darks are freed of them, and so on. A frame that is of no use is named and
    left out. The new masters become visible together.

    Raises
    ------
    LakeError
        If there is nothing to read, nothing could be made, or the lake cannot be written.
    """
    files, complaints = find_frames(paths)
    if not files:
        raise LakeError("; ".join(complaints) or "no files were named; name files or folders with frames")
    report = MasterBuildReport(warnings=complaints)
    lake.keep_profile(profile)
    snapshot = lake.snapshot()
    with lake.stage(f"calib-{profile.name}") as staging:
        run = _Build(lake, profile, workers, options, progress or Silent(), staging, report)
        run.library = library_of(snapshot, profile.name)
        frames = run.look(files)
        take = {"difference": DIFFERENCE_FLATS, "mask": MASK_FRAMES}
        least = max(options.min_frames, take.get(options.form, 1))
        make = run.make_mask if options.form == "mask" else run.make
        for frames_of_master in group(frames, profile, options.by_night, least):
            make(frames_of_master)
        run.make_masks()
        del snapshot  # or it would count as being read
        # Another run of the camera may have added masters in the meantime; both are wanted.
        retry_superseded(lambda: _commit(lake, profile, run.rows, staging), run.progress)
    report.masters = run.rows
    return report


def library_of(snapshot: Snapshot, camera: str) -> Library:
    """Return the calibration library of a camera in a snapshot."""
    rows = snapshot.read_part("masters", camera).to_pylist()
    root = snapshot.layout.root
    return Library(root, tuple(Master.from_row(row) for row in rows), str(root))


class _Build:
    """One run of a build."""

    def __init__(
        self,
        lake: Lake,
        profile: Profile,
        workers: Workers,
        options: BuildOptions,
        progress: Progress,
        staging: Path,
        report: MasterBuildReport,
    ) -> None:
        self.lake, self.profile, self.workers, self.options = lake, profile, workers, options
        self.progress, self.staging, self.report = progress, staging, report
        self.library = Library(lake.root, (), str(lake.root))
        self.builder = MasterBuilder(lake.layout, profile, workers, options.form, staging)
        self.made: list[BuiltMaster] = []
        self.rows: list[dict[str, Any]] = []

    def look(self, files: Sequence[Path]) -> list[Exposure]:
        """Return the frames that can be used by their headers."""
        names = [str(path) for path in files]
        pieces = [names[i : i + _LOOK_CHUNK] for i in range(0, len(names), _LOOK_CHUNK)]
        task = dask.delayed(look_at, pure=False)
        self.progress.begin("headers", len(names))
        # A mask of frames of the sky begins as a flat of them does.
        kind = "flat" if self.options.form == "mask" else self.options.kind
        makers = [partial(task, piece, self.profile, kind) for piece in pieces]
        results = run_in_windows(
            self.workers, makers, lambda number, _: self.progress.advance(len(pieces[number]))
        )
        self.progress.end()
        frames = []
        for piece, result in zip(pieces, results, strict=True):
            for name, outcome in zip(piece, _whole(result), strict=True):
                if isinstance(outcome, FrameError):
                    self.report.leave_out(name, outcome.reason, str(outcome))
                else:
                    frames.append(outcome)
        return frames

    def make(self, group: MasterGroup) -> None:
        """Make the master of a group, if enough of its frames can be used."""
        prepared = self._prepare(group)
        if group.kind == "bias":
            prepared = self._of_one_level(group, prepared)
        if len(prepared) < self.options.min_frames:
            self._leave_out(
                prepared,
                f"only {len(prepared)} usable frames of {group.text}, and a master takes "
                f"{self.options.min_frames}; give more, or allow fewer with --min-frames",
            )
            return
        made = image_master(self.builder, group, prepared)
        self._warn(group, group.kind)
        if group.kind == "bias":
            made.row.update(read_noise(self.builder, made))
        self._add(made.row)
        if group.kind == "flat" and self.options.form == "plain":
            transfer = transfer_row(self.builder, made, self.made, self.library)
            if transfer is not None:
                self._add(transfer)
        drop_pixels(made)
        self.made.append(made)

    def make_mask(self, group: MasterGroup) -> None:
        """Make the mask of bad pixels that frames of the sky show, if there are enough and their stars move."""
        group = thinned(group)
        prepared = self._prepare(group)
        if len(prepared) < MASK_FRAMES:
            self._leave_out(
                prepared,
                f"only {len(prepared)} usable frames of the sky, and a mask takes {MASK_FRAMES}; give more",
            )
            return
        row = sky_mask_row(self.builder, group, prepared)
        if isinstance(row, str):
            self._leave_out(prepared, row)
            return
        self._warn(group, "bad_pixels")
        self._add(row)

    def _leave_out(self, files: Iterable[str], why: str) -> None:
        for file in files:
            self.report.leave_out(file, Reason.BAD_CALIBRATION, why)

    def _warn(self, group: MasterGroup, kind: str) -> None:
        steps = self.profile.at(group.mjd).reduction.steps
        if kind not in steps:
            self.report.warnings.append(
                f"{group.text}: the steps of {self.profile.name} do not name {kind}, so no frame is reduced "
                f"with its master; add {kind!r} to reduction.steps of the profile"
            )

    def _prepare(self, group: MasterGroup) -> dict[str, PreparedFile]:
        """Prepare the frames of a group; return those that can be used, by file."""
        task = dask.delayed(prepare_file, pure=False)
        folder = self.staging / "prepared" / f"{len(self.made):03d}-{group.kind}-{len(self.report.left_out)}"
        self.progress.begin(group.text, len(group.frames))
        makers = [
            partial(task, frame, self.profile, self.library, folder / f"{number:05d}.npy")
            for number, frame in enumerate(group.frames)
        ]
        results = run_in_windows(self.workers, makers, lambda *_: self.progress.advance())
        self.progress.end()
        files: dict[str, PreparedFile] = {}
        seen: set[str] = set()
        for frame, result in zip(group.frames, results, strict=True):
            prepared = _whole(result)
            if isinstance(prepared, FrameError):
                self.report.leave_out(frame.file, prepared.reason, str(prepared))
            elif prepared.sha256 in seen:
                self.report.leave_out(frame.file, Reason.BAD_CALIBRATION, "the same bytes as another frame")
            else:
                seen.add(prepared.sha256)
                files[frame.file] = prepared
        return self._of_one_shape(group, files)

    def _of_one_shape(self, group: MasterGroup, files: dict[str, PreparedFile]) -> dict[str, PreparedFile]:
        """Return the frames that have the shape that most have."""
        shapes = [prepared.shape for prepared in files.values()]
        usual = max(shapes, key=shapes.count) if shapes else None
        for file, prepared in files.items():
            if prepared.shape != usual and usual is not None:
                self.report.leave_out(
                    file,
                    Reason.WRONG_SIZE,
                    f"the frame has {prepared.shape[1]} x {prepared.shape[0]} pixels and most of {group.text} have "
                    f"{usual[1]} x {usual[0]}; leave it out, or name the size in detector.width_px and height_px",
                )
        return {file: prepared for file, prepared in files.items() if prepared.shape == usual}

    def _of_one_level(self, group: MasterGroup, files: dict[str, PreparedFile]) -> dict[str, PreparedFile]:
        """Return bias frames of one level: a few of another are left out, and of two series no master is made."""
        pieces = of_one_level(files)
        advice = (
            "if the detector was read out in several ways, name the cards that give gain, mode or offset in "
            f"header.readout of {self.profile.call_name}"
        )
        if len(pieces) > 1 and len(pieces[1]) >= self.options.min_frames:
            self.report.warnings.append(
                f"{group.text}: the levels of the frames differ by far more than their noise, "
                f"{several_levels(files, pieces)}, so no master is made of them; {advice}, or give each in a "
                "call of its own"
            )
            return {}
        for file in [file for piece in pieces[1:] for file in piece]:
            self.report.leave_out(
                file,
                Reason.BAD_CALIBRATION,
                f"its level differs from that of the others of {group.text} by far more than their noise, "
                f"{several_levels(files, [[file], pieces[0]])}; leave it out, or {advice}",
            )
        return {file: files[file] for file in files if file in pieces[0]} if pieces else {}

    def make_masks(self) -> None:
        """Make the masks of bad pixels that follow from what was made."""
        for row in bad_pixel_rows(self.builder, self.made, self.library):
            self._add(row)

    def _add(self, row: dict[str, Any]) -> None:
        options = self.options
        if options.valid_from_mjd is not None:
            row["valid_from_mjd"] = options.valid_from_mjd
        if options.valid_to_mjd is not None:
            row["valid_to_mjd"] = options.valid_to_mjd
        self.rows.append(row)
        self.library = Library(
            self.library.root, (*self.library.masters, Master.from_row(row)), self.library.lake
        )
        self.progress.line(f"calib {row['name']}: {counted(row['n_frames'], 'frame')}")


def _whole(result: Any) -> Any:
    """Return the result of a task; raise if there is none, which is no frame's fault."""
    if isinstance(result, BaseException) and not isinstance(result, FrameError):
        raise LakeError(
            f"the masters could not be made ({reason_of(result, with_file=True)}); fix that and run again"
        ) from result
    return result


def _commit(lake: Lake, profile: Profile, rows: Sequence[dict[str, Any]], staging: Path) -> None:
    """Add rows to those that the library has at the moment.

    Raises
    ------
    Superseded
        If another run has changed the library of the camera in the meantime.
    """
    if not rows:
        return
    camera, snapshot = profile.name, lake.snapshot()
    where = snapshot.slices("masters", lambda part: part.name == camera)
    held = [row for one in where for row in read_verified("masters", one).to_pylist()]
    every = with_new(held, rows)
    inputs = {
        "configuration": profile.sha256,
        "masters": config_sha256({str(row["name"]): row["sha256"] for row in every}),
    }
    folder = staging / f"masters-{snapshot.number}"
    part = stage_part(masters_table(every), "masters", camera, folder, None, camera, None, inputs)
    commit = Commit("calib", camera, base=snapshot.number)
    commit.configure(profile.configurations)
    commit.replace(part, folder)
    lake.commit(commit)
