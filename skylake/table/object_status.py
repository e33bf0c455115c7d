"""Which objects were seen often enough to count, and which are forgotten.

Noise and light at the limit of a camera are detected now and then at one place: given enough frames, on any number of
them. So an object without a star of the catalog has to be seen on a share of the frames that cover it too, unless it
is far too bright for noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.batch import days_between
from skylake.settings import Objects

Columns = dict[str, npt.NDArray[Any]]
Bools = npt.NDArray[np.bool_]

#: Status of objects.
QUALIFIED, PROVISIONAL, JOINED = "qualified", "provisional", "joined"
#: Of the frames of one night alone it must be on this share: each night is another chance for noise.
_SHARE_OF_NIGHT = 0.5
#: Mean ratio of signal to noise from which nothing is noise: twice that at which cameras detect.
_BRIGHT = 10.0
#: What is asked of the whole of an object, and of its last night alone.
EVIDENCE = ("n_frames", "n_frames_covered", "snr")


def qualifies(known: Columns, tonight: Columns, settings: Objects) -> Bools:
    """Return which provisional objects count from now on.

    What has a star of the catalog does. Anything else needs `least_detections` frames, and is bright or on
    `least_share` of those that cover it since it was first seen. A night alone is enough too, so that what erupts does
    where faint light was seen before.

    Parameters
    ----------
    known : dict of ndarray, shape (n,)
        Objects after a night.
    tonight : dict of ndarray, shape (n,)
        :data:`EVIDENCE` of that night alone; 0 or NaN where an object was not seen.
    settings : Objects
    """
    share = settings.least_share
    is_enough = known["ref_id"] >= 0
    is_enough = is_enough | _is_seen(known, settings.least_detections, share)
    is_enough |= _is_seen(tonight, settings.least_detections, max(share, _SHARE_OF_NIGHT) if share else 0.0)
    return np.asarray(is_enough & (known["status"] == PROVISIONAL))


def _is_seen(rows: Columns, least: int, share: float) -> Bools:
    often = rows["n_frames"] >= share * rows["n_frames_covered"]
    return np.asarray((rows["n_frames"] >= least) & (often | (rows["snr"] >= _BRIGHT)))


def not_forgotten(known: Columns, night: int, settings: Objects) -> Columns:
    """Return objects without provisional ones that were not seen for long."""
    nights, which = np.unique(known["night_last"], return_inverse=True)
    age = np.array([days_between(int(one), night) for one in nights], np.int64)[which.reshape(-1)]
    stays = (known["status"] != PROVISIONAL) | (age < settings.forget_nights)
    return {name: values[stays] for name, values in known.items()}
