"""Frames that move from one night to another, and the nights that have to be published together because of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from skylake.flow.ingest.frame_tasks import Chunk
from skylake.flow.ingest.known_files import Known


@dataclass(frozen=True, slots=True)
class Moves:
    """Frames of the lake that leave a night, since they are in another one now.

    A frame moves when the site of its camera was corrected, for example, or its file holds a frame of another
    night now. Published one after the other, the two nights would both have it for a while, or neither.

    Attributes
    ----------
    frames : dict
        frame_id of the frames that leave, by the night that they leave and the night for which they do.
    """

    frames: Mapping[tuple[int, int], frozenset[int]]

    @classmethod
    def find(cls, chunks: Mapping[int, Iterable[Chunk]], known: Known) -> Moves:
        """Find what moves when new frames, given by night, come to those that the lake has."""
        found: dict[tuple[int, int], set[int]] = {}
        for night, some in chunks.items():
            ids: set[int] = set()
            for chunk in some:
                ids.update(chunk.frames["frame_id"].to_pylist())
                for name in chunk.frames["file"].to_pylist():
                    old = known.frames.of_file(name)
                    if old is not None and old.night != night:
                        found.setdefault((old.night, night), set()).add(old.frame_id)
            # The file of a frame may have another name by now.
            for other, same in known.frames.nights_of(ids).items():
                if other != night:
                    found.setdefault((other, night), set()).update(same)
        return cls({pair: frozenset(gone) for pair, gone in found.items()})

    @property
    def origins(self) -> set[int]:
        """Nights that frames leave."""
        return {origin for origin, _ in self.frames}

    def leaving(self, night: int) -> frozenset[int]:
        """Return the frames that leave a night."""
        return frozenset().union(*(gone for (origin, _), gone in self.frames.items() if origin == night))

    def together(self, nights: Collection[int]) -> list[list[int]]:
        """Divide nights into groups, in order, so that no frame moves from one group to another."""
        group_of = {night: [night] for night in nights}
        for origin, target in sorted(self.frames):
            first, second = group_of[origin], group_of[target]
            if first is not second:
                first += second
                group_of.update(dict.fromkeys(second, first))
        groups = {id(group): sorted(group) for group in group_of.values()}
        return sorted(groups.values())
