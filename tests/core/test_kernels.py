"""Parts of kernels have no way in from Python, and say so instead of going nowhere."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

#: A kernel and its part, both kept on disk.
MODULE = """
from skylake.core.kernels import kernel, part

@part
def square(value):
    return value * value

@kernel(error_model="numpy")
def share(value, whole):
    return square(value) / whole
"""
#: Says what each call gives, before and after the part has been compiled along.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from module import share, square

def refused():
    try:
        square(3.0)
    except TypeError as error:
        return str(error)
    return None

print([refused(), share(3.0, 2.0), refused(), share(3.0, 0.0)])
print([sum(one.stats.cache_hits.values()) for one in (share, square)])
"""


@pytest.mark.parametrize("run", ["compiled", "loaded"])
def test_a_part_serves_its_kernel_and_refuses_to_be_called_from_python(run: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    for _ in range(1 if run == "compiled" else 2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    said, hits = done.stdout.splitlines()
    no = "square is a part of kernels: it has no way in from Python"
    assert said == str([no, 4.5, no, math.inf])
    assert hits == ("[0, 0]" if run == "compiled" else "[1, 0]")
