"""Files are divided so that each is in one piece, and that workers end together."""

from __future__ import annotations

import heapq
import itertools

from hypothesis import given
from hypothesis import strategies as st

from skylake.flow.execution.task_pieces import shared_out, shrinking_pieces


@given(st.integers(0, 200), st.integers(1, 40))
def test_frames_are_shared_out_evenly(n_files: int, n_workers: int) -> None:
    files = [str(k) for k in range(n_files)]
    pieces = shared_out(files, n_workers, 4)
    assert [file for piece in pieces for file in piece] == files
    sizes = [len(piece) for piece in pieces]
    assert all(0 < size <= 4 for size in sizes)
    assert max(sizes, default=1) - min(sizes, default=1) <= 1
    # As many pieces for each worker, unless there are fewer files.
    assert len(pieces) % n_workers == 0 or set(sizes) == {1}


def nights_of(sizes: list[int]) -> dict[int, list[str]]:
    names = map(str, itertools.count())
    return {night: list(itertools.islice(names, size)) for night, size in enumerate(sizes)}


@given(st.lists(st.integers(0, 300), max_size=5), st.integers(1, 40), st.booleans())
def test_each_file_is_in_one_piece_of_its_night(sizes: list[int], n_workers: int, few: bool) -> None:
    nights = nights_of(sizes)
    pieces = shrinking_pieces(nights, n_workers, 64, few)
    for night, files in nights.items():
        assert [file for one, piece in pieces if one == night for file in piece] == files
    assert all(0 < len(piece) <= 64 for _, piece in pieces)


@given(st.integers(1, 600), st.integers(2, 16))
def test_workers_that_take_pieces_when_free_end_together(n_files: int, n_workers: int) -> None:
    ends = [0] * n_workers
    for _, piece in shrinking_pieces(nights_of([n_files]), n_workers, 64):
        heapq.heapreplace(ends, ends[0] + len(piece))
    assert max(ends) - min(ends) <= 1


@given(st.lists(st.integers(0, 300), min_size=1, max_size=5), st.integers(1, 16))
def test_pieces_are_few_where_each_costs_something_of_its_own(sizes: list[int], n_workers: int) -> None:
    pieces = shrinking_pieces(nights_of(sizes), n_workers, 64, few=True)
    assert len(pieces) <= n_workers + len(sizes) + sum(sizes) // 64


def test_one_worker_by_itself_has_pieces_of_one_size() -> None:
    assert [len(piece) for _, piece in shrinking_pieces(nights_of([60]), 1, 64)] == [15, 15, 15, 15]
