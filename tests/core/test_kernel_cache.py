"""What several processes want compiled at once is compiled once, and nothing of it is lost or mistaken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: A module whose function takes long enough to compile that processes meet at it.
KERNEL = """
import numba

@numba.njit(cache=True)
def spread(values):
    total = values[0]
    for value in values:
        total = max(total, value) - min(total, value)
    return total + values.std()
"""
PROGRAM = """
import sys
from skylake.core.kernel_cache import compile_once
compile_once()
import numpy as np
sys.path.insert(0, sys.argv[1])
from kernel import spread
sys.stdin.readline()
for kind in sys.argv[2:]:
    assert abs(spread(np.array([1, 2, 4], kind)) - (2 + np.std([1, 2, 4]))) < 1e-6
print(sum(spread.stats.cache_misses.values()), sum(spread.stats.cache_hits.values()))
"""


@pytest.mark.slow
@pytest.mark.full
def test_processes_that_begin_together_compile_each_kernel_once(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL)
    orders = [("f4", "f8"), ("f8", "f4"), ("f4", "f8")]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), *kinds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kinds in orders
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    counts = [tuple(map(int, process.communicate(timeout=900)[0].split())) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sum(misses for misses, _ in counts) == 2
    assert sum(hits for _, hits in counts) == 4


#: A kernel that takes a named tuple, whose class the index of the cache names.
NAMED = """
from typing import NamedTuple
import numba

class {name}(NamedTuple):
    value: float

@numba.njit(cache=True)
def double(held):
    return 2.0 * held.value
"""
ASK = """
import sys
from skylake.core.kernel_cache import compile_once
compile_once()
sys.path.insert(0, sys.argv[1])
import named
print(named.double(getattr(named, sys.argv[2])(4.0)))
"""


@pytest.mark.slow
@pytest.mark.full
def test_a_cache_of_classes_that_are_gone_is_made_anew(tmp_path: Path) -> None:
    for name in ("Old", "Renamed", "Renamed"):
        (tmp_path / "named.py").write_text(NAMED.format(name=name))
        done = subprocess.run(
            [sys.executable, "-c", ASK, str(tmp_path), name], capture_output=True, text=True, timeout=900
        )
        assert done.stdout == "8.0\n", done.stderr
