"""Kernels are kept on disk, call each other, and take options of the compiler."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

#: Two kernels, of which one calls the other.
MODULE = """
from skylake.core.jit import kernel

@kernel
def square(value):
    return value * value

@kernel(error_model="numpy")
def share(value, whole):
    return square(value) / whole
"""
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from module import share, square

print([share(3.0, 2.0), share(3.0, 0.0), square(3.0)])
print([sum(one.stats.cache_hits.values()) for one in (share, square)])
"""


@pytest.mark.full
def test_kernels_are_compiled_once_and_loaded_from_then_on(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    for hits in ("[0, 0]", "[1, 1]"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [str([4.5, math.inf, 9.0]), hits]
