"""The decorator that compiles functions with numba.

The first night of every user waits for the compiler, so no wrappers for callers in C are compiled. Compiled code is
kept on disk, by one process for all (:mod:`skylake.core.kernel_cache`), and runs without the lock of Python.
"""

from __future__ import annotations

from typing import Any

import numba

from skylake.core.kernel_cache import compile_once

compile_once()


def kernel(function: Any = None, **options: Any) -> Any:
    """Decorate a function that Python or other kernels call.

    Parameters
    ----------
    function : callable
    **options
        More options of ``numba.njit``, as ``@kernel(error_model="numpy")``.

    Returns
    -------
    numba dispatcher
        Or a decorator, where only options are given.
    """
    if function is None:
        return lambda plain: kernel(plain, **options)
    return numba.njit(function, cache=True, nogil=True, no_cfunc_wrapper=True, **options)
