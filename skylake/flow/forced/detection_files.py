"""Cache the detections of frames in files for the time of a run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from skylake import logs
from skylake.durable import replacing
from skylake.image.reduction.detection_cache import Kept

_log = logs.get(__name__)

#: Files that are kept at a time: some megabytes each, in crowded fields about one for each pixel.
_MOST = 64


@dataclass(frozen=True, slots=True)
class DetectionFiles:
    """A file for each frame, removed once it was read; bounded in number.

    Attributes
    ----------
    folder : Path
        On a disk that all workers see.
    may_add : bool
        Whether frames are kept that are not yet.
    """

    folder: Path
    may_add: bool = False

    def recall(self, frame_id: int) -> Kept | None:
        """Return what was found on a frame; None if that is not known, or cannot be read."""
        path = self._path(frame_id)
        try:
            with path.open("rb") as file:
                kept = Kept.read(file)
        except (OSError, ValueError, KeyError, EOFError):
            return None
        with suppress(OSError):
            path.unlink()
        return kept

    def keep(self, frame_id: int, kept: Kept) -> None:
        """Keep what was found on a frame; without room on the disk it is searched again later."""
        if not self.may_add:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if sum(1 for _ in self.folder.iterdir()) >= _MOST:
                return
            with replacing(self._path(frame_id), durable=False) as file:
                kept.write(file)
        except OSError as error:
            _log.debug("%s: detections are not kept (%s)", self.folder, error)

    def _path(self, frame_id: int) -> Path:
        return self.folder / f"{frame_id:x}.kept"
