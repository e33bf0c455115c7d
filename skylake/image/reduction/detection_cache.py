"""Detections on a frame as bytes, so that a frame that is reduced a second time need not be searched again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel
from skylake.image.detection.detections import Detections
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.streaks.trails import Trail


@dataclass(frozen=True, slots=True)
class Kept:
    """What follows from the pixels of a frame alone, wherever it points; a copy of what it was then.

    Attributes
    ----------
    detections : Detections
    measured : Measurements
    trails : tuple of Trail
    """

    detections: Detections
    measured: Measurements
    trails: tuple[Trail, ...]

    def write(self, file: BinaryIO) -> None:
        """Write all to a file: arrays one after the other, after a text that lists them."""
        places: list[list[Any]] = []
        arrays: dict[str, list[Any]] = {}
        scalars = {}
        for owner in ("detections", "measured"):
            for name, value in _values(getattr(self, owner)):
                if not isinstance(value, np.ndarray):
                    scalars[name] = value.item() if isinstance(value, np.generic) else value
                elif name != "segments":
                    some = arrays.setdefault(f"{value.dtype.str} {len(value)}", [])
                    places.append([owner, name, f"{value.dtype.str} {len(value)}", len(some)])
                    some.append(value)
        contents = {
            "places": places,
            "kinds": list(arrays),
            "scalars": scalars,
            "trails": [asdict(one) for one in self.trails],
            "shape": self.detections.segments.shape,
        }
        _save(file, np.frombuffer(json.dumps(contents).encode(), np.uint8))
        _save(file, list_runs(np.ascontiguousarray(self.detections.segments, np.int32)))
        for some in arrays.values():
            _save(file, np.stack(some))

    @classmethod
    def read(cls, file: BinaryIO) -> Kept:
        """Return what was written to a file.

        Raises
        ------
        ValueError, KeyError, EOFError
            If it is damaged.
        """
        contents = json.loads(bytes(_load(file)))
        segments = np.zeros(contents["shape"], np.int32)
        fill_runs(segments, _load(file))
        arrays = {kind: _load(file) for kind in contents["kinds"]}
        values: dict[str, dict[str, Any]] = {"detections": {}, "measured": {}}
        for owner, name, kind, place in contents["places"]:
            name, _, key = name.partition(".")
            one = arrays[kind][place]
            if key:
                values[owner].setdefault(name, {})[key] = one
            else:
                values[owner][name] = one
        detections = Detections(**values["detections"], segments=segments, **contents["scalars"])
        trails = tuple(Trail(**one) for one in contents["trails"])
        return cls(detections, Measurements(**values["measured"]), trails)


class DetectionKeeper(Protocol):
    """Keeps what was found on frames."""

    def recall(self, frame_id: int) -> Kept | None:
        """Return what was found on a frame; None if that is not known."""

    def keep(self, frame_id: int, kept: Kept) -> None:
        """Keep what was found on a frame, if that can be done."""


def _values(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values of a dataclass by name; those of dictionaries by name and key."""
    for item in fields(owner):
        value = getattr(owner, item.name)
        if isinstance(value, dict):
            yield from ((f"{item.name}.{key}", one) for key, one in value.items())
        else:
            yield item.name, value


def _save(file: BinaryIO, array: np.ndarray[Any, Any]) -> None:
    np.save(file, array, allow_pickle=False)


def _load(file: BinaryIO) -> np.ndarray[Any, Any]:
    return np.asarray(np.load(file, allow_pickle=False))


Numbers = npt.NDArray[np.int32]


@kernel
def list_runs(plane: Numbers) -> Numbers:
    """Return start, length and number of the runs of one number but 0, shape (3, n), in a plane seen as one row."""
    flat = plane.reshape(-1)
    number, before = 0, np.int32(0)
    for k in range(flat.size):
        value = flat[k]
        number += value != before and value != 0
        before = value
    runs, run, before = np.zeros((3, number), np.int32), -1, np.int32(0)
    for k in range(flat.size):
        value = flat[k]
        if value != 0:
            if value != before:
                run += 1
                runs[0, run], runs[2, run] = k, value
            runs[1, run] += 1
        before = value
    return runs


@kernel
def fill_runs(plane: Numbers, runs: Numbers) -> None:
    """Put runs into a plane of zeros."""
    flat = plane.reshape(-1)
    for run in range(runs.shape[1]):
        flat[runs[0, run] : runs[0, run] + runs[1, run]] = runs[2, run]
