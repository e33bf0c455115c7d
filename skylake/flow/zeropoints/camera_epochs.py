"""Epochs of a camera: periods of its profile that differ in optics or detector, each with its own illumination."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from skylake.cameras import Profile
from skylake.core.camera import Camera
from skylake.flow.zeropoints.calibration_parameters import camera_of_frames


def same_epoch(one: Camera, other: Camera) -> bool:
    """Tell whether two periods of a camera have the same optics and detector."""
    return (one.detector, one.optics, one.place) == (other.detector, other.optics, other.place)


def epochs(profile: Profile) -> list[Any]:
    """Return the periods of a camera with other optics or another detector, as values for a checksum."""
    return [
        (one.start, one.end, asdict(one.camera.detector), asdict(one.camera.optics), asdict(one.camera.place))
        for one in profile.periods
        if not same_epoch(profile.base, one.camera)
    ]


def of_one_epoch(frames: pa.Table, profile: Profile, name: str) -> tuple[pa.Table, list[str]]:
    """Return the frames of the epoch with the most frames, and a sentence if there are others.

    Frames of other epochs have another illumination, and see stars and their neighbours in another way.

    Parameters
    ----------
    frames : pyarrow.Table
        ``night`` and ``mjd_mid``.
    profile : Profile
    name : str
        Camera and band, for the sentence.
    """
    night, number = np.unique(frames["night"].to_numpy(), return_inverse=True)
    if not profile.periods or len(night) == 0:
        return frames, []
    cameras = [camera_of_frames(profile, frames.filter(pa.array(number == one))) for one in range(len(night))]
    first = [
        place
        for place, camera in enumerate(cameras)
        if not any(same_epoch(camera, other) for other in cameras[:place])
    ]
    alike = np.array([[same_epoch(cameras[place], other) for other in cameras] for place in first])
    counts = np.bincount(number)
    kept = alike[int(np.argmax(alike @ counts))]
    if kept.all():
        return frames, []
    sentence = (
        f"solve {name}: {int(counts[kept].sum())} of {frames.num_rows} frames, as the others are of periods with "
        "other optics or another detector; these are calibrated against the catalog"
    )
    return frames.filter(pa.array(kept[number])), [sentence]
