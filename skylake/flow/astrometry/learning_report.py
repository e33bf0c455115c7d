"""The report of learning the distortion or geometry of a camera."""

from __future__ import annotations

from dataclasses import dataclass, field

from skylake.core.counted import counted


@dataclass(slots=True)
class LearnReport:
    """What was learned of a camera.

    Attributes
    ----------
    camera : str
    n_frames : int
        Frames that were looked at.
    made : list of str
        Names of the epochs, or versions of them, that were learned.
    changes : list of str
        A sentence for each change of the distortion that was found.
    nights : list of int
        Nights with frames that were placed with the distortion of an epoch other than theirs.
    n_older : int
        Frames older than the first epoch that were added later and have another distortion.
    """

    camera: str
    n_frames: int = 0
    made: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    nights: list[int] = field(default_factory=list)
    n_older: int = 0

    @property
    def line(self) -> str:
        """What was done, in a line."""
        made = f", learned {', '.join(self.made)}" if self.made else ""
        return f"learn {self.camera}: {counted(self.n_frames, 'frame')} looked at{made}"

    @property
    def sentences(self) -> list[str]:
        """Sentences for people about what needs their attention."""
        sentences = self.changes.copy()
        if self.n_older:
            older = counted(self.n_older, "frame is", "frames are")
            sentences.append(
                f"{self.camera}: {older} older than its first epoch, and not "
                f"of its distortion; `skylake camera learn LAKE --camera {self.camera} --anew` goes through all nights"
            )
        if not self.nights:
            return sentences
        number = counted(len(self.nights), "night")
        nights = f"{self.nights[0]} to {self.nights[-1]}" if len(self.nights) > 1 else str(self.nights[0])
        return [
            *sentences,
            (
                f"{self.camera}: frames of {number} ({nights}) were placed with the distortion "
                "of another epoch; `skylake ingest --redo` with --from and --to places them again"
            ),
        ]
