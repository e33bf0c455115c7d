"""The frames that a lake holds are found as in dictionaries, in a sixth of the memory."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from skylake.flow.ingest.known_files import COLUMNS, Held, HeldFrames, Seen

KINDS = (pa.string(), pa.int64(), pa.int64(), pa.int64(), pa.string(), pa.int32())
ROW = st.tuples(
    st.text(max_size=3), st.integers(-3, 9), st.none() | st.integers(0, 9), st.none() | st.integers(0, 9),
    st.none() | st.sampled_from(["error", "clouds"]), st.integers(20240101, 20240104),
)  # fmt: skip


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    columns = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(KINDS)]
    return pa.table(columns, list(COLUMNS))


@given(st.lists(ROW, max_size=12), st.text(max_size=3))
def test_frames_are_found_as_in_dictionaries(rows: list[tuple[object, ...]], other: str) -> None:
    held, rows = HeldFrames(table(rows)), sorted(rows, key=lambda row: row[5])  # type: ignore[arg-type, return-value]
    by_file = {row[0]: Held(*row[1:]) for row in rows}  # type: ignore[arg-type]
    by_id = {row[1]: row[0] for row in rows}
    for name in {other, *by_file}:
        assert held.of_file(str(name)) == by_file.get(name)
    seen, again = Seen(held), pickle.loads(pickle.dumps(held))
    for frame in range(-3, 11):
        assert held.file_of(frame) == again.file_of(frame) == by_id.get(frame)
        assert (frame in seen) == (frame in by_id)
        assert seen.setdefault(frame, "new") == by_id.get(frame, "new") == seen.get(frame)
    for night in range(20240100, 20240106):
        assert held.of_night(night) == {row[1]: row[0] for row in rows if row[5] == night}
    nights = {row[5]: {one[1] for one in rows if one[5] == row[5]} for row in rows}
    assert held.nights_of(range(-3, 11)) == nights
    assert Seen(None).get(1) is None


def test_a_frame_takes_little_memory() -> None:
    count = 50_000
    rows = [
        (f"/archive/2024/04/01/camera-{one:08d}.fits.gz", one, 10**7, 10**18, None, 20240401 + one % 30)
        for one in range(count)
    ]
    frames = table(rows)  # type: ignore[arg-type]
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    held = HeldFrames(frames)
    n_bytes = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    tracemalloc.stop()
    assert n_bytes < 150 * count
    chosen = np.random.default_rng(1).choice(count, 100)
    assert all(held.of_file(str(rows[one][0])) == Held(*rows[one][1:]) for one in chosen)  # type: ignore[arg-type]
